"""
The two-sided tabular CUSUM chart of Page (1954), on a fixed target.

E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954) 100-115; tabular form and change-point
estimate as in D. C. Montgomery, Introduction to Statistical Quality Control, section 9.1; head start from
J. M. Lucas and R. B. Crosier, "Fast initial response for CUSUM quality-control schemes",
Technometrics 24 (1982) 199-205.
"""

from __future__ import annotations

import math

__all__ = ["PROGRESS_ALLOWANCE", "PROGRESS_INTERVAL", "CUSUMMonitor", "progress"]

#: Allowance k of the progress chart: log improvement per experiment that is never suspicious. With
#: ``PROGRESS_INTERVAL`` it stays silent on the public 126-experiment log of karpathy/autoresearch (H100,
#: March 2026: 2.9 % in all) and alarms at once on a 15 % step; real fixes of 14 % and more alarm too, so an
#: alarm asks for verification.
PROGRESS_ALLOWANCE = 0.005

#: Decision interval h of the progress chart: an alarm means that in some window of w experiments the
#: claimed gain exceeds h + k * w.
PROGRESS_INTERVAL = 0.10


class CUSUMMonitor:
    """
    Page's chart: accumulate deviations from ``target_mean`` beyond ``allowance_k``, alarm beyond ``threshold_h``.

    All three are in the metric's own unit. ``headstart`` (0 to h, commonly h/2) is where both arms start.
    An alarm does not reset the sums: the caller decides when with :meth:`reset`.
    """

    def __init__(
        self, target_mean: float, allowance_k: float, threshold_h: float, headstart: float = 0.0
    ) -> None:
        """:raises ValueError: for a value that is not finite, k < 0, h <= 0, a headstart outside 0 to h."""
        self.target_mean = _finite("target_mean", target_mean)
        self.allowance_k = _finite("allowance_k", allowance_k)
        self.threshold_h = _finite("threshold_h", threshold_h)
        self.headstart = _finite("headstart", headstart)
        if self.allowance_k < 0:
            raise ValueError(
                f"allowance_k {allowance_k!r} is negative: use half the shift to detect"
            )
        if self.threshold_h <= 0:
            raise ValueError(f"threshold_h {threshold_h!r} is not above 0: every run would alarm")
        if not 0 <= self.headstart <= self.threshold_h:
            raise ValueError(
                f"headstart {headstart!r} is outside 0 to threshold_h ({threshold_h!r}): use 0 or h/2"
            )
        self.reset()

    def reset(self) -> None:
        """Start afresh: both sums at the head start, no observation counted."""
        self.S_upper = self.headstart
        self.S_lower = self.headstart
        self.count = 0
        self.last_zero_upper = 0
        self.last_zero_lower = 0

    @property
    def last_zero(self) -> int:
        """
        The change-point estimate of the arm that stands higher: its last observation with a sum of zero.

        Counted from 1; 0 is the start. A change, if there is one, came after it.
        """
        return self.last_zero_upper if self.S_upper >= self.S_lower else self.last_zero_lower

    def update(self, observed_metric: float) -> bool:
        """
        Add one observation and say whether a sum now exceeds h (strictly).

        :raises ValueError: for NaN and infinities; the sums stay as they were.
        """
        deviation = _finite("observed_metric", observed_metric) - self.target_mean
        self.count += 1
        self.S_upper = max(0.0, self.S_upper + deviation - self.allowance_k)
        self.S_lower = max(0.0, self.S_lower - deviation - self.allowance_k)
        if self.S_upper == 0.0:
            self.last_zero_upper = self.count
        if self.S_lower == 0.0:
            self.last_zero_lower = self.count
        return self.S_upper > self.threshold_h or self.S_lower > self.threshold_h


def progress(reference_before: float, reference_after: float) -> float:
    """
    Return ln(after / before), the progress chart's input: 0 for a discard, negative for an improvement.

    The metric is minimised, so claimed progress fills ``S_lower`` and a worse incumbent ``S_upper``.

    :raises ValueError: unless both references are positive and finite; a logarithm needs that.
    """
    for name, value in (
        ("reference_before", reference_before),
        ("reference_after", reference_after),
    ):
        if _finite(name, value) <= 0:
            raise ValueError(
                f"{name} {value!r} is not above 0: the progress chart works on the logarithm, "
                "so choose a positive metric such as a loss"
            )
    return math.log(reference_after) - math.log(reference_before)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name} {value!r} is not finite: a chart takes measured numbers only")
    return float(value)
