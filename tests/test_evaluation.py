from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from project import Project

from pytest_autoresearch import FixedHarnessViolation
from pytest_autoresearch.evaluation import (
    Evaluation,
    evaluate,
    per_example_losses,
    reported_fairness,
)
from pytest_autoresearch.sequence import IGNORE
from pytest_autoresearch.settings import FairnessRule, Settings
from pytest_autoresearch.task import Task, TaskError

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
    message = str(caught.value)
    assert message.startswith(
        "SYSTEM HALT: Model failed fairness gate. "
        "equalized_odds_difference[sex]=0.500 > threshold=0.100 (95 % interval 0.4"
    )
    assert message.endswith("; tpr F 0.500, M 1.000; fpr M 0.000, F 0.500)")


def test_a_threshold_from_below_is_held_too() -> None:
    scores = np.where(SEX == "M", 0.9, 0.1)
    rule = FairnessRule(metric="demographic_parity_ratio", by="sex", at_least=0.8)
    with pytest.raises(FixedHarnessViolation, match=r"ratio\[sex\]=0\.000 < threshold=0\.800"):
        evaluation(scores, rule).require_fair()


def test_a_rule_that_cannot_be_measured_fails_the_gate_and_spares_the_report() -> None:
    lonely = np.array(["M"] * len(SEX))
    found = Evaluation(
        {}, 0.4, "", (FAIR, LABELS, {"sex": lonely}),
        (FairnessRule(metric="demographic_parity_difference", by="sex", at_most=0.1),),
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs two cohorts"):
        found.require_fair()
    assert reported_fairness(found) == ()
    assert reported_fairness(None) == ()


def test_an_unknown_attribute_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no protected attribute 'age': the task has \['sex'\]"):
        evaluation(FAIR).fairness("equalized_odds_difference", by="age")


def test_cohorts_and_summary_are_aggregates_and_the_repr_shows_no_row() -> None:
    found = evaluation(FAIR)
    assert [(cohort.name, cohort.n) for cohort in found.cohorts("sex")] == [("F", 500), ("M", 500)]
    assert found.summary["n"] == N
    assert found.summary["mean"] == pytest.approx(0.5)
    assert found.summary["low"] == pytest.approx(0.1)
    assert found.summary["high"] == pytest.approx(0.9)
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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(metric_floor=0.9, metric_ceiling=1.0), "is outside (0.9, 1)"),
        (Settings(metric_ceiling=0.2), "is outside (0, 0.2)"),
    ],
)
def test_an_implausible_figure_of_a_sealed_split_is_a_problem_and_is_not_told(
    template: Project, settings: Settings, said: str
) -> None:
    found = evaluate(Task(template.root), settings, np.full(700, 0.5), "audit")
    assert found.metric is None
    assert found.problem == f"implausible: val_loss on the sealed 'audit' split {said}"


def test_a_sealed_figure_that_is_not_finite_is_not_told_either(project: Project) -> None:
    project.edit("float(loss)", "float('-inf')", "prepare.py")
    found = evaluate(Task(project.root), Settings(), np.full(700, 0.5), "audit")
    assert found.problem == "val_loss on the sealed 'audit' split is not finite"


def test_losses_are_for_the_harness_and_no_public_name_gives_a_row(template: Project) -> None:
    task = Task(template.root)
    scores = np.random.default_rng(3).random(1500)
    found = evaluate(task, Settings(metric_ceiling=9.0), scores, "val")

    losses = per_example_losses(found)
    assert losses is not None
    y = task.labels("val") == 1
    np.testing.assert_allclose(losses, -np.log(np.where(y, scores, 1 - scores)))
    assert losses.mean() == pytest.approx(found.metric, abs=1e-12)
    for name in dir(found):
        if not name.startswith("_"):
            value = getattr(found, name)
            assert not isinstance(value, np.ndarray), name
            assert callable(value) or len(repr(value)) < 1000, name


def test_a_task_without_losses_has_none_and_a_sequence_task_the_mean_cost_of_its_labels(
    project: Project,
) -> None:
    project.edit("def losses(", "def row_losses(", "prepare.py")
    project.edit("np.mean(losses(", "np.mean(row_losses(", "prepare.py")
    found = evaluate(Task(project.root), Settings(), np.full(1500, 0.5), "val")
    assert found.metric is not None
    assert per_example_losses(found) is None

    project.edit("if __name__ ==", 'SEQUENCE, VOCABULARY = "x", 9\n\nif __name__ ==', "prepare.py")
    labels = np.array([[1, 2, IGNORE], [IGNORE, IGNORE, IGNORE]])
    costs = Task(project.root).losses(np.array([[-1.0, -3.0, 0.0], [0.0, 0.0, 0.0]]), labels)
    assert costs is not None
    assert costs.tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "np.mean(predictions)",
            r"prepare\.losses\(\) gives float64 of shape \(\) for 1500 examples",
        ),
        (
            "-np.log(labels.astype(float))",
            r"prepare\.losses\(\) gives \d+ of 1500 values that are not",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_losses_that_are_none_are_the_tasks_error(
    project: Project, body: str, sentence: str
) -> None:
    project.edit("def losses(", "def row_losses(", "prepare.py")
    project.edit("np.mean(losses(", "np.mean(row_losses(", "prepare.py")
    source = f"def losses(predictions, labels):\n    return {body}\n\n\nif __name__ =="
    project.edit("if __name__ ==", source, "prepare.py")
    with pytest.raises(TaskError, match=sentence):
        evaluate(Task(project.root), Settings(), np.full(1500, 0.5), "val")


def test_a_sequence_task_has_a_summary_and_no_fairness() -> None:
    scores = np.log(np.array([[0.5, 0.25], [0.5, 0.125]]))
    found = Evaluation({"val_bpb": 1.5}, 1.5, "", (scores, np.zeros((2, 2)), {"sex": SEX[:2]}), ())

    assert found.summary["n"] == 4
    # Of four figures, fewer than may be told apart.
    assert found.summary["low"] == found.summary["high"] == found.summary["mean"]
    for measure in (lambda: found.cohorts("sex"), lambda: found.fairness("x", by="sex")):
        with pytest.raises(ValueError, match="a sequence task makes none"):
            measure()
