"""
A journal held against a few variables: however changes end, rows, units and the repository are those of the model.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from crashing import roomy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_fold_cache import COMMON, RUN, Noted

from pytest_autoresearch import foldcache, rows
from pytest_autoresearch.journal import Journal, JournalError
from pytest_autoresearch.records import Decision, Domain
from pytest_autoresearch.rows import Reference

BUDGET = 1000
KINDS = ("keep", "revert", "halt")
BEHIND_THE_INTENT = (
    "before the act",
    "in the act",
    "after the act",
    "in the cutover",
    "after the cutover",
)
"""Moments of a kill."""
STUCK = "fails and cannot be undone"
ROOMS: list[Path] = []


class Killed(BaseException):
    """Nothing of the session runs after it: what lies on the disk is what SIGKILL leaves."""


@dataclass
class Change:
    """One that was begun."""

    kind: str
    cost: int
    before: str
    """The repository's content."""
    after: str
    whole: bool = True
    """Whether its payload is on the disk."""


class JournalAgainstModel(RuleBasedStateMachine):
    """The model: what is settled and what it cost, the incumbent, the open change, the repository's content."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="journal-", dir=ROOMS[-1]))
        self.tree, self.memory = self.directory / "tree", Noted()
        self.told: Mapping[str, str] = {}
        self.cut = ""
        """How the next attempt ends; empty: as it should."""
        self.pending: dict[Path, bytes] = {}
        """Files that were there when the act was done."""
        self.number = 0
        self.settled: list[tuple[str, str, int]] = []
        """Kind, status, cost."""
        self.incumbent = self.content = "c0"
        self.open: Change | None = None
        self.torn = False
        """Whether a ledger ends in a part of a row."""
        self.reopen()

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def reopen(self) -> None:
        """The next process."""
        self.journal = Journal(self.directory / "campaign", self.remember, self.memory)

    # -- what the journal is given: a repository of one file, and a place for heads

    def remember(self, heads: Mapping[str, str]) -> None:
        if self.cut in ("in the cutover", "after the cutover"):
            raise Killed
        self.told = dict(heads)

    def act(self, intent: rows.Intent, payload: rows.Payload) -> str:
        if self.cut in ("fails", STUCK):
            self.tree.write_text("half")
            raise OSError("the disk is full")
        self.bring(intent.target or intent.tip)
        return intent.target

    def undo(self, intent: rows.Intent) -> None:
        if self.cut == STUCK:
            raise OSError("the disk is read-only")
        self.bring(intent.tip)

    def bring(self, content: str) -> None:
        if self.cut == "before the act":
            raise Killed
        self.tree.write_text("half" if self.cut == "in the act" else content)
        if self.cut in ("in the act", "after the act"):
            raise Killed
        found = self.journal.directory.glob("pending/*")
        self.pending = {path: path.read_bytes() for path in found}

    # -- rules

    @initialize()
    def baseline(self) -> None:
        self.tree.write_text("c0")
        payload = rows.Baseline(
            tag="t", branch="b", budget=BUDGET, pinned=(), commit="c0", tree="tree", candidate="c0", surface={},
            snapshot="s", runs=(RUN, RUN), after=Reference(mean=0.32, sigma=0.01, n=4), **COMMON,
        )  # fmt: skip
        intent = rows.Intent(
            action="baseline", branch="b", tip="c0", tree="tree", surface={}, pin="p"
        )
        with self.journal.lock():
            self.journal.transact(intent, payload, self.act, self.undo)
        self.settled.append(("baseline", "keep", 0))

    @rule(
        kind=st.sampled_from(KINDS),
        cost=st.sampled_from((0, 1, 10)),
        cut=st.sampled_from(("", "", "fails", STUCK, "in the intent", *BEHIND_THE_INTENT)),
    )
    def transact(self, kind: str, cost: int, cut: str) -> None:
        self.number += 1
        target = f"c{self.number}" if kind == "keep" else ""
        change = Change(
            kind, 0 if kind == "halt" else cost, self.incumbent, target or self.incumbent
        )
        given = *made(change, target), self.act, self.undo
        with self.journal.lock():
            if self.open is not None:
                with pytest.raises(JournalError, match="unfinished"):
                    self.journal.transact(*given)
                return
            self.content = "a candidate"
            self.tree.write_text(self.content)
            self.cut = "before the act" if cut == "in the intent" else cut
            with contextlib.suppress(Killed):
                if cut == STUCK:
                    with pytest.raises(JournalError, match="could not be undone"):
                        self.journal.transact(*given)
                else:
                    found = self.journal.transact(*given)
                    assert found.cutover.resolution == ("rolled-back" if cut else "done")
        self.came_to(change, cut)

    @precondition(lambda self: self.open is not None and self.open.whole)
    @rule(damaged=st.booleans())
    def lose_the_payload(self, damaged: bool) -> None:
        assert self.open is not None
        for path in self.journal.directory.glob("pending/*"):
            if damaged:
                path.write_bytes(path.read_bytes().replace(b"working tree", b"nobody"))
            else:
                path.unlink()
        self.open.whole = False

    @rule(cut=st.sampled_from(("", "", "fails", STUCK, *BEHIND_THE_INTENT)))
    def recover(self, cut: str) -> None:
        change, acts = self.open, dict.fromkeys(KINDS, self.act)
        with self.journal.lock():
            if change is None:
                assert self.journal.recover(acts, self.undo) is None  # type: ignore[arg-type]
                self.torn = False
                assert not list(self.journal.directory.glob("pending/*"))
                return
            self.cut = cut
            with contextlib.suppress(Killed):
                if cut == STUCK:
                    with pytest.raises(JournalError, match="could not be undone"):
                        self.journal.recover(acts, self.undo)  # type: ignore[arg-type]
                else:
                    found = self.journal.recover(acts, self.undo)  # type: ignore[arg-type]
                    assert found is not None
                    done = change.whole and not cut
                    assert found.cutover.resolution == ("finished" if done else "rolled-back")
        self.came_to(change, cut)

    # -- the model

    def came_to(self, change: Change, cut: str) -> None:
        """What an attempt at a change came to that ended so."""
        self.cut, self.torn, self.open = "", False, change
        goal = change.after if change.whole else change.before
        if cut == "in the act":
            self.content = "half"
        elif cut == STUCK:
            self.content = "half" if change.whole else self.content
        elif cut == "fails":
            self.content = change.before
        elif cut not in ("in the intent", "before the act"):
            self.content = goal
        if cut == "in the intent":
            self.tear("restore-source")
            self.open = None
        elif cut == "in the cutover":
            self.tear("cutover-audit")
            for path, body in self.pending.items():  # they go behind the row
                path.write_bytes(body)
        elif cut in ("", "fails", "after the cutover"):
            self.settle(change, done=cut != "fails")
            assert not list(self.journal.directory.glob("pending/*"))
            assert cut == "after the cutover" or self.told == self.journal.heads()
        self.reopen()

    def settle(self, change: Change, *, done: bool) -> None:
        self.open = None
        if not change.whole:
            self.settled.append(("lost", "lost", change.cost))
        elif change.kind == "halt":
            self.settled.append(("halt", "halt", 0))
        else:
            self.settled.append(("verdict", change.kind if done else "escalate", change.cost))
            self.incumbent = change.after if done else change.before

    def tear(self, name: str) -> None:
        """Leave half of the last row."""
        path = self.journal.directory / f"{name}.jsonl"
        *lines, last = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines) + last[: len(last) // 2])
        self.torn = True

    @invariant()
    def rows_are_the_models(self) -> None:
        if not self.settled:
            return
        with self.journal.lock():
            state = self.journal.state()
            assert (self.journal.open_intent() is None) is (self.open is None)
        assert [(row.kind, row.status, row.cost) for row in state.settled] == self.settled
        assert state.spent == sum(cost for *_, cost in self.settled)
        assert state.remaining == BUDGET - state.spent
        assert [spend.cost for spend in state.spends] == [cost for *_, cost in self.settled if cost]
        assert state.incumbent is not None
        assert state.incumbent.commit == self.incumbent
        assert self.tree.read_text() == self.content
        assert (self.journal.verify() is None) is (self.open is None and not self.torn)


def made(change: Change, target: str) -> tuple[rows.Intent, rows.Payload]:
    """What a session hands to the journal."""
    halt = change.kind == "halt"
    intent = rows.Intent(
        action=change.kind, branch="b", tip=change.before, tree="tree", surface={}, pin="p",  # type: ignore[arg-type]
        target=target, domain=None if halt else Domain.FEATURE, cost=change.cost,
    )  # fmt: skip
    if halt:
        reason = rows.Reason(code="halt", message="so")
        return intent, rows.Halt(reasons=(reason,), commit_before=change.before, **COMMON)
    decision = Decision.KEEP if change.kind == "keep" else Decision.REVERT
    reference = Reference(mean=0.31, sigma=0.01, n=3)
    return intent, rows.Verdict(
        candidate=change.after, origin="w", surface={}, snapshot="s", domain=Domain.FEATURE, cost=change.cost,
        description="RATE", decision=decision, status=change.kind, exit_status=0, reasons=(), gates=(), runs=(RUN,),
        metric=0.31, before=reference, after=reference, budget_before=0, budget_after=0, commit_before="x", **COMMON,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(foldcache, "BEHIND", 2)
    with roomy(tmp_path) as place:
        ROOMS.append(place)
        yield
        ROOMS.pop()


TestJournalAgainstModel = JournalAgainstModel.TestCase
TestJournalAgainstModel.settings = settings(
    max_examples=110,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
