"""
Cohort aggregates: the only view of the data that an agent may ask for.

What is covered: a floor on the cohort size; complementary suppression, so that no hidden cohort follows
from a total by subtraction; fixed cohort columns; rounding of counts and means, so that the difference of
two queries is rounding, not a person.
What is not covered: a log of queries over time, and noise with a privacy guarantee. Python has no private
memory either: the boundary is that an agent's process never holds the object, only what it printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_autoresearch.records import FixedHarnessViolation

__all__ = ["INDIVIDUAL_RETRIEVAL", "CohortRow", "CohortTable", "CohortView"]

INDIVIDUAL_RETRIEVAL = (
    "SYSTEM HALT: Agent attempted individual-level retrieval. "
    "RBAC restricts access to cohort-aggregate views only."
)

#: Column names that ask for one person, whether or not the data has them.
_ROW_NAMES = frozenset({"id", "index", "record", "row", "row_id", "rowid", "uuid"})

#: A column with fewer rows a level on average tells persons apart, not cohorts.
_ROWS_PER_LEVEL = 5

#: Counts are rounded to this multiple, means to this many decimals.
_COUNT_STEP = 10
_MEAN_DECIMALS = 2


@dataclass(frozen=True)
class CohortRow:
    """The aggregates of one cohort that is large enough to show."""

    cohort: Mapping[str, str]
    """Column -> value."""
    values: Mapping[str, float]
    """Measure -> rounded figure; ``n`` to a multiple of 10, means to two decimals."""


@dataclass(frozen=True)
class CohortTable:
    """The answer to one query; iterating it gives its rows."""

    by: tuple[str, ...]
    measures: tuple[str, ...]
    rows: tuple[CohortRow, ...]
    suppressed: int
    """Cohorts not shown: under the floor, or hidden to protect one that is."""

    def __iter__(self) -> Iterator[CohortRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class CohortView:
    """
    Aggregates over fixed cohort columns; a request for individual records halts the session.

    ``columns`` maps a cohort column to its values [n] (text or integers), ``measures`` a name to a numeric
    array [n] that is reported as its mean; the measure ``n`` is always there.
    """

    def __init__(
        self,
        columns: Mapping[str, ArrayLike],
        measures: Mapping[str, ArrayLike],
        minimum: int = 50,
    ) -> None:
        """:raises ValueError: for arrays that do not match, a measure that is not finite, a floor below 2."""
        if minimum < 2:
            raise ValueError(f"minimum {minimum!r} shows single persons: use at least 2, better 50")
        self.minimum = minimum
        self._columns = {name: np.asarray(values).astype(str) for name, values in columns.items()}
        self._measures = {
            name: np.asarray(values, dtype=np.float64) for name, values in measures.items()
        }
        arrays: list[NDArray[np.generic]] = [*self._columns.values(), *self._measures.values()]
        if arrays and (len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 1):
            shapes = sorted({a.shape for a in arrays})
            raise ValueError(
                f"columns and measures need one dimension of equal length, got {shapes!r}"
            )
        for name, values in self._measures.items():
            if not np.all(np.isfinite(values)):
                raise ValueError(f"measure {name!r} holds a value that is not finite")
        self._rows = arrays[0].size if arrays else 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names that ``by`` may use."""
        return tuple(self._columns)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names that ``measures`` may use."""
        return ("n", *self._measures)

    def view(
        self, by: str | Sequence[str] = (), measures: Sequence[str] = ("n", "positive_rate")
    ) -> CohortTable:
        """
        Aggregate ``measures`` by the cohorts of one column or several; by none: over everybody.

        :raises FixedHarnessViolation: when ``by`` names rows, or a column nearly as fine as rows.
        :raises ValueError: for an unknown column or measure, or a column named twice.
        """
        names = (by,) if isinstance(by, str) else tuple(by)
        for name in names:
            self._check_column(name)
        if len(set(names)) != len(names):
            raise ValueError(f"by={names!r} names a column twice")
        for name in measures:
            if name not in self.measures:
                raise ValueError(
                    f"{name!r} is not a measure: choose from {', '.join(self.measures)}"
                )
        levels, codes = [], []
        for name in names:
            values, code = np.unique(self._columns[name], return_inverse=True)
            levels.append(values)
            codes.append(code)
        shape = tuple(len(values) for values in levels)
        flat = np.ravel_multi_index(codes, shape) if names else np.zeros(self._rows, dtype=np.int64)
        sizes = np.bincount(flat, minlength=int(np.prod(shape, dtype=np.int64))).reshape(shape)
        shown = _shown(sizes, self.minimum)
        rows = []
        for cell in np.ndindex(shape):
            if shown[cell]:
                members = flat == (np.ravel_multi_index(cell, shape) if names else 0)
                cohort = {name: str(levels[i][cell[i]]) for i, name in enumerate(names)}
                figures = {name: self._aggregate(name, members) for name in measures}
                rows.append(CohortRow(MappingProxyType(cohort), MappingProxyType(figures)))
        hidden = int(np.count_nonzero((sizes > 0) & ~shown))
        return CohortTable(names, tuple(measures), tuple(rows), hidden)

    def records(self, *_: object, **__: object) -> NoReturn:
        """Refuse: there are no individual records in this view."""
        raise FixedHarnessViolation(INDIVIDUAL_RETRIEVAL)

    def __getitem__(self, _: object) -> NoReturn:
        self.records()

    def __iter__(self) -> NoReturn:
        self.records()

    def __reduce__(self) -> NoReturn:
        # A pickle or a deep copy would carry the rows out of the trusted process.
        self.records()

    def __repr__(self) -> str:
        return f"CohortView(columns={self.columns!r}, measures={self.measures!r}, minimum={self.minimum})"

    def _check_column(self, name: str) -> None:
        if name not in self._columns:
            if name.casefold() in _ROW_NAMES:
                self.records()
            raise ValueError(
                f"{name!r} is not a cohort column: choose from {', '.join(self.columns)}"
            )
        if len(np.unique(self._columns[name])) * _ROWS_PER_LEVEL > self._rows:
            self.records()

    def _aggregate(self, name: str, members: NDArray[np.bool_]) -> float:
        if name == "n":
            return float(round(int(np.count_nonzero(members)) / _COUNT_STEP) * _COUNT_STEP)
        return round(float(np.mean(self._measures[name][members])), _MEAN_DECIMALS)


def _shown(sizes: NDArray[np.int64], minimum: int) -> NDArray[np.bool_]:
    """
    Say which cells of a table of counts may be shown.

    Along every line of the table (all cells that differ in one column) the hidden cells must be none, or
    two and more with ``minimum`` rows together: the line's total is another query away, and subtracting
    what is shown would give the hidden rest. The smallest shown cell is hidden until that holds everywhere.
    """
    shown = sizes >= minimum
    changed = True
    while changed:
        changed = False
        for axis in range(sizes.ndim):
            counts = np.moveaxis(sizes, axis, -1)
            visible = np.moveaxis(shown, axis, -1)  # a view: writing to it writes to shown
            for line in np.ndindex(counts.shape[:-1]):
                hidden = (counts[line] > 0) & ~visible[line]
                safe = hidden.sum() > 1 and counts[line][hidden].sum() >= minimum
                if hidden.any() and not safe and visible[line].any():
                    smallest = np.where(visible[line], counts[line], counts.max() + 1).argmin()
                    visible[(*line, smallest)] = False
                    changed = True
    return shown
