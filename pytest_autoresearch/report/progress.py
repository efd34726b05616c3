"""
progress.png: every experiment as a dot, the running best as a line, in the upstream project's style.

matplotlib is an extra; without it the picture is left out and the reason returned.
"""

from __future__ import annotations

import io
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .results import ResultRow, replace_file
from .tables import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

__all__ = ["Box", "place_labels", "write_progress_png"]

#: x0, y0, x1, y1 in pixels, origin at the lower left.
Box = tuple[float, float, float, float]

#: Kept points that get a label; beyond that the largest steps are named.
_MAXIMUM_LABELS = 40

_KEPT, _LINE, _LABEL, _OTHER, _CRASH = "#2ecc71", "#27ae60", "#1a7a3a", "#b4b4b4", "#c0392b"


def write_progress_png(
    path: Path,
    rows: Sequence[ResultRow],
    metric_name: str,
    baseline: float | None = None,
) -> str:
    """
    Draw the campaign's progress and replace ``path`` by it; return why there is no picture, or nothing.

    ``rows`` come in order, the baseline first. ``baseline`` is drawn as a dashed line; by default it is the
    first kept metric. Experiments above the shown range stand as triangles on the upper edge, those without
    a metric as crosses.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        return (
            f"{path.name} was not drawn: matplotlib cannot be imported ({error}); "
            "`pip install 'pytest-autoresearch[plot]'` brings it"
        )
    metrics = [_metric(row) for row in rows]
    kept = [(x, y) for x, y in enumerate(metrics) if rows[x].status == "keep" and not math.isnan(y)]
    if not kept:
        return f"{path.name} was not drawn: no experiment has been kept yet"
    baseline = kept[0][1] if baseline is None else baseline
    figure = Figure(figsize=(16, 8), dpi=100)
    FigureCanvasAgg(figure)  # no pyplot: no global state, no display
    axes = figure.add_subplot()
    low, high = _range(metrics, baseline)
    axes.set_ylim(low, high)
    axes.set_xlim(-0.02 * len(rows) - 0.5, len(rows) * 1.02)
    _draw_experiments(axes, rows, high)
    axes.axhline(baseline, color="#888888", linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    steps_x = [x for x, _ in kept] + [len(rows) - 1]
    steps_y = [y for _, y in kept] + [kept[-1][1]]
    axes.step(steps_x, steps_y, where="post", color=_LINE, linewidth=2, alpha=0.7, zorder=3)
    axes.plot([], [], color=_LINE, linewidth=2, alpha=0.7, label="Running best")
    improvements = len(kept) - 1
    axes.set_title(
        f"Autoresearch Progress: {_count(len(rows), 'Experiment')}, "
        f"{_count(improvements, 'Kept Improvement')}",
        fontsize=14,
    )
    axes.set_xlabel("Experiment #", fontsize=12)
    axes.set_ylabel(f"{metric_name} (lower is better)", fontsize=12)
    legend = axes.legend(loc="upper right", fontsize=9)
    axes.grid(visible=True, alpha=0.2)
    axes.locator_params(axis="x", integer=True)
    figure.tight_layout()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A description may hold characters the font lacks; they show as boxes, which is all that is owed.
        warnings.simplefilter("ignore", UserWarning)
        _label(axes, legend, rows, kept, baseline)
        figure.savefig(buffer, format="png")
    replace_file(path, buffer.getvalue())
    return ""


def _metric(row: ResultRow) -> float:
    """Return the row's metric, nan without a valid one."""
    return row.metric if row.metric is not None and math.isfinite(row.metric) else math.nan


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _range(metrics: Sequence[float], baseline: float) -> tuple[float, float]:
    """Show the best to the baseline, and the better half of what was tried; outliers stay outside."""
    values = [y for y in metrics if not math.isnan(y)]
    best = min([*values, baseline])
    top = max(baseline, statistics.median(values))
    room = (top - best) or abs(top) * 0.01 or 1.0
    return best - 0.16 * room, top + 0.08 * room


def _draw_experiments(axes: Axes, rows: Sequence[ResultRow], high: float) -> None:
    """Kept in green, the rest in grey; what has no place on the scale stands on the upper edge."""
    groups: dict[str, list[tuple[int, float]]] = {"kept": [], "other": [], "off": [], "crash": []}
    for x, row in enumerate(rows):
        metric = _metric(row)
        if math.isnan(metric):
            groups["crash"].append((x, high))
        elif metric > high:
            groups["off"].append((x, high))
        else:
            groups["kept" if row.status == "keep" else "other"].append((x, metric))
    styles: dict[str, dict[str, Any]] = {
        "other": {"c": _OTHER, "s": 16, "alpha": 0.7, "zorder": 2, "label": "Not kept"},
        "kept": {"c": _KEPT, "s": 50, "zorder": 4, "label": "Kept", "edgecolors": "black"},
        "off": {"c": _OTHER, "s": 28, "marker": "^", "label": "Not kept, above the scale"},
        "crash": {"c": _CRASH, "s": 28, "marker": "x", "label": "No valid metric"},
    }
    for name, style in styles.items():
        if groups[name]:
            xs, ys = zip(*groups[name], strict=True)
            axes.scatter(xs, ys, linewidths=0.8, clip_on=name not in ("off", "crash"), **style)


def _label(
    axes: Axes,
    legend: Legend,
    rows: Sequence[ResultRow],
    kept: Sequence[tuple[int, float]],
    baseline: float,
) -> None:
    """Name the kept points where there is room, with a thin line from text to point."""
    steps = [math.inf, *(a[1] - b[1] for a, b in pairwise(kept))]
    largest = sorted(range(len(kept)), key=lambda i: -steps[i])[:_MAXIMUM_LABELS]
    chosen = [kept[i] for i in sorted(largest)]
    pixel = axes.transData.transform
    points: list[tuple[float, float]] = [tuple(pixel(point)) for point in chosen]
    texts = [
        axes.text(0, 0, one_line(rows[x].description, 44), fontsize=8.5, color=_LABEL, zorder=5)
        for x, _ in chosen
    ]
    sizes = []
    for text in texts:
        text.set_parse_math(False)  # a "$" in a description is a dollar
        extent = text.get_window_extent()
        sizes.append((extent.width + 8, extent.height))  # air to the next label
    extent = axes.get_window_extent()
    bounds: Box = (extent.x0, extent.y0, extent.x1, extent.y1)
    extent = legend.get_window_extent()
    obstacles: list[Box] = [(extent.x0, extent.y0, extent.x1, extent.y1)]
    level = float(pixel((0, baseline))[1])
    obstacles.append((bounds[0], level - 2, bounds[2], level + 2))
    for x, row in enumerate(rows):
        dot_x, dot_y = pixel((x, _metric(row)))
        if bounds[1] <= dot_y <= bounds[3]:
            half = 7 if row.status == "keep" else 3
            obstacles.append((dot_x - half, dot_y - half, dot_x + half, dot_y + half))
    corners = [*(tuple(pixel(point)) for point in kept), tuple(pixel((len(rows) - 1, kept[-1][1])))]
    for (x0, y0), (x1, y1) in pairwise(corners):
        obstacles += [(x0, y0 - 2, x1, y0 + 2), (x1 - 2, min(y0, y1), x1 + 2, max(y0, y1))]
    inverse = axes.transData.inverted().transform
    for text, point, corner in zip(
        texts, points, place_labels(points, sizes, obstacles, bounds), strict=True
    ):
        if corner is None:
            text.remove()
            continue
        text.set_position(tuple(inverse(corner)))
        size = text.get_window_extent()
        nearest = (
            min(max(point[0], size.x0), size.x1),
            min(max(point[1], size.y0), size.y1),
        )
        if math.dist(point, nearest) > 12:
            (x0, y0), (x1, y1) = inverse(point), inverse(nearest)
            axes.plot([x0, x1], [y0, y1], color=_LABEL, linewidth=0.6, alpha=0.5, zorder=2.5)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    bounds: Box,
) -> list[tuple[float, float] | None]:
    """
    Give each label (width, height) the lower left corner nearest to its point where it covers nothing.

    Greedy, in order; None where no candidate place within ``bounds`` is free. Pixels throughout.
    """
    # Boxes by the squares they touch: a campaign of thousands would compare each label with every dot.
    near: defaultdict[tuple[int, int], list[Box]] = defaultdict(list)
    for box in obstacles:
        for square in _squares(box):
            near[square].append(box)
    corners: list[tuple[float, float] | None] = []
    for point, (width, height) in zip(points, sizes, strict=True):
        corners.append(None)
        for x, y in _candidates(point, width, height):
            box = (x, y, x + width, y + height)
            inside = bounds[0] < x and bounds[1] < y and box[2] < bounds[2] and box[3] < bounds[3]
            if inside and not any(_overlap(box, b) for s in _squares(box) for b in near[s]):
                corners[-1] = (x, y)
                for square in _squares(box):
                    near[square].append(box)
                break
    return corners


def _squares(box: Box) -> Iterator[tuple[int, int]]:
    """The 32-pixel squares that a box touches."""
    for i in range(int(box[0] // 32), int(box[2] // 32) + 1):
        for j in range(int(box[1] // 32), int(box[3] // 32) + 1):
            yield i, j


def _candidates(
    point: tuple[float, float], width: float, height: float
) -> Iterator[tuple[float, float]]:
    """Places around a point in widening rings: text starts right of the point before it ends left of it."""
    x, y = point
    for radius in range(10, 420, 6):
        for degrees in (0, 25, 50, 75, -30, -60, 105, 130, -105, -130):
            dx = radius * math.cos(math.radians(degrees))
            dy = radius * math.sin(math.radians(degrees))
            yield x + dx - (width if dx < 0 else 0), y + dy - height / 2


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
