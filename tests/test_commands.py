"""
What people read of the record: log, show, export, status. Every command runs as the console script runs it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from provenance import CUTOVER, SOURCE, TAG, Campaign
from test_vcs import git

from pytest_autoresearch import rows
from pytest_autoresearch.changes import changes
from pytest_autoresearch.cli import main
from pytest_autoresearch.commands.status import _ago, _months_after
from pytest_autoresearch.keep import KeepRule, Reference, decide
from pytest_autoresearch.records import Domain
from pytest_autoresearch.report.detail import arithmetic
from pytest_autoresearch.report.export import COLUMNS, SEALED
from pytest_autoresearch.restoring import restore

HOSTILE = '\x1b[2J\r=cmd|" /C calc"!A0\n\u202e::set-output\x07 \udcff'
AUDITED = rows.Reference(mean=0.3, sigma=0.01, n=3, df=2, audit=0.123456)


@pytest.fixture(scope="module")
def told_template(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Every kind of change, a description that wants to steer whoever reads it, and figures of the audit split."""
    campaign = Campaign.create(tmp_path_factory.mktemp("told") / "project").whole()
    canary = rows.Canary(
        metric=0.3, audit=0.123457, residual=1.5, s_upper=1.0, s_lower=0.0, alarm=False
    )
    run = msgspec.structs.replace(campaign.run(), audit=0.123458)
    text = HOSTILE.encode("utf-8", "backslashreplace").decode()
    campaign.judge(
        "revert", b"RATE = 7\nDECAY = '\x1b[31m'\n", description=text, canary=canary, gap=0.123459,
        before=AUDITED, after=AUDITED, runs=(run,), metric=0.33,
    )  # fmt: skip
    return campaign


@pytest.fixture
def told(told_template: Campaign, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """For reading only."""
    monkeypatch.chdir(told_template.root)
    return told_template


@pytest.fixture
def own(told_template: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A copy to be damaged."""
    campaign = told_template.copy(tmp_path / "project")
    monkeypatch.chdir(campaign.root)
    return campaign


class Say(Protocol):
    def __call__(self, *arguments: str) -> Said: ...


class Said:
    """What a command printed."""

    def __init__(self, status: int, captured: pytest.CaptureResult[str]) -> None:
        self.status = status
        self.out, self.err = captured.out, captured.err
        self.lines = captured.out.splitlines()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command in this process."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        return Said(main([*arguments, "--tag", TAG]), capsys.readouterr())

    return run


def begin(campaign: Campaign) -> rows.Intent:
    """A change that a killed session left open."""
    intent = campaign.intent("revert", domain=Domain.HYPERPARAMETER, cost=10)
    campaign.journal.source.append(intent)
    return intent


# ---- log


def test_log_tells_every_change_newest_first(told: Campaign, say: Say) -> None:
    said = say("log", "--all")
    assert said.status == 0
    heads = [line for line in said.lines if re.match(r" *(\d+|row:\d+)  \d{4}-", line)]
    names = [line.split()[0] for line in heads]
    assert names == ["9", "row:11", "8", "7", "row:8", "6", "5", "4", "3", "2", "1", "0"]
    for word, name in (
        ("stop", "row:11"), ("baseline", "7"), ("ratify  by Ada", "row:8"), ("escalate", "6"), ("rollback", "5"),
        ("halt  by working tree", "4"), ("keep, in quarantine since", "3"), ("keep", "1"),
    ):  # fmt: skip
        line = heads[names.index(name)]
        assert word in line, name
    assert "val_loss 0.310000 +- 0.005774  -10 = 90 left" in heads[names.index("1")]
    assert "alarm of the gap chart: traced to 3, back at 1" in said.out
    assert "a stricter gate" in said.out
    assert "prepare.py changed" in said.out
    assert "all rounds are done (3 rounds, 1 s)" in said.out
    assert "canary: the incumbent again 0.300000, +1.5 sigma off" in said.out


def test_log_fits_a_screen_and_nothing_in_it_steers_a_terminal(told: Campaign, say: Say) -> None:
    said = say("log", "--all")
    assert max(map(len, said.lines)) <= 100
    assert all(line.isprintable() for line in said.lines)
    # A reader of logs takes these for commands.
    assert " ::set-output" not in said.out
    assert "\\x1b[2J" in said.out


def test_log_goes_back_as_far_as_is_asked(told: Campaign, say: Say) -> None:
    said = say("log", "-n", "2")
    assert [line.split()[0] for line in said.lines if "  20" in line] == ["9", "row:11"]
    with pytest.raises(SystemExit):
        say("log", "-n", "0")


def test_log_says_what_recovery_did_and_what_is_open(own: Campaign, say: Say) -> None:
    begin(own)
    said = say("log", "-n", "1")
    assert said.lines[0].split()[0] == "open"
    assert "revert: begun and not settled yet" in said.lines[0]
    assert "open:      the revert begun" in say("status").out
    last = json.loads(say("export", "--format", "jsonl").lines[-1])
    assert (last["resolution"], last["row"], last["action"]) == ("open", None, "revert")
    with own.journal.lock():
        from pytest_autoresearch.recovery import stock_acts, stock_undo

        own.journal.recover(stock_acts(own.repository), stock_undo(own.repository))
    said = say("log", "-n", "1")
    assert "revert, rolled back" in said.lines[0]
    assert "its payload was missing or damaged after a crash" in said.out
    assert "open:" not in say("status").out
    shown = say("show", "10")
    assert "10: revert, rolled back" in shown.out
    assert "10 units spent" in shown.out


def test_a_reader_that_leaves_early_gets_no_traceback(told: Campaign) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest_autoresearch.cli", "log", "--all", "--tag", TAG],
            cwd=told.root,
            check=False,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_reading_the_record_loads_nothing_heavy(told: Campaign) -> None:
    program = (
        "import sys; from pytest_autoresearch.cli import main\n"
        f"for command in (['log'], ['show', '1'], ['export', '--format', 'csv']):\n"
        f"    assert main([*command, '--tag', {TAG!r}]) == 0\n"
        "print({'torch', 'numpy', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=told.root, check=True, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.stderr.strip() == "set()"


# ---- show


def test_show_tells_all_of_a_finding(told: Campaign, say: Say) -> None:
    said = say("show", "1")
    assert said.status == 0
    change = next(c for c in changes(told.journal, told.journal.state()) if c.seq == 1)
    intent, payload = change.intent, change.payload
    for text in (
        "1: keep; row 2 of cutover-audit, row 2 of restore-source",
        "begun", "settled", "working tree", f"tree {payload.harness_tree}", payload.data_sha256,
        'gain: said "payload":{}', "reference 0.310000, mean of 3 runs", "passed g.py::a", "passed g.py::b",
        "100 units before, 10 spent, 90 after", f"commit {intent.tip}", f"{intent.pin} (there)",
        f"git restore --source={intent.tip} -- train.py", "PASS: finding 1", "-RATE = 0", "+RATE = 1",
    ):  # fmt: skip
        assert text in said.out, text


def test_every_kind_of_change_can_be_shown_and_nothing_in_it_steers_a_terminal(
    told: Campaign, say: Say
) -> None:
    shown = ("0", "4", "5", "6", "row:8", "row:11", "9")
    found = [c for c in changes(told.journal, told.journal.state()) if c.name in shown]
    assert len(found) == len(shown)
    for change in found:
        said = say("show", change.name)
        assert said.status == 0
        assert all(line.isprintable() for line in said.lines), change.name
        assert f"row {change.row.seq} of cutover-audit" in said.out
    assert "+DECAY = '\\x1b[31m'" in say("show", "9").out


def test_the_commands_that_show_prints_do_what_they_say(own: Campaign, say: Say) -> None:
    said = say("show", "8")
    told = dict(
        re.match(r"(look at it|compare|take it) +(git .*)", line).groups()
        for line in said.lines
        if re.match(r"look at it|compare|take it", line)
    )

    def shell(command: str) -> str:
        return subprocess.run(
            command, shell=True, cwd=own.root, check=True, capture_output=True, text=True
        ).stdout

    assert shell(told["look at it"]) == "RATE = 1\n"
    assert "-RATE = 1\n+RATE = 6\n" in shell(told["compare"])
    shell(told["take it"])
    assert (own.root / "train.py").read_text() == "RATE = 1\n"


def test_show_says_what_is_missing_and_what_the_verifier_makes_of_it(
    own: Campaign, say: Say
) -> None:
    intent = next(c.intent for c in changes(own.journal, own.journal.state()) if c.seq == 1)
    git(own.root, "update-ref", "-d", intent.pin)
    said = say("show", "1")
    assert f"{intent.pin} (MISSING)" in said.out.replace("\n" + " " * 15, " ")
    assert re.search(r"^verifier +BLOCK: missing checkpoint", said.out, re.MULTILINE)
    candidate = f"refs/autoresearch/{TAG}/candidate"
    for name in own.repository.pins(candidate):
        git(own.root, "update-ref", "-d", name)
    git(own.root, "reflog", "expire", "--expire=now", "--all")
    git(own.root, "gc", "-q", "--prune=now")
    assert "the difference cannot be shown" in say("show", "2").out


def test_a_restore_tells_who_decided_it_and_what_was_given_up(own: Campaign, say: Say) -> None:
    kept = next(c for c in changes(own.journal, own.journal.state()) if c.seq == 8)
    assert isinstance(kept.payload, rows.Verdict)
    git(own.root, "update-ref", "-d", kept.payload.snapshot)
    git(own.root, "restore", "train.py")
    restore(own.root, TAG, "Ada")
    said = say("log", "-n", "1")
    assert re.search(r"row:13 .*rollback  -\d+ units  by Ada", said.lines[0])
    assert "missing checkpoint" in said.out
    shown = say("show", "row:13").out
    assert "by             Ada" in shown
    assert f"stands on      commit {own.repository.head_commit()}" in shown
    assert "-RATE = 6\n+RATE = 1\n" in shown
    assert "8: keep, in quarantine since" in say("show", "8").out


@pytest.mark.parametrize("given", ["12", "row:99", "row:0", "one", "-1", "²"])
def test_a_number_that_nothing_has_is_refused_with_those_that_there_are(
    told: Campaign, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    assert main(["show", "--tag", TAG, "--", given]) == 2
    error = capsys.readouterr().err
    assert "SEQ is 0 to 9, as `autoresearch log` lists them; besides row:8, row:11" in error
    assert repr(given) in error


@pytest.mark.parametrize(
    ("seq", "action"), [("4", "halt"), ("row:8", "ratify"), ("row:11", "stop")]
)
def test_where_nothing_ran_there_is_nothing_to_reproduce(
    told: Campaign, say: Say, seq: str, action: str
) -> None:
    said = say("reproduce", seq)
    assert (said.status, said.out) == (2, "")
    assert f"{seq} is a {action} in which nothing ran" in said.err


def test_the_arithmetic_shown_is_the_keep_rules() -> None:
    reference = Reference(mean=0.5, sigma=0.01, n=4, df=3)
    fresh = (0.47, 0.475, 0.469)
    step = decide(reference, 0.47, fresh, KeepRule(alpha=0.05, early_alpha=1e-9))
    low, high = step.interval
    before = rows.Reference(mean=0.5, sigma=0.01, n=4, df=3)
    lines = list(arithmetic(verdict(0.47, (0.47, *fresh), before)))
    assert f"gain {step.gain:+.6f} = {step.gain / 0.01:+.2f} sigma" in lines[2]
    assert f"90% interval {low:+.6f} to {high:+.6f}" in lines[2]
    assert "on 3 degrees of freedom" in lines[3]
    # Noisier than the incumbent: the rule's own error takes over.
    wild = (0.40, 0.55, 0.36)
    step = decide(reference, 0.47, wild, KeepRule(alpha=0.05, early_alpha=1e-9))
    lines = list(arithmetic(verdict(0.47, (0.47, *wild), before)))
    assert f"90% interval {step.interval[0]:+.6f} to {step.interval[1]:+.6f}" in lines[2]
    assert "its own noise is" in lines[3]
    assert list(arithmetic(verdict(None, (), before))) == []


def verdict(
    metric: float | None, values: tuple[float, ...], before: rows.Reference
) -> rows.Verdict:
    """A verdict that holds these figures."""
    runs = [
        {
            "seed": seed, "status": "finished", "reason": "", "metric": value, "seconds": 1.0, "budget_seconds": 1.0,
            "peak_memory_mb": 1.0, "artifact_sha256": "", "device": "cpu", "isolation": "none",
        }
        for seed, value in enumerate(values)
    ]  # fmt: skip
    reference = msgspec.to_builtins(before)
    return msgspec.convert(
        {
            "kind": "verdict", "started": "", "ended": "", "actor": "", "harness_tree": "", "data_sha256": "",
            "candidate": "", "origin": "", "surface": {}, "snapshot": "", "domain": "feature", "cost": 20,
            "description": "", "decision": "revert", "status": "discard", "exit_status": 10, "reasons": [],
            "gates": [], "runs": runs, "metric": metric, "before": reference, "after": reference,
            "budget_before": 100, "budget_after": 80, "commit_before": "",
        },
        rows.Verdict,
    )  # fmt: skip


def test_before_anything_happened_each_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    monkeypatch.chdir(Campaign.create(tmp_path / "project").root)
    assert say("log").out == "Nothing yet: run `pytest --autoresearch`.\n"
    refused = say("show", "0")
    assert refused.status == 2
    assert "in campaign 'test': nothing is settled yet; run `pytest --autoresearch`" in refused.err
    assert say("export", "--format", "csv").lines == [",".join(COLUMNS)]
    assert say("export", "--format", "jsonl").out == say("export", "--format", "in-toto").out == ""


# ---- export


def test_jsonl_joins_both_rows_of_every_change(told: Campaign, say: Say) -> None:
    found = [json.loads(line) for line in say("export", "--format", "jsonl", "--sealed").lines]
    sources = [json.loads(line) for line in told.lines(SOURCE)[1:]]
    cutovers = [json.loads(line) for line in told.lines(CUTOVER)[1:]]
    assert len(found) == len(sources) == len(cutovers)
    for line, begun, ended in zip(found, sources, cutovers, strict=True):
        assert line["v"] == 1
        assert (line["source_row"], line["begun"]) == (begun["seq"], begun["time"])
        assert (line["row"], line["settled"]) == (ended["seq"], ended["time"])
        for name in ("action", "resolution", "result", "failure", "payload"):
            assert line[name] == ended["data"][name]
        point = {"commit": "tip", "tree": "tree", "surface": "surface", "pin": "pin"}
        assert line["restore_point"] == {name: begun["data"][own] for name, own in point.items()}
    assert [line["seq"] for line in found] == [0, 1, 2, 3, 4, 5, 6, None, 7, 8, None, 9]
    assert found[3]["status"] == "quarantine"
    assert {tuple(line) for line in found} == {tuple(found[0])}


@pytest.mark.parametrize("form", ["jsonl", "csv", "in-toto"])
def test_figures_of_the_sealed_audit_split_leave_only_where_a_person_asks(
    told: Campaign, say: Say, form: str
) -> None:
    assert "12345" not in say("export", "--format", form).out
    assert "12345" not in say("log").out + say("show", "9").out + say("status").out
    sealed = say("export", "--format", form, "--sealed")
    if form == "in-toto":
        assert (sealed.status, sealed.out) == (2, "")
        assert "use jsonl" in sealed.err
    else:
        assert "0.123456" in sealed.out
        assert "0.123459" in sealed.out
    # Of the canary, of a run and of the references.
    shown = say("show", "9", "--sealed").out
    assert all(figure in shown for figure in ("0.123456", "0.123457", "0.123458", "0.123459"))


def test_csv_has_a_line_a_finding_and_no_formula(told: Campaign, say: Say) -> None:
    said = say("export", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(said.out)))
    assert tuple(found[0]) == COLUMNS
    assert [line["seq"] for line in found] == [str(n) for n in range(10)]
    assert found[3]["status"] == "quarantine"
    assert (found[1]["budget_after"], found[1]["gates_passed"], found[1]["gates"]) == (
        "90",
        "2",
        "2",
    )
    assert all(line.isprintable() for line in said.lines)
    assert len(said.lines) == 11
    sealed = say("export", "--format", "csv", "--sealed", "--seq", "9")
    assert sealed.lines[0].endswith(",".join(SEALED))
    assert len(sealed.lines) == 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\uff1d"])
def test_no_text_opens_a_formula_in_a_spreadsheet(start: str) -> None:
    from pytest_autoresearch.report.results import cell

    assert cell(f"{start}1+1").startswith("'")
    assert cell("1+1") == "1+1"


def test_a_description_that_is_a_formula_is_disarmed_in_the_table(own: Campaign, say: Say) -> None:
    own.judge("revert", b"RATE = 8\n", description="=HYPERLINK(1)", canary=None, metric=-0.5)
    found = list(csv.DictReader(io.StringIO(say("export", "--format", "csv").out)))[-1]
    assert found["description"] == "'=HYPERLINK(1)"
    assert float(found["metric"]) == -0.5


def test_in_toto_has_a_statement_for_each_keep_that_stands(
    told: Campaign, say: Say, tmp_path: Path
) -> None:
    file = tmp_path / "statements.jsonl"
    assert say("export", "--format", "in-toto", "-o", str(file)).out == ""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["_type"] for line in found] == ["https://in-toto.io/Statement/v1"] * 2
    kept = {c.seq: c.cutover.result for c in changes(told.journal, told.journal.state())}
    commits = [line["subject"][0]["digest"]["gitCommit"] for line in found]
    assert commits == [kept[1], kept[8]]
    one = say("export", "--format", "in-toto", "--seq", "8")
    assert json.loads(one.out) == found[1]
    for seq in ("2", "3"):
        refused = say("export", "--format", "in-toto", "--seq", seq)
        assert (refused.status, refused.out) == (2, "")
        assert "no keep that stands" in refused.err


def test_an_export_that_cannot_be_written_says_so(told: Campaign, say: Say, tmp_path: Path) -> None:
    said = say("export", "--format", "csv", "-o", str(tmp_path / "absent" / "x.csv"))
    assert said.status == 2
    assert "cannot be written: No such file or directory" in said.err


# ---- status, and what is derived


def test_status_says_what_a_person_asks_first(told: Campaign, say: Say) -> None:
    said = say("status")
    assert said.status == 0
    last = told.journal.cutover.last()
    assert last is not None
    when = datetime.fromisoformat(last.time)
    assert f"last:      {when:%Y-%m-%d %H:%M:%S}Z, " in said.out
    # The keep in quarantine is none of those that were kept.
    assert "7 judged and 2 kept in the last 24 hours: 1 RATE; 8 RATE" in said.out
    assert f"due until {_months_after(when, 6)} at least" in said.out
    assert len(said.lines) <= 40
    assert all(line.isprintable() for line in said.lines)


@pytest.mark.parametrize(
    ("day", "expected"),
    [("2026-11-21", "2027-05-21"), ("2026-08-31", "2027-03-01"), ("2026-06-30", "2026-12-30"), ("2026-03-31", "2026-10-01")],
)  # fmt: skip
def test_six_months_from_the_last_row(day: str, expected: str) -> None:
    assert _months_after(datetime.fromisoformat(day), 6) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(5, "5 seconds ago"), (200, "3 minutes ago"), (9000, "2 hours ago"), (200_000, "2 days ago"), (-9, "ahead of")],
)  # fmt: skip
def test_how_long_ago(seconds: float, expected: str) -> None:
    assert _ago(seconds).startswith(expected)
