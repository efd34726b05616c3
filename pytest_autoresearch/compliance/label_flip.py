"""
Whether features were made with held-out labels: prepared again with these flipped, no feature may change.

An encoding of a category by the mean of its labels (*target encoding*: D. Micci-Barreca, SIGKDD Explorations 3 (2001)
27) that was computed over all rows tells a model held-out labels. Of a category that occurs once it tells everything,
of others too little to be seen in any figure: the only sure sign is that the features follow the labels.

What is covered: every way in which the preparation lets a held-out label into a feature of any split. What is not:
rows chosen, or left out, by their label; columns of the raw data that hold the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Changed", "changed_columns", "flipped"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Changed:
    """A column that is another one when held-out labels are."""

    name: str
    rows: int
    n: int
    """Rows of the split; 0 where the whole array has another shape or is not there."""

    def __str__(self) -> str:
        if not self.n:
            return f"{self.name!r} (another shape)"
        return f"{self.name!r} ({self.rows} of {self.n} rows)"


def flipped(labels: Array) -> Array:
    """
    Labels ``[n, ...]`` of the same values of which none is as it was, as far as there are two.

    Of classes the next one, of real values the mirror image.
    """
    values = np.unique(labels)
    if labels.dtype.kind == "f" and len(values) > 2:
        return np.asarray(values[0] + values[-1] - labels, dtype=labels.dtype)
    place = np.searchsorted(values, labels)
    return np.asarray(values[(place + 1) % len(values)])


def changed_columns(before: Mapping[str, Array], after: Mapping[str, Array]) -> Iterator[Changed]:
    """
    The columns of a split that differ, missing values being equal to each other.

    :param before: arrays ``[n]`` or ``[n, d]`` by name, and anything of another shape as a whole. :param after: the same.
    """
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
            yield Changed(name, 0, 0)
            continue
        differs = (one != other) & ~((one != one) & (other != other))  # noqa: PLR0124 - NaN
        for column, part in _columns(name, differs):
            if part.any():
                yield Changed(column, int(part.sum()), len(part))


def _columns(name: str, differs: Array) -> Iterator[tuple[str, Array]]:
    if differs.ndim == 2:
        yield from ((f"{name}[:, {index}]", part) for index, part in enumerate(differs.T))
    else:
        yield name, np.any(differs.reshape(len(differs), -1), axis=1, keepdims=True)[:, 0]
