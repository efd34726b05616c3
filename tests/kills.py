"""
A campaign that is killed again and again, at moments that are nobody's choice, and goes on each time.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from crashing import Campaign
from provenance import TAG

from pytest_autoresearch import foldcache
from pytest_autoresearch.records import Decision
from pytest_autoresearch.state import differences
from pytest_autoresearch.verifier import verify

__all__ = ["Tally", "kill_at_random", "require_whole"]

KINDS = ("keep", "revert", "halt", "escalate", "stop")
"""Change number ``n`` of the campaign, from 1, is the ``n % 5``-th of these."""


@dataclass
class Tally:
    """What happened."""

    kills: int = 0
    ended: int = 0
    """Children that had done their work before the signal came."""
    resolutions: Counter[str] = field(default_factory=Counter)


def settle_next(campaign: Campaign) -> None:
    """The next change of the sequence: which one it is, the rows alone say."""
    number = campaign.count()
    kind = KINDS[number % len(KINDS)]
    if kind == "halt":
        campaign.halt()
    elif kind == "stop":
        campaign.stop()
    else:
        campaign.judge(kind, b"RATE = %d\n" % number)  # type: ignore[arg-type]


def session(campaign: Campaign, changes: int) -> None:
    campaign.reopen()
    with campaign.journal.lock():
        campaign.recover()
        for _ in range(changes):
            settle_next(campaign)


@contextlib.contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    """A process group of its own that does the work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads' locks are not used
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            work()
            status = 0
        except BaseException:
            traceback.print_exc()  # what the test shows
        os._exit(status)
    yield pid


def kill_at_random(root: Path, kills: int, seed: int) -> Tally:
    """
    Sessions of two changes each on one campaign, killed until that many were.

    Every other time only the session is killed, and git runs on as an orphan; else the whole group. Every fifth
    time the moment is drawn from when its change has begun. State is kept every few rows.

    :raises AssertionError: a session failed otherwise than by the signal.
    """
    with mock.patch.object(foldcache, "BEHIND", 4):
        campaign = Campaign.create(root)
        with campaign.journal.lock():
            campaign.baseline(budget=10**6)
        return _killed(campaign, kills, random.Random(seed))


def _killed(campaign: Campaign, kills: int, dice: random.Random) -> Tally:
    tally = Tally()
    start = time.monotonic()
    session(campaign, len(KINDS))
    span = (time.monotonic() - start) / len(KINDS)
    campaign.reopen()  # a database that is open must not be forked
    while tally.kills < kills:
        before = campaign.journal.cutover.head().seq
        begun = tally.kills % 5 == 0
        with child(lambda: session(campaign, 2)) as pid:
            if begun:
                wait_for_an_intent(campaign, pid)
            time.sleep(dice.uniform(0, span / 4 if begun else span))
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if tally.kills % 2 else os.kill)(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        # About one session in five gets a change through, on a busy machine as well.
        if not begun:
            span *= 1.03 if campaign.journal.cutover.head().seq == before else 0.88
        if os.WIFSIGNALED(status):
            tally.kills += 1
        else:
            assert status == 0, f"after {tally.kills} kills a session failed"
            tally.ended += 1
    session(campaign, 1)
    while (
        KINDS[(campaign.count() - 1) % len(KINDS)] != "revert"
    ):  # it leaves the incumbent's surface
        session(campaign, 1)
    tally.resolutions = Counter(cutover.resolution for _, cutover in campaign.journal.cutovers())
    return tally


def wait_for_an_intent(campaign: Campaign, pid: int) -> None:
    """Until the child has announced a change of its own, or ended."""
    path = campaign.journal.source.path
    size = path.stat().st_size
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if path.stat().st_size > size:
            return
        time.sleep(0.0005)


def require_whole(root: Path) -> int:
    """
    The campaign is the one that nobody would have killed; number of its changes.

    :raises AssertionError: saying what is not.
    """
    campaign = Campaign(root)
    assert campaign.journal.verify() is None
    report = verify(root, TAG)
    assert report.problems == [], report.problems[0]
    state, rows = campaign.journal.state(), list(campaign.journal.cutovers())
    assert differences(state, campaign.journal.state_anew(), "") == ""
    done = [KINDS[number % len(KINDS)] for number in range(1, len(rows))]
    assert [cutover.action for _, cutover in rows[1:]] == done
    assert {cutover.resolution for _, cutover in rows} <= {"done", "finished"}
    verdicts = [kind for kind in done if kind not in ("halt", "stop")]
    assert state.spent == 10 * len(verdicts)
    assert state.remaining == 10**6 - state.spent
    kept = [number for number, kind in enumerate(done, 1) if kind == "keep"]
    commits = [row.commit for row in state.settled if row.decision is Decision.KEEP][1:]
    assert len(commits) == len(kept)
    messages = campaign.repository.messages_since(state.settled[0].commit, most=10**6)
    assert [commit for commit, _ in reversed(messages)] == commits
    last = b"RATE = %d\n" % kept[-1]
    assert campaign.repository.read_surface("HEAD", campaign.surface) == dict.fromkeys(campaign.surface, last)  # fmt: skip
    assert all((root / path).read_bytes() == last for path in campaign.surface)
    return len(rows) - 1


def processor_seconds() -> float:
    """Of this process and its children."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)
