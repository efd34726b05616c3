"""
Pre-loop gates: before the candidate gets at any data.

They judge what a run could see, whatever the candidate is.
"""

from __future__ import annotations

import pytest


@pytest.mark.gate("pre")
def test_training_view_holds_no_personal_data(training_view):
    findings = training_view.findings()
    assert not findings, f"personal data in the training view: {findings[:5]}"


@pytest.mark.gate("pre")
def test_heldout_data_is_not_reachable_from_a_run(training_view):
    reachable = training_view.labels_reachable()
    assert not reachable, f"held-out files in the training view: {reachable}"


@pytest.mark.gate("pre")
def test_training_rows_are_not_heldout_rows(training_view):
    shared = {split: training_view.overlap(split) for split in training_view.heldout_splits()}
    assert not any(shared.values()), f"training rows found again in held-out splits: {shared}"


@pytest.mark.gate("pre")
def test_cohorts_shown_to_an_agent_are_large_enough(cohort_view):
    for column in cohort_view.columns:
        for row in cohort_view.view(by=column, measures=("n",)):
            assert row.values["n"] >= cohort_view.minimum
