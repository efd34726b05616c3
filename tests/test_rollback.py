"""
Back behind several keeps after an alarm, and what the charts, the canary and the end of a loop leave in the state.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from test_journal import BRANCH, COMMON, Campaign, contents, make_project
from test_vcs import git

from pytest_autoresearch import rows
from pytest_autoresearch.records import Decision
from pytest_autoresearch.rows import Reference
from pytest_autoresearch.state import Gap, State

CONTENTS = {number: b"RATE = %d\n" % number for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign after its baseline and two keeps, with a candidate in the work tree."""
    root = make_project(tmp_path_factory.mktemp("climbed") / "project")
    campaign = Campaign(root)
    with campaign.journal.lock():
        campaign.baseline()
        for number in (1, 2):
            (root / "train.py").write_bytes(CONTENTS[number])
            campaign.keep(content=CONTENTS[number])
    (root / "train.py").write_bytes(CONTENTS[3])
    return root


@pytest.fixture
def campaign(climbed: Path, tmp_path: Path) -> Iterator[Campaign]:
    made = Campaign(Path(shutil.copytree(climbed, tmp_path / "project", symlinks=True)))
    with made.journal.lock():
        yield made


def alarmed(
    campaign: Campaign, restore: int, culprit: int | None, chart: str = "gap"
) -> rows.Verdict:
    """The verdict row of an alarm at the third proposal: suspects are all three."""
    state = campaign.journal.state()
    payload = campaign.verdict(Decision.REVERT, contents(campaign.root))
    alarm = rows.Alarm(
        chart=chart,
        message="too high",
        last_zero=0,
        suspects=(1, 2, 3),
        culprit=culprit,
        restore=state.settled[restore].commit,
        restore_seq=restore,
        verified=(),
    )
    after = Reference(mean=0.32, sigma=0.02, n=4, audit=0.33)
    return msgspec.structs.replace(payload, alarm=alarm, after=after, gap=0.5, status="quarantine")


def roll_back(campaign: Campaign, restore: int = 0, culprit: int = 1) -> None:
    payload = alarmed(campaign, restore, culprit)
    target = campaign.journal.state().settled[restore].commit
    intent = campaign.intent("rollback", target=target, domain=payload.domain, cost=10)
    campaign.transact(intent, payload)


def check(campaign: Campaign) -> State:
    """The state after the rollback, with git in line."""
    assert campaign.journal.verify() is None
    state = campaign.journal.state()
    assert state.incumbent is not None
    assert state.incumbent.commit == campaign.repository.head_commit() == state.settled[0].commit
    assert campaign.repository.branch() == BRANCH
    assert git(campaign.root, "status", "--porcelain", "--", "train.py") == ""
    assert git(campaign.root, "fsck", "--no-dangling") == ""
    return state


def test_a_rollback_goes_back_behind_every_suspect(campaign: Campaign) -> None:
    commits = [row.commit for row in campaign.journal.state().settled]
    roll_back(campaign)
    state = check(campaign)
    assert [row.status for row in state.settled] == [
        "keep",
        "quarantine",
        "quarantine",
        "quarantine",
    ]
    assert [row.decision for row in state.settled[1:]] == [Decision.REVERT] * 3
    assert state.settled[1].reason == "an alarm at mutation 3 was traced back to mutation 1"
    assert (state.incumbent.metric, state.incumbent.sigma, state.incumbent.audit) == (  # type: ignore[union-attr]
        0.32, 0.02, 0.33,
    )  # fmt: skip
    assert state.surface == state.settled[0].surface
    assert state.spent == 30
    # What was rolled back stays reachable, for whoever wants to look.
    git(campaign.root, "gc", "-q", "--prune=now")
    assert all(campaign.repository.tree_of(commit) for commit in commits)


def test_what_was_taken_back_has_improved_nothing(campaign: Campaign) -> None:
    assert campaign.journal.state().chart == (0.03, 0.03)
    roll_back(campaign, restore=1, culprit=2)
    state = campaign.journal.state()
    assert state.chart == (0.03, 0.0, 0.0)
    assert state.settled[1].status == "keep"
    assert state.settled[2].status == "quarantine"
    assert state.incumbent is not None
    assert state.incumbent.commit == state.settled[1].commit


def test_an_alarm_whose_suspects_hold_takes_nothing_back(campaign: Campaign) -> None:
    payload = alarmed(campaign, 2, None)
    campaign.transact(campaign.intent("revert", domain=payload.domain, cost=10), payload)
    state = campaign.journal.state()
    assert [row.status for row in state.settled[:3]] == ["keep"] * 3
    assert state.incumbent is not None
    assert state.incumbent.commit == state.settled[2].commit


def verdict(campaign: Campaign, **changes: object) -> State:
    payload = campaign.verdict(Decision.REVERT, contents(campaign.root))
    payload = msgspec.structs.replace(payload, **changes)
    campaign.transact(campaign.intent("revert", domain=payload.domain, cost=10), payload)
    return campaign.journal.state()


def test_gaps_are_learned_kept_or_not_and_forgotten_as_sums_only(campaign: Campaign) -> None:
    assert verdict(campaign, gap=0.25).gaps == (Gap(3, 0.25, kept=False),)
    state = verdict(campaign, gap=0.5, alarm=alarmed(campaign, 0, 4).alarm)
    assert state.gaps == (Gap(3, 0.25, kept=False),)
    assert state.worn_out


def canary(alarm: bool) -> rows.Canary:
    return rows.Canary(metric=0.33, residual=1.5, s_upper=1.0, s_lower=0.0, alarm=alarm)


def test_a_canary_is_counted_from_and_remembered(campaign: Campaign) -> None:
    assert campaign.journal.state().since_canary == 2
    state = verdict(campaign, canary=canary(alarm=False))
    assert (state.canaries, state.since_canary, state.decided) == ((1.5,), 0, 3)
    assert verdict(campaign).since_canary == 1


def test_drift_ends_what_can_be_compared(campaign: Campaign) -> None:
    state = verdict(campaign, canary=canary(alarm=True), decision=Decision.ESCALATE)
    assert state.incumbent is not None
    assert state.incumbent.metric is None
    assert state.incumbent.commit == campaign.repository.head_commit()
    assert (state.chart, state.canaries, state.gaps) == ((), (), ())


def test_the_end_of_a_loop_is_the_last_row_until_something_is_judged(campaign: Campaign) -> None:
    before = campaign.journal.state()
    payload = rows.Stop(
        code="target", message="good enough", rounds=3, seconds=1.0, harness_tree="",
        commit_before=campaign.repository.head_commit(), **COMMON,
    )  # fmt: skip
    campaign.transact(campaign.intent("stop"), payload)
    state = campaign.journal.state()
    assert state.stopped == "good enough"
    assert (state.settled, state.spent, state.incumbent) == (
        before.settled, before.spent, before.incumbent,
    )  # fmt: skip
    assert (campaign.root / "train.py").read_bytes() == CONTENTS[3]
    assert verdict(campaign).stopped == ""
