"""
What git remembers of a campaign is held against its ledgers at every start.
"""

from __future__ import annotations

import shutil
import sys

import pytest
from project import Project

LEDGERS = (".autoresearch/main/restore-source.jsonl", ".autoresearch/main/cutover-audit.jsonl")
KINDER = "\n\ndef evaluate(*_):\n    return {'val_loss': 0.2}\n"


def kept(project: Project) -> Project:
    """A campaign with one keep."""
    project.edit("STEPS = 60", "STEPS = 120")
    result = project.autoresearch()
    assert result.returncode == 0, result.output
    return project


def test_a_campaign_that_lost_its_ledgers_is_not_started_anew(measured: Project) -> None:
    """Else a harness that somebody committed on the way would be ratified."""
    measured.write("prepare.py", measured.read("prepare.py") + KINDER)
    measured.commit("a kinder evaluator")
    for path in LEDGERS:
        (measured.root / path).unlink()
    result = measured.autoresearch()
    assert result.returncode == 4, result.output
    assert "campaign 'main' has lost its ledgers" in result.stderr
    assert "--autoresearch-tag" in result.stderr


def test_its_directory_gone_is_the_same(measured: Project) -> None:
    shutil.rmtree(measured.root / ".autoresearch")
    assert "has lost its ledgers" in measured.autoresearch().stderr


def test_a_campaign_of_another_name_may_start(measured: Project) -> None:
    shutil.rmtree(measured.root / ".autoresearch")
    result = measured.autoresearch("--autoresearch-tag=second")
    assert result.returncode == 0, result.output


def test_a_baseline_that_was_cut_short_starts_anew(project: Project) -> None:
    """It has pinned HEAD, and nothing else."""
    head = project.head
    project.git("update-ref", f"refs/autoresearch/main/restore/{head}", head)
    assert project.autoresearch().returncode == 0


@pytest.mark.parametrize("rows", [1, 2])
def test_ledgers_that_were_cut_back_are_noticed(measured: Project, rows: int) -> None:
    """Both chains hold, the budget would be whole again, and the keep a stranger's commit."""
    before = {path: (measured.root / path).read_bytes() for path in LEDGERS}
    kept(measured)
    for path, content in before.items():
        lines = content.splitlines(keepends=True)
        (measured.root / path).write_bytes(b"".join(lines[: max(len(lines) - rows + 1, 1)]))
    result = measured.autoresearch()
    assert result.returncode == 4, result.output
    assert "of which the ledgers know nothing" in result.stderr or "lost" in result.stderr
    assert "git checkout -B autoresearch/main" in result.stderr or rows > 1


def test_the_way_out_is_one(measured: Project) -> None:
    before = {path: (measured.root / path).read_bytes() for path in LEDGERS}
    incumbent = measured.head
    kept(measured)
    for path, content in before.items():
        (measured.root / path).write_bytes(content)
    measured.git("checkout", "-q", "-B", "autoresearch/main", incumbent)
    result = measured.autoresearch()
    assert result.returncode == 4, result.output
    way_out = "git update-ref -d refs/autoresearch/main/heads"
    assert way_out in result.stderr
    measured.git(*way_out.split()[1:])
    assert measured.autoresearch().returncode == 0


def test_a_commit_of_somebody_else_is_still_only_data(measured: Project) -> None:
    measured.edit("STEPS = 60", "STEPS = 120")
    measured.commit("an agent's own commit\n\nAutoresearch-Cost: 0")
    result = measured.autoresearch()
    assert result.returncode == 0, result.output


@pytest.mark.parametrize(
    "name",
    [
        "refs/autoresearch/main",
        "refs/autoresearch/main/candidate",
        "refs/autoresearch/main/restore",
    ],
)
def test_a_ref_in_the_place_of_pins_is_named(project: Project, name: str) -> None:
    """Nothing could be recorded, so an attempt would be free and its figure for the taking."""
    project.git("update-ref", name, "HEAD")
    result = project.autoresearch()
    assert result.returncode == 4, result.output
    assert f"git update-ref -d {name}" in result.stderr
    assert not list(project.root.glob(".autoresearch/main/runs/*"))
    project.git("update-ref", "-d", name)
    assert project.autoresearch().returncode == 0


def test_verify_and_status_still_answer(measured: Project) -> None:
    kept(measured)
    for command in ("verify", "status"):
        result = measured.run(sys.executable, "-m", "pytest_autoresearch.cli", command)
        assert result.returncode == 0, result.output
