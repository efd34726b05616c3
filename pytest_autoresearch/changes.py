"""
The two rows of each change side by side: what people read of a campaign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from .rows import Baseline, Payload, Run, Verdict

if TYPE_CHECKING:
    from .chain import Row
    from .journal import Journal
    from .rows import Cutover, Intent
    from .state import Settled, State

__all__ = ["Change", "NoSuchChangeError", "changes", "choose", "open_change", "unsealed"]

_T = TypeVar("_T")


class NoSuchChangeError(Exception):
    """No change has the number that was asked for; the message lists those that there are."""


@dataclass(frozen=True)
class Change:
    """One settled change."""

    begun: Row
    """Its row in restore-source."""
    intent: Intent
    row: Row
    """Its row in cutover-audit."""
    cutover: Cutover
    settled: Settled | None
    """What it came to, as of today; None for one that judged nothing: a ratification, a stop, a restore."""

    @property
    def payload(self) -> Payload:
        """What was recorded."""
        return self.cutover.payload

    @property
    def seq(self) -> int | None:
        """Position in the campaign, as in results.tsv."""
        return None if self.settled is None else self.settled.seq

    @property
    def name(self) -> str:
        """What ``autoresearch show`` finds it by."""
        return f"row:{self.row.seq}" if self.settled is None else str(self.settled.seq)

    @property
    def done(self) -> bool:
        """Whether it took place."""
        return self.cutover.resolution != "rolled-back"


def changes(journal: Journal, state: State) -> Iterator[Change]:
    """
    Every settled change, oldest first, read as it is asked for.

    :raises LedgerError: when a ledger is not what was written.
    """
    settled = iter(state.settled)
    came = next(settled, None)
    # A change that is still open has no second row.
    for (begun, intent), (row, cutover) in zip(journal.intents(), journal.cutovers(), strict=False):
        own = None
        if came is not None and came.row == row.seq:
            own, came = came, next(settled, None)
        yield Change(begun, intent, row, cutover, own)


def open_change(journal: Journal) -> tuple[Row, Intent] | None:
    """The change that was begun and not settled yet: a session is at work, or was killed."""
    from .pairing import read_cutover, read_intent

    begun = journal.source.last()
    settled = journal.cutover.last()
    if begun is None or (
        settled is not None and read_cutover(settled, journal.cutover).source.seq >= begun.seq
    ):
        return None
    return begun, read_intent(begun, journal.source)


def choose(journal: Journal, state: State, given: str) -> Change:
    """
    The change that a person names: ``SEQ``, its number in results.tsv, or ``row:N``, its row in cutover-audit.

    :raises NoSuchChangeError: there is none.
    """
    prefix, colon, number = given.rpartition(":")
    if number.isascii() and number.isdigit() and (prefix, colon) in (("", ""), ("row", ":")):
        wanted = int(number)
        found = next(
            (
                change
                for change in changes(journal, state)
                if wanted == (change.row.seq if prefix else change.seq)
            ),
            None,
        )
        if found is not None:
            return found
    raise NoSuchChangeError(
        f"{given!r} names nothing in campaign {journal.directory.name!r}: {_what_there_is(journal, state)}"
    )


def _what_there_is(journal: Journal, state: State) -> str:
    if not len(state.settled):
        return "nothing is settled yet; run `pytest --autoresearch`"
    rows = [change.name for change in changes(journal, state) if change.settled is None]
    others = f"; besides {', '.join(rows[-10:])}" if rows else ""
    last = len(state.settled) - 1
    numbers = "SEQ is 0" if last == 0 else f"SEQ is 0 to {last}"
    return f"{numbers}, as `autoresearch log` lists them{others}"


def unsealed(payload: Payload) -> Payload:
    """A payload without the figures of the sealed audit split."""
    other = msgspec.structs.replace
    if isinstance(payload, Baseline):
        return other(
            payload,
            runs=_each(payload.runs, _run),
            after=other(payload.after, audit=None),
        )
    if not isinstance(payload, Verdict):
        return payload
    canary, alarm = payload.canary, payload.alarm
    return other(
        payload,
        runs=_each(payload.runs, _run),
        others=_each(payload.others, _run),
        before=other(payload.before, audit=None),
        after=other(payload.after, audit=None),
        gap=None,
        canary=canary and other(canary, audit=None),
        alarm=alarm
        and other(alarm, verified=_each(alarm.verified, lambda v: other(v, audit_gain=None))),
    )


def _run(run: Run) -> Run:
    return msgspec.structs.replace(run, audit=None)


def _each(parts: tuple[_T, ...], change: Callable[[_T], _T]) -> tuple[_T, ...]:
    return tuple(map(change, parts))
