"""
The state that a start takes up is the state that all rows come to: whatever was kept, damaged, cut or forged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
import zlib
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observe import WORSE, state
from project import LEAN, Project

from pytest_autoresearch import foldcache, rows
from pytest_autoresearch.budget import MutationBudget
from pytest_autoresearch.campaign import Campaign
from pytest_autoresearch.chain import EMPTY, Head, LedgerError, encode, seal
from pytest_autoresearch.fold import fold
from pytest_autoresearch.foldcache import FoldCache
from pytest_autoresearch.ledger import Ledger
from pytest_autoresearch.pairing import read_cutover
from pytest_autoresearch.records import Decision, Domain, RunStatus
from pytest_autoresearch.reports import extend_results, result_rows, write_results
from pytest_autoresearch.rows import Reference
from pytest_autoresearch.settlement import record_halt
from pytest_autoresearch.state import State, differences
from pytest_autoresearch.verifier import broken_link, verify

COMMON: dict[str, Any] = {
    "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:05:00+00:00", "actor": "working tree",
    "harness_tree": "tree", "data_sha256": "d" * 64,
}  # fmt: skip
RUN = rows.Run(
    seed=1, status=RunStatus.FINISHED, reason="finished", metric=0.31, audit=0.33, seconds=2.0, budget_seconds=300.0,
    peak_memory_mb=512.0, artifact_sha256="a" * 64, device="cpu", isolation="none",
)  # fmt: skip


class Noted:
    """Remembers what it is told, as the repository does."""

    def __init__(self) -> None:
        self.text = ""

    def recall(self) -> str:
        return self.text

    def remember(self, text: str) -> None:
        self.text = text


class Gullible(Noted):
    """Vouches for every file: the control, where a guard is to be seen at work."""

    def recall(self) -> Any:
        return self

    def split(self) -> Any:
        return self

    def __contains__(self, digest: object) -> bool:
        return True


class Writer:
    """Writes valid rows of cutover-audit, without the syncs."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self.head = Head(-1, EMPTY)
        self.kept: list[int] = []
        """Positions that stand as kept."""
        self.settled = 0
        self.spent = 0
        self._put(b'{"kind":"opened","ledger":"%s"}' % path.stem.encode())

    def _put(self, body: bytes) -> None:
        line = seal(body, self.head)
        self.head = Head(self.head.seq + 1, hashlib.sha256(line).hexdigest())
        with self.ledger.path.open("ab") as file:
            file.write(line)

    def row(
        self, action: str, payload: rows.Payload, resolution: str = "done", result: str = ""
    ) -> None:
        link = rows.Link(seq=self.head.seq, sha256=self.head.sha256)
        cutover = rows.Cutover(
            source=link, action=action, resolution=resolution, result=result, payload=payload,  # type: ignore[arg-type]
            failure="disk full" if resolution == "rolled-back" else "",
        )  # fmt: skip
        self._put(encode(cutover))

    def do(self, action: str, number: int) -> None:
        """One change; ``number`` varies it. Before a baseline there can be none but halts and losses."""
        if not self.kept and action not in ("halt", "lost"):
            action = "baseline"
        getattr(self, f"_{action.replace('-', '_')}")(number)

    def _baseline(self, number: int) -> None:
        self.row("baseline", rows.Baseline(
            tag="t", branch="b", budget=1000 + number, pinned=("g::a",), commit=f"base{number}", tree="tree",
            candidate=f"base{number}", fingerprint="f0", surface={"train.py": "blob0"}, snapshot="s", runs=(RUN, RUN),
            after=Reference(mean=0.32, sigma=0.01, n=4, df=3), **COMMON,
        ))  # fmt: skip
        self.kept.append(self.settled)
        self.settled += 1

    def _verdict(self, number: int, decision: Decision, **more: Any) -> rows.Verdict:
        kept = decision is Decision.KEEP
        given: dict[str, Any] = {
            "candidate": f"c{self.settled}", "fingerprint": f"f{number}", "origin": "w",
            "surface": {"train.py": f"blob{self.settled}"}, "snapshot": "s", "domain": Domain.FEATURE, "cost": 10,
            "description": f"RATE {number}", "decision": decision, "status": "keep" if kept else "discard",
            "exit_status": 0, "reasons": (rows.Reason(code="gain", message="so"),), "gates": (), "runs": (RUN,),
            "metric": 0.3 + number / 1000, "before": Reference(mean=0.32, sigma=0.01, n=4),
            "after": Reference(mean=0.31, sigma=0.01, n=3 + number),
            "chart": rows.Chart(x=-0.01 * number, s_upper=0.0, s_lower=0.0, alarm=number == 9),
            "gap": number / 7 if number % 2 else None, "budget_before": 0, "budget_after": 0, "commit_before": "x",
        }  # fmt: skip
        self.settled += 1
        self.spent += 10
        return rows.Verdict(**{**given, **COMMON, **more})

    def _keep(self, number: int) -> None:
        self.row("keep", self._verdict(number, Decision.KEEP), result=f"commit{self.settled}")
        self.kept.append(self.settled - 1)

    def _undone(self, number: int) -> None:
        self.row("keep", self._verdict(number, Decision.KEEP), "rolled-back")

    def _revert(self, number: int) -> None:
        chart = None if number == 3 else rows.Chart(x=0.0, s_upper=0.0, s_lower=0.0, alarm=False)
        self.row("revert", self._verdict(number, Decision.REVERT, chart=chart))

    def _escalate(self, number: int) -> None:
        canary = rows.Canary(
            metric=0.3, residual=0.1 * number, s_upper=0.0, s_lower=0.0, alarm=number == 9
        )
        self.row("escalate", self._verdict(number, Decision.ESCALATE, canary=canary))

    def _rollback(self, number: int) -> None:
        target = self.kept[number % len(self.kept)]
        out = tuple(seq for seq in self.kept if seq > target)
        alarm = rows.Alarm(
            chart="gap" if number % 2 else "progress", message="", last_zero=target, suspects=(*out, self.settled),
            culprit=out[0] if out else None, restore=f"commit{target + 1}", restore_seq=target, verified=(),
        )  # fmt: skip
        self.row("rollback", self._verdict(number, Decision.REVERT, alarm=alarm))
        self.kept = [seq for seq in self.kept if seq <= target]

    def _restore(self, number: int) -> None:
        target = self.kept[number % len(self.kept)]
        self.row("rollback", rows.Restore(
            reason="altered row", commit_before="x", commit=f"commit{target + 1}", restore_seq=target, candidate="c",
            surface={"train.py": "blob0"}, ratified="r", tree="tree", pinned=("g::a",), cost=number, **COMMON,
        ))  # fmt: skip
        self.kept = [seq for seq in self.kept if seq <= target]
        self.spent += number

    def _ratify(self, number: int) -> None:
        self.row("ratify", rows.Ratify(
            reason="stricter", commit_before="x", commit=f"r{number}", tree=f"t{number}", pinned=("g::b",),
            candidate="c", surface={"train.py": "blob1"}, budget=number * 100 if number % 2 else None, **COMMON,
        ))  # fmt: skip

    def _halt(self, number: int) -> None:
        reason = rows.Reason(code="halt", message=f"halt {number}")
        self.row("halt", rows.Halt(reasons=(reason,), commit_before="x", **COMMON))
        self.settled += 1

    def _stop(self, number: int) -> None:
        self.row("stop", rows.Stop(
            code="rounds", message=f"stop {number}", rounds=1, seconds=1.0, commit_before="x", **COMMON
        ))  # fmt: skip

    def _lost(self, number: int) -> None:
        domain = Domain.FEATURE if number % 2 else None
        self.row("keep", rows.Lost(reason="gone", domain=domain, cost=number), "rolled-back")
        self.settled += 1
        self.spent += number if domain else 0


ACTIONS = (
    "baseline", "keep", "undone", "revert", "escalate", "rollback", "restore", "ratify", "halt", "stop", "lost",
)  # fmt: skip


def full(ledger: Ledger) -> State:
    """The fold of all rows, in memory."""
    return fold((row, read_cutover(row, ledger)) for row in ledger.rows())


def same(found: State, expected: State) -> None:
    """Equal in every figure and element, and in what is looked up."""
    for name in ("settled", "spends", "chart", "gaps", "canaries"):
        assert list(getattr(found, name)) == list(getattr(expected, name)), name
        assert list(reversed(getattr(found, name))) == list(getattr(expected, name))[::-1]
    for mark in ("f0", "f1", "f5", "none"):
        assert differences(found, expected, mark) == ""
    assert found == expected
    assert found.next_seq == expected.next_seq


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the fold after every row, and hold few rows in memory."""
    monkeypatch.setattr(foldcache, "BEHIND", 1)
    monkeypatch.setattr(foldcache, "CHUNK", 4)


def cache(directory: Path, memory: Noted) -> FoldCache:
    """As a new process has it."""
    return FoldCache(Ledger(directory / "cutover-audit.jsonl"), directory / "state.sqlite", memory)


def campaign(directory: Path, length: int = 40, seed: int = 1) -> tuple[Writer, Noted]:
    """A campaign of every action, with its file."""
    writer, memory, draw = Writer(directory / "cutover-audit.jsonl"), Noted(), random.Random(seed)
    for number in range(length):
        writer.do(ACTIONS[number % len(ACTIONS)] if number else "baseline", draw.randrange(10))
    cache(directory, memory).state(write=True)
    return writer, memory


# ---- the same as the fold of all rows


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9), st.sampled_from("wnr")), max_size=18
    ),
    st.integers(1, 5),
    st.integers(1, 6),
)
def test_after_every_prefix_what_was_kept_and_the_tail_are_the_fold_of_all_rows(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[str, int, str]],
    behind: int,
    chunk: int,
) -> None:
    directory = tmp_path_factory.mktemp("campaign")
    writer, memory = Writer(directory / "cutover-audit.jsonl"), Noted()
    going, seen = cache(directory, memory), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foldcache, "BEHIND", behind)
        patch.setattr(foldcache, "CHUNK", chunk)
        for action, number, how in changes:
            writer.do(action, number)
            if how == "n":  # a new session; else the same goes on, or somebody only reads
                going = cache(directory, memory)
            found = (cache(directory, memory) if how == "r" else going).state(write=how != "r")
            expected = full(writer.ledger)
            same(found, expected)
            assert found.spent == writer.spent
            seen.append((found, expected))
        for found, expected in seen:  # what was seen stays what it was
            assert found == expected
    shutil.rmtree(directory)


def test_a_start_reads_the_last_rows_only(tmp_path: Path, eager: None) -> None:
    writer, memory = campaign(tmp_path)
    expected = full(writer.ledger)
    raw = bytearray(writer.ledger.path.read_bytes())
    raw[len(raw) // 3] ^= 1
    writer.ledger.path.write_bytes(raw)
    same(cache(tmp_path, memory).state(write=False), expected)
    with pytest.raises(LedgerError, match=r"was altered|not a ledger's row|stands behind"):
        cache(tmp_path, memory).anew()


def test_a_short_campaign_has_no_file_and_does_not_import_sqlite(tmp_path: Path) -> None:
    writer, memory = campaign(tmp_path, foldcache.BEHIND - 1)
    assert [path.name for path in tmp_path.iterdir()] == ["cutover-audit.jsonl"]
    writer.do("halt", 0)
    cache(tmp_path, memory).state(write=True)
    assert (tmp_path / "state.sqlite").exists()
    script = (
        "import sys; from pathlib import Path; from pytest_autoresearch.journal import Journal\n"
        "with (journal := Journal(Path(sys.argv[1]))).lock(): assert journal.state().budget\n"
        "assert 'sqlite3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def test_who_only_reads_writes_nothing(tmp_path: Path, eager: None) -> None:
    writer, memory = campaign(tmp_path)
    before = (tmp_path / "state.sqlite").read_bytes()
    writer.do("keep", 1)
    same(cache(tmp_path, memory).state(write=False), full(writer.ledger))
    assert (tmp_path / "state.sqlite").read_bytes() == before
    (tmp_path / "state.sqlite").unlink()
    same(cache(tmp_path, memory).state(write=False), full(writer.ledger))
    assert [path.name for path in tmp_path.iterdir()] == ["cutover-audit.jsonl"]


def test_a_reader_sees_one_state_while_a_session_writes(tmp_path: Path, eager: None) -> None:
    writer, memory = campaign(tmp_path)
    reader, expected = cache(tmp_path, memory).state(write=False), full(writer.ledger)
    session = cache(tmp_path, memory)
    for action in ("keep", "keep", "rollback", "restore", "baseline"):
        writer.do(action, 0)
        session.state(write=True)
    assert full(writer.ledger).revised > expected.revised
    same(reader, expected)
    (tmp_path / "state.sqlite").unlink()
    same(reader, expected)


# ---- whatever becomes of the file


def other_program(path: Path) -> None:
    body = head(path.parent).replace(b'"program":"', b'"program":"0')
    forge(path.parent, "UPDATE head SET body = ?, sum = ?", *forged("head", 0, body))


def other_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def fewer_elements(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM settled WHERE n = 2")
    connection.close()


def swapped_elements(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        (body,) = connection.execute("SELECT body FROM settled WHERE n = 2").fetchone()
        connection.execute("UPDATE settled SET body = ? WHERE n = 3", (body,))
    connection.close()


DAMAGE = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a database\n" * 999),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another database": lambda path: (path.unlink(), sqlite3.connect(path).close()),
    "another program": other_program,
    "another version": other_version,
    "elements missing": fewer_elements,
    "elements swapped": swapped_elements,
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link": lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")),
    "a loop": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_changes_nothing_and_is_written_anew(
    tmp_path: Path, eager: None, kind: str
) -> None:
    writer, _ = campaign(tmp_path)
    path, memory = tmp_path / "state.sqlite", Gullible()
    DAMAGE[kind](path)
    same(cache(tmp_path, memory).state(write=False), full(writer.ledger))
    session = cache(tmp_path, memory)
    same(session.state(write=True), full(writer.ledger))
    writer.do("keep", 1)
    same(session.state(write=True), full(writer.ledger))
    same(cache(tmp_path, memory).state(write=True), full(writer.ledger))
    if kind != "a directory":  # it may be somebody's
        assert path.is_file()
        assert not path.is_symlink()
        damaged = bytearray(writer.ledger.path.read_bytes())
        damaged[len(damaged) // 3] ^= 1
        writer.ledger.path.write_bytes(damaged)
        cache(tmp_path, memory).state(write=False)  # the file is whole: early rows are not read


def test_no_flipped_byte_of_the_file_changes_the_state(tmp_path: Path, eager: None) -> None:
    writer, memory = campaign(tmp_path)
    path, expected, draw = tmp_path / "state.sqlite", full(writer.ledger), random.Random(3)
    whole = path.read_bytes()
    for at in draw.sample(range(len(whole)), 100):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        assert cache(tmp_path, memory).state(write=False) == expected, at


def test_where_nothing_can_be_written_all_rows_are_read(tmp_path: Path, eager: None) -> None:
    writer, memory = campaign(tmp_path)
    (tmp_path / "file").write_text("")
    nowhere = FoldCache(writer.ledger, tmp_path / "file" / "state.sqlite", memory)
    same(nowhere.state(write=True), full(writer.ledger))
    writer.do("keep", 1)
    same(nowhere.state(write=True), full(writer.ledger))


@pytest.mark.parametrize("left", [0, 1, 5, 30])
def test_rows_that_were_cut_off_are_forgotten(tmp_path: Path, eager: None, left: int) -> None:
    writer, memory = campaign(tmp_path)
    session = cache(tmp_path, memory)
    session.state(write=True)
    lines = writer.ledger.path.read_bytes().splitlines(keepends=True)[:left]
    writer.ledger.path.write_bytes(b"".join(lines))
    for found in (session, cache(tmp_path, memory)):
        same(found.state(write=True), full(writer.ledger))


def test_other_rows_in_the_place_of_those_that_were_cut_off_are_read(
    tmp_path: Path, eager: None
) -> None:
    _, memory = campaign(tmp_path)
    session = cache(tmp_path, memory)
    session.state(write=True)
    (tmp_path / "cutover-audit.jsonl").unlink()
    kept = (tmp_path / "state.sqlite").read_bytes()
    other, _ = campaign(tmp_path, seed=2)
    (tmp_path / "state.sqlite").write_bytes(kept)
    for found in (session, cache(tmp_path, memory)):
        same(found.state(write=True), full(other.ledger))


# ---- killed


def test_a_session_killed_before_it_wrote_leaves_a_tail(tmp_path: Path, eager: None) -> None:
    writer, memory = campaign(tmp_path)
    kept = (tmp_path / "state.sqlite").read_bytes()
    for action in ("keep", "rollback", "restore"):
        writer.do(action, 0)
        cache(tmp_path, memory).state(write=True)
        (tmp_path / "state.sqlite").write_bytes(kept)  # as if that had not happened
        memory.text = f"{memory.text} {hashlib.sha256(head(tmp_path)).hexdigest()}"
        same(cache(tmp_path, memory).state(write=False), full(writer.ledger))


def head(directory: Path) -> bytes:
    connection = sqlite3.connect(directory / "state.sqlite")
    (body,) = connection.execute("SELECT body FROM head").fetchone()
    connection.close()
    return bytes(body)


def test_a_session_killed_between_the_repository_and_the_file_loses_nothing(
    tmp_path: Path, eager: None
) -> None:
    class Killed(Exception):
        pass

    class Killer(Noted):
        def remember(self, text: str) -> None:
            super().remember(text)
            raise Killed

    writer, memory = campaign(tmp_path)
    before = head(tmp_path)
    writer.do("keep", 1)
    killer = Killer()
    killer.text = memory.text
    with pytest.raises(Killed):
        cache(tmp_path, killer).state(write=True)
    assert head(tmp_path) == before
    assert len(killer.text.split()) == 2  # either head may be found
    same(cache(tmp_path, killer).state(write=False), full(writer.ledger))


def test_killed_while_it_writes_the_file_is_whole_or_not_used(tmp_path: Path, eager: None) -> None:
    writer, _ = campaign(tmp_path, 5)
    draw, grown = random.Random(5), 0
    for _ in range(10):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads' locks are not used
            pid = os.fork()
        if pid == 0:
            try:
                session = cache(tmp_path, Gullible())
                while True:
                    writer.do(draw.choice(ACTIONS), draw.randrange(10))
                    session.state(write=True)
            finally:
                os._exit(1)
        time.sleep(0.01 + 0.03 * draw.random())
        os.kill(pid, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        raw = writer.ledger.path.read_bytes()
        writer.ledger.path.write_bytes(raw[: raw.rindex(b"\n") + 1])
        expected = full(writer.ledger)
        same(cache(tmp_path, Gullible()).state(write=False), expected)
        grown += expected.seq > writer.head.seq
        *_, last = writer.ledger.rows()
        writer.head, writer.settled = last.head, expected.next_seq
        writer.kept = [row.seq for row in expected.settled.kept_since(0)]
    assert grown > 5


# ---- forged


def forge(directory: Path, query: str, *values: object) -> None:
    """Change the file as somebody does who knows how it is made: checksums and all."""
    with sqlite3.connect(directory / "state.sqlite") as connection:
        connection.execute(query, values)
    connection.close()


def forged(name: str, n: int, body: bytes) -> tuple[bytes, int]:
    return body, zlib.crc32(body, zlib.crc32(f"{name} {n} ".encode()))


def test_a_forged_head_is_not_taken_up(tmp_path: Path, eager: None) -> None:
    writer, memory = campaign(tmp_path)
    expected = full(writer.ledger)
    decoded = json.loads(head(tmp_path))
    decoded["at"].update(budget=10**6, spent=0, ratified_commit="evil")
    body, checksum = forged("head", 0, json.dumps(decoded).encode())
    forge(tmp_path, "UPDATE head SET body = ?, sum = ?", body, checksum)
    believed = cache(tmp_path, Gullible()).state(write=False)  # without git's memory it works
    assert (believed.remaining, believed.ratified_commit) == (10**6, "evil")
    same(cache(tmp_path, memory).state(write=False), expected)


#: Rows before the candidate's: so many that there is a file.
FILLED = foldcache.BEHIND + 10


@pytest.fixture(scope="module")
def filled(measured_template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a baseline, a reverted candidate, and enough halts behind it for a file."""
    project = measured_template.copy(tmp_path_factory.mktemp("filled") / "project")
    project.edit(*WORSE)
    assert project.autoresearch().returncode == 10
    with opened_campaign(project) as found:
        for _ in range(FILLED):
            record_halt(found, "SYSTEM HALT: a test")
    assert (project.root / ".autoresearch/main/state.sqlite").is_file()
    return project


def opened_campaign(project: Project) -> AbstractContextManager[Campaign]:
    options = argparse.Namespace(
        autoresearch_tag="main", autoresearch_dry_run=False, collectonly=False, autoresearch_rounds=None,
        autoresearch_sandbox=None, autoresearch_candidate=None,
    )  # fmt: skip
    return closing(Campaign(project.root, options))


def hide_the_past(project: Project) -> None:
    """Forge the file: the candidate that was judged and found worse was another one."""
    directory = project.root / ".autoresearch/main"
    connection = sqlite3.connect(directory / "state.sqlite")
    (body,) = connection.execute("SELECT body FROM settled WHERE n = 1").fetchone()
    connection.close()
    mark = json.loads(body)["fingerprint"]
    body, checksum = forged("settled", 1, body.replace(mark.encode(), b"0" * 64))
    forge(
        directory,
        "UPDATE settled SET body=?, sum=?, fingerprint=? WHERE n=1",
        body,
        checksum,
        "0" * 64,
    )


UNGUARDED = """
from pytest_autoresearch.campaign import Campaign
Campaign.doubt = lambda self: ""
"""
LUCKY = """
import pytest
from pytest_autoresearch.records import Decision, Reason, Verdict
@pytest.hookimpl(tryfirst=True)
def pytest_autoresearch_verdict(evidence):
    return Verdict(Decision.KEEP, (Reason("gain", "a lucky draw"),), "keep", 0) if evidence.complete else None
"""


@pytest.mark.parametrize("guarded", [False, True])
def test_nothing_is_kept_on_a_forged_past(filled: Project, tmp_path: Path, guarded: bool) -> None:
    project = filled.copy(tmp_path / "project")
    (tmp_path / "lucky.py").write_text(LUCKY + ("" if guarded else UNGUARDED))
    lucky = {"PYTHONPATH": str(tmp_path), "PYTEST_PLUGINS": f"{LEAN['PYTEST_PLUGINS']},lucky"}
    if not guarded:
        project.edit(*WORSE)
        answered = project.autoresearch(env=lucky)
        assert "already-judged" in answered.output
    hide_the_past(project)
    project.edit(*WORSE)
    result = project.autoresearch(env=lucky)
    assert result.returncode == (1 if guarded else 0), result.output
    found = state(project)
    if not guarded:
        assert found.settled[-1].decision is Decision.KEEP
        return
    verdict, halt = found.settled[-2:]
    assert (verdict.decision, verdict.reasons[0].code) == (Decision.REVERT, "harness-touched")
    assert "state.sqlite" in verdict.reason
    assert halt.kind == "halt"
    with opened_campaign(project) as opened:  # what was forged is gone
        assert opened.state == found
        assert opened.state.settled[1].fingerprint != "0" * 64


# ---- what stands on it


def test_git_remembers_and_the_verifier_does_not_ask(filled: Project, tmp_path: Path) -> None:
    project = filled.copy(tmp_path / "project")
    file = project.root / ".autoresearch/main/state.sqlite"
    expected = state(project)
    with opened_campaign(project) as found:
        assert found.state == expected
        assert found.budget.ledger == MutationBudget.replay(expected.spends, 100).ledger
        assert found.budget.remaining == expected.remaining
    assert broken_link(verify(project.root, "main"), None) is None
    project.git("update-ref", "-d", "refs/autoresearch/main/state")
    with opened_campaign(project) as found:  # nobody vouches for the file: it is written anew
        assert found.state == expected
    assert project.git("cat-file", "blob", "refs/autoresearch/main/state")
    file.write_bytes(b"garbage")
    assert broken_link(verify(project.root, "main"), None) is None


def test_results_are_extended_where_they_are_as_they_were_left(
    filled: Project, tmp_path: Path
) -> None:
    project = filled.copy(tmp_path / "project")
    table = project.root / "results.tsv"
    with opened_campaign(project) as found:

        def add(inode_stays: bool) -> None:
            payload = [cutover for _, cutover in found.journal.cutovers()][1]
            before = table.lstat().st_ino if table.exists() else 0
            found.journal.cutover.append(payload)
            found.reload()
            extend_results(found)
            assert (table.lstat().st_ino == before) is inode_stays
            assert len(project.results()) == len(result_rows(found))
            told = table.read_text()
            write_results(found)
            assert table.read_text() == told
            extend_results(found)

        extend_results(found)
        add(True)
        add(True)
        table.write_text(table.read_text().replace("keep", "kept"))
        add(False)
        add(True)
        table.unlink()
        add(False)
        table.rename(tmp_path / "elsewhere")
        table.symlink_to(tmp_path / "elsewhere")
        add(False)
        (found.directory / "results.json").write_text("{}")
        add(False)
