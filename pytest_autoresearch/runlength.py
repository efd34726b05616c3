"""
How long a CUSUM chart runs before it alarms, and the decision interval for a campaign of N experiments.

Everything is in units of the data's standard deviation, for independent normal data of mean ``shift`` from the
target. Let L(z) be the average run length of Page's one-sided chart that stands at z. Then

    L(z) = 1 + L(0) Phi(k - z - shift) + integral from 0 to h of L(x) phi(x + k - z - shift) dx

(E. S. Page, Biometrika 41, 1954, 100-115; A. L. Goel and S. M. Wu, Technometrics 13, 1971, 221-230). The integral
becomes a Gauss-Legendre sum and the equation a linear system (E. J. Nystroem, Acta Mathematica 54, 1930,
185-204): a Markov chain on the nodes. Two arms: K. W. Kemp, Journal of the Royal Statistical Society B 23, 1961,
149-153; with a head start: J. M. Lucas and R. B. Crosier, Technometrics 24, 1982, 199-205.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
    Matrix = npt.NDArray[np.float64]

__all__ = ["CAMPAIGNS", "alarm_probability", "average_run_length", "threshold_for"]

#: A campaign of N experiments gets an in-control average run length of this many times N. The run length is close
#: to exponential, so a false alarm within the campaign has a probability of about 1 - exp(-1/20), 5 %; less in a
#: short campaign, since a sum needs time to rise.
CAMPAIGNS = 20


def average_run_length(
    k: float, h: float, shift: float = 0.0, headstart: float = 0.0, two_sided: bool = True
) -> float:
    """
    Average number of observations up to and with the first alarm; infinite beyond what a double can hold.

    :param k: allowance, in standard deviations.
    :param h: decision interval, in standard deviations; an alarm is a sum above it.
    :param shift: true mean minus target mean, in standard deviations.
    :param headstart: where the sums start: 0 to h, and with two arms at most h/2 + k, up to which the other arm
        stands at 0 whenever one of them alarms; the formulas of two arms rest on that.
    :param two_sided: False for the upper arm alone.
    :raises ValueError: for a value that is not finite or outside its range.
    """
    _check(k, h, shift, headstart, two_sided)
    up0, up = _from_zero_and_from(headstart, _arm(k, h, shift))
    if not two_sided:
        return up
    down0, down = _from_zero_and_from(headstart, _arm(k, h, -shift))
    rate = 1 / up0 + 1 / down0
    # Lucas and Crosier (1982), divided by both lengths from 0, which may be too large to multiply.
    return (_share(up, up0) + _share(down, down0) - 1) / rate if rate > 0 else math.inf


def alarm_probability(  # noqa: PLR0917 - the parameters of average_run_length, in its order
    k: float,
    h: float,
    n: int,
    shift: float = 0.0,
    headstart: float = 0.0,
    two_sided: bool = True,
) -> float:
    """
    Probability of an alarm within the first ``n`` observations; parameters as :func:`average_run_length`.

    One arm: the law of the first alarm follows from the same equation, step by step (D. Brook and D. A. Evans,
    Biometrika 59, 1972, 539-549). Two arms: when one of them is the first to alarm, the other stands at 0 and
    starts afresh there, which gives the law of either one's first alarm as a sum over that time. Exact but for the
    quadrature; it takes time in proportion to n squared.

    :raises ValueError: for a value that is not finite or outside its range.
    """
    import numpy as np

    _check(k, h, shift, headstart, two_sided)
    if n < 0:
        raise ValueError(f"n {n!r} is negative: it counts observations")
    if n == 0:
        return 0.0
    up0, up = _first_alarms(k, h, n, shift, headstart)
    if not two_sided:
        return min(1.0, float(up.sum()))
    down0, down = _first_alarms(k, h, n, -shift, headstart)
    # First alarm of the upper arm with the lower one silent so far, and the reverse.
    up_first, down_first = np.zeros(n), np.zeros(n)
    for t in range(n):
        up_first[t] = up[t] - down_first[:t] @ up0[:t][::-1]
        down_first[t] = down[t] - up_first[:t] @ down0[:t][::-1]
    return min(1.0, float(up_first.sum() + down_first.sum()))


@lru_cache(maxsize=256)
def threshold_for(horizon: int, k: float = 0.5, two_sided: bool = True) -> float:
    """
    The decision interval h, in standard deviations, for a campaign of ``horizon`` experiments.

    Its in-control average run length is 20 * horizon, so a false alarm within the campaign is at most 5 % likely
    (:func:`alarm_probability` says exactly: 2.8 % for 10 experiments, 4.5 % for 100, 4.8 % for 700). For two arms and k = 0.5 it is close to
    ln(20 N + ln(20 N) + 1) - 1.166, from the approximation of D. Siegmund (Sequential Analysis, 1985).

    :raises ValueError: for a horizon below 1, and a k that is negative, not finite or too large for any h.
    """
    if not horizon >= 1:
        raise ValueError(
            f"horizon {horizon!r} is below 1: it is the number of observations of the campaign"
        )
    wanted = CAMPAIGNS * horizon
    low, high = 1e-6, 1.0
    if average_run_length(k, low, two_sided=two_sided) >= wanted:
        raise ValueError(
            f"k {k!r} alone makes alarms rarer than one in {wanted} observations, whatever h: use a smaller k"
        )
    while average_run_length(k, high, two_sided=two_sided) < wanted:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if average_run_length(k, middle, two_sided=two_sided) < wanted:
            low = middle
        else:
            high = middle
    return high


class _Arm(NamedTuple):
    """The upper arm as a Markov chain on 0 and the nodes."""

    moves: Callable[[Any], Matrix]
    """Rows of the chain: from each given height to 0 and to every node."""
    states: Vector
    """Heights: 0, then the nodes."""
    lengths: Vector
    """Average run length from each of them."""


@lru_cache(maxsize=1024)
def _arm(k: float, h: float, shift: float) -> _Arm:
    moves, states = _chain(k, h, shift)
    alarms = _normal_cdf(states - (h + k - shift))
    return _Arm(moves, states, _steps_to_alarm(moves(states), alarms))


def _chain(k: float, h: float, shift: float) -> tuple[Callable[[Any], Matrix], Vector]:
    import numpy as np

    # The kernel is a bell of width 1, for which four nodes per unit are plenty: twice as many move no
    # average run length by more than 1e-12 of it.
    nodes, weights = np.polynomial.legendre.leggauss(24 + math.ceil(4 * h))
    nodes, weights = h * (nodes + 1) / 2, h * weights / 2

    def moves(heights: Any) -> Matrix:
        z = np.atleast_1d(np.asarray(heights, dtype=float))
        bell = np.exp(-((nodes[None, :] + k - z[:, None] - shift) ** 2) / 2)
        to_nodes = weights / math.sqrt(2 * math.pi) * bell
        return np.concatenate([_normal_cdf(k - z - shift)[:, None], to_nodes], axis=1)

    return moves, np.concatenate([[0.0], nodes])


def _steps_to_alarm(moves: Matrix, alarms: Vector) -> Vector:
    """
    Average number of steps until the chain alarms, from each state.

    Gaussian elimination without a subtraction (W. K. Grassmann, M. I. Taksar and D. P. Heyman, Operations Research
    33, 1985, 1107-1116): the chance to leave a state is the sum of where it can go, not 1 minus the chance to
    stay. Every digit survives, where an ordinary solver loses as many as the run length has.
    """
    import numpy as np

    moves, alarms = moves.copy(), alarms.copy()
    steps = np.ones(len(alarms))
    leave = np.empty(len(alarms))
    for m in range(len(alarms) - 1, 0, -1):
        leave[m] = moves[m, :m].sum() + alarms[m]
        visits = moves[:m, m] / leave[m]
        moves[:m, :m] += np.outer(visits, moves[m, :m])
        alarms[:m] += visits * alarms[m]
        steps[:m] += visits * steps[m]
    if alarms[0] == 0:
        # Less than the smallest double: a run that falls to 0 never ends.
        return np.full(len(alarms), math.inf)
    lengths = np.empty(len(alarms))
    lengths[0] = steps[0] / alarms[0]
    for m in range(1, len(alarms)):
        lengths[m] = (steps[m] + moves[m, :m] @ lengths[:m]) / leave[m]
    return lengths


def _first_alarms(
    k: float, h: float, n: int, shift: float, headstart: float
) -> tuple[Vector, Vector]:
    """Probability that the upper arm alarms first at observation 1..n, from 0 and from ``headstart``."""
    import numpy as np

    moves, states = _chain(k, h, shift)
    heights = np.append(states, headstart)
    # The last row is the head start, which no state moves to.
    matrix = np.pad(moves(heights), ((0, 0), (0, 1)))
    at = _normal_cdf(heights - (h + k - shift))
    zero, start = np.empty(n), np.empty(n)
    for t in range(n):
        zero[t], start[t] = at[0], at[-1]
        at = matrix @ at
    return zero, start


def _from_zero_and_from(headstart: float, arm: _Arm) -> tuple[float, float]:
    zero = float(arm.lengths[0])
    if headstart == 0 or math.isinf(zero):
        return zero, zero
    return zero, 1.0 + float(arm.moves(headstart)[0] @ arm.lengths)


def _share(length: float, of: float) -> float:
    """length / of, and 1 where both are infinite: such a chart falls to 0 before it could alarm."""
    return 1.0 if math.isinf(of) else length / of


def _normal_cdf(z: Vector) -> Vector:
    import numpy as np

    return np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in z.tolist()])


def _check(k: float, h: float, shift: float, headstart: float, two_sided: bool) -> None:
    for name, value in (("k", k), ("h", h), ("shift", shift), ("headstart", headstart)):
        if not math.isfinite(value):
            raise ValueError(f"{name} {value!r} is not finite: run lengths need measured numbers")
    if k < 0:
        raise ValueError(f"k {k!r} is negative: use half the shift to detect, in sigma")
    if h <= 0:
        raise ValueError(f"h {h!r} is not above 0: every run would alarm")
    most = min(h, h / 2 + k) if two_sided else h
    if not 0 <= headstart <= most:
        raise ValueError(f"headstart {headstart!r} is outside 0 to {most:g}: use 0 or h/2")
