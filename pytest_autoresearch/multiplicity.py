"""
What a campaign of many proposals does to a rule made for one: false keeps to expect, and a bound on any at all.

A null candidate, which changes nothing, is kept by luck with a small probability that the rule fixes; it is
integrated here over the screening run, the looks at the fresh seeds (recursion of P. Armitage, C. K. McPherson and
B. C. Rowe, JRSS A 132 (1969) 235-244, on sums that are still undecided) and the error of the reference's mean and
sigma. The check for noisier candidates only ever prevents keeps, so it is left out and the probability is an upper
bound. ``spend`` divides a total over a campaign; by Boole's inequality that holds whatever the proposals share.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .distributions import t_quantile
from .keep import FEWEST, KeepRule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["expected_false_keeps", "false_keep_probability", "spend"]

#: Nodes of the quadratures. With 72 of each no probability above 1e-4 differs by more than 0.05 %.
_NODES = 24
_SIGMA_NODES = 40

#: Normal deviates beyond which no probability worth counting is left.
_REACH = 6.5


def false_keep_probability(rule: KeepRule, df: int, n: int, decided: int = 1) -> float:
    """
    Probability that the rule keeps a candidate that is exactly as good as the incumbent.

    :param df: degrees of freedom behind sigma.
    :param n: runs behind the incumbent's mean, which were not selected for being good; after a keep they were,
        and the probability is smaller.
    :param decided: candidates against this one incumbent; the probability that any of them is kept. They share
        the luck of its runs, so this is less than so many times the probability of one.
    :raises ValueError: for df or n below 1, or a negative count.
    """
    if df < 1 or n < 1:
        raise ValueError(f"a reference has df >= 1 and n >= 1, got df={df!r}, n={n!r}")
    if decided < 0:
        raise ValueError(f"{decided!r} proposals were decided: a count is at least 0")
    import numpy as np

    weight, kept = _null(rule, df, n)
    return float((weight * -np.expm1(decided * np.log1p(-kept))).sum())


@lru_cache(maxsize=64)
def _null(rule: KeepRule, df: int, n: int) -> tuple[Array, Array]:
    """Probability that a null is kept for errors of the reference's mean and sigma, and the weight of each."""
    import numpy as np

    # Standard normal errors of the mean; sigma over its true value by the chi distribution, in its logarithm:
    # wide below, where a lucky small sigma keeps too much, and as far above as probability reaches.
    z, z_weight = _legendre(-_REACH, _REACH)
    z_weight = z_weight * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    spread = 1 / math.sqrt(2 * df)
    log, log_weight = _legendre(-_REACH * spread - 12 * spread**2, _REACH * spread, _SIGMA_NODES)
    constant = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    log_weight = log_weight * np.exp(constant + df * log - df / 2 * np.exp(2 * log))
    mean, sigma = (z / math.sqrt(n))[:, None], np.exp(log)[None, :]
    if rule.confirm:
        kept = _kept(rule, df, n, mean, sigma) * _phi(mean - rule.screen * sigma)
    else:
        margin = t_quantile(1 - rule.alpha, df) * math.sqrt(1 + 1 / n)
        kept = _phi(mean - margin * sigma)
    return z_weight[:, None] * log_weight[None, :], np.minimum(kept, 1 - 1e-16)


def _kept(rule: KeepRule, df: int, n: int, mean: Array, sigma: Array) -> Array:
    """Probability that the fresh seeds keep a null, for every error of the mean and of sigma."""
    import numpy as np

    early = min(rule.alpha, rule.early_alpha)
    total = np.zeros(np.broadcast_shapes(mean.shape, sigma.shape))
    # Undecided sums of the m - 1 runs so far, and their density times quadrature weight.
    sums = np.zeros((*total.shape, 1))
    mass = np.ones((*total.shape, 1))
    for m in range(1, rule.confirm + 1):
        level = rule.alpha if m == rule.confirm else early
        margin = t_quantile(1 - level, df) * math.sqrt(1 / m + 1 / n) * sigma
        bound = m * (mean - margin)
        if m < FEWEST and m < rule.confirm:
            bound = np.full_like(bound, -np.inf)
        total += (mass * _phi(bound[..., None] - sums)).sum(axis=-1)
        if m == rule.confirm:
            break
        reach = _REACH * math.sqrt(m)
        low = np.clip(bound, -reach, reach)
        high = np.clip(m * mean + 0 * sigma, -reach, reach)
        nodes, weights = _legendre(0.0, 1.0)
        width = np.maximum(high - low, 0.0)[..., None]
        later = low[..., None] + width * nodes
        step = later[..., None, :] - sums[..., :, None]
        density = (mass[..., :, None] * np.exp(-step * step / 2)).sum(axis=-2)
        mass = density * (width * weights) / math.sqrt(2 * math.pi)
        sums = later
    return total


def expected_false_keeps(decided: int, rule: KeepRule, df: int, n: int) -> float:
    """
    False keeps to expect among ``decided`` proposals against one incumbent if none was an improvement.

    A keep makes a new incumbent, so there is at most one: this is its probability. Sum over the incumbents of a
    campaign. It is an upper bound as far as some proposals were improvements, or the incumbent's runs are those
    that got it kept.

    :raises ValueError: as :func:`false_keep_probability`.
    """
    return false_keep_probability(rule, df, n, decided)


def spend(
    rule: KeepRule, total: float, index: int, horizon: int, *, df: int = 3, n: int = 4
) -> KeepRule:
    """
    The rule for proposal ``index`` (from 0) if any false keep among ``horizon`` proposals may have ``total``.

    Both levels shrink by the same factor until the probability that a null is kept, with the help of the
    screening run, is total / horizon. They never grow: a rule that is strict enough stays as it is.

    :param df: degrees of freedom behind sigma when the proposal is decided.
    :param n: runs behind the incumbent's mean then.
    :raises ValueError: for a total outside 0 to 1, or an index beyond the horizon.
    """
    if not 0 < total < 1:
        raise ValueError(f"total {total!r} is outside 0 to 1: 0.05 is the usual level")
    if not 0 <= index < horizon:
        raise ValueError(
            f"proposal {index!r} is outside the horizon of {horizon!r} proposals that the total was divided "
            "over: plan a longer horizon before the campaign starts"
        )
    return _strict(rule, total / horizon, df, n)


@lru_cache(maxsize=1024)
def _strict(rule: KeepRule, level: float, df: int, n: int) -> KeepRule:
    """Shrink the rule's levels until it keeps a null with a probability of at most ``level``."""
    scaled = rule
    # Secant steps on the logarithms, in which the relation is nearly a line; always on the safe side of it.
    factor, excess = 1.0, false_keep_probability(rule, df, n) / level
    while excess > 1:
        factor /= excess * 1.001
        scaled = replace(rule, alpha=rule.alpha * factor, early_alpha=rule.early_alpha * factor)
        excess = false_keep_probability(scaled, df, n) / level
    return scaled


def _legendre(low: float, high: float, count: int = _NODES) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on an interval."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(count)
    half = (high - low) / 2
    return low + half * (nodes + 1), half * weights


def _phi(x: Array) -> Array:
    """The normal distribution function; from its complement, so that small values are exact."""
    import numpy as np

    tail = np.frompyfunc(math.erfc, 1, 1)
    return np.asarray(tail(-x / math.sqrt(2)), dtype=float) / 2
