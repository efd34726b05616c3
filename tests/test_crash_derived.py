"""
Killed, or without power, while what is derived from the rows is written: the next start has all of it right again.

The state that a start takes up, the table and its note, the heads in the repository and outside the project: all follow
the row that they are made of, so a crash may leave any of them behind, half or whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing import Campaign, Image, crashes, lay, roomy, supported, take
from provenance import TAG

from pytest_autoresearch import foldcache, gitprocess, rows
from pytest_autoresearch.journal import Settlement
from pytest_autoresearch.recovery import stock_acts
from pytest_autoresearch.reports import extend_results, result_rows, write_results
from pytest_autoresearch.state import differences
from pytest_autoresearch.verifier import verify

pytestmark = pytest.mark.skipif(bool(supported()), reason=supported() or "-")

DERIVED = ("state.sqlite", "results.", "heads", "/outside/", f"refs/autoresearch/{TAG}/state")
"""In the names of what is written behind a row, or before the next change."""
SQLITE_HEADER = 28
"""Bytes of a rollback journal that say how many of its pages count (sqlite.org/fileformat2.html, section 3)."""


class Watched(Campaign):
    """One whose heads are kept outside, and whose changes can be had without being carried out."""

    change: tuple[rows.Intent, rows.Payload]
    carried = True

    def transact(self, intent: rows.Intent, payload: rows.Payload) -> Settlement:
        self.change = intent, payload
        if self.carried:
            return super().transact(intent, payload)
        return Settlement(0, rows.Cutover(source=rows.Link(seq=0, sha256=""), action=intent.action, resolution="done", payload=payload))  # fmt: skip

    def prepared(self) -> tuple[rows.Intent, rows.Payload]:
        """A revert, up to its intent."""
        self.carried = False
        self.judge("revert", b"RATE = 9\n")
        self.carried = True
        return self.change


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for a project, and for what stands outside it."""
    monkeypatch.setattr(foldcache, "BEHIND", 1)
    monkeypatch.setattr(gitprocess, "_WAITS", (0.01,))
    with roomy(tmp_path) as place:
        (place / "world").mkdir()
        yield place / "world"


def told(image: Image) -> int:
    """Ledgers and what is derived from them; the rest is the matter of the other crash tests."""
    found = []
    for name, (mode, content, _) in sorted(image.items()):
        read = ".git/logs/" not in name and "/.results." not in name
        if read and any(part in name for part in (*DERIVED, ".jsonl")):
            size = SQLITE_HEADER if name.endswith("-journal") else None
            found.append((name, mode, content[: 0 if name.endswith(".lock") else size]))
    return hash(repr(found))


def test_what_is_derived_is_right_after_the_next_start(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outside = world / "project", world / f"{TAG}.heads"
    monkeypatch.setattr(
        Watched, "configuration", f'[tool.autoresearch.anchors]\nfile = "{world}/{{tag}}.heads"\n'
    )
    campaign = Watched.create(root)
    with campaign.journal.lock():
        campaign.baseline()
    with campaign.opened() as found:
        found.take_up()
        found.catch_up()
    table = root / "results.tsv"
    assert table.read_text().count("\n") == 2
    # One change that is open, and one that will be made behind it.
    with campaign.journal.lock():
        open_change = campaign.prepared()
        images = []

        def begun(*_: object) -> str:
            images.append(take(world))
            return ""

        campaign.journal.transact(*open_change, begun, stock_acts(campaign.repository)["revert"])  # type: ignore[arg-type]
        (root / "train.py").write_text("RATE = 9\n")
        next_change = campaign.prepared()
    # Somebody deleted the state that was kept: it is made anew, and added to later.
    base = {name: each for name, each in images[0].items() if "/state.sqlite" not in name}
    campaign.reopen()
    lay(world, base)

    def session() -> None:
        """As far as it writes what is derived."""
        with campaign.opened() as found:
            found.take_up()
            found.catch_up()
            foldcache.BEHIND = 64  # of this child: once is enough
            act = stock_acts(found.repository)["revert"]
            found.journal.transact(*next_change, act, found.undo)
            found.reload()
            extend_results(found)

    made = crashes(world, session)
    full = take(world)
    parts: Counter[str] = Counter()
    lengths = set()
    note, written = f"project/.autoresearch/{TAG}/results.json", "project/results.tsv"
    noted = [crash for crash in made if crash.image[note].content == full[note].content]
    assert noted
    # What the note says stands there is on the disk before it.
    assert {crash.image[written].content for crash in noted} == {full[written].content}
    for crash in {told(crash.image): crash for crash in made}.values():
        lay(world, crash.image)
        with campaign.opened() as found:
            found.take_up()
            found.catch_up()
            assert differences(found.state, found.journal.state_anew(), "") == "", crash.where
            assert set(found.anchors.behind(found.journal.heads()).values()) == {0}, crash.where
            source, cutover = outside.read_text().splitlines()[-2:]
            # The row of a torn end goes with the next change.
            assert re.fullmatch("restore-source [0-9]+:[0-9a-f]{64}", source), crash.where
            heads = found.journal.heads()
            assert cutover == f"cutover-audit {heads['cutover-audit']}", crash.where
            lengths.add(len(result_rows(found)))
            left = table.read_bytes()
            write_results(found)
        assert left == table.read_bytes(), crash.where
        assert verify(root, TAG, anchors=outside.read_text()).problems == [], crash.where
        assert list(root.glob(".autoresearch/**/*journal")) == [], crash.where
        parts.update(part for part in DERIVED if part in crash.where)
    assert lengths == {2, 3}
    assert parts.keys() == set(DERIVED)
