"""
The control chart over a campaign: the incumbent's log improvement per experiment.

The chart is on the improvement, not on the metric's level: against a fixed target every honest campaign
would alarm in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .cusum import CUSUMMonitor, progress

if TYPE_CHECKING:
    from .config import Charts
    from .records import Incumbent

__all__ = ["ProgressChart"]


class ProgressChart:
    """
    Two-sided CUSUM on ln(reference after / reference before), target 0, one input per experiment.

    :param inputs: the campaign's inputs so far, oldest first; 0 for a discard.
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

    def step(self, metric: float) -> float:
        """The input that this metric would give: 0 for one that is no better, which is never kept."""
        return 0.0 if self._reference is None else min(0.0, progress(self._reference, metric))

    def would_alarm(self, metric: float | None) -> bool:
        """Whether moving the incumbent's reference to ``metric`` would alarm."""
        return metric is not None and self.monitor().update(self.step(metric))

    def explain(self, metric: float) -> str:
        """What moving the reference to ``metric`` does to the sums, in one sentence."""
        monitor = self.monitor()
        step = self.step(metric)
        monitor.update(step)
        return (
            f"CUSUM of log improvement: step {0.0 - step:+.1%}, S_upper {monitor.S_upper:.3f}, "
            f"S_lower {monitor.S_lower:.3f}, decision interval {monitor.threshold_h:g}"
        )
