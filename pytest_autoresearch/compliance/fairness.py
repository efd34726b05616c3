"""
Group fairness of a binary classifier: plain formulas on scores, labels and cohorts.

Definitions as in fairlearn (Bird et al. 2020), whose figures they equal to float precision: demographic
parity compares selection rates; equalized odds (Hardt, Price, Srebro 2016) true and false positive rates;
equal opportunity true positive rates alone. A difference is the largest minus the smallest rate over
cohorts, a ratio the smallest by the largest. A row is selected when its score reaches the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MINIMUM_N",
    "MINIMUM_POSITIVES",
    "Cohort",
    "cohorts",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equal_opportunity_difference",
    "equalized_odds_difference",
    "measure",
    "selection_rate",
]

#: Smallest cohort that a gate may rest on. The 97.5 % quantile of the selection-rate gap of a *random*
#: subgroup of UCI Adult is 0.064 at 200 rows and 0.30 at 10: small cohorts make noise, not findings.
MINIMUM_N = 200

#: Fewest rows of either label in a gated cohort: true and false positive rates are means over these.
MINIMUM_POSITIVES = 50

#: Scores are kept this far from 0 and 1 for the log loss, the resolution of float32.
_EDGE = 1e-7


@dataclass(frozen=True)
class Cohort:
    """The figures of one cohort; a rate without rows to rest on is nan."""

    name: str
    n: int
    """Rows."""
    positives: int
    """Rows with label 1."""
    selection_rate: float
    """Share of rows whose score reaches the threshold."""
    tpr: float
    """True positive rate: the selected share of label 1."""
    fpr: float
    """False positive rate: the selected share of label 0."""
    accuracy: float
    log_loss: float
    """Mean negative log likelihood, nats."""
    gated: bool
    """Large enough for a threshold; otherwise listed only."""


def cohorts(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    threshold: float = 0.5,
    *,
    minimum_n: int = MINIMUM_N,
    minimum_positives: int = MINIMUM_POSITIVES,
) -> tuple[Cohort, ...]:
    """
    Tabulate every cohort, sorted by name.

    ``scores`` are probabilities of label 1, float [n]; ``labels`` 0 or 1, [n]; ``groups`` names or codes, [n].
    A cohort is gated from ``minimum_n`` rows with ``minimum_positives`` of label 1 and as many of label 0.

    :raises ValueError: for arrays that do not match, scores outside 0 to 1, labels other than 0 and 1.
    """
    score, label, names, code = _checked(scores, labels, groups)
    selected = score >= threshold
    clipped = np.clip(score, _EDGE, 1 - _EDGE)
    loss = -np.log(np.where(label, clipped, 1 - clipped))

    def count(rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(code[rows], minlength=len(names))

    everyone = np.ones(len(score), dtype=bool)
    n, positives = count(everyone), count(label)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = count(selected) / n
        tpr = count(selected & label) / positives
        fpr = count(selected & ~label) / (n - positives)
        accuracy = count(selected == label) / n
        log_loss = np.bincount(code, weights=loss, minlength=len(names)) / n
    gated = (n >= minimum_n) & (np.minimum(positives, n - positives) >= minimum_positives)
    return tuple(
        Cohort(
            name=str(name),
            n=int(n[i]),
            positives=int(positives[i]),
            selection_rate=float(rate[i]),
            tpr=float(tpr[i]),
            fpr=float(fpr[i]),
            accuracy=float(accuracy[i]),
            log_loss=float(log_loss[i]),
            gated=bool(gated[i]),
        )
        for i, name in enumerate(names)
    )


def selection_rate(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> dict[str, float]:
    """Return the share of selected rows by cohort."""
    table = cohorts(scores, labels, groups, threshold)
    return {cohort.name: cohort.selection_rate for cohort in table}


def demographic_parity_difference(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """Return the largest minus the smallest selection rate over all cohorts: 0 is parity."""
    return _parity_difference(cohorts(scores, labels, groups, threshold))


def demographic_parity_ratio(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """
    Return the smallest by the largest selection rate over all cohorts: 1 is parity.

    nan when nobody is selected, which meets no threshold.
    """
    return _parity_ratio(cohorts(scores, labels, groups, threshold))


def equalized_odds_difference(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """
    Return the larger of the true and the false positive rate difference over all cohorts: 0 is parity.

    :raises ValueError: for a cohort that lacks one of the two labels.
    """
    return _odds_difference(cohorts(scores, labels, groups, threshold))


def equal_opportunity_difference(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """
    Return the largest minus the smallest true positive rate over all cohorts: 0 is parity.

    :raises ValueError: for a cohort without label 1.
    """
    return _opportunity_difference(cohorts(scores, labels, groups, threshold))


def measure(
    name: str,
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    threshold: float = 0.5,
    *,
    minimum_n: int = MINIMUM_N,
    minimum_positives: int = MINIMUM_POSITIVES,
) -> float:
    """
    Compute the measure called ``name`` over the gated cohorts.

    :raises ValueError: for an unknown name, arrays as in :func:`cohorts`, or fewer than two gated cohorts,
        since a difference over one cohort is 0 whatever the model does.
    """
    if name not in _MEASURES:
        raise ValueError(f"{name!r} is not a fairness measure: choose from {', '.join(_MEASURES)}")
    table = cohorts(
        scores,
        labels,
        groups,
        threshold,
        minimum_n=minimum_n,
        minimum_positives=minimum_positives,
    )
    gated = [cohort for cohort in table if cohort.gated]
    if len(gated) < 2:
        sizes = ", ".join(f"{cohort.name}: {cohort.n}/{cohort.positives}" for cohort in table)
        raise ValueError(
            f"{name} needs two cohorts of {minimum_n} rows with {minimum_positives} of each label, "
            f"found {len(gated)} (rows/positives {sizes}): merge cohorts"
        )
    return _MEASURES[name](gated)


def _parity_difference(table: _Table) -> float:
    return _spread([cohort.selection_rate for cohort in table])


def _parity_ratio(table: _Table) -> float:
    rates = [cohort.selection_rate for cohort in table]
    return min(rates) / max(rates) if max(rates) > 0 else float("nan")


def _opportunity_difference(table: _Table) -> float:
    _require(table, "tpr", 1)
    return _spread([cohort.tpr for cohort in table])


def _odds_difference(table: _Table) -> float:
    _require(table, "fpr", 0)
    return max(_opportunity_difference(table), _spread([cohort.fpr for cohort in table]))


_Table = tuple[Cohort, ...] | list[Cohort]

#: Name in the configuration -> formula.
_MEASURES: dict[str, Callable[[_Table], float]] = {
    "demographic_parity_difference": _parity_difference,
    "demographic_parity_ratio": _parity_ratio,
    "equalized_odds_difference": _odds_difference,
    "equal_opportunity_difference": _opportunity_difference,
}


def _spread(rates: list[float]) -> float:
    return max(rates) - min(rates)


def _require(table: _Table, rate: str, label: int) -> None:
    """Refuse an undefined rate: fairlearn counts it as 0, which reads as a finding."""
    for cohort in table:
        if np.isnan(getattr(cohort, rate)):
            raise ValueError(
                f"cohort {cohort.name!r} has no row with label {label}, so its {rate} is undefined: "
                "use measure(), which leaves small cohorts out"
            )


def _checked(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.generic], NDArray[np.int64]]:
    """Return scores, labels as booleans, cohort names and each row's index into them."""
    score = np.asarray(scores, dtype=np.float64)
    label, group = np.asarray(labels), np.asarray(groups)
    shapes = (score.shape, label.shape, group.shape)
    if score.ndim != 1 or score.size == 0 or len(set(shapes)) != 1:
        raise ValueError(
            f"scores, labels and groups need one non-empty dimension of equal length, got {shapes!r}"
        )
    if not np.all((score >= 0) & (score <= 1)):
        bad = score[~((score >= 0) & (score <= 1))][0]
        raise ValueError(f"score {float(bad)!r} is outside 0 to 1: pass probabilities of label 1")
    if not np.all((label == 0) | (label == 1)):
        raise ValueError(f"labels must be 0 or 1, got {np.unique(label)[:5].tolist()!r}")
    names, code = np.unique(group, return_inverse=True)
    return score, label.astype(bool), names, code.astype(np.int64)
