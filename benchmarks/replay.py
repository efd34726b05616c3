"""
Four public experiment logs through the shipped progress chart: where would it have asked for verification?

    python benchmarks/replay.py [LOG.tsv ...]

Without an argument it reads the logs of tests/reference/experiment_logs (SOURCES.md there says whose they are),
prints a table and draws one figure per log into docs/figures. A log of one's own needs the columns of
autoresearch's results.tsv: status, description and a metric named val_bpb that is minimised; its figure lies beside
it. What was kept is taken from the log, so this is what the chart says about a loop that happened, not what a loop
with the chart would have done. Takes a second; nothing in it is random.
"""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

from tabulate import tabulate

from pytest_autoresearch.charts import ProgressChart
from pytest_autoresearch.cusum import CUSUMMonitor
from pytest_autoresearch.records import Incumbent
from pytest_autoresearch.settings import Charts

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "tests" / "reference" / "experiment_logs"
FIGURES = ROOT / "docs" / "figures"

#: Standard deviation of one run's metric over seeds, where a log lets it be guessed. karpathy_h100_mar8 re-ran its
#: incumbent with another seed once (experiment 14): |0.973799 - 0.973104| / sqrt(2), one degree of freedom.
SIGMA = {"karpathy_h100_mar8": 0.000695 / math.sqrt(2)}


@dataclass(frozen=True)
class Experiment:
    """One row of a log with the chart's state after it."""

    number: int
    """Row, from 0: the baseline, which the chart does not count."""
    status: str
    metric: float | None
    """None for a crash."""
    description: str = field(repr=False)
    incumbent: float
    """The metric of the last kept row, this one included."""
    step: float
    """The chart's input: log change of the incumbent, negative for an improvement."""
    s_upper: float
    s_lower: float
    alarm: bool
    last_zero: int
    """Number of the last experiment at which the higher arm was zero."""


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a results.tsv."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def replay(path: Path, settings: Charts | None = None) -> list[Experiment]:
    """Feed a log to the progress chart, which starts afresh after an alarm, as a campaign's does."""
    settings = settings or Charts()
    inputs: list[float] = []
    started, reference = 0, math.nan
    result = []
    for number, row in enumerate(read(path)):
        status = row["status"]
        metric = None if status == "crash" else float(row["val_bpb"])
        after = metric if status == "keep" and metric is not None else reference
        if math.isnan(after):
            raise SystemExit(f"{path} does not begin with a baseline that is kept")
        # The baseline is where the chart starts, and no input.
        before = reference if number else after
        chart = ProgressChart(inputs, settings, Incumbent("", "", before, None, 1))
        monitor = chart.after(after) if number else chart.monitor()
        alarm = number > 0 and chart.would_alarm(after)
        result.append(
            Experiment(
                number, status, metric, row["description"], after, chart.step(after),
                monitor.S_upper, monitor.S_lower, alarm, started + monitor.last_zero,
            )
        )  # fmt: skip
        reference = after
        if number:
            inputs.append(chart.step(after))
        if alarm:
            inputs, started = [], number
    return result


def large_steps(name: str, experiments: list[Experiment]) -> list[Experiment] | None:
    """Kept steps of more than 8 sigma, None where no sigma is known."""
    if name not in SIGMA:
        return None
    limit = Charts().verify_sigma * SIGMA[name]
    return [e for before, e in pairwise(experiments) if before.incumbent - e.incumbent > limit]


def fixed_target(experiments: list[Experiment]) -> int | None:
    """
    First alarm of the same chart on the incumbent's level, with the baseline as its target, k = 1 %, h = 5 % of it.

    The obvious thing to do, and the control: honest progress leaves a fixed target behind.
    """
    target = experiments[0].incumbent
    monitor = CUSUMMonitor(target, 0.01 * target, 0.05 * target)
    return next((e.number for e in experiments[1:] if monitor.update(e.incumbent)), None)


def summary(name: str, experiments: list[Experiment]) -> list[str]:
    """One row of the table."""
    steps = [-e.step for e in experiments]
    large = large_steps(name, experiments)
    alarms = [str(e.number) for e in experiments if e.alarm]
    return [
        name,
        str(len(experiments)),
        str(sum(e.status == "crash" for e in experiments)),
        str(sum(e.status == "keep" for e in experiments)),
        f"{sum(steps):.1%}",
        f"{max(steps):.1%}",
        f"{max(e.s_lower for e in experiments):.3f}",
        ", ".join(alarms) or "none",
        str(fixed_target(experiments) or "none"),
        "sigma unknown" if large is None else ", ".join(str(e.number) for e in large) or "none",
    ]


HEADERS = (
    "log", "rows", "crashes", "keeps", "log improvement", "largest step", "highest S_lower", "alarms at",
    "fixed target alarms at", "above 8 sigma",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------
# The figure: the metric above, the chart's lower arm below

WIDTH, LEFT, RIGHT = 860, 66, 18
TOP, UPPER, GAP, LOWER, BOTTOM = 58, 210, 34, 120, 44
BLUE, GREY, RED, INK, RULE = "#0072b2", "#a3a3a3", "#c8380e", "#333333", "#e4e4e4"


def draw(name: str, experiments: list[Experiment], settings: Charts) -> str:
    """The figure as an SVG document of a few kilobytes."""
    last = max(e.number for e in experiments)
    incumbents = [e.incumbent for e in experiments]
    low, high = min(incumbents), max(incumbents)
    low, high = low - 0.06 * (high - low), high + 0.14 * (high - low)
    most = 1.2 * max(settings.interval, *(e.s_lower for e in experiments))
    floor = TOP + UPPER + GAP + LOWER

    def x(number: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (number + 0.5) / (last + 1)

    def metric_y(value: float) -> float:
        return TOP + UPPER * (high - value) / (high - low)

    def sum_y(value: float) -> float:
        return floor - LOWER * value / most

    height = floor + BOTTOM
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, Helvetica, Arial, sans-serif" font-size="12" '
        f'fill="{INK}" role="img">',
        f"<title>{escape(caption(name, experiments))}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="600">{escape(name)}</text>',
        f'<text x="{LEFT}" y="40">{escape(caption(name, experiments))}</text>',
    ]
    # Rules and tick labels
    for value in ticks(low, high, 6):
        out += rule(metric_y(value), f"{value:.{digits(high - low)}f}")
    for value in ticks(0, most, 4):
        out += rule(sum_y(value), f"{value:.0%}")
    for value in ticks(0, last, 9):
        out.append(
            f'<text x="{x(value):.1f}" y="{floor + 18}" text-anchor="middle">{value:.0f}</text>'
        )
    out += [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{floor + 36}" text-anchor="middle">experiment</text>',
        vertical(TOP + UPPER / 2, "val_bpb"),
        vertical(floor - LOWER / 2, "S_lower"),
    ]
    # What was tried, and the incumbent
    beyond = 0
    for e in experiments:
        if e.metric is None or e.status == "keep":
            continue
        if e.metric > high:
            beyond += 1
            out.append(
                f'<path d="M{x(e.number) - 3:.1f} {TOP + 5}l3 -5l3 5z" fill="none" stroke="{GREY}"/>'
            )
        else:
            out.append(
                f'<circle cx="{x(e.number):.1f}" cy="{metric_y(e.metric):.1f}" r="2.2" fill="{GREY}"/>'
            )
    path = f"M{x(0):.1f} {metric_y(incumbents[0]):.1f}"
    for e in experiments[1:]:
        path += f"H{x(e.number):.1f}"
        path += f"V{metric_y(e.incumbent):.1f}" if e.step else ""
    out.append(f'<path d="{path}" fill="none" stroke="{BLUE}" stroke-width="1.6"/>')
    out += [
        f'<circle cx="{x(e.number):.1f}" cy="{metric_y(e.incumbent):.1f}" r="3.4" fill="{BLUE}"/>'
        for e in experiments
        if e.status == "keep"
    ]
    out += legend(beyond)
    # The chart
    path, filled = "", ""
    start = 0
    for e in experiments:
        if not path or experiments[e.number - 1].alarm:
            # Afresh from zero at the experiment that alarmed.
            start = max(0, e.number - 1)
            path += f"M{x(start):.1f} {sum_y(0):.1f}"
            filled += f"M{x(start):.1f} {sum_y(0):.1f}"
        segment = f"L{x(e.number):.1f} {sum_y(e.s_lower):.1f}"
        path, filled = path + segment, filled + segment
        if e.alarm or e.number == last:
            filled += f"V{sum_y(0):.1f}Z"
    h = sum_y(settings.interval)
    out += [
        f'<path d="{filled}" fill="{BLUE}" opacity="0.14"/>',
        f'<path d="{path}" fill="none" stroke="{BLUE}" stroke-width="1.6"/>',
        f'<path d="M{LEFT} {h:.1f}H{WIDTH - RIGHT}" stroke="{RED}" stroke-dasharray="5 4"/>',
        f'<text x="{WIDTH - RIGHT - 4}" y="{h - 5:.1f}" text-anchor="end" fill="{RED}">'
        f"decision interval h = {settings.interval:.0%}</text>",
    ]
    for count, e in enumerate(e for e in experiments if e.alarm):
        out += marker(
            e, x(e.number), metric_y(e.incumbent), sum_y(e.s_lower), TOP + 14 + 18 * count
        )
    return "\n".join([*out, "</svg>"]) + "\n"


def caption(name: str, experiments: list[Experiment]) -> str:
    """One line on the log."""
    alarms = sum(e.alarm for e in experiments)
    kept = sum(e.status == "keep" for e in experiments) - 1
    said = "no alarm" if not alarms else f"{alarms} alarm" + ("s" if alarms > 1 else "")
    return (
        f"{len(experiments) - 1} experiments, {kept} kept, log improvement "
        f"{-sum(e.step for e in experiments):.1%}: {said} of the progress chart"
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two."""
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    unit *= next(m for m in (1, 2, 5, 10) if m * unit >= rough)
    return [i * unit for i in range(math.ceil(low / unit), math.floor(high / unit + 1e-9) + 1)]


def digits(span: float) -> int:
    """Decimals that tell ticks of such a span apart."""
    return max(0, 1 - math.floor(math.log10(span / 2)))


def rule(y: float, label: str) -> list[str]:
    """A horizontal rule with its label."""
    return [
        f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{RULE}"/>',
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>',
    ]


def vertical(y: float, text: str) -> str:
    """An axis title."""
    return f'<text transform="translate(14 {y:.0f}) rotate(-90)" text-anchor="middle">{text}</text>'


def legend(beyond: int) -> list[str]:
    """What the upper panel's marks mean."""
    y = 40 - 4
    entries = [(f'<circle cx="0" cy="{y}" r="3.4" fill="{BLUE}"/>', "kept")]
    entries.append((f'<circle cx="0" cy="{y}" r="2.2" fill="{GREY}"/>', "discarded"))
    if beyond:
        mark = f'<path d="M-3 {y + 3}l3 -5l3 5z" fill="none" stroke="{GREY}"/>'
        entries.append((mark, f"{beyond} above the picture"))
    out, right = [], float(WIDTH - RIGHT)
    for mark, text in reversed(entries):
        right -= 6.4 * len(text) + 22
        out.append(
            f'<g transform="translate({right + 6:.0f} 0)">{mark}<text x="8" y="{y + 4}">{text}</text></g>'
        )
    return out


def marker(e: Experiment, x: float, metric: float, total: float, label: float) -> list[str]:
    """An alarm: a ring on both panels and what was changed."""
    text = e.description.split("Result:")[0].removeprefix("Hypothesis: ").split(" Evidence:")[0]
    if "Hypothesis: " in text:
        text = text.split("Hypothesis: ")[1]
    words = text.split()
    while len(" ".join(words)) > 74:
        words.pop()
    short = " ".join(words).rstrip(".,:;") + ("" if " ".join(words) == text.strip() else " …")
    right = x + 26
    return [
        f'<circle cx="{x:.1f}" cy="{metric:.1f}" r="6.5" fill="none" stroke="{RED}" stroke-width="1.8"/>',
        f'<circle cx="{x:.1f}" cy="{total:.1f}" r="4" fill="{RED}"/>',
        f'<path d="M{x + 5:.1f} {metric - 5:.1f}L{right - 3:.1f} {label - 4:.1f}" stroke="{RED}" fill="none"/>',
        f'<text x="{right:.1f}" y="{label:.1f}" fill="{RED}">alarm at {e.number} '
        f"({-e.step:.1%}): {escape(short)}</text>",
    ]


def main(paths: list[Path]) -> None:
    """Print the table and the alarms, draw the figures."""
    settings = Charts()
    replays = {path: replay(path, settings) for path in paths or sorted(LOGS.glob("*.tsv"))}
    print(
        f"progress chart: k = {settings.allowance:.1%} per experiment, h = {settings.interval:.0%}\n"
    )
    rows = [summary(path.stem, experiments) for path, experiments in replays.items()]
    print(tabulate(rows, HEADERS, disable_numparse=True))
    for path, experiments in replays.items():
        for e in experiments:
            if e.alarm:
                print(
                    f"\n{path.stem}: alarm at {e.number}, step {-e.step:.1%}, S_lower {e.s_lower:.3f}, "
                    f"last zero {e.last_zero}\n  {e.description[:150]}"
                )
        target = (FIGURES if path.parent == LOGS else path.parent) / f"{path.stem}.svg"
        target.write_text(draw(path.stem, experiments, settings), encoding="utf-8")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
