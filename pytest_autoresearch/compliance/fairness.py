"""
Group fairness of a binary classifier: plain formulas on scores, labels and cohorts.

Definitions as in fairlearn (Bird et al. 2020), whose figures they equal to float precision: demographic
parity compares selection rates; equalized odds (Hardt, Price, Srebro 2016) true and false positive rates;
equal opportunity true positive rates alone. A difference is the largest minus the smallest rate over
cohorts, a ratio the smallest by the largest. A row is selected when its score reaches the threshold. Error
rate, log loss and calibration gap (mean score against base rate) are those of the worst cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .cohort_figures import MINIMUM_N, MINIMUM_POSITIVES, Cohort, Figures, Floats, cohorts

__all__ = [
    "FORMULAS",
    "HIGHER_IS_FAIRER",
    "MINIMUM_N",
    "MINIMUM_POSITIVES",
    "Cohort",
    "cohorts",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equal_opportunity_difference",
    "equal_opportunity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "extremes",
    "measure",
    "selection_rate",
]


def _spread(rates: Floats) -> Floats:
    return np.asarray(rates.max(axis=-1) - rates.min(axis=-1))


def _ratio(rates: Floats) -> Floats:
    """The smallest by the largest; nan where all are 0, which meets no threshold."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(rates.min(axis=-1) / rates.max(axis=-1))


#: Name in the configuration -> formula over the last axis.
FORMULAS: dict[str, Callable[[Figures], Floats]] = {
    "demographic_parity_difference": lambda f: _spread(f.selection_rate),
    "demographic_parity_ratio": lambda f: _ratio(f.selection_rate),
    "equalized_odds_difference": lambda f: np.maximum(_spread(f.tpr), _spread(f.fpr)),
    "equalized_odds_ratio": lambda f: np.minimum(_ratio(f.tpr), _ratio(f.fpr)),
    "equal_opportunity_difference": lambda f: _spread(f.tpr),
    "equal_opportunity_ratio": lambda f: _ratio(f.tpr),
    "error_rate": lambda f: np.asarray(f.error.max(axis=-1)),
    "error_rate_difference": lambda f: _spread(f.error),
    "log_loss": lambda f: np.asarray(f.log_loss.max(axis=-1)),
    "log_loss_difference": lambda f: _spread(f.log_loss),
    "calibration_gap": lambda f: np.asarray(np.abs(f.calibration).max(axis=-1)),
}

#: Of all others a larger figure is the less fair one.
HIGHER_IS_FAIRER = frozenset(name for name in FORMULAS if name.endswith("_ratio"))

#: The figures that a measure is made of, as attributes of :class:`Cohort`.
_MADE_OF = {
    "demographic_parity": ("selection_rate",),
    "equalized_odds": ("tpr", "fpr"),
    "equal_opportunity": ("tpr",),
    "error_rate": ("accuracy",),
    "log_loss": ("log_loss",),
    "calibration_gap": ("calibration",),
}


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
    return _over("demographic_parity_difference", cohorts(scores, labels, groups, threshold))


def demographic_parity_ratio(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """
    Return the smallest by the largest selection rate over all cohorts: 1 is parity.

    nan when nobody is selected, which meets no threshold.
    """
    return _over("demographic_parity_ratio", cohorts(scores, labels, groups, threshold))


def equalized_odds_difference(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """
    Return the larger of the true and the false positive rate difference over all cohorts: 0 is parity.

    :raises ValueError: for a cohort that lacks one of the two labels.
    """
    return _over("equalized_odds_difference", cohorts(scores, labels, groups, threshold))


def equalized_odds_ratio(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """
    Return the smaller of the true and the false positive rate ratio over all cohorts: 1 is parity.

    :raises ValueError: for a cohort that lacks one of the two labels.
    """
    return _over("equalized_odds_ratio", cohorts(scores, labels, groups, threshold))


def equal_opportunity_difference(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """
    Return the largest minus the smallest true positive rate over all cohorts: 0 is parity.

    :raises ValueError: for a cohort without label 1.
    """
    return _over("equal_opportunity_difference", cohorts(scores, labels, groups, threshold))


def equal_opportunity_ratio(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, threshold: float = 0.5
) -> float:
    """
    Return the smallest by the largest true positive rate over all cohorts: 1 is parity.

    :raises ValueError: for a cohort without label 1.
    """
    return _over("equal_opportunity_ratio", cohorts(scores, labels, groups, threshold))


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
    require_known(name)
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
    return _over(name, gated)


def require_known(name: str) -> None:
    """:raises ValueError: for a name that is no measure's."""
    if name not in FORMULAS:
        raise ValueError(f"{name!r} is not a fairness measure: choose from {', '.join(FORMULAS)}")


def extremes(name: str, table: Sequence[Cohort]) -> str:
    """The cohorts that a measure rests on, in words: ``"tpr Female 0.51, Male 0.64"``; the gated ones only."""
    gated = [cohort for cohort in table if cohort.gated]
    kind = next(kind for kind in _MADE_OF if name.startswith(kind))
    told = []
    for figure in _MADE_OF[kind]:
        ordered = sorted(gated, key=lambda cohort: float(getattr(cohort, figure)))
        low, high = ordered[0], ordered[-1]
        what = figure.replace("_", " ")
        told.append(
            f"{what} {low.name} {getattr(low, figure):.3f}, {high.name} {getattr(high, figure):.3f}"
        )
    return "; ".join(told)


def _over(name: str, table: Sequence[Cohort]) -> float:
    if name.startswith("equal"):
        _require(table, "tpr", 1)
    if name.startswith("equalized_odds"):
        _require(table, "fpr", 0)
    return float(FORMULAS[name](Figures.of(table)))


def _require(table: Sequence[Cohort], rate: str, label: int) -> None:
    """Refuse an undefined rate: fairlearn counts it as 0, which reads as a finding."""
    for cohort in table:
        if np.isnan(getattr(cohort, rate)):
            raise ValueError(
                f"cohort {cohort.name!r} has no row with label {label}, so its {rate} is undefined: "
                "use measure(), which leaves small cohorts out"
            )
