#!/usr/bin/env python3
"""
Verify a campaign's provenance: PASS, or BLOCK with the first broken link in words.

    python verifier.py PROJECT [--tag TAG] [--seq N] [--anchors FILE] [--allowed-signers FILE]
        [--since FILE] [--save FILE] [--restore] [--json]

One file, standard library and the ``git`` program only: an auditor can read it and run it without the
package that wrote the ledgers. It reads, and changes nothing but what ``--save`` names: a checkpoint, to go on from
with ``--since``. Exit status: 0 PASS, 1 BLOCK, 2 cannot tell.

What is covered: every byte of both ledgers, that their rows belong together, that each row's arithmetic and
gates are what the rows before it allow, and that commits, trees, blobs, pins and models are those the rows
name, each hashed here, since git itself does not look.
What is not covered: somebody who rewrites ledgers, branch and pins alike. Against that stand the heads that
``--heads`` prints, kept elsewhere and given back with ``--anchors``; and, as to who wrote them, signatures.

The formats stand in docs/provenance.md; docs/examples/verify.sh is a second implementation.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import itertools
import json
import marshal
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

__all__ = [
    "Broken",
    "Finding",
    "Report",
    "check_chain",
    "check_files",
    "check_ledgers",
    "load_checkpoint",
    "main",
    "verify",
]

MAX_ROW = 1 << 20
EMPTY = hashlib.sha256(b"").hexdigest()
SOURCE, CUTOVER = "restore-source", "cutover-audit"
OWN_KINDS = ("opened", "torn-tail")
MOST_COMMITS = 10_000
"""Commits looked at between the branch's tip and the incumbent, or below a ratified one."""
BLOCK_SIZE = 1 << 20
CHUNK = 8 << 20
"""Bytes of cutover-audit that another process reads at once; a ledger of two is read by one process alone."""
HEADS, SIGNATURE = "heads", "heads.sig"
"""Files in a commit of a history of heads."""
BRANCH = "autoresearch-heads/"
"""Where a remote has it: a branch, with the campaign's tag."""
SIGNING = ("missing signature", "altered heads", "wrong key", "wrong identity", "expired key")
NAMESPACE = "autoresearch-heads"
"""What the signatures are for, in ``ssh-keygen -n``: no signature over anything else passes for one."""

_ROW = re.compile(
    rb'\{"v":1,"seq":(0|[1-9][0-9]{0,14}),"prev":"([0-9a-f]{64})","time":"[0-9T:.+-]{19,40}","data":(?=\{)'
)
"""How a row begins; how it ends follows from its bytes."""
_PRINTABLE = bytes(range(0x20, 0x7F))
_SEAL = b',"sha256":"'
_SEALED = len(b',"sha256":""}\n') + 64
_PAYLOAD = re.compile(
    rb'\{"kind":"cutover","source":\{"seq":-?[0-9]+,"sha256":"[0-9a-f]{64}"\},"action":"[a-z]+",'
    rb'"resolution":"[a-z-]+","result":"[0-9a-f]*","failure":"(?:[^"\\]|\\.)*","payload":(\{.*\})\}'
)
_OID = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_TRAILER = re.compile(
    r"(Autoresearch-(?:Restore-Source|Cutover-Audit)): (-?[0-9]{1,15}):([0-9a-f]{64})"
)
_TAG = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_DECISIONS = {
    "keep": ("keep",),
    "revert": ("revert", "unchanged"),
    "rollback": ("revert",),
    "escalate": ("escalate",),
}
_KINDS = {
    "baseline": ("baseline",),
    "halt": ("halt",),
    "ratify": ("ratify",),
    "stop": ("stop",),
    "keep": ("verdict",),
    "revert": ("verdict",),
    "rollback": ("verdict", "restore"),
    "escalate": ("verdict",),
}


class Broken(Exception):
    """
    A link of the chain that does not hold.

    :param link: what kind of link, in words that stay the same.
    """

    def __init__(self, link: str, where: str, message: str) -> None:
        super().__init__(f"{link}: {where}: {message}")
        self.link = link
        self.where = where
        self.message = message


class CannotTell(Exception):
    """Nothing can be said: no repository, no campaign, no git."""


@dataclass
class Finding:
    """A state of the surface that the campaign came to stand on."""

    seq: int
    """Position in the campaign, as in results.tsv; of a ratification the last one before it."""
    row: int
    """Number of its row in cutover-audit; -1 before any."""
    kind: str
    """``baseline``, ``keep``, ``ratify`` or ``restore``."""
    commit: str
    parent: Finding | None = field(default=None, repr=False)
    """The state it was made from."""
    harness: tuple[str, str] = ("", "")
    """Commit and tree of the Fixed Harness that was ratified then."""
    pinned: tuple[str, ...] = field(default=(), repr=False)
    """Node ids of the gates that a keep owed then."""
    data: str = ""
    """SHA-256 of the data's manifest then."""
    problem: Broken | None = None
    """Its own first broken link."""

    def chain(self) -> Iterator[Finding]:
        """This state, the one before it, and so on to the pinned source tree."""
        state: Finding | None = self
        while state is not None:
            yield state
            state = state.parent

    def broken(self) -> Broken | None:
        """The first broken link on the way back to the source."""
        return next((state.problem for state in self.chain() if state.problem), None)


@dataclass
class Report:
    """What was found."""

    tag: str
    branch: str = ""
    findings: list[Finding] = field(default_factory=list)
    """Baselines, keeps and ratifications, oldest first."""
    problems: list[Broken] = field(default_factory=list)
    """All broken links met, in the order of the ledgers."""
    notes: list[str] = field(default_factory=list)
    heads: dict[str, str] = field(default_factory=dict)
    """Ledger to ``seq:sha256`` of its last row that holds."""
    rows: int = 0
    tip: str = ""
    """Commit of the branch."""
    pairs: int = 0
    """Settled changes that hold, from the first on."""
    cut: dict[str, int] = field(default_factory=dict)
    """Ledger to the bytes of its rows up to the last change that holds."""
    whole: bool = False
    """Whether the ledgers hold to their ends."""
    checkpoint: bytes = b""
    """What :func:`verify` was asked to save; empty unless everything holds."""


# ---- bytes: one file, one chain


class Row(NamedTuple):
    """One row of a ledger."""

    seq: int
    data: bytes
    sha256: str


class Chain:
    """The rows of one ledger, read once, verified on the way."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.file = file
        self.seq, self.sha256 = -1, EMPTY
        self.last = (-1, EMPTY)
        """Number and hash of the last row that settled a change."""
        self.first = 0
        """Row from which on hashes are known: the last one that was passed over."""
        self.digests = bytearray()
        """SHA-256 of every line from there on, 32 bytes each."""
        self.size = 0
        """Bytes of the rows that held."""
        self.bytes = hashlib.sha256()
        """Over all of them."""

    def rows(self) -> Iterator[Row]:
        """
        Every row of the file, the ledger's own included.

        :raises Broken: at the first byte that is not what was written.
        """
        readline, match = self.file.readline, _ROW.match
        while raw := readline(MAX_ROW + 1):
            found = match(raw)
            if found is None or len(raw) > MAX_ROW or raw[-3:] != b'"}\n' or not _printable(raw):
                self._reject(raw)
            seq, prev = int(found[1]), found[2]
            digest = hashlib.sha256(raw[:-_SEALED])
            if raw[-_SEALED:] != _SEAL + digest.hexdigest().encode() + b'"}\n':
                self._fail("altered row", f"row {seq} does not match its own hash")
            digest.update(raw[-_SEALED:])
            if seq != self.seq + 1:
                self._fail(
                    "altered row", f"row {seq} stands behind row {self.seq}: {self._order(seq)}"
                )
            if prev != self.sha256.encode():
                self._fail(
                    "altered row",
                    f"row {seq} was written behind another row than the one before it",
                )
            data = raw[found.end() : -_SEALED]
            if self.seq < 0 and data != b'{"kind":"opened","ledger":"%s"}' % self.name.encode():
                self._fail("foreign file", f"row 0 does not open the ledger {self.name!r}")
            line = digest.digest()
            self.seq, self.sha256 = seq, line.hex()
            self.digests += line
            self.size += len(raw)
            self.bytes.update(raw)
            yield Row(seq, data, self.sha256)

    def pass_over(self, known: dict[str, Any]) -> bool:
        """Go behind the rows that a checkpoint vouches for; False when these bytes are not there any more."""
        left = known["size"]
        while left and (block := self.file.read(min(left, BLOCK_SIZE))):
            self.bytes.update(block)
            left -= len(block)
        if left or self.bytes.hexdigest() != known["bytes_sha256"]:
            return False
        self.seq, self.sha256, self.size = known["seq"], known["sha256"], known["size"]
        self.first, self.digests = self.seq, bytearray.fromhex(self.sha256)
        self.last = (known["last"][0], known["last"][1])
        return True

    def holds(self, seq: int, sha256: str) -> bool:
        """Whether a row read so far has this number and hash."""
        if seq == -1:
            return sha256 == EMPTY
        if 0 <= seq < self.first:
            here = self.file.tell()
            self.file.seek(0)
            lines = (self.file.readline() for _ in range(self.first))
            self.digests[:0] = b"".join(hashlib.sha256(line).digest() for line in lines)
            self.file.seek(here)
            self.first = 0
        at = 32 * (seq - self.first)
        return 0 <= seq <= self.seq and self.digests[at : at + 32].hex() == sha256

    def require(self, seq: int, sha256: str, where: str) -> None:
        """:raises Broken: for a head that no row has any more."""
        if seq > self.seq:
            raise Broken(
                "dropped tail", where, f"{self.name} had a row {seq}, but ends at row {self.seq}"
            )
        if not self.holds(seq, sha256):
            raise Broken("rewritten history", where, f"row {seq} of {self.name} had another hash")

    def stand(self, seq: int, size: int) -> None:
        """Be where the row ``seq`` ends, whose hash is known."""
        at = 32 * (seq - self.first)
        self.seq, self.sha256, self.size = seq, self.digests[at : at + 32].hex(), size

    def _order(self, seq: int) -> str:
        return "rows between are missing" if seq > self.seq + 1 else "it was doubled or moved"

    def _reject(self, raw: bytes) -> NoReturn:
        if len(raw) > MAX_ROW:
            self._fail("altered row", f"longer than {MAX_ROW} bytes: not a ledger's row")
        if not raw.endswith(b"\n"):
            self._fail(
                "torn tail",
                f"{len(raw)} bytes without a line end: torn by a crash, and the next session records and drops "
                "them, or cut off",
            )
        version = re.match(rb'\{"v":([0-9]+),', raw)
        if version and version[1] != b"1":
            self._fail(
                "altered row",
                f"schema version {version[1][:20].decode()}, but this verifier reads version 1",
            )
        self._fail("altered row", "not a ledger's row, to the byte")

    def _fail(self, link: str, message: str) -> NoReturn:
        raise Broken(link, f"{self.name}.jsonl, line {self.seq + 2}", message)


def _printable(raw: bytes) -> bool:
    """Whether a line is ASCII without control characters, its end aside."""
    return raw.translate(None, _PRINTABLE) == b"\n"


def check_chain(name: str, file: BinaryIO) -> Broken | None:
    """The first thing wrong with one ledger's bytes; None when its chain holds."""
    try:
        for _ in Chain(name, file).rows():
            pass
    except Broken as error:
        return error
    return None


class Fields:
    """A JSON object whose fields are asked for by name and type."""

    def __init__(self, where: str, values: dict[str, Any]) -> None:
        self.where = where
        self.values = values

    @classmethod
    def read(cls, where: str, data: bytes) -> Fields:
        """:raises Broken: for what is not one plain JSON object."""
        try:
            values = _decode(data.decode("ascii"))
        except (ValueError, RecursionError) as error:
            raise Broken(
                "altered row", where, f"not the JSON of a row: {str(error)[:100]}"
            ) from None
        if type(values) is not dict:
            raise Broken("altered row", where, "not a JSON object")
        return cls(where, values)

    def text(self, name: str) -> str:
        return str(self._get(name, str))

    def number(self, name: str) -> int:
        return int(self._get(name, int))

    def items(self, name: str) -> list[Any]:
        return list(self._get(name, list))

    def inner(self, name: str) -> Fields:
        return Fields(self.where, self._get(name, dict))

    def texts(self, name: str) -> dict[str, str]:
        """An object whose values are all texts."""
        values = self._get(name, dict)
        if not all(type(value) is str for value in values.values()):
            raise Broken(
                "altered row", self.where, f"field {name!r} holds something else than texts"
            )
        return dict(values)

    def _get(self, name: str, kind: type) -> Any:
        value = self.values.get(name)
        if type(value) is not kind:
            raise Broken(
                "altered row", self.where, f"field {name!r} is missing or no {kind.__name__}"
            )
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number).decode


# ---- rows: what a change says, and whether the rows before it allow it


@dataclass
class Change:
    """One intent and its end."""

    where: str
    row: int
    source_row: int
    action: str
    done: bool
    result: str
    intent: Fields
    payload: Fields
    kind: str
    ends: tuple[int, int]
    """Bytes of both ledgers up to it."""


class Campaign:
    """The fold of both ledgers, as far as provenance needs it."""

    def __init__(self, tag: str | None) -> None:
        self.tag = tag
        self.branch = ""
        self.budget = self.spent = 0
        self.pinned: tuple[str, ...] = ()
        self.ratified: tuple[str, str] = ("", "")
        self.data = ""
        self.settled = 0
        self.states: dict[int, Finding] = {}
        """The state that stood when each position was settled."""
        self.findings: list[Finding] = []
        self.incumbent: Finding | None = None

    def resume(self, since: dict[str, Any]) -> None:
        """Stand where a checkpoint was made."""
        for seq, row, kind, commit, parent, harness, pinned, data, problem in since["findings"]:
            before = self.findings[parent] if parent >= 0 else None
            state = Finding(seq, row, kind, commit, before, tuple(harness), tuple(pinned), data)
            state.problem = Broken(*problem) if problem else None
            self.findings.append(state)
        self.branch, self.data = since["branch"], since["data"]
        self.budget, self.spent = since["budget"], since["spent"]
        self.pinned, self.ratified = tuple(since["pinned"]), tuple(since["ratified"])
        self.incumbent = self.findings[since["incumbent"]] if self.findings else None
        for number, length in since["stood"]:
            end = self.settled + length
            if number >= 0:
                self.states.update(dict.fromkeys(range(self.settled, end), self.findings[number]))
            self.settled = end

    def step(self, change: Change) -> Finding | None:
        """
        Take one change in; the state that it brought about, if any.

        :raises Broken: when the rows before it do not allow it.
        """
        before = self.incumbent
        getattr(self, f"_{change.kind}")(change)
        if change.kind in ("baseline", "verdict", "halt", "lost") and (
            change.done or change.kind != "baseline"
        ):
            if self.incumbent is not None:
                self.states[self.settled] = self.incumbent
            self.settled += 1
        return self.incumbent if self.incumbent is not before else None

    def _stand(self, change: Change, commit: str, kind: str, parent: Finding | None) -> None:
        seq = max(0, self.settled - (kind == "ratify"))
        made = Finding(seq, change.row, kind, commit, parent, self.ratified, self.pinned, self.data)
        self.incumbent = made
        self.findings.append(made)

    def _baseline(self, change: Change) -> None:
        if not change.done:
            return
        payload, commit = change.payload, change.payload.text("commit")
        if self.tag is not None and payload.text("tag") != self.tag:
            raise Broken(
                "foreign file", change.where, f"it belongs to the campaign {payload.text('tag')!r}"
            )
        if self.ratified[0] and self.incumbent is not None and commit != self.incumbent.commit:
            raise Broken(
                "undocumented step", change.where,
                f"the baseline is measured on {commit[:12]}, but the rows before it lead to {self.incumbent.commit[:12]}",
            )  # fmt: skip
        parent = self.incumbent if self.ratified[0] else None
        measured = payload.inner("after").values.get("mean") is not None
        if measured and not self.ratified[0]:
            self.ratified = (commit, payload.text("tree"))
        self.branch, self.budget = payload.text("branch"), payload.number("budget")
        self.data = payload.text("data_sha256")
        self.pinned = tuple(str(name) for name in payload.items("pinned"))
        self._stand(change, commit, "baseline", parent)

    def _ratify(self, change: Change) -> None:
        if not change.done:
            return
        payload = change.payload
        if not payload.text("actor"):
            raise Broken("altered row", change.where, "nobody ratified it: the actor is empty")
        self.ratified = (payload.text("commit"), payload.text("tree"))
        self.data = payload.text("data_sha256")
        self.pinned = tuple(str(name) for name in payload.items("pinned"))
        if payload.values.get("budget") is not None:
            self.budget = payload.number("budget")
        self._stand(change, self.ratified[0], "ratify", self.incumbent)

    def _verdict(self, change: Change) -> None:
        payload, before = change.payload, self.incumbent
        if before is None:
            raise Broken("source tree not pinned", change.where, "a verdict before any baseline")
        decision = payload.text("decision")
        if decision not in _DECISIONS[change.action]:
            raise Broken(
                "altered row",
                change.where,
                f"the verdict is {decision!r}, but a {change.action} was made of it",
            )
        self._charge(change)
        if self.ratified[1] and payload.text("harness_tree") != self.ratified[1]:
            raise Broken(
                "source tree not pinned", change.where,
                f"judged by the harness {payload.text('harness_tree')[:12]}, but {self.ratified[1][:12]} is ratified",
            )  # fmt: skip
        if payload.text("data_sha256") != self.data:
            raise Broken(
                "source tree not pinned",
                change.where,
                "judged on other data than the baseline pinned",
            )
        if decision == "keep":
            self._require_gates(change)
        if not change.done:
            return
        if change.action == "keep":
            self._stand(change, change.result, "keep", before)
        alarm = payload.values.get("alarm")
        if decision == "revert" and alarm is not None:
            self._go_back(change, payload.inner("alarm"))

    def _go_back(self, change: Change, alarm: Fields) -> None:
        """Stand again on the state that a row names; what was kept since is no more."""
        restored = self.states.get(alarm.number("restore_seq"))
        if restored is None or restored.commit != alarm.text("restore"):
            raise Broken(
                "missing checkpoint",
                change.where,
                "the state that it goes back to was never the incumbent",
            )
        moved = self.incumbent is not None and self.incumbent.commit != restored.commit
        if (change.action == "rollback") != moved or (
            moved and change.intent.text("target") != restored.commit
        ):
            raise Broken(
                "altered row", change.where, "the branch went elsewhere than the alarm says"
            )
        self.incumbent = restored

    def _restore(self, change: Change) -> None:
        """A verifier found a broken link, and the campaign went back to the last state that verified."""
        if not change.done:
            return
        payload, commit = change.payload, change.payload.text("commit")
        seq = payload.number("restore_seq")
        state = next(
            (s for s in reversed(self.findings) if (s.seq, s.commit) == (seq, commit)), None
        )
        if state is None or commit != change.intent.text("target"):
            raise Broken(
                "missing checkpoint",
                change.where,
                "the state that it goes back to was never the incumbent",
            )
        then = (payload.text("ratified"), payload.text("tree")), payload.text("data_sha256")
        if (*then, tuple(payload.items("pinned"))) != (state.harness, state.data, state.pinned):
            raise Broken(
                "source tree not pinned",
                change.where,
                "it stands on another harness than that state did",
            )
        if payload.number("cost") < 0:
            raise Broken("budget arithmetic", change.where, "it gives units back")
        self.spent += payload.number("cost")
        self.ratified, self.data, self.pinned = state.harness, state.data, state.pinned
        self.incumbent = state

    def _require_gates(self, change: Change) -> None:
        gates: dict[str, str] = {}
        for gate in change.payload.items("gates"):
            if type(gate) is not dict or gate.get("nodeid") in gates:
                raise Broken("gates", change.where, "a gate stands there twice, or is none")
            gates[str(gate.get("nodeid"))] = str(gate.get("outcome"))
        for name in [*gates, *self.pinned]:
            if gates.get(name) != "passed":
                raise Broken(
                    "gates",
                    change.where,
                    f"a keep, but the gate {name!r} is {gates.get(name, 'missing')}",
                )
        extra = set(gates) - set(self.pinned)
        if not gates or (self.pinned and extra):
            raise Broken(
                "gates",
                change.where,
                f"a keep by other gates than the pinned ones: {sorted(extra)[:3]}",
            )

    def _charge(self, change: Change) -> None:
        """The cost is the intent's; what is left is what all rows before leave."""
        payload = change.payload
        cost = payload.number("cost")
        left = max(0, self.budget - self.spent)
        if cost < 0 or cost != change.intent.number("cost"):
            raise Broken(
                "budget arithmetic",
                change.where,
                f"it costs {cost}, its intent {change.intent.number('cost')}",
            )
        before, after = payload.number("budget_before"), payload.number("budget_after")
        if (before, after) != (left, left - cost):
            raise Broken(
                "budget arithmetic", change.where,
                f"{before} units before and {after} after it, but the rows leave {left} and it costs {cost}",
            )  # fmt: skip
        self.spent += cost

    def _lost(self, change: Change) -> None:
        if change.done:
            raise Broken("altered row", change.where, "its payload was lost, and yet it took place")
        if change.payload.number("cost") != change.intent.number("cost"):
            raise Broken(
                "budget arithmetic", change.where, "it costs something else than its intent"
            )
        if change.payload.values.get("domain") is not None:
            self.spent += change.payload.number("cost")

    def _halt(self, change: Change) -> None:
        pass

    def _stop(self, change: Change) -> None:
        pass


def changes(source: Chain, cutover: Chain) -> Iterator[Change]:
    """
    Every settled change, both rows held together.

    :raises Broken: at the first row, or pair of rows, that does not hold.
    """
    settled = (row for row in cutover.rows() if _kind(row, cutover) == "cutover")
    for begun in source.rows():
        if _kind(begun, source) != "intent":
            continue
        intent = Fields.read(_where(source, begun), begun.data)
        action = intent.text("action")
        row = next(settled, None)
        if row is None:
            raise Broken(
                "missing cutover-audit entry", _where(source, begun),
                f"this {action} has no end in {CUTOVER}.jsonl: it is unfinished and the next session settles it, or "
                "the entry was dropped",
            )  # fmt: skip
        change = _change(begun, intent, row, source, cutover)
        cutover.last = (row.seq, row.sha256)
        yield change
    extra = next(settled, None)
    if extra is not None:
        raise Broken(
            "restore pair mismatch", _where(cutover, extra),
            f"it settles a change that {SOURCE}.jsonl does not have: that entry was dropped, or this one added",
        )  # fmt: skip


# -- by several processes: each reads chunks of both ledgers and takes their first rows at their word


def all_changes(source: Chain, cutover: Chain, *, alone: bool = False) -> Iterator[Change]:
    """
    :func:`changes`, with the processors that there are.

    Other processes only ever say that a chunk holds. From the first on that does not, or does not stand behind the one
    before, rows are read here, so that what is wrong is said as by one process alone.
    """
    if not alone:
        yield from _ahead(source, cutover)
    yield from changes(source, cutover)


def _ahead(source: Chain, cutover: Chain) -> Iterator[Change]:
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    try:
        files = source.file.fileno(), cutover.file.fileno()
    except OSError:  # no files
        return
    sizes = [chain.file.seek(0, os.SEEK_END) for chain in (source, cutover)]
    here = source.size, cutover.size
    try:
        if (processors or 1) > 1 and sizes[1] - here[1] >= 2 * CHUNK and Path(__file__).is_file():
            bounds = [here, *_bounds(files, here[1], sizes), (sizes[0], sizes[1])]
            chunks = [(*begin, *end) for begin, end in itertools.pairwise(bounds)]
            yield from _accepted(source, cutover, _read_by_workers(files, chunks, processors or 1))
    finally:
        source.file.seek(source.size)
        cutover.file.seek(cutover.size)


def _accepted(source: Chain, cutover: Chain, chunks: Iterator[Any]) -> Iterator[Change]:
    """The changes of all chunks up to the first that does not hold, or stands behind other rows than these."""
    for found in chunks:
        here = (source.seq, source.sha256, cutover.seq, cutover.sha256, cutover.last)
        if found is None or found[0] != here:
            return
        _, records, hashes, ends, last = found
        for chain, more in zip((source, cutover), hashes, strict=True):
            chain.digests += more
        for action, done, result, kind, intent, payload, rows, sizes in records:
            source.stand(rows[0], sizes[0])
            cutover.stand(rows[1], sizes[1])
            where = f"{CUTOVER}.jsonl, line {rows[1] + 1}"
            cutover.last = (rows[1], cutover.sha256)
            yield Change(
                where, rows[1], rows[0], action, done, result, Fields(where, intent), Fields(where, payload), kind, sizes
            )  # fmt: skip
        for chain, (row, size) in zip((source, cutover), ends, strict=True):
            chain.stand(row, size)
        cutover.last = last


def _bounds(files: tuple[int, int], begin: int, sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Where to cut: at the row of an end, every so many bytes, and at that of its beginning."""
    for offset in range(begin + CHUNK, sizes[1] - CHUNK, CHUNK):
        at, line = _line_behind(files[1], offset)
        link = re.search(rb'"data":\{"kind":"cutover","source":\{"seq":([0-9]{1,15}),', line)
        if link:
            low, high = 0, sizes[0]
            while (
                low < high
            ):  # the first place behind which the rows have this number, or a higher one
                middle = (low + high) // 2
                row = _ROW.match(_line_behind(files[0], middle)[1])
                low, high = (
                    (low, middle)
                    if row is None or int(row[1]) >= int(link[1])
                    else (middle + 1, high)
                )
            yield _line_behind(files[0], low)[0], at


def _line_behind(file: int, offset: int) -> tuple[int, bytes]:
    """Offset and beginning of the first line that does not begin before."""
    start = max(0, offset - 1)
    length = 1 << 13
    while True:
        found = os.pread(file, length, start)
        before, newline, line = found.partition(b"\n")
        if offset == 0:
            return 0, found
        if len(found) < length or length > 2 * MAX_ROW or len(line) >= 1 << 12:
            return start + len(before) + len(newline), line
        length *= 8


def _read_by_workers(
    files: tuple[int, int], chunks: list[tuple[int, int, int, int]], count: int
) -> Iterator[Any]:
    """What :func:`_read_chunk` says of each chunk, in their order; None where a process fails."""
    command = [sys.executable, "-I", "-S", __file__, "--work", *map(str, files)]
    workers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=files
        )
        for _ in range(min(count, len(chunks)))
    ]  # fmt: skip
    try:
        for number, worker in enumerate(workers):
            assert worker.stdin is not None
            with suppress(BrokenPipeError):
                worker.stdin.write(marshal.dumps(chunks[number :: len(workers)]))
                worker.stdin.close()
        for number in range(len(chunks)):
            answer = workers[number % len(workers)].stdout
            assert answer is not None
            try:
                length = int.from_bytes(answer.read(8))
                yield marshal.loads(answer.read(length))  # noqa: S302 -- by this very file
            except (EOFError, ValueError, TypeError):
                yield None
    finally:
        for worker in workers:
            with worker:
                worker.kill()


def work(source: int, cutover: int) -> int:
    """Another process: read chunks of both files, as told on standard input."""
    for chunk in marshal.load(sys.stdin.buffer):  # noqa: S302 -- the same
        answer = marshal.dumps(_read_chunk((source, cutover), chunk), 2)
        sys.stdout.buffer.write(len(answer).to_bytes(8) + answer)
        sys.stdout.buffer.flush()
    return 0


_LINK = re.compile(rb'"cutover":\{"seq":(-?[0-9]{1,15}),"sha256":"([0-9a-f]{64})"\}\},"sha256":"')
_ABOUT_INTENT = ("tip", "tree", "pin", "target", "cost", "surface")
_ABOUT_VERDICT = (
    "decision", "cost", "harness_tree", "data_sha256", "budget_before", "budget_after", "alarm",
    "surface", "snapshot", "candidate",
)  # fmt: skip
"""What is asked of a verdict that keeps nothing."""


def _read_chunk(files: tuple[int, int], chunk: tuple[int, int, int, int]) -> Any:
    """
    Which rows a chunk wants to stand behind, its changes, the hashes of its rows, and its ends.

    None when it does not hold, whatever stands before it.
    """
    begins, ends = chunk[:2], chunk[2:]
    chains = []
    for name, file, begin, end in zip((SOURCE, CUTOVER), files, begins, ends, strict=True):
        data = b""
        while len(data) < end - begin and (
            more := os.pread(file, end - begin - len(data), begin + len(data))
        ):
            data += more
        chain = Chain(name, io.BytesIO(data))
        if name == SOURCE:
            link = _LINK.search(data)
        first = _ROW.match(data)
        if first is None:
            return None
        chain.seq, chain.sha256, chain.size = int(first[1]) - 1, first[2].decode(), begin
        chain.first = chain.seq + 1
        chains.append(chain)
    source, cutover = chains
    if link is not None:
        cutover.last = int(link[1]), link[2].decode()
    claimed = (source.seq, source.sha256, cutover.seq, cutover.sha256, cutover.last)
    records = []
    try:
        for change in changes(source, cutover):
            values = change.payload.values
            if change.kind == "halt":
                values = {}
            elif change.kind == "verdict" and change.action != "keep":
                values = {name: values[name] for name in _ABOUT_VERDICT if name in values}
            intent = {
                name: change.intent.values[name]
                for name in _ABOUT_INTENT
                if name in change.intent.values
            }
            records.append(
                (change.action, change.done, change.result, change.kind, intent, values,
                 (change.source_row, change.row), change.ends)
            )  # fmt: skip
    except Broken:
        return None
    return (
        claimed, records, [bytes(chain.digests) for chain in chains],
        [(chain.seq, chain.size) for chain in chains], cutover.last,
    )  # fmt: skip


def _change(begun: Row, intent: Fields, row: Row, source: Chain, ledger: Chain) -> Change:
    where = _where(ledger, row)
    end = Fields.read(where, row.data)
    raw = _PAYLOAD.fullmatch(row.data)
    action, payload, link = intent.text("action"), end.inner("payload"), end.inner("source")
    if raw is None:
        raise Broken("altered row", where, "not a cutover's row, to the byte")
    if (link.number("seq"), link.text("sha256")) != (begun.seq, begun.sha256) or end.text(
        "action"
    ) != action:
        raise Broken(
            "restore pair mismatch",
            where,
            f"it does not settle the change in line {begun.seq + 1} of {SOURCE}.jsonl",
        )
    link = intent.inner("cutover")
    if (link.number("seq"), link.text("sha256")) != ledger.last:
        raise Broken(
            "restore pair mismatch",
            where,
            "its intent was written behind another row than the one before it",
        )
    kind = payload.text("kind")
    if kind != "lost" and hashlib.sha256(raw[1]).hexdigest() != intent.text("payload_sha256"):
        raise Broken(
            "restore pair mismatch", where, "it holds another payload than its intent announced"
        )
    if kind != "lost" and kind not in _KINDS.get(action, ()):
        raise Broken(
            "altered row", where, f"{action!r} with {kind!r} is no change that this verifier knows"
        )
    resolution, result = end.text("resolution"), end.text("result")
    if resolution not in ("done", "finished", "rolled-back"):
        raise Broken("altered row", where, f"{resolution!r} is no resolution")
    done = resolution != "rolled-back"
    target = intent.text("target")
    if (
        (target and done and result != target)
        or (result and not done)
        or (action == "keep" and not target)
    ):
        raise Broken(
            "altered row",
            where,
            f"its result is {result[:12]!r}, but its intent says {target[:12]!r}",
        )
    ends = source.size, ledger.size
    return Change(where, row.seq, begun.seq, action, done, result, intent, payload, kind, ends)


def _kind(row: Row, ledger: Chain) -> str:
    found = re.match(rb'\{"kind":"([a-z-]+)"', row.data)
    kind = found[1].decode() if found else ""
    wanted = "intent" if ledger.name == SOURCE else "cutover"
    if kind != wanted and (kind not in OWN_KINDS or (kind == "opened") != (row.seq == 0)):
        raise Broken(
            "altered row", _where(ledger, row), f"{kind!r} is no kind of row that belongs here"
        )
    return kind


def _where(ledger: Chain, row: Row) -> str:
    return f"{ledger.name}.jsonl, line {row.seq + 1}"


def start(
    source: BinaryIO, cutover: BinaryIO, campaign: Campaign, since: dict[str, Any] | None
) -> tuple[Chain, Chain]:
    """
    Both chains, behind the rows that a checkpoint vouches for; at the first row where these bytes are others.

    Then the walk is a full one, with its words, and :func:`require_known` has the last.
    """
    chains = Chain(SOURCE, source), Chain(CUTOVER, cutover)
    if since is None:
        return chains
    try:
        if all(chain.pass_over(since["ledgers"][chain.name]) for chain in chains):
            campaign.resume(since)
            return chains
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CannotTell(f"the checkpoint is none that a verification saves: {error!r}") from None
    source.seek(0)
    cutover.seek(0)
    return Chain(SOURCE, source), Chain(CUTOVER, cutover)


def require_known(since: dict[str, Any], *chains: Chain) -> None:
    """:raises Broken: when rows that a checkpoint vouches for are others now."""
    for chain in chains:
        known = since["ledgers"][chain.name]
        chain.require(known["seq"], known["sha256"], "checkpoint")


def check_ledgers(
    source: BinaryIO,
    cutover: BinaryIO,
    tag: str | None = None,
    since: dict[str, Any] | None = None,
) -> Broken | None:
    """The first thing wrong with either ledger, between them, or with what their rows say."""
    campaign = Campaign(tag)
    try:
        chains = start(source, cutover, campaign, since)
        for change in all_changes(*chains):
            campaign.step(change)
        if since is not None:
            require_known(since, *chains)
    except Broken as error:
        return error
    return None


# ---- git: objects, each held against its id


class Absent(Exception):
    """An object is not in the repository."""


class Git:
    """
    Reads one repository; nothing in it or in the environment steers the git that is run.

    Hooks, replacement refs, grafts, lazy fetches and the system's and the user's configuration are off. No
    command is used that runs filters or looks at the work tree.
    """

    def __init__(self, root: Path) -> None:
        entry = root / ".git"
        program = shutil.which("git")
        if program is None:
            raise CannotTell("no git program on PATH")
        if not entry.exists():
            entry = root
        self.program = [
            program, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false",
            "-c", "core.useReplaceRefs=false", "-c", "protocol.allow=never",
        ]  # fmt: skip
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "HOME": "/nonexistent",
            "GIT_DIR": str(entry),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_GRAFT_FILE": "/dev/null",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        self.format = self._output("rev-parse", "--show-object-format").strip()
        if self.format not in ("sha1", "sha256"):
            raise CannotTell(
                f"{str(root)!r} is no git repository: give the project's top directory"
            )
        listed = self._output("for-each-ref", "--format=%(objectname) %(refname)")
        self.refs = {
            name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())
        }
        self._trees: dict[str, dict[str, tuple[str, str]]] = {}
        self._commits: dict[str, tuple[str, tuple[str, ...], str]] = {}
        self._whole: set[str] = set()
        self._child: subprocess.Popen[bytes] | None = None

    def head(self) -> str:
        """The ref that HEAD stands for; empty when it is detached."""
        return self._output("symbolic-ref", "-q", "HEAD").strip()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.communicate()

    def commit(self, oid: str) -> tuple[str, tuple[str, ...], str]:
        """Tree, parents and message of a commit."""
        if oid not in self._commits:
            header, _, message = self._read(oid, "commit").partition(b"\n\n")
            lines = header.split(b"\n")
            tree = lines[0].removeprefix(b"tree ").decode("ascii", "replace")
            parents = tuple(
                line[7:].decode("ascii", "replace") for line in lines if line.startswith(b"parent ")
            )
            self._commits[oid] = tree, parents, message.decode("utf-8", "replace")
        return self._commits[oid]

    def tree(self, oid: str) -> dict[str, tuple[str, str]]:
        """Name to (mode, id) of a tree's own entries."""
        if oid not in self._trees:
            content, width, start = self._read(oid, "tree"), len(oid) // 2, 0
            entries = {}
            while start < len(content):
                end = content.index(b"\0", start)
                mode, _, name = content[start:end].partition(b" ")
                start = end + 1 + width
                entries[os.fsdecode(name)] = (mode.decode("ascii"), content[end + 1 : start].hex())
            self._trees[oid] = entries
        return self._trees[oid]

    def entry(self, tree: str, path: str) -> tuple[str, str]:
        """(mode, id) of what stands at a path; empty without one."""
        *directories, name = path.split("/")
        for directory in directories:
            mode, tree = self.tree(tree).get(directory, ("", ""))
            if mode != "40000":
                return "", ""
        return self.tree(tree).get(name, ("", ""))

    def differences(self, before: str, after: str, prefix: str = "") -> Iterator[str]:
        """Paths at which two trees differ, in mode or content."""
        old, new = self.tree(before) if before else {}, self.tree(after) if after else {}
        for name in sorted(old.keys() | new.keys()):
            (mode, oid), (other, other_oid) = old.get(name, ("", "")), new.get(name, ("", ""))
            if (mode, oid) == (other, other_oid):
                continue
            if "40000" in (mode, other):
                inside = oid if mode == "40000" else "", other_oid if other == "40000" else ""
                yield from self.differences(*inside, f"{prefix}{name}/")
                if mode == other:
                    continue
            yield f"{prefix}{name}"

    def files(self, tree: str, prefix: str = "") -> dict[str, str]:
        """Path to blob id of everything below a tree."""
        found = {}
        for name, (mode, oid) in self.tree(tree).items():
            if mode == "40000":
                found.update(self.files(oid, f"{prefix}{name}/"))
            else:
                found[f"{prefix}{name}"] = oid
        return found

    def require_whole(self, tree: str) -> None:
        """Hash a tree and everything below it; submodules are other repositories."""
        if tree in self._whole:
            return
        for mode, oid in self.tree(tree).values():
            if mode == "40000":
                self.require_whole(oid)
            elif mode != "160000":
                self.require_blob(oid)
        self._whole.add(tree)

    def require_blob(self, oid: str) -> None:
        """Hash a blob without keeping it."""
        if oid not in self._whole:
            self._read(oid, "blob", keep=False)
            self._whole.add(oid)

    def blob(self, oid: str) -> bytes:
        """Content of a blob."""
        return self._read(oid, "blob")

    def _read(self, oid: str, kind: str, *, keep: bool = True) -> bytes:
        if not _OID.fullmatch(oid):
            raise Absent(f"{oid[:64]!r} is no object id")
        if self._child is None:
            self._child = subprocess.Popen(
                [*self.program, "cat-file", "--batch"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment,
            )  # fmt: skip
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(BrokenPipeError):
            child.stdin.write(oid.encode() + b"\n")
            child.stdin.flush()
        answer = child.stdout.readline().decode("ascii", "replace").split()
        if len(answer) != 3:
            if not answer:  # git gives up on an object that it cannot unpack
                self.close()
                self._child = None
            raise Absent(
                f"the object {oid} is missing" if answer else f"the object {oid} cannot be read"
            )
        size = left = int(answer[2])
        digest = hashlib.new(self.format, f"{answer[1]} {size}\0".encode())
        pieces = []
        while left:
            piece = child.stdout.read(min(left, BLOCK_SIZE))
            if not piece:
                self.close()
                self._child = None
                raise Absent(f"the object {oid} cannot be read to its end")
            digest.update(piece)
            left -= len(piece)
            if keep:
                pieces.append(piece)
        child.stdout.read(1)
        if digest.hexdigest() != oid or answer[1] != kind:
            raise Broken(
                "object does not reproduce its hash", f"git object {oid}",
                f"another content, or a {answer[1]} in the place of a {kind}: the repository was tampered with or is damaged",
            )  # fmt: skip
        return b"".join(pieces)

    def _output(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.program, *arguments], check=False, capture_output=True, env=self.environment, stdin=subprocess.DEVNULL
        )  # fmt: skip
        return os.fsdecode(done.stdout)


# ---- what git has to say


class Evidence:
    """The repository, the pins and the kept models, held against what the rows say."""

    def __init__(
        self, git: Git, campaign: Campaign, directory: Path, source: Chain, cutover: Chain
    ) -> None:
        self.git = git
        self.campaign = campaign
        self.directory = directory
        self.source, self.cutover = source, cutover
        self.prefix = f"refs/autoresearch/{directory.name}/"
        self.named: set[str] = set()
        """Commits and pins that rows name."""

    def check(self, change: Change, before: Finding | None, state: Finding | None) -> None:
        """:raises Broken: at the first thing in the repository that is not what the change says."""
        intent, where = change.intent, change.where
        tip = intent.text("tip")
        self.named |= {tip, intent.text("pin"), change.result}
        if change.action in ("halt", "stop") and not intent.text("pin"):
            return
        checkpoint = change.payload.text("commit") if change.kind == "ratify" else tip
        self._require_pin(change, checkpoint)
        with self._links("missing checkpoint", where):
            tree, _, _ = self.git.commit(tip)
            if tree != intent.text("tree"):
                raise Broken(
                    "missing checkpoint",
                    where,
                    f"commit {tip[:12]} does not have the tree that was recorded",
                )
            if change.kind in ("verdict", "ratify"):
                self._require_surface(
                    tree, intent.texts("surface"), where, f"the restore point {tip[:12]}"
                )
        if change.kind == "restore" and change.done:
            self.named.update(str(commit) for commit in change.payload.items("discarded"))
            if state is not None and state.broken() is not None:
                raise Broken(
                    "missing checkpoint", where, "the state that it goes back to does not verify"
                )
        if change.kind in ("baseline", "ratify"):
            self._check_source(change)
        if change.kind in ("verdict", "baseline"):
            self._check_candidate(change)
        if change.kind == "verdict" and before is not None:
            if tip != before.commit:
                raise Broken(
                    "undocumented step", where,
                    f"the branch stood at {tip[:12]}, but the rows before lead to {before.commit[:12]}",
                )  # fmt: skip
            if state is not None and change.action == "keep":
                self._check_keep(change, before.commit)
                self._check_model(change)

    def check_again(self, state: Finding) -> None:
        """A finding before a checkpoint: its commit, and the whole tree if it is the harness that is ratified now."""
        with self._links("missing checkpoint", f"{CUTOVER}.jsonl, line {state.row + 1}"):
            tree, _, _ = self.git.commit(state.commit)
            self.git.tree(tree)
            if (state.commit, tree) == self.campaign.ratified:
                self.git.require_whole(tree)

    def _require_pin(self, change: Change, commit: str) -> None:
        pin = change.intent.text("pin")
        link = "missing checkpoint"
        if change.kind in ("baseline", "ratify"):
            link = "source tree not pinned"
        if pin != f"{self.prefix}restore/{commit}":
            raise Broken(
                link,
                change.where,
                f"its restore point {pin[:200]!r} is not that of commit {commit[:12]}",
            )
        found = self.git.refs.get(pin)
        if found is None:
            raise Broken(link, change.where, f"the restore point {pin!r} is absent{self._hint()}")
        if found != commit:
            raise Broken(
                link, change.where, f"the restore point {pin!r} holds {found[:12]}, another commit"
            )

    def _hint(self) -> str:
        if any(name.startswith(self.prefix) for name in self.git.refs):
            return ""
        return (
            f"; there is nothing below {self.prefix}: a plain clone does not copy it, `git fetch origin "
            "'+refs/autoresearch/*:refs/autoresearch/*'` does"
        )

    def _check_source(self, change: Change) -> None:
        """The whole tree that became the Fixed Harness, each object hashed."""
        commit, tree = change.payload.text("commit"), change.payload.text("tree")
        self.named.add(commit)
        with self._links("source tree not pinned", change.where):
            if self.git.commit(commit)[0] != tree:
                raise Broken(
                    "source tree not pinned",
                    change.where,
                    f"commit {commit[:12]} does not have the tree {tree[:12]}",
                )
            self.git.require_whole(tree)
            self._require_surface(
                tree, change.payload.texts("surface"), change.where, f"commit {commit[:12]}"
            )

    def _check_candidate(self, change: Change) -> None:
        """The judged bytes: pinned, whole, and those that the digest is of."""
        where, payload = change.where, change.payload
        surface, snapshot = payload.texts("surface"), payload.text("snapshot")
        self.named.add(snapshot)
        tree = self.git.refs.get(snapshot, "")
        if (
            not snapshot.startswith(f"{self.prefix}candidate/")
            or snapshot.rpartition("/")[2] != tree
        ):
            raise Broken(
                "missing checkpoint",
                where,
                f"the candidate's pin {snapshot[:200]!r} is absent or moved{self._hint()}",
            )
        with self._links("missing checkpoint", where):
            if self.git.files(tree) != surface:
                raise Broken(
                    "surface mismatch", where, f"{snapshot!r} holds other files than the row says"
                )
            digest = hashlib.sha256()
            for path in sorted(surface):
                for part in (path.encode("utf-8", "surrogatepass"), self.git.blob(surface[path])):
                    digest.update(b"%d:" % len(part) + part)
            if digest.hexdigest() != payload.text("candidate"):
                raise Broken(
                    "surface mismatch",
                    where,
                    "the candidate's digest is not that of the pinned files",
                )

    def _check_keep(self, change: Change, before: str) -> None:
        """One commit behind the incumbent, the surface and nothing else changed, the heads in its message."""
        where, commit, surface = change.where, change.result, change.payload.texts("surface")
        with self._links("rewritten history", where):
            tree, parents, message = self.git.commit(commit)
            if parents != (before,):
                raise Broken(
                    "rewritten history",
                    where,
                    f"the parent of {commit[:12]} is not the incumbent {before[:12]}",
                )
            self._require_surface(tree, surface, where, f"the keep commit {commit[:12]}")
            for path in self.git.differences(self.git.commit(before)[0], tree):
                if path not in surface:
                    raise Broken(
                        "undocumented step",
                        where,
                        f"the keep commit {commit[:12]} changes {path!r} as well",
                    )
        heads = trailers(message)
        for name, chain, last in (
            ("Autoresearch-Restore-Source", self.source, change.source_row),
            ("Autoresearch-Cutover-Audit", self.cutover, change.row),
        ):
            if name not in heads:
                raise Broken(
                    "rewritten history", where, f"the keep commit {commit[:12]} carries no {name}"
                )
            seq, sha256 = heads[name]
            if seq >= last or not chain.holds(seq, sha256):
                raise Broken(
                    "rewritten history", where,
                    f"the keep commit {commit[:12]} was made when {chain.name} ended in row {seq} with another hash",
                )  # fmt: skip

    def _check_model(self, change: Change) -> None:
        """The kept run's model, where it is still there."""
        run: Any = next(iter(change.payload.items("runs")), {})
        name = run.get("artifact", "") if type(run) is dict else ""
        if type(name) is not str or not re.fullmatch(r"[0-9]{1,12}/[^/\0]+", name):
            return
        try:
            with open_file(self.directory / "runs" / name) as file:
                digest = hashlib.sha256()
                while piece := file.read(BLOCK_SIZE):
                    digest.update(piece)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Broken(
                "artifact hash mismatch", change.where, f"runs/{name} cannot be read: {error}"
            ) from None
        if digest.hexdigest() != run.get("artifact_sha256"):
            raise Broken(
                "artifact hash mismatch",
                change.where,
                f"runs/{name} is not the model that was scored",
            )

    def _require_surface(self, tree: str, surface: dict[str, str], where: str, what: str) -> None:
        for path, oid in surface.items():
            mode, found = self.git.entry(tree, path)
            if found != oid or mode not in ("100644", "100755"):
                raise Broken(
                    "surface mismatch",
                    where,
                    f"{path!r} in {what} is not the file that the row names",
                )
            self.git.require_blob(oid)

    def _links(self, link: str, where: str) -> ExitStack:
        """What is absent inside is this broken link."""
        stack = ExitStack()

        def explain(_: object, error: BaseException | None, __: object) -> bool:
            if isinstance(error, Absent | ValueError | RecursionError):
                raise Broken(link, where, str(error)) from None
            if isinstance(error, Broken) and error.where.startswith("git object"):
                raise Broken(error.link, where, f"{error.where}: {error.message}") from None
            return False

        stack.push(explain)
        return stack

    # -- after the last row

    def present(self) -> list[str]:
        """Commits that rows name, and the restore points among those names that are there; no candidates."""
        return [
            name
            for name in self.named
            if _OID.fullmatch(name)
            or (name.startswith(f"{self.prefix}restore/") and name in self.git.refs)
        ]

    def tip(self) -> str:
        """Commit of the campaign's branch; of the remote's where there is no local one."""
        branch = self.campaign.branch
        return self.git.refs.get(f"refs/heads/{branch}") or self.git.refs.get(
            f"refs/remotes/origin/{branch}", ""
        )

    def check_branch(self) -> None:
        """The branch ends where the rows lead to."""
        state, branch = self.campaign.incumbent, self.campaign.branch
        if state is None or not self.campaign.ratified[0]:
            return
        tip, where = self.tip(), f"branch {branch}"
        if not tip:
            raise Broken(
                "rewritten history", where, "there is no such branch: fetch it, or it was deleted"
            )
        between, pending = [], [tip]
        seen = {tip}
        with self._links("rewritten history", where):
            while pending and state.commit not in seen and len(seen) < MOST_COMMITS:
                commit = pending.pop()
                between.append(commit)
                parents = [oid for oid in self.git.commit(commit)[1] if oid not in seen]
                pending += parents
                seen.update(parents)
            if state.commit not in seen:
                raise Broken(
                    "rewritten history",
                    where,
                    f"it ends at {tip[:12]}, without the incumbent {state.commit[:12]}",
                )
            for commit in between:
                self._require_explained(commit, where)

    def check_pins(self, *, candidates: bool) -> list[str]:
        """Every keep that is pinned as a restore point has its row; candidates that no row names are a note."""
        notes, unnamed = [], 0
        for name, oid in sorted(self.git.refs.items()):
            if name.startswith(f"{self.prefix}restore/") and oid not in self.named:
                with self._links("missing checkpoint", name):
                    if trailers(self.git.commit(oid)[2]) and not self._precedes(oid):
                        self._require_explained(oid, name)
            if (
                candidates
                and name.startswith(f"{self.prefix}candidate/")
                and name not in self.named
            ):
                unnamed += 1
        if unnamed:
            notes.append(
                f"{unnamed} pinned candidates are named by no row: sessions were cut short before their row, or rows "
                "were dropped from the end"
            )
        return notes

    def _precedes(self, commit: str) -> bool:
        """Whether a commit is older than the campaign: a keep of one before it."""
        pending = [state.commit for state in self.campaign.findings[:1]]
        seen = set(pending)
        while pending and commit not in seen and len(seen) < MOST_COMMITS:
            parents = [oid for oid in self.git.commit(pending.pop())[1] if oid not in seen]
            pending += parents
            seen.update(parents)
        return commit in seen

    def _require_explained(self, commit: str, where: str) -> None:
        if commit in self.named:
            return
        if trailers(self.git.commit(commit)[2]):
            raise Broken(
                "dropped tail",
                where,
                f"the keep commit {commit[:12]} has no row: rows were dropped, or it is forged",
            )
        raise Broken("undocumented step", where, f"no row explains the commit {commit[:12]}")

    # -- heads kept elsewhere, and who signed them

    def check_heads(self) -> list[str]:
        """The heads that this repository remembers, and remotes with it; which of them lag behind is a note."""
        notes = []
        for name in sorted(self.git.refs):
            outside = name.removeprefix(f"{self.prefix}outside/")
            if name == f"{self.prefix}heads" or outside != name:
                with self._links("dropped tail", name):
                    text = self.git.blob(self.git.refs[name]).decode("ascii", "replace")
                last = self.check_anchors(text, name)
                if outside != name and last < self.cutover.seq:
                    notes.append(f"{outside}: its heads end at row {last} of {self.cutover.seq}")
        for name in self.histories():
            for commit, text, _ in self.history(name):
                self.check_anchors(text, f"{name}, commit {commit[:12]}")
        return notes

    def histories(self) -> list[str]:
        """Refs of the histories of heads: this repository's own, and those fetched from remotes."""
        own, there = f"{self.prefix}anchors", f"/{BRANCH}{self.prefix.split('/')[2]}"
        return [
            name
            for name in sorted(self.git.refs)
            if name == own
            or (name.startswith(("refs/remotes/", "refs/heads/")) and name.endswith(there))
        ]

    def history(self, name: str) -> Iterator[tuple[str, str, bytes]]:
        """Commit, heads and signature (empty without one), newest first."""
        commit = self.git.refs[name]
        while commit:
            with self._links("rewritten history", name):
                tree, parents, _ = self.git.commit(commit)
                entries = self.git.tree(tree)
                if HEADS not in entries:
                    raise Absent(f"the commit {commit[:12]} holds no heads")
                text = self.git.blob(entries[HEADS][1]).decode("ascii", "replace")
                signature = self.git.blob(entries[SIGNATURE][1]) if SIGNATURE in entries else b""
            yield commit, text, signature
            commit = parents[0] if parents else ""

    def check_signature(self, allowed: Path, identity: str | None) -> str:
        """
        Who signed the heads of both ledgers' last rows.

        :param allowed: git's allowed-signers file.
        :param identity: who must have; by default any principal in it.
        :raises Broken: unless somebody did who may.
        """
        found = []
        for name in self.histories():
            commit, text, signature = next(self.history(name))
            found.append(
                (self.check_anchors(text, name), f"{name}, commit {commit[:12]}", text, signature)
            )
        last, where, text, signature = max(
            found,
            key=lambda head: (head[0], bool(head[3])),
            default=(-1, f"{self.prefix}anchors", "", b""),
        )
        if not signature:
            what = f"the heads up to row {last}" if found else "there is no history of heads: they"
            raise Broken("missing signature", where, f"{what} were signed by nobody")
        if (
            f"{SOURCE} {self.source.seq}:{self.source.sha256}\n" not in text
            or last < self.cutover.seq
        ):
            raise Broken(
                "missing signature", where,
                f"signed up to row {last}, but {CUTOVER} ends at row {self.cutover.seq}: a session was cut short "
                "before it signed, and the next one signs for it, or somebody else wrote the rest",
            )  # fmt: skip
        return f"heads up to row {last} signed by {signer(text.encode(), signature, allowed, identity, where)}"

    def check_anchors(self, text: str, where: str) -> int:
        """
        Hold heads against the rows; the last row of cutover-audit that they name, -1 for none.

        :raises Broken: for a head that no row has any more, or a text that holds none.
        """
        last = -1
        found = re.findall(r"^(\S+)[ \t]+(-?[0-9]{1,15}):([0-9a-f]{64})[ \t]*$", text, re.MULTILINE)
        if not found:
            raise Broken(
                "dropped tail",
                where,
                "no heads are written there: lines 'cutover-audit SEQ:SHA256'",
            )
        for name, number, sha256 in found:
            chain = {SOURCE: self.source, CUTOVER: self.cutover}.get(name)
            if chain is None:
                raise Broken("dropped tail", where, f"{name[:80]!r} is no ledger")
            chain.require(int(number), sha256, where)
            if name == CUTOVER:
                last = max(last, int(number))
        return last


def signer(
    content: bytes, signature: bytes, allowed: Path, identity: str | None, where: str
) -> str:
    """
    The principal whose key made a signature, by ``ssh-keygen`` and git's allowed-signers file.

    :raises Broken: another content, another key, another principal, a key past its time.
    :raises CannotTell: without ssh-keygen or the file.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise CannotTell(
            "no ssh-keygen program on PATH, which checks signatures: install OpenSSH's client"
        )
    if not allowed.is_file():
        raise CannotTell(f"the allowed-signers file {str(allowed)!r} is no file")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / SIGNATURE
        file.write_bytes(signature)

        def ask(what: str, *arguments: str) -> tuple[bool, str, str]:
            done = subprocess.run(
                [program, "-Y", what, "-s", str(file), *arguments], input=content, capture_output=True, check=False,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": "/nonexistent"},
            )  # fmt: skip
            said, words = (
                text.decode("utf-8", "replace").strip() for text in (done.stdout, done.stderr)
            )
            return done.returncode == 0, said, words

        holds, key, words = ask("check-novalidate", "-n", NAMESPACE)
        if not holds:
            raise Broken(
                "altered heads", where, f"the signature is not one over these heads: {words}"
            )
        key = key.rpartition(" ")[2]
        holds, named, words = ask("find-principals", "-f", str(allowed))
        if "expired" in words or "not yet valid" in words:
            raise Broken("expired key", where, f"signed with the key {key}: {words}")
        if not holds:
            raise Broken(
                "wrong key",
                where,
                f"signed with the key {key}, which no line of {allowed.name} allows",
            )
        principals = named.splitlines()
        if identity is not None and identity not in principals:
            raise Broken(
                "wrong identity", where,
                f"signed by {', '.join(principals)} with the key {key}, but {identity!r} was asked for",
            )  # fmt: skip
        chosen = identity or principals[0]
        holds, _, words = ask("verify", "-n", NAMESPACE, "-f", str(allowed), "-I", chosen)
        if not holds:
            raise Broken(
                "wrong key", where, f"{chosen} may not sign heads with the key {key}: {words}"
            )
    return f"{chosen} with the key {key}"


def trailers(message: str) -> dict[str, tuple[int, str]]:
    """The ledgers' heads in the last paragraph of a commit message; one that stands there twice is none."""
    found: dict[str, tuple[int, str]] = {}
    for line in message.rstrip("\n").rpartition("\n\n")[2].split("\n"):
        match = _TRAILER.fullmatch(line)
        if match:
            if match[1] in found:
                return {}
            found[match[1]] = (int(match[2]), match[3])
    return found


# ---- checkpoints: what was verified once is hashed from then on, and not read again


def checkpoint(
    campaign: Campaign,
    chains: tuple[Chain, Chain],
    changes: int,
    *,
    notes: Sequence[str] = (),
    named: Collection[str] = (),
) -> bytes:
    """
    Where a verification ended that found nothing wrong, for one that goes on from there.

    :param changes: how many it took in.
    :param named: commits and restore points that rows name, and that are there.
    """
    numbers = {id(state): number for number, state in enumerate(campaign.findings)}
    stood = (numbers.get(id(campaign.states.get(seq)), -1) for seq in range(campaign.settled))
    document = {
        "v": 1, "tag": campaign.tag, "changes": changes, "notes": notes,
        "ledgers": {
            chain.name: {
                "seq": chain.seq, "sha256": chain.sha256, "last": chain.last,
                "size": chain.size, "bytes_sha256": chain.bytes.hexdigest(),
            }
            for chain in chains
        },
        "branch": campaign.branch, "budget": campaign.budget, "spent": campaign.spent,
        "pinned": campaign.pinned, "ratified": campaign.ratified, "data": campaign.data,
        "findings": [
            [
                state.seq, state.row, state.kind, state.commit, numbers.get(id(state.parent), -1),
                state.harness, state.pinned, state.data,
                state.problem and (state.problem.link, state.problem.where, state.problem.message),
            ]
            for state in campaign.findings
        ],
        "incumbent": numbers.get(id(campaign.incumbent), -1),
        "stood": [[number, len([*run])] for number, run in itertools.groupby(stood)],
        "commits": sorted(filter(_OID.fullmatch, named)),
        "pins": sorted(name for name in named if name.startswith("refs/")),
    }  # fmt: skip
    body = json.dumps(document, separators=(",", ":"))[:-1].encode("ascii")
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def load_checkpoint(path: Path, tag: str) -> dict[str, Any]:
    """:raises CannotTell: for a file that no verification of this campaign has saved as it is."""
    raw = path.read_bytes()
    seal = _SEAL + hashlib.sha256(raw[:-_SEALED]).hexdigest().encode() + b'"}\n'
    try:
        values = dict(_decode(raw.decode("ascii"))) if raw[-_SEALED:] == seal else {}
    except (ValueError, RecursionError, TypeError):
        values = {}
    if values.get("v") != 1 or values.get("tag") != tag:
        raise CannotTell(
            f"{str(path)!r} is no checkpoint of the campaign {tag!r}, or was altered: verify without --since, "
            "and save another"
        )
    return values


def resume(since: dict[str, Any], report: Report, evidence: Evidence) -> None:
    """Stand where a checkpoint was made, and look again at what is cheap to look at: findings and their pins."""
    report.pairs = since["changes"]
    report.cut = {chain.name: chain.size for chain in (evidence.source, evidence.cutover)}
    report.notes += since["notes"]
    evidence.named.update(since["commits"], since["pins"])
    for state in evidence.campaign.findings:
        if state.problem is None:
            try:
                evidence.check_again(state)
            except Broken as error:
                state.problem = error
                report.problems.append(error)
    for pin in since["pins"]:
        if evidence.git.refs.get(pin) != pin.rpartition("/")[2]:
            report.problems.append(
                Broken(
                    "missing checkpoint",
                    "checkpoint",
                    f"the restore point {pin!r} is absent or moved",
                )
            )


# ---- the whole


def open_file(path: Path) -> BinaryIO:
    """A regular file, no link followed, nothing waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is not a regular file")
    return os.fdopen(descriptor, "rb", buffering=1 << 16)


class _Upto(io.RawIOBase):
    """The first bytes of a file: rows that a session appends meanwhile are not looked at."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            return self.file.seek(self.size + offset)
        return self.file.seek(offset, whence)

    def fileno(self) -> int:
        return self.file.fileno()

    def readinto(self, buffer: Any) -> int:
        data = self.file.read(max(0, min(len(buffer), self.size - self.file.tell())))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.file.close()
        super().close()


def open_ledger(path: Path) -> BinaryIO:
    """The rows that a ledger has now; an absent one is empty."""
    try:
        file = open_file(path)
    except FileNotFoundError:
        return io.BytesIO()
    except OSError as error:
        raise Broken(
            "foreign file", path.name, f"cannot be read: {error.strerror or error}"
        ) from None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
    size = os.fstat(file.fileno()).st_size
    with suppress(OSError):
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    return io.BufferedReader(_Upto(file, size), buffer_size=1 << 16)


def check_files(directory: Path, tag: str, since: dict[str, Any] | None = None) -> Broken | None:
    """:func:`check_ledgers` of the two files in a campaign's directory."""
    try:
        with (
            open_ledger(directory / f"{CUTOVER}.jsonl") as cutover,
            open_ledger(directory / f"{SOURCE}.jsonl") as source,
        ):
            return check_ledgers(source, cutover, tag, since)
    except Broken as error:
        return error


def verify(
    root: Path,
    tag: str,
    *,
    directory: Path | None = None,
    anchors: str | None = None,
    allowed: Path | None = None,
    identity: str | None = None,
    since: dict[str, Any] | None = None,
    save: bool = False,
) -> Report:
    """
    Walk through a campaign's ledgers and hold the repository against them.

    :param directory: where the ledgers are, by default ``ROOT/.autoresearch/TAG``.
    :param anchors: heads kept outside, one ``LEDGER SEQ:SHA256`` a line.
    :param allowed: git's allowed-signers file: somebody in it must have signed the heads.
    :param identity: who of them.
    :param since: a checkpoint, see :func:`load_checkpoint`: rows that it vouches for are hashed and not read.
    :param save: make a checkpoint.
    :raises CannotTell: without a repository or a campaign, or without what checks a signature.
    """
    git = Git(root)
    directory = directory or root / ".autoresearch" / tag
    report, campaign = Report(tag), Campaign(tag)
    with ExitStack() as stack:
        stack.callback(git.close)
        try:
            # The end of a change before its beginning: one that a session settles meanwhile is not torn apart.
            ends = stack.enter_context(open_ledger(directory / f"{CUTOVER}.jsonl"))
            beginnings = stack.enter_context(open_ledger(directory / f"{SOURCE}.jsonl"))
        except Broken as error:
            report.problems.append(error)
            return report
        source, cutover = Chain(SOURCE, beginnings), Chain(CUTOVER, ends)
        source, cutover = start(beginnings, ends, campaign, since)
        evidence = Evidence(git, campaign, directory, source, cutover)
        if since is not None and source.size:
            resume(since, report, evidence)
        whole = report.whole = _walk(report, campaign, evidence, save=save)
        walked = list(report.notes)
        if since is not None and whole:
            _attempt(report, lambda: require_known(since, source, cutover))
        if cutover.seq < 0 and source.seq < 0 and whole:
            _require_campaign(report, evidence, directory)
        report.branch, report.findings = campaign.branch, campaign.findings
        report.rows = source.seq + cutover.seq + 2
        report.heads = {chain.name: f"{chain.seq}:{chain.sha256}" for chain in (source, cutover)}
        report.tip = evidence.tip()
        if whole:
            _attempt(report, evidence.check_branch)
            _attempt(
                report, lambda: report.notes.extend(evidence.check_pins(candidates=since is None))
            )
            _attempt(report, lambda: report.notes.extend(evidence.check_heads()))
        if anchors is not None and whole:
            _attempt(report, lambda: evidence.check_anchors(anchors, "anchors"))
        if allowed is not None and whole:
            _attempt(
                report, lambda: report.notes.append(evidence.check_signature(allowed, identity))
            )
        if save and not report.problems:
            report.checkpoint = checkpoint(
                campaign, (source, cutover), report.pairs, notes=walked, named=evidence.present()
            )
    return report


def _walk(report: Report, campaign: Campaign, evidence: Evidence, *, save: bool) -> bool:
    """Take in change after change; False when the ledgers break off."""
    source, cutover = evidence.source, evidence.cutover
    try:
        for change in all_changes(source, cutover, alone=save):
            before = campaign.incumbent
            state = campaign.step(change)
            try:
                evidence.check(change, before, state)
            except Broken as error:
                report.problems.append(error)
                if state is not None and state.row == change.row:
                    state.problem = error
            else:
                if change.kind == "restore" and change.done:
                    report.notes += [
                        f"given up in {change.where}: {problem}" for problem in report.problems
                    ]
                    report.problems.clear()
            report.pairs += 1
            report.cut = dict(zip((SOURCE, CUTOVER), change.ends, strict=True))
    except Broken as error:
        report.problems.append(error)
        return False
    return True


def _attempt(report: Report, check: Callable[[], object]) -> None:
    try:
        check()
    except Broken as error:
        report.problems.append(error)
        if (
            error.link in ("rewritten history", *SIGNING)
            and not error.where.startswith("branch")
            and report.findings
        ):
            report.findings[0].problem = error  # nothing says where the false rows begin


def _require_campaign(report: Report, evidence: Evidence, directory: Path) -> None:
    pins = [name for name in evidence.git.refs if name.startswith(evidence.prefix)]
    if not pins:
        raise CannotTell(
            f"no campaign {report.tag!r}: there are no ledgers in {str(directory)!r}, and no pins of it"
        )
    report.problems.append(
        Broken(
            "dropped tail",
            directory.name,
            f"there are no ledgers, but {len(pins)} pins of the campaign",
        )
    )


def broken_link(report: Report, seq: int | None) -> Broken | None:
    """
    The first broken link: of one finding, on its way back to the source; without ``seq`` of everything.

    :raises CannotTell: when there is no such finding.
    """
    if seq is None:
        return report.problems[0] if report.problems else None
    found = [
        state
        for state in report.findings
        if state.seq == seq and state.kind in ("baseline", "keep")
    ]
    if found:
        return found[-1].broken()
    if not report.whole:
        return report.problems[-1]
    kept = ", ".join(
        str(state.seq) for state in report.findings if state.kind in ("baseline", "keep")
    )
    raise CannotTell(f"{seq} is no finding: baselines and keeps are {kept or 'none'}")


def last_verified(report: Report) -> Finding | None:
    """The newest state whose whole way back to the source holds."""
    return next((state for state in reversed(report.findings) if state.broken() is None), None)


def restore_commands(report: Report, root: Path, directory: Path) -> list[str]:
    """Shell commands that go back to the last state that verifies; nothing is thrown away."""
    state = last_verified(report)
    if state is None:
        return ["# no state verifies: work in a fresh clone, under another tag"]
    git = f"git -C {_quoted(str(root))}"
    branch, tip = report.branch, report.tip
    commands = []
    if tip and tip != state.commit:
        commands += [
            f"{git} update-ref refs/autoresearch/{report.tag}/dropped/{tip} {tip}",
            f"{git} update-ref refs/heads/{_quoted(branch)} {state.commit} {tip}",
            f"{git} restore --source={state.commit} --staged --worktree -- .  # your own edits: commit or copy them first",
        ]
    commands += [
        f"# in the project, so that it is recorded: autoresearch verify --tag {report.tag} --restore"
    ]
    return commands


def _quoted(text: str) -> str:
    return (
        text
        if re.fullmatch(r"[A-Za-z0-9_./@+-]+", text)
        else "'" + text.replace("'", "'\\''") + "'"
    )


def printable(text: str) -> str:
    """One line, in which nothing can steer a terminal."""
    return "".join(
        char if " " <= char <= "~" else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text
    )


def lines_of(report: Report, seq: int | None) -> list[str]:
    """The report for people: one line a finding, newest first, then the verdict."""
    lines = []
    for state in reversed(report.findings):
        if seq is not None and state.seq > seq:
            continue
        problem = state.broken()
        lines.append(
            f"{'ok   ' if problem is None else 'block'} {state.seq:>5}  {state.kind:<8} {state.commit[:12]}  "
            f"row {state.row}" + (f"  {problem}" if problem else "")
        )
    lines += [f"note: {note}" for note in report.notes]
    broken = broken_link(report, seq)
    if broken is None:
        what = "the campaign" if seq is None else f"finding {seq}"
        kept = sum(state.kind == "keep" for state in report.findings)
        lines.append(
            f"PASS: complete chain: {what}, {report.rows} rows, {report.pairs} changes, {kept} keeps, back to the pinned source tree"
        )
    else:
        lines.append(f"BLOCK: {broken}")
    return [printable(line) for line in lines]


def as_json(report: Report, seq: int | None) -> str:
    """The report for programs."""
    broken = broken_link(report, seq)
    document = {
        "verdict": "PASS" if broken is None else "BLOCK",
        "broken": _plain(broken),
        "problems": [_plain(problem) for problem in report.problems],
        "findings": [
            {
                "seq": state.seq, "row": state.row, "kind": state.kind, "commit": state.commit,
                "broken": _plain(state.broken()),
            }
            for state in report.findings
        ],
        "notes": report.notes, "tag": report.tag, "branch": report.branch, "heads": report.heads,
        "rows": report.rows, "changes": report.pairs,
    }  # fmt: skip
    return json.dumps(document, indent=2)


def _plain(broken: Broken | None) -> dict[str, str] | None:
    return (
        None
        if broken is None
        else {"link": broken.link, "where": broken.where, "message": broken.message}
    )


def choose_tag(root: Path, given: str | None) -> str:
    """The campaign's tag: as given, else that of the branch, else the only one there is."""
    if given is None:
        base = root / ".autoresearch"
        found = (
            sorted(path.parent.name for path in base.glob(f"*/{CUTOVER}.jsonl"))
            if base.is_dir()
            else []
        )
        head = Git(root).head().removeprefix("refs/heads/autoresearch/")
        if head in found or not found:
            given = head if _TAG.fullmatch(head) else "main"
        elif len(found) > 1:
            raise CannotTell(
                f"there are several campaigns, choose one with --tag: {', '.join(found)}"
            )
        else:
            given = found[0]
    if not _TAG.fullmatch(given) or ".." in given:
        raise CannotTell(f"{given!r} cannot be a campaign's tag")
    return given


def main(arguments: list[str] | None = None) -> int:
    """Verify from the command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument(
        "project", type=Path, help="top directory of the project, or its bare repository"
    )
    parser.add_argument("--tag", help="campaign (default: the only one)")
    parser.add_argument(
        "--seq", type=int, help="one finding, by its number in results.tsv (default: everything)"
    )
    parser.add_argument(
        "--ledgers", type=Path, help="directory of the ledgers (default: PROJECT/.autoresearch/TAG)"
    )
    parser.add_argument(
        "--anchors",
        type=Path,
        action="append",
        default=[],
        help="file with heads kept elsewhere, as --heads prints them; may be given more than once",
    )
    parser.add_argument(
        "--allowed-signers",
        type=Path,
        metavar="FILE",
        help="require that the heads are signed by somebody in this file, which has git's format",
    )
    parser.add_argument("--identity", help="who of them must have signed (default: anybody)")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="on PASS of everything, write a checkpoint there"
    )
    parser.add_argument(
        "--since",
        type=Path,
        metavar="FILE",
        help="go on from a checkpoint: read only the rows behind it",
    )
    parser.add_argument(
        "--heads", action="store_true", help="print the ledgers' heads, to be kept elsewhere"
    )
    parser.add_argument(
        "--restore",
        action="store_true",
        help="print how to go back to the last state that verifies",
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    options = parser.parse_args(arguments)
    root = options.project.resolve()
    try:
        tag = choose_tag(root, options.tag)
        directory = options.ledgers or root / ".autoresearch" / tag
        texts = [path.read_text("ascii", "replace") for path in options.anchors]
        report = verify(
            root,
            tag,
            directory=directory,
            anchors="\n".join(texts) if texts else None,
            allowed=options.allowed_signers,
            identity=options.identity,
            since=load_checkpoint(options.since, tag) if options.since else None,
            save=options.save is not None,
        )
        broken = broken_link(report, options.seq)
        text = [as_json(report, options.seq)] if options.json else lines_of(report, options.seq)
        if report.checkpoint:
            written = options.save.with_name(f"{options.save.name}.new")
            written.write_bytes(report.checkpoint)
            written.replace(options.save)
    except (CannotTell, OSError) as error:
        print(f"cannot tell: {printable(str(error))}", file=sys.stderr)
        return 2
    if options.heads and broken is None:
        text = [f"{name} {head}" for name, head in report.heads.items()]
    print("\n".join(text))
    if options.restore and broken is not None:
        print("\n".join(printable(line) for line in restore_commands(report, root, directory)))
    return 0 if broken is None else 1


if __name__ == "__main__":
    sys.exit(work(*map(int, sys.argv[2:])) if sys.argv[1:2] == ["--work"] else main())
