"""
Pre-loop gates: before the candidate gets at any data.

They judge what a run could see, whatever the candidate is.
"""

from __future__ import annotations

import pytest


@pytest.mark.gate("pre")
def test_heldout_data_is_not_reachable_from_a_run(training_view):
    reachable = training_view.labels_reachable()
    assert not reachable, f"held-out files in the training view: {reachable}"


@pytest.mark.gate("pre")
def test_training_rows_are_not_heldout_rows(training_view):
    shared = {split: training_view.overlap(split) for split in training_view.heldout_splits()}
    assert not any(shared.values()), f"training rows found again in held-out splits: {shared}"
