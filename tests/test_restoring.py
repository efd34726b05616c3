"""
Going back to the last state that verifies: on the record, whole, and verifiable afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from provenance import BRANCH, CUTOVER, SOURCE, TAG, Campaign
from test_vcs import git

from pytest_autoresearch import restoring
from pytest_autoresearch.journal import JournalError
from pytest_autoresearch.records import Decision
from pytest_autoresearch.restoring import restore
from pytest_autoresearch.rows import Restore
from pytest_autoresearch.verifier import broken_link, verify

REFS = f"refs/autoresearch/{TAG}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Two keeps and a revert behind a baseline."""
    made = Campaign.create(tmp_path_factory.mktemp("restoring") / "project")
    made.baseline()
    made.judge("keep", b"RATE = 1\n")
    made.judge("keep", b"RATE = 2\n")
    made.judge("revert", b"RATE = 3\n", cost=20)
    return made


@pytest.fixture
def campaign(template: Campaign, tmp_path: Path) -> Campaign:
    return template.copy(tmp_path / "project")


def altered(number: int) -> Callable[[Campaign], None]:
    def damage(campaign: Campaign) -> None:
        lines = campaign.lines(CUTOVER)
        lines[number] = lines[number].replace(b'"metric":0.31', b'"metric":0.21')
        campaign.ledger(CUTOVER).write_bytes(b"".join(lines))

    return damage


def commit_by_hand(campaign: Campaign) -> None:
    (campaign.root / "prepare.py").write_text("kinder\n")
    git(campaign.root, "commit", "-q", "-a", "-m", "by hand")


def no_candidate(campaign: Campaign) -> None:
    """The pinned candidate of the revert, on which no finding rests."""
    tree = campaign.journal.state().settled[3].surface["train.py"]
    for line in git(campaign.root, "for-each-ref", f"{REFS}/candidate").splitlines():
        oid, _, name = line.split()
        if git(campaign.root, "rev-parse", f"{oid}:train.py") == tree:
            git(campaign.root, "update-ref", "-d", name)


def no_checkpoint(campaign: Campaign) -> None:
    git(
        campaign.root,
        "update-ref",
        "-d",
        f"{REFS}/restore/{campaign.journal.state().settled[1].commit}",
    )


@pytest.mark.parametrize(
    ("damage", "back_to", "spent"),
    [
        (commit_by_hand, 2, 40),
        (no_candidate, 2, 40),
        (no_checkpoint, 1, 40),
        (altered(4), 2, 40),
        (altered(3), 1, 40),
        (altered(2), 0, 40),
    ],
    ids=["by hand", "candidate", "checkpoint", "row 4", "row 3", "row 2"],
)
def test_back_to_the_last_state_that_verifies(
    campaign: Campaign, damage: Callable[[Campaign], None], back_to: int, spent: int
) -> None:
    settled = campaign.journal.state().settled
    tip = campaign.repository.head_commit()
    damage(campaign)
    found = {name: campaign.ledger(name).read_bytes() for name in (SOURCE, CUTOVER)}
    broken = broken_link(verify(campaign.root, TAG), None)
    assert broken is not None
    assert f"finding {back_to}" in restore(campaign.root, TAG, "Ada")
    report = verify(campaign.root, TAG)
    assert report.problems == []
    state = campaign.journal.state()
    assert state.incumbent is not None
    assert state.incumbent.commit == campaign.repository.head_commit() == settled[back_to].commit
    assert (state.incumbent.metric, state.spent) == (None, spent)
    assert (campaign.root / "train.py").read_bytes() == b"RATE = %d\n" % back_to
    _, last = list(campaign.journal.cutovers())[-1]
    payload = last.payload
    assert isinstance(payload, Restore)
    assert (payload.actor, payload.reason) == ("Ada", str(broken))
    # Nothing is thrown away: what stood there is pinned or kept aside, and the row says where.
    assert git(campaign.root, "rev-parse", f"{REFS}/restore/{payload.commit_before}") in (
        tip,
        payload.commit_before,
    )
    for name, sha256 in payload.aside.items():
        content = (campaign.directory / name).read_bytes()
        assert content == found[Path(name).name]
        assert hashlib.sha256(content).hexdigest() == sha256
    assert len(payload.aside) == (2 if broken.link == "altered row" else 0)
    later = [row for row in state.settled[back_to + 1 :] if row.decision is Decision.KEEP]
    assert later == []
    assert "the campaign verifies" in restore(campaign.root, TAG, "Ada")
    # And on it goes.
    campaign.baseline()
    campaign.judge("keep", b"RATE = 7\n")
    assert verify(campaign.root, TAG).problems == []


def test_a_ratified_harness_that_does_not_verify_is_given_up(campaign: Campaign) -> None:
    before = campaign.journal.state()
    (campaign.root / "gates" / "deep" / "g.py").write_text("def test_b(): pass\n")
    git(campaign.root, "commit", "-q", "-a", "-m", "a stricter gate")
    campaign.ratify()
    campaign.baseline()
    git(campaign.root, "update-ref", "-d", f"{REFS}/restore/{campaign.repository.head_commit()}")
    assert "source tree not pinned" in str(broken_link(verify(campaign.root, TAG), None))
    restore(campaign.root, TAG, "Ada")
    state = campaign.journal.state()
    assert (state.ratified_commit, state.ratified_tree, state.gates) == (
        before.ratified_commit,
        before.ratified_tree,
        before.gates,
    )
    assert verify(campaign.root, TAG).problems == []


def test_where_nothing_verifies_a_person_is_told(campaign: Campaign) -> None:
    base = campaign.journal.state().settled[0].commit
    git(campaign.root, "update-ref", "-d", f"{REFS}/restore/{base}")
    with pytest.raises(JournalError, match=r"no state of campaign 'test' verifies .*from a copy"):
        restore(campaign.root, TAG, "Ada")


def test_on_another_branch_nothing_happens(campaign: Campaign) -> None:
    altered(3)(campaign)
    git(campaign.root, "checkout", "-q", "--detach")
    before = campaign.data()
    with pytest.raises(JournalError, match=f"git switch {BRANCH}"):
        restore(campaign.root, TAG, "Ada")
    assert campaign.data() == before


def test_killed_between_cutting_back_and_the_row_it_is_finished(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered(3)(campaign)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "_record", die)
        with pytest.raises(KeyboardInterrupt):
            restore(campaign.root, TAG, "Ada")
    assert str(broken_link(verify(campaign.root, TAG), None)).startswith("dropped tail")
    restore(campaign.root, TAG, "Ada")
    assert verify(campaign.root, TAG).problems == []
    state = campaign.journal.state()
    assert state.spent == 40
    _, last = list(campaign.journal.cutovers())[-1]
    assert isinstance(last.payload, Restore)
    assert len(last.payload.aside) == 2


def test_a_killed_session_is_recovered_and_nothing_is_given_up(campaign: Campaign) -> None:
    whole = campaign.data()
    with campaign.ledger(CUTOVER).open("ab") as file:
        file.write(b'{"v":1,')
    assert "the campaign verifies" in restore(campaign.root, TAG, "Ada")
    assert campaign.data()[0] == whole[0]
    assert campaign.data()[1].startswith(whole[1])
