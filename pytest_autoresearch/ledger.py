"""
One append-only, hash-chained JSONL file; the format of a row stands in :mod:`.chain`.

What is covered: torn writes, kill -9, a full disk, several writers at once, any change to any row.
What is not covered: a dropped tail or a full rewrite, which a chain alone cannot show. Compare
:meth:`Ledger.head` with a copy kept elsewhere: every keep commit carries one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from .chain import (
    EMPTY,
    MAX_ROW,
    Envelope,
    Head,
    LedgerError,
    Problem,
    Row,
    UnknownError,
    encode,
    follow,
    parse,
    seal,
    walk,
)

__all__ = ["START", "Head", "Ledger", "LedgerError", "NoSuchPlaceError", "Place", "Problem", "Row"]

_CHUNK = 1 << 16
_BLOCK = 1 << 20
_OWN = ("opened", "torn-tail")
_FIRST = b'{"v":1,"seq":0,"prev":'


class Opened(msgspec.Struct, tag_field="kind", tag="opened"):
    """Row 0: which ledger this is."""

    ledger: str


class TornTail(msgspec.Struct, tag_field="kind", tag="torn-tail"):
    """Bytes without a line end, left by a crash in the middle of an append, were dropped here."""

    size: int
    sha256: str


class Place(NamedTuple):
    """Where in the file a row stands."""

    head: Head
    start: int
    """Offset of its line, bytes."""
    end: int
    """Offset behind it."""


START = Place(Head(-1, EMPTY), 0, 0)
"""The place before the first row."""


class NoSuchPlaceError(Exception):
    """The file does not have that row there."""


class _Kind(msgspec.Struct):
    kind: str


class _AnyLine(Envelope, forbid_unknown_fields=True):
    data: _Kind


_decode_any = msgspec.json.Decoder(_AnyLine).decode
_Decoded = TypeVar("_Decoded", bound=Envelope)


class _BrokenError(LedgerError):
    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem}. The ledger is not what was written: restore it from a copy")
        self.problem = problem


class Ledger:
    """
    The ledger at ``path``; the file appears with the first row, and its stem is the ledger's name.

    Nothing is held open between calls: an instance needs no closing and may be shared.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, data: msgspec.Struct) -> Row:
        """
        Write one row durably: after a return it is on the disk, after an exception it is not there.

        Safe beside other writers: the file is locked, and its end is read under the lock.

        :param data: a struct with the tag field ``kind``.
        :raises ValueError: for a number that is not finite, or a row over :data:`.chain.MAX_ROW`.
        :raises LedgerError: when the file is no ledger or cannot be written.
        """
        body = encode(data)
        with self._writing(os.O_RDWR | os.O_CREAT) as descriptor:
            lines, torn = self._end(descriptor)
            return self._write(descriptor, lines, torn, [body])

    def mend(self) -> None:
        """
        Record and drop a torn tail now, as the next append would; nothing happens without one.

        :raises LedgerError: when the file is no ledger or cannot be written.
        """
        if not self.path.exists():
            return
        with self._writing(os.O_RDWR) as descriptor:
            lines, torn = self._end(descriptor)
            if torn:
                self._write(descriptor, lines, torn, [])

    def head(self) -> Head:
        """Number and hash of the last whole row, read from the file's end alone."""
        row = next(self._backwards(), None)
        return row.head if row else Head(-1, EMPTY)

    def last(self) -> Row | None:
        """The last row that somebody appended, read from the file's end; None without one."""
        row = next((row for row in self._backwards() if row.kind not in _OWN), None)
        if row is None:
            for row in self.rows():  # noqa: B007 -- the loop variable is the answer
                pass
        return row

    def rows(self) -> Iterator[Row]:
        """
        Every row that somebody appended, verified on the way; a torn tail is no row.

        :raises LedgerError: at the first row that is not what was written.
        """
        return (row for row, _ in self.behind(START))

    def behind(self, place: Place) -> Iterator[tuple[Row, Place]]:
        """
        Every row that somebody appended behind a place, verified on the way; nothing before it is read.

        :raises NoSuchPlaceError: the file does not have that row there.
        :raises LedgerError: at the first row that is not what was written.
        """
        head, start, end = place
        try:
            with (
                self._open(os.O_RDONLY) as descriptor,
                open(descriptor, "rb", buffering=_CHUNK, closefd=False) as file,
            ):
                file.seek(start)
                if (
                    start != end
                    and hashlib.sha256(file.read(end - start)).hexdigest() != head.sha256
                ):
                    raise NoSuchPlaceError
                while (raw := file.readline(MAX_ROW + 1)).endswith(b"\n") or len(raw) > MAX_ROW:
                    row = follow(raw, head)
                    if row.seq == 0:
                        self._require_own_name(row)
                    head, start, end = row.head, end, end + len(raw)
                    if row.kind not in _OWN:
                        yield row, Place(head, start, end)
        except FileNotFoundError:
            if place != START:
                raise NoSuchPlaceError from None
        except ValueError as error:
            raise _BrokenError(Problem(self.path, head.seq + 2, str(error))) from None

    def verify(self) -> Problem | None:
        """What is wrong with the file, a torn tail included; None when all stands as written."""
        try:
            for _ in self.decoded(_decode_any):
                pass
        except _BrokenError as error:
            return error.problem
        return None

    def decoded(self, decode: Callable[[bytes], _Decoded]) -> Iterator[tuple[_Decoded, str]]:
        """
        Every line, the ledger's own rows included, decoded by :func:`.chain.walk`; and its hash.

        :raises LedgerError: at the first line that is not what was written, be it a torn one, or is refused.
        """
        number = 0
        try:
            for line, sha256 in walk(self._own_lines(), decode):
                number += 1
                yield line, sha256
        except ValueError as error:
            raise _BrokenError(Problem(self.path, number + 1, str(error))) from None
        except UnknownError as error:
            raise LedgerError(
                f"{self.path.name}, line {number + 1}: not a row that this version knows ({error}); "
                "read it with the version that wrote it"
            ) from None

    @contextmanager
    def _writing(self, flags: int) -> Iterator[int]:
        try:
            with self._open(flags) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
        except OSError as error:
            raise LedgerError(
                f"{self.path} cannot be written ({error.strerror}) and got no row: free space or "
                "give write access, then start again"
            ) from error

    def _write(self, descriptor: int, lines: list[bytes], torn: bytes, bodies: list[bytes]) -> Row:
        """Append rows in one block; the last of them."""
        head = self._parse(lines[-1]).head if lines else Head(-1, EMPTY)
        if torn:
            bodies.insert(0, encode(TornTail(len(torn), hashlib.sha256(torn).hexdigest())))
        if not lines:
            bodies.insert(0, encode(Opened(self.path.stem)))
        block = b""
        for each in bodies:
            line = seal(each, head)
            row = parse(line)
            head = row.head
            block += line
        # Overwrite the torn bytes first and cut what is left of them second: a kill in between
        # leaves a torn tail again, never one that was dropped without a row.
        end = os.fstat(descriptor).st_size - len(torn)
        try:
            done = 0
            while done < len(block):
                done += os.pwrite(descriptor, block[done:], end + done)
            os.ftruncate(descriptor, end + len(block))
            os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)
            raise
        if not lines:
            sync_directory(self.path.parent)
        return row

    @contextmanager
    def _open(self, flags: int) -> Iterator[int]:
        # O_NONBLOCK: a FIFO in the ledger's place must not hang whoever opens it.
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o644)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise LedgerError(
                f"{self.path} cannot be opened ({error.strerror}): it must be a regular file that "
                "this user may read and write"
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LedgerError(f"{self.path} is not a regular file: move it away")
            yield descriptor
        finally:
            os.close(descriptor)  # gives up the lock, as the death of the process does

    def _backwards(self) -> Iterator[Row]:
        """The rows near the file's end, last first."""
        try:
            with self._open(os.O_RDONLY) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                lines, _ = self._end(descriptor)
        except FileNotFoundError:
            return
        for line in reversed(lines):
            yield self._parse(line)

    def _end(self, descriptor: int) -> tuple[list[bytes], bytes]:
        """
        The last whole lines, one at least if there is one, and the torn bytes behind them.

        :raises LedgerError: when the bytes cannot be what a torn append leaves.
        """
        size = os.fstat(descriptor).st_size
        length = _CHUNK
        while True:
            start = max(0, size - length)
            whole, newline, torn = os.pread(descriptor, size - start, start).rpartition(b"\n")
            lines = [line + b"\n" for line in whole.split(b"\n")] if newline else []
            if start == 0 or len(lines) > 1 or length > 4 * MAX_ROW:
                break
            length *= 8
        # Else a foreign file would be taken for a torn tail, and overwritten.
        own = newline or torn.startswith(_FIRST[: len(torn)]) or not torn.strip(b"\0")
        if not own or len(torn) > 2 * MAX_ROW:
            raise LedgerError(f"{self.path} is no ledger: move it away")
        return lines[1:] if start else lines, torn  # the first may begin before what was read

    def _parse(self, line: bytes) -> Row:
        try:
            return parse(line)
        except ValueError as error:
            raise LedgerError(
                f"{self.path} ends in a damaged row ({error}): restore it from a copy"
            ) from error

    def _own_lines(self) -> Iterator[bytes]:
        """
        Every line, the last one perhaps torn; none of an absent file.

        :raises ValueError: when the first row opens another ledger.
        """
        try:
            with (
                self._open(os.O_RDONLY) as descriptor,
                open(descriptor, "rb", buffering=_BLOCK, closefd=False) as file,
            ):
                lines = iter(partial(file.readline, MAX_ROW + 1), b"")
                first = next(lines, b"")
                if first:
                    self._require_own_name(follow(first, START.head))
                    yield first
                yield from lines
        except FileNotFoundError:
            return

    def _require_own_name(self, row: Row) -> None:
        if row.data != encode(Opened(self.path.stem)):
            raise ValueError(f"row 0 does not open the ledger {self.path.stem!r}: a foreign file")


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make new and removed names in the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
