"""
A conftest takes part in a session: every published hook, from a ratified harness, with real sessions.

The behaviour of the conftest is chosen by the environment, so that one baseline serves all stories.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from house import CONFTEST, GATE, House
from observe import BETTER, WORSE, last_codes, state
from project import STOCK, Project


@pytest.fixture(scope="session")
def house_template(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project with a conftest and two gates of its own, ratified by the baseline."""
    project = template.copy(tmp_path_factory.mktemp("house") / "project")
    project.write("harness_tests/conftest.py", CONFTEST)
    project.write("harness_tests/test_house.py", GATE)
    project.commit("the house's own rules")
    return project.baseline()


@pytest.fixture
def house(house_template: Project, tmp_path: Path) -> House:
    return House(house_template.copy(tmp_path / "project"), tmp_path / "calls")


def test_every_hook_is_called_in_order_and_a_classify_wrapper_sets_the_price(house: House) -> None:
    said = house.judge(BETTER, hooks="classify")

    assert said.endswith("status 0"), said
    # Once for each run: how many confirm, the keep rule decides.
    assert [line for line, _ in groupby(house.seen())] == [
        "classify True",
        "execute 20.0",
        f"gates_finished {STOCK + 2}",
        "execute 20.0",
        "verdict True",
        "keep True",
        "record keep done",
    ]
    assert state(house.project).spent == 20
    assert house.project.results()[-1]["cost"] == "20"


def test_a_wrapper_may_veto_a_keep(house: House) -> None:
    said = house.judge(BETTER, hooks="veto")

    assert said.endswith("status 10"), said
    house.assert_reverted()
    assert last_codes(house.project) == ["house-rule", "gain", "cusum-silent"]


@pytest.mark.parametrize("gate", ["fail", "skip", "xfail", "xpass", "teardown", "post"])
def test_nobody_keeps_without_every_gate_passed(house: House, gate: str) -> None:
    said = house.judge(BETTER, hooks="ask-keep", gate=gate)

    assert said.endswith("status 1"), said
    house.assert_reverted()
    assert last_codes(house.project)[:2] == ["gate-set", "house-rule"]
    which = "test_the_garden" if gate in ("teardown", "post") else "test_the_house"
    assert which in said
    assert ("execute 20.0" in house.seen()) == (gate != "fail")
    assert "keep True" not in house.seen()


def test_a_failing_execute_hook_is_a_crash_with_a_reason(house: House) -> None:
    said = house.judge(BETTER, hooks="execute-raises")

    assert said.endswith("status 1"), said
    house.assert_reverted()
    assert (
        "the execute hook failed: RuntimeError: the cluster is down"
        in house.project.results()[-1]["reason"]
    )


def test_an_execute_hook_replaces_the_local_run(house: House) -> None:
    said = house.judge(BETTER, hooks="execute")

    assert said.endswith("status 1"), said
    house.assert_reverted()
    assert house.project.results()[-1]["reason"] == "no node was free"


@pytest.mark.parametrize("hook", ["keep-raises", "keep-lies"])
def test_a_failing_keep_hook_loses_nothing(house: House, hook: str) -> None:
    said = house.judge(BETTER, "--color=yes", hooks=hook)

    assert said.endswith("status 12"), said
    house.assert_reverted()
    assert house.seen()[-2:] == ["record keep rolled-back", "escalate action-failed"]
    row = house.project.cutovers()[-1]
    assert row["decision"] == "keep"
    assert state(house.project).spent == 10
    assert house.project.results()[-1]["status"] == "escalate"
    red = [line for line in said.splitlines() if "keep failed" in line]
    assert red, said


def test_a_failing_revert_hook_loses_nothing(house: House) -> None:
    said = house.judge(WORSE, hooks="revert-raises")

    assert said.endswith("status 12"), said
    house.assert_reverted()
    assert house.seen()[-2:] == ["record revert rolled-back", "escalate action-failed"]
    assert "the archive is down" in said
    assert "Traceback" not in said


def test_a_failing_informational_hook_is_one_line(house: House) -> None:
    said = house.judge(WORSE, hooks="info-raises")

    assert said.endswith("status 10"), said
    house.assert_reverted()
    lines = [line for line in said.splitlines() if "pytest_autoresearch_gates_finished" in line]
    assert len(lines) == 1, said
    assert "RuntimeError: dashboard" in lines[0]
    assert "\x1b[2J" not in said
    assert "Traceback" not in said


def test_a_failing_verdict_hook_reverts_and_calls_for_a_person(house: House) -> None:
    said = house.judge(BETTER, hooks="verdict-raises")

    assert said.endswith("status 12"), said
    assert "no opinion at all" in said
    assert "Traceback" not in said
    house.assert_reverted()
    assert state(house.project).spent == 10


def test_a_failing_classify_hook_ends_the_session_in_words(house: House) -> None:
    said = house.judge(BETTER, hooks="classify-raises")

    assert not said.endswith("status 0"), said
    assert "the price list is gone" in said
    assert "pytest_autoresearch_classify" in said
    assert "INTERNALERROR" not in said
    assert house.project.head == house.before


def test_an_escalation_reverts_and_calls_for_a_person(house: House) -> None:
    said = house.judge(BETTER, hooks="escalate")

    assert said.endswith("status 11"), said
    assert "ESCALATED" in said
    house.assert_reverted()
    assert house.seen()[-2:] == ["record escalate done", "escalate house-rule"]


def test_a_gate_in_a_file_of_the_users_own_counts(measured: Project) -> None:
    """No marker, no registration, not even a commit."""
    measured.write(
        "checks/test_mine.py",
        "def test_steps_are_small(candidate):\n    assert 'STEPS = 120' not in candidate.text\n",
    )
    before = measured.head
    measured.edit(*BETTER)

    result = measured.autoresearch("checks/test_mine.py")

    assert result.returncode == 1, result.output
    assert "test_steps_are_small" in measured.results()[-1]["reason"]
    assert f"collected {STOCK + 1} items" in result.stdout
    assert measured.head == before
    assert measured.status == "?? checks/"
