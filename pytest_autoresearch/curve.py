"""
The learning curve that a run may report while it trains: read from outside, as hostile data.

A run appends lines ``share,loss`` to ``curve.csv`` in its output directory: the share of its compute budget that
it has used by its own reckoning, 0 to 1, and its training loss. Anything else in the file, or too much of it, and
there is no curve; that is never an error. What a run writes there says nothing about held-out data, since it has
seen none, and can end runs early at most: see :mod:`pytest_autoresearch.prune`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from .artifact import UntrustedFileError, read_growing
from .records import Curve

__all__ = ["FILE", "parse", "read_curve", "thinned"]

FILE = "curve.csv"
"""Name of the file in ``AUTORESEARCH_OUT``."""
POINTS = 1000
"""Lines that a run may write."""
LIMIT = 64 << 10
"""Bytes that it may write."""
KEPT = 50
"""Points that are kept of a run in the ledger."""
LARGEST = 1e100
"""Of a loss: squares of larger ones are no numbers any more."""

_NUMBER = rb"-?\d{1,24}(?:\.\d{0,24})?(?:[eE][+-]?\d{1,3})?"
_LINE = re.compile(rb"(%b),(%b)\r?\n" % (_NUMBER, _NUMBER))


def read_curve(directory: Path) -> Curve:
    """The curve that the run with this output directory has written so far; empty without a valid one."""
    try:
        return parse(read_growing(directory, FILE, cap_bytes=LIMIT))
    except UntrustedFileError:
        return ()


def parse(content: bytes) -> Curve:
    """
    The points of a file that may still be written to: an unfinished last line is left out.

    Empty for a file with any other line, a loss that is not finite, a share outside 0 to 1 or below the one
    before, or more than ``POINTS`` lines.
    """
    lines = content.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    if len(lines) > POINTS:
        return ()
    points: list[tuple[float, float]] = []
    for line in lines:
        found = _LINE.fullmatch(line)
        if found is None:
            return ()
        share, loss = float(found[1]), float(found[2])
        before = points[-1][0] if points else 0.0
        # Also refuses what is not finite: the largest numbers that the pattern lets pass are infinite.
        if not (before <= share <= 1 and abs(loss) <= LARGEST and math.isfinite(loss)):
            return ()
        points.append((share, loss))
    return tuple(points)


def thinned(curve: Curve, points: int = KEPT) -> Curve:
    """
    At most ``points`` points: the means over equal parts of the budget, so that noise is averaged and not picked.

    Rounded beyond any noise, since a ledger's row holds the curves of many runs.
    """
    parts: dict[int, list[tuple[float, float]]] = {}
    for number, (share, loss) in enumerate(curve):
        part = number if len(curve) <= points else min(points - 1, int(share * points))
        parts.setdefault(part, []).append((share, loss))
    return tuple(
        (
            round(math.fsum(share for share, _ in part) / len(part), 5),
            float(f"{math.fsum(loss for _, loss in part) / len(part):.8g}"),
        )
        for _, part in sorted(parts.items())
    )
