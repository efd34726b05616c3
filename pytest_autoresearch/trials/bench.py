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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .plants import PLANTS, NotApplicable, Plant
from .plugin import OUTCOME, PLANT

if TYPE_CHECKING:
    from ..campaign import Campaign

__all__ = ["Bench", "Finding", "Trial"]

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


@dataclass(frozen=True)
class Finding:
    """What the trials show of one gate."""

    gate: str
    """Its node id."""
    passes: bool
    """Whether it passed on the honest control."""
    failed_on: tuple[str, ...]
    """The planted violations that made it fail."""
    missed: tuple[str, ...]
    """Those that should have and did not."""
    not_tried: str = ""
    """Why there is no violation for it here."""
    message: str = ""
    """Of the control, where it failed there."""

    @property
    def wrong(self) -> bool:
        """Whether the gate stops what is honest, or lets a violation through that it is for."""
        return not self.passes or bool(self.missed)


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

    def trials(self) -> Iterator[Trial]:
        """Every planted violation, one session each."""
        for plant in PLANTS:
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
        command += [
            "-p",
            "pytest_autoresearch.trials.plugin",
            "-p",
            "no:cacheprovider",
            "-q",
            *options,
        ]
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
        if "not applicable" in found:
            return Trial(plant, {}, found["not applicable"])
        return Trial(plant, {node: (each[0], each[1]) for node, each in found.items()})

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], check=True, capture_output=True)


def findings(control: Trial, trials: list[Trial]) -> list[Finding]:
    """What the trials show of each gate, in the order in which gates run."""
    found = []
    for node, (outcome, message) in control.outcomes.items():
        name = node.rpartition("::")[2].partition("[")[0]
        meant = [trial for trial in trials if trial.plant and name in trial.plant.gates]
        failed_on = tuple(t.plant.name for t in trials if t.plant and node in t.failed())
        missed = tuple(
            trial.plant.name
            for trial in meant
            if trial.plant and not trial.skipped and node not in trial.failed()
        )
        reasons = [trial.skipped for trial in meant if trial.skipped]
        none = "" if failed_on or missed else "; ".join(reasons) or "no violation is known for it"
        found.append(
            Finding(
                gate=node,
                passes=outcome == "passed",
                failed_on=failed_on,
                missed=missed,
                not_tried=none,
                message=message if outcome != "passed" else "",
            )
        )
    return found
