"""
Large ledgers are read by several processes: the same verdict in the same words as by one.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from provenance import CUTOVER, SOURCE, TAG, Campaign

from pytest_autoresearch import verifier
from pytest_autoresearch.chain import Head, seal
from pytest_autoresearch.verifier import Chain, as_json, check_files, verify

ONE = 1 << 60
"""A size of chunks at which one process reads everything."""


@pytest.fixture(scope="session")
def whole_campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Every kind of change."""
    return Campaign.create(tmp_path_factory.mktemp("processes") / "project").whole()


@pytest.fixture
def campaign(whole_campaign: Campaign, tmp_path: Path) -> Campaign:
    return whole_campaign.copy(tmp_path / "project")


@pytest.fixture
def torn(campaign: Campaign) -> Campaign:
    """With rows that record torn ends, and a change behind them."""
    for ledger in (campaign.journal.source, campaign.journal.cutover):
        with ledger.path.open("ab") as file:
            file.write(b'{"v":1,')
        ledger.mend()
    campaign.halt()
    return campaign


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a change or two; two processors, wherever this runs."""
    monkeypatch.setattr(verifier, "CHUNK", 3000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def chains(campaign: Campaign) -> tuple[Chain, Chain]:
    return tuple(  # type: ignore[return-value]
        Chain(name.removesuffix(".jsonl"), verifier.open_ledger(campaign.ledger(name)))
        for name in (SOURCE, CUTOVER)
    )


def accepted(campaign: Campaign) -> tuple[int, int]:
    """Changes that are taken over from other processes, and how many there are; read in this one."""
    source, cutover = chains(campaign)
    with source.file, cutover.file:
        files = source.file.fileno(), cutover.file.fileno()
        sizes = [campaign.ledger(name).stat().st_size for name in (SOURCE, CUTOVER)]
        bounds = [(0, 0), *verifier._bounds(files, 0, sizes), (sizes[0], sizes[1])]
        chunks = [(*one, *other) for one, other in itertools.pairwise(bounds)]
        found = [verifier._read_chunk(files, chunk) for chunk in chunks]
        taken = list(verifier._accepted(source, cutover, iter(found)))
    return len(taken), sum(len(each[1]) for each in found if each)


def test_a_whole_campaign_is_read_by_other_processes(torn: Campaign) -> None:
    source, cutover = chains(torn)
    with source.file, cutover.file:
        before = os.times()
        assert len(list(verifier._ahead(source, cutover))) == 12
        assert os.times().children_user > before.children_user
        ends = [(chain.seq, chain.sha256, chain.size) for chain in (source, cutover)]
        assert list(verifier.changes(source, cutover)) == []  # and nothing is left
    alone = chains(torn)
    with alone[0].file, alone[1].file:
        assert len(list(verifier.changes(*alone))) == 12
        assert ends == [(chain.seq, chain.sha256, chain.size) for chain in alone]
        assert [chain.digests for chain in alone] == [source.digests, cutover.digests]
    assert check_files(torn.directory, TAG) is None


def reports(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> tuple[tuple[str, object], tuple[str, object]]:
    """The whole report, and where a restore would cut: by several processes, by one."""
    found = []
    for chunk in (3000, ONE):
        monkeypatch.setattr(verifier, "CHUNK", chunk)
        report = verify(campaign.root, TAG)
        found.append((as_json(report, None), report.cut))
    return found[0], found[1]


def test_the_whole_report_is_the_same(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    several, one = reports(campaign, monkeypatch)
    assert several == one
    assert '"verdict": "PASS"' in one[0]
    # Sealed anew: chains and pairs hold in every chunk, and the rows before do not allow the change.
    campaign.reseal(
        lambda name, seq, body: (
            body.replace(b'"budget_after":', b'"budget_after":9') if seq == 6 else body
        )
    )
    several, one = reports(campaign, monkeypatch)
    assert several == one
    assert '"link": "budget arithmetic"' in one[0]
    assert one[1] != {}


def damages(campaign: Campaign) -> Iterator[tuple[str, bytes]]:
    """Ledger and its bytes, damaged: each line altered, dropped, doubled, exchanged, sealed anew, cut off there."""
    for name in (SOURCE, CUTOVER):
        lines = campaign.lines(name)
        for at, line in enumerate(lines):
            head, tail = b"".join(lines[:at]), b"".join(lines[at + 1 :])
            for place in (9, len(line) // 2, len(line) - 1):
                altered = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
                yield name, head + altered + tail
            yield name, head + tail
            yield name, head + line + line + tail
            yield name, head + line[: len(line) // 2]
            if at + 1 < len(lines):
                yield name, head + lines[at + 1] + line + b"".join(lines[at + 2 :])
            before = Head(at - 1, hashlib.sha256(lines[at - 1] if at else b"").hexdigest())
            if name == CUTOVER and not tail:
                continue  # which nothing vouches for but heads kept elsewhere
            forged = seal(line[line.index(b',"data":') + 8 : -78], before)
            yield name, head + forged + tail


def test_damage_is_said_in_the_same_words(torn: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is; what other processes would say is asked here, without starting them each time."""

    def here(
        files: tuple[int, int], chunks: list[tuple[int, int, int, int]], count: int
    ) -> Iterator[object]:
        assert count == 2
        return (verifier._read_chunk(files, chunk) for chunk in chunks)

    campaign = torn
    whole = dict(zip((SOURCE, CUTOVER), campaign.data(), strict=True))
    assert accepted(campaign) == (12, 12)
    monkeypatch.setattr(verifier, "_read_by_workers", here)
    refused = set()
    for name, damaged in damages(campaign):
        campaign.ledger(name).write_bytes(damaged)
        refused.add(accepted(campaign))
        several = str(check_files(campaign.directory, TAG))
        monkeypatch.setattr(verifier, "CHUNK", ONE)
        assert several == str(check_files(campaign.directory, TAG)) != "None"
        monkeypatch.setattr(verifier, "CHUNK", 3000)
        campaign.ledger(name).write_bytes(whole[name])
    taken = {count for count, _ in refused}
    assert len(taken) > 3  # chunks before the damage were taken over
    assert max(taken) < 12
    # Chunks behind it hold by themselves, and are not: they stand behind other rows.
    assert any(count < found for count, found in refused)


def test_damage_is_found_by_real_processes(campaign: Campaign) -> None:
    path = campaign.ledger(CUTOVER)
    path.write_bytes(path.read_bytes().replace(b'"metric":0.31', b'"metric":0.21'))
    words = "altered row: cutover-audit.jsonl, line 2: row 1 does not match its own hash"
    assert str(check_files(campaign.directory, TAG)) == words


@pytest.mark.parametrize("program", ["/bin/false", "/bin/cat"])
def test_processes_that_fail_are_not_needed(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """They end without an answer, or answer something else: rows are read here."""
    monkeypatch.setattr(sys, "executable", program)
    assert check_files(campaign.directory, TAG) is None
    path = campaign.ledger(CUTOVER)
    path.write_bytes(path.read_bytes()[:-1])
    assert "torn tail" in str(check_files(campaign.directory, TAG))
