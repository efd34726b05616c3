"""The self-starting chart: Hawkins's scores against closed forms, their law in control, and what moves them."""

from __future__ import annotations

import math
import random
import statistics
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.cusum import CUSUMMonitor, SelfStartingCUSUM, alarm_probability
from pytest_autoresearch.selfstart import LARGEST_SCORE, SelfStarting

observations = st.lists(st.integers(-1000, 1000), max_size=30)


def scores(series: list[float]) -> list[float | None]:
    process = SelfStarting()
    result = []
    for x in series:
        result.append(process.score(x))
        process.learn(x)
    return result


def test_the_first_two_observations_only_teach() -> None:
    first, second, third = scores([1.0, 2.0, 3.0])
    assert (first, second) == (None, None)
    # mean 1.5, sd sqrt(1/2): t = sqrt(2/3) * 1.5 / sqrt(1/2) = sqrt(3), whose Cauchy tail is 1/6.
    assert third == pytest.approx(NormalDist().inv_cdf(5 / 6), rel=1e-12)


def test_the_fourth_score_follows_two_degrees_of_freedom() -> None:
    series = [0.3, -1.2, 0.8, 2.9]
    mean, sigma = statistics.fmean(series[:3]), statistics.stdev(series[:3])
    t = math.sqrt(3 / 4) * (series[3] - mean) / sigma
    p = 0.5 + t / (2 * math.sqrt(2 + t * t))
    assert scores(series)[3] == pytest.approx(NormalDist().inv_cdf(p), rel=1e-10)


@given(observations, st.integers(-20, 20), st.integers(-1000, 1000))
def test_scores_know_no_unit_and_no_zero(series: list[int], exponent: int, shift: int) -> None:
    scale = 2.0**exponent
    plain, moved = scores([float(x) for x in series]), scores([scale * (x + shift) for x in series])
    for a, b in zip(plain, moved, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None and abs(a) < LARGEST_SCORE:
            # Learned means differ in their last digits, so a difference of rounding size is no difference.
            assert a == pytest.approx(b, rel=1e-6, abs=1e-6)


@given(observations)
def test_the_mirrored_series_swaps_the_arms(series: list[int]) -> None:
    plain, mirrored = SelfStartingCUSUM(), SelfStartingCUSUM()
    for x in series:
        assert plain.update(x) == mirrored.update(-x)
        assert (plain.S_upper, plain.S_lower) == (mirrored.S_lower, mirrored.S_upper)


@given(observations, observations)
def test_what_is_learned_is_the_mean_and_the_standard_deviation(
    series: list[int], scored: list[int]
) -> None:
    process = SelfStarting()
    for x in series:
        process.learn(x)
    for x in scored:
        process.score(x)  # learns nothing
    assert process.learned == len(series)
    if series:
        assert process.mean == pytest.approx(statistics.fmean(series), abs=1e-9)
    if len(series) < 2:
        assert process.sigma is None
    else:
        assert process.sigma == pytest.approx(statistics.stdev(series), abs=1e-9)
    process.forget()
    assert vars(process) == vars(SelfStarting())


def test_scores_in_control_are_independent_standard_normal_values() -> None:
    draw = random.Random(1987)
    all_scores: list[float] = []
    products: list[float] = []
    for _ in range(800):
        values = [s for s in scores([draw.gauss(2.3, 0.01) for _ in range(8)]) if s is not None]
        all_scores += values
        products += [a * b for a, b in pairwise(values)]
    n = len(all_scores)
    assert n == 4800
    assert abs(statistics.fmean(all_scores)) < 4 / math.sqrt(n)
    assert abs(statistics.pvariance(all_scores) - 1) < 4 * math.sqrt(2 / n)
    assert abs(statistics.fmean(products)) < 4 / math.sqrt(len(products))
    beyond = sum(abs(s) > 1.959964 for s in all_scores) / n
    assert abs(beyond - 0.05) < 4 * math.sqrt(0.05 * 0.95 / n)


def test_false_alarms_are_those_of_the_known_process_and_a_plug_in_has_many_more() -> None:
    draw = random.Random(1993)
    campaigns, n = 400, 60
    honest = plugged = 0
    for _ in range(campaigns):
        series = [draw.gauss(0.998, 0.0005) for _ in range(n)]
        chart = SelfStartingCUSUM(0.5, 4.0)
        honest += any(chart.update(x) for x in series)
        mean, sigma = statistics.fmean(series[:4]), statistics.stdev(series[:4])
        plug = CUSUMMonitor(mean, 0.5 * sigma, 4.0 * sigma)
        plugged += any(plug.update(x) for x in series[4:])
    expected = alarm_probability(0.5, 4.0, n - 2)
    error = math.sqrt(expected * (1 - expected) / campaigns)
    assert abs(honest / campaigns - expected) < 4 * error
    assert plugged / campaigns > expected + 8 * error


def test_a_leak_after_ten_quiet_runs_is_found_within_two() -> None:
    draw = random.Random(11)
    chart = SelfStartingCUSUM(0.5, 8.39)
    quiet = [draw.gauss(0.998, 0.0005) for _ in range(10)]
    assert not any(chart.update(x) for x in quiet)
    leak = 0.998 - 150 * 0.0005
    assert [chart.update(leak), chart.update(leak)][-1]
    assert chart.S_lower > chart.S_upper
    assert 8 <= chart.last_zero <= 10


def test_a_chart_may_learn_from_all_and_accumulate_some() -> None:
    chart = SelfStartingCUSUM(0.5, 5.0, two_sided=False)
    series = [0.1, -0.2, 0.0, 0.15, -0.1, 0.05, 3.0]
    kept = {3, 6}
    alarm = False
    for i, x in enumerate(series):
        score = chart.score(x)
        chart.learn(x)
        if i in kept:
            alarm = chart.accumulate(score)
    assert chart.process.learned == len(series)
    assert (chart.count, chart.last_zero, chart.S_lower) == (2, 0, 0.0)
    expected = [scores(series)[i] for i in sorted(kept)]
    assert chart.S_upper == pytest.approx(sum(s - 0.5 for s in expected if s is not None))
    assert not alarm
    for _ in range(3):
        alarm = chart.accumulate(chart.score(3.0))
    assert alarm


def test_update_scores_learns_and_accumulates() -> None:
    whole, steps = SelfStartingCUSUM(), SelfStartingCUSUM()
    for x in (1.0, 1.1, 0.9, 1.2, 5.0):
        score = steps.score(x)
        steps.learn(x)
        assert whole.update(x) == steps.accumulate(score)
        assert (whole.S_upper, whole.S_lower, whole.count) == (
            steps.S_upper,
            steps.S_lower,
            steps.count,
        )
    assert whole.S_upper > 1


def test_a_head_start_waits_for_the_first_score() -> None:
    chart = SelfStartingCUSUM(0.5, 5.0, 2.5)
    assert not chart.update(1.0)
    assert not chart.update(2.0)
    assert (chart.S_upper, chart.S_lower, chart.count) == (2.5, 2.5, 2)


def test_reset_sets_back_the_sums_and_keeps_what_was_learned() -> None:
    chart = SelfStartingCUSUM()
    for x in (1.0, 1.1, 0.9, 9.0):
        chart.update(x)
    assert chart.S_upper > 0
    chart.reset()
    assert (chart.S_upper, chart.S_lower, chart.count, chart.last_zero) == (0, 0, 0, 0)
    assert chart.process.learned == 4
    chart.process.forget()
    fresh, state = vars(SelfStartingCUSUM()), vars(chart)
    assert vars(state.pop("process")) == vars(fresh.pop("process"))
    assert state == fresh


@pytest.mark.parametrize("sign", [1, -1])
def test_any_change_of_what_never_varied_has_the_largest_score(sign: int) -> None:
    process = SelfStarting()
    for _ in range(5):
        process.learn(0.1)
    assert process.sigma == 0
    assert process.score(0.1) == 0
    assert process.score(0.1 + sign * 1e-9) == sign * LARGEST_SCORE
    assert process.score(sign * 1e308) == sign * LARGEST_SCORE


@pytest.mark.parametrize("sign", [1, -1])
def test_what_no_probability_can_express_has_the_largest_score(sign: int) -> None:
    process = SelfStarting()
    for x in (0.0, 1.0, 0.5, 0.2, 0.9, 0.4, 0.6, 1e-200):
        process.learn(x)
    for far in (1e80, 1e200, 1e308):
        assert process.score(sign * far) == sign * LARGEST_SCORE


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_what_cannot_be_learned_changes_nothing(bad: float) -> None:
    chart = SelfStartingCUSUM()
    for x in (1.0, 1.1, 0.9, 1.3):
        chart.update(x)
    before = (vars(chart.process).copy(), chart.S_upper, chart.S_lower, chart.count)
    with pytest.raises(ValueError, match=r"not finite|too large beside"):
        chart.update(bad)
    assert (vars(chart.process), chart.S_upper, chart.S_lower, chart.count) == before
    if not math.isfinite(bad):
        with pytest.raises(ValueError, match=r"observation .* not finite"):
            chart.score(bad)
