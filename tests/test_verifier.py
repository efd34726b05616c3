"""
The verifier: every kind of damage is BLOCK, with its own words; honest campaigns are PASS.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from provenance import BRANCH, CUTOVER, SOURCE, TAG, Campaign
from test_vcs import git

from pytest_autoresearch import rows, verifier
from pytest_autoresearch.chain import EMPTY, Head, parse, seal
from pytest_autoresearch.records import Outcome, Stage
from pytest_autoresearch.verifier import Report, broken_link, check_chain, check_ledgers, verify

REFS = f"refs/autoresearch/{TAG}"


@pytest.fixture(scope="session")
def small_template(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A baseline, a keep and a revert."""
    made = Campaign.create(tmp_path_factory.mktemp("small") / "project")
    made.baseline()
    made.judge("keep", b"RATE = 1\n")
    made.judge("revert", b"RATE = 2\n")
    return made


@pytest.fixture(scope="session")
def whole_template(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Every kind of change."""
    return Campaign.create(tmp_path_factory.mktemp("whole") / "project").whole()


@pytest.fixture
def campaign(small_template: Campaign, tmp_path: Path) -> Campaign:
    return small_template.copy(tmp_path / "project")


@pytest.fixture
def whole(whole_template: Campaign, tmp_path: Path) -> Campaign:
    return whole_template.copy(tmp_path / "project")


def block(campaign: Campaign, **more: object) -> str:
    """What verifying says; it must be BLOCK."""
    broken = broken_link(verify(campaign.root, TAG, **more), None)  # type: ignore[arg-type]
    assert broken is not None
    return str(broken)


def passes(root: Path) -> Report:
    report = verify(root, TAG)
    assert report.problems == []
    return report


# ---- honest campaigns


def test_a_repository_of_sha256_passes(tmp_path: Path) -> None:
    campaign = Campaign.create(tmp_path / "project", "sha256")
    campaign.baseline()
    campaign.judge("keep", b"RATE = 1\n")
    assert len(passes(campaign.root).tip) == 64
    oid = git(campaign.root, "rev-parse", "HEAD~:prepare.py")
    replace_object(campaign, oid, "blob", b"kinder\n")
    assert "object does not reproduce its hash" in block(campaign)


def test_a_campaign_with_every_kind_of_change_passes(whole: Campaign) -> None:
    campaign = whole
    report = passes(campaign.root)
    found = [(state.kind, state.seq) for state in report.findings]
    assert found == [
        ("baseline", 0), ("keep", 1), ("keep", 3), ("ratify", 6), ("baseline", 7), ("keep", 8)
    ]  # fmt: skip
    assert report.pairs == 11
    # The way back leads past the keep that the alarm undid.
    assert [state.seq for state in report.findings[-1].chain()] == [8, 7, 6, 1, 0]
    assert report.heads == campaign.journal.heads()
    assert report.notes == []


def test_a_failed_keep_a_lost_payload_and_a_torn_end_pass(campaign: Campaign) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError('no "payload":{} here')

    journal, state = campaign.journal, campaign.journal.state()
    content = {"train.py": b"RATE = 3\n"}
    payload = next(c.payload for _, c in journal.cutovers() if isinstance(c.payload, rows.Verdict))
    from msgspec.structs import replace

    payload = replace(
        payload, budget_before=state.remaining, budget_after=state.remaining - 10, **campaign.candidate(content)
    )  # fmt: skip
    tip = campaign.repository.head_commit()
    target = campaign.repository.prepare_commit(content, parent=tip, message="m", when=1)
    intent = campaign.intent("keep", target=target, domain=payload.domain, cost=10)
    from pytest_autoresearch.recovery import stock_acts, stock_undo

    undo = stock_undo(campaign.repository)
    with journal.lock():
        done = journal.transact(intent, payload, fail, undo)
    assert done.cutover.resolution == "rolled-back"
    passes(campaign.root)

    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    lost = replace(payload, budget_before=70, budget_after=60)
    with journal.lock(), pytest.raises(KeyboardInterrupt):
        journal.transact(replace(intent, payload_sha256=""), lost, interrupt, undo)
    assert block(campaign).startswith("missing cutover-audit entry: restore-source.jsonl, line 6")
    shutil.rmtree(campaign.directory / "pending")
    with campaign.ledger(CUTOVER).open("ab") as file:
        file.write(b'{"v":1,"seq"')
    assert "torn by a crash" in block(campaign)
    with journal.lock():
        journal.recover(stock_acts(campaign.repository), undo)
    kinds = [json.loads(line)["data"]["kind"] for line in campaign.lines(CUTOVER)]
    assert kinds == ["opened", "cutover", "cutover", "cutover", "cutover", "torn-tail", "cutover"]
    passes(campaign.root)
    campaign.judge("keep", b"RATE = 4\n")
    passes(campaign.root)


def test_before_the_first_measured_baseline_the_project_may_be_mended(tmp_path: Path) -> None:
    campaign = Campaign.create(tmp_path / "project")
    campaign.halt()
    passes(campaign.root)
    campaign.baseline(after=rows.Reference(mean=None, sigma=None, n=0))
    git(campaign.root, "commit", "-q", "--allow-empty", "-m", "mended")
    passes(campaign.root)
    campaign.baseline()
    campaign.judge("keep", b"RATE = 1\n")
    assert [state.seq for state in passes(campaign.root).findings[-1].chain()] == [3, 2]


# ---- bytes: exhaustive


def test_every_change_of_a_byte_is_found(small_template: Campaign) -> None:
    """At every offset of both files: another value, a byte less, a byte twice, an end there."""
    whole = dict(zip((SOURCE, CUTOVER), small_template.data(), strict=True))
    tried = 0
    for name, data in whole.items():
        ledger = name.removesuffix(".jsonl")

        def found(damaged: bytes, name: str = name, ledger: str = ledger) -> bool:
            if check_chain(ledger, io.BytesIO(damaged)) is not None:
                return True
            both = {**whole, name: damaged}
            return check_ledgers(io.BytesIO(both[SOURCE]), io.BytesIO(both[CUTOVER])) is not None

        assert not found(data)
        for at, byte in enumerate(data):
            head, tail = data[:at], data[at + 1 :]
            for damaged in (
                head + bytes([byte ^ 1]) + tail,
                head + tail,
                head + bytes([byte, byte]) + tail,
                head,
            ):
                if damaged == data[: len(data) - 1] + data[-1:]:
                    continue
                assert found(damaged), (name, at, damaged[max(0, at - 20) : at + 20])
                tried += 1
    assert tried > 4 * 7000


def test_every_value_of_a_byte_is_found(small_template: Campaign) -> None:
    """All 255 others, in the last row, which no other row vouches for."""
    lines = small_template.lines(CUTOVER)
    start, last = b"".join(lines[:-1]), lines[-1]
    chain = [parse(line) for line in lines]
    assert chain[-1].prev == chain[-2].sha256
    for at in range(len(last)):
        for value in range(0, 256, 1 if at % 97 == 0 else 85):
            if value != last[at]:
                damaged = start + last[:at] + bytes([value]) + last[at + 1 :]
                assert check_chain("cutover-audit", io.BytesIO(damaged)) is not None, (at, value)


def test_every_move_of_lines_is_found(whole_template: Campaign) -> None:
    """Each line dropped, doubled or exchanged with each other one, in both files."""
    data = dict(zip((SOURCE, CUTOVER), whole_template.data(), strict=True))
    for name in data:
        lines = whole_template.lines(name)
        n = len(lines)
        variants = [lines[:i] + lines[i + 1 :] for i in range(n)]
        variants += [lines[:i] + lines[:1] + lines[i:] for i in range(n + 1)]
        variants += [lines[: i + 1] + lines[i:] for i in range(n)]
        for i, j in itertools.combinations(range(n), 2):
            swapped = list(lines)
            swapped[i], swapped[j] = lines[j], lines[i]
            variants.append(swapped)
        for variant in variants:
            both = {**data, name: b"".join(variant)}
            assert check_ledgers(io.BytesIO(both[SOURCE]), io.BytesIO(both[CUTOVER])), variant


def test_a_tail_dropped_from_both_files_is_found_by_what_git_remembers(whole: Campaign) -> None:
    """Chains and pairs hold; the heads do not, or the branch, or a pinned keep."""
    sources, ends = whole.lines(SOURCE), whole.lines(CUTOVER)
    for left in range(len(ends)):
        whole.ledger(SOURCE).write_bytes(b"".join(sources[:left]))
        whole.ledger(CUTOVER).write_bytes(b"".join(ends[:left]))
        assert check_ledgers(*map(io.BytesIO, whole.data())) is None
        words = block(whole)
        assert words.startswith(("dropped tail", "undocumented step", "rewritten history")), words
    whole.ledger(SOURCE).unlink()
    whole.ledger(CUTOVER).unlink()
    assert "dropped tail: test: there are no ledgers, but" in block(whole)


def test_a_dropped_keep_is_found_by_its_commit_alone(whole: Campaign) -> None:
    git(whole.root, "update-ref", "-d", f"{REFS}/heads")
    for name in (SOURCE, CUTOVER):
        whole.ledger(name).write_bytes(b"".join(whole.lines(name)[:4]))
    assert "branch autoresearch/test" in block(whole)
    keep = whole.journal.state().incumbent
    assert keep is not None
    git(whole.root, "update-ref", f"refs/heads/{BRANCH}", keep.commit)
    words = block(whole)
    assert words.startswith(f"dropped tail: {REFS}/restore/")
    assert "has no row: rows were dropped, or it is forged" in words


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "byte order mark": (lambda data: b"\xef\xbb\xbf" + data, "line 1: not a ledger's row"),
    "CRLF": (lambda data: data.replace(b"\n", b"\r\n"), "line 1: not a ledger's row"),
    "not UTF-8": (lambda data: data + b"\xff\xfe\n", "line 5: not a ledger's row"),
    "endless line": (
        lambda data: data + b"{" * (verifier.MAX_ROW + 7),
        "longer than 1048576 bytes",
    ),
    "NULs": (lambda data: data + b"\0" * 4096, "4096 bytes without a line end"),
    "empty line": (lambda data: data + b"\n", "line 5: not a ledger's row"),
    "version": (
        lambda data: data.replace(b'"v":1', b'"v":2'),
        "schema version 2, but this verifier reads",
    ),
    "text": (
        lambda data: data.replace(b"keep", b"kept", 1),
        "altered row: cutover-audit.jsonl, line 2",
    ),
    "leading zero": (
        lambda data: data.replace(b'"seq":0', b'"seq":00', 1),
        "line 1: not a ledger's row",
    ),
    "emptied": (
        lambda _: b"",
        "missing cutover-audit entry: restore-source.jsonl, line 2: this baseline",
    ),
    "foreign": (lambda _: b"notes\n", "line 1: not a ledger's row, to the byte"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_said_in_words(campaign: Campaign, name: str) -> None:
    damage, words = DAMAGE[name]
    path = campaign.ledger(CUTOVER)
    path.write_bytes(damage(path.read_bytes()))
    assert words in block(campaign)


HOSTILE = [
    (b'{"kind":"cutover","source":{}' + b',"a":[' * 20 + b"0}", "not the JSON of a row"),
    (
        b'{"kind":"cutover","payload":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        "not the JSON of a row",
    ),
    (b'{"kind":"cutover","kind":"cutover"}', "a field stands there twice"),
    (b'{"kind":"cutover","source":NaN}', "NaN is no number"),
    (b'{"kind":"cutover","source":Infinity}', "Infinity is no number"),
    (b'{"kind":"cutover","source":' + b"9" * 5000 + b"}", "not the JSON of a row"),
    (b'{"kind":"cutover","source":[]}', "field 'payload' is missing or no dict"),
    (b'{"kind":"surprise"}', "'surprise' is no kind of row that belongs here"),
    (b'{"kind":"opened","ledger":"cutover-audit"}', "'opened' is no kind of row that belongs"),
    (b'{"kind":"cutover","payload":{},"source":{"seq":true}}', "not a cutover's row, to the byte"),
]


def test_hostile_json_in_a_sealed_row_is_refused(small_template: Campaign) -> None:
    """Whoever can write the file can seal a row; reading it must not fail in another way."""
    source, _ = small_template.data()
    lines = small_template.lines(CUTOVER)
    for body, words in HOSTILE:
        lines[-1] = seal(body, Head(2, hashlib.sha256(lines[-2]).hexdigest()))
        found = check_ledgers(io.BytesIO(source), io.BytesIO(b"".join(lines)))
        assert words in str(found), body[:80]


def test_something_else_in_the_place_of_a_ledger_is_named(
    campaign: Campaign, tmp_path: Path
) -> None:
    path = campaign.ledger(SOURCE)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "foreign file: restore-source.jsonl: cannot be read" in block(campaign)
    path.unlink()
    os.mkfifo(path)
    assert "restore-source.jsonl is not a regular file" in block(campaign)
    path.unlink()
    path.mkdir()
    assert "foreign file: restore-source.jsonl" in block(campaign)
    path.rmdir()
    assert block(campaign).startswith("restore pair mismatch: cutover-audit.jsonl, line 2")
    shutil.copyfile(campaign.ledger(CUTOVER), path)
    assert "row 0 does not open the ledger 'restore-source'" in block(campaign)


def test_ledgers_of_another_campaign_are_foreign(campaign: Campaign) -> None:
    other = campaign.root / ".autoresearch" / "other"
    shutil.copytree(campaign.directory, other)
    broken = broken_link(verify(campaign.root, "other"), None)
    assert "foreign file: cutover-audit.jsonl, line 2: it belongs to the campaign 'test'" in str(
        broken
    )


# ---- rows that were written so: a forger with the package


def resealed(campaign: Campaign, name: str, old: bytes, new: bytes) -> str:
    """Both ledgers rewritten whole with one text replaced; what reading the rows alone says."""

    def edit(file: str, _: int, body: bytes) -> bytes:
        return body.replace(old, new) if file == name else body

    before = campaign.data()
    campaign.reseal(edit)
    assert campaign.data() != before
    return str(check_ledgers(*map(io.BytesIO, campaign.data()), tag=TAG) or "")


def test_a_campaign_sealed_anew_holds_by_itself_and_is_rewritten_history(
    campaign: Campaign,
) -> None:
    assert resealed(campaign, CUTOVER, b'"metric":0.31', b'"metric":0.21') == ""
    words = block(campaign)
    assert words.startswith("rewritten history: cutover-audit.jsonl, line 3: the keep commit")
    assert "restore-source ended in row 1 with another hash" in words


def test_without_a_keep_the_remembered_heads_show_rewritten_history(tmp_path: Path) -> None:
    campaign = Campaign.create(tmp_path / "project")
    campaign.baseline()
    campaign.judge("revert", b"RATE = 1\n")
    assert resealed(campaign, CUTOVER, b'"metric":0.31', b'"metric":0.21') == ""
    assert f"rewritten history: {REFS}/heads: row 2 of restore-source had another hash" in block(
        campaign
    )
    git(campaign.root, "update-ref", "-d", f"{REFS}/heads")
    passes(campaign.root)  # what nobody remembers, nobody can miss: hence heads kept elsewhere


def test_links_between_the_ledgers_are_held_together(campaign: Campaign) -> None:
    whole = campaign.data()
    cases = {
        (SOURCE, b'"action":"revert"', b'"action":"keep"'): "does not settle the change in line 4",
        (CUTOVER, b'"result":"', b'"result":"0000'): "its result is '0000",
        (CUTOVER, b'"resolution":"done"', b'"resolution":"rolled-back"'): "its result is",
        (SOURCE, b'"cost":10', b'"cost":20'): "budget arithmetic: cutover-audit.jsonl, line 3: it costs 10, its intent 20",
        (CUTOVER, b'"decision":"revert"', b'"decision":"keep"'): "the verdict is 'keep', but a revert was made",
        (CUTOVER, b'"budget_after":90', b'"budget_after":95'): "100 units before and 95 after it",
        (CUTOVER, b'"budget":100', b'"budget":200'): "100 units before and 90 after it, but the rows leave 200",
        (CUTOVER, b'"data_sha256":"dddd', b'"data_sha256":"eeee'): "",
        (CUTOVER, b'"outcome":"passed"', b'"outcome":"xfailed"'): "the gate 'g.py::a' is xfailed",
        (CUTOVER, b'"tag":"test"', b'"tag":"toast"'): "belongs to the campaign 'toast'",
    }  # fmt: skip
    for (name, old, new), words in cases.items():
        for file, data in zip((SOURCE, CUTOVER), whole, strict=True):
            campaign.ledger(file).write_bytes(data)
        found = resealed(campaign, name, old, new)
        assert words in found, (old, found)
        assert bool(words) == bool(found)


def test_a_payload_that_was_not_announced_is_a_pair_mismatch(campaign: Campaign) -> None:
    lines = campaign.lines(CUTOVER)
    body = lines[-1][lines[-1].index(b',"data":') + 8 : -78].replace(b'"RATE"', b'"RAKE"')
    lines[-1] = seal(body, parse(lines[-2]).head)
    campaign.ledger(CUTOVER).write_bytes(b"".join(lines))
    words = "restore pair mismatch: cutover-audit.jsonl, line 4: it holds another payload than its intent"
    assert words in block(campaign)


def test_an_end_without_its_intent_is_a_pair_mismatch(campaign: Campaign) -> None:
    _, last = list(campaign.journal.cutovers())[-1]
    campaign.journal.cutover.append(last)
    assert "it settles a change that restore-source.jsonl does not have" in block(campaign)


def gate(name: str, outcome: Outcome) -> rows.Gate:
    return rows.Gate(nodeid=name, stage=Stage.POST, outcome=outcome)


PASSED = Outcome.PASSED


BAD_KEEPS = [
    (
        {"gates": (gate("g.py::a", PASSED),)},
        "gates: cutover-audit.jsonl, line 5: a keep, but the gate 'g.py::b' is missing",
    ),
    (
        {"gates": (gate("g.py::a", PASSED), gate("g.py::b", Outcome.SKIPPED))},
        "the gate 'g.py::b' is skipped",
    ),
    (
        {"gates": (gate("g.py::a", PASSED), gate("g.py::b", PASSED), gate("g.py::c", PASSED))},
        "other gates than the pinned ones: ['g.py::c']",
    ),
    (
        {
            "gates": (
                gate("g.py::a", PASSED),
                gate("g.py::b", Outcome.FAILED),
                gate("g.py::b", PASSED),
            )
        },
        "a gate stands there twice",
    ),
    ({"gates": ()}, "the gate 'g.py::a' is missing"),
    (
        {"budget_before": 100, "budget_after": 90},
        "budget arithmetic: cutover-audit.jsonl, line 5: 100 units before",
    ),
    (
        {"harness_tree": "0" * 40},
        "source tree not pinned: cutover-audit.jsonl, line 5: judged by the harness 000000000000",
    ),
    ({"data_sha256": "e" * 64}, "judged on other data than the baseline pinned"),
    (
        {"candidate": "f" * 64},
        "surface mismatch: cutover-audit.jsonl, line 5: the candidate's digest",
    ),
    (
        {"snapshot": f"{REFS}/candidate/{'0' * 40}"},
        "missing checkpoint: cutover-audit.jsonl, line 5: the candidate's pin",
    ),
    ({"message": lambda _: "better\n"}, "carries no Autoresearch-Restore-Source"),
    (
        {"message": lambda text: text + text.rpartition("\n\n")[2]},
        "carries no Autoresearch-Restore-Source",
    ),
    (
        {"message": lambda text: text.replace("Audit: 3:", "Audit: 2:")},
        "when cutover-audit ended in row 2 with another hash",
    ),
    (
        {"message": lambda text: text.replace("Source: 3:", "Source: 9:")},
        "when restore-source ended in row 9",
    ),
    (
        {"extra": {"prepare.py": b"kinder\n"}},
        "undocumented step: cutover-audit.jsonl, line 5: the keep commit",
    ),
    ({"extra": {"gates/deep/g.py": b"def test_a(): 1\n"}}, "changes 'gates/deep/g.py' as well"),
    ({"surface": {"train.py": "0" * 40}}, "surface mismatch"),
]


@pytest.mark.parametrize("case", range(len(BAD_KEEPS)))
def test_a_keep_that_its_rows_do_not_allow_is_named(campaign: Campaign, case: int) -> None:
    more, words = BAD_KEEPS[case]
    campaign.judge("keep", b"RATE = 3\n", **more)  # type: ignore[arg-type]
    assert words in block(campaign)
    # What came before it still holds.
    assert broken_link(verify(campaign.root, TAG), 1) is None


def test_a_row_sealed_anew_breaks_the_chain_behind_it(campaign: Campaign) -> None:
    """Its own hash holds; the row behind it names another."""
    lines = campaign.lines(CUTOVER)
    body = lines[1][lines[1].index(b',"data":') + 8 : -78]
    forged = seal(body, Head(0, hashlib.sha256(lines[0]).hexdigest()))
    assert check_chain("cutover-audit", io.BytesIO(lines[0] + forged)) is None
    found = check_chain("cutover-audit", io.BytesIO(b"".join([lines[0], forged, *lines[2:]])))
    assert "line 3: row 2 was written behind another row than the one before it" in str(found)


def test_a_keep_beside_the_incumbent_is_rewritten_history(campaign: Campaign) -> None:
    base = git(campaign.root, "rev-parse", "HEAD~")
    campaign.judge("keep", b"RATE = 3\n", parent=base)
    assert "is not the incumbent" in block(campaign)


def test_a_verdict_on_another_commit_than_the_incumbent_is_undocumented(campaign: Campaign) -> None:
    git(campaign.root, "commit", "-q", "--allow-empty", "-m", "by hand")
    campaign.judge("revert", b"RATE = 3\n")
    words = "undocumented step: cutover-audit.jsonl, line 5: the branch stood at"
    assert words in block(campaign)


def test_an_alarm_goes_back_to_a_state_that_was_kept(campaign: Campaign) -> None:
    with pytest.raises(IndexError):
        campaign.judge("rollback", b"RATE = 3\n", alarm_to=7)
    # Position 2 is the revert: what stood then was the keep, where the branch already is.
    campaign.judge("rollback", b"RATE = 3\n", alarm_to=2)
    assert "altered row" in block(campaign)


def test_nobody_ratified_is_no_ratification(campaign: Campaign) -> None:
    campaign.ratify(actor="")
    assert "nobody ratified it: the actor is empty" in block(campaign)


# ---- the repository


def loose(campaign: Campaign, oid: str) -> Path:
    return campaign.root / ".git" / "objects" / oid[:2] / oid[2:]


def replace_object(campaign: Campaign, oid: str, kind: str, content: bytes) -> None:
    path = loose(campaign, oid)
    path.chmod(0o644)
    path.write_bytes(zlib.compress(f"{kind} {len(content)}\0".encode() + content))


def test_a_commit_that_no_row_explains_is_an_undocumented_step(campaign: Campaign) -> None:
    (campaign.root / "train.py").write_bytes(b"RATE = 9\n")
    git(campaign.root, "commit", "-q", "-a", "-m", "by hand")
    head = git(campaign.root, "rev-parse", "HEAD")
    words = f"undocumented step: branch autoresearch/test: no row explains the commit {head[:12]}"
    assert words in block(campaign)
    report = verify(campaign.root, TAG)
    assert broken_link(report, 1) is None
    state = verifier.last_verified(report)
    assert state is not None
    assert state.commit == campaign.repository.tree_of("HEAD") or state.seq == 1


def test_a_forged_keep_commit_is_a_step_without_a_row(campaign: Campaign) -> None:
    heads = campaign.journal.heads()
    message = f"better\n\nAutoresearch-Restore-Source: {heads['restore-source']}\n"
    git(campaign.root, "commit", "-q", "--allow-empty", "-m", message)
    assert "dropped tail: branch autoresearch/test: the keep commit" in block(campaign)


def test_a_restore_point_that_is_gone_is_a_missing_checkpoint(campaign: Campaign) -> None:
    keep = campaign.repository.head_commit()
    name = f"{REFS}/restore/{keep}"
    git(campaign.root, "update-ref", "-d", name)
    words = f"missing checkpoint: cutover-audit.jsonl, line 4: the restore point '{name}' is absent"
    assert block(campaign).endswith(words)
    git(campaign.root, "update-ref", name, f"{keep}~")
    assert "holds" in block(campaign)
    git(campaign.root, "update-ref", name, keep)
    passes(campaign.root)
    loose(campaign, keep).unlink()
    assert f"the object {keep} is missing" in block(campaign)


def test_a_candidate_that_is_gone_is_a_missing_checkpoint(campaign: Campaign) -> None:
    pins = git(campaign.root, "for-each-ref", "--format=%(refname)", f"{REFS}/candidate").split()
    assert len(pins) == 3
    for pin in pins:
        oid = git(campaign.root, "rev-parse", pin)
        git(campaign.root, "update-ref", "-d", pin)
        assert f"the candidate's pin '{pin}' is absent or moved" in block(campaign)
        git(campaign.root, "update-ref", pin, oid)
    blob = git(campaign.root, "rev-parse", f"{pins[-1]}:train.py")
    content = loose(campaign, blob).read_bytes()
    loose(campaign, blob).unlink()
    assert f"the object {blob} is missing" in block(campaign)
    loose(campaign, blob).write_bytes(content)
    passes(campaign.root)


def test_a_source_tree_that_is_gone_is_not_pinned(campaign: Campaign) -> None:
    base = git(campaign.root, "rev-parse", f"{BRANCH}~1")
    name = f"{REFS}/restore/{base}"
    git(campaign.root, "update-ref", "-d", name)
    assert (
        f"source tree not pinned: cutover-audit.jsonl, line 2: the restore point '{name}'"
        in block(campaign)
    )
    git(campaign.root, "update-ref", name, base)
    for path in ("prepare.py", "gates/deep/g.py", "gates"):
        oid = git(campaign.root, "rev-parse", f"{base}:{path}")
        kept = loose(campaign, oid).read_bytes()
        loose(campaign, oid).unlink()
        words = f"source tree not pinned: cutover-audit.jsonl, line 2: the object {oid} is missing"
        assert words in block(campaign)
        loose(campaign, oid).write_bytes(kept)
    passes(campaign.root)


@pytest.mark.parametrize(
    "what", ["HEAD", "HEAD^{tree}", "HEAD:train.py", "HEAD~:prepare.py", "HEAD~:gates/deep"]
)
def test_an_object_with_another_content_does_not_reproduce_its_hash(
    campaign: Campaign, what: str
) -> None:
    """Git serves it without a word."""
    oid = git(campaign.root, "rev-parse", what)
    kind = git(campaign.root, "cat-file", "-t", oid)
    content = zlib.decompress(loose(campaign, oid).read_bytes()).partition(b"\0")[2]
    replace_object(campaign, oid, kind, content + b" ")
    assert git(campaign.root, "cat-file", "-s", oid) == str(len(content) + 1)
    words = block(campaign)
    assert words.startswith("object does not reproduce its hash: cutover-audit.jsonl, line")
    assert oid in words


def test_an_object_that_cannot_be_read_is_missing(campaign: Campaign) -> None:
    oid = git(campaign.root, "rev-parse", "HEAD~:prepare.py")
    loose(campaign, oid).chmod(0o644)
    loose(campaign, oid).write_bytes(b"rot")
    assert oid in block(campaign)


def test_a_replacement_or_a_graft_is_not_looked_at(campaign: Campaign) -> None:
    base, keep = git(campaign.root, "rev-parse", "HEAD~", "HEAD").split()
    other = git(campaign.root, "commit-tree", f"{base}^{{tree}}", "-m", "other")
    git(campaign.root, "replace", keep, other)
    (campaign.root / ".git" / "info").mkdir(exist_ok=True)
    (campaign.root / ".git" / "info" / "grafts").write_text(f"{keep}\n")
    assert git(campaign.root, "log", "-1", "--format=%s", keep) == "other"
    passes(campaign.root)


def test_a_moved_or_deleted_branch_is_rewritten_history(campaign: Campaign) -> None:
    base, keep = git(campaign.root, "rev-parse", "HEAD~", "HEAD").split()
    git(campaign.root, "update-ref", f"refs/heads/{BRANCH}", base)
    words = f"rewritten history: branch autoresearch/test: it ends at {base[:12]}, without the incumbent {keep[:12]}"
    assert words in block(campaign)
    git(campaign.root, "update-ref", "-d", f"refs/heads/{BRANCH}")
    assert "there is no such branch" in block(campaign)
    git(campaign.root, "update-ref", f"refs/heads/{BRANCH}", keep)
    passes(campaign.root)
    git(campaign.root, "commit", "-q", "--amend", "-m", "reworded")
    assert "rewritten history: branch autoresearch/test: it ends at" in block(campaign)


def test_a_model_that_was_exchanged_is_an_artifact_mismatch(campaign: Campaign) -> None:
    model = campaign.directory / "runs" / "000001" / "model.pt2"
    model.write_bytes(b"better weights")
    words = "artifact hash mismatch: cutover-audit.jsonl, line 3: runs/000001/model.pt2 is not the model"
    assert words in block(campaign)
    model.unlink()
    passes(campaign.root)  # models may be deleted, their rows stay
    model.symlink_to("/etc/passwd")
    assert "artifact hash mismatch" in block(campaign)


def test_a_pinned_candidate_without_a_row_is_a_note(campaign: Campaign) -> None:
    """A session that was killed before its row leaves one."""
    campaign.candidate({"train.py": b"RATE = 7\n"})
    report = passes(campaign.root)
    assert report.notes[0].startswith("1 pinned candidates are named by no row")


def test_a_pinned_keep_of_an_earlier_campaign_is_no_dropped_row(campaign: Campaign) -> None:
    """A first session that was cut short has pinned where it stood, and nothing else."""
    keep = campaign.repository.head_commit()
    git(campaign.root, "update-ref", f"refs/autoresearch/second/restore/{keep}", keep)
    git(campaign.root, "commit", "-q", "--allow-empty", "-m", "on top")
    git(campaign.root, "checkout", "-q", "-b", "autoresearch/second")
    second = Campaign(campaign.root, "second")
    second.baseline()
    assert verify(campaign.root, "second").problems == []
    assert second.directory.name == "second"
    # The same pin in a campaign that does not stand on it is a keep without a row.
    other = git(
        campaign.root, "commit-tree", "HEAD^{tree}", "-p", f"{keep}~", "-m", trailers(campaign)
    )
    git(campaign.root, "update-ref", f"refs/autoresearch/second/restore/{other}", other)
    assert "dropped tail" in str(broken_link(verify(campaign.root, "second"), None))


def trailers(campaign: Campaign) -> str:
    return f"x\n\nAutoresearch-Restore-Source: {campaign.journal.heads()['restore-source']}\n"


def test_a_damaged_finding_blocks_what_rests_on_it_and_nothing_else(whole: Campaign) -> None:
    keeps = {row.seq: row for row in whole.journal.state().settled}
    git(whole.root, "update-ref", "-d", f"{REFS}/restore/{keeps[3].commit}")
    report = verify(whole.root, TAG)
    assert broken_link(report, None) is not None
    # The rollback row is damaged; every state's own way back to the source holds.
    assert [broken_link(report, seq) for seq in (0, 1, 3, 8)] == [None] * 4
    git(whole.root, "update-ref", f"{REFS}/restore/{keeps[3].commit}", keeps[3].commit)
    git(whole.root, "update-ref", "-d", f"{REFS}/restore/{keeps[1].commit}")
    report = verify(whole.root, TAG)
    assert [broken_link(report, seq) is None for seq in (0, 1, 3, 8)] == [True, True, False, True]


# ---- anchors elsewhere, clones, the command line


def test_heads_kept_elsewhere_show_a_campaign_that_was_rewritten_whole(tmp_path: Path) -> None:
    campaign = Campaign.create(tmp_path / "project")
    campaign.baseline()
    campaign.judge("revert", b"RATE = 1\n")
    anchors = "".join(f"{name} {head}\n" for name, head in passes(campaign.root).heads.items())
    campaign.judge("revert", b"RATE = 2\n")
    assert verify(campaign.root, TAG, anchors=anchors).problems == []
    sources, ends = campaign.lines(SOURCE), campaign.lines(CUTOVER)
    git(campaign.root, "update-ref", "-d", f"{REFS}/heads")
    campaign.ledger(SOURCE).write_bytes(b"".join(sources[:2]))
    campaign.ledger(CUTOVER).write_bytes(b"".join(ends[:2]))
    assert verify(campaign.root, TAG).problems == []
    words = "dropped tail: anchors: restore-source had a row 2, but ends at row 1"
    assert words in block(campaign, anchors=anchors)
    campaign.ledger(SOURCE).write_bytes(b"".join(sources))
    campaign.ledger(CUTOVER).write_bytes(b"".join(ends))
    resealed(campaign, CUTOVER, b'"metric":0.31', b'"metric":0.21')
    assert "rewritten history: anchors: row 2 of restore-source" in block(campaign, anchors=anchors)
    assert verifier.last_verified(verify(campaign.root, TAG, anchors=anchors)) is None
    assert "no heads are written there" in block(campaign, anchors="nothing\n")
    assert "'other' is no ledger" in block(campaign, anchors=f"other 1:{'0' * 64}\n")


def clone(campaign: Campaign, root: Path) -> Path:
    git(
        campaign.root,
        "clone",
        "-q",
        "--no-local",
        "--branch",
        BRANCH,
        str(campaign.root),
        str(root),
    )
    for name in (SOURCE, CUTOVER):
        path = root / ".autoresearch" / TAG / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(campaign.ledger(name), path)
    return root


def test_a_clone_with_the_pins_and_the_ledgers_verifies(whole: Campaign, tmp_path: Path) -> None:
    root = clone(whole, tmp_path / "clone")
    broken = str(broken_link(verify(root, TAG), None))
    assert broken.startswith("source tree not pinned: cutover-audit.jsonl, line 2")
    spec = "+refs/autoresearch/*:refs/autoresearch/*"
    assert f"git fetch origin '{spec}'" in broken
    git(root, "fetch", "-q", "origin", spec)
    assert len(passes(root).findings) == 6
    # Packed, too, and without a work tree.
    git(root, "gc", "-q", "--prune=now")
    passes(root)
    git(root, "update-ref", f"refs/heads/{BRANCH}", "HEAD~2")
    assert "rewritten history" in str(broken_link(verify(root, TAG), None))


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False, env=environment
    )  # fmt: skip


@pytest.fixture
def standalone(tmp_path: Path) -> tuple[str | Path, ...]:
    """The file alone, in an interpreter that finds no installed package."""
    path = shutil.copyfile(verifier.__file__, tmp_path / "verifier.py")
    return (sys.executable, "-I", "-S", path)


def test_the_file_alone_is_the_whole_tool(
    campaign: Campaign, tmp_path: Path, standalone: tuple[str | Path, ...]
) -> None:
    result = run(*standalone, campaign.root)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split()[:3] for line in lines[:-1]] == [
        ["ok", "1", "keep"],
        ["ok", "0", "baseline"],
    ]
    assert lines[-1].startswith("PASS: complete chain: the campaign, 8 rows, 3 changes, 1 keeps")
    assert "PASS: complete chain: finding 1" in run(*standalone, campaign.root, "--seq", "1").stdout
    result = run(*standalone, campaign.root, "--seq", "2")
    assert (result.returncode, result.stdout) == (2, "")
    assert "2 is no finding: baselines and keeps are 0, 1" in result.stderr
    document = json.loads(run(*standalone, campaign.root, "--json").stdout)
    assert (document["verdict"], document["broken"], document["heads"]) == (
        "PASS", None, campaign.journal.heads()
    )  # fmt: skip
    heads = tmp_path / "heads"
    heads.write_text(run(*standalone, campaign.root, "--heads").stdout)
    assert run(*standalone, campaign.root, "--anchors", heads).returncode == 0
    path = campaign.ledger(CUTOVER)
    path.write_bytes(path.read_bytes().replace(b'"status":"revert"', b'"status":"\x1b[32mPASS"'))
    result = run(*standalone, campaign.root)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].startswith(
        "BLOCK: altered row: cutover-audit.jsonl, line 4"
    )
    assert "\x1b" not in result.stdout
    document = json.loads(run(*standalone, campaign.root, "--json").stdout)
    assert (document["verdict"], document["broken"]["link"]) == ("BLOCK", "altered row")
    assert document["changes"] == 2


def test_what_cannot_be_told_has_its_own_status(
    campaign: Campaign, tmp_path: Path, standalone: tuple[str | Path, ...]
) -> None:
    for arguments, words in (
        ((tmp_path / "nowhere",), "is no git repository"),
        ((campaign.root, "--tag", "other"), "no campaign 'other'"),
        ((campaign.root, "--tag", "../x"), "cannot be a campaign's tag"),
        ((campaign.root, "--anchors", tmp_path / "nowhere"), "No such file"),
    ):
        result = run(*standalone, *arguments)
        assert result.returncode == 2, result
        assert words in result.stderr
    shutil.copytree(campaign.directory, campaign.directory.parent / "second")
    assert run(*standalone, campaign.root).returncode == 0  # the branch's
    git(campaign.root, "checkout", "-q", "--detach")
    words = "several campaigns, choose one with --tag: second, test"
    assert words in run(*standalone, campaign.root).stderr
    assert run(*standalone, campaign.root, "--tag", "test").returncode == 0


def test_the_printed_commands_go_back_to_the_last_verified_state(
    campaign: Campaign, standalone: tuple[str | Path, ...]
) -> None:
    keep = campaign.repository.head_commit()
    git(campaign.root, "commit", "-q", "--allow-empty", "-m", "by hand")
    result = run(*standalone, campaign.root, "--restore")
    assert result.returncode == 1
    commands = result.stdout[result.stdout.index("git -C") :]
    assert run("sh", "-ec", commands).returncode == 0
    assert campaign.repository.head_commit() == keep
    passes(campaign.root)


def test_nothing_in_the_repository_steers_the_verifier(
    campaign: Campaign, tmp_path: Path, standalone: tuple[str | Path, ...]
) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'sprung'}\n")
    trap.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    shutil.copy(trap, hooks / "reference-transaction")
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "filter.x.smudge",
        "alias.cat-file",
    ):
        git(campaign.root, "config", key, f"!{trap}" if key.startswith("alias") else str(trap))
    git(campaign.root, "config", "core.hooksPath", str(hooks))
    (campaign.root / ".gitattributes").write_text("* filter=x\n")
    git(campaign.root, "config", "extensions.partialClone", "origin")
    git(campaign.root, "config", "remote.origin.url", f"ext::{trap}")
    git(campaign.root, "config", "remote.origin.promisor", "true")
    git(campaign.root, "config", "protocol.ext.allow", "always")
    assert run(*standalone, campaign.root).returncode == 0
    loose(campaign, git(campaign.root, "rev-parse", "HEAD~:prepare.py")).unlink()
    assert run(*standalone, campaign.root).returncode == 1
    assert not (tmp_path / "sprung").exists()


def test_reading_changes_nothing(campaign: Campaign) -> None:
    def state() -> dict[str, tuple[float, bytes]]:
        return {
            str(path): (path.stat().st_mtime, path.read_bytes())
            for path in campaign.root.rglob("*") if path.is_file()
        }  # fmt: skip

    before = state()
    passes(campaign.root)
    assert state() == before


def test_the_constants_of_both_sides_are_the_same() -> None:
    from pytest_autoresearch import chain

    assert (verifier.MAX_ROW, verifier.EMPTY) == (chain.MAX_ROW, EMPTY)
    assert Head(-1, hashlib.sha256(b"").hexdigest()) == Head(-1, verifier.EMPTY)


def test_no_session_starts_on_ledgers_that_end_before_what_git_remembers(tmp_path: Path) -> None:
    """A revert costs units and makes no commit: cut off, its units would be back."""
    from pytest_autoresearch.continuity import require_continuity
    from pytest_autoresearch.journal import JournalError

    campaign = Campaign.create(tmp_path / "project")
    campaign.baseline()
    campaign.judge("revert", b"RATE = 1\n")

    def start() -> None:
        state = campaign.journal.state()
        require_continuity(campaign.repository, campaign.journal, state, TAG)

    start()
    whole = dict(zip((SOURCE, CUTOVER), campaign.data(), strict=True))
    for name in whole:
        campaign.ledger(name).write_bytes(b"".join(campaign.lines(name)[:2]))
    with pytest.raises(
        JournalError, match=r"ends in row 1, but .* remembers another end, row 2: rows"
    ):
        start()
    for name, data in whole.items():
        campaign.ledger(name).write_bytes(data)
    resealed(campaign, CUTOVER, b'"metric":0.31', b'"metric":0.21')
    with pytest.raises(JournalError, match="remembers another end"):
        start()
    # What they remember may be a change old: a session was killed in between.
    for name, data in whole.items():
        campaign.ledger(name).write_bytes(data)
    heads = f"{REFS}/heads"
    lagging = "".join(
        f"{name.removesuffix('.jsonl')} 1:{hashlib.sha256(data.splitlines(True)[1]).hexdigest()}\n"
        for name, data in whole.items()
    )
    for text in (lagging, "", "restore-source 99:no\n"):
        blob = git(campaign.root, "hash-object", "-w", "--stdin", stdin=text.encode())
        git(campaign.root, "update-ref", heads, blob)
        start()


def test_the_page_on_provenance_explains_every_link_and_every_row() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "provenance.md").read_text("utf-8")
    source = Path(verifier.__file__).read_text("utf-8")
    links = set(re.findall(r'(?:Broken|_fail|_links)\(\s*"([a-z][a-z -]+)"', source))
    assert len(links) > 10
    table = text.partition("## What BLOCK says")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z -]+)`", table, re.MULTILINE)) == links
    kinds = text.partition("| action | payload |")[2].partition("\n\n")[0]
    for payload in rows.Payload.__args__:
        assert f"`{payload.__struct_config__.tag}`" in kinds, payload
