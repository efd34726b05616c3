#!/usr/bin/env python3
"""
Verify a campaign's provenance: PASS, or BLOCK with the first broken link in words.

    python verifier.py PROJECT [--tag TAG] [--seq N] [--anchors FILE] [--restore] [--json]

One file, standard library and the ``git`` program only: an auditor can read it and run it without the
package that wrote the ledgers. It reads, and changes nothing. Exit status: 0 PASS, 1 BLOCK, 2 cannot tell.

What is covered: every byte of both ledgers, that their rows belong together, that each row's arithmetic and
gates are what the rows before it allow, and that commits, trees, blobs, pins and models are those the rows
name, each hashed here, since git itself does not look.
What is not covered: somebody who rewrites ledgers, branch and pins alike. Against that stand the heads that
``--heads`` prints, kept elsewhere and given back with ``--anchors``.

The formats stand in docs/provenance.md; verify.sh beside it is a second implementation.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

__all__ = ["Broken", "Finding", "Report", "check_chain", "check_ledgers", "main", "verify"]

MAX_ROW = 1 << 20
EMPTY = hashlib.sha256(b"").hexdigest()
SOURCE, CUTOVER = "restore-source", "cutover-audit"
OWN_KINDS = ("opened", "torn-tail")
MOST_COMMITS = 10_000
"""Commits looked at between the branch's tip and the incumbent, or below a ratified one."""
BLOCK_SIZE = 1 << 20

_ROW = re.compile(
    rb'\{"v":1,"seq":(0|[1-9][0-9]{0,14}),"prev":"([0-9a-f]{64})","time":"([0-9T:.+-]{19,40})",'
    rb'"data":(\{[ -~]*\}),"sha256":"([0-9a-f]{64})"\}\n'
)
_SEALED = len(b',"sha256":""}\n') + 64
_PAYLOAD = re.compile(
    rb'\{"kind":"cutover","source":\{"seq":-?[0-9]+,"sha256":"[0-9a-f]{64}"\},"action":"[a-z]+",'
    rb'"resolution":"[a-z-]+","result":"[0-9a-f]*","failure":"(?:[^"\\]|\\.)*","payload":(\{.*\})\}'
)
_OID = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_TRAILER = re.compile(r"(Autoresearch-(?:Restore-Source|Cutover-Audit)): (-?[0-9]{1,15}):([0-9a-f]{64})")
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
    """Ledger to the bytes of its rows that hold."""


# ---- bytes: one file, one chain


@dataclass(frozen=True)
class Row:
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
        self.digests = bytearray()
        """SHA-256 of every line, 32 bytes each."""
        self.size = 0
        """Bytes of the rows that held."""

    def rows(self) -> Iterator[Row]:
        """
        Every row of the file, the ledger's own included.

        :raises Broken: at the first byte that is not what was written.
        """
        readline, match, sha256 = self.file.readline, _ROW.fullmatch, hashlib.sha256
        while raw := readline(MAX_ROW + 1):
            found = match(raw)
            if found is None or len(raw) > MAX_ROW:
                self._reject(raw)
            seq, prev, _, data, seal = found.groups()
            digest = sha256(raw[:-_SEALED])
            if digest.hexdigest().encode() != seal:
                self._fail("altered row", f"row {int(seq)} does not match its own hash")
            digest.update(raw[-_SEALED:])
            if int(seq) != self.seq + 1:
                self._fail("altered row", f"row {int(seq)} stands behind row {self.seq}: {self._order(int(seq))}")
            if prev.decode() != self.sha256:
                self._fail("altered row", f"row {int(seq)} was written behind another row than the one before it")
            if self.seq < 0 and data != b'{"kind":"opened","ledger":"%s"}' % self.name.encode():
                self._fail("foreign file", f"row 0 does not open the ledger {self.name!r}")
            self.seq, self.sha256 = self.seq + 1, digest.hexdigest()
            self.digests += digest.digest()
            self.size += len(raw)
            yield Row(self.seq, data, self.sha256)

    def holds(self, seq: int, sha256: str) -> bool:
        """Whether a row read so far has this number and hash."""
        if seq == -1:
            return sha256 == EMPTY
        return 0 <= seq <= self.seq and self.digests[32 * seq : 32 * seq + 32].hex() == sha256

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
            self._fail("altered row", f"schema version {version[1][:20].decode()}, but this verifier reads version 1")
        self._fail("altered row", "not a ledger's row, to the byte")

    def _fail(self, link: str, message: str) -> NoReturn:
        raise Broken(link, f"{self.name}.jsonl, line {self.seq + 2}", message)


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
            values = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise Broken("altered row", where, f"not the JSON of a row: {str(error)[:100]}") from None
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
            raise Broken("altered row", self.where, f"field {name!r} holds something else than texts")
        return dict(values)

    def _get(self, name: str, kind: type) -> Any:
        value = self.values.get(name)
        if type(value) is not kind:
            raise Broken("altered row", self.where, f"field {name!r} is missing or no {kind.__name__}")
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


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
        seq = max(0, self.settled - (kind in ("ratify", "restore")))
        self.incumbent = Finding(seq, change.row, kind, commit, parent)
        self.findings.append(self.incumbent)

    def _baseline(self, change: Change) -> None:
        if not change.done:
            return
        payload, commit = change.payload, change.payload.text("commit")
        if self.tag is not None and payload.text("tag") != self.tag:
            raise Broken("foreign file", change.where, f"it belongs to the campaign {payload.text('tag')!r}")
        if self.ratified[0] and self.incumbent is not None and commit != self.incumbent.commit:
            raise Broken(
                "undocumented step", change.where,
                f"the baseline is measured on {commit[:12]}, but the rows before it lead to {self.incumbent.commit[:12]}",
            )  # fmt: skip
        measured = payload.inner("after").values.get("mean") is not None
        if measured and not self.ratified[0]:
            self.ratified = (commit, payload.text("tree"))
        self.branch, self.budget = payload.text("branch"), payload.number("budget")
        self.data = payload.text("data_sha256")
        self.pinned = tuple(str(name) for name in payload.items("pinned"))
        self._stand(change, commit, "baseline", self.incumbent if self.ratified[0] else None)

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
            raise Broken("altered row", change.where, f"the verdict is {decision!r}, but a {change.action} was made of it")
        self._charge(change)
        if self.ratified[1] and payload.text("harness_tree") != self.ratified[1]:
            raise Broken(
                "source tree not pinned", change.where,
                f"judged by the harness {payload.text('harness_tree')[:12]}, but {self.ratified[1][:12]} is ratified",
            )  # fmt: skip
        if payload.text("data_sha256") != self.data:
            raise Broken("source tree not pinned", change.where, "judged on other data than the baseline pinned")
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
            raise Broken("missing checkpoint", change.where, "the state that it goes back to was never the incumbent")
        moved = self.incumbent is not None and self.incumbent.commit != restored.commit
        if (change.action == "rollback") != moved or (moved and change.intent.text("target") != restored.commit):
            raise Broken("altered row", change.where, "the branch went elsewhere than the alarm says")
        self.incumbent = restored

    def _restore(self, change: Change) -> None:
        """A verifier found a broken link, and the campaign went back to the last state that verified."""
        if change.done:
            payload = change.payload
            state = self.states.get(payload.number("restore_seq"))
            if state is None or state.commit != payload.text("commit") != change.intent.text("target"):
                raise Broken("missing checkpoint", change.where, "the state that it goes back to was never the incumbent")
            self.spent += payload.number("cost")
            self.incumbent = state

    def _require_gates(self, change: Change) -> None:
        gates: dict[str, str] = {}
        for gate in change.payload.items("gates"):
            if type(gate) is not dict or gate.get("nodeid") in gates:
                raise Broken("gates", change.where, "a gate stands there twice, or is none")
            gates[str(gate.get("nodeid"))] = str(gate.get("outcome"))
        for name in [*gates, *self.pinned]:
            if gates.get(name) != "passed":
                raise Broken("gates", change.where, f"a keep, but the gate {name!r} is {gates.get(name, 'missing')}")
        extra = set(gates) - set(self.pinned)
        if not gates or (self.pinned and extra):
            raise Broken("gates", change.where, f"a keep by other gates than the pinned ones: {sorted(extra)[:3]}")

    def _charge(self, change: Change) -> None:
        """The cost is the intent's; what is left is what all rows before leave."""
        payload = change.payload
        cost = payload.number("cost")
        left = max(0, self.budget - self.spent)
        if cost < 0 or cost != change.intent.number("cost"):
            raise Broken("budget arithmetic", change.where, f"it costs {cost}, its intent {change.intent.number('cost')}")
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
            raise Broken("budget arithmetic", change.where, "it costs something else than its intent")
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
    before = (-1, EMPTY)
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
        yield _change(begun, intent, row, before, cutover)
        before = (row.seq, row.sha256)
    extra = next(settled, None)
    if extra is not None:
        raise Broken(
            "restore pair mismatch", _where(cutover, extra),
            f"it settles a change that {SOURCE}.jsonl does not have: that entry was dropped, or this one added",
        )  # fmt: skip


def _change(begun: Row, intent: Fields, row: Row, before: tuple[int, str], ledger: Chain) -> Change:
    where = _where(ledger, row)
    end = Fields.read(where, row.data)
    raw = _PAYLOAD.fullmatch(row.data)
    action, payload, link = intent.text("action"), end.inner("payload"), end.inner("source")
    if raw is None:
        raise Broken("altered row", where, "not a cutover's row, to the byte")
    if (link.number("seq"), link.text("sha256")) != (begun.seq, begun.sha256) or end.text("action") != action:
        raise Broken("restore pair mismatch", where, f"it does not settle the change in line {begun.seq + 1} of {SOURCE}.jsonl")
    link = intent.inner("cutover")
    if (link.number("seq"), link.text("sha256")) != before:
        raise Broken("restore pair mismatch", where, "its intent was written behind another row than the one before it")
    kind = payload.text("kind")
    if kind != "lost" and hashlib.sha256(raw[1]).hexdigest() != intent.text("payload_sha256"):
        raise Broken("restore pair mismatch", where, "it holds another payload than its intent announced")
    if kind != "lost" and kind not in _KINDS.get(action, ()):
        raise Broken("altered row", where, f"{action!r} with {kind!r} is no change that this verifier knows")
    resolution, result = end.text("resolution"), end.text("result")
    if resolution not in ("done", "finished", "rolled-back"):
        raise Broken("altered row", where, f"{resolution!r} is no resolution")
    done = resolution != "rolled-back"
    target = intent.text("target")
    if (target and done and result != target) or (result and not done) or (action == "keep" and not target):
        raise Broken("altered row", where, f"its result is {result[:12]!r}, but its intent says {target[:12]!r}")
    return Change(where, row.seq, begun.seq, action, done, result, intent, payload, kind)


def _kind(row: Row, ledger: Chain) -> str:
    found = re.match(rb'\{"kind":"([a-z-]+)"', row.data)
    kind = found[1].decode() if found else ""
    wanted = "intent" if ledger.name == SOURCE else "cutover"
    if kind != wanted and (kind not in OWN_KINDS or (kind == "opened") != (row.seq == 0)):
        raise Broken("altered row", _where(ledger, row), f"{kind!r} is no kind of row that belongs here")
    return kind


def _where(ledger: Chain, row: Row) -> str:
    return f"{ledger.name}.jsonl, line {row.seq + 1}"


def check_ledgers(source: BinaryIO, cutover: BinaryIO, tag: str | None = None) -> Broken | None:
    """The first thing wrong with either ledger, between them, or with what their rows say."""
    campaign = Campaign(tag)
    try:
        for change in changes(Chain(SOURCE, source), Chain(CUTOVER, cutover)):
            campaign.step(change)
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
            raise CannotTell(f"{str(root)!r} is no git repository: give the project's top directory")
        listed = self._output("for-each-ref", "--format=%(objectname) %(refname)")
        self.refs = {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}
        self._trees: dict[str, dict[str, tuple[str, str]]] = {}
        self._commits: dict[str, tuple[str, tuple[str, ...], str]] = {}
        self._whole: set[str] = set()
        self._child: subprocess.Popen[bytes] | None = None

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
                for path in (
                    self.differences(oid if mode == "40000" else "", other_oid if other == "40000" else "", f"{prefix}{name}/")
                ):  # fmt: skip
                    yield path
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
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with suppress(BrokenPipeError):
            self._child.stdin.write(oid.encode() + b"\n")
            self._child.stdin.flush()
        answer = self._child.stdout.readline().decode("ascii", "replace").split()
        if len(answer) != 3:
            if not answer:  # git gives up on an object that it cannot unpack
                self.close()
                self._child = None
            raise Absent(f"the object {oid} is missing" if answer else f"the object {oid} cannot be read")
        size = left = int(answer[2])
        digest = hashlib.new(self.format, f"{answer[1]} {size}\0".encode())
        pieces = []
        while left:
            piece = self._child.stdout.read(min(left, BLOCK_SIZE))
            if not piece:
                self.close()
                self._child = None
                raise Absent(f"the object {oid} cannot be read to its end")
            digest.update(piece)
            left -= len(piece)
            if keep:
                pieces.append(piece)
        self._child.stdout.read(1)
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
