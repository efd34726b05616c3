"""
The three control charts over a campaign, each Page's CUSUM on a series that is zero on average while all is well.

*Progress* watches the incumbent's improvement per experiment, *audit gap* how much more kept candidates gain on
validation than on the sealed audit split, *canary* re-runs of the incumbent. None is on the metric's level: against
a fixed target every honest campaign would alarm in the end.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .cusum import CUSUMMonitor, SelfStartingCUSUM, progress, threshold_for
from .selfstart import SelfStarting

if TYPE_CHECKING:
    from .records import Incumbent, Watch
    from .settings import Charts

__all__ = ["CanaryChart", "GapChart", "ProgressChart", "seed_gaps"]


class ProgressChart:
    """
    Two-sided CUSUM on the incumbent's change per experiment, target 0; improvements are negative.

    A change is ln(reference after / reference before), or their difference with ``unit = "raw"``.

    :param inputs: the campaign's inputs since the last alarm, oldest first; 0 for a discard.
    """

    def __init__(self, inputs: Sequence[float], settings: Charts, incumbent: Incumbent) -> None:
        self.inputs = tuple(inputs)
        self._settings = settings
        self._reference = incumbent.metric

    def monitor(self) -> CUSUMMonitor:
        """The chart's state after every experiment so far."""
        monitor = CUSUMMonitor(0.0, self._settings.allowance, self._settings.interval)
        for x in self.inputs:
            if monitor.update(x):
                # An alarm was dealt with when it fell; the chart started afresh.
                monitor.reset()
        return monitor

    def after(self, metric: float) -> CUSUMMonitor:
        """The chart's state if the incumbent's reference moved to ``metric``."""
        monitor = self.monitor()
        monitor.update(self.step(metric))
        return monitor

    def step(self, metric: float) -> float:
        """The input that this metric would give: 0 for one that is no better, which is never kept."""
        if self._reference is None:
            return 0.0
        return min(0.0, change(self._reference, metric, self._settings))

    def would_alarm(self, metric: float | None) -> bool:
        """Whether moving the incumbent's reference to ``metric`` would alarm."""
        return metric is not None and self.monitor().update(self.step(metric))

    def explain(self, metric: float) -> str:
        """What moving the reference to ``metric`` does to the sums, in one sentence."""
        step, monitor = self.step(metric), self.after(metric)
        if self._settings.unit == "raw":
            what, figure = "improvement", f"{0.0 - step:+.6g}"
        else:
            what, figure = "log improvement", f"{0.0 - step:+.1%}"
        return (
            f"CUSUM of {what}: step {figure}, S_upper {monitor.S_upper:.3f}, "
            f"S_lower {monitor.S_lower:.3f}, decision interval {monitor.threshold_h:g}"
        )


def change(before: float, after: float, settings: Charts) -> float:
    """The progress chart's input for a reference that moves from ``before`` to ``after``."""
    return after - before if settings.unit == "raw" else progress(before, after)


class GapChart:
    """
    Upper CUSUM on the audit gaps of kept candidates, in standard deviations of all candidates' gaps.

    A gap is (gain on validation) - (gain on the audit split) of the same runs, so the noise of seeds cancels. While all
    is well it is zero on average. Its standard deviation about zero is learned on the way from every candidate that was
    confirmed, kept or not, as Hawkins (1987) does it but with a known mean: the n-th gap is held against the n - 1
    before it, U_n = Phi^-1(T_{n-1}(x_n / s_{n-1})). A mean that is learned as well would take a leak early in a
    campaign for the process. The baseline's runs come first (:func:`seed_gaps`); two gaps teach and cannot alarm.
    """

    def __init__(self, watch: Watch, settings: Charts, scale: float) -> None:
        """:param scale: |reference|: a gap below a millionth of it is none."""
        # One-sided: a gap that shrinks is good news.
        self._chart = CUSUMMonitor(
            0.0, settings.gap_allowance, settings.gap_interval, two_sided=False
        )
        self._none = 1e-6 * scale
        self._usual = SelfStarting(mean=0.0)
        self._seqs: list[int] = []
        for gap, kept, seq in zip(watch.gaps, watch.gaps_kept, watch.gap_seqs, strict=True):
            self.add(gap, kept=kept, seq=seq)

    def add(self, gap: float, *, kept: bool, seq: int) -> bool:
        """Count one more confirmed candidate; whether the sum of the kept ones now exceeds h."""
        score = self._usual.score(gap) if abs(gap) > self._none else 0.0
        self._usual.learn(gap)
        if not kept:
            return False
        self._seqs.append(seq)
        return self._chart.update(score or 0.0)

    @property
    def last_zero(self) -> int:
        """Position of the last kept candidate at which the sum was zero; -1: none, the sum rose from the start."""
        count = self._chart.last_zero_upper
        return self._seqs[count - 1] if count else -1

    def explain(self) -> str:
        """The sum, in one sentence."""
        chart = self._chart
        return (
            "CUSUM of the audit gap (validation improves, the sealed audit split does not follow): "
            f"S_upper {chart.S_upper:.2f}, decision interval {chart.threshold_h:g}"
        )


def seed_gaps(runs: Sequence[tuple[float | None, float | None]]) -> tuple[float, ...]:
    """
    Two gaps, about zero, that stand as far apart as seeds move those of the baseline's runs.

    Two, so that a few gaps of real mutations, which may differ by more than seeds do, soon outweigh them.

    :param runs: figures of each run on validation and on the audit split.
    """
    gaps = [audit - value for value, audit in runs if value is not None and audit is not None]
    # Without noise they say nothing, and any other gap would seem infinitely improbable.
    if len(gaps) < max(2, len(runs)) or max(gaps) - min(gaps) <= 1e-9 * max(map(abs, gaps)):
        return ()
    half = statistics.stdev(gaps) / math.sqrt(2)
    return half, -half


class CanaryChart:
    """
    Two-sided self-starting CUSUM on re-runs of the incumbent: drift of machine, data or clock.

    Its decision interval makes a false alarm within the campaign about 5 % likely.
    """

    def __init__(self, watch: Watch, every: int) -> None:
        """:param every: proposals between two canaries."""
        horizon = max(1, math.ceil(watch.horizon / every))
        self._chart = SelfStartingCUSUM(0.5, threshold_for(horizon))
        for residual in watch.canaries:
            self._chart.update(residual)

    def add(self, residual: float) -> bool:
        """Count one more re-run; whether a sum now exceeds h."""
        return self._chart.update(residual)

    @property
    def sums(self) -> tuple[float, float]:
        """S_upper and S_lower."""
        return self._chart.S_upper, self._chart.S_lower

    def explain(self) -> str:
        """The sums, in one sentence."""
        upper, lower = self.sums
        return (
            f"CUSUM of the incumbent's re-runs: S_upper {upper:.2f}, S_lower {lower:.2f}, decision interval "
            f"{self._chart.threshold_h:.2f}"
        )
