from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_vcs import BRANCH, NEW, OLD, SURFACE, git, litter, make_project, snapshot

from pytest_autoresearch import rows
from pytest_autoresearch.budget import MutationBudget
from pytest_autoresearch.fold import fold
from pytest_autoresearch.journal import Journal, JournalError, Settlement
from pytest_autoresearch.ledger import Ledger, LedgerError
from pytest_autoresearch.records import Decision, Domain, Incumbent, Outcome, RunStatus, Stage
from pytest_autoresearch.recovery import restore_point, stock_acts, stock_undo
from pytest_autoresearch.rows import Intent, Reference
from pytest_autoresearch.state import Settled, State
from pytest_autoresearch.vcs import Repository, RepositoryError

MODEL = b"#!/bin/sh\n"
COMMON: dict[str, Any] = {
    "started": "2026-01-01T00:00:00+00:00",
    "ended": "2026-01-01T00:05:00+00:00",
    "actor": "working tree",
    "data_sha256": "d" * 64,
    "versions": {"python": "3.11"},
}
RUN = rows.Run(
    seed=1, status=RunStatus.FINISHED, reason="finished", metric=0.31, seconds=2.0,
    budget_seconds=300.0, peak_memory_mb=512.0, artifact_sha256="a" * 64, device="cpu",
    isolation="none",
)  # fmt: skip


@dataclass
class Campaign:
    """A repository with a journal, and the changes a session makes to them."""

    root: Path

    def __post_init__(self) -> None:
        self.repository = Repository(self.root)
        self.journal = Journal(self.root / "ignored" / "journal")

    def act(self, action: rows.Action) -> Settlement:
        make = {
            "baseline": self.baseline,
            "keep": self.keep,
            "revert": self.revert,
            "escalate": self.revert,
            "halt": self.halt,
            "ratify": self.ratify,
        }[action]
        return make(action)

    def transact(self, intent: Intent, payload: rows.Payload) -> Settlement:
        act = stock_acts(self.repository)[intent.action]
        return self.journal.transact(intent, payload, act, stock_undo(self.repository))

    def recover(self) -> Settlement | None:
        return self.journal.recover(stock_acts(self.repository), stock_undo(self.repository))

    def intent(self, action: rows.Action, **more: object) -> Intent:
        tip = self.repository.head_commit()
        pin = restore_point("test", tip)
        self.repository.pin(pin, tip)
        entries = self.repository.surface_entries(tip, SURFACE)
        surface = {path: oid for path, (_, oid) in entries.items()}
        made = Intent(
            action=action, branch=BRANCH, tip=tip, tree=self.repository.tree_of(tip),
            surface=surface, pin=pin,
        )  # fmt: skip
        return msgspec.structs.replace(made, **more)

    def baseline(self, action: rows.Action = "baseline") -> Settlement:
        intent = self.intent("baseline")
        payload = rows.Baseline(
            tag="test", branch=BRANCH, budget=100, pinned=("g.py::a", "g.py::b"), commit=intent.tip,
            tree=intent.tree, candidate="old", surface=intent.surface, snapshot=intent.pin,
            harness_tree=intent.tree, runs=(RUN,), after=Reference(mean=0.32, sigma=0.01, n=4),
            **COMMON,
        )  # fmt: skip
        return self.transact(intent, payload)

    def verdict(
        self, decision: Decision, files: dict[str, bytes], *, alarm: bool = False
    ) -> rows.Verdict:
        tree, surface = self.repository.write_surface(files)
        snapshot_ref = f"refs/autoresearch/test/candidate/{tree}"
        self.repository.pin(snapshot_ref, tree)
        kept = decision is Decision.KEEP
        state = self.journal.state()
        before = Reference(mean=0.32, sigma=0.01, n=4)
        return rows.Verdict(
            candidate=files["train.py"].hex(), origin="working tree", surface=surface,
            snapshot=snapshot_ref, domain=Domain.HYPERPARAMETER, cost=10,
            description="RATE 1 -> 2", decision=decision, status="keep" if kept else "discard",
            exit_status=0 if kept else 10,
            reasons=(rows.Reason(code="gain", message="better than the incumbent"),),
            gates=(rows.Gate(nodeid="g.py::a", stage=Stage.POST, outcome=Outcome.PASSED),),
            runs=(RUN,), metric=0.31, metrics={"val_loss": 0.31}, before=before,
            after=Reference(mean=0.31, sigma=0.01, n=3) if kept else before,
            chart=rows.Chart(x=0.03 if kept else 0.0, s_upper=0.01, s_lower=0.0, alarm=alarm),
            budget_before=state.remaining, budget_after=state.remaining - 10,
            commit_before=self.repository.head_commit(), harness_tree=state.ratified_tree, **COMMON,
        )  # fmt: skip

    def keep(self, action: rows.Action = "keep", content: bytes = NEW) -> Settlement:
        files = {"train.py": content, "pkg/deep/model.py": b"kept\n"}
        payload = self.verdict(Decision.KEEP, files)
        tip = self.repository.head_commit()
        target = self.repository.prepare_commit(files, parent=tip, message="keep\n", when=1)
        intent = self.intent("keep", target=target, domain=payload.domain, cost=payload.cost)
        return self.transact(intent, payload)

    def revert(self, action: rows.Action = "revert") -> Settlement:
        decision = Decision.REVERT if action == "revert" else Decision.ESCALATE
        files = {path: (self.root / path).read_bytes() for path in SURFACE}
        payload = self.verdict(decision, files)
        return self.transact(self.intent(action, domain=payload.domain, cost=payload.cost), payload)

    def halt(self, action: rows.Action = "halt") -> Settlement:
        payload = rows.Halt(
            reasons=(rows.Reason(code="harness", message="prepare.py changed"),),
            breaches={"prepare.py": "changed"}, commit_before=self.repository.head_commit(),
            harness_tree="", **COMMON,
        )  # fmt: skip
        return self.transact(self.intent("halt"), payload)

    def ratify(self, action: rows.Action = "ratify", **more: object) -> Settlement:
        intent = self.intent("ratify")
        payload = rows.Ratify(
            reason="new gate", commit_before=intent.tip, commit=intent.tip, tree="t2",
            pinned=("g.py::c",), candidate="old", surface=intent.surface, harness_tree="t2",
            **COMMON,
        )  # fmt: skip
        return self.transact(intent, msgspec.structs.replace(payload, **more))

    def spoil(self) -> None:
        """What an agent does: another candidate in the work tree."""
        (self.root / "train.py").write_bytes(NEW)
        (self.root / "pkg/deep/model.py").write_bytes(b"kept\n")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after its baseline, with files of the user about and a candidate in the work tree."""
    root = make_project(tmp_path_factory.mktemp("measured") / "project")
    litter(root)
    campaign = Campaign(root)
    with campaign.journal.lock():
        campaign.baseline()
    campaign.spoil()
    return root


@pytest.fixture
def root(measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured, tmp_path / "project", symlinks=True))


@pytest.fixture
def campaign(root: Path) -> Iterator[Campaign]:
    made = Campaign(root)
    with made.journal.lock():
        yield made


def contents(root: Path) -> dict[str, bytes]:
    return {path: (root / path).read_bytes() for path in SURFACE}


def timeless(state: State) -> object:
    """A state without what may differ between equal campaigns: row numbers and times."""
    return replace(
        state,
        seq=0,
        spends=tuple(replace(spend, time=0.0) for spend in state.spends),
        settled=tuple(replace(row, row=0) for row in state.settled),
    )


# ---- the fold


def test_before_the_baseline_there_is_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.state() == State()
    assert journal.verify() is None
    assert journal.heads() == {
        "restore-source": f"-1:{rows.Link(seq=-1, sha256='').sha256 or journal.source.head().sha256}",
        "cutover-audit": f"-1:{journal.cutover.head().sha256}",
    }
    assert not (tmp_path / "journal").exists()


def test_the_baseline_sets_the_campaign_up(campaign: Campaign) -> None:
    state = campaign.journal.state()
    head = campaign.repository.head_commit()
    assert campaign.repository.branch() == BRANCH
    assert (state.tag, state.branch, state.budget, state.spent) == ("test", BRANCH, 100, 0)
    assert state.incumbent == Incumbent(head, "old", 0.32, 0.01, 4)
    assert (state.ratified_commit, state.ratified_tree) == (
        head,
        campaign.repository.tree_of(head),
    )
    assert state.gates == ("g.py::a", "g.py::b")
    assert state.data_sha256 == "d" * 64
    assert [row.kind for row in state.settled] == ["baseline"]
    assert state.next_seq == 1


def test_a_keep_moves_the_incumbent_and_spends(campaign: Campaign) -> None:
    settlement = campaign.keep()
    state = campaign.journal.state()
    head = campaign.repository.head_commit()
    assert (settlement.cutover.resolution, settlement.cutover.result) == ("done", head)
    assert state.incumbent == Incumbent(head, NEW.hex(), 0.31, 0.01, 3)
    assert (state.spent, state.remaining, state.chart) == (10, 90, (0.03,))
    row = state.settled[-1]
    assert (row.kind, row.decision, row.commit, row.metric) == ("verdict", "keep", head, 0.31)
    assert (row.reason, row.memory_mb) == ("better than the incumbent", 512.0)
    assert state.seq == settlement.seq == row.row
    assert contents(campaign.root) == {"train.py": NEW, "pkg/deep/model.py": b"kept\n"}
    assert MutationBudget.replay(state.spends, state.budget).remaining == 90


def test_a_revert_spends_and_leaves_the_incumbent(campaign: Campaign) -> None:
    before = campaign.journal.state()
    campaign.revert()
    state = campaign.journal.state()
    assert state.incumbent == before.incumbent
    assert (state.spent, state.chart) == (10, (0.0,))
    assert state.settled[-1].commit == before.settled[0].commit
    assert contents(campaign.root) == {"train.py": OLD, "pkg/deep/model.py": MODEL}
    assert campaign.journal.verify() is None


def test_past_proposals_come_back_with_their_bytes(campaign: Campaign) -> None:
    campaign.revert()
    campaign.halt()
    git(campaign.root, "gc", "-q", "--prune=now")
    trials = campaign.journal.state().trials(campaign.repository.read_blobs)
    assert [(trial.seq, dict(trial.files)["train.py"]) for trial in trials] == [(0, OLD), (1, NEW)]
    assert [(trial.status, trial.metric) for trial in trials] == [("keep", 0.32), ("discard", 0.31)]


def test_an_alarm_empties_the_chart(campaign: Campaign) -> None:
    campaign.revert()
    campaign.spoil()
    payload = campaign.verdict(Decision.ESCALATE, contents(campaign.root), alarm=True)
    campaign.transact(campaign.intent("escalate", cost=10), payload)
    assert campaign.journal.state().chart == ()
    assert campaign.journal.state().spent == 20


def test_a_verdict_without_an_experiment_leaves_the_chart_and_may_be_free(
    campaign: Campaign,
) -> None:
    payload = campaign.verdict(Decision.REVERT, contents(campaign.root))
    payload = msgspec.structs.replace(payload, chart=None, cost=0, runs=())
    campaign.transact(campaign.intent("revert"), payload)
    state = campaign.journal.state()
    assert (state.chart, state.spends, state.settled[-1].memory_mb) == ((), (), None)


def test_a_halt_costs_nothing_and_touches_nothing(campaign: Campaign) -> None:
    before = snapshot(campaign.root, without=(".git",))
    campaign.halt()
    state = campaign.journal.state()
    assert (state.spent, state.settled[-1].kind, state.settled[-1].reason) == (
        0,
        "halt",
        "prepare.py changed",
    )
    after = snapshot(campaign.root)
    assert {name: after[name] for name in before if "journal" not in name} == {
        name: each for name, each in before.items() if "journal" not in name
    }


def test_a_halt_may_come_before_the_baseline(tmp_path: Path) -> None:
    campaign = Campaign(make_project(tmp_path / "project"))
    with campaign.journal.lock():
        campaign.halt()
        assert campaign.journal.state().incumbent is None
        campaign.baseline()
    assert [row.kind for row in campaign.journal.state().settled] == ["halt", "baseline"]


def test_ratifying_changes_the_harness_and_keeps_what_was_spent(campaign: Campaign) -> None:
    campaign.revert()
    campaign.ratify()
    state = campaign.journal.state()
    assert (state.ratified_tree, state.gates, state.budget) == ("t2", ("g.py::c",), 100)
    # Another harness may measure otherwise: the reference has to be measured anew.
    head = campaign.repository.head_commit()
    assert (state.incumbent, state.spent) == (Incumbent(head, "old", None, None, 0), 10)
    campaign.ratify(candidate="another surface", budget=50)
    state = campaign.journal.state()
    assert state.incumbent == Incumbent(head, "another surface", None, None, 0)
    assert (state.budget, state.remaining) == (50, 40)
    campaign.baseline()
    state = campaign.journal.state()
    assert (state.ratified_tree, state.spent, state.chart) == ("t2", 10, ())
    assert [row.kind for row in state.settled] == ["baseline", "verdict", "baseline"]


def test_a_verdict_before_any_baseline_is_no_campaign(campaign: Campaign) -> None:
    campaign.revert()
    later = list(campaign.journal.cutovers())[1:]
    with pytest.raises(ValueError, match="row 2 is a revert before any baseline"):
        fold(later)


def test_rows_refuse_what_they_do_not_know(campaign: Campaign) -> None:
    class Newer(msgspec.Struct, tag_field="kind", tag="cutover"):
        surprise: int

    campaign.journal.cutover.append(Newer(1))
    with pytest.raises(LedgerError, match=r"line 3: not a row that this version knows"):
        campaign.journal.state()
    with pytest.raises(ValueError, match=r"Expected `int` >= 0"):
        msgspec.json.decode(b'{"kind":"lost","reason":"","domain":null,"cost":-1}', type=rows.Lost)


# ---- the transaction


def test_the_two_rows_of_a_change_are_tied_together(campaign: Campaign) -> None:
    campaign.keep()
    row, intent = list(campaign.journal.intents())[-1]
    (_, first), (last, cutover) = list(campaign.journal.cutovers())
    assert (cutover.source.seq, cutover.source.sha256) == (row.seq, row.sha256)
    assert intent.cutover.seq == 1
    assert intent.target == cutover.result
    assert first.action == "baseline"
    assert campaign.repository.ref(intent.pin) == intent.tip
    assert json.loads(last.data)["payload"]["decision"] == "keep"
    assert list((campaign.journal.directory / "pending").iterdir()) == []
    heads = campaign.journal.heads()
    assert heads["cutover-audit"] == f"{last.seq}:{last.sha256}"


def failing(error: BaseException) -> Callable[[Intent, rows.Payload], str]:
    def act(intent: Intent, payload: rows.Payload) -> str:
        raise error

    return act


def test_a_failing_keep_is_undone_and_recorded(campaign: Campaign) -> None:
    before = campaign.journal.state()
    tip = campaign.repository.head_commit()
    acts = stock_acts(campaign.repository)

    def half(intent: Intent, payload: rows.Payload) -> str:
        acts["keep"](intent, payload)
        raise RuntimeError("the tracker's hook failed: caf\udce9")

    files = {"train.py": NEW}
    target = campaign.repository.prepare_commit(files, parent=tip, message="m", when=1)
    payload = campaign.verdict(Decision.KEEP, files)
    settlement = campaign.journal.transact(
        campaign.intent("keep", target=target, cost=10),
        payload,
        half,
        stock_undo(campaign.repository),
    )
    assert settlement.cutover.resolution == "rolled-back"
    assert settlement.cutover.failure == "RuntimeError: the tracker's hook failed: caf\\udce9"
    assert campaign.repository.head_commit() == tip
    assert contents(campaign.root) == {"train.py": OLD, "pkg/deep/model.py": MODEL}
    state = campaign.journal.state()
    assert state.incumbent == before.incumbent
    assert (state.spent, state.chart) == (10, (0.0,))
    row = state.settled[-1]
    assert (row.status, row.decision) == ("escalate", Decision.ESCALATE)
    assert row.reason.startswith("the keep failed and was undone: RuntimeError")
    assert campaign.journal.verify() is None


def test_a_baseline_or_ratification_that_failed_changes_no_state(campaign: Campaign) -> None:
    before = campaign.journal.state()
    undo = stock_undo(campaign.repository)
    for action in ("baseline", "ratify"):
        campaign.act(action)
        row, cutover = list(campaign.journal.cutovers())[-1]
        settlement = campaign.journal.transact(
            campaign.intent(action), cutover.payload, failing(ValueError("no")), undo
        )
        assert settlement.cutover.resolution == "rolled-back"
        rolled = msgspec.structs.replace(cutover, resolution="rolled-back")
        first = next(campaign.journal.cutovers())
        assert fold([first, (row, rolled)]).incumbent == before.incumbent
    assert (campaign.root / "train.py").read_bytes() == NEW


def test_what_can_neither_be_done_nor_undone_stays_open_and_is_settled_later(
    campaign: Campaign,
) -> None:
    payload = campaign.verdict(Decision.REVERT, contents(campaign.root))
    lock = campaign.root / ".git" / "index.lock"
    git(campaign.root, "add", "train.py")
    lock.touch()
    with pytest.raises(JournalError, match=r"revert failed .*index\.lock.*could not be undone"):
        campaign.transact(campaign.intent("revert", cost=10), payload)
    with pytest.raises(JournalError, match="an earlier change is unfinished"):
        campaign.revert()
    with pytest.raises(JournalError, match="could not be undone"):
        campaign.recover()
    lock.unlink()
    settlement = campaign.recover()
    assert settlement is not None
    assert settlement.cutover.resolution == "finished"
    assert (campaign.root / "train.py").read_bytes() == OLD
    assert campaign.journal.state().spent == 10
    assert campaign.recover() is None


def test_an_interrupt_leaves_the_change_to_recovery(campaign: Campaign) -> None:
    payload = campaign.verdict(Decision.REVERT, contents(campaign.root))
    undo = stock_undo(campaign.repository)
    with pytest.raises(KeyboardInterrupt):
        campaign.journal.transact(
            campaign.intent("revert"), payload, failing(KeyboardInterrupt()), undo
        )
    problem = campaign.journal.verify()
    assert problem is not None
    assert "this revert has no entry in cutover-audit.jsonl: it is unfinished" in str(problem)
    settlement = campaign.recover()
    assert settlement is not None
    assert settlement.cutover.resolution == "finished"
    assert campaign.journal.verify() is None


@pytest.mark.parametrize("damage", ["missing", "altered", "not json"])
def test_without_its_payload_a_change_is_undone_and_still_paid_for(
    campaign: Campaign, damage: str
) -> None:
    before = campaign.journal.state()
    tip = campaign.repository.head_commit()
    files = {"train.py": NEW}
    target = campaign.repository.prepare_commit(files, parent=tip, message="m", when=1)
    acts, undo = stock_acts(campaign.repository), stock_undo(campaign.repository)

    def cut_short(intent: Intent, payload: rows.Payload) -> str:
        acts["keep"](intent, payload)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign.journal.transact(
            campaign.intent("keep", target=target, domain=Domain.FEATURE, cost=20),
            campaign.verdict(Decision.KEEP, files),
            cut_short,
            undo,
        )
    assert campaign.repository.head_commit() == target
    (pending,) = (campaign.journal.directory / "pending").iterdir()
    if damage == "missing":
        pending.unlink()
    else:
        pending.write_bytes(pending.read_bytes()[: -10 if damage == "altered" else 0])
    settlement = campaign.recover()
    assert settlement is not None
    assert settlement.cutover.resolution == "rolled-back"
    assert isinstance(settlement.cutover.payload, rows.Lost)
    assert campaign.repository.head_commit() == tip
    assert contents(campaign.root) == {"train.py": OLD, "pkg/deep/model.py": MODEL}
    state = campaign.journal.state()
    assert (state.incumbent, state.spent) == (before.incumbent, 20)
    assert (state.settled[-1].kind, state.spends[-1].type) == ("lost", Domain.FEATURE)
    assert campaign.journal.verify() is None


def test_a_lost_halt_costs_nothing_and_undoes_nothing(campaign: Campaign) -> None:
    payload = rows.Halt(reasons=(), commit_before="", harness_tree="", **COMMON)
    with pytest.raises(KeyboardInterrupt):
        campaign.journal.transact(
            campaign.intent("halt"),
            payload,
            failing(KeyboardInterrupt()),
            stock_undo(campaign.repository),
        )
    for pending in (campaign.journal.directory / "pending").iterdir():
        pending.unlink()
    campaign.recover()
    assert (campaign.root / "train.py").read_bytes() == NEW
    assert campaign.journal.state().spent == 0


def test_what_a_row_cannot_hold_is_refused_before_anything_happens(campaign: Campaign) -> None:
    payload = campaign.verdict(Decision.REVERT, contents(campaign.root))
    for bad, words in (
        ({"metric": float("nan")}, "metric = nan cannot be recorded"),
        ({"description": "x" * (1 << 20)}, "over the limit"),
    ):
        with pytest.raises(ValueError, match=words):
            campaign.transact(campaign.intent("revert"), msgspec.structs.replace(payload, **bad))
    assert campaign.journal.open_intent() is None
    assert (campaign.root / "train.py").read_bytes() == NEW


def test_nothing_changes_outside_the_lock(root: Path) -> None:
    campaign = Campaign(root)
    for change in (campaign.revert, campaign.recover):
        with pytest.raises(JournalError, match="the journal is not locked"):
            change()


def test_a_second_session_is_told_who_works_here(root: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from pytest_autoresearch.journal import *\n"
        "with Journal(Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(600)"
    )
    journal = Journal(root / "ignored" / "journal")
    command = [sys.executable, "-c", script, str(journal.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        words = rf"at work in .*: process {child.pid} on .*, since 20"
        with pytest.raises(JournalError, match=words), journal.lock():
            raise AssertionError
        child.kill()
        child.wait()
    with journal.lock():  # the dead one's lock is gone
        assert f"process {os.getpid()} " in (journal.directory / "lock").read_text()


def test_a_directory_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = r"cannot be used .Not a directory.: give write access"
    with pytest.raises(JournalError, match=words), Journal(tmp_path / "file" / "journal").lock():
        raise AssertionError


def test_a_pending_payload_that_cannot_be_written_changes_nothing(campaign: Campaign) -> None:
    payload = campaign.verdict(Decision.REVERT, contents(campaign.root))
    shutil.rmtree(campaign.journal.directory / "pending")
    with pytest.raises(JournalError, match=r"cannot be written .No such file.*nothing was changed"):
        campaign.transact(campaign.intent("revert"), payload)
    assert campaign.journal.open_intent() is None


# ---- verification of the pair


def rewritten(ledger: Ledger, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    """The ledger with other payloads, sealed anew: what somebody with write access can forge."""
    times = {row.data: row.time for row in ledger.rows()}
    block = ledger.path.read_bytes().splitlines(keepends=True)[0]
    lines = [block]
    for seq, body in enumerate(edit(list(times)), 1):
        prev = hashlib.sha256(lines[-1]).hexdigest()
        moment = times.get(body, "2026-01-01T00:00:00+00:00")
        line = b'{"v":1,"seq":%d,"prev":"%s","time":"%s","data":%s' % (
            seq,
            prev.encode(),
            moment.encode(),
            body,
        )
        lines.append(line + b',"sha256":"%s"}\n' % hashlib.sha256(line).hexdigest().encode())
    ledger.path.write_bytes(b"".join(lines))


def test_rows_that_do_not_belong_together_are_found(campaign: Campaign) -> None:
    campaign.revert()
    campaign.spoil()
    campaign.revert()
    journal = campaign.journal
    whole = journal.source.path.read_bytes(), journal.cutover.path.read_bytes()
    cases: list[tuple[Ledger, Callable[[list[bytes]], list[bytes]], str]] = [
        (journal.source, lambda bodies: bodies[:-1], "settles a change that restore-source"),
        (journal.cutover, lambda bodies: bodies[:-1], "this revert has no entry in cutover-audit"),
        (journal.source, lambda bodies: bodies[1:], "does not settle the change in line 2"),
        (journal.cutover, lambda bodies: bodies[1:], "does not settle the change in line 2"),
        (
            journal.cutover,
            lambda bodies: [bodies[0], bodies[1].replace(b'"cost":10', b'"cost":0'), bodies[2]],
            "cutover-audit.jsonl, line 3: it holds another payload than its intent announced",
        ),
        (
            journal.cutover,
            lambda bodies: [bodies[0], bodies[1].replace(b'"revert"', b'"keep"', 1), bodies[2]],
            "does not settle the change",
        ),
        (
            journal.cutover,
            lambda bodies: [bodies[0], bodies[1].replace(b'"failure":""', b'"failure":"x"'), bodies[2]],
            "its intent was written behind another row",
        ),
    ]  # fmt: skip
    for ledger, edit, words in cases:
        rewritten(ledger, edit)
        assert journal.source.verify() is None
        assert journal.cutover.verify() is None
        assert words in str(journal.verify()), words
        journal.source.path.write_bytes(whole[0])
        journal.cutover.path.write_bytes(whole[1])
    assert journal.verify() is None
    rewritten(journal.source, lambda bodies: bodies[:-1])
    with pytest.raises(JournalError, match="rows were dropped or a foreign file"):
        campaign.recover()


def test_a_row_appended_to_one_ledger_only_is_found(campaign: Campaign) -> None:
    _, cutover = list(campaign.journal.cutovers())[-1]
    campaign.journal.cutover.append(cutover)
    assert "settles a change that restore-source.jsonl does not have" in str(
        campaign.journal.verify()
    )


# ---- what a person must look at


def test_a_moved_branch_is_left_for_a_person(campaign: Campaign) -> None:
    tip = campaign.repository.head_commit()
    target = campaign.repository.prepare_commit({"train.py": NEW}, parent=tip, message="m", when=1)
    intent = campaign.intent("keep", target=target, cost=10)
    payload = campaign.verdict(Decision.KEEP, {"train.py": NEW})
    git(campaign.root, "commit", "-q", "--allow-empty", "-m", "meanwhile")
    moved = campaign.repository.head_commit()
    with pytest.raises(
        JournalError, match=r"keep failed .*could not be undone .*somebody moved it"
    ):
        campaign.transact(intent, payload)
    assert campaign.repository.head_commit() == moved
    with pytest.raises(RepositoryError, match="somebody moved it"):
        stock_undo(campaign.repository)(intent)


def test_a_settled_row_without_reasons_has_an_empty_one() -> None:
    row = Settled(0, 1, "halt", "", "", "halt", (), "")
    assert row.reason == ""
