"""Run lengths of the chart: a reference table, published values, and laws that hold without one."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.cusum import (
    CUSUMMonitor,
    alarm_probability,
    average_run_length,
    threshold_for,
)

REFERENCE: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "reference" / "cusum_arl.json").read_text()
)


def test_the_reference_table_is_reproduced() -> None:
    assert len(REFERENCE["rows"]) == 352
    for row in REFERENCE["rows"]:
        at = (row["k"], row["h"], row["shift"], row["headstart"])
        assert average_run_length(*at) == pytest.approx(row["arl_two_sided"], rel=1e-8), row
        alone = average_run_length(*at, two_sided=False)
        assert alone == pytest.approx(row["arl_one_sided"], rel=1e-8), row


def test_the_reference_decision_intervals_have_their_run_length() -> None:
    assert len(REFERENCE["h_for_arl0"]) == 36
    half_a_digit = 6e-7
    for row in REFERENCE["h_for_arl0"]:
        for h, two_sided, fir in (
            (row["h_one_sided"], False, 0.0),
            (row["h_two_sided"], True, 0.0),
            (row["h_two_sided_fir"], True, 0.5),
        ):
            low, high = (
                average_run_length(row["k"], x, 0.0, fir * x, two_sided)
                for x in (h - half_a_digit, h + half_a_digit)
            )
            assert low <= row["arl0"] <= high, row


@pytest.mark.parametrize("key", ["h_one_sided", "h_two_sided"])
def test_the_threshold_for_a_campaign_is_the_reference_interval(key: str) -> None:
    rows = [row for row in REFERENCE["h_for_arl0"] if row["arl0"] in (100, 1000, 14000)]
    assert len(rows) == 9
    for row in rows:
        h = threshold_for(row["arl0"] // 20, row["k"], two_sided=key == "h_two_sided")
        assert h == pytest.approx(row[key], abs=6e-7)


def test_the_reference_alarm_probabilities_are_reproduced() -> None:
    # Their own error is about 1e-4 (an iteration on a grid); the next test needs no reference.
    assert len(REFERENCE["p_alarm_by_n"]) == 16
    for row in REFERENCE["p_alarm_by_n"]:
        probability = alarm_probability(row["k"], row["h"], row["n"])
        assert probability == pytest.approx(row["p_alarm_two_sided"], abs=1e-4), row


@pytest.mark.parametrize(
    ("shift", "headstart", "two_sided"),
    [(0.0, 0.0, True), (0.4, 0.0, True), (0.0, 1.0, True), (0.3, 1.0, False)],
)
def test_the_law_of_the_first_alarm_has_the_average_run_length(
    shift: float, headstart: float, two_sided: bool
) -> None:
    at = (shift, headstart, two_sided)
    silent = [1 - alarm_probability(0.5, 1.0, n, *at) for n in range(200)]
    assert silent[0] == 1.0
    assert silent[1] == pytest.approx(
        NormalDist().cdf(1.5 - shift - headstart)
        - (NormalDist().cdf(-1.5 - shift + headstart) if two_sided else 0),
        abs=1e-12,
    )
    assert math.fsum(silent) == pytest.approx(average_run_length(0.5, 1.0, *at), rel=1e-9)


# Two-sided charts of k = 0.5 by shift, as printed by Lucas and Crosier (1982), table 1.
PUBLISHED = [
    (4.0, 0.0, [(0, 168), (0.25, 74.2), (0.5, 26.6), (1, 8.38), (1.5, 4.75), (2, 3.34), (3, 2.19)]),
    (4.0, 2.0, [(0, 149), (0.25, 62.7), (0.5, 20.1), (1, 5.29), (1.5, 2.86), (2, 2.01), (3, 1.32)]),
    (5.0, 0.0, [(0, 465), (0.25, 139), (0.5, 38.0), (1, 10.4), (1.5, 5.75), (2, 4.01), (3, 2.57)]),
]


@pytest.mark.parametrize(("h", "headstart", "row"), PUBLISHED)
def test_published_values_are_reproduced_to_their_last_digit(
    h: float, headstart: float, row: list[tuple[float, float]]
) -> None:
    for shift, printed in row:
        length = average_run_length(0.5, h, shift, headstart)
        assert float(f"{length:.3g}") == pytest.approx(printed, abs=1.1 * 10 ** -_decimals(printed))


def _decimals(printed: float) -> int:
    return 2 - math.floor(math.log10(printed))


def test_the_shipped_chart_runs_as_long_as_the_formula_says() -> None:
    draw = random.Random(1954)
    lengths = []
    for _ in range(2000):
        monitor = CUSUMMonitor(0.0, 0.5, 2.0, 1.0)
        while not monitor.update(draw.gauss(0.5, 1.0)):
            pass
        lengths.append(monitor.count)
    error = statistics.stdev(lengths) / math.sqrt(len(lengths))
    assert abs(statistics.fmean(lengths) - average_run_length(0.5, 2.0, 0.5, 1.0)) < 4 * error


@pytest.mark.parametrize(
    ("k", "h", "shift", "length"),
    [
        # The same equation solved with 60 digits.
        (1.0, 8.0, 0.0, 43271577.0241677),
        (0.5, 5.0, -3.0, 4.90171149177566e16),
        (1.0, 8.0, -2.0, 1.29732557717921e22),
    ],
)
def test_no_digit_is_lost_to_a_long_run(k: float, h: float, shift: float, length: float) -> None:
    assert average_run_length(k, h, shift, two_sided=False) == pytest.approx(length, rel=1e-12)


def test_a_chart_that_never_alarms_has_infinite_length() -> None:
    assert math.isinf(average_run_length(20.0, 30.0))
    assert math.isinf(average_run_length(20.0, 30.0, headstart=1.0))
    # Only the other arm's alarms are left.
    alone = average_run_length(20.0, 30.0, 49.0, two_sided=False)
    assert average_run_length(20.0, 30.0, 49.0) == alone < 3
    assert average_run_length(20.0, 30.0, 49.0, headstart=2.0) < alone


@settings(max_examples=30)
@given(
    st.floats(0, 1.5), st.floats(0.1, 6), st.floats(0.01, 2), st.floats(-1.5, 1.5), st.booleans()
)
def test_run_lengths_grow_with_h_and_k_and_shrink_with_a_head_start(
    k: float, h: float, more: float, shift: float, two_sided: bool
) -> None:
    length = average_run_length(k, h, shift, two_sided=two_sided)
    assert length > 1
    assert average_run_length(k, h + more, shift, two_sided=two_sided) > length
    assert average_run_length(k + more, h, shift, two_sided=two_sided) > length
    assert average_run_length(k, h, shift, h / 2, two_sided) < length


@settings(max_examples=30)
@given(st.floats(0, 1.5), st.floats(0.1, 6), st.floats(-2, 2))
def test_the_two_sided_chart_does_not_know_left_from_right(
    k: float, h: float, shift: float
) -> None:
    mirrored = average_run_length(k, h, -shift)
    assert average_run_length(k, h, shift) == pytest.approx(mirrored, rel=1e-12)


def test_a_campaign_has_about_five_percent_false_alarms() -> None:
    for horizon in (10, 30, 100, 700):
        assert 0.025 < alarm_probability(0.5, threshold_for(horizon), horizon) < 0.05
        siegmund = math.log(20 * horizon + math.log(20 * horizon) + 1) - 1.166
        assert threshold_for(horizon) == pytest.approx(siegmund, abs=0.02)


def test_the_alarm_probability_grows_from_zero_to_one() -> None:
    series = [alarm_probability(0.25, 2.0, n, 1.0) for n in (0, 1, 5, 20, 80)]
    assert series[0] == 0
    assert series == sorted(series)
    assert series[-1] == pytest.approx(1.0)
    assert max(series) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.1, 4.0), "k -0.1 is negative"),
        ((0.5, 0.0), "h 0.0 is not above 0"),
        ((math.nan, 4.0), "k nan is not finite"),
        ((0.5, math.inf), "h inf is not finite"),
        ((0.5, 4.0, -math.inf), "shift -inf is not finite"),
        ((0.5, 4.0, 0.0, 2.6), "headstart 2.6 is outside 0 to 2.5"),
        ((0.5, 4.0, 0.0, 4.1, False), "headstart 4.1 is outside 0 to 4"),
    ],
)
def test_impossible_charts_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        average_run_length(*arguments)
    with pytest.raises(ValueError, match=message):
        alarm_probability(arguments[0], arguments[1], 10, *arguments[2:])


def test_impossible_campaigns_are_refused() -> None:
    with pytest.raises(ValueError, match="horizon 0 is below 1"):
        threshold_for(0)
    with pytest.raises(ValueError, match="k nan is not finite"):
        threshold_for(10, math.nan)
    with pytest.raises(ValueError, match=r"k 3.0 alone makes alarms rarer .* use a smaller k"):
        threshold_for(10, 3.0)
    with pytest.raises(ValueError, match="n -1 is negative"):
        alarm_probability(0.5, 4.0, -1)
