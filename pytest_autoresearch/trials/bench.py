"""
Trials of a project's gates in a clone of it: one honest control, and one session for every planted violation.

The clone has the ledgers and the pins, so that the incumbent is known; sessions in it are dry runs. The project itself
is only read.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..verdicts import NOT_RUN
from .plants import PLANTS
from .plugin import NOT_APPLICABLE, OUTCOME, PLANT
from .violation import NotApplicable, Plant

if TYPE_CHECKING:
    from ..campaign import Campaign

__all__ = ["Bench", "Finding", "Trial", "findings"]

Word = Literal["ok", "WRONG", "not tried", "not shown"]

#: Seconds of a session that trains nothing, beyond which something hangs.
_PATIENCE = 300


@dataclass(frozen=True)
class Trial:
    """What the gates said of one planted violation, or of none."""

    plant: Plant | None
    """None: the control."""
    outcomes: Mapping[str, tuple[str, str]]
    """Node id to outcome and message."""
    skipped: str = ""
    """Why it was not tried."""

    def failed(self) -> tuple[str, ...]:
        """Node ids of the gates that failed."""
        return tuple(
            node for node, (outcome, _) in self.outcomes.items() if outcome in ("failed", "error")
        )

    def not_tried(self, node: str) -> str:
        """Why this says nothing of a gate; empty if it does."""
        if self.skipped:
            return self.skipped
        _, message = self.outcomes.get(node, ("missing", f"{NOT_RUN} it was not collected"))
        return message if message.startswith(NOT_RUN) else ""

    @property
    def stopped(self) -> bool:
        """Whether every gate that the violation is for has failed."""
        failed = {_name(node) for node in self.failed()}
        return self.plant is not None and failed.issuperset(self.plant.gates)


@dataclass(frozen=True)
class Finding:
    """What the trials show of one gate."""

    gate: str
    """Its node id."""
    word: Word
    """
    ``ok``: passes the incumbent, and was seen to fail. ``WRONG``: does not pass it, or passes a violation that it is
    for. ``not tried``: its violation does not apply here. ``not shown``: no violation is known for it.
    """
    reason: str = ""
    """Why it is not ok."""


class Bench:
    """
    A clone of the project at its ratified commit, with its data and ledgers.

    :param room: an empty directory, which the caller removes.
    """

    def __init__(self, campaign: Campaign, room: Path) -> None:
        self._campaign = campaign
        self._room = room
        self._outcome = room / "outcome.json"

    @cached_property
    def root(self) -> Path:
        """The clone."""
        campaign, root = self._campaign, self._room / "project"
        self._git("clone", "-q", "--no-checkout", str(campaign.root), str(root))
        self._git(
            "-C", str(root), "fetch", "-q", "origin", "+refs/autoresearch/*:refs/autoresearch/*"
        )
        commit = campaign.incumbent.commit
        branch = campaign.branch if campaign.started else "main"
        self._git("-C", str(root), "checkout", "-q", "-B", branch, commit)
        if campaign.task.data.is_dir():
            # Copied and not linked: what is planted is written over it.
            shutil.copytree(campaign.task.data, root / campaign.settings.data)
        self._copy_ledgers(root)
        return root

    def _copy_ledgers(self, root: Path) -> None:
        directory = self._campaign.directory
        target = root / directory.relative_to(self._campaign.root)
        target.mkdir(parents=True, exist_ok=True)
        for name in ("restore-source.jsonl", "cutover-audit.jsonl"):
            if (directory / name).exists():
                shutil.copyfile(directory / name, target / name)

    def control(self) -> Trial:
        """The incumbent as it is, trained for real: every gate must pass."""
        return self._session(None, self.root, ())

    def trials(self, plants: Iterable[Plant] = PLANTS) -> Iterator[Trial]:
        """Planted violations, one session each."""
        for plant in plants:
            yield self._try(plant)

    def _try(self, plant: Plant) -> Trial:
        campaign, root = self._campaign, self.root
        try:
            if plant.candidate is not None:
                files = plant.candidate(dict(campaign.incumbent_files), campaign.settings)
                for path, content in files.items():
                    (root / path).write_bytes(content)
            return self._session(plant, root, plant.options)
        except NotApplicable as reason:
            return Trial(plant, {}, str(reason))
        finally:
            self._git("-C", str(root), "checkout", "-q", "-f", "HEAD", "--", ".")
            self._git("-C", str(root), "clean", "-fdq")
            self._copy_ledgers(root)

    def _session(self, plant: Plant | None, root: Path, options: tuple[str, ...]) -> Trial:
        self._outcome.unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", "pytest", "--autoresearch", "--autoresearch-dry-run"]
        command += ["-p", "pytest_autoresearch.trials.plugin", "-p", "no:cacheprovider", "-q"]
        command += options
        told = {PLANT: plant.name if plant else "", OUTCOME: str(self._outcome), "CI": ""}
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=None if plant is None else _PATIENCE,
            check=False,
        )
        if not self._outcome.exists():
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no output"]
            return Trial(plant, {}, f"the session ended before its gates: {lines[-1]}")
        found = json.loads(self._outcome.read_bytes())
        if NOT_APPLICABLE in found:
            return Trial(plant, {}, found[NOT_APPLICABLE])
        return Trial(plant, {node: (each[0], each[1]) for node, each in found.items()})

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], check=True, capture_output=True)


def findings(control: Trial, trials: Sequence[Trial]) -> list[Finding]:
    """What the trials show of each gate, in the order in which gates run."""
    return [Finding(node, *_judged(node, control, trials)) for node in control.outcomes]


def _judged(node: str, control: Trial, trials: Sequence[Trial]) -> tuple[Word, str]:
    outcome, message = control.outcomes[node]
    if blocked := control.not_tried(node):
        return "not tried", blocked
    if outcome != "passed":
        return "WRONG", f"does not pass the incumbent: {message or outcome}"
    planted = [(trial, trial.plant) for trial in trials if trial.plant is not None]
    meant = [(trial, plant) for trial, plant in planted if _name(node) in plant.gates]
    unseen = {plant.name: trial.not_tried(node) for trial, plant in meant}
    failed = {plant.name for trial, plant in planted if node in trial.failed()}
    if missed := [name for name, why in unseen.items() if not why and name not in failed]:
        return "WRONG", f"passes {', '.join(map(repr, missed))}"
    if failed:
        return "ok", ""
    if unseen:
        return "not tried", "; ".join(f"{name}: {why}" for name, why in unseen.items())
    return "not shown", "it passed all that was planted, and none of it is meant for this gate"


def _name(node: str) -> str:
    """The gate's name without its file and its parameters."""
    return node.rpartition("::")[2].partition("[")[0]
