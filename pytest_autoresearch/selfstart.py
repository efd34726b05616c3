"""
Standardised values of a process whose mean and standard deviation nobody knows beforehand.

D. M. Hawkins, "Self-starting CUSUM charts for location and scale", The Statistician 36 (1987) 299-315: the n-th
observation is held against the mean and the standard deviation of those before it,

    U_n = Phi^-1(T_{n-2}(sqrt((n-1)/n) (x_n - mean_{n-1}) / s_{n-1})),   n >= 3,

with T the distribution function of Student's t. For independent normal observations of whatever mean and variance
these values are independent and standard normal, exactly; so a chart on them has the run lengths of
:mod:`.runlength`. A chart on the estimates of a short baseline has not: it alarms many times too often.

What it costs: a shift soon after the start is taken for the mean before there is much to hold it against. Where the
mean is known, the n - 1 observations before give the standard deviation about it with n - 1 degrees of freedom:

    U_n = Phi^-1(T_{n-1}((x_n - mean) / s_{n-1})),   n >= 3.
"""

from __future__ import annotations

import math

from .distributions import normal_score

__all__ = ["LARGEST_SCORE", "SelfStarting"]

#: Beyond it a normal value has no probability that a double could hold.
LARGEST_SCORE = 38.0


class SelfStarting:
    """
    Mean and standard deviation learned as they come, and what they make of one more observation.

    Scoring and learning are separate steps, since a chart may learn from more observations than it accumulates.

    :param mean: where it is known; otherwise it is learned.
    """

    def __init__(self, mean: float | None = None) -> None:
        self._known = mean
        self.forget()

    def forget(self) -> None:
        """Start afresh: nothing is known of mean and standard deviation."""
        self.learned = 0
        self.mean = 0.0 if self._known is None else self._known
        self._squares = 0.0

    @property
    def sigma(self) -> float | None:
        """Standard deviation of the observations learned; None before the second."""
        freedom = self.learned - (self._known is None)
        return None if self.learned < 2 else math.sqrt(self._squares / freedom)

    def score(self, observation: float) -> float | None:
        """
        The standard normal value of one more observation, which is not learned; None before the third.

        Learned values that were all equal make any other one infinitely improbable: its value is +-38, the largest
        that a probability in double precision can express.

        :raises ValueError: for NaN and infinities.
        """
        check_finite("observation", observation)
        sigma = self.sigma
        if sigma is None:
            return None
        difference = observation - self.mean
        if difference == 0:
            return 0.0
        if sigma == 0:
            return math.copysign(LARGEST_SCORE, difference)
        n = self.learned + 1
        if self._known is None:
            score = normal_score(math.sqrt((n - 1) / n) * (difference / sigma), n - 2)
        else:
            score = normal_score(difference / sigma, n - 1)
        return max(-LARGEST_SCORE, min(LARGEST_SCORE, score))

    def learn(self, observation: float) -> None:
        """
        Add one observation to what is known.

        By the recursion of B. P. Welford (Technometrics 4, 1962, 419-420), which subtracts no large squares.

        :raises ValueError: for NaN, infinities and values too large to square; nothing is learned then.
        """
        check_finite("observation", observation)
        step = observation - self.mean
        mean = self.mean + (step / (self.learned + 1) if self._known is None else 0.0)
        squares = self._squares + step * (observation - mean)
        if not math.isfinite(squares):
            raise ValueError(
                f"observation {observation!r} is too large beside {self.mean!r}: its square overflows, so "
                "give the metric in another unit"
            )
        self.learned, self.mean, self._squares = self.learned + 1, mean, squares


def check_finite(name: str, value: float) -> float:
    """Return the value as a float; :raises ValueError: for NaN and infinities."""
    if not math.isfinite(value):
        raise ValueError(f"{name} {value!r} is not finite: a chart takes measured numbers only")
    return float(value)
