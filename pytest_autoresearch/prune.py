"""
Early kill: whether a run that still trains is beyond recovery, by its learning curve.

The curve is the run's own word for its training loss, so it is held against the past runs of the campaign only as
far as these show that the figure tells where a run ends: at a checkpoint (a share of the compute budget) the final
metric is regressed on the training loss there. The run is stopped if even the upper bound of its gain over the
incumbent is below what the screening run must gain. The bound is built so that it errs towards letting runs live:

* without a relation between curve and metric (Kendall's tau, one-sided) nothing is predicted; the slope is the
  median of all pairwise slopes and its standard error follows from their confidence interval (Sen 1968, section 6);
* the prediction starts from the incumbent's own curves and reference, so that only the difference to the incumbent
  enters, and not what losses and metrics were long ago;
* a loss beyond what is usual among past runs is taken as the largest usual one: nothing is extrapolated, and a run
  that has exploded does not set the slope;
* the scatter about the prediction is that of Student's prediction interval, and no run so far ended better than the
  bound says; a run that ended far worse than predicted counts no more than the best one.

What the bound rests on: a candidate is to past candidates as these are to each other. A mutation that changes what
the training loss means is not, and is no business of this module: see :mod:`pytest_autoresearch.early_kill`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, fmean, median

from .distributions import t_quantile
from .records import Curve

__all__ = ["CHECKPOINTS", "Forecast", "Past", "forecast", "level_at"]

CHECKPOINTS = (0.3, 0.5)
"""Shares of the compute budget at which a run may be stopped."""
ERROR = 0.005
"""Probability that a run which would have passed the screen is stopped, at most, over all checkpoints."""
LEAST = 8
"""Past runs below which nothing is predicted."""
MOST = 64
"""The latest past runs that count: pairs grow with the square."""
WINDOW = 0.1
"""Share of the budget before a checkpoint whose points count: single batches are noisy."""
USUAL = 5.0
"""Standard deviations, by the median absolute deviation, up to which a training loss is usual."""

RELATION = 0.995
"""One-sided confidence that training loss and metric are related at all, below which nothing is predicted."""
_SURE = NormalDist().inv_cdf(RELATION)

Past = Sequence[tuple[Curve, float]]
"""Past runs, oldest first: learning curve and final metric."""


@dataclass(frozen=True)
class Forecast:
    """What past runs say about gains over the incumbent, from the training loss at one checkpoint."""

    level: float
    """Training loss of the incumbent at the checkpoint."""
    slope: float
    """Metric per training loss, above 0."""
    slope_error: float
    """Standard error of the slope."""
    worst: float
    """Largest training loss that is usual."""
    scatter: float
    """Standard deviation of a run's metric about the prediction, the incumbent's level included."""
    quantile: float
    """Of Student's distribution, at the level of the bound."""

    def best_gain(self, level: float) -> float:
        """Upper bound of the gain over the incumbent's reference of a run with this training loss."""
        excess = min(level, self.worst) - self.level
        return self.quantile * math.hypot(self.scatter, self.slope_error * excess) - (
            self.slope * excess
        )


def level_at(curve: Curve, checkpoint: float) -> float | None:
    """
    Training loss at a share of the budget: the median of the points in the window before it.

    Between two points, where the window has none, on the line through them. None for a curve that has not
    reached the checkpoint, or starts after it.
    """
    if not curve or curve[-1][0] < checkpoint:
        return None
    window = [loss for share, loss in curve if checkpoint - WINDOW <= share <= checkpoint]
    if window:
        return median(window)
    after = next(index for index, (share, _) in enumerate(curve) if share > checkpoint)
    if after == 0:
        return None
    (low, start), (high, end) = curve[after - 1], curve[after]
    return start + (end - start) * (checkpoint - low) / (high - low)


def forecast(
    past: Past, incumbent: Sequence[Curve], checkpoint: float, *, error: float = ERROR
) -> Forecast | None:
    """
    What ``past`` allows to predict at a checkpoint; None where it is too little, or tells nothing.

    :param incumbent: curves of the incumbent's own runs.
    :param error: probability of a wrong stop at this checkpoint, at most.
    """
    own = [level for curve in incumbent if (level := level_at(curve, checkpoint)) is not None]
    known = [
        (level, metric)
        for curve, metric in past[-MOST:]
        if (level := level_at(curve, checkpoint)) is not None
    ]
    if not own or len(known) < LEAST:
        return None
    center = median(level for level, _ in known)
    spread = median(abs(level - center) for level, _ in known) * 1.4826
    usual = [(level, metric) for level, metric in known if level - center <= USUAL * spread]
    if len(usual) < LEAST:
        return None
    slopes = _slopes(usual)
    rank = _rank(len(usual), len(slopes))
    if rank < 1 or slopes[rank - 1] <= 0:
        return None
    slope = median(slopes)
    base = median(metric - slope * level for level, metric in usual)
    worst = max(level for level, _ in usual)
    # A run that ends far worse than predicted says nothing about how much better one may end.
    best = max(base + slope * min(level, worst) - metric for level, metric in known)
    squares = math.fsum(max(-best, base + slope * level - metric) ** 2 for level, metric in usual)
    quantile = t_quantile(1 - error, len(usual) - 2)
    scatter = max(math.sqrt(squares / (len(usual) - 2)), best / quantile)
    return Forecast(
        level=fmean(own),
        slope=slope,
        slope_error=(slopes[-rank] - slopes[rank - 1]) / (2 * _SURE),
        worst=worst,
        scatter=scatter * math.sqrt(1 + 1 / len(own)),
        quantile=quantile,
    )


def _slopes(points: Sequence[tuple[float, float]]) -> list[float]:
    """Slopes of all pairs with different levels, in order of size."""
    return sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0])


def _rank(n: int, slopes: int) -> int:
    """Place of the lower confidence limit among the slopes, by the normal limit of Kendall's statistic."""
    return math.floor((slopes - _SURE * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)) / 2)
