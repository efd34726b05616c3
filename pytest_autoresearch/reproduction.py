"""
Does a recorded metric hold? The restore point and the mutation, run again on the recorded seeds and scored.

Everything is taken from what was pinned then: the candidate's blobs, the ratified harness with its prepare.py
and configuration, the data by its manifest. What is measured goes the way of a session (:mod:`.measuring`).

How a figure is held against the recorded one:

- *bit for bit*, on the CPU with the recorded versions and processor, where the run repeats itself here: a figure
  that differs was not measured by this program on this data;
- *within the noise*, where it does not (a budget by the clock, a GPU) or where the machine is another one:
  two draws of one run differ by sigma sqrt(2), so ``|difference| <= t sigma sqrt(2)``, and of n runs the mean
  difference is held against ``t sigma sqrt(2 / n)``. Sigma and its degrees of freedom are those of the recorded
  reference, or of the candidate's own runs where these scatter significantly more (:mod:`.scatter`). The quantile is
  Student's, at :data:`LEVEL` for the whole finding, divided by the comparisons made (C. E. Bonferroni, 1936). Sigma
  holds the scatter over seeds besides, which is the same in both draws: the rule errs towards believing.

What is covered: a metric, a candidate, seeds or data that are not what was measured. What is not: a figure that
was forged by less than the noise; a project's execute hook, since runs take place here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .candidate import make_candidate
from .changes import changes
from .distributions import t_quantile
from .measuring import Measurement, Runner
from .paperwork import environment
from .records import Candidate, FixedHarnessViolation, RunRequest, RunStatus
from .rows import Baseline, Ratify, Restore, Run, Verdict
from .scatter import larger_scatter
from .vcs import RepositoryError

if TYPE_CHECKING:
    from .campaign import Campaign
    from .changes import Change

__all__ = ["LEVEL", "CannotReproduceError", "Noise", "Reproduction", "Rerun", "drift", "noise_of"]

LEVEL = 0.01
"""Probability, at most, that an honest finding is not reproduced where noise decides."""
BITS, WITHIN = "bit for bit", "within the noise"


class CannotReproduceError(Exception):
    """Nothing can be said about the recorded metric; the message says what is missing or differs."""


@dataclass(frozen=True)
class Noise:
    """What is known of the scatter of one run."""

    sigma: float
    df: int
    comparisons: int = 1
    """Comparisons that share :data:`LEVEL`."""

    def __str__(self) -> str:
        return (
            f"noise: |difference| <= {self.bound():.3g} = t sigma sqrt(2), sigma of one run {self.sigma:.3g} on "
            f"{self.df} degrees of freedom"
        )

    def bound(self, n: int = 1) -> float:
        """Largest credible difference between the means of n runs and of n more on the same seeds."""
        quantile = t_quantile(1 - LEVEL / (2 * self.comparisons), max(1, self.df))
        return quantile * self.sigma * math.sqrt(2 / n)


@dataclass(frozen=True)
class Rerun:
    """One recorded run and the same run now."""

    recorded: Run
    measured: Measurement
    holds: bool
    rule: str
    """How that was decided, with the figure."""

    @property
    def difference(self) -> float | None:
        """Measured minus recorded; None where either has no metric."""
        if self.recorded.metric is None or self.measured.metric is None:
            return None
        return self.measured.metric - self.recorded.metric

    @property
    def same_model(self) -> bool:
        """Whether the artifact is the recorded one, to the bit."""
        sha256 = self.recorded.artifact_sha256
        return bool(sha256) and sha256 == self.measured.run.artifact_sha256


def noise_of(payload: Verdict | Baseline, comparisons: int) -> Noise | None:
    """The recorded noise of a finding's runs; None where none was measured."""
    reference = payload.before if isinstance(payload, Verdict) else payload.after
    if not reference.sigma:
        return None
    df = max(1, reference.df)
    values = [run.metric for run in payload.runs if run.metric is not None]
    own = larger_scatter(values, reference.sigma, df) if len(values) > 1 else None
    if own is not None:
        return Noise(own.sigma, own.df, comparisons)
    return Noise(reference.sigma, df, comparisons)


def drift(reruns: Sequence[Rerun], noise: Noise | None) -> str:
    """Why runs that noise decided on do not hold together although each may; empty when they do."""
    differences = [
        rerun.difference
        for rerun in reruns
        if rerun.difference is not None and rerun.rule.startswith(WITHIN)
    ]
    if noise is None or len(differences) < 2:
        return ""
    mean, bound = statistics.fmean(differences), noise.bound(len(differences))
    if abs(mean) <= bound:
        return ""
    return f"on average they are {mean:+.3g} off, and {bound:.3g} would be credible"


class Reproduction:
    """
    A finding to be run again.

    :param campaign: opened without its lock; its harness becomes the one of that time.
    :param every: all recorded runs; else the first one only.
    :raises CannotReproduceError: nothing ran, or what is needed is not there or not what it was.
    """

    def __init__(self, campaign: Campaign, change: Change, *, every: bool = True) -> None:
        self.notes: list[str] = []
        self._campaign = campaign
        payload = change.payload
        if not isinstance(payload, Verdict | Baseline) or not payload.runs:
            raise CannotReproduceError(
                f"{change.name} is a {change.cutover.action} in which nothing ran"
            )
        self._payload = payload
        runs = [run for run in payload.runs if run.status is not RunStatus.PRUNED]
        if not runs:
            raise CannotReproduceError(
                "its run was stopped early, so that it has no metric on record"
            )
        self.runs = runs if every else runs[:1]
        try:
            campaign.use_harness(_ratified(campaign, payload.harness_tree))
            _require_restore_point(campaign, change, payload.harness_tree)
            self.candidate = _candidate(campaign, payload)
        except RepositoryError as error:
            raise CannotReproduceError(str(error)) from error
        self._require_data(payload.data_sha256)
        for device in sorted({run.device for run in self.runs} - {campaign.device}):
            raise CannotReproduceError(
                f"it ran on device {device!r}, and this is {campaign.device!r}: run it on such a machine"
            )
        self._comparable = self._compare_machines(payload)
        comparisons = len(self.runs) + (len(self.runs) > 1)
        self.noise = noise_of(payload, comparisons)
        self._repeats: bool | None = None
        """Whether a run repeats itself here; None before that was in doubt."""

    def reruns(self) -> Iterator[Rerun]:
        """
        Run after run, as each has ended.

        :raises CannotReproduceError: the data were changed meanwhile, or no noise is on record to judge by.
        """
        for recorded in self.runs:
            measured = self._measure(recorded)
            yield Rerun(recorded, measured, *self._judge(recorded, measured))

    def _measure(self, recorded: Run) -> Measurement:
        campaign = self._campaign
        runner = Runner(None, campaign)
        measured = runner.measure(
            RunRequest(
                files=self.candidate.files,
                seed=recorded.seed,
                seconds=recorded.budget_seconds,
                workdir=campaign.fresh_run_directory(),
                device=recorded.device,
            )
        )
        if runner.touched:
            raise CannotReproduceError(runner.touched)
        return measured

    def _judge(self, recorded: Run, measured: Measurement) -> tuple[bool, str]:
        if recorded.metric is None or measured.metric is None:
            same = measured.metric is None and measured.run.status is recorded.status
            return same, f"no metric then: {recorded.reason}; now: {measured.problem or 'a metric'}"
        if measured.metric == recorded.metric:
            return True, BITS
        if self._comparable and self._repeats is None:
            self._repeats = self._measure(recorded).metric == measured.metric
        if self._repeats:
            return False, f"{BITS}: it repeats itself here, and differs from the record"
        if self.noise is None:
            raise CannotReproduceError(
                "it does not repeat itself to the bit, and no noise is on record to judge by"
            )
        bound = self.noise.bound()
        holds = abs(measured.metric - recorded.metric) <= bound
        return holds, f"{WITHIN}, <= {bound:.3g}"

    def _require_data(self, recorded: str) -> None:
        task = self._campaign.task
        if task.data_sha256 != recorded:
            raise CannotReproduceError(
                f"the data differ from those recorded: the manifest of {task.data.name!r} is "
                f"{task.data_sha256[:12]}, recorded is {recorded[:12]}"
            )
        try:
            task.require_intact()
        except FixedHarnessViolation as error:
            what = str(error).removeprefix("SYSTEM HALT: ")
            raise CannotReproduceError(f"the data differ from those recorded: {what}") from error

    def _compare_machines(self, payload: Verdict | Baseline) -> bool:
        """Whether bits may be compared; notes what differs."""
        here = environment()
        differing = [
            f"{name} {payload.versions.get(name, 'not recorded')}, here {here.get(name, 'none')}"
            for name in sorted({*here, *payload.versions} - _IRRELEVANT)
            if payload.versions.get(name) != here.get(name)
        ]
        if differing:
            self.notes.append(f"another machine: recorded {'; '.join(differing)}")
        level = self._campaign.wall.label
        if payload.isolation not in ("", level):
            self.notes.append(f"recorded at isolation {payload.isolation}, here {level}")
        return not differing and self._campaign.device == "cpu"


#: Versions that no figure depends on.
_IRRELEVANT = frozenset({"pytest-autoresearch", "pytest", "gitpython", "msgspec"})


def _ratified(campaign: Campaign, tree: str) -> str:
    """The commit that somebody ratified as the harness with this tree."""
    for change in changes(campaign.journal, campaign.state):
        payload = change.payload
        if not isinstance(payload, Baseline | Ratify | Restore) or payload.tree != tree:
            continue
        return payload.ratified if isinstance(payload, Restore) else payload.commit
    raise CannotReproduceError(
        f"the harness that judged it, tree {tree[:12]}, was never ratified: `autoresearch verify` says more"
    )


def _require_restore_point(campaign: Campaign, change: Change, harness: str) -> None:
    """It is pinned, holds the surface before the mutation, and beside that the harness that judged."""
    intent, repository = change.intent, campaign.repository

    def beside(tree: str) -> dict[str, tuple[str, str]]:
        found = repository.blobs(tree)
        return {path: entry for path, entry in found.items() if path not in intent.surface}

    entries = repository.surface_entries(intent.tip, intent.surface)
    if (
        repository.ref(intent.pin) != intent.tip
        or repository.tree_of(intent.tip) != intent.tree
        or {path: oid for path, (_, oid) in entries.items()} != intent.surface
        or beside(intent.tree) != beside(harness)
    ):
        raise CannotReproduceError(
            f"the restore point {intent.pin} is gone or is not what the rows say: `autoresearch verify` says more"
        )


def _candidate(campaign: Campaign, payload: Verdict | Baseline) -> Candidate:
    """The candidate as it is pinned, held against the row."""
    repository = campaign.repository
    tree = repository.ref(payload.snapshot)
    if tree is None:
        raise CannotReproduceError(
            f"the candidate is not pinned: {payload.snapshot} is gone; `git fetch origin "
            f"'+refs/autoresearch/*:refs/autoresearch/*'` brings it where another copy has it"
        )
    blobs = {path: oid for path, (_, oid) in repository.blobs(tree).items()}
    contents = repository.read_blobs(blobs.values())
    candidate = make_candidate({path: contents[oid] for path, oid in blobs.items()}, "the record")
    if blobs != payload.surface or candidate.digest != payload.candidate:
        raise CannotReproduceError(
            f"the candidate that is pinned as {payload.snapshot} is not the one that was judged"
        )
    return candidate
