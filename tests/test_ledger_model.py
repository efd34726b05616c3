"""
A ledger held against a list: whatever happens to the file, rows and verdict are those of the list.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pytest_autoresearch import chain
from pytest_autoresearch.ledger import Ledger, LedgerError


class Note(msgspec.Struct, tag_field="kind", tag="note"):
    text: str


class Clock(datetime):
    """A clock that somebody sets, backwards as well."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + cls.ahead


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FOREIGN: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "link": lambda path: path.symlink_to("/dev/null"),
    "text": lambda path: path.write_text("a note\n"),
    "nothing whole": lambda path: path.write_text("a note"),
}


class LedgerAgainstList(RuleBasedStateMachine):
    """
    The model: one entry for each whole line of the file, with its text, None for the ledger's own rows.

    ``torn`` is what stands behind the last line end, ``damaged`` the number of the first line that is not what
    was written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.ledger = Ledger(self.directory / "notes.jsonl")
        self.lines: list[str | None] = []
        self.torn = b""
        self.damaged: int | None = None
        Clock.ahead = timedelta()

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @property
    def path(self) -> Path:
        return self.ledger.path

    def written(self) -> list[bytes]:
        return self.path.read_bytes().splitlines(keepends=True)[: len(self.lines)]

    def opened(self) -> None:
        if not self.lines:
            self.lines.append(None)
        if self.torn:
            self.lines.append(None)
            self.torn = b""

    @rule(text=TEXTS)
    def append(self, text: str) -> None:
        if self.damaged == len(self.lines):
            before = self.path.read_bytes()
            with pytest.raises(LedgerError, match="ends in a damaged row"):
                self.ledger.append(Note(text))
            assert self.path.read_bytes() == before
            return
        torn = self.torn
        self.opened()
        row = self.ledger.append(Note(text))
        self.lines.append(text)
        assert row.seq == len(self.lines) - 1
        if torn:
            record = json.loads(self.written()[-2])["data"]
            assert record["sha256"] == hashlib.sha256(torn).hexdigest()

    @rule()
    def reopen(self) -> None:
        self.ledger = Ledger(self.path)

    @precondition(lambda self: self.damaged is None and self.path.exists())
    @rule()
    def mend(self) -> None:
        had = self.torn
        if had:
            self.opened()
        self.ledger.mend()

    @precondition(lambda self: self.lines and not self.torn)
    @rule(share=st.floats(0.01, 0.99))
    def tear_an_append(self, share: float) -> None:
        """Killed in the middle of the next append."""
        if self.damaged == len(self.lines):
            return
        copy = Ledger(self.directory / "copy" / "notes.jsonl")
        copy.path.parent.mkdir()
        copy.path.write_bytes(self.path.read_bytes())
        copy.append(Note("never whole"))
        line = copy.path.read_bytes()[self.path.stat().st_size :]
        shutil.rmtree(copy.path.parent)
        self.torn = line[: max(1, int(share * len(line)) - 1)]
        with self.path.open("ab") as file:
            file.write(self.torn)

    @precondition(lambda self: len(self.lines) > 1 and not self.torn)
    @rule(count=st.integers(1, 3))
    def cut(self, count: int) -> None:
        """Rows off the end: a chain alone does not show it, but its head does."""
        count = min(count, len(self.lines) - 1)
        head = self.ledger.head() if self.damaged != len(self.lines) else None
        self.lines = self.lines[:-count]
        self.path.write_bytes(b"".join(self.written()))
        if self.damaged is not None and self.damaged > len(self.lines):
            self.damaged = None
        if self.damaged != len(self.lines):
            assert self.ledger.head() != head

    @precondition(lambda self: len(self.lines) > 1 and self.damaged is None and not self.torn)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, len(self.lines) - 1))
        lines = self.written()
        lines[number] = lines[number].replace(b'"seq":', b'"sEq":', 1)
        self.path.write_bytes(b"".join(lines))
        self.damaged = number + 1

    @rule(seconds=st.integers(-(10**8), 10**8))
    def set_the_clock(self, seconds: int) -> None:
        Clock.ahead = timedelta(seconds=seconds)

    @rule(kind=st.sampled_from(sorted(FOREIGN)))
    def put_something_else_there(self, kind: str) -> None:
        """No hang, a clear error, and nothing is written; then the ledger comes back."""
        away = self.directory / "away"
        if self.path.exists():
            self.path.rename(away)
        FOREIGN[kind](self.path)
        found = self.path.read_bytes() if kind in ("text", "nothing whole") else b""
        with pytest.raises(LedgerError, match=r"move it away|cannot be opened|damaged row"):
            self.ledger.append(Note("lost"))
        assert not found or self.path.read_bytes() == found
        if kind == "directory":
            self.path.rmdir()
        else:
            self.path.unlink()
        if away.exists():
            away.rename(self.path)

    @invariant()
    def rows_are_the_lists(self) -> None:
        problem = self.ledger.verify()
        if self.damaged is None:
            rows = list(self.ledger.rows())
            found = [json.loads(row.data)["text"] for row in rows]
            assert found == [text for text in self.lines if text is not None]
            assert (problem is None) is not bool(self.torn)
            if self.lines:
                assert self.ledger.head().seq == len(self.lines) - 1
        else:
            assert problem is not None
            assert problem.line == self.damaged


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "datetime", Clock)


TestLedgerAgainstList = LedgerAgainstList.TestCase
TestLedgerAgainstList.settings = settings(
    max_examples=60,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
