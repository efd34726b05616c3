"""
Where a campaign stands, without reading all of its rows: the fold of all but the last is kept in ``state.sqlite``.

It is derived and never an authority. It is taken up only if the row it ends with still stands at the same place of
cutover-audit, with the same hash, and if git remembers the hash of its head, which holds all that does not grow:
incumbent, Fixed Harness, budget. The rows behind that are read and folded as always. In any other case (no file, a
damaged or forged one, another program's, rows that were cut) all rows are folded, and the file is written anew where
the session holds the campaign's lock. It lags behind by up to :data:`BEHIND` rows: a campaign shorter than that has
none, and a session that is killed before it writes leaves a tail that the next one reads.

What is covered: an end at any moment, damage by accident, readers beside a session, a disk that cannot be written.
What the head does not vouch for, past proposals and the charts' inputs, could be forged: before anything is kept a
session folds all rows and compares (:meth:`.campaign.Campaign.doubt`). The verifier never reads the file.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

from .fold import Fold
from .gitprocess import RepositoryError
from .ledger import Ledger, NoSuchPlaceError, sync_directory, sync_file
from .pairing import read_cutover
from .state import State

__all__ = ["FoldCache", "Memory"]

BEHIND = 64
"""Rows that are folded at every start rather than kept: some 4 ms."""
CHUNK = 8192
"""Rows of which a fold holds what grows in memory."""


class Memory(Protocol):
    """Which files a session wrote, where whoever writes to the campaign's directory cannot say so."""

    def recall(self) -> str:
        """What was remembered last; nothing at first."""

    def remember(self, text: str) -> None:
        """
        Remember this instead.

        :raises RepositoryError: it cannot be.
        """


def _trouble() -> tuple[type[Exception], ...]:
    """What may go wrong with the file; asked for only where something did, so that SQLite is not imported in vain."""
    from .statefile import TROUBLE

    return (*TROUBLE, RepositoryError)


class FoldCache:
    """
    The fold of one ledger, taken up where this process or an earlier one set it down.

    :param path: of the file; nothing is made before there is enough to keep.
    :param memory: None: there is no file.
    """

    def __init__(self, ledger: Ledger, path: Path, memory: Memory | None) -> None:
        self._ledger = ledger
        self._path = path
        self._memory = memory
        self._fold: Fold | None = None
        self._damaged = False
        self._rescued: Fold | None = None

    def state(self, *, write: bool) -> State:
        """
        The state after every row.

        :param write: keep the fold; only for who holds the campaign's lock.
        :raises LedgerError: when a row that has to be read is not what was written.
        """
        write = write and self._memory is not None
        fold, self._fold = self._fold, None  # a row that cannot be folded leaves no half of itself
        fold = self._continued(fold) or self._continued(self._taken_up())
        if fold is None or (write and self._damaged):
            fold = self._from_the_first_row(write=write)
        elif write and fold.unsaved >= BEHIND:
            fold = self._set_down(fold)
        self._fold = fold
        return fold.state()

    def anew(self) -> State:
        """The same from the first row on, whatever is kept."""
        return self._folded().state()

    def forget(self) -> None:
        """Remove the file."""
        self._fold = None
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _continued(self, fold: Fold | None) -> Fold | None:
        """The fold after the rows behind it; None when it is of other rows."""
        try:
            return fold and self._folded(fold)
        except NoSuchPlaceError:
            return None

    def _taken_up(self) -> Fold | None:
        """What an earlier process set down; None when it cannot be used."""
        if self._memory is None or self._damaged or not self._path.exists():
            return None
        from .statefile import StateFile

        try:
            return StateFile.open(self._path, self._rescue).fold(self._known)
        except _trouble():
            return None

    def _set_down(self, fold: Fold) -> Fold:
        """Add what is new to the file; what cannot be written now is written another time."""
        from .statefile import BUSY

        try:
            if fold.file is not None and fold.file.is_at(self._path):
                fold.file.save(fold, self._announce)
                return fold
        except (*BUSY, RepositoryError):
            return fold
        except _trouble():
            pass
        return self._from_the_first_row(write=True)

    def _from_the_first_row(self, *, write: bool) -> Fold:
        if not write:
            return self._folded()
        try:
            fold = self._folded(at=self._new)
            self._damaged = False
            if fold.file is not None or fold.unsaved >= BEHIND:
                return self._published(fold)
            self._path.unlink(missing_ok=True)
        except _trouble():
            return self._folded()
        return fold

    def _published(self, fold: Fold) -> Fold:
        """The fold, taken up from a new file in the place of the old one."""
        from .statefile import StateFile

        file = fold.file or StateFile.create(self._new)
        file.save(fold)
        file.close()
        sync_file(self._new)
        self._announce(file.digest)
        # Of the old file: SQLite would apply it to the new one.
        self._path.with_name(f"{self._path.name}-journal").unlink(missing_ok=True)
        self._new.replace(self._path)
        sync_directory(self._path.parent)
        return StateFile.open(self._path, self._rescue).fold(self._known)

    def _known(self, digest: str) -> bool:
        return self._memory is not None and digest in self._memory.recall().split()

    def _announce(self, *digests: str) -> None:
        if self._memory is not None:
            self._memory.remember(" ".join(digests))

    @property
    def _new(self) -> Path:
        return self._path.with_suffix(".new")

    def _folded(
        self, fold: Fold | None = None, at: Path | None = None, until: int | None = None
    ) -> Fold:
        """
        Fold in the rows behind ``fold``, or all.

        :param at: of a file for what grows too long for the memory; None: a temporary one.
        :param until: number of the last row to fold in.
        """
        begun, fold = fold, fold or Fold()
        for row, place in self._ledger.behind(fold.place):
            fold.step(row, read_cutover(row, self._ledger))
            fold.place = place
            if begun is None and fold.unsaved >= CHUNK:
                self._put_aside(fold, at)
            if row.seq == until:
                break
        return fold

    def _put_aside(self, fold: Fold, at: Path | None) -> None:
        from .statefile import StateFile

        try:
            (fold.file or StateFile.create(at)).save(fold)
        except _trouble():
            if at is not None:
                raise  # else there is no room for temporary files: the memory has to do

    def _rescue(self, row: int) -> Fold:
        """The fold up to a row, for a file that turned out to be damaged while it was read."""
        self._fold, self._damaged = None, True
        if self._rescued is None or self._rescued.at.seq != row:
            self._rescued = self._folded(until=row)
        return self._rescued
