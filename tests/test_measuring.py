"""
Runs on fresh harness seeds, several at a time: each for itself, and all of them ended by Ctrl-C.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from observe import journal, state
from project import LEAN, Project

from pytest_autoresearch.training import derive_seed

#: A plugin beside the project: it decides in the session's place, and hands several runs at a time to the runner.
DRIVER = """\
import json
import os
import threading
from pathlib import Path

import msgspec
import pytest

from pytest_autoresearch.records import Decision, FixedHarnessViolation, Reason, Verdict

HERE = Path(__file__).parent
CALLS = []
BARRIER = threading.Barrier(2, timeout=60)


@pytest.hookimpl(wrapper=True)
def pytest_autoresearch_execute(request):
    number = len(CALLS)
    CALLS.append((request.seed, threading.current_thread() is threading.main_thread()))
    if number in (1, 2):
        BARRIER.wait()  # each waits for the other: they are there at the same time, or this fails
    if number == 4:
        raise RuntimeError("the cluster is down")
    if number == 6:
        raise FixedHarnessViolation("this one was touched")
    return (yield)


def use_slots(config, slots):
    campaign = config.pluginmanager.get_plugin("autoresearch-session").campaign
    run = msgspec.structs.replace(campaign.settings.run, slots=slots)
    campaign.settings = msgspec.structs.replace(campaign.settings, run=run)


def pytest_autoresearch_verdict(config, evidence):
    experiment = config.pluginmanager.get_plugin("autoresearch-session").experiment
    use_slots(config, 2)
    (HERE / "slow").touch()
    evidence.measure_seeds(5)
    others = experiment.measure_files(experiment.campaign.incumbent_files, 2)
    told = {
        "calls": CALLS,
        "runs": [[m.run.seed, m.metric, m.problem] for m in experiment.runs],
        "others": [[m.run.seed, m.metric, m.problem] for m in experiment.others],
        "measured": [[m.metric, m.audit] for m in others],
        "losses": [None if m.losses is None else m.losses.shape for m in experiment.others],
        "evaluations": [m.evaluation is not None for m in experiment.runs],
        "touched": experiment.touched,
    }
    (HERE / "told.json").write_text(json.dumps(told))
    return Verdict(Decision.REVERT, (Reason("house-rule", "enough"),), "discard", 10)
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Environment in which sessions load the driver."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "driver.py").write_text(DRIVER)
    return {
        **LEAN,
        "PYTEST_PLUGINS": f"{LEAN['PYTEST_PLUGINS']},driver",
        "PYTHONPATH": str(plugins),
    }


@pytest.fixture
def told(measured: Project, env: dict[str, str]) -> dict[str, Any]:
    """What came of a session with one run alone, five more of the candidate and two of the incumbent."""
    measured.edit("STEPS = 60", "STEPS = 61")
    head = journal(measured).heads()["cutover-audit"]
    seq = state(measured).next_seq
    result = measured.autoresearch(env=env)
    path = Path(env["PYTHONPATH"], "told.json")
    assert path.exists(), result.output
    found: dict[str, Any] = json.loads(path.read_text())
    row = measured.cutovers()[-1]
    incumbent = state(measured).incumbent
    assert incumbent is not None
    found["seeds"] = [derive_seed(head, seq, row["candidate"], i) for i in range(6)]
    found["other seeds"] = [derive_seed(head, seq, incumbent.digest, i) for i in (6, 7)]
    return found


def test_runs_at_a_time_are_each_for_themselves(told: dict[str, Any]) -> None:
    seeds, metrics, problems = zip(*told["runs"], strict=True)

    # In the order of the seeds, whichever ended first; no seed twice, whatever is run.
    assert list(seeds) == told["seeds"]
    assert [seed for seed, _, _ in told["others"]] == told["other seeds"]
    assert len({*seeds, *told["other seeds"]}) == 8
    # The hook failed in one run and found a breach in another: one lost figure each.
    failed = told["seeds"].index(told["calls"][4][0])
    assert [metric is None for metric in metrics] == [i == failed for i in range(6)]
    assert problems[failed] == "the execute hook failed: RuntimeError: the cluster is down"
    breached = told["other seeds"].index(told["calls"][6][0])
    assert told["others"][breached][1] is None
    assert told["others"][1 - breached][1] is not None
    assert told["touched"] == "SYSTEM HALT: this one was touched"
    # One run alone stays in the main thread; the barrier shows that two were at work at a time.
    assert [main for _, main in told["calls"]] == [True] + [False] * 7
    # The audit split's figure comes with each; predictions stay for the first run only.
    metric, audit = told["measured"][1 - breached]
    assert metric == told["others"][1 - breached][1]
    assert audit is not None
    assert audit != metric
    assert told["losses"][1 - breached] in (None, [1500])
    assert told["evaluations"] == [True] + [False] * 5


def below(root: Path) -> list[int]:
    """Processes that were started for something below a directory, the session itself left out."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
            if f"={root}/.autoresearch".encode() in words:
                found.append(int(process.name))
    return found


def test_ctrl_c_ends_every_run_and_decides_nothing(measured: Project, env: dict[str, str]) -> None:
    slow = Path(env["PYTHONPATH"], "slow")
    measured.edit(
        "def main():\n",
        f"def main():\n    import os.path, time\n    if os.path.exists({str(slow)!r}):\n"
        "        print('asleep', flush=True)\n        time.sleep(600)\n",
    )
    edited = measured.read("train.py")
    runs = measured.root / ".autoresearch/main/runs"
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "--autoresearch"], cwd=measured.root, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **env}, start_new_session=True,
    ) as process:  # fmt: skip
        asleep = 0
        give_up = time.monotonic() + 120
        while asleep < 2 and time.monotonic() < give_up and process.poll() is None:
            asleep = sum("asleep" in log.read_text() for log in runs.glob("*/run.log"))
            time.sleep(0.05)
        there = below(measured.root)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)[0]

    # Two trainings at least, and the scorers that wait for them.
    assert asleep == 2, output
    assert len(there) >= 4
    assert below(measured.root) == []
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert len(measured.results()) == 1
    assert measured.read("train.py") == edited
    assert not list((measured.root / ".autoresearch/main/tmp").glob("session-*"))
