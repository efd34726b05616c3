"""docs/statistics.md: its tables are those of the shipped functions, its code runs."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from pytest_autoresearch.cusum import (
    CUSUMMonitor,
    alarm_probability,
    average_run_length,
    threshold_for,
)

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "statistics.md").read_text(encoding="utf-8")


def table(header: str) -> list[list[str]]:
    """The body of the table that begins with this header."""
    lines = TEXT[TEXT.index(header) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_run_lengths_is_computed_by_the_shipped_function() -> None:
    rows = table("| h | head start |")
    assert len(rows) == 4
    for h, headstart, *cells in rows:
        for shift, cell in zip((0, 0.25, 0.5, 1, 1.5, 2, 3), cells, strict=True):
            length = average_run_length(0.5, float(h), shift, float(headstart))
            assert f"{length:.4g}" == cell


def test_the_table_of_thresholds_is_computed_by_the_shipped_function() -> None:
    rows = table("| N | h (k = 0.5) |")
    assert len(rows) == 4
    for count, *cells in rows:
        n = int(count)
        h = threshold_for(n)
        assert cells == [
            f"{round(h, 2):g}",
            f"{alarm_probability(0.5, h, n):.3f}",
            f"{average_run_length(0.5, h, 1):.3g}",
            f"{average_run_length(0.5, h, 2):.3g}",
            f"{round(threshold_for(n, 1.0), 2):g}",
        ]


def test_the_false_alarms_of_the_textbook_are_computed_by_the_shipped_function() -> None:
    sentence = " ".join(TEXT.split())
    for h in (4, 5):
        short, long = (f"{alarm_probability(0.5, h, n):.3f}" for n in (100, 700))
        with_h = {4: f"{short} for N = 100 and {long} for N = 700", 5: f"h = 5, {short} and {long}"}
        assert with_h[h] in sentence


def test_the_code_runs() -> None:
    suite, known = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(known, {})  # asserts by itself
    names: dict[str, object] = {}
    exec(suite, names)
    gate = names["test_the_nightly_loss_has_not_drifted"]
    assert callable(gate)
    draw = random.Random(3)
    quiet = [draw.gauss(2.31, 0.004) for _ in range(60)]
    gate(quiet)
    with pytest.raises(AssertionError, match=r"night 6\d: changed after night (5[5-9]|60)"):
        gate([*quiet, *(x + 0.02 for x in quiet[:20])])


def test_an_alarm_is_a_window_whose_gain_exceeds_h_and_k_per_step() -> None:
    draw = random.Random(5)
    for _ in range(200):
        series = [draw.gauss(0, 1) for _ in range(30)]
        monitor = CUSUMMonitor(0.0, 0.5, 3.0, two_sided=False)
        alarms = [monitor.update(x) for x in series]
        for end in range(30):
            sums = [sum(series[start : end + 1]) for start in range(end + 1)]
            beyond = any(s > 3.0 + 0.5 * (end + 1 - start) for start, s in enumerate(sums))
            assert alarms[end] == beyond
