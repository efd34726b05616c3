"""
Sequences that grow with a campaign: their beginning in a file, their end in memory, read where somebody looks.

A :class:`Growing` is written to; a :class:`Series` is what it was at one moment, and never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, overload

__all__ = ["Growing", "Mapped", "Series", "Stored"]

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)

CHUNK = 1024
"""Elements that are read at a time."""


class Stored(Protocol[T_co]):
    """Where the beginning of a series lies."""

    def read(self, start: int, stop: int) -> Sequence[T_co]:
        """The elements with these numbers."""


class _Lazy(Sequence[T]):
    """A sequence that equals any other one of the same elements."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to a tuple, which would need the same hash

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)}>"


class Series(_Lazy[T]):
    """
    An immutable sequence of which only what is looked at is read.

    :param stored: holds the elements with the numbers 0 to ``split``.
    :param tail: those from ``split`` on; what is appended to it later is not seen.
    :param changed: elements by number that replace those.
    :param first: number of the element at index 0.
    :param end: number behind the last element.
    """

    def __init__(
        self,
        stored: Stored[T] | None = None,
        split: int = 0,
        *,
        tail: Sequence[T] = (),
        changed: Mapping[int, T] = MappingProxyType({}),
        first: int = 0,
        end: int = 0,
    ) -> None:
        self._stored = stored
        self._split = split
        self._tail = tail
        self._changed = changed
        self._first = first
        self._end = end

    def __len__(self) -> int:
        return self._end - self._first

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return tuple(self[at] for at in range(start, stop, step))
            return self._between(self._first + start, self._first + max(start, stop))
        at = range(len(self))[index]
        return self.read(self._first + at, self._first + at + 1)[0]

    def __iter__(self) -> Iterator[T]:
        for start in range(self._first, self._end, CHUNK):
            yield from self.read(start, min(start + CHUNK, self._end))

    def __reversed__(self) -> Iterator[T]:
        for stop in range(self._end, self._first, -CHUNK):
            yield from reversed(self.read(max(stop - CHUNK, self._first), stop))

    def _between(self, first: int, end: int) -> Series[T]:
        return type(self)(
            self._stored, self._split, tail=self._tail, changed=self._changed, first=first, end=end
        )

    def read(self, start: int, stop: int) -> list[T]:
        """The elements with these numbers, whether they count or not: the series as a :class:`Stored`."""
        found: list[T] = []
        if start < self._split and self._stored is not None:
            found += self._stored.read(start, min(stop, self._split))
        found += self._tail[max(start - self._split, 0) : max(stop - self._split, 0)]
        for at in range(start, stop) if self._changed else ():
            found[at - start] = self._changed.get(at, found[at - start])
        return found


_S = TypeVar("_S", bound=Series[Any])


class Growing(Generic[T]):
    """The end of a series, where it is written."""

    def __init__(self, stored: Stored[T] | None = None, split: int = 0, first: int = 0) -> None:
        self.stored = stored
        self.split = split
        """Elements that are stored."""
        self.first = first
        """Number of the first element that counts."""
        self.tail: list[T] = []
        self.changed: Mapping[int, T] = MappingProxyType({})

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def end(self) -> int:
        """Number behind the last element."""
        return self.split + len(self.tail)

    def append(self, element: T) -> None:
        self.tail.append(element)

    def replace(self, elements: Mapping[int, T]) -> None:
        """Put others in the place of the elements at these indices."""
        # A copy: who holds an earlier view goes on to see what it saw.
        more = {self.first + index: element for index, element in elements.items()}
        self.changed = MappingProxyType({**self.changed, **more})

    def restart(self, elements: Sequence[T] = ()) -> None:
        """From here on only these count, and what is appended to them."""
        self.first = self.end
        self.tail += elements

    def appended(self) -> Iterator[tuple[int, T]]:
        """What is not stored yet, with its numbers."""
        for n, element in enumerate(self.tail, self.split):
            yield n, self.changed.get(n, element)

    def revised(self) -> Iterator[tuple[int, T]]:
        """What is stored, but otherwise."""
        return ((n, element) for n, element in self.changed.items() if n < self.split)

    def view(self) -> Series[T]:
        """The series as it is now."""
        return self.view_as(Series)

    def view_as(self, kind: type[_S]) -> _S:
        """The same, as a kind of series of its own."""
        return kind(
            self.stored,
            self.split,
            tail=self.tail,
            changed=self.changed,
            first=self.first,
            end=self.end,
        )


class Mapped(_Lazy[U], Generic[T, U]):
    """What a function makes of each element of another sequence, when somebody looks."""

    def __init__(self, function: Callable[[T], U], elements: Sequence[T]) -> None:
        self._function = function
        self._elements = elements

    def __len__(self) -> int:
        return len(self._elements)

    @overload
    def __getitem__(self, index: int) -> U: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[U]: ...
    def __getitem__(self, index: int | slice) -> U | Sequence[U]:
        if isinstance(index, slice):
            return Mapped(self._function, self._elements[index])
        return self._function(self._elements[index])

    def __iter__(self) -> Iterator[U]:
        return map(self._function, self._elements)

    def __reversed__(self) -> Iterator[U]:
        return map(self._function, reversed(self._elements))
