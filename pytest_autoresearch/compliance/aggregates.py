"""
What may leave the harness about a trained model: figures of many, never of one.

What is covered: arrays, nested values and figures by the person in what ``evaluate`` of prepare.py returns, and in the
public names of an evaluation. What is not covered: a figure that hides a single person's value in its digits.
prepare.py is ratified by a person, who reads it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from numbers import Real
from typing import Any

__all__ = ["MOST", "aggregates", "individual_outputs", "typical"]

#: Figures of one model, at most.
MOST = 64
#: Names that differ in a number only, at most: ``recall_at_5``, ``recall_at_10``.
MOST_NUMBERED = 10
#: Scores in a figure of their distribution, at least.
LEAST = 50


def aggregates(metrics: object) -> dict[str, float]:
    """
    Metrics by name, if they are aggregates.

    :raises ValueError: they hold an array, a text, or a figure for each of many individuals.
    """
    if not isinstance(metrics, Mapping):
        raise ValueError(f"metrics are {type(metrics).__name__}: return a dict of name to number")
    if len(metrics) > MOST:
        raise ValueError(
            f"there are {len(metrics)} metrics, {MOST} may be: figures of individuals never leave the harness"
        )
    stems = Counter(re.sub(r"\d+", "#", str(name)) for name in metrics)
    stem, count = max(stems.items(), key=lambda item: item[1], default=("", 0))
    if count > MOST_NUMBERED:
        raise ValueError(
            f"{count} metrics are called {stem!r} with a number, {MOST_NUMBERED} may be: figures of individuals "
            "never leave the harness"
        )
    return {str(name): _scalar(str(name), value) for name, value in metrics.items()}


def _scalar(name: str, value: Any) -> float:
    """A number, or an array of no dimension that holds one."""
    shape = tuple(getattr(value, "shape", ()))
    if shape or not (isinstance(value, Real) or hasattr(value, "__float__")):
        what = f"an array of shape {shape!r}" if shape else type(value).__name__
        raise ValueError(
            f"metric {name!r} is {what}: a metric is one number; figures of individuals never leave the harness"
        )
    return float(value)


def individual_outputs(evaluation: object) -> tuple[str, ...]:
    """
    Public names of an evaluation that hold more than aggregates, with the reason; empty when none does.
    """
    found = []
    for name in dir(evaluation):
        if name.startswith("_"):
            continue
        value = getattr(evaluation, name)
        if value is None or isinstance(value, str) or callable(value):
            continue
        if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
            if len(value) > MOST:
                found.append(f"{name}: {len(value)} names")
            continue
        try:
            aggregates(value if isinstance(value, Mapping) else {name: value})
        except ValueError as error:
            found.append(f"{name}: {error}")
    return tuple(found)


def typical(scores: list[float]) -> dict[str, float]:
    """
    The distribution of scores in figures of many: ``n``, ``mean``, and the means of the lowest, middle and highest
    twentieth, each of at least 50 scores if there are: an extreme or a median is one individual's.

    :param scores: sorted, one at least.
    """
    n = len(scores)
    part = min(n, max(n // 20, LEAST))
    middle = (n - part) // 2
    return {
        "n": float(n),
        "mean": math.fsum(scores) / n,
        "low": math.fsum(scores[:part]) / part,
        "middle": math.fsum(scores[middle : middle + part]) / part,
        "high": math.fsum(scores[n - part :]) / part,
    }
