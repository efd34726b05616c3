"""
Leakage gates: nothing about held-out labels reaches a model but through what it learned from the training split.

Those on the data ask prepare.py and its splits, before any training; those on the model cost at most one more run, of a
candidate that is worth confirming. Thresholds stand in ``[tool.autoresearch.leakage]``; a check that has nothing to
look at passes, and the session's header names it.
"""

from __future__ import annotations

import pytest


@pytest.mark.gate("pre")
def test_training_rows_are_not_nearly_heldout_rows(data_leakage):
    found = data_leakage.near_duplicates()
    assert not found, "; ".join(found)


@pytest.mark.gate("pre")
def test_no_column_alone_gives_the_answer(data_leakage):
    found = data_leakage.columns()
    assert not found, "; ".join(found)


@pytest.mark.gate("pre")
def test_heldout_labels_change_no_feature(data_leakage):
    found = data_leakage.label_flip()
    assert not found, "; ".join(found)


@pytest.mark.gate("pre")
def test_training_rows_come_before_heldout_rows(data_leakage):
    found = data_leakage.later_rows()
    assert not found, "; ".join(found)


@pytest.mark.gate("pre")
def test_no_group_is_in_training_and_heldout_data(data_leakage):
    found = data_leakage.shared_groups()
    assert not found, "; ".join(found)


def test_predictions_rest_on_their_own_example(training_run, leakage_controls):
    assert not leakage_controls.peeking, leakage_controls.peeking


def test_validation_is_no_better_than_the_audit_split(evaluation, leakage_controls):
    assert not leakage_controls.audit_gap, leakage_controls.audit_gap


def test_shuffled_labels_teach_nothing(evaluation, leakage_controls):
    assert not leakage_controls.shuffled_labels, leakage_controls.shuffled_labels
