"""
Training runs that cheat, break or hang: each is reverted, and results.tsv says what happened to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from observe import alive, last_codes, state
from project import Project

SECONDS = 4
SAVE = "    save_model(weights)\n"
START = "def main():\n"
OUT = "os.environ['AUTORESEARCH_OUT']"


@dataclass(frozen=True)
class Attack:
    """An edit of train.py, and what the harness says about it."""

    name: str
    old: str
    new: str
    code: str
    reason: str


ATTACKS = (
    Attack("crash", START, f"{START}    1 / 0\n", "crashed", r"exit status 1: ZeroDivisionError"),
    Attack("abort", START, f"{START}    os.abort()\n", "crashed", r"signal 6"),
    Attack(
        "timeout",
        START,
        f"{START}    while True: pass\n",
        "timeout",
        rf"still running after its budget of {SECONDS} s",
    ),
    Attack(
        "not a number",
        SAVE,
        "    save_model(weights * np.nan)\n",
        "no-metric",
        r"predictions are refused: .* not finite",
    ),
    Attack(
        "missing artifact",
        SAVE,
        "    print('trained')\n    return\n",
        "no-artifact",
        r"does not exist.*'trained'",
    ),
    Attack(
        "printed metric",
        SAVE,
        "    print('val_loss: 0.000100')\n    os._exit(0)\n",
        "no-artifact",
        r"does not exist.*'val_loss: 0\.000100'",
    ),
    Attack(
        "flushed fake metric",
        SAVE,
        "    print('---\\nval_loss: 0.000100', flush=True)\n    return\n",
        "no-artifact",
        r"does not exist.*'val_loss: 0\.000100'",
    ),
    Attack("early exit", START, f"{START}    sys.exit(0)\n", "no-artifact", r"does not exist$"),
    Attack(
        "syntax error",
        START,
        "def main(:\n",
        "gate-failed",
        r"candidate_can_be_parsed.*invalid syntax",
    ),
    Attack(
        "symlinked artifact",
        SAVE,
        f"    os.symlink('/etc/hostname', {OUT} + '/model.pt2')\n",
        "no-artifact",
        r"cannot be opened without following links",
    ),
    Attack(
        "oversized artifact",
        SAVE,
        f"    open({OUT} + '/model.pt2', 'wb').truncate(1 << 40)\n",
        "no-artifact",
        r"holds 1099511627776 bytes, more than the 1048576 allowed",
    ),
    Attack(
        "pickled artifact",
        SAVE,
        f"    import pickle\n    pickle.dump(print, open({OUT} + '/model.pt2', 'wb'))\n",
        "no-metric",
        r"scoring failed: .*pickle",
    ),
)
#: Attacks that look alike from outside: exit status 0, the same last line, no artifact.
ALIKE = {"printed metric", "flushed fake metric"}


@pytest.fixture(scope="session")
def lab_template(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project with tight limits, baseline recorded."""
    project = template.copy(tmp_path_factory.mktemp("lab") / "project")
    project.edit(
        "seconds = 20", f"seconds = {SECONDS}\nartifact_mb = 1\noutput_kb = 64", "pyproject.toml"
    )
    project.edit("import os\n", "import os\nimport sys\n")
    project.commit("tight limits")
    return project.baseline()


@pytest.fixture
def lab(lab_template: Project, tmp_path: Path) -> Project:
    return lab_template.copy(tmp_path / "project")


def reverted(lab: Project) -> dict[str, str]:
    """Judge what stands in the work tree; it must go, and its last row is returned."""
    before, train = lab.head, lab.git("show", "HEAD:train.py")

    result = lab.autoresearch()

    assert result.returncode == 1, result.output
    assert "REVERTED" in result.stdout
    assert lab.head == before
    assert lab.status == ""
    assert lab.read("train.py").strip() == train
    found = state(lab)
    assert found.spent == 25
    assert found.incumbent is not None
    assert found.incumbent.commit == before
    row = lab.results()[-1]
    assert row["val_loss"] in ("", "0.000000")
    return row


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_a_run_that_cheats_is_reverted_for_its_own_reason(lab: Project, attack: Attack) -> None:
    lab.edit(attack.old, attack.new)

    row = reverted(lab)

    assert row["status"] == ("gate" if attack.name == "syntax error" else "crash")
    assert last_codes(lab)[0] == attack.code
    assert re.search(attack.reason, row["reason"]), row["reason"]
    matching = {other.name for other in ATTACKS if re.search(other.reason, row["reason"])}
    assert matching == {attack.name} or matching == ALIKE


def test_a_daemon_ends_with_its_run_and_gains_nothing(lab: Project) -> None:
    """Honest runs leave helpers behind for a moment, so the model still counts for what it is."""
    note = lab.root / ".autoresearch" / "daemon"
    lab.edit(
        SAVE,
        f"""{SAVE}
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open({str(note)!r}, "w") as file:
                file.write(str(os.getpid()))
            import time
            time.sleep(600)
        os._exit(0)
    import time
    while not os.path.exists({str(note)!r}):
        time.sleep(0.01)
    time.sleep(0.1)
""",
    )

    lab.edit("STEPS = 60", "STEPS = 10")
    before = lab.head

    result = lab.autoresearch()

    assert not alive(int(note.read_text()))
    assert result.returncode == 10, result.output
    assert lab.head == before
    assert lab.status == ""
    assert last_codes(lab) == ["no-gain"]


def test_endless_output_fills_neither_the_disk_nor_the_terminal(lab: Project) -> None:
    lab.edit(START, f"{START}    while True: print('\\x1b[2J' + 'x' * 1000)\n")
    before = lab.head

    result = lab.autoresearch()

    assert result.returncode == 1, result.output
    assert lab.head == before
    assert len(result.output) < 100_000
    assert "\x1b[2J" not in result.output
    logs = list((lab.root / ".autoresearch" / "main" / "runs").rglob("run.log"))
    assert logs
    assert max(path.stat().st_size for path in logs) <= 80 << 10
    assert lab.results()[-1]["status"] == "crash"


def test_a_run_cannot_change_how_it_is_scored(lab: Project) -> None:
    """The scorer and the labels are in other processes: the real metric of a worse model counts."""
    lab.edit(
        START,
        f"""{START}
    import prepare
    prepare.evaluate = lambda *_: {{"val_loss": 0.2}}
    prepare.score = lambda *_: np.zeros(1500)
    for name in ("prepare.py", "../../../../prepare.py"):
        try:
            os.chmod(name, 0o666)
            with open("prepare.py", "w") as file:
                file.write("def score(*_): return 1 / 0")
        except OSError:
            pass
""",
    )
    lab.edit("STEPS = 60", "STEPS = 10")

    result = lab.autoresearch()

    assert result.returncode == 10, result.output
    assert float(lab.results()[-1]["val_loss"]) > 0.6
    assert last_codes(lab) == ["no-gain"]
    assert lab.status == ""
