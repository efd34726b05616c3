"""
Answered cohort queries, and where a view keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Answered", "Label", "Memory", "QueryLog"]

#: Label of a cohort: a value for each column of ``by``.
Label = tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """One answered query, as a log keeps it."""

    by: tuple[str, ...]
    measures: tuple[str, ...]
    cells: tuple[Label, ...]
    """The cohorts that were shown; of a noisy answer all of them."""
    epsilon: float = 0.0
    """Of the noise; 0 for an answer without."""
    values: tuple[tuple[int, ...], ...] = ()
    """Of a noisy answer: its histograms, count first, so that asking again gives the same noise."""


class QueryLog(Protocol):
    """Where answered queries are kept."""

    def locked(self) -> AbstractContextManager[None]:
        """Let no other process answer meanwhile."""
        ...

    def entries(self) -> Sequence[Answered]:
        """Every answer so far, in order."""
        ...

    def record(self, answered: Answered) -> None:
        """Keep one more, durably."""
        ...


class Memory:
    """A log that lasts as long as the process."""

    def __init__(self, known: Sequence[Answered] = ()) -> None:
        self._entries = list(known)

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else has it."""
        return nullcontext()

    def entries(self) -> Sequence[Answered]:
        """Every answer so far."""
        return tuple(self._entries)

    def record(self, answered: Answered) -> None:
        """Keep one more."""
        self._entries.append(answered)
