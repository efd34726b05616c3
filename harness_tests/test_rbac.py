"""
Who may see what: cohort aggregates for an agent, individuals for nobody, nothing outside the sandbox.
"""

from __future__ import annotations

import pytest


@pytest.mark.gate("pre")
def test_cohorts_shown_to_an_agent_are_large_enough(cohort_view):
    for column in cohort_view.columns:
        if not cohort_view.refusal(column):
            for row in cohort_view.view(by=column, measures=("n",)):
                # Shown to a multiple of ten.
                assert row.values["n"] >= cohort_view.minimum - 5


@pytest.mark.gate("pre")
def test_everything_told_of_cohorts_isolates_nobody(cohort_view):
    assert not cohort_view.problem, cohort_view.problem


@pytest.mark.gate("pre")
def test_a_wrong_candidate_could_harm_nobody_outside(harm):
    assert not harm.problems, "; ".join(harm.problems)


@pytest.mark.gate("post")
def test_only_aggregates_leave_the_harness(training_run, evaluation, harm):
    problems = harm.problems_of(training_run, evaluation)
    assert not problems, "; ".join(problems)
