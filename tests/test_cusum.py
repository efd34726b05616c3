"""The control chart: the published vectors, and the properties that hold for any series."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.cusum import (
    PROGRESS_ALLOWANCE,
    PROGRESS_INTERVAL,
    CUSUMMonitor,
    progress,
)

# montgomery_9_1: Montgomery, Introduction to Statistical Quality Control, Example 9.1 (mu0 = 10, K = 0.5, H = 5).
# leak_15pct_at_11: a label leak at experiment 11 of a language-model campaign, val_bpb drops by 15 %.
VECTORS: dict[str, dict[str, Any]] = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parent / "reference" / "cusum_arl.json").read_text())[
        "vectors"
    ]
}

metrics = st.lists(st.floats(-100, 100), max_size=40)


def trace(monitor: CUSUMMonitor, series: list[float]) -> list[tuple[float, float, bool]]:
    result = []
    for x in series:
        alarm = monitor.update(x)
        result.append((monitor.S_upper, monitor.S_lower, alarm))
    return result


@pytest.mark.parametrize(("name", "last_zero"), [("montgomery_9_1", 22), ("leak_15pct_at_11", 10)])
def test_the_published_vectors_are_reproduced(name: str, last_zero: int) -> None:
    vector = VECTORS[name]
    monitor = CUSUMMonitor(vector["mu0"], vector["k"], vector["h"])
    steps = trace(monitor, vector["x"])
    assert [s for s, _, _ in steps] == pytest.approx(vector["s_plus"], abs=1e-9)
    assert [s for _, s, _ in steps] == pytest.approx(vector["s_minus"], abs=1e-9)
    assert [alarm for _, _, alarm in steps].index(True) + 1 == vector["first_alarm_1based"]
    assert monitor.last_zero == last_zero


def test_a_sum_equal_to_the_decision_interval_is_no_alarm() -> None:
    monitor = CUSUMMonitor(0.0, 0.5, 1.0)
    assert not monitor.update(1.5)
    assert monitor.S_upper == 1.0
    assert monitor.update(0.75)


def test_the_lower_arm_reports_its_own_last_zero() -> None:
    monitor = CUSUMMonitor(0.0, 0.5, 2.0)
    trace(monitor, [-1.0, 1.0, 1.0, -3.0])
    assert (monitor.last_zero_upper, monitor.last_zero_lower) == (4, 3)
    assert monitor.last_zero == 3


def test_a_head_start_alarms_earlier() -> None:
    series = [1.0] * 20
    slow = [alarm for _, _, alarm in trace(CUSUMMonitor(0, 0.5, 4), series)].index(True)
    fast = [alarm for _, _, alarm in trace(CUSUMMonitor(0, 0.5, 4, 2.0), series)].index(True)
    assert (slow, fast) == (8, 4)


@given(metrics, st.integers(-20, 20))
def test_scaling_everything_scales_the_sums(series: list[float], exponent: int) -> None:
    scale = 2.0**exponent  # a power of two is exact, so equality is exact
    plain = trace(CUSUMMonitor(1.0, 0.5, 5.0), series)
    scaled = trace(CUSUMMonitor(scale, 0.5 * scale, 5.0 * scale), [x * scale for x in series])
    assert [(up * scale, low * scale, alarm) for up, low, alarm in plain] == scaled


@given(st.lists(st.integers(-100, 100), max_size=40), st.integers(-1000, 1000))
def test_shifting_target_and_series_changes_nothing(series: list[int], shift: int) -> None:
    plain = trace(CUSUMMonitor(0, 0.5, 5), [float(x) for x in series])
    shifted = trace(CUSUMMonitor(shift, 0.5, 5), [float(x + shift) for x in series])
    assert plain == shifted


@given(metrics)
def test_the_mirrored_series_swaps_the_arms(series: list[float]) -> None:
    plain = trace(CUSUMMonitor(0.0, 0.5, 5.0), series)
    mirrored = trace(CUSUMMonitor(0.0, 0.5, 5.0), [-x for x in series])
    assert [(low, up, alarm) for up, low, alarm in plain] == mirrored


@given(metrics, st.floats(0.1, 50), st.floats(0.1, 50))
def test_a_wider_interval_never_alarms_first(series: list[float], a: float, b: float) -> None:
    narrow = trace(CUSUMMonitor(0.0, 0.5, min(a, b)), series)
    wide = trace(CUSUMMonitor(0.0, 0.5, max(a, b)), series)
    assert all(n[2] or not w[2] for n, w in zip(narrow, wide, strict=True))


@given(metrics)
def test_one_arm_alone_is_the_upper_one(series: list[float]) -> None:
    both = trace(CUSUMMonitor(0.0, 0.5, 5.0, 2.5), series)
    alone = trace(CUSUMMonitor(0.0, 0.5, 5.0, 2.5, two_sided=False), series)
    assert [(up, 0.0, up > 5.0) for up, _, _ in both] == alone


@given(metrics, st.floats(0, 5))
def test_sums_are_never_negative_and_reset_is_a_fresh_start(
    series: list[float], headstart: float
) -> None:
    monitor = CUSUMMonitor(0.0, 0.5, 5.0, headstart)
    assert all(up >= 0 and low >= 0 for up, low, _ in trace(monitor, series))
    monitor.reset()
    assert vars(monitor) == vars(CUSUMMonitor(0.0, 0.5, 5.0, headstart))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_leaves_the_sums(bad: float) -> None:
    monitor = CUSUMMonitor(0.0, 0.5, 5.0)
    monitor.update(3.0)
    with pytest.raises(ValueError, match=r"observed_metric .* not finite"):
        monitor.update(bad)
    assert (monitor.S_upper, monitor.count) == (2.5, 1)
    with pytest.raises(ValueError, match=r"target_mean .* not finite"):
        CUSUMMonitor(bad, 0.5, 5.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, -0.1, 5.0), "allowance_k -0.1 is negative"),
        ((0.0, 0.5, 0.0), "threshold_h 0.0 is not above 0"),
        ((0.0, 0.5, 5.0, 5.1), "headstart 5.1 is outside 0 to threshold_h"),
        ((0.0, 0.5, 5.0, -1.0), "headstart -1.0 is outside"),
    ],
)
def test_impossible_parameters_are_refused(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CUSUMMonitor(*arguments)


def test_the_progress_chart_flags_a_leak_and_stays_silent_on_steady_gains() -> None:
    chart = CUSUMMonitor(0.0, PROGRESS_ALLOWANCE, PROGRESS_INTERVAL)
    steady = [0.3110 * 0.998**i for i in range(40)]
    assert not any(chart.update(progress(*pair)) for pair in pairwise(steady))
    assert chart.update(progress(steady[-1], steady[-1] * 0.85))
    assert chart.S_lower > chart.S_upper


def test_progress_is_the_log_ratio() -> None:
    assert progress(0.5, 0.5) == 0.0
    assert progress(1.0, 0.9) == pytest.approx(math.log(0.9))
    assert progress(0.9, 1.0) > 0


@pytest.mark.parametrize("pair", [(0.0, 1.0), (1.0, -0.5), (math.nan, 1.0), (1.0, math.inf)])
def test_progress_needs_positive_references(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"not above 0|not finite"):
        progress(*pair)
