"""Student's t against closed forms, printed tables and its own inverse."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.distributions import normal_score, t_quantile, t_tail

far = st.floats(1e-6, 1e12)


@given(far)
def test_one_degree_of_freedom_is_the_cauchy_distribution(t: float) -> None:
    assert t_tail(t, 1) == pytest.approx(math.atan2(1, t) / math.pi, rel=1e-13)


@given(far)
def test_two_degrees_of_freedom_have_a_closed_form(t: float) -> None:
    # 1/2 - t / (2 sqrt(2 + t^2)), without the difference.
    root = math.sqrt(2 + t * t)
    assert t_tail(t, 2) == pytest.approx(1 / (root * (root + t)), rel=1e-13)


@given(far)
def test_four_degrees_of_freedom_have_a_closed_form(t: float) -> None:
    # With c = t / sqrt(4 + t^2) the tail is (1 - c)^2 (2 + c) / 4; 1 - c without the difference.
    root = math.sqrt(4 + t * t)
    c, rest = t / root, 4 / (root * (root + t))
    assert t_tail(t, 4) == pytest.approx(rest * rest * (2 + c) / 4, rel=1e-12)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    for t in (0.1, 1.0, 3.0):
        assert t_tail(t, 1e6) == pytest.approx(NormalDist().cdf(-t), rel=1e-4)


@pytest.mark.parametrize(
    ("df", "upper_05", "upper_005"),
    [(1, 6.314, 63.657), (3, 2.353, 5.841), (10, 1.812, 3.169), (30, 1.697, 2.750), (120, 1.658, 2.617)],
)  # fmt: skip
def test_quantiles_are_those_of_the_printed_table(
    df: int, upper_05: float, upper_005: float
) -> None:
    assert t_quantile(0.95, df) == pytest.approx(upper_05, abs=5e-4)
    assert t_quantile(0.995, df) == pytest.approx(upper_005, abs=5e-4)


@given(st.floats(0.5, 1 - 1e-9), st.floats(1, 5000))
def test_a_quantile_has_its_probability(p: float, df: float) -> None:
    assert t_tail(t_quantile(p, df), df) == pytest.approx(1 - p, rel=1e-9)


def test_the_median_is_zero() -> None:
    assert t_quantile(0.5, 7) == 0.0
    assert t_tail(0.0, 7) == 0.5


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 400))
def test_tails_fall_and_scores_rise_with_t(a: float, b: float, df: int) -> None:
    low, high = sorted((a, b))
    assert t_tail(low, df) >= t_tail(high, df)
    assert normal_score(low, df) <= normal_score(high, df)


@given(st.floats(0.01, 30), st.integers(1, 400))
def test_a_score_has_the_tail_of_its_t(t: float, df: int) -> None:
    score = normal_score(t, df)
    assert 0 < score <= t
    assert math.erfc(score / math.sqrt(2)) / 2 == pytest.approx(t_tail(t, df), rel=1e-9)
    assert normal_score(-t, df) == -score


def test_scores_keep_their_digits_where_one_minus_p_has_none() -> None:
    # 1 / (pi t) is the Cauchy tail; the normal tail beyond 37.047 is 1e-300.
    assert normal_score(1e300 / math.pi, 1) == pytest.approx(37.0470962993612, rel=1e-12)
    assert normal_score(-1e300, 2) == -math.inf
    assert normal_score(math.inf, 5) == math.inf
    assert normal_score(0.0, 5) == 0.0


def test_a_t_too_large_to_square_keeps_its_tail() -> None:
    assert t_tail(1e200, 1) == pytest.approx(1e-200 / math.pi, rel=1e-10)
    assert t_tail(1.3e154, 1) == pytest.approx(1 / (1.3e154 * math.pi), rel=1e-10)
    assert t_tail(1.4e154, 1) == pytest.approx(1 / (1.4e154 * math.pi), rel=1e-10)
    assert t_tail(1e155, 1.5) == pytest.approx(1.19244824056e-233, rel=1e-10)
    assert t_tail(1e300, 5) == 0.0


@pytest.mark.parametrize("t", [-1.0, math.nan, math.inf])
def test_impossible_values_of_t_are_refused(t: float) -> None:
    with pytest.raises(ValueError, match=r"t_tail takes a finite t >= 0"):
        t_tail(t, 3)


def test_impossible_parameters_are_refused() -> None:
    for df in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"t_tail .* 1 <= df <= 1e6"):
            t_tail(1.0, df)
        with pytest.raises(ValueError, match=r"1 <= df <= 1e6"):
            t_quantile(0.9, df)
    for p in (0.4, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"0.5 <= p < 1"):
            t_quantile(p, 3)
    with pytest.raises(ValueError, match="t is not a number"):
        normal_score(math.nan, 3)
