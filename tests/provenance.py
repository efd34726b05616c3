"""
A small campaign with every kind of change, made through the journal and git alone: no session, no training.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
from test_vcs import git

from pytest_autoresearch import rows
from pytest_autoresearch.chain import EMPTY, Head, seal
from pytest_autoresearch.continuity import remember_heads
from pytest_autoresearch.equivalence import surface_digest
from pytest_autoresearch.journal import Journal, Settlement
from pytest_autoresearch.ledger import sync_file
from pytest_autoresearch.records import Decision, Domain, Outcome, RunStatus, Stage
from pytest_autoresearch.recovery import restore_point, stock_acts, stock_undo
from pytest_autoresearch.vcs import Repository, commit_message

TAG = "test"
BRANCH = f"autoresearch/{TAG}"
SOURCE, CUTOVER = "restore-source.jsonl", "cutover-audit.jsonl"
SURFACE = ("train.py",)
MODEL = b"weights"
PINNED = ("g.py::a", "g.py::b")
DECISIONS = {
    "keep": Decision.KEEP,
    "revert": Decision.REVERT,
    "rollback": Decision.REVERT,
    "escalate": Decision.ESCALATE,
}


class Campaign:
    """A repository with a journal, and the changes that sessions make to them."""

    surface = SURFACE

    def __init__(self, root: Path, tag: str = TAG) -> None:
        self.root = root
        self.tag, self.branch = tag, f"autoresearch/{tag}"
        self.repository = Repository(root)
        self.directory = root / ".autoresearch" / tag
        self.journal = Journal(self.directory, remember_heads(self.repository, tag))

    @classmethod
    def create(cls, root: Path, object_format: str = "sha1") -> Self:
        """A project with one file to change, and files around it."""
        (root / "gates" / "deep").mkdir(parents=True)
        git(root, "init", "-q", "-b", "main", "--template=", f"--object-format={object_format}")
        cls.write(root, b"RATE = 0\n")
        (root / "prepare.py").write_text("fixed\n")
        (root / "gates" / "deep" / "g.py").write_text("def test_a(): pass\n")
        (root / ".gitignore").write_text(".autoresearch/\n")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "start")
        return cls(root)

    @classmethod
    def write(cls, root: Path, content: bytes) -> dict[str, bytes]:
        """A candidate in the work tree; its files."""
        files = dict.fromkeys(cls.surface, content)
        for path, each in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(each)
        return files

    def copy(self, root: Path) -> Self:
        """An independent copy."""
        return type(self)(Path(shutil.copytree(self.root, root, symlinks=True)))

    def ledger(self, name: str) -> Path:
        return self.directory / name

    def data(self) -> tuple[bytes, bytes]:
        """Bytes of both ledgers."""
        return self.ledger(SOURCE).read_bytes(), self.ledger(CUTOVER).read_bytes()

    def lines(self, name: str) -> list[bytes]:
        return self.ledger(name).read_bytes().splitlines(keepends=True)

    # -- changes

    def whole(self) -> Campaign:
        """Every kind of change, one after the other."""
        self.baseline()
        self.judge("keep", b"RATE = 1\n")
        self.judge("revert", b"RATE = 2\n")
        self.judge("keep", b"RATE = 3\n")
        self.halt()
        self.judge("rollback", b"RATE = 4\n", alarm_to=1)
        self.judge("escalate", b"RATE = 5\n")
        (self.root / "gates" / "deep" / "g.py").write_text("def test_b(): pass\n")
        git(self.root, "commit", "-q", "-a", "-m", "a stricter gate")
        self.ratify()
        self.baseline()
        self.judge("keep", b"RATE = 6\n")
        self.stop()
        return self

    def transact(self, intent: rows.Intent, payload: rows.Payload) -> Settlement:
        act = stock_acts(self.repository)[intent.action]
        with self.journal.lock():
            return self.journal.transact(intent, payload, act, stock_undo(self.repository))

    def intent(self, action: rows.Action, **more: object) -> rows.Intent:
        tip = self.repository.head_commit()
        pin = restore_point(self.tag, tip)
        self.repository.pin(pin, tip)
        entries = self.repository.surface_entries(tip, self.surface)
        made = rows.Intent(
            action=action, branch=self.branch, tip=tip, tree=self.repository.tree_of(tip),
            surface={path: oid for path, (_, oid) in entries.items()}, pin=pin,
        )  # fmt: skip
        return msgspec.structs.replace(made, **more)

    def circumstances(self) -> dict[str, Any]:
        state = self.journal.state()
        return {
            "started": "2026-01-01T00:00:00+00:00",
            "ended": "2026-01-01T00:05:00+00:00",
            "actor": "working tree",
            "data_sha256": "d" * 64,
            "harness_tree": state.ratified_tree or self.repository.tree_of("HEAD"),
        }

    def candidate(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        tree, surface = self.repository.write_surface(files)
        snapshot = f"refs/autoresearch/{self.tag}/candidate/{tree}"
        self.repository.pin(snapshot, tree)
        return {"candidate": surface_digest(files), "surface": surface, "snapshot": snapshot}

    def run(self, model: bytes = MODEL) -> rows.Run:
        """One run, its model left where a session leaves it."""
        directory = self.directory / "runs" / f"{self.journal.state().next_seq:06d}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.pt2").write_bytes(model)
        sync_file(directory / "model.pt2")
        return rows.Run(
            seed=1, status=RunStatus.FINISHED, reason="finished", metric=0.31, seconds=2.0, budget_seconds=300.0,
            peak_memory_mb=512.0, artifact_sha256=hashlib.sha256(model).hexdigest(),
            artifact=f"{directory.name}/model.pt2", device="cpu", isolation="none",
        )  # fmt: skip

    def baseline(self, **more: object) -> Settlement:
        intent = self.intent("baseline")
        files = self.repository.read_surface("HEAD", self.surface)
        payload = rows.Baseline(
            tag=self.tag, branch=self.branch, budget=100, pinned=PINNED, commit=intent.tip, tree=intent.tree,
            runs=(self.run(),), after=rows.Reference(mean=0.32, sigma=0.01, n=4),
            **self.candidate(files), **self.circumstances(),
        )  # fmt: skip
        return self.transact(intent, msgspec.structs.replace(payload, **more))

    def judge(
        self,
        action: rows.Action,
        content: bytes,
        *,
        alarm_to: int | None = None,
        cost: int = 10,
        message: Callable[[str], str] = str,
        extra: Mapping[str, bytes] | None = None,
        parent: str = "",
        **more: object,
    ) -> Settlement:
        """
        One verdict, carried out.

        :param alarm_to: position of the state that an alarm goes back to.
        :param message: makes another commit message of the one that a session writes.
        :param extra: files that a keep commit changes although they are not of the surface.
        :param parent: of a keep commit, instead of the incumbent.
        """
        files = self.write(self.root, content)
        state = self.journal.state()
        assert state.incumbent is not None
        reference = rows.Reference(mean=0.31, sigma=0.01, n=3)
        alarm = target = None
        if alarm_to is not None:
            target = state.settled[alarm_to].commit
            alarm = rows.Alarm(
                chart="gap", message="leak", last_zero=0, suspects=(3, 5), culprit=3, restore=target,
                restore_seq=alarm_to, verified=(),
            )  # fmt: skip
        payload = rows.Verdict(
            origin="working tree", domain=Domain.HYPERPARAMETER, cost=cost, description="RATE", decision=DECISIONS[action],
            status=action, exit_status=0, reasons=(rows.Reason(code="gain", message='said "payload":{} \\ "'),),
            gates=tuple(rows.Gate(nodeid=name, stage=Stage.POST, outcome=Outcome.PASSED) for name in PINNED),
            runs=(self.run(),), metric=0.31, before=reference, after=reference, alarm=alarm,
            budget_before=state.remaining, budget_after=state.remaining - cost,
            commit_before=state.incumbent.commit, **self.candidate(files), **self.circumstances(),
        )  # fmt: skip
        payload = msgspec.structs.replace(payload, **more)
        if action == "keep":
            heads = self.journal.heads()
            text = commit_message("RATE", "better", {
                "Autoresearch-Restore-Source": heads["restore-source"],
                "Autoresearch-Cutover-Audit": heads["cutover-audit"],
            })  # fmt: skip
            target = self.repository.prepare_commit(
                {**files, **(extra or {})},
                parent=parent or state.incumbent.commit,
                message=message(text),
                when=1,
            )
        intent = self.intent(action, target=target or "", domain=payload.domain, cost=payload.cost)
        return self.transact(intent, payload)

    def halt(self) -> Settlement:
        payload = rows.Halt(
            reasons=(rows.Reason(code="halt", message="prepare.py changed"),),
            commit_before=self.repository.head_commit(), **self.circumstances(),
        )  # fmt: skip
        return self.transact(self.intent("halt", pin=""), payload)

    def stop(self) -> Settlement:
        payload = rows.Stop(
            code="rounds", message="all rounds are done", rounds=3, seconds=1.0,
            commit_before=self.repository.head_commit(), **self.circumstances(),
        )  # fmt: skip
        return self.transact(self.intent("stop", pin=""), payload)

    def ratify(self, **more: object) -> Settlement:
        state = self.journal.state()
        assert state.incumbent is not None
        before = state.incumbent.commit
        intent = self.intent(
            "ratify", tip=before, tree=self.repository.tree_of(before), surface=dict(state.surface)
        )
        commit = self.repository.head_commit()
        payload = rows.Ratify(
            reason="a stricter gate", commit_before=before, commit=commit, tree=self.repository.tree_of(commit),
            pinned=(), candidate=state.incumbent.digest, surface=dict(state.surface), **self.circumstances(),
        )  # fmt: skip
        payload = msgspec.structs.replace(payload, actor="Ada", harness_tree=payload.tree)
        return self.transact(intent, msgspec.structs.replace(payload, **more))

    # -- forgery

    def reseal(self, edit: Callable[[str, int, bytes], bytes | None]) -> None:
        """
        Rewrite both ledgers so that chains, links and announcements hold again: what only an anchor shows.

        :param edit: ledger file, row number and payload body to the new body; None drops the row.
        """
        bodies = {
            name: [line[line.index(b',"data":') + 8 : -78] for line in self.lines(name)]
            for name in (SOURCE, CUTOVER)
        }
        edited = {
            name: [edit(name, seq, body) for seq, body in enumerate(found)]
            for name, found in bodies.items()
        }
        written: dict[str, list[bytes]] = {SOURCE: [], CUTOVER: []}
        heads = {SOURCE: Head(-1, EMPTY), CUTOVER: Head(-1, EMPTY)}
        before = Head(-1, EMPTY)

        def put(name: str, body: bytes) -> None:
            line = seal(body, heads[name])
            heads[name] = Head(heads[name].seq + 1, hashlib.sha256(line).hexdigest())
            written[name].append(line)

        put(SOURCE, bodies[SOURCE][0])
        put(CUTOVER, bodies[CUTOVER][0])
        for begun, ended in zip(edited[SOURCE][1:], edited[CUTOVER][1:], strict=True):
            if begun is None or ended is None:
                continue
            end = msgspec.json.decode(ended, type=rows.Cutover)
            intent = msgspec.json.decode(begun, type=rows.Intent)
            payload = ended[ended.index(b',"payload":') + 11 : -1]
            intent = msgspec.structs.replace(
                intent,
                payload_sha256=hashlib.sha256(payload).hexdigest(),
                cutover=rows.Link(seq=before.seq, sha256=before.sha256),
            )
            put(SOURCE, msgspec.json.encode(intent))
            link = rows.Link(seq=heads[SOURCE].seq, sha256=heads[SOURCE].sha256)
            put(CUTOVER, msgspec.json.encode(msgspec.structs.replace(end, source=link)))
            before = heads[CUTOVER]
        for name, lines in written.items():
            self.ledger(name).write_bytes(b"".join(lines))
