"""
The keep decision for a deterministic metric: seeds say nothing, but the validation examples were drawn once too.

The same examples are scored before and after, so that the mean of their paired differences has a standard deviation
of its own: that of another draw of examples, found by the bootstrap (B. Efron, Annals of Statistics 7 (1979) 1-26).
A gain must exceed ``margin`` of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .keep import worded

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PairedStep", "bootstrap_deviation", "paired_decision"]

#: Bootstrap replicates: they find a standard deviation to 1.6 %.
REPLICATES = 2000

#: Fewest replicates (5 %), for which many examples make up.
_FEWEST_REPLICATES = 200
#: Draws in all, and at a time: some seconds, and 16 MiB.
_DRAWS, _PIECE = 200_000_000, 1_000_000


@dataclass(frozen=True)
class PairedStep:
    """What becomes of the candidate, and why; fields as of :class:`.keep.Step`."""

    action: Literal["keep", "discard"]
    gain: float
    """Mean paired improvement per example, in the loss's unit."""
    margin: float
    """What ``gain`` was held against: never kept unless above it."""
    message: str
    """One line for people, in standard deviations of the mean difference."""
    interval: tuple[float, float]
    """``gain`` plus and minus two standard deviations."""
    deviation: float
    """Bootstrap standard deviation of the mean difference; 0 where every example changed alike."""


def paired_decision(
    before_losses: Sequence[float] | ArrayLike,
    after_losses: Sequence[float] | ArrayLike,
    *,
    seed: int,
    margin: float = 1.0,
) -> PairedStep:
    """
    Keep the candidate if the mean loss over the same examples falls by more than ``margin`` standard deviations.

    :param before_losses: the incumbent's loss per example, shape (n,), n >= 2.
    :param after_losses: the candidate's, the same examples in the same order.
    :param seed: of the bootstrap; the same seed gives the same decision.
    :raises ValueError: for different shapes, fewer than two examples, losses that are not finite, or a negative
        margin.
    """
    import numpy as np

    before, after = np.asarray(before_losses, float), np.asarray(after_losses, float)
    if before.ndim != 1 or before.shape != after.shape or before.size < 2:
        raise ValueError(
            f"losses of shapes {before.shape!r} and {after.shape!r} cannot be paired: give one loss for each of the "
            "same 2 or more examples"
        )
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ValueError("a loss is not finite: such a run has failed and cannot be compared")
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin {margin!r} is not 0 or more: 1 standard deviation is usual")
    differences = before - after
    gain = float(differences.mean())
    deviation = bootstrap_deviation(differences, seed)
    needed = margin * deviation
    kept = gain > needed
    if deviation:
        found, held = worded(gain / deviation, margin)
        message = f"{found.replace('sigma', 'sd')} on {before.size} paired examples; needed {held}"
    elif gain:
        message = f"{abs(gain):.6g} {'better' if kept else 'worse'} on every one of {before.size} examples"
    else:
        message = f"no different on any of {before.size} examples"
    interval = (gain - 2 * deviation, gain + 2 * deviation)
    return PairedStep("keep" if kept else "discard", gain, needed, message, interval, deviation)


def bootstrap_deviation(differences: NDArray[Any], seed: int) -> float:
    """
    Standard deviation of the mean of ``differences``, shape (n,), over draws of n examples with replacement.

    In pieces, so that memory stays small for any n. It estimates sd(differences) / sqrt(n).
    """
    import numpy as np

    n = differences.size
    if np.ptp(differences) == 0:
        return 0.0
    rng = np.random.default_rng(seed)
    replicates = max(_FEWEST_REPLICATES, min(REPLICATES, _DRAWS // n))
    # About the mean, so that a large offset costs no digits.
    centred = differences - differences.mean()
    means = np.empty(replicates)
    rows = max(1, _PIECE // n)
    for start in range(0, replicates, rows):
        count = min(rows, replicates - start)
        means[start : start + count] = centred[rng.integers(n, size=(count, n))].mean(axis=1)
    return float(means.std(ddof=1))
