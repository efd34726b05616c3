"""Noisier candidates: the variance ratio's distribution and Welch's standard error."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.keep import KeepRule, Reference, decide
from pytest_autoresearch.scatter import (
    Scatter,
    larger_scatter,
    standard_error,
    variance_ratio_tail,
)


# Upper 5 % and 1 % points of F, as printed in every statistics textbook (Pearson and Hartley, Table 18).
@pytest.mark.parametrize(
    ("df", "df_below", "point", "tail"),
    [
        (1, 3, 10.13, 0.05),
        (2, 3, 9.55, 0.05),
        (3, 3, 9.28, 0.05),
        (1, 30, 4.17, 0.05),
        (2, 30, 3.32, 0.05),
        (3, 30, 2.92, 0.05),
        (4, 10, 3.48, 0.05),
        (5, 120, 2.29, 0.05),
        (1, 10, 10.04, 0.01),
        (2, 10, 7.56, 0.01),
        (3, 10, 6.55, 0.01),
    ],
)
def test_variance_ratio_points_are_the_published_ones(
    df: int, df_below: int, point: float, tail: float
) -> None:
    assert variance_ratio_tail(point, df, df_below) == pytest.approx(tail, rel=0.01)


@given(st.floats(0.01, 50), st.integers(1, 8), st.integers(1, 60))
def test_the_two_tails_of_the_variance_ratio_complement_each_other(
    ratio: float, df: int, df_below: int
) -> None:
    both = variance_ratio_tail(ratio, df, df_below) + variance_ratio_tail(1 / ratio, df_below, df)
    assert both == pytest.approx(1, abs=1e-9)


def test_only_a_significantly_larger_scatter_counts() -> None:
    # Variance of 0, 4, 8 is 16 on 2 degrees of freedom: beyond 9.55 on 3 for sigma 1, not for sigma 1.5.
    assert larger_scatter([0.0, 4.0, 8.0], 1.0, 3) == Scatter(4.0, 2)
    assert larger_scatter([0.0, 4.0, 8.0], 1.5, 3) is None
    assert larger_scatter([0.0, 0.1], 1.0, 3) is None


def test_the_standard_error_is_pooled_or_welchs() -> None:
    assert standard_error(2.0, 7, 4, 1, None) == (pytest.approx(2 * math.sqrt(1.25)), 7)
    # Welch: 16/3 + 1/4; Satterthwaite: that squared over (16/3)^2 / 2 + (1/4)^2 / 3.
    error, df = standard_error(1.0, 3, 4, 3, Scatter(4.0, 2))
    assert error == pytest.approx(math.sqrt(16 / 3 + 1 / 4))
    assert df == pytest.approx((16 / 3 + 1 / 4) ** 2 / ((16 / 3) ** 2 / 2 + 1 / 48))


def test_a_wild_null_is_kept_less_often_than_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(draws: int) -> int:
        rng = random.Random(3)
        count = 0
        for _ in range(draws):
            known = Reference(100 + rng.gauss(0, 0.5), 1.0, 4, 20)
            values = [rng.gauss(100, 4) for _ in range(4)]
            count += decide(known, values[0], values[1:], KeepRule()).action == "keep"
        return count

    guarded = kept(1000)
    monkeypatch.setattr("pytest_autoresearch.scatter.NOISIER_ALPHA", 0.0)
    # The control: by sigma alone it is kept half as often again.
    assert guarded < 0.75 * kept(1000)
