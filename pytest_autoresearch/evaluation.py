"""
What a trained model does on held-out data: predictions and labels meet here, in the trusted process.

No per-row prediction, label, cohort or loss leaves this object through its public names; the harness reads the
losses with :func:`per_example_losses`. Gates get the evaluation on the validation split only. What is said of
another split, such as ``audit``, may reach an agent, so it tells that a figure is wrong and never the figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .compliance.aggregates import typical
from .records import FixedHarnessViolation
from .report.tables import FairnessLine

if TYPE_CHECKING:
    import numpy as np

    from .compliance.fairness import Cohort
    from .settings import FairnessRule, Settings
    from .task import Task

__all__ = [
    "TOLD",
    "Evaluation",
    "compare",
    "evaluate",
    "gap_errors",
    "per_example_losses",
    "predictions",
    "reported_fairness",
]

#: The split that drives the keep rule, and the only one whose figures may be told.
TOLD = "val"


class Evaluation:
    """
    The figures of one model on one held-out split.

    :ivar metrics: name to value, by prepare.py's ``evaluate``.
    :ivar metric: the objective, lower is better; None when it is not finite or not plausible.
    :ivar problem: why ``metric`` is None; empty when it is not.
    :ivar summary: distribution of the predicted scores (of a sequence task: of the labels' log-probabilities):
        ``n``, ``mean``, and ``low``, ``middle``, ``high``, the means of the lowest, middle and highest twentieth.
    """

    def __init__(
        self,
        metrics: Mapping[str, float],
        metric: float | None,
        problem: str,
        arrays: tuple[
            np.ndarray[Any, Any], np.ndarray[Any, Any], Mapping[str, np.ndarray[Any, Any]]
        ],
        rules: tuple[FairnessRule, ...] = (),
        *,
        losses: np.ndarray[Any, Any] | None = None,
    ) -> None:

        self.metrics = MappingProxyType(dict(metrics))
        self.metric = metric
        self.problem = problem
        self._scores, self._labels, self._cohorts = arrays
        self._rules = rules
        self._losses = losses
        self._before: Callable[[], np.ndarray[Any, Any] | None] = lambda: None
        ordered = sorted(self._scores.ravel().tolist())
        self.summary = MappingProxyType(typical(ordered))

    def __repr__(self) -> str:
        return f"<Evaluation of {len(self._scores)} rows: {dict(self.metrics)!r}>"

    @property
    def attributes(self) -> tuple[str, ...]:
        """The protected attributes that cohorts can be formed by."""
        return tuple(self._cohorts)

    def fairness(self, metric: str, *, by: str | tuple[str, ...], threshold: float = 0.5) -> float:
        """
        A fairness metric over the cohorts of ``by``, for decisions at ``threshold``.

        :param metric: e.g. ``equalized_odds_difference``; see :mod:`pytest_autoresearch.compliance.fairness`.
        :param by: a protected attribute, or several: the cohorts of their intersection.
        :raises ValueError: unknown metric or attribute, or fewer than two cohorts large enough to compare.
        """
        from .compliance.fairness import measure

        return measure(metric, self._scores, self._labels, self._groups(by), threshold=threshold)

    def fairness_lines(self) -> tuple[FairnessLine, ...]:
        """Every line of the configured fairness table, with its value, its interval and the incumbent's."""
        return self._lines

    @cached_property
    def _lines(self) -> tuple[FairnessLine, ...]:
        from .compliance.rules import fairness_line

        before = self._before() if any(rule.worse_by is not None for rule in self._rules) else None
        return tuple(
            fairness_line(
                rule,
                self._scores,
                self._labels,
                [self._column(name) for name in rule.attributes],
                before,
            )
            for rule in self._rules
        )

    def require_fair(self) -> None:
        """
        Hold every configured fairness metric against its threshold.

        :raises FixedHarnessViolation: naming metric, attribute, value and threshold of each breach.
        """
        breaches = [line for line in self.fairness_lines() if line.passed is False]
        if breaches:
            raise FixedHarnessViolation(
                f"Model failed fairness gate. {'; '.join(str(line) for line in breaches)}"
            )

    def cohorts(self, by: str | tuple[str, ...], *, threshold: float = 0.5) -> tuple[Cohort, ...]:
        """The figures of each cohort of ``by``: size, selection rate, error rates, calibration."""
        from .compliance.fairness import cohorts

        return cohorts(self._scores, self._labels, self._groups(by), threshold=threshold)

    def _groups(self, by: str | tuple[str, ...]) -> np.ndarray[Any, Any]:
        if isinstance(by, str):
            return self._column(by)
        from .compliance.cohort_figures import intersection

        return intersection([self._column(name) for name in by])

    def _column(self, by: str) -> np.ndarray[Any, Any]:
        if self._scores.ndim != 1:
            raise ValueError(
                "fairness is measured on one decision a row, and a sequence task makes none: remove its "
                "[[tool.autoresearch.fairness]] rules"
            )
        try:
            return self._cohorts[by]
        except KeyError:
            raise ValueError(
                f"no protected attribute {by!r}: the task has {sorted(self._cohorts)!r}"
            ) from None


def evaluate(
    task: Task, settings: Settings, scores: np.ndarray[Any, Any], split: str
) -> Evaluation:
    """
    Bring predictions and labels together, by the formulas of prepare.py.

    :raises TaskError: prepare.py's ``losses`` gives something else than one finite number an example.
    """
    labels, cohorts = task.labels(split), task.cohorts(split)
    metrics = task.evaluate(scores, labels, cohorts)
    metric, problem = _objective(settings, metrics, split)
    return Evaluation(
        metrics,
        metric,
        problem,
        (scores, labels, cohorts),
        settings.fairness,
        losses=task.losses(scores, labels),
    )


def per_example_losses(evaluation: Evaluation) -> np.ndarray[Any, Any] | None:
    """Loss of each example ``[n]``, float64, in the split's order, for the harness; None if the task has none."""
    return evaluation._losses


def reported_fairness(evaluation: Evaluation | None) -> tuple[FairnessLine, ...]:
    """The fairness table for reports: none where a rule cannot be measured, which the gate has said."""
    try:
        return () if evaluation is None else evaluation.fairness_lines()
    except ValueError:
        return ()


def compare(evaluation: Evaluation, before: Callable[[], np.ndarray[Any, Any] | None]) -> None:
    """Let rules compare with the incumbent's predictions ``[n]``, which are fetched when one does."""
    evaluation._before = before


def gap_errors(one: Evaluation, other: Evaluation) -> float | None:
    """
    By how many standard errors the mean loss on one split is below that on another (Welch 1947).

    Standard normal where both were split at random, whatever the model; None without losses of examples.
    """
    import numpy as np

    pair = [np.asarray(x) for x in (one._losses, other._losses) if x is not None and len(x) > 1]
    if len(pair) < 2:
        return None
    error = math.sqrt(sum(float(losses.var(ddof=1)) / len(losses) for losses in pair))
    return float((pair[1].mean() - pair[0].mean()) / error) if error > 0 else None


def predictions(evaluation: Evaluation) -> np.ndarray[Any, Any]:
    """The model's predictions ``[n]`` in the split's order, for the harness."""
    return evaluation._scores


def _objective(
    settings: Settings, metrics: Mapping[str, float], split: str
) -> tuple[float | None, str]:
    name = settings.metric
    if name not in metrics:
        return None, f"prepare.evaluate() gives no {name!r}: it gives {sorted(metrics)!r}"
    value = metrics[name]
    finite = math.isfinite(value)
    if finite and settings.metric_floor < value < settings.metric_ceiling:
        return value, ""
    told, place = split == TOLD, "" if split == TOLD else f" on the sealed {split!r} split"
    if not finite:
        return None, f"{name}{f' = {value!r}' if told else place} is not finite"
    return None, (
        f"implausible: {name}{f' = {value:.6g}' if told else place} is outside "
        f"({settings.metric_floor:g}, {settings.metric_ceiling:g})"
    )
