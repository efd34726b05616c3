"""
Verification that goes on from a checkpoint: the words of a full one, wherever a byte is changed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from provenance import CUTOVER, SOURCE, TAG, Campaign
from test_vcs import git

from pytest_autoresearch import rows, verifier
from pytest_autoresearch.chain import Head, parse, seal
from pytest_autoresearch.journal import Settlement
from pytest_autoresearch.verifier import CannotTell, check_ledgers, load_checkpoint, verify

REFS = f"refs/autoresearch/{TAG}"


class Watched(Campaign):
    """A campaign that an auditor verifies after every change."""

    def transact(self, intent: rows.Intent, payload: rows.Payload) -> Settlement:
        settled = super().transact(intent, payload)
        with (self.root.parent / "checkpoints").open("ab") as file:
            file.write(verify(self.root, TAG, save=True).checkpoint or b"none\n")
        return settled


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return Watched(Campaign.create(tmp_path_factory.mktemp("watched") / "project").root).whole()


@pytest.fixture(scope="session")
def checkpoints(watched: Watched) -> list[dict[str, Any]]:
    """After each change."""
    path = watched.root.parent / "checkpoint"
    found = []
    for line in (watched.root.parent / "checkpoints").read_bytes().splitlines(keepends=True):
        path.write_bytes(line)
        found.append(load_checkpoint(path, TAG))
    return found


@pytest.fixture
def campaign(watched: Watched, tmp_path: Path) -> Campaign:
    return Campaign(watched.root).copy(tmp_path / "project")


def read(source: bytes, cutover: bytes, since: dict[str, Any] | None = None) -> str:
    return str(check_ledgers(io.BytesIO(source), io.BytesIO(cutover), TAG, since) or "")


def test_from_every_checkpoint_the_end_is_that_of_a_full_verification(
    watched: Watched, checkpoints: list[dict[str, Any]]
) -> None:
    """State, findings and what the next checkpoint says; back to keeps and harnesses before the checkpoint."""
    whole = verify(watched.root, TAG, save=True)
    assert len(checkpoints) == 11
    for since in checkpoints:
        assert read(*watched.data(), since) == ""
        report = verify(watched.root, TAG, since=since, save=True)
        assert report.checkpoint == whole.checkpoint != b""
        assert verifier.lines_of(report, None) == verifier.lines_of(whole, None)


def test_every_change_of_a_byte_is_said_as_by_a_full_verification(
    watched: Watched, checkpoints: list[dict[str, Any]]
) -> None:
    """At every offset of both files, before the checkpoint and behind it."""
    since = checkpoints[1]
    sizes = [since["ledgers"][name.removesuffix(".jsonl")]["size"] for name in (SOURCE, CUTOVER)]
    # A short campaign: two changes before the checkpoint, one behind it.
    whole = [b"".join(watched.lines(name)[:4]) for name in (SOURCE, CUTOVER)]
    assert all(0 < size < len(data) for size, data in zip(sizes, whole, strict=True))
    assert read(*whole, since) == read(*whole) == ""
    for number, data in enumerate(whole):
        for at, byte in enumerate(data):
            damaged = list(whole)
            damaged[number] = data[:at] + bytes([byte ^ 1]) + data[at + 1 :]
            words = read(*damaged)
            assert words
            assert read(*damaged, since) == words, (number, at)


def test_without_the_hash_of_what_was_passed_over_a_changed_byte_there_goes_unseen(
    watched: Watched, checkpoints: list[dict[str, Any]]
) -> None:
    """The control: it is this hash that finds it."""
    source, cutover = watched.data()
    altered = cutover.replace(b'"metric":0.31', b'"metric":0.21', 1)
    since = checkpoints[-1]
    assert "does not match its own hash" in read(source, altered, since)
    ledgers = {name: dict(known) for name, known in since["ledgers"].items()}
    ledgers["cutover-audit"]["bytes_sha256"] = hashlib.sha256(altered).hexdigest()
    assert read(source, altered, {**since, "ledgers": ledgers}) == ""


def cuts(campaign: Campaign) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Both ledgers with rows dropped from their ends: 0, then 1..."""
    lines = campaign.lines(SOURCE), campaign.lines(CUTOVER)
    for left in range(len(lines[0]), 1, -1):
        yield lines[0][:left], lines[1][:left]


def test_a_checkpoint_is_an_anchor(campaign: Campaign, checkpoints: list[dict[str, Any]]) -> None:
    """Rows dropped or rewritten so that both ledgers hold by themselves: a full verification of them says nothing."""
    since = checkpoints[6]
    for dropped, (source, cutover) in enumerate(cuts(campaign)):
        data = b"".join(source), b"".join(cutover)
        assert read(*data) == ""
        assert read(*data, since).startswith(
            "dropped tail: checkpoint: restore-source had a row 7" if dropped > 4 else ""
        )
        assert bool(read(*data, since)) == (dropped > 4)

    def edit(_: str, __: int, body: bytes) -> bytes:
        return body.replace(b'"metric":0.31', b'"metric":0.21')

    campaign.reseal(edit)
    assert read(*campaign.data()) == ""
    words = "rewritten history: checkpoint: row 7 of restore-source had another hash"
    assert read(*campaign.data(), since) == words
    assert "rewritten history" in str(verify(campaign.root, TAG, since=since).problems[0])


def test_a_row_behind_a_checkpoint_that_the_rows_before_it_do_not_allow_is_named(
    campaign: Campaign, checkpoints: list[dict[str, Any]]
) -> None:
    """What was spent, kept and ratified before it counts."""
    for row, old, new, link in (
        (b'"kind":"verdict"', b'"budget_before":', b'"budget_before":1', "budget arithmetic"),
        (b'"action":"rollback"', b'"restore_seq":1,', b'"restore_seq":0,', "missing checkpoint"),
        (b'"action":"keep"', b'"g.py::b"', b'"g.py::c"', "gates"),
        (b'"kind":"verdict"', b'"harness_tree":"', b'"harness_tree":"0', "source tree not pinned"),
    ):
        # Rows up to the checkpoint stay as they are; those behind it are sealed anew.
        at = next(n for n, line in enumerate(campaign.lines(CUTOVER)) if n > 4 and row in line)
        copy = Campaign(campaign.root).copy(campaign.root.parent / link.replace(" ", "-"))
        copy.reseal(lambda name, seq, body, at=at, old=old, new=new: (  # type: ignore[misc]
            body.replace(old, new) if (name, seq) == (CUTOVER, at) else body
        ))  # fmt: skip
        since = checkpoints[at - 2]
        words = read(*copy.data())
        assert words.startswith(f"{link}: cutover-audit.jsonl, line {at + 1}"), (old, words)
        assert read(*copy.data(), since) == words


def test_older_heads_kept_elsewhere_are_still_rows(
    campaign: Campaign, checkpoints: list[dict[str, Any]]
) -> None:
    lines = campaign.lines(CUTOVER)
    heads = [f"cutover-audit {n}:{hashlib.sha256(line).hexdigest()}\n" for n, line in enumerate(lines)]  # fmt: skip
    since = checkpoints[-1]
    assert verify(campaign.root, TAG, anchors="".join(heads), since=since).problems == []
    false = heads[3].replace("audit 3:", "audit 4:")
    problems = verify(campaign.root, TAG, anchors=false, since=since).problems
    assert str(problems[0]) == "rewritten history: anchors: row 4 of cutover-audit had another hash"


def test_findings_before_a_checkpoint_are_looked_at_again_and_candidates_are_not(
    campaign: Campaign, checkpoints: list[dict[str, Any]]
) -> None:
    since = checkpoints[-1]

    def said() -> tuple[str, str]:
        full = verify(campaign.root, TAG).problems
        return str(verify(campaign.root, TAG, since=since).problems[:1]), str(full[:1])

    assert said() == ("[]", "[]")
    first = next(iter(verify(campaign.root, TAG).findings)).commit
    keep = campaign.repository.head_commit()
    for pin in (f"{REFS}/restore/{first}", f"{REFS}/restore/{git(campaign.root, 'rev-parse', 'HEAD~')}"):  # fmt: skip
        oid = git(campaign.root, "rev-parse", pin)
        git(campaign.root, "update-ref", "-d", pin)
        incremental, full = said()
        assert "missing checkpoint" in incremental
        assert full != "[]"
        git(campaign.root, "update-ref", pin, oid)
    for what in (keep, first, f"{keep}^{{tree}}"):
        oid = git(campaign.root, "rev-parse", what)
        path = campaign.root / ".git" / "objects" / oid[:2] / oid[2:]
        path.rename(path.with_suffix(".away"))
        assert "[]" not in said()
        path.with_suffix(".away").rename(path)
    assert said() == ("[]", "[]")
    candidate = git(campaign.root, "for-each-ref", "--format=%(refname)", f"{REFS}/candidate").split()[0]  # fmt: skip
    git(campaign.root, "update-ref", "-d", candidate)
    incremental, full = said()
    assert "the candidate's pin" in full
    assert incremental == "[]"  # as docs/provenance.md says


def test_every_change_of_a_byte_of_a_checkpoint_is_refused(
    watched: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    whole = verify(watched.root, TAG, save=True).checkpoint
    for at, byte in enumerate(whole):
        path.write_bytes(whole[:at] + bytes([byte ^ 1]) + whole[at + 1 :])
        with pytest.raises(CannotTell, match="is no checkpoint of the campaign 'test', or was alt"):
            load_checkpoint(path, TAG)
    path.write_bytes(whole)
    with pytest.raises(CannotTell, match="is no checkpoint of the campaign 'other'"):
        load_checkpoint(path, "other")
    body = b'{"v":1,"tag":"test","ledgers":{"restore-source":[],"cutover-audit":[]}'
    path.write_bytes(body + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n')
    with pytest.raises(CannotTell, match="the checkpoint is none that a verification saves"):
        read(*watched.data(), load_checkpoint(path, TAG))
    assert json.loads(whole)["ledgers"].keys() == {"restore-source", "cutover-audit"}


def test_the_command_line_saves_a_checkpoint_of_what_passes(
    campaign: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint"
    assert verifier.main([str(campaign.root), "--save", str(path)]) == 0
    saved = path.read_bytes()
    campaign.judge("revert", b"RATE = 9\n")
    both = ["--since", str(path), "--save", str(path)]
    assert verifier.main([str(campaign.root), *both]) == 0
    assert capsys.readouterr().out.count("PASS: complete chain") == 2
    assert load_checkpoint(path, TAG)["changes"] == 12
    last = parse(campaign.lines(CUTOVER)[-2])
    campaign.ledger(CUTOVER).write_bytes(
        b"".join(campaign.lines(CUTOVER)[:-1]) + seal(b'{"kind":"torn-tail"}', Head(last.seq, last.sha256))
    )  # fmt: skip
    later = path.read_bytes()
    assert verifier.main([str(campaign.root), *both]) == 1
    assert path.read_bytes() == later != saved
    path.write_bytes(saved[:-9])
    assert verifier.main([str(campaign.root), *both]) == 2
    assert "is no checkpoint" in capsys.readouterr().err
    assert verifier.main([str(campaign.root), "--since", str(tmp_path / "nowhere")]) == 2
