"""
The file in which a fold is set down: an SQLite database of what grows, and a head that says how far it goes.

Elements are only ever added. One that is revised gets a second version, which counts from the row on that revised it:
who reads by one head sees one state, whatever a session adds meanwhile. Each element carries a checksum against
accidents; of the head, the repository knows the hash (:mod:`.foldcache`).
"""

from __future__ import annotations

import hashlib
import sqlite3
import stat
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from .budget import Spend
from .fold import PROGRAM, Fold, Standing
from .ledger import Place
from .records import Decision
from .series import Growing, Series
from .state import Gap, Settled, Settlements

__all__ = ["BUSY", "TROUBLE", "DamagedError", "StateFile"]

T = TypeVar("T")

#: Series of a fold to the type of its elements.
_ELEMENTS: Mapping[str, Any] = {
    "settled": Settled,
    "spends": Spend,
    "chart": tuple[int, float],
    "gaps": Gap,
    "canaries": float,
}
_APPLICATION = 0x41757472
_SCHEMA = 1
_ELEMENT = "n INTEGER PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL"
_TABLES = f"""
    PRAGMA synchronous = OFF;
    PRAGMA journal_mode = OFF;
    PRAGMA application_id = {_APPLICATION};
    PRAGMA user_version = {_SCHEMA};
    CREATE TABLE head ({_ELEMENT});
    CREATE TABLE settled ({_ELEMENT}, fingerprint TEXT NOT NULL, kept INTEGER NOT NULL);
    CREATE INDEX settled_fingerprint ON settled (fingerprint);
    CREATE INDEX settled_kept ON settled (n) WHERE kept;
    CREATE TABLE spends ({_ELEMENT});
    CREATE TABLE chart ({_ELEMENT});
    CREATE TABLE gaps ({_ELEMENT});
    CREATE TABLE canaries ({_ELEMENT});
    CREATE TABLE revised (
        series TEXT, n INTEGER, row INTEGER, body BLOB NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (series, n, row)
    ) WITHOUT ROWID;
"""
_PATIENCE = 0.2
"""Seconds to wait for another process that reads or writes just now."""
_BATCH = 1024
"""Numbers that are looked up at a time."""


class DamagedError(Exception):
    """The file is not what this program wrote."""


#: What may go wrong with the file; none of it matters, since the rows say the same.
TROUBLE = (sqlite3.Error, OSError, DamagedError, msgspec.MsgspecError)
#: What passes by itself, or is a matter of the disk.
BUSY = (sqlite3.OperationalError, OSError)

Rescue = Callable[[int], Fold]
"""Folds up to a row without the file, which turned out to be damaged."""


class _Head(msgspec.Struct, forbid_unknown_fields=True):
    program: str
    place: Place
    at: Standing
    spans: dict[str, tuple[int, int]]
    """Series to the number of its first element that counts, and that behind its last."""


class StateFile:
    """
    One such database, open; closed when nobody reads from it any more.

    :param name: URI of the database; empty for a temporary one.
    :param rescue: None while it is new, and damage is an error.
    """

    def __init__(self, name: str, rescue: Rescue | None = None, inode: int = 0) -> None:
        self._connection = sqlite3.connect(
            name, uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        weakref.finalize(self, self._connection.close)
        self._rescue = rescue
        self._inode = inode
        self._head = b""

    @classmethod
    def create(cls, path: Path | None = None) -> StateFile:
        """
        A new one that nobody else looks at, durable after :meth:`close` and a sync; without a path a temporary one.
        """
        if path is not None:
            path.unlink(missing_ok=True)
        made = cls(_uri(path) if path else "")
        made._connection.executescript(_TABLES)
        return made

    @classmethod
    def open(cls, path: Path, rescue: Rescue) -> StateFile:
        """
        The one at ``path``.

        :raises DamagedError: or another of :data:`TROUBLE`: there is none.
        """
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):  # a link would be followed, a FIFO waited for
            raise DamagedError(f"{path} is no regular file")
        return cls(f"{_uri(path)}?mode=rw", rescue, found.st_ino)

    def close(self) -> None:
        self._connection.close()

    @property
    def digest(self) -> str:
        """SHA-256 of the head."""
        return _digest(self._head)

    def is_at(self, path: Path) -> bool:
        """Whether nobody put another file in its place, or took it away."""
        try:
            return path.lstat().st_ino == self._inode
        except OSError:
            return False

    def fold(self, known: Callable[[str], bool]) -> Fold:
        """
        Take up what was set down.

        :param known: whether a session wrote the head of this SHA-256.
        :raises DamagedError: or another of :data:`TROUBLE`: it is not what this program sets down.
        """
        (application,) = self.select("PRAGMA application_id")[0]
        (schema,) = self.select("PRAGMA user_version")[0]
        if (application, schema) != (_APPLICATION, _SCHEMA):
            raise DamagedError("another program's file, or of another version")
        rows = self.select("SELECT n, body, sum FROM head")
        if len(rows) != 1:
            raise DamagedError("there is no head, or more than one")
        (row,) = rows
        head = _decoded("head", msgspec.json.Decoder(_Head).decode, *row)
        if head.program != PROGRAM:
            raise DamagedError(f"folded by {head.program!r}")
        self._head = row[1]
        if not known(self.digest):
            raise DamagedError("a head that no session wrote")
        fold = Fold()
        fold.at, fold.place = head.at, head.place
        self._stand_on(fold, head.spans)
        return fold

    def save(self, fold: Fold, announce: Callable[[str, str], None] | None = None) -> None:
        """
        Set down what the fold has not set down yet: one that was taken up here, or a new one in a new file.

        :param announce: is told the SHA-256 of the head before and of the one to come, of which either may stand.
        :raises DamagedError: or another of :data:`TROUBLE`: nothing was changed.
        """
        execute, many = self._connection.execute, self._connection.executemany
        spans = {name: (getattr(fold, name).first, getattr(fold, name).end) for name in _ELEMENTS}
        head = msgspec.json.encode(_Head(PROGRAM, fold.place, fold.at, spans))
        execute("BEGIN IMMEDIATE")
        try:
            if self.select("SELECT body FROM head") != ([(self._head,)] if self._head else []):
                raise DamagedError("somebody else wrote to it")
            for name in _ELEMENTS:
                series: Growing[Any] = getattr(fold, name)
                rows = [_row(name, n, element) for n, element in series.appended()]
                places = "?, ?, ?, ?, ?" if name == "settled" else "?, ?, ?"
                many(f"INSERT INTO {name} VALUES ({places})", rows)  # noqa: S608 -- a name of ours
                revised = [
                    (name, n, fold.at.seq, *_row(name, n, element)[1:3])
                    for n, element in series.revised()
                ]
                many("INSERT OR REPLACE INTO revised VALUES (?, ?, ?, ?, ?)", revised)
            execute("INSERT OR REPLACE INTO head VALUES (0, ?, ?)", (head, _sum("head", 0, head)))
            if announce is not None:
                announce(_digest(self._head), _digest(head))
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._head = head
        self._stand_on(fold, spans)

    def select(self, query: str, *values: object) -> list[Any]:
        return self._connection.execute(query, values).fetchall()

    def rescued(self, name: str, row: int, error: Exception) -> Any:
        """A series of the fold up to a row, without this file."""
        if self._rescue is None:
            raise error
        kind = Settlements if name == "settled" else Series
        return getattr(self._rescue(row), name).view_as(kind)

    def _stand_on(self, fold: Fold, spans: Mapping[str, tuple[int, int]]) -> None:
        """From here on the fold's beginnings lie here; who looked at it before sees what it saw."""
        for name, kind in _ELEMENTS.items():
            first, end = spans[name]
            part: _Part[Any] = _Part(self, name, kind, fold.at.seq)
            setattr(fold, name, Growing(part, end, first))
        fold.file, fold.unsaved = self, 0


class _Part(Generic[T]):
    """
    One series as it lies in a file, by one of its heads.

    :param row: number of the last row that this head has folded in.
    """

    def __init__(self, file: StateFile, name: str, kind: type[T], row: int) -> None:
        self._file = file
        self._name = name
        self._decode = msgspec.json.Decoder(kind).decode
        self._row = row

    def read(self, start: int, stop: int) -> Sequence[T]:
        """As :meth:`.series.Stored.read`."""
        if stop <= start:
            return ()
        query = f"SELECT n, body, sum FROM {self._name} WHERE n >= ? AND n < ? ORDER BY n"  # noqa: S608 -- a name of ours
        try:
            rows = self._file.select(query, start, stop)
            if [row[0] for row in rows] != list(range(start, stop)):
                raise DamagedError(f"{self._name}: elements are missing")
            found = [_decoded(self._name, self._decode, *row) for row in rows]
            for n in range(start, stop) if self._revised else ():
                found[n - start] = self._revised.get(n, found[n - start])
        except TROUBLE as error:
            rescued: Sequence[T] = self._rescued(error).read(start, stop)
            return rescued
        return found

    def marked(self, mark: str, start: int, stop: int) -> Iterator[int]:
        """As :meth:`.state.StoredSettlements.marked`."""
        try:
            yield from self._numbers("fingerprint = ?", mark, start, stop)
        except TROUBLE as error:
            yield from self._rescued(error).marked(mark, start, stop)

    def kept(self, start: int, stop: int) -> Iterator[int]:
        """As :meth:`.state.StoredSettlements.kept`."""
        try:
            yield from self._numbers("kept = ?", 1, start, stop)
        except TROUBLE as error:
            yield from self._rescued(error).kept(start, stop)

    def _numbers(self, condition: str, value: object, start: int, stop: int) -> list[int]:
        query = f"SELECT n FROM settled WHERE {condition} AND n >= ? AND n < ? ORDER BY n"  # noqa: S608 -- words of ours
        return [n for (n,) in self._file.select(query, value, start, stop)]

    @cached_property
    def _revised(self) -> Mapping[int, T]:
        query = "SELECT n, body, sum FROM revised WHERE series = ? AND row <= ? ORDER BY row"
        rows = self._file.select(query, self._name, self._row)
        return {row[0]: _decoded(self._name, self._decode, *row) for row in rows}

    def _rescued(self, error: Exception) -> Any:
        return self._file.rescued(self._name, self._row, error)


def _row(name: str, n: int, element: object) -> tuple[object, ...]:
    body = msgspec.json.encode(element, enc_hook=dict)  # a read-only mapping is none that it knows
    row: tuple[object, ...] = (n, body, _sum(name, n, body))
    if isinstance(element, Settled):
        row = (*row, element.fingerprint, element.decision is Decision.KEEP)
    return row


def _decoded(name: str, decode: Callable[[bytes], T], n: int, body: bytes, checksum: int) -> T:
    if not isinstance(body, bytes) or checksum != _sum(name, n, body):
        raise DamagedError(f"{name}: element {n} is not what was written")
    return decode(body)


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()


def _sum(name: str, n: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{name} {n} ".encode()))


def _uri(path: Path) -> str:
    return f"file:{quote(str(path))}"
