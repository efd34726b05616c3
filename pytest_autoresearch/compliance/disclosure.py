"""
Whether aggregates tell of too few persons: suppression within one table, and the audit of all tables together.

The audit treats every answer as if it were exact. An answered cohort is a vector over the cells of the finest
partition (all cohort columns crossed), 1 where the cell belongs to it. Whatever anybody can compute from the
answers by sums and differences is a vector in their span, and a vector tells of the persons in the cells where it is
not zero. Refused is what would bring a vector into the span that tells of fewer than ``minimum`` persons: single
differences, intersections, trackers (D. E. Denning, P. J. Denning, M. D. Schwartz, ACM TODS 4 (1979) 76) and every
other linear combination (audit of sum queries: F. Y. Chin, G. Özsoyoglu, IEEE TSE 8 (1982) 574). The arithmetic is
exact (fractions). Since rounding is a function of the exact answer, averaging it away gains nothing either.

The decision rests on the sizes of cells and never on a measure, so that a refusal tells nothing of a measure.

What is not covered: what follows from the range of a measure (all of a cohort are 0), and what somebody knows from
elsewhere, such as all members of a cohort but one. Against both stands noise (:mod:`.private`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

__all__ = ["Span", "shown_cells"]

Vector = dict[int, Fraction]

#: Combinations that are tried in one component before it is refused unseen; each takes some tens of microseconds.
TRIES = 5_000


def shown_cells(sizes: NDArray[np.int64], minimum: int) -> NDArray[np.bool_]:
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


class Span:
    """
    All linear combinations of the answers so far, in reduced row echelon form.

    :param sizes: persons in each cell of the finest partition.
    :param minimum: fewest persons that a combination may tell of.
    """

    def __init__(self, sizes: Sequence[int], minimum: int) -> None:
        self._sizes = tuple(sizes)
        self._minimum = minimum
        # Large cells first: a row whose pivot is a small cell then has no large one at all, and those rows span
        # every combination that tells of small cells only.
        order = sorted(range(len(sizes)), key=lambda cell: (-sizes[cell], cell))
        self._place = {cell: place for place, cell in enumerate(order)}
        self._rows: dict[int, Vector] = {}
        """Pivot cell to row."""

    @property
    def rank(self) -> int:
        """How many answers are independent."""
        return len(self._rows)

    def with_answers(self, cohorts: Iterable[Iterable[int]]) -> Span:
        """This span and these cohorts, each by its cells."""
        found = Span(self._sizes, self._minimum)
        found._rows = {pivot: dict(row) for pivot, row in self._rows.items()}
        for cells in cohorts:
            found._add(dict.fromkeys(cells, Fraction(1)))
        return found

    def fewest(self) -> int | None:
        """
        The fewest persons that some combination tells of, if they are fewer than the minimum; else None.

        :raises OverflowError: there are too many combinations to be sure.
        """
        # A cell that is large enough is in no such combination.
        rows = [row for pivot, row in self._rows.items() if self._sizes[pivot] < self._minimum]
        found = [self._lightest(component) for component in _components(rows)]
        few = [persons for persons in found if persons < self._minimum]
        return min(few, default=None)

    def _add(self, vector: Vector) -> None:
        for pivot, row in self._rows.items():
            if pivot in vector:
                _subtract(vector, row, vector[pivot])
        if not vector:
            return
        pivot = min(vector, key=self._place.__getitem__)
        scale = vector[pivot]
        vector = {cell: value / scale for cell, value in vector.items()}
        for row in self._rows.values():
            if pivot in row:
                _subtract(row, vector, row[pivot])
        self._rows[pivot] = vector

    def _lightest(self, rows: Sequence[Vector]) -> int:
        """
        Fewest persons behind a nonzero combination of connected rows.

        It is reached at a vector of minimal support, which is what is left when it vanishes on one cell fewer than
        there are rows. Cells that are multiples of each other vanish together and count as one.
        """
        columns: defaultdict[tuple[Fraction, ...], int] = defaultdict(int)
        for cell in set().union(*rows):
            column = [row.get(cell, Fraction(0)) for row in rows]
            first = next(value for value in column if value)
            columns[tuple(value / first for value in column)] += self._sizes[cell]
        needed = len(rows) - 1
        if comb(len(columns), needed) > TRIES:
            raise OverflowError
        fewest = sum(columns.values())
        for zeros in combinations(columns, needed):
            weights = _orthogonal(zeros, len(rows))
            if weights is not None:
                persons = sum(
                    size
                    for column, size in columns.items()
                    if sum(a * b for a, b in zip(weights, column, strict=True))
                )
                fewest = min(fewest, persons)
        return fewest


def _subtract(vector: Vector, row: Mapping[int, Fraction], times: Fraction) -> None:
    for cell, value in row.items():
        left = vector.get(cell, Fraction(0)) - times * value
        if left:
            vector[cell] = left
        else:
            vector.pop(cell, None)


def _components(rows: Sequence[Vector]) -> Iterator[list[Vector]]:
    """Rows in reduced form that share no cell with others span independent parts."""
    left = list(rows)
    while left:
        component = [left.pop()]
        cells: set[int] = set()
        for row in component:
            cells.update(row)
            component += [other for other in left if not cells.isdisjoint(other)]
            left = [other for other in left if cells.isdisjoint(other)]
        yield component


def _orthogonal(columns: Sequence[Sequence[Fraction]], size: int) -> list[Fraction] | None:
    """The vector ``[size]`` that vanishes on ``size - 1`` columns, unique up to scale; None if they are dependent."""
    pivots: dict[int, list[Fraction]] = {}
    for column in columns:
        row = list(column)
        for pivot, other in pivots.items():
            row = [a - row[pivot] * b for a, b in zip(row, other, strict=True)]
        pivot = next((index for index, value in enumerate(row) if value), -1)
        if pivot < 0:
            return None
        row = [value / row[pivot] for value in row]
        for index, other in pivots.items():
            pivots[index] = [a - other[pivot] * b for a, b in zip(other, row, strict=True)]
        pivots[pivot] = row
    free = next(index for index in range(size) if index not in pivots)
    found = [Fraction(0)] * size
    found[free] = Fraction(1)
    for pivot, row in pivots.items():
        found[pivot] = -row[free]
    return found
