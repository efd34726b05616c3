"""
The keep rule: a candidate must beat the incumbent by more than the measured noise of a run.

One screening run must clear the margin; then ``confirm`` runs on fresh seeds must clear theirs, without the
screening run, which was selected for being good. The margin is Student's one-sided t interval for the
difference of two means with a common standard deviation: t(1 - alpha, df) * sigma * sqrt(1/m + 1/n).
Metrics are minimised; a positive gain is an improvement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["KeepRule", "Reference", "Step", "decide", "t_quantile"]

#: Smallest sigma, as a share of the mean: below the six decimals that results.tsv shows, above rounding.
#: A deterministic metric repeats bit for bit; without a floor its margin would be 0 and any last digit a gain.
SIGMA_FLOOR = 1e-6


@dataclass(frozen=True)
class Reference:
    """What the incumbent's metric is known to be."""

    mean: float
    """Mean over ``n`` runs."""
    sigma: float
    """Standard deviation over seeds of one run's metric, above 0."""
    n: int
    """Runs behind ``mean``."""
    df: int
    """Degrees of freedom behind ``sigma``: baseline runs - 1. A keep changes ``n``, not this."""

    def __post_init__(self) -> None:
        _check_finite("the reference mean", self.mean)
        _check_finite("sigma", self.sigma)
        if self.sigma <= 0:
            raise ValueError(f"sigma {self.sigma!r} is not above 0: build it with from_runs")
        if self.n < 1 or self.df < 1:
            raise ValueError(
                f"a reference needs n >= 1 and df >= 1, got n={self.n!r}, df={self.df!r}"
            )

    @classmethod
    def from_runs(cls, values: Sequence[float]) -> Reference:
        """
        Measure the baseline: mean and sample standard deviation of its runs, one per seed.

        :raises ValueError: for fewer than two runs or a metric that is not finite.
        """
        if len(values) < 2:
            raise ValueError(
                f"{len(values)} baseline run(s) show no noise: measure at least 2, better 4"
            )
        for value in values:
            _check_finite("the metric", value)
        mean = statistics.fmean(values)
        floor = SIGMA_FLOOR * (abs(mean) or 1.0)
        sigma = max(statistics.stdev(values), floor)
        return cls(mean=mean, sigma=sigma, n=len(values), df=len(values) - 1)


@dataclass(frozen=True)
class KeepRule:
    """How sure a keep must be."""

    alpha: float = 0.05
    """One-sided level of each margin, above 0 and below 0.5."""
    confirm: int = 2
    """Runs on fresh seeds that must confirm; 0: the screening run decides alone."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha {self.alpha!r} is outside 0 to 0.5: 0.05 is the usual level")
        if self.confirm < 0:
            raise ValueError(f"confirm {self.confirm!r} is negative: use 0 for no confirmation")


@dataclass(frozen=True)
class Step:
    """What to do next with the candidate, and why."""

    action: Literal["measure", "keep", "discard"]
    """``measure``: run fresh seeds and decide again with their metrics."""
    gain: float
    """Estimated improvement in the metric's unit; of the confirmations once they are complete."""
    margin: float
    """What ``gain`` was held against, same unit."""
    message: str
    """One line for people, in sigma of one run."""
    reference_after: Reference
    """The incumbent's reference after this step; a new one after a keep only."""


def decide(
    reference: Reference,
    screening: float,
    confirmations: Sequence[float],
    rule: KeepRule,
) -> Step:
    """
    Apply the rule to the runs so far: the screening run's metric, then those of the fresh seeds.

    Call it first with no confirmations; as long as it says ``measure``, run one more fresh seed.

    :raises ValueError: for a metric that is not finite, or more confirmations than the rule asks for,
        which would let a caller draw until it likes the result.
    """
    for value in (screening, *confirmations):
        _check_finite("the metric", value)
    if len(confirmations) > rule.confirm:
        raise ValueError(
            f"{len(confirmations)} confirmations were given, the rule takes exactly {rule.confirm}: "
            "set confirm in the rule, not per candidate"
        )
    step = _judge(reference, [screening], rule)
    if step.action == "discard" or rule.confirm == 0:
        return step
    if len(confirmations) < rule.confirm:
        left = rule.confirm - len(confirmations)
        seeds = "1 more fresh seed" if left == 1 else f"{left} fresh seeds"
        message = f"{step.message}; {seeds} to confirm"
        return Step("measure", step.gain, step.margin, message, reference)
    return _judge(reference, confirmations, rule, fresh="fresh ")


def _judge(reference: Reference, values: Sequence[float], rule: KeepRule, fresh: str = "") -> Step:
    """Hold the mean of ``values`` against the reference."""
    mean = statistics.fmean(values)
    gain = reference.mean - mean
    standard_error = reference.sigma * math.sqrt(1 / len(values) + 1 / reference.n)
    margin = t_quantile(1 - rule.alpha, reference.df) * standard_error
    kept = gain > margin
    need = "needed" if kept else "needs"
    found, needed = _distinct(gain / reference.sigma, margin / reference.sigma)
    runs = f"{len(values)} {fresh}run" + ("s" if len(values) > 1 else "")
    direction = "better" if gain >= 0 else "worse"
    message = f"{found} sigma {direction} on {runs}; {need} {needed} sigma"
    if kept:
        after = Reference(mean, reference.sigma, len(values), reference.df)
        return Step("keep", gain, margin, message, after)
    return Step("discard", gain, margin, message, reference)


def _distinct(gain: float, margin: float) -> tuple[str, str]:
    """Print |gain| and the margin with one decimal, or as many as tell them apart."""
    for digits in range(1, 7):
        found, needed = f"{abs(gain):.{digits}f}", f"{margin:.{digits}f}"
        if found != needed:
            break
    return found, needed


def t_quantile(p: float, df: int) -> float:
    """
    Return the quantile of Student's t distribution, 0.5 <= p < 1, by bisection on its exact distribution.

    For whole degrees of freedom the incomplete beta function is a finite sum (Abramowitz and Stegun 1964,
    26.7.3 and 26.7.4) in theta = atan(t / sqrt(df)), so no approximation enters.
    """
    if not 0.5 <= p < 1 or df < 1:
        raise ValueError(f"t_quantile takes 0.5 <= p < 1 and df >= 1, got p={p!r}, df={df!r}")
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if (1 + _t_central(middle, df)) / 2 < p:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan(middle)


def _t_central(theta: float, df: int) -> float:
    """P(|T| <= sqrt(df) * tan(theta))."""
    cosine = math.cos(theta)
    odd = df % 2
    term = cosine if odd else 1.0
    total = 0.0
    for i in range(odd + 1, df, 2):
        total += term
        term *= cosine * cosine * i / (i + 1)
    total *= math.sin(theta)
    return (theta + total) * 2 / math.pi if odd else total


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(
            f"{name} {value!r} is not finite: such a run has failed and cannot be compared"
        )
