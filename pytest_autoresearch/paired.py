"""
The keep rule where no seed changes a metric: models are compared example by example.

The noise is then not the seed's but the choice of the examples: the standard deviation of the mean paired difference,
by the bootstrap (B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 6; paired as in
section 16.4). A gain must exceed ``margin`` of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .keep import Reference, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RESAMPLES", "bootstrap_deviation", "paired_decision"]

#: Bootstrap samples: the deviation is then known to 1 / sqrt(2 B), 1.6 %.
RESAMPLES = 2000
#: Examples drawn at a time, so that memory stays small whatever their number, and in all.
_PIECE = 1 << 20
_MOST = 100_000_000


def paired_decision(
    before: Any,
    after: Any,
    *,
    reference: Reference,
    metric: float,
    seed: int,
    margin: float = 1.0,
) -> Step:
    """
    Keep the candidate if its examples are better on average by more than ``margin`` standard deviations.

    :param before: losses ``[n]`` of the incumbent, lower is better. :param after: those of the candidate.
    :param metric: the candidate's objective; a keep must improve it, too.
    :param seed: of the bootstrap's draws: the same figures lead to the same decision.
    :raises ValueError: for different shapes, fewer than two examples, values that are not finite.
    """
    import numpy as np

    given = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if given[0].ndim != 1 or given[0].shape != given[1].shape or len(given[0]) < 2:
        raise ValueError(
            f"losses of shapes {given[0].shape!r} and {given[1].shape!r} cannot be paired: both must be [n] of "
            "the same n >= 2 examples"
        )
    differences = given[0] - given[1]
    if not np.isfinite(differences).all() or not math.isfinite(metric):
        raise ValueError("losses and metric must be finite: such a run has failed")
    gain, n = float(differences.mean()), len(differences)
    deviation = bootstrap_deviation(differences, seed)
    needed = margin * deviation
    kept = gain > needed and metric < reference.mean
    word = "better" if gain >= 0 else "worse"
    if kept or gain > needed:
        message = f"{abs(gain):.6g} {word} on {n} paired examples; needed {needed:.6g}"
        if not kept:
            message += "; but the objective itself is no better"
    else:
        message = f"{abs(gain):.6g} {word} on {n} paired examples; needs more than {needed:.6g}"
    behind = Reference(metric, reference.sigma, reference.n, reference.df) if kept else reference
    interval = (gain - needed, gain + needed)
    return Step("keep" if kept else "discard", gain, needed, message, behind, interval, 0)


def bootstrap_deviation(differences: NDArray[Any], seed: int, resamples: int = RESAMPLES) -> float:
    """Standard deviation of the mean of ``differences [n]`` over bootstrap samples."""
    import numpy as np

    draw = np.random.default_rng(seed)
    n = len(differences)
    resamples = max(200, min(resamples, _MOST // n))
    means = np.empty(resamples)
    rows = max(1, _PIECE // n)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        chosen = draw.integers(0, n, size=(count, n))
        means[start : start + count] = differences[chosen].mean(axis=1)
    return float(means.std(ddof=1))
