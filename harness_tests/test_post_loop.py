"""
Post-loop gates: on the trained model, with held-out data that no run has seen.

Thresholds stand in ``[tool.autoresearch]`` of pyproject.toml, so that changing one is visible.
"""

from __future__ import annotations


def test_run_finished_in_its_budget(training_run):
    assert training_run.status == "finished", training_run.reason


def test_metric_is_finite_and_plausible(evaluation):
    assert evaluation.metric is not None, evaluation.problem


def test_model_is_fair(evaluation):
    evaluation.require_fair()
