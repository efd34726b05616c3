"""
One training run through the trainer, at every level: its allowance, its caps in words, its workers.
"""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from project import Project

from pytest_autoresearch.config import load_settings
from pytest_autoresearch.records import Curve, RunRequest, RunResult, RunStatus
from pytest_autoresearch.sandbox import Isolation, LaunchSpec, closed_environment, launch
from pytest_autoresearch.scratch import Scratch
from pytest_autoresearch.settings import Settings
from pytest_autoresearch.task import Task
from pytest_autoresearch.training import Trainer

LEVELS = list(Isolation)
LEVELS.remove(Isolation.CONTAINER)
HONEST = """
import numpy as np
from prepare import save_model
save_model(np.zeros(4))
"""
FOREVER = "import time; time.sleep(600)\n"


class Bench:
    """Runs programs in the place of train.py."""

    def __init__(self, project: Project, directory: Path) -> None:
        self.project = project
        self.directory = directory
        self.settings: Settings = load_settings(project.read("pyproject.toml"))
        self.runs = 0

    def run(
        self,
        code: str,
        level: Isolation,
        *,
        scratch: Scratch | None = None,
        seconds: float = 60.0,
        hopeless: Callable[[Curve], str] | None = None,
        cancelled: threading.Event | None = None,
        **limits: object,
    ) -> RunResult:
        self.runs += 1
        workdir = self.directory / f"run{self.runs}"
        workdir.mkdir(parents=True)
        run = msgspec.structs.replace(self.settings.run, **limits)
        settings = msgspec.structs.replace(self.settings, run=run)
        request = RunRequest(
            files={"train.py": textwrap.dedent(code).encode()},
            seed=1,
            seconds=seconds,
            workdir=workdir,
            hopeless=hopeless,
            cancelled=cancelled or threading.Event(),
        )
        task = Task(self.project.root)
        return Trainer(settings, task, level, scratch).train(request)


@pytest.fixture
def bench(template: Project, tmp_path: Path) -> Bench:
    return Bench(template, tmp_path)


# --- the allowance ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_a_run_that_trains_in_its_warm_up_is_killed_at_the_sum(level, bench):
    code = "import os; print('told', os.environ['AUTORESEARCH_SECONDS'])\n" + FOREVER
    result = bench.run(code, level, seconds=1.5, warmup_seconds=1.5)

    assert result.status is RunStatus.TIMEOUT
    assert result.seconds >= 3.0
    assert result.budget_seconds == 1.5
    assert result.log_tail == "told 1.5"
    assert result.reason == (
        "timeout: still running after its budget of 1.5 s and its warm-up allowance of 1.5 s"
    )


def test_the_allowance_is_what_imports_may_take(bench):
    late = bench.run(HONEST, Isolation.NONE, seconds=0.01)
    in_time = bench.run(HONEST, Isolation.NONE, seconds=0.01, warmup_seconds=60.0)

    assert late.status is RunStatus.TIMEOUT
    assert late.reason == "timeout: still running after its budget of 0.01 s"
    assert in_time.status is RunStatus.FINISHED
    assert in_time.budget_seconds == 0.01


# --- caps, in words --------------------------------------------------------------------------------

GREEDY = {
    "memory_mb": (
        "x = bytearray(400 << 20)\n" + FOREVER,
        150,
        "killed: more than 150 MiB of memory (run.memory_mb)",
    ),
    "disk_mb": (
        "import os\nos.chdir(os.environ['TMPDIR' if HERE else 'AUTORESEARCH_OUT'])\n"
        "for n in range(60): open(str(n), 'wb').write(bytes(1 << 20))\n" + FOREVER,
        20,
        "killed: more than 20 MiB in files (run.disk_mb)",
    ),
    "files": (
        "import os\nos.chdir(os.environ['HOME'])\n"
        "for n in range(600): open(str(n), 'w').close()\n" + FOREVER,
        300,
        "killed: more than 300 files and directories (run.files)",
    ),
    "processes": (
        "import threading, time\n"
        "for _ in range(90): threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        + FOREVER,
        30,
        "killed: more than 30 processes and threads (run.processes)",
    ),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("key", GREEDY)
def test_a_run_that_takes_too_much_is_told_which_setting_says_so(key, level, bench):
    code, cap, words = GREEDY[key]
    # At level strong temporary files are memory.
    code = f"HERE = {level is not Isolation.STRONG}\n" + code
    result = bench.run(code, level, **{key: cap})

    assert result.status is RunStatus.CRASHED
    if key == "processes" and result.reason != words:
        assert "can't start new thread" in result.log_tail  # the kernel refused before
    else:
        assert result.reason == words


def test_a_run_that_hides_files_is_told_so(bench):
    code = """
    import os, time
    os.chdir(os.environ["HOME"])
    for _ in range(500): os.mkdir("d" * 50); os.chdir("d" * 50)
    time.sleep(600)
    """
    result = bench.run(code, Isolation.NONE)

    assert result.reason.startswith("killed: files where nobody can count them")


# --- the learning curve -----------------------------------------------------------------------------

WRITES_A_CURVE = """
import os
def report(line):
    with open(os.path.join(os.environ["AUTORESEARCH_OUT"], "curve.csv"), "a") as file:
        file.write(line + "\\n")
report("0.1,2.5")
report("0.4,1.25")
"""


@pytest.mark.parametrize("level", LEVELS)
def test_a_run_reports_its_curve_beside_its_artifact(level, bench):
    result = bench.run(WRITES_A_CURVE + HONEST, level, hopeless=lambda curve: "")

    assert result.status is RunStatus.FINISHED, result.reason
    assert result.curve == ((0.1, 2.5), (0.4, 1.25))
    assert result.artifact is not None


@pytest.mark.parametrize("level", LEVELS)
def test_a_hopeless_run_is_stopped_while_it_trains(level, bench):
    seen: list[Curve] = []

    def hopeless(curve: Curve) -> str:
        seen.append(curve)
        return "beyond recovery" if len(curve) > 1 else ""

    result = bench.run(WRITES_A_CURVE + FOREVER, level, seconds=500.0, hopeless=hopeless)

    assert (result.status, result.reason) == (RunStatus.PRUNED, "beyond recovery")
    assert result.curve == seen[-1] == ((0.1, 2.5), (0.4, 1.25))
    assert result.artifact is None
    assert result.crashed


@pytest.mark.parametrize(
    "deed",
    [
        "report('nan,nan')",
        "report('1' * 100_000)",
        "os.remove(path); os.symlink('/etc/hostname', path)",
        "os.remove(path); os.mkfifo(path)",
        "os.chmod(path, 0)",
    ],
)
def test_whatever_a_run_does_to_its_curve_it_ends_as_without_one(deed, bench):
    code = "\npath = os.environ['AUTORESEARCH_OUT'] + '/curve.csv'\n" + deed + "\n"
    result = bench.run(WRITES_A_CURVE + code + HONEST, Isolation.NONE, hopeless=lambda curve: "")

    assert result.status is RunStatus.FINISHED, result.reason
    if deed != "os.chmod(path, 0)":  # which root can read all the same
        assert result.curve == ()


def test_a_cancelled_run_is_killed(bench):
    cancelled = threading.Event()

    def hopeless(curve: Curve) -> str:
        cancelled.set()
        return ""

    with pytest.raises(KeyboardInterrupt), Scratch(bench.directory / "tmp") as scratch:
        bench.run(FOREVER, Isolation.NONE, scratch=scratch, hopeless=hopeless, cancelled=cancelled)
    assert not list((bench.directory / "tmp").glob("session-*"))


# --- what is left ----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_a_run_leaves_its_log_and_its_artifact(level, bench):
    with Scratch(bench.directory / "tmp") as scratch:
        result = bench.run(HONEST, level, scratch=scratch)
        assert result.status is RunStatus.FINISHED, result.reason
        assert not list(scratch.path.glob("run-*/*"))

    assert result.artifact == bench.directory / "run1" / "model.pt2"
    assert sorted(path.name for path in result.artifact.parent.iterdir()) == [
        "model.pt2",
        "run.log",
    ]
    assert not list((bench.directory / "tmp").glob("session-*"))


# --- workers ---------------------------------------------------------------------------------------

WORKERS = """
import multiprocessing, os
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from prepare import save_model

def square(n):
    return n * n

def put(queue):
    queue.put("through the manager")

if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        queue = manager.Queue()
        child = multiprocessing.get_context("spawn").Process(target=put, args=(queue,))
        child.start()
        print(queue.get(timeout=60))
        child.join()
    plain = multiprocessing.Queue()
    child = multiprocessing.Process(target=put, args=(plain,))
    child.start()
    print(plain.get(timeout=60) + "'s absence")
    child.join()
    with multiprocessing.Pool(2) as pool:
        print(pool.map(square, range(4)))
    data = TensorDataset(torch.arange(64.0))
    for strategy in ("file_system", "file_descriptor"):
        torch.multiprocessing.set_sharing_strategy(strategy)
        for method in ("fork", "spawn"):
            loader = DataLoader(
                data, batch_size=8, num_workers=2, multiprocessing_context=method, timeout=60
            )
            print(strategy, method, sum(float(x.sum()) for x, in loader))
    save_model(np.zeros(4))
"""


@pytest.fixture
def far_away(template: Project, tmp_path: Path) -> Project:
    """A project at a path longer than a socket's address."""
    project = template.copy(tmp_path / ("p" * 120))
    assert len(str(project.root)) > 120
    return project


@pytest.mark.parametrize("level", [level for level in LEVELS if level is not Isolation.NONE])
def test_workers_talk_wherever_the_project_lies(level, far_away):
    if level is Isolation.KERNEL and os.geteuid() != 0:
        pytest.skip("an ordinary user's program has no sockets at this level")
    base = far_away.root / ".autoresearch" / "main" / "tmp"
    with Scratch(base) as scratch:
        bench = Bench(far_away, far_away.root / ".autoresearch" / "main" / "runs")
        result = bench.run(WORKERS, level, scratch=scratch, seconds=200.0, processes=400)

    assert result.status is RunStatus.FINISHED, (result.reason, result.log_tail)
    assert result.log_tail.splitlines() == [
        "through the manager",
        "through the manager's absence",
        "[0, 1, 4, 9]",
        *(f"{s} {m} 2016.0" for s in ("file_system", "file_descriptor") for m in ("fork", "spawn")),
    ]


def test_control_a_socket_below_a_long_path_cannot_be_made(far_away, tmp_path):
    out = far_away.root / "out"
    out.mkdir()
    code = "from multiprocessing.connection import Listener; Listener(family='AF_UNIX')"
    spec = LaunchSpec(
        argv=(sys.executable, "-I", "-c", code),
        cwd=out,
        env=closed_environment(out, threads=1),
        seconds=60,
        log=tmp_path / "log",
    )
    with launch(spec) as process:
        usage = process.wait()

    assert usage.returncode == 1
    assert "AF_UNIX path too long" in spec.log.read_text()
