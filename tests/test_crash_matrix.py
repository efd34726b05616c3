"""
Killed, without power, or on a failing disk, at every call that changes something: the next start finds a whole campaign.

One run of a change gives every image that a crash on its way can leave, see :mod:`crashing`. From each, the next start
must come to the state of an uninterrupted run or, where nothing had begun, to the state before, and on from there.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from crashing import Campaign, Crash, Image, crashes, lay, rehearse, roomy, supported, take
from provenance import CUTOVER, SOURCE, TAG
from test_vcs import git

from pytest_autoresearch import chain, gitprocess, paperwork, rows
from pytest_autoresearch.journal import JournalError, Settlement
from pytest_autoresearch.ledger import LedgerError
from pytest_autoresearch.restoring import restore
from pytest_autoresearch.stale import remove_dead_locks
from pytest_autoresearch.verifier import verify

pytestmark = pytest.mark.skipif(bool(supported()), reason=supported() or "-")


class Clock(datetime):
    """Stands still, so that equal campaigns have equal bytes."""

    @classmethod
    def now(cls, tz: object = None) -> Clock:
        return cls(2026, 1, 1, tzinfo=UTC)


Change = Callable[[Campaign], object]


def rollback(campaign: Campaign) -> None:
    target = campaign.journal.state().settled[1].commit
    alarm = rows.Alarm(
        chart="gap", message="leak", last_zero=0, suspects=(2, 3), culprit=2, restore=target, restore_seq=1,
        verified=(),
    )  # fmt: skip
    campaign.judge("rollback", b"RATE = 9\n", alarm_to=1, alarm=alarm)


def locked(change: Change) -> Change:
    def alone(campaign: Campaign) -> None:
        with campaign.journal.lock():
            change(campaign)

    return alone


# An escalation does what a revert does.
CHANGES: dict[str, Change] = {
    "baseline": locked(lambda campaign: campaign.baseline()),
    "keep": locked(lambda campaign: campaign.judge("keep", b"RATE = 9\n")),
    "revert": locked(lambda campaign: campaign.judge("revert", b"RATE = 9\n")),
    "rollback": locked(rollback),
    "halt": locked(lambda campaign: campaign.halt()),
    "ratify": lambda campaign: campaign.ratify_head(),
    "stop": locked(lambda campaign: campaign.stop()),
}
BASES = {"baseline": "fresh", "ratify": "stricter"}
"""Change to the campaign that it is made to; ``climbed`` if it is not here."""


def entries(index: bytes) -> list[bytes]:
    """Mode, id, flags and name of each entry of a git index (version 2), without times."""
    found, start = [], 12
    for _ in range(int.from_bytes(index[8:12], "big")):
        end = index.index(b"\0", start + 62)
        found.append(index[start + 24 : start + 28] + index[start + 40 : end])
        start += (end - start + 8) // 8 * 8
    return found


def digest(image: Image, known: Image, *, begun: bool = True) -> int:
    """
    What an image says, without what nobody reads: who had the lock, git's reflogs and unfinished objects.

    :param known: objects as they must be; a damaged one tells.
    :param begun: whether rows rest on objects, so that an absent one tells as well.
    """
    found: list[object] = []
    for name, (mode, content, _) in sorted(image.items()):
        if (
            name.startswith(".git/logs/")
            or "/tmp_obj_" in name
            or name == f".autoresearch/{TAG}/lock"
        ):
            continue
        what: object = content
        if name == ".git/index":
            what = entries(content)
        elif name.startswith(".git/") and name.endswith(".lock"):
            what = b""  # it stands in the way, whatever is in it
        elif name.startswith(".git/objects/") and name in known:
            what = content == known[name].content
            if what and not begun:
                continue
        found.append((name, mode, what))
    return hash(repr(found))


def rows_of(image: Image) -> tuple[int, int]:
    """Of both ledgers."""
    source, cutover = (image[f".autoresearch/{TAG}/{name}"].content for name in (SOURCE, CUTOVER))
    return source.count(b"\n"), cutover.count(b"\n")


@dataclass
class Matrix:
    """One campaign in one place, put into the state of each image in turn."""

    root: Path
    base: Image
    campaign: Campaign = field(init=False)
    resolutions: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        lay(self.root, self.base)
        self.campaign = Campaign(self.root)
        self.rows = self.campaign.count()
        self.before = self.campaign.state()
        self.problems = self.blocks()
        self.met: set[object] = set()

    def session(self, change: Change) -> None:
        """What a session does: settle what is open, then its change, unless that is there already."""
        self.campaign.reopen()
        with self.campaign.journal.lock():
            self.campaign.recover()
            done = self.campaign.count() > self.rows
        if not done:
            change(self.campaign)

    def start(self) -> None:
        """What every start does first."""
        self.campaign.reopen()
        with self.campaign.journal.lock():
            settled = self.campaign.recover()
        self.resolutions.add(settled.cutover.resolution if settled else "none")

    def images(self, change: Change) -> list[Crash]:
        """The images of a change, each once; what it comes to undisturbed is noted down."""

        def work() -> None:
            self.session(change)

        work()
        self.expected = self.campaign.state()
        self.quiet = take(self.root)
        assert self.expected != self.before
        lay(self.root, self.base)
        known = {**self.base, **self.quiet}
        return list(
            {digest(crash.image, known): crash for crash in crashes(self.root, work)}.values()
        )

    def recover_from(self, found: list[Crash], change: Change) -> None:
        """From each image to a whole campaign."""
        known = {**self.base, **self.quiet}
        seen = set()
        for crash in found:
            lay(self.root, crash.image)
            self.start()
            begun = self.campaign.count() > self.rows
            here = digest(take(self.root), known, begun=begun)
            if here not in seen:
                seen.add(here)
                self.examine(crash.where, change)

    def examine(self, where: str, change: Change) -> None:
        campaign = self.campaign
        assert campaign.journal.verify() is None, where
        state = campaign.state()
        if state == self.before:  # nothing had begun: the next session does it
            if not self.leftovers():
                return
            assert self.blocks() == self.problems, where
            self.session(change)
            state = campaign.state()
        assert state == self.expected, where
        assert verify(self.root, TAG).problems == [], where
        self.compare(where)

    def blocks(self) -> list[str]:
        """What ``verify`` says, once there is a campaign."""
        return [str(each) for each in verify(self.root, TAG).problems] if self.rows else []

    def leftovers(self) -> set[object]:
        """What lies about beside the state before, each thing once: absent, half and whole, not in every combination."""
        there, base = take(self.root), self.base
        found: set[object] = set()
        for name in {**there, **base, **self.quiet}:
            if name.startswith(".git/logs/") or name == f".autoresearch/{TAG}/lock":
                continue
            here, before = there.get(name), base.get(name)
            if name == ".git/index" and here and before:
                found.add((name, repr(entries(here.content))))
            elif (here and here[:2]) != (
                before and before[:2]
            ) or name in self.quiet.keys() - base.keys():
                found.add((name, here and here[:2]))
        new = found - self.met
        self.met |= found
        return new

    def compare(self, where: str) -> None:
        """Work tree, index and HEAD are those of an undisturbed run, and nothing is left lying about."""
        there = take(self.root)
        for name in self.campaign.surface:
            assert there[name][:2] == self.quiet[name][:2], where
        assert entries(there[".git/index"].content) == entries(self.quiet[".git/index"].content), (
            where
        )
        assert there[".git/HEAD"].content == self.quiet[".git/HEAD"].content, where
        left = {
            name
            for name in there.keys() - self.quiet.keys()
            if not name.startswith(".git/objects/")
        }
        # A torn row makes another keep, hence other pins.
        left = {name for name in left if f"refs/autoresearch/{TAG}/" not in name}
        assert left == set(), where


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "datetime", Clock)
    monkeypatch.setattr(paperwork, "datetime", Clock)
    monkeypatch.setattr(gitprocess, "_WAITS", (0.01,))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with roomy(tmp_path) as directory:
        yield directory


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """A project without a campaign, and one after its baseline and two keeps."""
    root = tmp_path_factory.mktemp("bases") / "project"
    campaign = Campaign.create(root)
    found = {"fresh": take(root)}
    with campaign.journal.lock():
        campaign.baseline()
        campaign.judge("keep", b"RATE = 1\n")
        campaign.judge("keep", b"RATE = 2\n")
    git(root, "gc", "-q")
    found["climbed"] = take(root)
    (root / "gates" / "deep" / "g.py").write_text("def test_b(): pass\n")
    git(root, "commit", "-q", "-a", "-m", "a stricter gate")
    found["stricter"] = take(root)
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_a_crash_leaves_the_next_start_makes_whole(
    name: str, bases: dict[str, Image], place: Path
) -> None:
    matrix = Matrix(place / "project", bases[BASES.get(name, "climbed")])
    found = matrix.images(CHANGES[name])
    if name in ("revert", "rollback"):  # up to the intent a keep does all that they do
        before = rows_of(matrix.base)[0]
        found = [crash for crash in found if rows_of(crash.image)[0] > before]
    matrix.recover_from(found, CHANGES[name])
    assert len(found) > 15
    # With its payload on the disk before its intent, no change is ever lost to a crash.
    assert matrix.resolutions == {"none", "finished"}


# ---- a crash in the middle of making it whole


def open_keep(bases: dict[str, Image], root: Path, *, published: bool) -> Image:
    """The campaign with a keep that was begun; with its commit published already, or not."""
    matrix = Matrix(root, bases["climbed"])
    ref = f".git/refs/heads/autoresearch/{TAG}"
    begun = [
        crash.image
        for crash in matrix.images(CHANGES["keep"])
        if len(crash.image[f".autoresearch/{TAG}/{SOURCE}"].content)
        == len(matrix.quiet[f".autoresearch/{TAG}/{SOURCE}"].content)
        and (ref in crash.image) is published  # the one before is packed
    ]
    return begun[0]


def without_payload(image: Image) -> Image:
    return {name: each for name, each in image.items() if "/pending/" not in name}


def nothing(campaign: Campaign) -> None:
    """Recovery alone."""


@pytest.mark.parametrize("lost", [False, True], ids=["finished", "undone"])
def test_recovery_itself_may_be_cut_short_at_any_step(
    bases: dict[str, Image], place: Path, lost: bool
) -> None:
    base = open_keep(bases, place / "open", published=lost)
    matrix = Matrix(place / "project", without_payload(base) if lost else base)
    matrix.recover_from(matrix.images(nothing), nothing)
    assert matrix.resolutions == {"none", "rolled-back" if lost else "finished"}
    kept = matrix.campaign.journal.state().settled[-1]
    assert (kept.kind, kept.cost) == ("lost" if lost else "verdict", 10)
    assert (matrix.root / "train.py").read_bytes() == (b"RATE = 2\n" if lost else b"RATE = 9\n")


def test_a_restore_may_be_cut_short_at_any_step(bases: dict[str, Image], place: Path) -> None:
    name = f".autoresearch/{TAG}/{CUTOVER}"
    found = bases["climbed"][name]
    lines = found.content.splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b'"metric":0.31', b'"metric":0.21')
    base = {**bases["climbed"], name: found._replace(content=b"".join(lines))}
    root = place / "project"
    root.mkdir()
    lay(root, base)
    campaign = Campaign(root)

    def work() -> None:
        restore(root, TAG, "Ada")

    def came_to() -> object:
        state = campaign.journal.state()
        statuses = [row.status for row in state.settled]
        return campaign.state().incumbent, state.spent, statuses, (root / "train.py").read_bytes()  # type: ignore[attr-defined]

    work()
    expected, known = came_to(), take(root)
    lay(root, base)
    images = list({digest(crash.image, known): crash for crash in crashes(root, work)}.values())
    # What the row itself does to the repository is a rollback's, above.
    opened = [crash for crash in images if rows_of(crash.image) == (4, 3)]
    assert len(opened) > 10
    for crash in images:
        if crash in opened[1:-1]:
            continue
        lay(root, crash.image)
        work()
        assert verify(root, TAG).problems == [], crash.where
        assert came_to() == expected, crash.where
        # What was found stays, whole, whatever was cut on the way.
        kept = [path.read_bytes() for path in campaign.directory.glob(f"aside-*/{CUTOVER}")]
        assert b"".join(lines) in kept, crash.where
    assert len(images) > 20


# ---- a disk that fails


class Prepared(Campaign):
    """One whose session stops short of its change."""

    def transact(self, intent: rows.Intent, payload: rows.Payload) -> Settlement:
        self.change = intent, payload
        return Settlement(0, rows.Cutover(source=rows.Link(seq=0, sha256=""), action=intent.action, resolution="done", payload=payload))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "failure"),
    [("keep", errno.ENOSPC), ("revert", errno.EROFS)],
    ids=["full disk", "read-only"],
)  # fmt: skip
def test_a_disk_that_fails_from_any_step_on_loses_and_halves_nothing(
    name: str, failure: int, bases: dict[str, Image], place: Path
) -> None:
    root = place / "project"
    root.mkdir()
    lay(root, bases["climbed"])
    prepared = Prepared(root)
    CHANGES[name](prepared)
    matrix = Matrix(root, take(root))
    campaign, before = matrix.campaign, matrix.campaign.journal.state()
    cost = prepared.change[0].cost

    def work() -> None:
        try:
            with campaign.journal.lock():
                campaign.transact(*prepared.change)
        except (JournalError, LedgerError):  # what a session shows, and says how to go on
            os._exit(7)

    outcomes = set()
    steps, status = rehearse(root, work)
    assert status == 0
    expected, quiet = campaign.state(), take(root)
    known, seen = {**matrix.base, **quiet}, set()
    for at in range(steps):
        lay(root, matrix.base)
        _, status = rehearse(root, work, fail_at=at, failure=failure)
        where = f"from step {at} of {steps} on"
        assert os.waitstatus_to_exitcode(status) in (0, 7), where
        matrix.start()
        here = digest(take(root), known)
        if here in seen:
            continue
        seen.add(here)
        assert campaign.journal.verify() is None, where
        assert verify(root, TAG).problems == [], where
        state = campaign.journal.state()
        surface = {path: (root / path).read_bytes() for path in campaign.surface}
        if campaign.count() == matrix.rows:
            outcomes.add("none")
            assert state == before, where
            assert surface == {path: matrix.base[path].content for path in surface}, where
            continue
        *_, (_, last) = campaign.journal.cutovers()
        outcomes.add(last.resolution)
        assert state.spent == before.spent + cost, where
        if last.resolution == "rolled-back":
            assert status, where
            assert state.incumbent == before.incumbent, where
            assert surface == campaign.repository.read_surface(before.incumbent.commit, surface), (
                where
            )  # type: ignore[union-attr]
        else:
            assert campaign.state() == expected, where
            assert surface == {path: quiet[path].content for path in surface}, where
    assert outcomes >= {"none", "done", "finished"}


# ---- what all this rests on


def test_a_kill_in_earnest_leaves_the_image_that_was_recorded(
    bases: dict[str, Image], place: Path
) -> None:
    matrix = Matrix(place / "project", bases["climbed"])

    def work() -> None:
        matrix.session(CHANGES["keep"])

    def said(image: Image) -> object:
        """Without the random part of temporary names."""
        return sorted(
            (re.sub("tmp_obj_.*|-[0-9a-f]{8}", "", name), *each[:2])
            for name, each in image.items()
            if not name.startswith((".git/logs/", ".git/index")) and not name.endswith("/lock")
        )

    recorded = {crash.where: crash.image for crash in crashes(matrix.root, work)}
    killed = {int(where.split()[2][:-1]): where for where in recorded if where.startswith("killed, step ")}  # fmt: skip
    numbers = sorted(number for number in killed if number >= 0)
    for number in numbers[:: len(numbers) // 8]:
        lay(matrix.root, matrix.base)
        _, status = rehearse(matrix.root, work, kill_at=number)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert said(take(matrix.root)) == said(recorded[killed[number]]), killed[number]


def test_a_lock_of_a_git_that_is_at_work_stays(bases: dict[str, Image], place: Path) -> None:
    matrix = Matrix(place / "project", bases["climbed"])
    repository = matrix.campaign.repository
    locks = [repository.git_dir / name for name in ("index.lock", "HEAD.lock", f"refs/autoresearch/{TAG}/heads.lock")]  # fmt: skip
    foreign = repository.git_dir / "refs" / "heads" / "main.lock"
    for path in (*locks, foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with subprocess.Popen(
        ["git", "cat-file", "--batch"], cwd=matrix.root, stdin=subprocess.PIPE
    ) as child:
        remove_dead_locks(matrix.root, repository.git_dir, TAG, unfinished=True)
        assert all(path.exists() for path in locks)
        child.communicate()
    remove_dead_locks(matrix.root, repository.git_dir, TAG, unfinished=True)
    assert not any(path.exists() for path in locks)
    assert foreign.exists()
