"""
Personal data: not in what a run can read, not in a proposal, not in what a run prints or leaves behind.

A message names kind, place and count, and never the value. ``[tool.autoresearch.pii]`` says what else to look for.
"""

from __future__ import annotations

import pytest


@pytest.mark.gate("pre")
def test_training_view_holds_no_personal_data(training_view, privacy):
    found = privacy.in_view(training_view.directory)
    assert not found, f"personal data in the training view: {'; '.join(found[:5])}"


def test_proposal_holds_no_personal_data(candidate, privacy):
    found = privacy.in_proposal(candidate)
    assert not found, f"personal data in the proposal: {'; '.join(found[:5])}"


def test_output_holds_no_personal_data(training_run, privacy):
    found = privacy.in_output(training_run)
    assert not found, f"personal data in the run's output: {'; '.join(found[:5])}"


def test_artifact_holds_no_personal_data(training_run, privacy):
    found = privacy.in_artifact(training_run)
    assert not found, f"personal data in the artifact: {'; '.join(found[:5])}"
