"""
Sessions whose verdict needs no run: an experiment that was judged before, a mutation that nobody can review.
"""

from __future__ import annotations

import sys

import pytest
from project import Project

NO_OPS = {
    "a comment": ("STEPS = 60", "STEPS = 60  # a lucky comment"),
    "another spelling": ("STEPS = 60", "STEPS = 2 * 30"),
    "layout": ("STEPS = 60\n", "STEPS = 60\n\n"),
}


def runs(project: Project) -> int:
    """How many trainings the project has seen."""
    return len(list(project.root.glob(".autoresearch/main/runs/*/run.log")))


@pytest.mark.parametrize("name", NO_OPS)
def test_what_means_the_same_as_the_incumbent_is_not_run(measured: Project, name: str) -> None:
    before, incumbent = runs(measured), measured.read("train.py")
    measured.edit(*NO_OPS[name])
    result = measured.autoresearch()
    assert result.returncode == 10, result.output
    assert (
        "no-op: only comments, layout, the spelling of constants or a seed differ" in result.stdout
    )
    assert runs(measured) == before
    assert measured.read("train.py") == incumbent
    assert measured.cutovers()[-1]["runs"] == []


def test_a_seed_alone_is_a_no_op(measured: Project) -> None:
    measured.edit('default_rng(int(os.environ["AUTORESEARCH_SEED"]))', "default_rng(17)")
    first = measured.autoresearch()
    assert first.returncode in (1, 10), (
        first.output
    )  # it takes the harness's seed away: judged once
    before = runs(measured)
    measured.edit('default_rng(int(os.environ["AUTORESEARCH_SEED"]))', "default_rng(18)")
    again = measured.autoresearch()
    assert again.returncode == 10, again.output
    assert "already-judged: a candidate that means the same was reverted" in again.stdout
    assert runs(measured) == before


def test_a_rejected_candidate_under_another_name_is_answered_from_the_ledger(
    measured: Project,
) -> None:
    measured.edit("STEPS = 60", "STEPS = 6")
    assert measured.autoresearch().returncode == 10
    row = measured.cutovers()[-1]
    before = runs(measured)
    measured.edit("STEPS = 60", "STEPS = 3 * 2  # new idea")
    again = measured.autoresearch("--autoresearch-message=a new idea")
    assert again.returncode == 10, again.output
    assert f"was reverted: {row['reasons'][0]['message'][:40]}" in again.stdout
    assert "autoresearch ratify" in again.stdout
    assert runs(measured) == before
    # The answer costs what the proposal costs: trying again and again is no way around the budget.
    assert measured.cutovers()[-1]["budget_after"] == row["budget_after"] - row["cost"]


def test_a_person_can_have_it_judged_anew(measured: Project) -> None:
    measured.edit("STEPS = 60", "STEPS = 6")
    assert measured.autoresearch().returncode == 10
    ratified = measured.run(
        sys.executable, "-m", "pytest_autoresearch.cli", "ratify", "--reason", "another look"
    )
    assert ratified.returncode == 0, ratified.output
    assert measured.autoresearch().returncode == 0
    before = runs(measured)
    measured.edit("STEPS = 60", "STEPS = 6")
    again = measured.autoresearch()
    assert "already-judged" not in again.stdout
    assert runs(measured) > before


def test_a_kept_state_that_was_improved_upon_is_not_kept_again(measured: Project) -> None:
    original = measured.read("train.py")
    measured.edit("STEPS = 60", "STEPS = 120")
    assert measured.autoresearch().returncode == 0
    measured.write("train.py", original + "# back\n")
    back = measured.autoresearch()
    assert back.returncode == 10, back.output
    assert "the same as the baseline (row 1), which was improved upon since" in back.stdout


def test_a_change_that_matters_is_run(measured: Project) -> None:
    before = runs(measured)
    measured.edit("STEPS = 60", "STEPS = 61")
    measured.autoresearch()
    assert runs(measured) > before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NAME = 'a\u202eb'\n", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("W = [\n" + "    0.123456,\n" * 300 + "]\n", "a literal of"),
        ("# " + "q7Zk0" * 200 + "\n", "a new line of"),
    ],
)
def test_a_mutation_that_nobody_can_review_is_refused_before_any_gate(
    measured: Project, text: str, words: str
) -> None:
    before = runs(measured)
    measured.write("train.py", measured.read("train.py") + text)
    result = measured.autoresearch()
    assert result.returncode == 1, result.output
    assert "source: train.py" in result.stdout
    assert words in result.stdout
    assert runs(measured) == before
    assert measured.status == ""
    assert "\u202e" not in result.stdout


def test_a_dry_run_answers_the_same_and_writes_nothing(measured: Project) -> None:
    rows = len(measured.cutovers())
    measured.edit(*NO_OPS["a comment"])
    result = measured.autoresearch("--autoresearch-dry-run")
    assert result.returncode == 10, result.output
    assert "WOULD BE REVERTED" in result.stdout
    assert len(measured.cutovers()) == rows
    assert "lucky" in measured.read("train.py")
