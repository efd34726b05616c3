"""
Which level a session runs at: chosen by name, refused where nothing could be kept, and on every row.
"""

from __future__ import annotations

import pytest
from project import LEAN, Project

UNACKNOWLEDGED = ("acknowledge_unsandboxed = true\n", "")


@pytest.fixture
def unacknowledged(project: Project) -> Project:
    project.edit(*UNACKNOWLEDGED, "pyproject.toml")
    project.commit("level none, by mistake or not")
    return project


@pytest.mark.parametrize("ci", ["true", "1", "yes"])
def test_without_a_wall_nothing_is_kept_under_ci(unacknowledged: Project, ci: str) -> None:
    result = unacknowledged.autoresearch(env={"CI": ci})
    assert result.returncode == 4, result.output
    assert "isolation level 'none' keeps nothing under CI" in result.stderr
    assert "acknowledge_unsandboxed = true" in result.stderr
    assert unacknowledged.cutovers() == []
    assert not list(unacknowledged.root.glob(".autoresearch/*/runs/*"))


@pytest.mark.parametrize("ci", ["", "0", "false", "False"])
def test_a_person_at_a_desk_may(unacknowledged: Project, ci: str) -> None:
    assert unacknowledged.autoresearch(env={"CI": ci}).returncode == 0


def test_a_dry_run_may_judge_under_ci(unacknowledged: Project) -> None:
    result = unacknowledged.autoresearch("--autoresearch-dry-run", env={"CI": "true"})
    assert result.returncode == 0, result.output


def test_an_acknowledgement_in_the_work_tree_alone_is_none(unacknowledged: Project) -> None:
    unacknowledged.edit(
        "[tool.autoresearch]\n",
        "[tool.autoresearch]\nacknowledge_unsandboxed = true\n",
        "pyproject.toml",
    )
    assert unacknowledged.autoresearch(env={"CI": "true"}).returncode == 4


def test_an_acknowledged_one_keeps_and_every_row_says_so(measured: Project) -> None:
    measured.edit("STEPS = 60", "STEPS = 120")
    result = measured.autoresearch(env={"CI": "true"})
    assert result.returncode == 0, result.output
    assert "isolation: none (UNSANDBOXED)" in result.stdout
    assert {row["isolation"] for row in measured.cutovers()} == {"UNSANDBOXED"}


def test_the_default_is_the_strong_level(unacknowledged: Project) -> None:
    unacknowledged.edit('sandbox = "none"\n', "", "pyproject.toml")
    unacknowledged.commit("nothing said")
    result = unacknowledged.autoresearch("--autoresearch-dry-run", "--collect-only")
    assert "isolation: strong" in result.stdout, result.output


def test_a_container_needs_the_command_that_starts_it(unacknowledged: Project) -> None:
    result = unacknowledged.autoresearch("--autoresearch-sandbox=container")
    assert result.returncode == 4
    assert "needs [tool.autoresearch] launcher" in result.stderr


def test_a_container_that_does_not_hold_is_refused_by_name(unacknowledged: Project) -> None:
    unacknowledged.edit(
        'sandbox = "none"\n', 'sandbox = "container"\nlauncher = ["/bin/false"]\n', "pyproject.toml"
    )
    unacknowledged.commit("a container that runs nothing")
    result = unacknowledged.autoresearch()
    assert result.returncode == 4
    assert "isolation 'container' does not hold here" in result.stderr
    assert "run the launcher by hand" in result.stderr


def test_plugins_that_are_left_out_of_the_stories_do_no_harm(measured: Project) -> None:
    """The stories load this plugin alone; a user's session loads whatever is installed."""
    result = measured.autoresearch(env=dict.fromkeys(LEAN, ""))
    assert result.returncode == 0, result.output
    assert "plugins: " in result.stdout
