"""
The format of a ledger's row, to the byte.

A row is one line of printable ASCII and a newline::

    {"v":1,"seq":N,"prev":P,"time":T,"data":{"kind":K,...},"sha256":S}

``S`` is the SHA-256 of the line's bytes before ``,"sha256":``: a damaged last row shows by itself.
``P`` is the SHA-256 of the whole line before, newline included (of nothing for the first row): no
row can be altered, dropped, doubled or moved without breaking the chain behind it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import msgspec

__all__ = [
    "EMPTY",
    "MAX_ROW",
    "Envelope",
    "Head",
    "LedgerError",
    "Problem",
    "Row",
    "UnknownError",
    "encode",
    "follow",
    "parse",
    "seal",
    "walk",
]

VERSION = 1
MAX_ROW = 1 << 20
"""Largest row, bytes with the newline."""
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""``prev`` of row 0: the SHA-256 of nothing."""

_SEAL = b',"sha256":"'
_SEALED = len(_SEAL) + 64 + len(b'"}\n')
#: Where :func:`encode` puts the kind; another place is looked for with a parser.
_FIRST_KIND = re.compile(rb'\{"kind":"([a-z-]+)"')
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class LedgerError(Exception):
    """A ledger cannot be read or written; the message says why and what to do."""


class UnknownError(Exception):
    """A row that stands as written, with a payload that this program does not know."""


class Head(NamedTuple):
    """Where a ledger ends."""

    seq: int
    """-1 for an empty ledger."""
    sha256: str
    """SHA-256 of the last line, newline included."""


@dataclass(frozen=True)
class Problem:
    """The first thing wrong with a ledger."""

    path: Path
    line: int
    """Line number, from 1."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name}, line {self.line}: {self.reason}"


class Row(NamedTuple):
    """One row whose own hash holds."""

    seq: int
    time: str
    """When it was written, UTC, ISO 8601. For people: ``seq`` orders rows, clocks go backwards."""
    kind: str
    """``kind`` of the payload."""
    data: bytes
    """The payload's JSON, as it stands in the file."""
    prev: str
    sha256: str
    """SHA-256 of the whole line, newline included."""

    @property
    def head(self) -> Head:
        """The ledger's head when this row was its last."""
        return Head(self.seq, self.sha256)


_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The fields around a payload; a subclass adds ``data`` with the type to decode it to."""

    v: int
    seq: int
    prev: str
    time: str
    sha256: str


class _Line(Envelope, forbid_unknown_fields=True):
    prev: _Hash
    data: msgspec.Raw
    sha256: _Hash


class _Kind(msgspec.Struct):
    kind: str


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode


def encode(data: msgspec.Struct) -> bytes:
    """
    A payload as compact JSON in printable ASCII, so that no text in it can steer a terminal.

    :raises ValueError: for a number that is not finite; the message names the field.
    """
    _refuse_non_finite(msgspec.to_builtins(data), "")
    text = msgspec.json.encode(data).decode()
    return _UNPRINTABLE.sub(_escape, text).encode("ascii")


def _escape(match: re.Match[str]) -> str:
    return "\\u007f" if match[0] == "\x7f" else json.dumps(match[0])[1:-1]


def _refuse_non_finite(value: object, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(
            f"{where} = {value!r} cannot be recorded, JSON has no such number: record None, and "
            "the reason in words"
        )
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{where}[{index}]")


def seal(body: bytes, before: Head) -> bytes:
    """
    The line that carries the payload ``body`` behind the row ``before``.

    :raises ValueError: for a line over :data:`MAX_ROW`.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    envelope = (
        f'{{"v":{VERSION},"seq":{before.seq + 1},"prev":"{before.sha256}","time":"{now}","data":'
    )
    line = envelope.encode("ascii") + body
    line += _SEAL + hashlib.sha256(line).hexdigest().encode("ascii") + b'"}\n'
    if len(line) > MAX_ROW:
        raise ValueError(
            f"a row of {len(line)} bytes is over the limit of {MAX_ROW}: shorten the texts in it"
        )
    return line


def parse(raw: bytes) -> Row:
    """
    The row in one raw line.

    :raises ValueError: when the line is not one whole, undamaged row; the message says why.
    """
    if len(raw) > MAX_ROW:
        raise ValueError(f"longer than {MAX_ROW} bytes: not a ledger's row")
    if not raw.endswith(b"\n"):
        raise ValueError(
            f"{len(raw)} bytes without a line end, torn by a crash; the next append records and "
            "drops them"
        )
    if not raw.isascii():
        raise ValueError("not a ledger's row: it is not ASCII")
    try:
        line = _decode_line(raw)
        data = bytes(line.data)
        first = _FIRST_KIND.match(data)
        kind = first[1].decode("ascii") if first else _decode_kind(data).kind
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a ledger's row: {error}") from None
    if line.v != VERSION:
        raise ValueError(f"schema version {line.v}, but this program reads version {VERSION}")
    digest = hashlib.sha256(raw[:-_SEALED])
    if raw[-_SEALED:] != _SEAL + digest.hexdigest().encode("ascii") + b'"}\n':
        raise ValueError(f"row {line.seq} was altered: its bytes do not match its own hash")
    digest.update(raw[-_SEALED:])
    return Row(line.seq, line.time, kind, data, line.prev, digest.hexdigest())


def follow(raw: bytes, before: Head) -> Row:
    """
    The row in ``raw``, when it stands right behind ``before``.

    :raises ValueError: when it does not; the message says how.
    """
    row = parse(raw)
    if row.seq > before.seq + 1:
        raise ValueError(f"row {row.seq} stands behind row {before.seq}: rows between are missing")
    if row.seq <= before.seq:
        raise ValueError(f"row {row.seq} stands behind row {before.seq}: it was doubled or moved")
    if row.prev != before.sha256:
        raise ValueError(f"row {row.seq} was written behind another row than the one before it")
    return row


_Decoded = TypeVar("_Decoded", bound=Envelope)


def walk(
    lines: Iterable[bytes], decode: Callable[[bytes], _Decoded]
) -> Iterator[tuple[_Decoded, str]]:
    """
    Each of a ledger's lines, decoded once, and its hash: what :func:`follow` accepts, in a third of the time.

    :param decode: refuses whatever is no row, and may refuse payloads that it does not know.
    :raises ValueError: at the first line that does not stand behind the one before; the words are :func:`follow`'s.
    :raises UnknownError: at the first that does, and is refused by ``decode``.
    """
    sha256, seq, prev = hashlib.sha256, -1, EMPTY
    for raw in lines:
        try:
            line = decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            follow(raw, Head(seq, prev))
            raise UnknownError(str(error)) from None
        digest, tail = sha256(raw[:-_SEALED]), raw[-_SEALED:]
        if (
            line.seq != seq + 1
            or line.prev != prev
            or line.v != VERSION
            or tail != b'%b%b"}\n' % (_SEAL, digest.hexdigest().encode())
            or len(raw) > MAX_ROW
            or not raw.isascii()
        ):
            follow(raw, Head(seq, prev))
        digest.update(tail)
        seq, prev = line.seq, digest.hexdigest()
        yield line, prev
