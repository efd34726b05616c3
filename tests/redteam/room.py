"""
The room of the live attacks: one untrusted ``train.py`` or work tree, against a naive loop and against the product.

What is covered: an attack is planted in a real project, run by both, and judged by its *effects* only: what was
kept, which metric was taken for true, which file appeared, what was printed, what is still alive.
The naive loop is the control, as popular autoresearch scripts do it: it runs ``train.py`` in the work tree with
the user's rights and environment, evaluates in the same process, believes the last ``val_loss:`` line, runs its
checks with plain pytest and commits what looks better. An attack that does not succeed there proves nothing.
An attack whose code is executed in a training run is tried at both levels: in a whole session at one, and at the
other in a run with its scoring, by the product's own trainer and scorer, which is all of a session that a level has
to do with. What is stopped before anything runs is tried at one level.
What is not covered: levels that do not hold on this machine (see ``conftest.py``).

A test file holds a tuple of attacks and two functions::

    @pytest.mark.parametrize("attack", ATTACKS, ids=str)
    def test_the_attack_succeeds_against_the_naive_loop(target, attack):
        assert_succeeds_unguarded(target, attack)

    @pytest.mark.parametrize(("attack", "level"), guarded(ATTACKS), indirect=["level"])
    def test_the_attack_is_stopped(target, attack, level):
        assert_stopped(target, attack, level)
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from observe import journal
from project import LEAN, Project

from pytest_autoresearch.config import load_settings
from pytest_autoresearch.evaluation import evaluate
from pytest_autoresearch.records import RunRequest
from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.scoring import Scoring, ScoringError
from pytest_autoresearch.task import Task
from pytest_autoresearch.training import Trainer

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

LEVELS = ("strong", "kernel")
#: Seconds after which the naive loop gives up on a command; the product has limits of its own.
PATIENCE = 30
#: An honest candidate that either loop keeps.
HONEST = ("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.10")
#: A candidate that is worse than the incumbent: whoever keeps it has been cheated.
WORSE = ("STEPS = 60", "STEPS = 20")
#: A candidate with a better metric that a gate forbids: whoever keeps it has been cheated.
FORBIDDEN = ("STEPS = 60", "STEPS = 120")
#: Where attacks on the run take hold in train.py.
START = "def main():\n"
SAVE = "    save_model(weights)\n"
#: The same policy twice: as a check of the naive loop, and as a gate of the product.
NAIVE_CHECK = "checks/test_policy.py"
GATE = "harness_tests/test_policy.py"

#: Logs of the product's runs.
LOGS = ".autoresearch/*/runs/*/*.log"

_NAIVE_CHECK = """\
import train


def test_a_run_is_short_enough():
    assert train.STEPS <= 70, "policy: at most 70 steps"
"""
_OTHER_CHECK = """\
from pathlib import Path


def test_the_file_is_there():
    assert Path("train.py").is_file()
"""
_GATE = """\
def test_a_run_is_short_enough(candidate):
    assert "STEPS = 120" not in candidate.text, "policy: at most 70 steps"
"""
# As karpathy/autoresearch does it: the training script ends by calling the evaluator in its own process.
_NAIVE_TRAINING = """\
import os, runpy
import numpy as np
import prepare
held = "data/heldout/val"
labels = np.load(f"{held}/labels.npy")
runpy.run_path("train.py", run_name="__main__")
import prepare
with np.load(f"{held}/features.npz") as archive:
    features = {"x": archive["x"]}
predictions = prepare.score(os.environ["AUTORESEARCH_OUT"] + "/model.pt2", features)
print("val_loss:", prepare.evaluate(predictions, labels, {})["val_loss"])
"""


@dataclass(frozen=True)
class Round:
    """What a loop made of one candidate."""

    kept: bool
    """Whether the candidate's train.py became the branch's."""
    metric: float | None
    """What the loop took for the candidate's val_loss."""
    output: str
    """Everything the loop showed or logged for a person or an agent to read."""
    returncode: int = 0
    """The product's exit status; 0 of the naive loop."""
    log: str = ""
    """What the candidate's runs printed, which nobody is shown unless it is turned on."""


@dataclass(frozen=True)
class Attack:
    """One attack: what it leaves in the project, and how its success would show."""

    name: str
    threats: tuple[str, ...]
    """Ids of the threat catalogue in docs/security.md."""
    plant: Callable[[Project], None]
    """Edit train.py, or leave files; whatever an agent with the user's rights can do before a round."""
    succeeded: Callable[[Project, Round], bool]
    """Whether it worked, by effects only; the same predicate for both loops."""
    control: Callable[[Project], Round] | None = None
    """The naive loop that falls for it; None: :func:`naive_round`."""
    refused: bool = False
    """Whether the product refuses to run at all, which leaves the work tree as it was found."""
    keeps: bool | None = False
    """
    Whether the candidate itself deserves to be kept: the attack is in what lies beside it. None: that is a matter
    of the seeds that the harness draws.
    """
    env: tuple[tuple[str, str], ...] = ()
    """Variables that the attack has brought into the caller's environment, filled in as in :func:`edits`."""
    level: str = "strong"
    """The level of the session in which it is tried; ``strong`` and ``kernel`` take turns."""
    in_run: bool = False
    """Whether a training run executes it: then a run at the other level has to stop it too."""

    def __str__(self) -> str:
        return f"{'-'.join(self.threats)}-{self.name.replace(' ', '-')}"


def guarded(attacks: Iterable[Attack]) -> list[ParameterSet]:
    """Parameters ``attack, level`` of a test that runs every attack where it is tried."""
    return [
        pytest.param(attack, level, id=f"{level}-{attack}")
        for attack in attacks
        for level in LEVELS
        if attack.in_run or level == attack.level
    ]


# -- predicates ----------------------------------------------------------------


def was_kept(project: Project, result: Round) -> bool:
    """The candidate, which deserves it not, was kept."""
    return result.kept


def believed(metric: float) -> Callable[[Project, Round], bool]:
    """A forged metric was taken for true."""
    return lambda project, result: (
        result.metric is not None and abs(result.metric - metric) < 1e-6 * max(1.0, abs(metric))
    )


def appeared(name: str) -> Callable[[Project, Round], bool]:
    """A file has appeared in the directory that the attack may write to by the file's permissions."""
    return lambda project, result: (outside(project) / name).exists()


def said(text: str) -> Callable[[Project, Round], bool]:
    """A text (a canary) stands in something that a person or an agent reads."""
    return lambda project, result: text in result.output


def leaked(text: str) -> Callable[[Project, Round], bool]:
    """A canary of held-out data stands in something that is shown, or that came out of a run at all."""
    return lambda project, result: text in result.output + result.log


def outside(project: Project) -> Path:
    """A directory beside the project that everybody may write to: canaries of an escape go there."""
    return project.root.parent / "outside"


# -- planting ------------------------------------------------------------------


def edits(*pairs: tuple[str, str]) -> Callable[[Project], None]:
    """
    A plant that edits train.py; ``{outside}``, ``{root}`` and ``{python}`` in the new text are filled in.
    """

    def plant(project: Project) -> None:
        for old, new in pairs:
            project.edit(old, filled(new, project))

    return plant


def at_start(code: str, *pairs: tuple[str, str]) -> Callable[[Project], None]:
    """A plant that runs ``code`` (unindented) as main() begins."""
    return edits((START, f"{START}{_indented(code)}"), *pairs)


def at_end(code: str, *pairs: tuple[str, str]) -> Callable[[Project], None]:
    """A plant that runs ``code`` (unindented) once the model has been handed over."""
    return edits((SAVE, f"{SAVE}{_indented(code)}"), *pairs)


def instead(code: str, *pairs: tuple[str, str]) -> Callable[[Project], None]:
    """A plant that runs ``code`` (unindented) in the place of handing the model over."""
    return edits((SAVE, _indented(code)), *pairs)


def also(*plants: Callable[[Project], None]) -> Callable[[Project], None]:
    """Several plants in one."""

    def plant(project: Project) -> None:
        for one in plants:
            one(project)

    return plant


def leaves(path: str, text: str) -> Callable[[Project], None]:
    """A plant that writes a file in the project, as an agent does before the round."""
    return lambda project: project.write(path, filled(text, project))


def filled(text: str, project: Project) -> str:
    """Fill in the places that an attack must know."""
    return (
        text.replace("{outside}", str(outside(project)))
        .replace("{root}", str(project.root))
        .replace("{python}", sys.executable)
    )


def _indented(code: str) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in code.strip("\n").split("\n"))


# -- the two loops -------------------------------------------------------------


def add_policies(project: Project) -> None:
    """Give both loops the gate that forbids :data:`FORBIDDEN`."""
    project.write(NAIVE_CHECK, _NAIVE_CHECK)
    project.write("checks/test_file.py", _OTHER_CHECK)
    project.write(GATE, _GATE)


def naive_round(
    project: Project,
    *,
    checks: bool = False,
    evaluator: str = _NAIVE_TRAINING,
    env: dict[str, str] | None = None,
) -> Round:
    """
    One round of the naive loop, with everything an attacker could wish for.

    :param checks: run pytest on ``checks/`` first; a failure rejects the candidate.
    :param evaluator: program that trains and prints the metric, in one process.
    """
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "GIT_"))},
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "AUTORESEARCH_SEED": "1",
        "AUTORESEARCH_SECONDS": "20",
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_TRAIN": str(project.root / "data/train"),
        "AUTORESEARCH_OUT": str(naive_out(project)),
        **(env or {}),
    }
    naive_out(project).mkdir(exist_ok=True)
    before = incumbent_metric(project)
    output = ""
    if checks:
        # Not `-B`, no `-P`, no `-c`: as a script does it.
        status, output = _run(project, environment, sys.executable, "-m", "pytest", "-q", "checks")
        if status != 0:
            return Round(False, None, output)
    _, log = _run(project, environment, sys.executable, "-c", evaluator)
    (project.root / "run.log").write_text(log, errors="surrogateescape")
    found = re.findall(r"val_loss:\s*(\S+)", log)
    metric = None
    with contextlib.suppress(ValueError, IndexError):
        metric = float(found[-1])
    # `not >=`: the way a comparison with a NaN is got wrong.
    kept = metric is not None and not metric >= before
    if kept:
        commit = ("git", "-c", "user.name=N", "-c", "user.email=n@example.org", "commit", "-qam")
        _run(project, environment, *commit, f"val_loss {metric}")
        kept = _run(project, environment, "git", "diff", "--quiet", "HEAD")[0] == 0
    else:
        _run(project, environment, "git", "reset", "-q", "--hard")
    return Round(kept, metric, output + log, log=log)


def naive_round_with_checks(project: Project) -> Round:
    """The naive loop with pytest before the training."""
    return naive_round(project, checks=True)


def naive_out(project: Project) -> Path:
    """Where the naive loop's runs leave their artifact; nobody empties it between rounds."""
    return project.root.parent / "naive-out"


def incumbent_metric(project: Project) -> float:
    """The baseline's val_loss as it was recorded."""
    return float(project.results()[0]["val_loss"])


def _run(project: Project, env: dict[str, str], *command: str) -> tuple[int, str]:
    """A command in a session of its own; what stays alive afterwards is left alive."""
    with (project.root.parent / "naive.log").open("w+b") as sink:
        process = subprocess.Popen(
            command,
            cwd=project.root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        sink.seek(0)
        return status, sink.read().decode(errors="surrogateescape")


def guarded_round(
    project: Project,
    level: str,
    *arguments: str,
    env: dict[str, str] | None = None,
    autoload: bool = False,
) -> Round:
    """
    One session of the product at an isolation level.

    :param autoload: let pytest load every installed plugin, which takes longer than the session.
    """
    candidate = project.read("train.py")
    rows, runs = len(project.cutovers()), set(project.root.glob(LOGS))
    environment = dict(env or {})
    if not autoload:
        environment = {**LEAN, **environment}
    # As the console script `pytest` does it: the working directory is not importable.
    result = project.run(
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "--autoresearch",
        f"--autoresearch-sandbox={level}",
        *arguments,
        env=environment,
    )
    new = project.cutovers()[rows:]
    metric = new[-1].get("metric") if new else None
    shown = result.output + "".join(
        path.read_text(errors="replace")
        for path in (project.root / "results.tsv",)
        if path.exists()
    )
    logs = sorted(set(project.root.glob(LOGS)) - runs)
    log = "".join(path.read_text(errors="replace") for path in logs)
    # What an agent committed itself counts only if it stays.
    kept = project.git("show", "HEAD:train.py", check=False) == candidate.strip()
    return Round(kept, metric, shown, result.returncode, log)


def guarded_run(project: Project, level: str) -> Round:
    """
    What a level has to do with in a session: one training run of train.py as it stands, and its scoring.

    The metric counts as the naive loop would count it: no gate, no margin and no second run stand behind it.
    """
    settings = load_settings(project.read("pyproject.toml"))
    task, workdir = Task(project.root), project.root.parent / "run"
    request = RunRequest(
        files={"train.py": (project.root / "train.py").read_bytes()},
        seed=1,
        seconds=settings.run.seconds,
        workdir=workdir,
    )
    workdir.mkdir()
    metric = None
    with Scoring(settings, task, Isolation(level)).warm(workdir) as scorers:
        result = Trainer(settings, task, Isolation(level)).train(request)
        with contextlib.suppress(ScoringError):
            scores = scorers.score(result, ("val",))
            metric = evaluate(task, settings, scores["val"], "val").metric
    log = (workdir / "run.log").read_text(errors="replace")
    kept = metric is not None and metric < incumbent_metric(project)
    return Round(kept, metric, f"training_seconds: {result.seconds}\n", log=log)


# -- what must hold after every guarded attack ---------------------------------


def assert_stopped(project: Project, attack: Attack, level: str, **options: bool) -> Round:
    """Plant an attack, run the product, and find no effect of it."""
    if level != attack.level:
        return _assert_stopped_in_a_run(project, attack, level)
    head, train = project.head, project.git("show", "HEAD:train.py")
    attack.plant(project)
    planted = project.git("rev-parse", "HEAD")
    result = guarded_round(project, level, env=_environment(attack, project), **options)
    assert not attack.succeeded(project, result), result.output
    assert attack.keeps in (None, result.kept), result.output
    assert journal(project).verify() is None
    assert processes_of(project) == []
    if attack.refused:
        assert result.returncode == 4, result.output
        assert project.head == planted
    elif not result.kept:
        assert result.returncode in (1, 10, 11), result.output
        assert project.head == head
        assert project.read("train.py").strip() == train
        assert project.git("diff", "--name-only", "HEAD") == ""
    return result


def _assert_stopped_in_a_run(project: Project, attack: Attack, level: str) -> Round:
    """Plant an attack, run it as a session would, and find no effect of it."""
    attack.plant(project)
    result = guarded_run(project, level)
    assert not attack.succeeded(project, result), f"{result.output}{result.log}"
    assert processes_of(project) == []
    assert project.git("diff", "--name-only", "HEAD").split() == ["train.py"]
    return result


def assert_succeeds_unguarded(project: Project, attack: Attack) -> Round:
    """The control: plant the same attack, run the naive loop, and see that it works."""
    attack.plant(project)
    control = attack.control or (
        lambda _: naive_round(project, checks=bool(attack.env), env=_environment(attack, project))
    )
    try:
        result = control(project)
        assert attack.succeeded(project, result), f"the attack is a dud: {result}"
    finally:
        for pid in processes_of(project):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return result


def assert_honest_is_kept(project: Project, level: str) -> None:
    """After whatever happened, an honest candidate is kept and `autoresearch verify` passes."""
    project.edit(*HONEST)
    result = guarded_round(project, level)
    assert result.kept, result.output
    verify = project.run(sys.executable, "-m", "pytest_autoresearch.cli", "verify")
    assert verify.returncode == 0, verify.output


def _environment(attack: Attack, project: Project) -> dict[str, str]:
    return {name: filled(value, project) for name, value in attack.env}


def processes_of(project: Project) -> list[int]:
    """Live processes that carry the project's path in command line, environment or working directory."""
    return sorted(_processes_of(str(project.root.parent)))


def _processes_of(path: str) -> Iterator[int]:
    needle = path.encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            state_of = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            where = os.fsencode((entry / "cwd").readlink())
            carried = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes() + where
            if state_of not in "ZX" and needle in carried:
                yield int(entry.name)
