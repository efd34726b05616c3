"""
Several processes on one campaign: the sessions take turns, readers see whole changes, and the dead hold nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from crashing import Campaign, roomy
from kills import child
from provenance import CUTOVER, SOURCE, TAG

from pytest_autoresearch.journal import Journal, JournalError
from pytest_autoresearch.ledger import LedgerError
from pytest_autoresearch.verifier import verify

#: What a reader may rightly say while a session is between its two rows.
UNFINISHED = ("missing cutover-audit entry", "torn tail")


def test_sessions_take_turns_and_readers_see_nothing_else_than_a_change_in_progress(
    tmp_path: Path,
) -> None:
    with roomy(tmp_path) as place:
        campaign = Campaign.create(place / "project")
        with campaign.journal.lock():
            campaign.baseline()

        def work() -> None:
            done = 0
            while done < 5:
                with contextlib.suppress(JournalError), campaign.journal.lock():
                    campaign.recover()
                    campaign.halt()
                    done += 1

        with child(work) as first, child(work) as second, child(work) as third:
            children = {first, second, third}
            seen = []
            while children:
                seen += verify(campaign.root, TAG).problems
                campaign.journal.state()
                children -= {pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]}
        assert {problem.link for problem in seen} <= set(UNFINISHED)
        assert campaign.count() == 16
        assert verify(campaign.root, TAG).problems == []
        assert {cutover.resolution for _, cutover in campaign.journal.cutovers()} == {"done"}


def hold(journal: Journal, note: Path) -> None:
    with journal.lock():
        note.touch()
        time.sleep(600)


@pytest.mark.parametrize("stopped", [False, True], ids=["at work", "stopped"])
def test_whoever_holds_the_campaign_is_named_and_frees_it_by_dying(
    tmp_path: Path, stopped: bool
) -> None:
    journal, note = Journal(tmp_path / "journal"), tmp_path / "note"
    with child(lambda: hold(journal, note)) as pid:
        while not note.exists():
            time.sleep(0.01)
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        words = rf"another session is at work in .*: process {pid} on "
        with pytest.raises(JournalError, match=words), journal.lock():
            raise AssertionError
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with journal.lock():
        assert journal.open_intent() is None


@pytest.mark.parametrize("name", [SOURCE, CUTOVER])
@pytest.mark.parametrize("kind", ["fifo", "directory", "link"])
def test_something_else_in_a_ledgers_place_is_said_and_nothing_is_lost(
    tmp_path: Path, name: str, kind: str
) -> None:
    campaign = Campaign.create(tmp_path / "project")
    with campaign.journal.lock():
        campaign.baseline()
    path, away = campaign.ledger(name), tmp_path / "away"
    path.rename(away)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(away)
    before = campaign.repository.pins("refs/autoresearch"), stat.S_IFMT(path.lstat().st_mode)
    with (
        pytest.raises(LedgerError, match=f"{name} (cannot be opened|is not a regular file)"),
        campaign.journal.lock(),
    ):
        campaign.recover()
    assert any(problem.link == "foreign file" for problem in verify(campaign.root, TAG).problems)
    assert before == (
        campaign.repository.pins("refs/autoresearch"),
        stat.S_IFMT(path.lstat().st_mode),
    )
    path.rmdir() if kind == "directory" else path.unlink()
    away.rename(path)
    with campaign.journal.lock():
        assert campaign.recover() is None
    assert verify(campaign.root, TAG).problems == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_only_be_read_gets_no_row(tmp_path: Path) -> None:
    campaign = Campaign.create(tmp_path / "project")
    with campaign.journal.lock():
        campaign.baseline()
    before = campaign.data()
    for path in (campaign.directory, *campaign.directory.glob("*.jsonl")):
        path.chmod(0o500)
    with pytest.raises((JournalError, LedgerError), match="write access"), campaign.journal.lock():
        campaign.halt()
    campaign.directory.chmod(0o700)
    assert campaign.data() == before
