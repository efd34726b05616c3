"""
Cohort aggregates: the only view of the data that an agent may ask for.

What is covered: a floor on the cohort size; complementary suppression, so that no hidden cohort follows
from a total by subtraction; an audit of every answer together with all before it (:mod:`.disclosure`); rounding; bounds
on shares, so that no cohort is shown to be all alike; on request noise with a privacy guarantee (:mod:`.private`).
What is not covered: a measure that one person dominates (an income of a million among small ones): give measures of
bounded range. Python has no private memory either: the boundary is that an agent's process never holds the object, only
what it printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_autoresearch.records import FixedHarnessViolation

from .disclosure import Span, shown_cells
from .queries import Answered, Label, Memory, QueryLog

__all__ = [
    "INDIVIDUAL_RETRIEVAL",
    "CohortRow",
    "CohortTable",
    "CohortView",
    "QueryRefused",
]

INDIVIDUAL_RETRIEVAL = (
    "SYSTEM HALT: Agent attempted individual-level retrieval. "
    "RBAC restricts access to cohort-aggregate views only."
)

#: Column names that ask for one person, whether or not the data has them.
_ROW_NAMES = frozenset({"id", "index", "record", "row", "row_id", "rowid", "uuid"})

#: Cohorts with fewer rows than that on average tell persons apart.
_ROWS_PER_COHORT = 5

#: Counts are rounded to this multiple, means to this many decimals.
_COUNT_STEP = 10
_MEAN_DECIMALS = 2
#: The mean of a measure of zeros and ones is shown within these: beyond, it would tell of everybody in the cohort.
_SHARES = (0.05, 0.95)


class QueryRefused(FixedHarnessViolation):
    """A query that is no request for individuals, but whose answer would tell of too few together with others."""


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
    epsilon: float = 0.0
    """Of the noise in it; 0: none."""

    def __iter__(self) -> Iterator[CohortRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class CohortView:
    """
    Aggregates over fixed cohort columns; a request for individual records halts the session.

    ``columns`` maps a cohort column to its values [n] (text or integers), ``measures`` a name to a numeric
    array [n] that is reported as its mean; the measure ``n`` is always there.

    :param log: what was answered before counts; by default since this object was made.
    :param epsilon: of the noise in each answer that does not ask for another; None: no noise.
    :param epsilon_total: the sum of all epsilons, at most.
    """

    def __init__(
        self,
        columns: Mapping[str, ArrayLike],
        measures: Mapping[str, ArrayLike],
        minimum: int = 50,
        log: QueryLog | None = None,
        *,
        epsilon: float | None = None,
        epsilon_total: float = 1.0,
    ) -> None:
        """:raises ValueError: for arrays that do not match, a measure that is not finite, a floor below 2."""
        if minimum < 2:
            raise ValueError(f"minimum {minimum!r} shows single persons: use at least 2, better 50")
        self.minimum = minimum
        self._log: QueryLog = log or Memory()
        self._epsilon, self._epsilon_total = epsilon, epsilon_total
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
        self._levels: dict[str, NDArray[np.str_]] = {}
        self._codes: dict[str, NDArray[np.int64]] = {}
        for name, column in self._columns.items():
            self._levels[name], self._codes[name] = np.unique(column, return_inverse=True)
        # The finest partition: rows that no query can tell apart.
        crossed = np.stack([*self._codes.values(), np.zeros(self._rows, dtype=np.int64)], axis=1)
        self._finest, sizes = np.unique(crossed, axis=0, return_counts=True)
        # The total is taken as known: whatever describes all but a few persons describes those.
        self._base = Span(sizes.tolist(), minimum)
        if self._rows >= minimum:
            self._base = self._base.with_answers([range(len(sizes))])
        self._span, self._spanned = self._base, 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names that ``by`` may use."""
        return tuple(self._columns)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names that ``measures`` may use."""
        return ("n", *self._measures)

    def view(
        self,
        by: str | Sequence[str] = (),
        measures: Sequence[str] = ("n", "positive_rate"),
        epsilon: float | None = None,
    ) -> CohortTable:
        """
        Aggregate ``measures`` by the cohorts of one column or several; by none: over everybody.

        :param epsilon: answer with noise, at this cost in the privacy budget; None: as configured.
        :raises FixedHarnessViolation: when ``by`` names rows, or columns that together are nearly as fine as rows;
            when answers given before and this one together would tell of fewer than ``minimum`` persons; when the
            privacy budget is exhausted.
        :raises ValueError: for an unknown column or measure, or a column named twice.
        """
        names = (by,) if isinstance(by, str) else tuple(by)
        asked = tuple(measures)
        self._check(names, asked)
        epsilon = self._epsilon if epsilon is None else epsilon
        with self._log.locked():
            if epsilon is not None:
                return self._noisy(names, asked, epsilon)
            return self._exact(names, asked)

    def refusal(self, by: str | Sequence[str] = ()) -> str:
        """Why an answer without noise would be refused now, given those before; empty if it would not."""
        names = (by,) if isinstance(by, str) else tuple(by)
        self._check(names, ("n",))
        return self._isolated(self._spanned_by([*self._log.entries(), self._answer(names)[0]]))

    @property
    def problem(self) -> str:
        """What is wrong with all answers so far, taken together; empty when they isolate nobody."""
        if not self._isolated(self._spanned_by(self._log.entries())):
            return ""
        return (
            f"What was told of cohorts so far tells of fewer than {self.minimum} persons by differencing, or nobody "
            "can be sure: it was told under another minimum. Nothing more is told until a person moves the log away."
        )

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

    # -- what may be asked -----------------------------------------------------

    def _check(self, names: tuple[str, ...], measures: tuple[str, ...]) -> None:
        for name in names:
            if name not in self._columns:
                if name.casefold() in _ROW_NAMES:
                    self.records()
                raise ValueError(
                    f"{name!r} is not a cohort column: choose from {', '.join(self.columns)}"
                )
        if len(set(names)) != len(names):
            raise ValueError(f"by={names!r} names a column twice")
        for name in measures:
            if name not in self.measures:
                raise ValueError(
                    f"{name!r} is not a measure: choose from {', '.join(self.measures)}"
                )
        used = [self.columns.index(name) for name in names]
        cohorts = len(np.unique(self._finest[:, used], axis=0)) if names else 0
        if cohorts * _ROWS_PER_COHORT > self._rows:
            self.records()

    # -- answers ---------------------------------------------------------------

    def _shape(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(len(self._levels[name]) for name in names)

    def _flat(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """Number of each row's cohort ``[n]`` in a table by these columns."""
        if not names:
            return np.zeros(self._rows, dtype=np.int64)
        found = np.ravel_multi_index([self._codes[name] for name in names], self._shape(names))
        return np.asarray(found, dtype=np.int64)

    def _label(self, names: tuple[str, ...], cell: tuple[int, ...]) -> Label:
        return tuple(str(self._levels[name][i]) for name, i in zip(names, cell, strict=True))

    def _answer(self, names: tuple[str, ...]) -> tuple[Answered, int]:
        """Which cohorts may be shown by themselves, and how many are hidden."""
        shape = self._shape(names)
        counts = np.bincount(self._flat(names), minlength=math.prod(shape)).reshape(shape)
        shown = shown_cells(counts, self.minimum)
        cells = tuple(self._label(names, cell) for cell in np.ndindex(shape) if shown[cell])
        return Answered(names, (), cells), int(np.count_nonzero((counts > 0) & ~shown))

    def _exact(self, names: tuple[str, ...], measures: tuple[str, ...]) -> CohortTable:
        found, hidden = self._answer(names)
        answered = Answered(names, measures, found.cells)
        entries = self._log.entries()
        if answered not in entries:
            span = self._spanned_by([*entries, answered])
            if problem := self._isolated(span):
                raise QueryRefused(problem)
            self._log.record(answered)
            self._span, self._spanned = span, len(entries) + 1
        rows = []
        for label in answered.cells:
            members = np.ones(self._rows, dtype=np.bool_)
            for name, value in zip(names, label, strict=True):
                members &= self._columns[name] == value
            figures = {name: self._aggregate(name, members) for name in measures}
            cohort = dict(zip(names, label, strict=True))
            rows.append(CohortRow(MappingProxyType(cohort), MappingProxyType(figures)))
        return CohortTable(names, measures, tuple(rows), hidden)

    def _aggregate(self, name: str, members: NDArray[np.bool_]) -> float:
        if name == "n":
            return _rounded_count(int(np.count_nonzero(members)))
        values = self._measures[name]
        mean = float(np.mean(values[members]))
        if np.isin(values, (0.0, 1.0)).all():
            mean = min(max(mean, _SHARES[0]), _SHARES[1])
        return round(mean, _MEAN_DECIMALS)

    # -- the audit -------------------------------------------------------------

    def _spanned_by(self, entries: Sequence[Answered]) -> Span:
        """The span of all answers without noise; the log only grows."""
        if len(entries) < self._spanned:
            self._span, self._spanned = self._base, 0
        new = entries[self._spanned :]
        cohorts = [
            self._cells(each.by, label) for each in new if not each.epsilon for label in each.cells
        ]
        return self._span.with_answers(cohorts)

    def _cells(self, names: tuple[str, ...], label: Label) -> list[int]:
        """The cells of the finest partition that a cohort consists of."""
        inside = np.ones(len(self._finest), dtype=np.bool_)
        for name, value in zip(names, label, strict=True):
            code = np.flatnonzero(self._levels[name] == value)
            inside &= np.isin(self._finest[:, self.columns.index(name)], code)
        found: list[int] = np.flatnonzero(inside).tolist()
        return found

    def _isolated(self, span: Span) -> str:
        try:
            few = span.fewest() is not None
        except OverflowError:
            return (
                "Cohort query refused. With the answers given before there are too many small cohorts to be sure "
                "that none can be told apart: ask by fewer columns."
            )
        if not few:
            return ""
        return (
            f"Cohort query refused. With the answers given before it would tell of fewer than {self.minimum} persons "
            "by differencing: ask by other columns, or with epsilon."
        )

    # -- with noise ------------------------------------------------------------

    def _noisy(
        self, names: tuple[str, ...], measures: tuple[str, ...], epsilon: float
    ) -> CohortTable:
        from .private import noisy_histograms

        if not (math.isfinite(epsilon) and epsilon > 0):
            raise ValueError(f"epsilon {epsilon!r} must be a finite number above 0")
        means = [name for name in measures if name != "n"]
        for name in means:
            if not np.isin(self._measures[name], (0.0, 1.0)).all():
                raise ValueError(f"epsilon needs measures of zeros and ones, and {name!r} is none")
        shape = self._shape(names)
        cells = list(np.ndindex(shape))
        labels = tuple(self._label(names, cell) for cell in cells)
        entries = self._log.entries()
        same = (
            each
            for each in entries
            if (each.by, each.measures, each.epsilon) == (names, measures, epsilon)
        )
        answered = next(same, None)
        if answered is None:
            left = self._epsilon_total - sum(each.epsilon for each in entries)
            if epsilon > left + 1e-12:
                raise QueryRefused(
                    f"PRIVACY BUDGET EXHAUSTED. Requested epsilon {epsilon:g}, remaining {max(left, 0.0):g}."
                )
            flat = self._flat(names)
            weights = [None, *(self._measures[name] for name in means)]
            exact = [
                np.bincount(flat, weights=each, minlength=len(cells)).astype(np.int64).tolist()
                for each in weights
            ]
            noisy = tuple(map(tuple, noisy_histograms(exact, epsilon)))
            answered = Answered(names, measures, labels, epsilon, noisy)
            self._log.record(answered)
        counts, *sums = answered.values
        rows = []
        for index, label in enumerate(labels):
            if counts[index] >= self.minimum:
                figures = {"n": _rounded_count(counts[index])} if "n" in measures else {}
                for name, values in zip(means, sums, strict=True):
                    share = min(max(values[index] / counts[index], 0.0), 1.0)
                    figures[name] = round(share, _MEAN_DECIMALS)
                cohort = dict(zip(names, label, strict=True))
                rows.append(CohortRow(MappingProxyType(cohort), MappingProxyType(figures)))
        hidden = len(cells) - len(rows)
        return CohortTable(names, measures, tuple(rows), hidden, epsilon)


def _rounded_count(n: int) -> float:
    return float(round(n / _COUNT_STEP) * _COUNT_STEP)
