"""
How the rows of the two ledgers belong together: one cutover per intent, in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import msgspec

from .chain import EMPTY, Envelope, Head, LedgerError, Problem, Row
from .ledger import Ledger, Opened, TornTail
from .rows import Action, Cutover, Intent, Link, Lost, Payload

__all__ = ["NO_ROW", "decode_payload", "read_cutover", "read_intent", "unpaired"]

NO_ROW = Head(-1, EMPTY)
"""The head of a ledger in which nothing has happened."""

_T = TypeVar("_T")


class _Pair(msgspec.Struct, tag_field="kind", tag="cutover"):
    """The part of a cutover row that ties it to its intent; the payload as it stands."""

    source: Link
    action: Action
    payload: msgspec.Raw


class _IntentLine(Envelope, forbid_unknown_fields=True):
    data: Intent | Opened | TornTail


class _PairLine(Envelope, forbid_unknown_fields=True):
    data: _Pair | Opened | TornTail


_intent = msgspec.json.Decoder(Intent).decode
_cutover = msgspec.json.Decoder(Cutover).decode
_intent_line = msgspec.json.Decoder(_IntentLine).decode
_pair_line = msgspec.json.Decoder(_PairLine).decode
decode_payload = msgspec.json.Decoder(Payload).decode


def read_intent(row: Row, ledger: Ledger) -> Intent:
    """
    What a row of restore-source holds.

    :raises LedgerError: when it is no intent that this version knows.
    """
    return _read(_intent, row, ledger)


def read_cutover(row: Row, ledger: Ledger) -> Cutover:
    """
    What a row of cutover-audit holds.

    :raises LedgerError: when it is no cutover that this version knows.
    """
    return _read(_cutover, row, ledger)


def unpaired(source: Ledger, cutover: Ledger) -> Problem | None:
    """
    The first change whose two rows do not belong together, each ledger read once.

    :raises LedgerError: at the first row of either that is not what was written.
    """
    ends = cutover.decoded(_pair_line)
    settled = ((line.seq, line.data, sha256) for line, sha256 in ends if type(line.data) is _Pair)
    before = NO_ROW
    for begun, begun_sha256 in source.decoded(_intent_line):
        intent = begun.data
        if type(intent) is not Intent:
            continue
        row = next(settled, None)
        if row is None:
            return Problem(
                source.path,
                begun.seq + 1,
                f"this {intent.action} has no entry in {cutover.path.name}: it is unfinished and the "
                "next session settles it, or the entry was dropped",
            )
        seq, pair, sha256 = row
        reason = ""
        if _head(pair.source) != (begun.seq, begun_sha256) or pair.action != intent.action:
            reason = f"it does not settle the change in line {begun.seq + 1} of {source.path.name}"
        elif _head(intent.cutover) != before:
            reason = "its intent was written behind another row than the one before it"
        elif not _announced(intent, pair.payload):
            reason = "it holds another payload than its intent announced"
        if reason:
            return Problem(cutover.path, seq + 1, reason)
        before = Head(seq, sha256)
    extra = next(settled, None)
    if extra is not None:
        reason = f"it settles a change that {source.path.name} does not have"
        return Problem(cutover.path, extra[0] + 1, reason)
    return None


def _head(link: Link) -> Head:
    return Head(link.seq, link.sha256)


def _announced(intent: Intent, payload: msgspec.Raw) -> bool:
    if hashlib.sha256(payload).hexdigest() == intent.payload_sha256:
        return True
    return isinstance(decode_payload(payload), Lost)


def _read(decode: Callable[[bytes], _T], row: Row, ledger: Ledger) -> _T:
    try:
        return decode(row.data)
    except msgspec.MsgspecError as error:
        raise LedgerError(
            f"{ledger.path.name}, line {row.seq + 1}: not a row that this version knows ({error}); "
            "read it with the version that wrote it"
        ) from error
