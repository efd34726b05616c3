"""
The keep rule: a candidate must beat the incumbent by more than the measured noise of a run.

One screening run must look better by ``screen`` sigma, or the candidate is dropped at the price of one run. Then
fresh seeds decide, at most ``confirm`` of them and without the screening run, which was selected for being good.
After each, the gain of the m fresh runs is held against margins t * sigma * sqrt(1/m + 1/n), n runs behind the
incumbent's mean: the candidate is dropped as soon as the gain is not above 0, kept early from the second one on if
it exceeds the margin of the small tail ``early_alpha``, and kept after the last if it exceeds that of ``alpha``.
Metrics are minimised; a positive gain is an improvement.

A candidate may be noisier than the incumbent, and luck then reaches further than sigma says: :mod:`.scatter` sees to
the standard error where the candidate's own runs scatter significantly more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from .distributions import t_quantile
from .scatter import Scatter, larger_scatter, squares, standard_error

__all__ = ["FEWEST", "PRESETS", "SIGMA_FLOOR", "KeepRule", "Reference", "Step", "decide"]

#: Smallest sigma, as a share of the mean: below the six decimals that results.tsv shows, above rounding.
#: A deterministic metric repeats bit for bit; without a floor its margin would be 0 and any last digit a gain.
SIGMA_FLOOR = 1e-6

#: Fresh seeds before an early keep: from one, luck in a noisier candidate cannot be told from a gain.
FEWEST = 2


@dataclass(frozen=True)
class Reference:
    """What the incumbent's metric is known to be."""

    mean: float
    """Mean over ``n`` runs."""
    sigma: float
    """Standard deviation over seeds of one run's metric, above 0; pooled within commits."""
    n: int
    """Runs behind ``mean``."""
    df: int
    """Degrees of freedom behind ``sigma``."""

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
        sigma = max(statistics.stdev(values), _floor(mean))
        return cls(mean=mean, sigma=sigma, n=len(values), df=len(values) - 1)

    @property
    def deterministic(self) -> bool:
        """Whether the runs repeated the figure: sigma is the floor and says nothing about noise."""
        return self.sigma <= _floor(self.mean)

    def with_canary(self, metric: float) -> Reference:
        """
        Pool one more run of the incumbent: the mean is over n + 1 runs, sigma learns one degree of freedom.

        :raises ValueError: for a metric that is not finite.
        """
        _check_finite("the metric", metric)
        share = 1 / (self.n + 1)
        mean = self.mean + share * (metric - self.mean)
        return self._learn(self.n * share * (metric - self.mean) ** 2, 1, mean, self.n + 1)

    def with_group(self, values: Sequence[float]) -> Reference:
        """
        Pool the scatter among m runs of one other candidate: sigma learns m - 1 degrees of freedom.

        :raises ValueError: for a metric that is not finite.
        """
        for value in values:
            _check_finite("the metric", value)
        if len(values) < 2:
            return self
        return self._learn(squares(values), len(values) - 1, self.mean, self.n)

    def _learn(self, deviations: float, df: int, mean: float, n: int) -> Reference:
        """Pool a sum of squared deviations with ``df`` degrees of freedom."""
        pooled = math.sqrt((self.df * self.sigma**2 + deviations) / (self.df + df))
        return Reference(mean, max(pooled, _floor(mean)), n, self.df + df)


@dataclass(frozen=True)
class KeepRule:
    """How sure a keep must be."""

    alpha: float = 0.08
    """One-sided level after the last confirming run, above 0 and below 0.5."""
    early_alpha: float = 0.01
    """One-sided level of a keep before the last confirming run; never more than ``alpha``."""
    screen: float = 1.0
    """Sigma by which the screening run must be better to be confirmed."""
    confirm: int = 3
    """Runs on fresh seeds that confirm a candidate, at most; 0: the screening run decides at ``alpha``."""

    def __post_init__(self) -> None:
        for name, level in (("alpha", self.alpha), ("early_alpha", self.early_alpha)):
            if not 0 < level < 0.5:
                raise ValueError(f"{name} {level!r} is outside 0 to 0.5: 0.08 is the usual level")
        if not math.isfinite(self.screen):
            raise ValueError(f"screen {self.screen!r} is not finite: 1 sigma is the usual value")
        if self.confirm < 0:
            raise ValueError(f"confirm {self.confirm!r} is negative: use 0 for no confirmation")


#: Named rules: what each costs and finds over whole campaigns is measured by benchmarks/decisions.py.
PRESETS: Mapping[str, KeepRule] = MappingProxyType(
    {
        "default": KeepRule(),
        "balanced": KeepRule(alpha=0.15, screen=0.75),
        "strict": KeepRule(alpha=0.01),
    }
)


@dataclass(frozen=True)
class Step:
    """What to do next with the candidate, and why."""

    action: Literal["measure", "keep", "discard"]
    """``measure``: run up to ``missing`` fresh seeds and decide again with their metrics."""
    gain: float
    """Estimated improvement in the metric's unit; of the fresh seeds alone as soon as there are any."""
    margin: float
    """What ``gain`` was held against, same unit: never kept unless above it."""
    message: str
    """One line for people, in sigma of one run."""
    reference_after: Reference
    """The incumbent's reference after this step: the candidate's after a keep; sigma learns from every group."""
    interval: tuple[float, float]
    """Two-sided interval for the true improvement at 1 - 2 alpha, same unit."""
    missing: int
    """Fresh seeds that the rule may still ask for; 0 once it has decided."""


def decide(
    reference: Reference,
    screening: float,
    confirmations: Sequence[float],
    rule: KeepRule,
) -> Step:
    """
    Apply the rule to the runs so far: the screening run's metric, then those of the fresh seeds, in order.

    Call it first with no confirmations; as long as it says ``measure``, run one to ``missing`` more fresh seeds.
    The first of them that settles the matter does so, however many ran at the same time: those behind it only
    sharpen the reference, so that runs in parallel change no decision.

    :raises ValueError: for a metric that is not finite, or more confirmations than the rule asks for,
        which would let a caller draw until it likes the result.
    """
    for value in (screening, *confirmations):
        _check_finite("the metric", value)
    if len(confirmations) > rule.confirm:
        raise ValueError(
            f"{len(confirmations)} confirmations were given, the rule takes at most {rule.confirm}: "
            "set confirm in the rule, not per candidate"
        )
    step = _screen(reference, screening, rule)
    if step.action != "measure" or not confirmations:
        return step
    look = _look(reference, screening, confirmations[:1], rule)
    while look.action == "measure" and look.m < len(confirmations):
        look = _look(reference, screening, confirmations[: look.m + 1], rule)
    after = reference
    if look.action == "discard":
        after = reference.with_group(confirmations)
    elif look.action == "keep":
        after = _incumbent(reference, look, confirmations)
    return Step(
        look.action,
        look.gain,
        look.margin,
        _sentence(reference, screening, look),
        after,
        (look.gain - look.half, look.gain + look.half),
        rule.confirm - look.m if look.action == "measure" else 0,
    )


def _screen(reference: Reference, screening: float, rule: KeepRule) -> Step:
    """Judge the screening run: worth fresh seeds or not; without any to come, the whole decision."""
    gain, sigma = reference.mean - screening, reference.sigma
    half = t_quantile(1 - rule.alpha, reference.df) * sigma * math.sqrt(1 + 1 / reference.n)
    interval = (gain - half, gain + half)
    if rule.confirm == 0:
        kept = gain > half
        found, needed = _worded(gain / sigma, half / sigma)
        message = f"{found} on 1 run; needed {needed}"
        after = Reference(screening, sigma, 1, reference.df) if kept else reference
        return Step("keep" if kept else "discard", gain, half, message, after, interval, 0)
    margin = rule.screen * sigma
    found, needed = _worded(gain / sigma, margin / sigma)
    if gain > margin:
        seeds = "a fresh seed" if rule.confirm == 1 else f"up to {rule.confirm} fresh seeds"
        message = f"{found} on 1 run; {seeds} to confirm"
        return Step("measure", gain, margin, message, reference, interval, rule.confirm)
    message = f"{found} on 1 run; needs {needed} to be worth confirming"
    return Step("discard", gain, margin, message, reference, interval, 0)


@dataclass(frozen=True)
class _Look:
    """What ``m`` fresh seeds say."""

    action: Literal["measure", "keep", "discard"]
    m: int
    gain: float
    margin: float
    half: float
    """Half the interval's width."""
    own: Scatter | None
    """The candidate's own noise where it is larger."""


def _look(reference: Reference, screening: float, fresh: Sequence[float], rule: KeepRule) -> _Look:
    """Judge the fresh seeds so far, the latest of which left the matter open until now."""
    m, last = len(fresh), len(fresh) == rule.confirm
    gain = reference.mean - statistics.fmean(fresh)
    # The screening run was selected for its level, not for its scatter: here it counts like any other.
    own = larger_scatter([screening, *fresh], reference.sigma, reference.df)
    error, df = standard_error(reference.sigma, reference.df, reference.n, m, own)
    level = rule.alpha if last else min(rule.alpha, rule.early_alpha)
    half = t_quantile(1 - rule.alpha, df) * error
    margin = t_quantile(1 - level, df) * error
    if gain <= 0:
        return _Look("discard", m, gain, 0.0, half, own)
    if gain > margin and (m >= FEWEST or last):
        return _Look("keep", m, gain, margin, half, own)
    return _Look("discard" if last else "measure", m, gain, margin, half, own)


def _incumbent(reference: Reference, look: _Look, fresh: Sequence[float]) -> Reference:
    """The reference of a kept candidate; seeds behind the deciding one are runs of the new incumbent."""
    mean = statistics.fmean(fresh[: look.m])
    if look.own:
        # It is noisier: its own scatter is all that is known of the new incumbent's noise.
        after = Reference(mean, look.own.sigma, look.m, look.own.df)
    else:
        after = replace(reference.with_group(fresh[: look.m]), mean=mean, n=look.m)
    for value in fresh[look.m :]:
        after = after.with_canary(value)
    return after


def _sentence(reference: Reference, screening: float, look: _Look) -> str:
    """Say in sigma of one run what the fresh seeds found and what they had to find."""
    gain, sigma = look.gain / reference.sigma, reference.sigma
    if look.gain <= 0:
        first, _ = _worded((reference.mean - screening) / sigma, 0.0)
        found = _worded(gain, 0.0)[0] if gain else "no better"
        seeds = "the first fresh seed" if look.m == 1 else f"{look.m} fresh seeds"
        return f"{first} at first, {found} on {seeds}"
    found, needed = _worded(gain, look.margin / sigma)
    low, high = (look.gain - look.half) / sigma, (look.gain + look.half) / sigma
    digits = len(found.split()[0].partition(".")[2])
    # A bound that rounds to zero would not say on which side of it the interval ends.
    while digits < _DIGITS and float(f"{low:.{digits}f}") == 0:
        digits += 1
    runs = "1 fresh run" if look.m == 1 else f"{look.m} fresh runs"
    verb = "still needs" if look.action == "measure" else "needed"
    held = f"{verb} {needed}"
    if look.action == "measure" and look.gain > look.margin:
        held = f"{FEWEST} are the fewest that keep"
    noisier = f"; its own noise is {look.own.sigma / sigma:.1f} sigma" if look.own else ""
    span = f"(interval {low:.{digits}f} to {high:.{digits}f})"
    return f"{found} on {runs} {span}; {held}{noisier}"


#: Decimals at most; what differs less is said to be equal.
_DIGITS = 6


def _worded(gain: float, margin: float) -> tuple[str, str]:
    """Word a gain and what it is held against, in sigma, with one decimal or as many as tell them apart."""
    direction = "worse" if gain < 0 else "better"
    for digits in range(1, _DIGITS + 1):
        found, needed = f"{abs(gain):.{digits}f}", f"{margin:.{digits}f}"
        if float(f"{gain:.{digits}f}") != float(needed):
            return f"{found} sigma {direction}", needed
    return f"{found} sigma {direction}", needed if gain > margin else f"more than {needed}"


def _floor(mean: float) -> float:
    return SIGMA_FLOOR * (abs(mean) or 1.0)


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(
            f"{name} {value!r} is not finite: such a run has failed and cannot be compared"
        )
