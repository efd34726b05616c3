"""
What the shipped charts do on data whose truth is known: false alarms, leaks, overfitting, drift.

    python benchmarks/charts.py

Seeded; about half a minute on one core. Normal data in units of their own standard deviation.
"""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Callable

from tabulate import tabulate

from pytest_autoresearch.charts import GapChart
from pytest_autoresearch.cusum import (
    CUSUMMonitor,
    SelfStartingCUSUM,
    alarm_probability,
    threshold_for,
)
from pytest_autoresearch.records import Watch
from pytest_autoresearch.settings import Charts

CAMPAIGNS = 2000
#: Confirmed candidates that are not kept, per keep: the audit-gap chart learns from them too.
OTHERS = 3


def false_alarms(draw: random.Random, n: int = 100, h: float = 5.0) -> list[list[str]]:
    """P(alarm) in n observations in control, by what is known of mean and standard deviation."""

    def plug_in(runs: int) -> Callable[[list[float]], bool]:
        def alarms(series: list[float]) -> bool:
            start = series[:runs]
            sigma = statistics.stdev(start)
            monitor = CUSUMMonitor(statistics.fmean(start), 0.5 * sigma, h * sigma)
            return any(monitor.update(x) for x in series[runs : runs + n])

        return alarms

    def self_starting(series: list[float]) -> bool:
        chart = SelfStartingCUSUM(0.5, h)
        return any(chart.update(x) for x in series[: n + 2])

    rows = [["known exactly (computed)", f"{alarm_probability(0.5, h, n):.3f}"]]
    ways = [("self-starting", self_starting)]
    ways += [(f"estimated from {runs} runs", plug_in(runs)) for runs in (4, 10, 20, 50)]
    for name, alarms in ways:
        found = sum(alarms([draw.gauss(0, 1) for _ in range(n + 50)]) for _ in range(CAMPAIGNS))
        rows.append([name, f"{found / CAMPAIGNS:.3f}"])
    return rows


def keeps_to_alarm(
    draw: random.Random, leak: float = 0.0, drift: float = 0.0, quiet: int = 10, most: int = 200
) -> int | None:
    """Keeps after the quiet ones until the audit-gap chart alarms; None: not within ``most``; 0: a false alarm."""
    chart = GapChart(Watch(), Charts(), scale=1.0)
    for keep in range(1, quiet + most + 1):
        for _ in range(OTHERS):
            chart.add(draw.gauss(0, 1), kept=False, seq=keep)
        gap = draw.gauss(0, 1) + (drift if keep > quiet else 0) + (leak if keep == quiet + 1 else 0)
        if chart.add(gap, kept=True, seq=keep):
            return max(0, keep - quiet)
    return None


def audit_gap(draw: random.Random) -> list[list[str]]:
    """Leaks and overfitting after ten quiet keeps."""
    rows = []
    for name, leak, drift in (
        ("nothing", 0.0, 0.0),
        ("leak of 5 sd", 5.0, 0.0),
        ("leak of 8 sd", 8.0, 0.0),
        ("leak of 15 sd", 15.0, 0.0),
        ("overfitting of 0.5 sd per keep", 0.0, 0.5),
        ("overfitting of 1 sd per keep", 0.0, 1.0),
        ("overfitting of 2 sd per keep", 0.0, 2.0),
    ):
        delays = [keeps_to_alarm(draw, leak, drift) for _ in range(CAMPAIGNS // 2)]
        fair = [d for d in delays if d != 0]
        shares = [
            f"{sum(d is not None and d <= within for d in fair) / len(fair):.3f}"
            for within in (1, 5, 20)
        ]
        rows.append([name, *shares])
    return rows


def canary(draw: random.Random) -> list[list[str]]:
    """A shift of the incumbent's re-runs after ten quiet ones, in a campaign of 700 with one in eight proposals."""
    h = threshold_for(700 // 8 + 1)
    rows = []
    for shift in (0.0, 1.0, 2.0, 3.0, 5.0):
        found = []
        for _ in range(CAMPAIGNS // 2):
            chart = SelfStartingCUSUM(0.5, h)
            alarm = None
            for i in range(88):
                if chart.update(draw.gauss(shift if i >= 10 else 0, 1)):
                    alarm = i - 9
                    break
            found.append(alarm)
        shares = [
            f"{sum(d is not None and d <= within for d in found) / len(found):.3f}"
            for within in (3, 10, 78)
        ]
        rows.append([f"{shift:g} sd", *shares])
    return rows


def main() -> None:
    """Print the three tables."""
    started = time.perf_counter()
    draw = random.Random(1954)
    print(f"Python {platform.python_version()} on {platform.machine()}, seed 1954\n")
    print("P(false alarm) in 100 observations, two arms, k = 0.5, h = 5")
    print(tabulate(false_alarms(draw), ("mean and standard deviation", "P"), disable_numparse=True))
    print("\nAudit-gap chart: P(alarm) within so many keeps of the event, after ten quiet keeps")
    print(tabulate(audit_gap(draw), ("event", "1", "5", "20"), disable_numparse=True))
    print("\nCanary chart: P(alarm) within so many re-runs of the shift, after ten quiet ones")
    print(tabulate(canary(draw), ("shift", "3", "10", "78"), disable_numparse=True))
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
