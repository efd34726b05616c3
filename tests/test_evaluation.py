from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from project import Project

from pytest_autoresearch import FixedHarnessViolation
from pytest_autoresearch.config import FairnessRule, Settings
from pytest_autoresearch.evaluation import Evaluation, evaluate
from pytest_autoresearch.task import Task

N = 1000
LABELS = np.tile([0, 1], N // 2).astype(np.int8)
SEX = np.repeat(["F", "M"], N // 2)
FAIR = np.where(LABELS == 1, 0.9, 0.1)
#: Right for M, a coin for F: equalized odds difference 0.5.
UNFAIR = np.where(SEX == "M", FAIR, np.tile([0.9, 0.9, 0.1, 0.1], N // 4))


def evaluation(scores: np.ndarray, *rules: FairnessRule) -> Evaluation:
    return Evaluation({"val_loss": 0.3}, 0.3, "", (scores, LABELS, {"sex": SEX}), rules)


def test_a_fair_model_meets_its_thresholds() -> None:
    rule = FairnessRule(metric="equalized_odds_difference", by="sex", at_most=0.1)
    found = evaluation(FAIR, rule)
    found.require_fair()
    assert found.fairness("equalized_odds_difference", by="sex") == 0.0
    assert [line.passed for line in found.fairness_lines()] == [True]


def test_an_unfair_model_is_halted_with_metric_cohort_value_and_threshold() -> None:
    found = evaluation(
        UNFAIR,
        FairnessRule(metric="equalized_odds_difference", by="sex", at_most=0.1),
        FairnessRule(metric="demographic_parity_ratio", by="sex"),
    )
    with pytest.raises(FixedHarnessViolation) as caught:
        found.require_fair()
    assert str(caught.value) == (
        "SYSTEM HALT: Model failed fairness gate. "
        "equalized_odds_difference[sex]=0.500 > threshold=0.100"
    )


def test_a_threshold_from_below_is_held_too() -> None:
    scores = np.where(SEX == "M", 0.9, 0.1)
    rule = FairnessRule(metric="demographic_parity_ratio", by="sex", at_least=0.8)
    with pytest.raises(FixedHarnessViolation, match=r"ratio\[sex\]=0\.000 < threshold=0\.800"):
        evaluation(scores, rule).require_fair()


def test_an_unknown_attribute_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no protected attribute 'age': the task has \['sex'\]"):
        evaluation(FAIR).fairness("equalized_odds_difference", by="age")


def test_cohorts_and_summary_are_aggregates_and_the_repr_shows_no_row() -> None:
    found = evaluation(FAIR)
    assert [(cohort.name, cohort.n) for cohort in found.cohorts("sex")] == [("F", 500), ("M", 500)]
    assert found.summary["n"] == N
    assert found.summary["mean"] == pytest.approx(0.5)
    assert (found.summary["min"], found.summary["max"]) == (0.1, 0.9)
    assert found.attributes == ("sex",)
    assert repr(found) == "<Evaluation of 1000 rows: {'val_loss': 0.3}>"
    with pytest.raises(TypeError):
        found.metrics["val_loss"] = 0.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (Settings(metric="f1"), r"prepare\.evaluate\(\) gives no 'f1'"),
        (Settings(metric_floor=0.9, metric_ceiling=1.0), "implausible: val_loss = "),
        (Settings(metric_ceiling=0.2), "implausible: val_loss = "),
    ],
)
def test_an_objective_that_is_absent_or_implausible_is_no_metric(
    template: Project, settings: Settings, problem: str
) -> None:
    scores = np.full(1500, 0.5)
    found = evaluate(Task(template.root), settings, scores, "val")
    assert found.metric is None
    assert pytest.approx(math.log(2)) == found.metrics["val_loss"]
    with pytest.raises(AssertionError, match=problem):
        assert found.metric, found.problem


def test_a_metric_that_is_not_finite_is_no_metric(template: Project, tmp_path: Path) -> None:
    shutil.copytree(template.root, tmp_path / "project")
    prepare = tmp_path / "project" / "prepare.py"
    prepare.write_text(prepare.read_text().replace("float(loss)", "float('nan')"))
    found = evaluate(Task(tmp_path / "project"), Settings(), np.full(1500, 0.5), "val")
    assert found.metric is None
    assert found.problem == "val_loss = nan is not finite"


def test_a_sequence_task_has_a_summary_and_no_fairness() -> None:
    scores = np.log(np.array([[0.5, 0.25], [0.5, 0.125]]))
    found = Evaluation({"val_bpb": 1.5}, 1.5, "", (scores, np.zeros((2, 2)), {"sex": SEX[:2]}), ())

    assert found.summary["n"] == 4
    assert found.summary["min"] == pytest.approx(np.log(0.125))
    assert found.summary["max"] == pytest.approx(np.log(0.5))
    for measure in (lambda: found.cohorts("sex"), lambda: found.fairness("x", by="sex")):
        with pytest.raises(ValueError, match="a sequence task makes none"):
            measure()
