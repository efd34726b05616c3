"""
How sure a fairness figure is: bootstrap intervals, and whether a candidate is worse than the incumbent beyond noise.

Rows are drawn with replacement (Efron and Tibshirani 1993, section 13.3: the percentile interval). Rates depend on
counts alone, and counts of rows drawn with replacement are multinomial, so that these draws are exact and take no
time; means of losses and of scores are drawn from their normal limit. Two models are compared on the same rows
(section 16.4): what both get wrong does not count as noise.
What is not covered: the seed. Two runs of one program differ by more than the draw of rows says where a seed shifts a
whole cohort; the limits that a rule allows are to be chosen over seeds, see docs/fairness.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .cohort_figures import Figures, Floats, checked, row_losses
from .fairness import FORMULAS, HIGHER_IS_FAIRER, require_known

__all__ = ["LEVEL", "PER_COHORT", "Interval", "Worsening", "interval", "worsening"]

#: Two-sided level of an interval.
LEVEL = 0.95
#: One-sided probability at which a worsening counts as more than noise, over all cohorts of a rule together.
ALPHA = 0.01
DRAWS = 4000

#: Measures of single cohorts: each cohort is compared with itself.
PER_COHORT = {"error_rate": "error", "log_loss": "log_loss", "calibration_gap": "calibration"}


@dataclass(frozen=True)
class Interval:
    """A percentile interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Worsening:
    """By how much a measure is less fair than before, in its own unit; negative: fairer."""

    amount: float
    low: float
    """What is certain of it, at :data:`ALPHA`: beyond noise when it is above what the rule allows."""
    cohort: str = ""
    """Of a measure of single cohorts: the one that is surest to be worse."""


def interval(
    name: str, scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> Interval:
    """
    The 95 % interval of a measure over all cohorts given; arrays ``[n]`` as in :func:`.fairness.cohorts`.

    The same arrays give the same interval; nan where the measure is undefined.

    :raises ValueError: for an unknown measure, or arrays as in :func:`.fairness.cohorts`.
    """
    require_known(name)
    score, label, names, code = checked(scores, labels, groups)
    (drawn,) = _draws((score,), label, code, len(names), threshold)
    tail = (1 - LEVEL) / 2
    values = FORMULAS[name](drawn)
    return Interval(_quantile(values, tail), _quantile(values, 1 - tail))


def worsening(
    name: str,
    before: ArrayLike,
    after: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    threshold: float = 0.5,
) -> Worsening:
    """
    By how much the scores ``after`` are less fair than those ``before``, on the same rows ``[n]``.

    :raises ValueError: as :func:`interval`.
    """
    require_known(name)
    old, label, names, code = checked(before, labels, groups)
    new, *_ = checked(after, labels, groups)
    first, second = _draws((old, new), label, code, len(names), threshold)
    was, now = (_observed(score, label, code, len(names), threshold) for score in (old, new))
    if name in PER_COHORT:
        figure = PER_COHORT[name]
        amounts = abs(getattr(now, figure)) - abs(getattr(was, figure))
        drawn = abs(getattr(second, figure)) - abs(getattr(first, figure))
        # Bonferroni: each cohort is a chance of a false alarm.
        lows = np.array([_quantile(column, ALPHA / len(names)) for column in drawn.T])
        worst = int(np.argmax(np.where(np.isnan(lows), -np.inf, lows)))
        return Worsening(float(amounts[worst]), float(lows[worst]), str(names[worst]))
    sign = -1.0 if name in HIGHER_IS_FAIRER else 1.0
    formula = FORMULAS[name]
    amount = sign * float(formula(now) - formula(was))
    low = _quantile(sign * (formula(second) - formula(first)), ALPHA)
    return Worsening(amount, low)


def _quantile(values: Floats, share: float) -> float:
    """Of the draws in which the measure is defined; nan where it is in none, as a ratio when nobody is selected."""
    defined = values[~np.isnan(values)]
    return float(np.quantile(defined, share)) if len(defined) else float("nan")


def _observed(
    score: Floats, label: NDArray[np.bool_], code: NDArray[np.int64], groups: int, threshold: float
) -> Figures:
    counts = np.zeros((groups, 2, 2))
    np.add.at(counts, (code, label.astype(int), (score >= threshold).astype(int)), 1)
    n = counts.sum(axis=(-1, -2))
    return _figures(
        counts,
        np.bincount(code, weights=row_losses(score, label), minlength=groups) / n,
        np.bincount(code, weights=score - label, minlength=groups) / n,
    )


def _draws(
    models: tuple[Floats, ...],
    label: NDArray[np.bool_],
    code: NDArray[np.int64],
    groups: int,
    threshold: float,
) -> tuple[Figures, ...]:
    """Figures ``[draws, cohorts]`` of each model, over the same draws of rows."""
    # A verdict must not depend on luck of ours, and be the same when somebody computes it again.
    rng = np.random.default_rng(0)
    k = len(models)
    cell = code * 2 + label
    for score in models:
        cell = cell * 2 + (score >= threshold)
    shape = (groups, 2) + (2,) * k
    observed = np.bincount(cell, minlength=int(np.prod(shape)))
    drawn = rng.multinomial(len(label), observed / len(label), size=DRAWS)
    counts = drawn.reshape(DRAWS, *shape).astype(np.float64)
    n = np.bincount(code, minlength=groups)
    losses = _means([row_losses(score, label) for score in models], code, n, rng)
    calibrations = _means([score - label for score in models], code, n, rng)
    found = []
    for which in range(k):
        others = tuple(3 + other for other in range(k) if other != which)
        found.append(
            _figures(counts.sum(axis=others), losses[..., which], calibrations[..., which])
        )
    return tuple(found)


def _figures(counts: Floats, log_loss: Floats, calibration: Floats) -> Figures:
    """From counts ``[..., cohorts, label, selected]``."""
    n = counts.sum(axis=(-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return Figures(
            selection_rate=counts[..., 1].sum(axis=-1) / n,
            tpr=counts[..., 1, 1] / counts[..., 1, :].sum(axis=-1),
            fpr=counts[..., 0, 1] / counts[..., 0, :].sum(axis=-1),
            error=(counts[..., 1, 0] + counts[..., 0, 1]) / n,
            log_loss=log_loss,
            calibration=calibration,
        )


def _means(
    values: list[Floats], code: NDArray[np.int64], n: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Draws ``[draws, cohorts, models]`` of the cohorts' means, jointly over the models."""
    drawn = np.empty((DRAWS, len(n), len(values)))
    for group, size in enumerate(n):
        rows = np.stack([value[code == group] for value in values])
        covariance = np.atleast_2d(np.cov(rows, bias=True)) / size
        drawn[:, group] = rng.multivariate_normal(
            rows.mean(axis=1), covariance, size=DRAWS, method="svd"
        )
    return drawn
