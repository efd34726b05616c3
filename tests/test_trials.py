"""
``autoresearch doctor --gates``: gates that stop nothing and gates that stop everything are noticed, on a real project.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from project import LEAN, STOCK, Project, Result
from test_leakage_session import INDEX, REBUILD, project_with

from pytest_autoresearch.adoption import stock_gates
from pytest_autoresearch.commands import opened
from pytest_autoresearch.trials.bench import Bench, Trial, findings
from pytest_autoresearch.trials.plants import PLANTS, plant_named
from pytest_autoresearch.trials.violation import Plant

#: A user's gates: one that never fails, and one that comes to fail always, once the baseline stands.
OWN = """\
import os


def test_nothing(evaluation):
    assert True


def test_everything(evaluation):
    assert "BROKEN" not in os.environ, "broken"
"""


def declared(
    template: Project, root: Path, *, mutants: tuple[tuple[str, str, str], ...]
) -> Project:
    """The toy project with rebuild, time, groups and the control on shuffled labels, its baseline measured."""
    index = (
        INDEX,
        INDEX + '        first = {"train": 0}.get(split, len(split) * 10_000)\n'
        '        np.savez(held / "index.npz", day=np.arange(first, first + n), person=np.arange(first, first + n))\n',
    )
    project = project_with(template, root, index, rebuild=REBUILD)
    for path, old, new in mutants:
        project.edit(old, new, path)
    project.write("harness_tests/test_own.py", OWN)
    project.commit("gates of the user's own")
    return project.baseline()


def content(project: Project) -> dict[str, str]:
    """Every file of the project, its repository, its data and its ledgers among them."""
    return {
        path.relative_to(project.root).as_posix(): f"{path.stat().st_mtime_ns} "
        + sha256(path.read_bytes()).hexdigest()
        for path in project.root.rglob("*")
        if path.is_file()
    }


@dataclass(frozen=True)
class Examined:
    """The command's outcome, and the project's files before and after it."""

    result: Result
    before: dict[str, str]
    after: dict[str, str]

    def line(self, gate: str) -> str:
        """What it says of a gate."""
        (found,) = [
            line
            for line in self.result.stdout.splitlines()
            if line.partition(": ")[0].endswith(f"::{gate}")
        ]
        return found


@pytest.fixture(scope="module")
def examined(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    """``autoresearch doctor --gates`` on honest stock gates and two of the user's own."""
    project = declared(template, tmp_path_factory.mktemp("examined") / "project", mutants=())
    before = content(project)
    command = ("-m", "pytest_autoresearch.cli", "doctor", "--gates")
    result = project.run(sys.executable, *command, env={**LEAN, "BROKEN": "1"})
    return Examined(result, before, content(project))


def test_every_stock_gate_passes_the_incumbent_and_stops_what_it_is_for(examined: Examined) -> None:
    lines = examined.result.stdout.splitlines()
    assert f"{STOCK + 2} gates: {STOCK - 1} pass the incumbent and were seen to fail" in lines[-1]
    assert sum(line.startswith("ok ") for line in lines) == STOCK - 1
    assert not [line for line in lines if line.startswith("NOT STOPPED")]
    assert sum(line.startswith("stopped ") for line in lines) == len(PLANTS) - 1


def test_what_does_not_apply_is_not_tried_and_says_why(examined: Examined) -> None:
    """The toy's stories run without a wall and claim none."""
    reason = "no wall: [tool.autoresearch.harm] claims neither writes nor network"
    assert f"not tried    {reason}" in examined.result.stdout
    line = examined.line("test_a_wrong_candidate_could_harm_nobody_outside")
    assert line.startswith("not tried ")
    assert line.endswith(reason)


def test_a_gate_of_ones_own_that_never_fails_is_listed(examined: Examined) -> None:
    assert examined.line("test_nothing").startswith("not shown ")
    assert "1 were not seen to fail" in examined.result.stdout


def test_a_gate_of_ones_own_that_stops_the_honest_is_wrong(examined: Examined) -> None:
    line = examined.line("test_everything")
    assert line.startswith("WRONG ")
    assert "does not pass the incumbent: broken" in line
    assert "1 are wrong" in examined.result.stdout
    assert examined.result.returncode == 1


def test_the_project_is_only_read(examined: Examined) -> None:
    assert examined.before == examined.after
    assert len(examined.before) > 50


#: Each makes one gate let its violation pass: a gate's text, and three thresholds.
MUTANTS = (
    ("harness_tests/test_privacy.py", "    assert not found, f\"personal data in the training view", "    assert True, f\"personal data in the training view"),
    ("pyproject.toml", "at_most = 0.20", "at_most = 1.0"),
    ("pyproject.toml", "permutation = true", "permutation = true\ngap_errors = 100\npermuted_gain = 1.0"),
)  # fmt: skip
BLIND = {
    "test_training_view_holds_no_personal_data": "personal data in the training view",
    "test_model_is_fair": "a model that selects one cohort",
    "test_validation_is_no_better_than_the_audit_split": "a model that knows validation labels",
    "test_shuffled_labels_teach_nothing": "held-out labels that are known without training labels",
}


def test_a_gate_without_its_assertion_and_thresholds_beyond_reach_are_wrong(
    template: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control stands above: the same violations are stopped by the gates as they are."""
    project = declared(template, tmp_path / "project", mutants=MUTANTS)
    for name, value in LEAN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project.root)
    (tmp_path / "room").mkdir()

    with opened.campaign(argparse.Namespace(tag=None)) as campaign:
        bench = Bench(campaign, tmp_path / "room")
        control = bench.control()
        trials = list(bench.trials([plant_named(name) for name in BLIND.values()]))

    assert {trial.skipped for trial in trials} == {""}
    told = {each.gate.rpartition("::")[2]: each for each in findings(control, trials)}
    wrong = {gate: each.reason for gate, each in told.items() if each.word == "WRONG"}
    assert wrong == {gate: f"passes '{plant}'" for gate, plant in BLIND.items()}


# -- what follows from outcomes ---------------------------------------------------

GATE = "harness_tests/test_a.py::test_a"
PASSED, FAILED = {GATE: ("passed", "")}, {GATE: ("failed", "no")}
BLOCKED = {GATE: ("skipped", "not run: a pre-loop gate failed")}
PLANTED = Plant("a violation", ("test_a",))
OTHER = Plant("another", ("test_b",))


@pytest.mark.parametrize(
    ("control", "trials", "word", "reason"),
    [
        (PASSED, [Trial(PLANTED, FAILED)], "ok", ""),
        (PASSED, [Trial(PLANTED, PASSED)], "WRONG", "passes 'a violation'"),
        (FAILED, [Trial(PLANTED, FAILED)], "WRONG", "does not pass the incumbent: no"),
        (PASSED, [Trial(PLANTED, {}, "no data")], "not tried", "a violation: no data"),
        (PASSED, [Trial(PLANTED, BLOCKED)], "not tried", "a violation: not run: a pre-loop gate"),
        (BLOCKED, [Trial(PLANTED, FAILED)], "not tried", "not run: a pre-loop gate failed"),
        (PASSED, [Trial(OTHER, PASSED)], "not shown", "it passed all that was planted"),
        (PASSED, [Trial(OTHER, FAILED)], "ok", ""),
    ],
)
def test_what_is_said_of_a_gate(
    control: dict[str, tuple[str, str]], trials: list[Trial], word: str, reason: str
) -> None:
    (found,) = findings(Trial(None, control), trials)
    assert (found.gate, found.word) == (GATE, word)
    assert found.reason.startswith(reason)
    assert bool(found.reason) == (word != "ok")


def test_every_stock_gate_has_a_planted_violation() -> None:
    gates = {
        line.removeprefix("def ").partition("(")[0]
        for path in stock_gates()
        for line in path.read_text().splitlines()
        if line.startswith("def test_")
    }
    assert {name for plant in PLANTS for name in plant.gates} == gates
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
