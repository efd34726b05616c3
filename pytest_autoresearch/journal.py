"""
One state change, two ledgers, nothing half done.

The order of a change: its payload goes to ``pending/<hash>.json``; the intent, with the state before
and the payload's hash, goes to restore-source; the repository is changed; the payload goes to
cutover-audit; the pending file goes away. Each step is on the disk before the next begins, so that an
end anywhere leaves either no intent (nothing happened), or an open one, which
:meth:`Journal.recover` finishes or, when that cannot be, undoes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from .chain import MAX_ROW, LedgerError, Problem, Row, encode
from .foldcache import FoldCache, Memory
from .ledger import Ledger, sync_directory
from .pairing import NO_ROW, decode_payload, read_cutover, read_intent, unpaired
from .rows import Action, Cutover, Intent, Link, Lost, Payload
from .state import State

__all__ = ["Act", "Journal", "JournalError", "Remember", "Settlement", "Undo"]

Act = Callable[[Intent, Payload], str]
"""Carries a change out, idempotently, and returns the commit it made, or an empty string."""
Undo = Callable[[Intent], None]
"""Goes back to the state that the intent records, idempotently."""

Remember = Callable[[Mapping[str, str]], None]
"""Keeps the ledgers' heads elsewhere; what it misses, it is told with the next change."""

_MAX_PAYLOAD = MAX_ROW - 32768
"""The cutover row adds the links and, at worst, the escaped failure."""


class JournalError(Exception):
    """A state change cannot be made, finished or undone; the message says why and what to do."""


@dataclass(frozen=True)
class Settlement:
    """The end of one state change."""

    seq: int
    """Number of its row in cutover-audit."""
    cutover: Cutover


class Journal:
    """
    Both ledgers of a campaign, in one directory that the session owns.

    Reading needs no lock; :meth:`transact` and :meth:`recover` happen inside ``with journal.lock():``.

    :param remember: is told the heads after each settled change, to keep them elsewhere; see :meth:`heads`.
    :param memory: vouches for what earlier sessions made of the rows; None: all rows are read.
    """

    def __init__(
        self, directory: Path, remember: Remember | None = None, memory: Memory | None = None
    ) -> None:
        self.directory = directory
        self._remember = remember
        self.source = Ledger(directory / "restore-source.jsonl")
        self.cutover = Ledger(directory / "cutover-audit.jsonl")
        self._pending = directory / "pending"
        self._held = False
        self._folds = FoldCache(self.cutover, directory / "state.sqlite", memory)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """
        Be the only session on this directory; the lock ends with the process, however that ends.

        :raises JournalError: saying who holds it.
        """
        try:
            if not self._pending.is_dir():
                self._pending.mkdir(parents=True, exist_ok=True)
                for directory in (self.directory, *list(self.directory.parents)[:2]):
                    sync_directory(directory)  # else the power may take all rows at once
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.directory / "lock", flags, 0o644)
        except OSError as error:
            raise JournalError(
                f"{str(self.directory)!r} cannot be used ({error.strerror}): give write access to it"
            ) from error
        try:
            if not _locked(descriptor):
                holder = os.pread(descriptor, 200, 0).decode("ascii", "replace").strip()
                raise JournalError(
                    f"another session is at work in {str(self.directory)!r}: {holder or 'starting'}. "
                    "Wait until it ends; its lock ends with it"
                )
            now = datetime.now(UTC).isoformat(timespec="seconds")
            holder = f"process {os.getpid()} on {socket.gethostname()}, since {now}\n"
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode("ascii", "replace"), 0)
            except OSError as error:
                raise JournalError(
                    f"{str(self.directory)!r} cannot be written ({error.strerror}), nothing was begun: "
                    "free space or give write access"
                ) from error
            self._held = True
            yield
        finally:
            self._held = False
            os.close(descriptor)

    def state(self) -> State:
        """
        Where the campaign stands, by every settled change.

        :raises LedgerError: when what was read of cutover-audit, its end at least, is not what was written.
        """
        return self._folds.state(write=self._held)

    def state_anew(self) -> State:
        """
        The same, whatever earlier sessions made of the rows: all are read.

        :raises LedgerError: when cutover-audit is not what was written.
        """
        return self._folds.anew()

    def forget(self) -> None:
        """Remove what earlier sessions made of the rows."""
        self._folds.forget()

    def cutovers(self) -> Iterator[tuple[Row, Cutover]]:
        """Every settled change, verified on the way, oldest first."""
        for row in self.cutover.rows():
            yield row, read_cutover(row, self.cutover)

    def intents(self) -> Iterator[tuple[Row, Intent]]:
        """Every change that was begun, verified on the way, oldest first."""
        for row in self.source.rows():
            yield row, read_intent(row, self.source)

    def heads(self) -> dict[str, str]:
        """Ledger name to ``seq:sha256`` of its last row: the anchors that a keep commit carries."""
        return {
            ledger.path.stem: "{}:{}".format(*ledger.head())
            for ledger in (self.source, self.cutover)
        }

    def verify(self) -> Problem | None:
        """What is wrong with either ledger or between them; None when every change is whole."""
        try:
            problem = unpaired(self.source, self.cutover)
        except LedgerError:
            problem = self.source.verify() or self.cutover.verify()
            if problem is None:
                raise
            return problem
        # A damaged row is said before a change that does not belong together, wherever it stands.
        return problem and (self.source.verify() or self.cutover.verify() or problem)

    def transact(self, intent: Intent, payload: Payload, act: Act, undo: Undo) -> Settlement:
        """
        Make one state change.

        When ``act`` fails, ``undo`` is called and the settlement says ``rolled-back``, with the failure.

        :param intent: without ``payload_sha256`` and ``cutover``, which are filled in here.
        :raises ValueError: for a payload that a row cannot hold; nothing was changed.
        :raises JournalError: outside the lock, with an open intent, or when undoing failed as well.
        :raises LedgerError: when a ledger cannot be written; recovery settles what was begun.
        """
        if self.open_intent() is not None:
            raise JournalError("an earlier change is unfinished: recover() settles it first")
        before = self.cutover.last()
        body = encode(payload)
        if len(body) > _MAX_PAYLOAD:
            raise ValueError(
                f"a payload of {len(body)} bytes is over the limit of {_MAX_PAYLOAD}: shorten its texts"
            )
        head = before.head if before else NO_ROW
        intent = msgspec.structs.replace(
            intent,
            payload_sha256=hashlib.sha256(body).hexdigest(),
            cutover=Link(seq=head.seq, sha256=head.sha256),
        )
        self._write_pending(body, intent.payload_sha256)
        row = self.source.append(intent)
        return self._carry_out(row, intent, payload, act=act, undo=undo, resolution="done")

    def open_intent(self) -> tuple[Row, Intent] | None:
        """
        The change that was begun and not settled, from the files' ends alone; None when all are.

        :raises JournalError: outside the lock: another session may be in the middle of one.
        """
        if not self._held:
            raise JournalError(
                "the journal is not locked: `with journal.lock():` around all changes"
            )
        begun, settled = self.source.last(), self.cutover.last()
        if begun is None:
            return None
        if settled is not None:
            source = read_cutover(settled, self.cutover).source
            if source.seq == begun.seq and source.sha256 == begun.sha256:
                return None
            if source.seq >= begun.seq:
                raise JournalError(
                    f"{self.source.path.name} ends before the change that {self.cutover.path.name} "
                    "settled last: rows were dropped or a foreign file lies there; restore it from a copy"
                )
        return begun, read_intent(begun, self.source)

    def recover(self, acts: Mapping[Action, Act], undo: Undo) -> Settlement | None:
        """
        Settle the change that a crash left open: finish it, or undo it when that fails.

        Torn ends of the ledgers are mended on the way, so that both verify afterwards.

        :return: what was settled, None when nothing was open.
        :raises JournalError: when it can be neither finished nor undone.
        """
        found = self.open_intent()
        self.source.mend()
        self.cutover.mend()
        settlement = None
        if found is not None:
            row, intent = found
            payload = self._read_pending(intent)
            if payload is not None:
                act = acts[intent.action]
                settlement = self._carry_out(
                    row, intent, payload, act=act, undo=undo, resolution="finished"
                )
            else:
                reason = "its payload was missing or damaged after a crash"
                lost = Lost(reason=reason, domain=intent.domain, cost=intent.cost)
                settlement = self._roll_back(row, intent, lost, undo, reason)
        self._clear_pending()
        return settlement

    def _carry_out(
        self,
        row: Row,
        intent: Intent,
        payload: Payload,
        *,
        act: Act,
        undo: Undo,
        resolution: Literal["done", "finished"],
    ) -> Settlement:
        try:
            result = act(intent, payload)
        except (
            Exception
        ) as error:  # a user's hook may raise anything, and no state may be lost to it
            return self._roll_back(row, intent, payload, undo, f"{type(error).__name__}: {error}")
        return self._settle(row, intent, payload, resolution, result=result)

    def _roll_back(
        self, row: Row, intent: Intent, payload: Payload, undo: Undo, failure: str
    ) -> Settlement:
        try:
            undo(intent)
        except Exception as error:
            raise JournalError(
                f"the {intent.action} failed ({failure}) and could not be undone ({error}): correct the "
                "cause, then start again; the change is settled before anything else"
            ) from error
        failure = failure.encode("utf-8", "backslashreplace").decode()  # a path may not be UTF-8
        return self._settle(row, intent, payload, "rolled-back", failure=failure[:2000])

    def _settle(
        self,
        row: Row,
        intent: Intent,
        payload: Payload,
        resolution: Literal["done", "finished", "rolled-back"],
        *,
        result: str = "",
        failure: str = "",
    ) -> Settlement:
        cutover = Cutover(
            source=Link(seq=row.seq, sha256=row.sha256),
            action=intent.action,
            resolution=resolution,
            result=result,
            failure=failure,
            payload=payload,
        )
        settled = self.cutover.append(cutover)
        self._clear_pending()
        if self._remember is not None:
            self._remember(self.heads())
        return Settlement(settled.seq, cutover)

    def _write_pending(self, body: bytes, digest: str) -> None:
        temporary = self._pending / "new.tmp"
        try:
            with temporary.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._pending / f"{digest}.json")
            sync_directory(self._pending)
        except OSError as error:
            raise JournalError(
                f"{str(self._pending)!r} cannot be written ({error.strerror}), nothing was changed: "
                "free space or give write access"
            ) from error

    def _read_pending(self, intent: Intent) -> Payload | None:
        try:
            body = (self._pending / f"{intent.payload_sha256}.json").read_bytes()
            if hashlib.sha256(body).hexdigest() == intent.payload_sha256:
                payload: Payload = decode_payload(body)
                return payload
        except (OSError, msgspec.MsgspecError):
            pass
        return None

    def _clear_pending(self) -> None:
        with contextlib.suppress(OSError):  # harmless remains: the next session clears them
            for path in self._pending.iterdir():
                path.unlink()


def _locked(descriptor: int) -> bool:
    """Take the lock; a killed session's, which a child of it holds until it runs its program, is waited for."""
    for wait in (0.05, 0.1, 0.2, 0.0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(wait)
        else:
            return True
    return False
