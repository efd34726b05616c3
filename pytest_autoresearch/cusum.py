"""
The two-sided tabular CUSUM chart of Page (1954), and what one needs to choose and read it.

E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954) 100-115; tabular form and change-point
estimate as in D. C. Montgomery, Introduction to Statistical Quality Control, section 9.1; head start from
J. M. Lucas and R. B. Crosier, "Fast initial response for CUSUM quality-control schemes",
Technometrics 24 (1982) 199-205.

    monitor = CUSUMMonitor(target_mean=2.31, allowance_k=0.5 * sigma, threshold_h=threshold_for(100) * sigma)
    if monitor.update(metric):
        print("changed after observation", monitor.last_zero)
"""

from __future__ import annotations

import math

from .runlength import alarm_probability, average_run_length, threshold_for
from .selfstart import SelfStarting, check_finite

__all__ = [
    "PROGRESS_ALLOWANCE",
    "PROGRESS_INTERVAL",
    "CUSUMMonitor",
    "SelfStartingCUSUM",
    "alarm_probability",
    "average_run_length",
    "progress",
    "threshold_for",
]

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

        S_upper = max(0, S_upper + (x - target_mean) - k)
        S_lower = max(0, S_lower - (x - target_mean) - k)

    All three are in the metric's own unit. ``headstart`` (0 to h, commonly h/2) is where the sums start.
    An alarm does not reset the sums: the caller decides when with :meth:`reset`.

    :param two_sided: False for the upper arm alone; ``S_lower`` then stays 0.
    """

    def __init__(
        self,
        target_mean: float,
        allowance_k: float,
        threshold_h: float,
        headstart: float = 0.0,
        *,
        two_sided: bool = True,
    ) -> None:
        """:raises ValueError: for a value that is not finite, k < 0, h <= 0, a headstart outside 0 to h."""
        self.target_mean = check_finite("target_mean", target_mean)
        self.allowance_k = check_finite("allowance_k", allowance_k)
        self.threshold_h = check_finite("threshold_h", threshold_h)
        self.headstart = check_finite("headstart", headstart)
        self.two_sided = two_sided
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
        """Start afresh: the sums at the head start, no observation counted."""
        self.S_upper = self.headstart
        self.S_lower = self.headstart if self.two_sided else 0.0
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
        deviation = check_finite("observed_metric", observed_metric) - self.target_mean
        self.S_upper = max(0.0, self.S_upper + deviation - self.allowance_k)
        if self.two_sided:
            self.S_lower = max(0.0, self.S_lower - deviation - self.allowance_k)
        self._count()
        return self.S_upper > self.threshold_h or self.S_lower > self.threshold_h

    def _count(self) -> None:
        """Count one observation, after the sums have taken it."""
        self.count += 1
        if self.S_upper == 0.0:
            self.last_zero_upper = self.count
        if self.S_lower == 0.0:
            self.last_zero_lower = self.count


class SelfStartingCUSUM(CUSUMMonitor):
    """
    The chart for a process of unknown mean and standard deviation (Hawkins 1987, see :mod:`.selfstart`).

    ``allowance_k``, ``threshold_h`` and ``headstart`` are in standard deviations. :meth:`update` scores, learns
    and accumulates; taken one by one, the three steps serve a chart that learns from all observations and
    accumulates some. :meth:`reset` sets the sums back and keeps what was learned; ``process.forget()`` does the rest.

    :ivar process: mean and standard deviation learned so far.
    """

    def __init__(
        self,
        allowance_k: float = 0.5,
        threshold_h: float = 5.0,
        headstart: float = 0.0,
        *,
        two_sided: bool = True,
    ) -> None:
        """:raises ValueError: as :class:`CUSUMMonitor`."""
        super().__init__(0.0, allowance_k, threshold_h, headstart, two_sided=two_sided)
        self.process = SelfStarting()

    def update(self, observed_metric: float) -> bool:
        """
        Add one observation and say whether a sum now exceeds h (strictly); never for the first two.

        :raises ValueError: for NaN, infinities and values too large to square; nothing is counted then.
        """
        score = self.score(observed_metric)
        self.learn(observed_metric)
        return self.accumulate(score)

    def score(self, observed_metric: float) -> float | None:
        """The standard normal value of one more observation; None while fewer than two are learned."""
        return self.process.score(observed_metric)

    def learn(self, observed_metric: float) -> None:
        """Add one observation to what is known of mean and standard deviation; the sums stay."""
        self.process.learn(observed_metric)

    def accumulate(self, score: float | None) -> bool:
        """Add one score to the sums and say whether one now exceeds h; None is counted and changes neither."""
        if score is None:
            self._count()
            return False
        return super().update(score)


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
        if check_finite(name, value) <= 0:
            raise ValueError(
                f"{name} {value!r} is not above 0: the progress chart works on the logarithm, "
                "so choose a positive metric such as a loss"
            )
    return math.log(reference_after) - math.log(reference_before)
