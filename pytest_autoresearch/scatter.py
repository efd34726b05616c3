"""
Is a candidate noisier than the incumbent? The variance ratio test, and the standard error that follows from it.

Luck reaches further in a noisier candidate than the incumbent's sigma says. Where the scatter of the candidate's
runs is significantly larger, it takes sigma's place for the candidate's mean (B. L. Welch, Biometrika 34 (1947)
28-35; degrees of freedom after F. E. Satterthwaite, Biometrics Bulletin 2 (1946) 110-114).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .distributions import t_tail

__all__ = ["Scatter", "larger_scatter", "squares", "standard_error", "variance_ratio_tail"]

#: Level of the test: one in twenty candidates that are as noisy as the incumbent meets a wider margin.
NOISIER_ALPHA = 0.05


@dataclass(frozen=True)
class Scatter:
    """The noise of a candidate's own runs."""

    sigma: float
    """Standard deviation of one run, in the metric's unit."""
    df: int
    """Degrees of freedom behind it."""


def larger_scatter(values: Sequence[float], sigma: float, df: int) -> Scatter | None:
    """
    The scatter of two or more runs if it is significantly larger than ``sigma``, which has ``df``; else None.
    """
    own = len(values) - 1
    variance = squares(values) / own
    ratio = variance / sigma**2
    if ratio <= 1 or variance_ratio_tail(ratio, own, df) >= NOISIER_ALPHA:
        return None
    return Scatter(math.sqrt(variance), own)


def squares(values: Sequence[float]) -> float:
    """Sum of squared deviations from the mean; ``statistics.variance`` does it in fractions, 20 times slower."""
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def standard_error(
    sigma: float, df: int, n: int, m: int, own: Scatter | None
) -> tuple[float, float]:
    """
    Standard error of the difference between means of n and m runs, and its degrees of freedom.

    Pooled without ``own``; with it Welch's, m runs with that scatter.
    """
    if own is None:
        return sigma * math.sqrt(1 / m + 1 / n), df
    candidate, incumbent = own.sigma**2 / m, sigma**2 / n
    total = candidate + incumbent
    return math.sqrt(total), total**2 / (candidate**2 / own.df + incumbent**2 / df)


def variance_ratio_tail(ratio: float, df: int, df_below: float) -> float:
    """
    P(F > ratio) of the variance ratio with ``df`` over ``df_below`` degrees of freedom.

    The incomplete beta function I_x(df_below / 2, df / 2) at x = df_below / (df_below + df * ratio) (Abramowitz
    and Stegun 1964, 26.6.2), raised from 1/2 or 1 to df / 2 by their 26.5.16; at 1/2 it is Student's t.
    """
    above = df * ratio
    x, y = df_below / (df_below + above), above / (df_below + above)
    a, b = df_below / 2, 0.5 if df % 2 else 1.0
    total = 2 * t_tail(math.sqrt(above), df_below) if df % 2 else x**a
    while b < df / 2:
        log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
        total += math.exp(a * math.log(x) + b * math.log(y) - log_beta) / b
        b += 1
    return min(total, 1.0)
