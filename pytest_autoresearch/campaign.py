"""
A campaign: the project, its branch, its ledgers and its candidate, opened in an order that trusts nobody.

The ratified tree comes first, the configuration is read from it, and everything else is held against it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .anchors import Anchors
from .budget import COSTS, MutationBudget
from .candidate import CandidateError, read_candidate, read_directory
from .chain import LedgerError
from .config import ConfigurationError, load_settings
from .continuity import StateMemory, require_continuity
from .harness import Breach, breaches, discard_bytecode, halt_message, require_intact
from .journal import Journal, JournalError
from .meters import device_name, gpu_available
from .packs import pack_directories
from .records import Candidate, Domain, FixedHarnessViolation, Incumbent, Proposal
from .recovery import recover, stock_undo
from .sandbox import SelfTestError, gpu_nodes
from .scoring import Scoring
from .scratch import Scratch, ScratchError
from .settings import Settings
from .state import State, differences
from .task import Task, TaskError
from .training import Trainer
from .vcs import Repository, RepositoryError
from .wall import Wall

if TYPE_CHECKING:
    import argparse

__all__ = ["DIRECTORY", "NOT_READY", "Campaign"]

#: Run-time state of all campaigns, untracked, in the project's root.
DIRECTORY = ".autoresearch"
#: What opening a campaign may raise: the project is not ready, and the message says what to do.
NOT_READY = (
    CandidateError,
    ConfigurationError,
    FixedHarnessViolation,
    JournalError,
    LedgerError,
    RepositoryError,
    ScratchError,
    SelfTestError,
    TaskError,
    pytest.UsageError,
)
_TAG = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")


class Campaign:
    """Everything a session stands on."""

    candidate: Candidate

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        self.root = root
        self.options = options
        self.notes: list[str] = []
        self._stack = ExitStack()
        self.repository = Repository(root)
        self.tag = self._choose_tag(options.autoresearch_tag)
        self.branch = f"autoresearch/{self.tag}"
        self.directory = root / DIRECTORY / self.tag
        self.anchors = Anchors(self.repository, self.tag)
        memory = StateMemory(self.repository, self.tag)
        self.journal = Journal(self.directory, self.anchors, memory)
        self.undo = stock_undo(self.repository)
        self.parent = options.autoresearch_rounds is not None
        self.read_only = bool(options.autoresearch_dry_run or options.collectonly)
        self.writable = not (self.read_only or self.parent)
        if self.writable:
            self._stack.enter_context(self.journal.lock())
        self.scratch = Scratch(None if self.read_only else self.directory / "tmp")
        self.state: State = self.journal.state()
        self.use_harness(self.state.ratified_commit or self.repository.head_commit())

    def use_harness(self, commit: str) -> None:
        """Take the Fixed Harness, and with it the configuration, from a commit."""
        self.ratified_commit = commit
        self.ratified = self.repository.blobs(commit)
        self.settings: Settings = self._ratified_settings()
        self.anchors.use(self.settings)
        _, prepare = self.ratified.get(self.settings.prepare, ("", ""))
        source = self.repository.read_blob(prepare) if prepare else None
        self.task = self._task(source)
        self.wall = Wall.choose(self.settings, self.options.autoresearch_sandbox)
        self.trainer = Trainer(self.settings, self.task, self.wall.level, self.scratch)
        self.scoring = Scoring(self.settings, self.task, self.wall.level)

    def close(self) -> None:
        """Give the lock back."""
        self._stack.close()

    def locked(self) -> AbstractContextManager[None]:
        """The journal's lock, which a session holds all along and a parent of rounds only briefly."""
        return nullcontext() if self.writable else self.journal.lock()

    def prepare(self) -> None:
        """Settle what a crash left open, then check branch, harness and data, and read the candidate."""
        if not self.read_only:
            self.take_up()
            self.wall.require_allowed(self.settings)
        require_intact(iter(self.breaches()))
        self.packs = pack_directories(self.settings.packs)
        # A forged cache would run in the place of the source that was just checked.
        discard_bytecode(self.root, self.ratified)
        self._check_branch()
        if not self.options.collectonly:
            self.enter_scratch()
        self.task.require_intact(self.state.data_sha256 if self.started else None)
        given = self.options.autoresearch_candidate
        if given is not None and self.writable:
            self.require_clean_surface()
        self.candidate = read_candidate(self.root, self.settings.surface, self.repository, given)
        if not self.read_only:
            self.catch_up()

    def take_up(self) -> None:
        """Settle what a crash left open."""
        with self.locked():
            self.recover()
        outside = self.anchors.kept()
        require_continuity(self.repository, self.journal, self.state, self.tag, outside)
        with self.locked():
            self.anchors.open(self.journal.heads())

    def catch_up(self) -> None:
        """Bring results.tsv up to date, which a crash may have left short; a session that is refused writes nothing."""
        from .reports import extend_results

        if self.state.settled:
            with self.locked(), suppress(OSError):  # only a projection: it refuses no session
                extend_results(self)

    def enter_scratch(self) -> None:
        """Make the temporary directory, and try the wall out in it before it is trusted."""
        self._stack.enter_context(self.scratch)
        self._try_isolation()

    def pin(self, config: pytest.Config) -> None:
        """From here on, whatever is imported from the project is the ratified content."""
        from .pinned import pin_imports

        self.pinned = self._stack.enter_context(pin_imports(self, config))
        if not (self.options.collectonly or self.parent):
            _ = self.task.sequence  # a wrong declaration is said before anything runs

    def reload(self) -> None:
        """Read the ledgers again: a child session has written to them."""
        self.state = self.journal.state()
        for name in ("incumbent_files", "budget"):
            self.__dict__.pop(name, None)

    def doubt(self) -> str:
        """
        Fold all rows and compare; what the state of this session says otherwise, as one line, and empty if nothing.

        Then the rows hold from here on. A start reads the last rows only: nothing is kept on what it took for granted.
        """
        from .equivalence import fingerprint

        mark = fingerprint(self.candidate.files)
        try:
            anew = self.journal.state_anew()
        except LedgerError as error:
            return str(error)
        wrong = differences(self.state, anew, mark)
        if not wrong:
            return ""
        self.journal.forget()
        self.reload()
        return (
            f"the state that this session took up says otherwise than the rows of cutover-audit do ({wrong}): "
            f"somebody forged {DIRECTORY}/{self.tag}/state.sqlite, which was removed"
        )

    # -- what stands -----------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether a baseline has been measured, which pins the harness."""
        return bool(self.state.ratified_commit)

    @property
    def incumbent(self) -> Incumbent:
        """The last kept state; before the first measured baseline, HEAD."""
        if self.state.incumbent is not None and self.started:
            return self.state.incumbent
        from .equivalence import surface_digest

        digest = surface_digest(self.incumbent_files)
        return Incumbent(self.repository.head_commit(), digest, None, None, 0)

    @cached_property
    def incumbent_files(self) -> Mapping[str, bytes]:
        """The incumbent's surface."""
        if self.state.surface and self.started:
            contents = self.repository.read_blobs(self.state.surface.values())
            return {path: contents[oid] for path, oid in self.state.surface.items()}
        return self.repository.read_surface(self.ratified_commit, self.settings.surface)

    @property
    def costs(self) -> Mapping[Domain, int]:
        """Units per domain, with the project's overrides."""
        return {**COSTS, **self.settings.budget.costs}

    @cached_property
    def budget(self) -> MutationBudget:
        """The mutation budget after everything settled so far."""
        return MutationBudget.replay(
            self.state.spends,
            total_budget=self.settings.budget.total,
            costs=self.costs,
            spent=self.state.spent,
        )

    @cached_property
    def device(self) -> str:
        """``cpu`` or ``cuda``: the configured device, or what is at hand."""
        wanted = self.settings.run.device
        if wanted == "cuda" and not gpu_available():
            raise pytest.UsageError(
                "[tool.autoresearch] run.device = 'cuda', but no GPU is at hand: set 'auto' or 'cpu'"
            )
        if wanted == "auto":
            return "cuda" if gpu_available() else "cpu"
        return wanted

    @property
    def device_text(self) -> str:
        """The device for people."""
        return f"{self.device} ({device_name(self.device)})"

    @property
    def branch_text(self) -> str:
        """The campaign's branch, and whether it exists."""
        exists = self.repository.tip(self.branch) is not None
        return f"branch {self.branch}" + ("" if exists else " (new)")

    def breaches(self) -> list[Breach]:
        """What departs from the ratified harness right now."""
        return list(
            breaches(
                self.root,
                self.ratified,
                hash_blob=self.repository.hash_blob,
                surface=frozenset(self.settings.surface),
                harness=self.settings.harness,
                own=(self.settings.data, DIRECTORY),
                commit=self.ratified_commit,
            )
        )

    def touched(self) -> str:
        """What departs from the ratified harness right now, as one line; empty when nothing does."""
        found = self.breaches()
        return halt_message(found).partition("\n")[0] if found else ""

    def require_clean_surface(self) -> None:
        """
        Refuse to work beside edits of the surface that nobody has judged, which a keep would overwrite.

        :raises pytest.UsageError: naming the way out.
        """
        if read_directory(self.root, self.settings.surface) != dict(self.incumbent_files):
            names = " ".join(self.settings.surface)
            raise pytest.UsageError(
                f"the working tree's {names} has edits that no session has judged: run `pytest "
                f"--autoresearch` to judge them, or `git restore {names}`"
            )

    def fresh_run_directory(self) -> Path:
        """A new directory for one run."""
        base = self._runs_directory()
        number = sum(1 for _ in base.iterdir())
        while (path := base / f"{number:06d}").exists():
            number += 1
        path.mkdir()
        return path

    def _runs_directory(self) -> Path:
        base = (self.directory if self.writable else self.scratch.path) / "runs"
        base.mkdir(parents=True, exist_ok=True)
        return base

    def write_proposal(self, number: int, proposal: Proposal) -> Path:
        """Lay a proposal's surface files out as a candidate directory."""
        directory = self.directory / "proposals" / f"{self.state.seq + 1:04d}-{number:04d}"
        for name in self.settings.surface:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(proposal.files.get(name, self.incumbent_files[name]))
        return directory

    # -- what the stock keep and revert do -------------------------------------

    def publish(self, commit: str) -> str:
        """Move the branch to a prepared commit and bring the surface files in line."""
        self.repository.publish(
            commit,
            branch=self.branch,
            expected_tip=self.incumbent.commit,
            paths=self.settings.surface,
        )
        return commit

    def restore(self) -> str:
        """Put the incumbent's surface back; nothing else in the work tree is touched."""
        self.repository.restore_surface(self.incumbent.commit, self.settings.surface)
        return self.incumbent.commit

    def drop_foreign_commits(self) -> None:
        """
        Put the branch back at the incumbent when somebody committed on top; files stay as they are.

        An agent's own commit is only ever read as data. It stays reachable under a pin.
        """
        tip, commit = self.repository.head_commit(), self.incumbent.commit
        if tip != commit:
            self.repository.pin(f"refs/autoresearch/{self.tag}/dropped/{tip}", tip)
            self.repository.withdraw(tip, branch=self.branch, tip=commit)

    # -- opening ---------------------------------------------------------------

    def _choose_tag(self, given: str | None) -> str:
        prefix, _, rest = (self.repository.branch() or "").partition("/")
        tag = given or (rest if prefix == "autoresearch" else "main")
        if not _TAG.fullmatch(tag) or ".." in tag or tag.endswith(".lock"):
            raise RepositoryError(
                f"--autoresearch-tag {tag!r} cannot name a campaign: lower-case letters, digits, '.', '_' "
                "and '-', such as 'nov21'"
            )
        return tag

    def _task(self, source: bytes | None) -> Task:
        settings = self.settings
        if settings.mode == "self-reported":
            from .self_reported import PrintedTask

            return PrintedTask(self.root, settings, source)
        return Task(self.root, settings.prepare, settings.data, source)

    def _ratified_settings(self) -> Settings:
        if "pyproject.toml" not in self.ratified:
            return load_settings("")
        content = self.repository.read_blob(self.ratified["pyproject.toml"][1])
        return load_settings(content.decode("utf-8", errors="replace"))

    def _try_isolation(self) -> None:
        hidden = [self.root / ".git" / "HEAD", self.task.data / "manifest.json"]
        self.wall.require_holds(
            self.scratch.path,
            hidden=[path for path in hidden if path.is_file()],
            devices=gpu_nodes() if self.device == "cuda" else (),
        )

    def _check_branch(self) -> None:
        if self.read_only:
            return
        current = self.repository.require_branch()
        self.repository.require_settled(self.settings.surface)
        if current != self.branch:
            tip = self.repository.tip(self.branch)
            if self.started and tip is None:
                raise RepositoryError(
                    f"campaign {self.tag!r} has lost its branch {self.branch!r}: "
                    f"`git switch -c {self.branch} {self.incumbent.commit}` brings it back"
                )
            if self.started or tip not in (None, self.repository.head_commit()):
                raise RepositoryError(
                    f"campaign {self.tag!r} is on branch {self.branch!r}, but HEAD is on {current!r}: "
                    f"`git switch {self.branch}`, or start another campaign with --autoresearch-tag"
                )
            self.notes.append(f"HEAD will move from {current} to the new branch {self.branch}")

    def recover(self) -> None:
        """Finish or undo what a crash left between the two ledgers, before anything else."""
        settled = recover(self.journal, self.repository, self.tag)
        if settled is not None:
            self.notes.append(
                f"recovered: the {settled.cutover.action} that an earlier session left open is "
                f"{settled.cutover.resolution} (row {settled.seq})"
            )
            self.reload()
