"""
Violations in a run or its model: figures and files that stand in for those of a run, so that nothing is trained.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..records import RunStatus
from .candidates import appended
from .violation import PERSONAL, Model, NotApplicable, Plant

if TYPE_CHECKING:
    from pathlib import Path

    from ..evaluation import Evaluation
    from ..experiment import Experiment
    from ..settings import Settings
    from ..task import Task

__all__ = ["PLANTS", "evaluated"]

#: Standard errors between validation and audit split: less than a target encoding over both leads to (24 on UCI
#: Adult), far more than any honest model has.
_GAP = 20.0


def _crashed(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    run = replace(model.run, status=RunStatus.CRASHED, reason="crash: exit status 1", artifact=None)
    return replace(model, run=run, metric=None, problem=run.reason)


def _implausible(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    return replace(model, metric=None, problem=f"implausible: {settings.metric} = 0")


def _printed(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    log = room / "planted.log"
    log.write_text(f"step 1\n{PERSONAL}\n")
    return replace(model, run=replace(model.run, log_tail=PERSONAL, log=log))


def _in_artifact(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    artifact = room / settings.artifact
    with zipfile.ZipFile(artifact, "w") as archive:
        archive.writestr("model/classes.json", json.dumps([PERSONAL]))
    return replace(model, run=replace(model.run, artifact=artifact))


def _unfair(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    """Selects one cohort and nobody else."""
    import numpy as np

    limited = (r for r in settings.fairness if r.at_most is not None or r.at_least is not None)
    rule = next(limited, None)
    if rule is None:
        raise NotApplicable("no [[tool.autoresearch.fairness]] rule has a threshold")
    groups = task.cohorts("val")[rule.attributes[0]]
    names, counts = np.unique(groups, return_counts=True)
    return replace(model, scores=np.where(groups == names[counts.argmax()], 0.99, 0.01))


def _peeking(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    return replace(model, metric=None, problem="predictions depend on other examples", peeks=True)


def _gap(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    return replace(model, gap=_GAP)


def _individuals(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    n = len(task.labels("val"))
    each = {f"person_{i}": i / n for i in range(n)}
    return replace(model, metrics={**(model.metrics or {}), **each})


def _known_labels(model: Model, task: Task, settings: Settings, room: Path) -> Model:
    return replace(model, metric=settings.metric_floor, scores=_knowing(task, 0.99))


def _blind_control(experiment: Experiment) -> None:
    """Trained on shuffled labels the model is nearly as good as ever."""
    campaign = experiment.campaign
    if not campaign.settings.leakage.permutation or campaign.task.sequence is not None:
        raise NotApplicable("[tool.autoresearch.leakage] permutation is off, or a sequence task")
    if experiment.incumbent.metric is None:
        raise NotApplicable("no incumbent yet: run `pytest --autoresearch` once")
    vars(experiment.leakage_controls)["_scores"] = lambda task: _knowing(campaign.task, 0.8)


def _knowing(task: Task, sure: float) -> Any:
    """Predictions of a model that knows the held-out labels, as sure as it says."""
    import numpy as np

    labels = task.labels("val")
    return np.where(labels == labels.max(), sure, 1 - sure)


def evaluated(model: Model, task: Task, settings: Settings) -> Evaluation:
    """The evaluation that gates get of what stands in for a model."""
    import numpy as np

    from ..evaluation import Evaluation

    labels, cohorts = task.labels("val"), task.cohorts("val")
    scores = np.full(len(labels), 0.5) if model.scores is None else model.scores
    metrics = {
        settings.metric: 0.5 if model.metric is None else model.metric,
        **(model.metrics or {}),
    }
    return Evaluation(
        metrics, model.metric, model.problem, (scores, labels, cohorts), settings.fairness
    )


PLANTS: tuple[Plant, ...] = (
    Plant("a run that crashed", ("test_run_finished_in_its_budget",), model=_crashed),
    Plant("a metric that cannot be", ("test_metric_is_finite_and_plausible",), model=_implausible),
    Plant(
        "personal data printed by a run", ("test_output_holds_no_personal_data",), model=_printed
    ),
    Plant(
        "personal data in the model", ("test_artifact_holds_no_personal_data",), model=_in_artifact
    ),
    Plant("a model that selects one cohort", ("test_model_is_fair",), model=_unfair),
    Plant(
        "predictions that owe to other examples",
        ("test_predictions_rest_on_their_own_example",),
        model=_peeking,
    ),
    Plant(
        "a model that knows validation labels",
        ("test_validation_is_no_better_than_the_audit_split",),
        model=_gap,
    ),
    Plant(
        "figures of single persons", ("test_only_aggregates_leave_the_harness",), model=_individuals
    ),
    Plant(
        "held-out labels that are known without training labels",
        ("test_shuffled_labels_teach_nothing",),
        appended("_planted = 1"),
        session=_blind_control,
        model=_known_labels,
    ),
)
