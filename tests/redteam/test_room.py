"""
The controls' own control: both loops keep an honest candidate and reject a bad one, for the right reasons.
"""

from __future__ import annotations

import pytest
from project import Project
from redteam.room import (
    FORBIDDEN,
    HONEST,
    WORSE,
    assert_honest_is_kept,
    guarded_round,
    guarded_run,
    naive_round,
    naive_round_with_checks,
)


def test_the_naive_loop_keeps_an_honest_candidate(target: Project) -> None:
    target.edit(*HONEST)
    result = naive_round(target, checks=True)
    assert result.kept, result.output
    assert result.metric is not None
    assert HONEST[1] in target.git("show", "HEAD:train.py")


@pytest.mark.parametrize("edit", [WORSE, FORBIDDEN], ids=["worse", "forbidden"])
def test_the_naive_loop_rejects_a_bad_candidate(target: Project, edit: tuple[str, str]) -> None:
    target.edit(*edit)
    result = naive_round_with_checks(target)
    assert not result.kept, result.output
    assert (result.metric is None) == (edit == FORBIDDEN)


def test_the_naive_loop_keeps_the_forbidden_candidate_without_its_checks(target: Project) -> None:
    target.edit(*FORBIDDEN)
    assert naive_round(target).kept


def test_the_product_keeps_an_honest_candidate(target: Project, level: str) -> None:
    assert_honest_is_kept(target, level)


def test_a_run_without_a_session_takes_an_honest_candidate(target: Project, level: str) -> None:
    target.edit(*HONEST)
    result = guarded_run(target, level)
    assert result.kept, result.log
    assert "steps: 60" in result.log


def test_a_run_without_a_session_does_not_take_a_worse_one(target: Project, level: str) -> None:
    target.edit(*WORSE)
    result = guarded_run(target, level)
    assert result.metric is not None
    assert not result.kept


def test_the_product_rejects_the_forbidden_candidate(target: Project, level: str) -> None:
    target.edit(*FORBIDDEN)
    result = guarded_round(target, level)
    assert not result.kept
    assert result.returncode == 1, result.output
    assert "policy: at most 70 steps" in result.output
