"""
What a verdict rests on, and the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from .candidates import Candidate, Mutation
from .runs import GateResult, RunResult

__all__ = [
    "Alarm",
    "Canary",
    "Decision",
    "Event",
    "Evidence",
    "Incumbent",
    "Kept",
    "Measured",
    "Reason",
    "Trial",
    "Verdict",
    "Verified",
    "Watch",
]


class Decision(StrEnum):
    """What becomes of the candidate."""

    KEEP = "keep"
    REVERT = "revert"
    ESCALATE = "escalate"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Reason:
    """One machine-readable ground of a verdict."""

    code: str
    """Stable identifier: ``gate-failed``, ``no-gain``, ``cusum-alarm``, ``timeout``, ``baseline``, ..."""
    message: str
    """One sentence for people."""


@dataclass(frozen=True)
class Incumbent:
    """The last kept state."""

    commit: str
    """Object id of the commit that holds it."""
    digest: str
    """Digest of its surface, as :attr:`Candidate.digest`."""
    metric: float | None
    """Reference value: mean over ``n`` runs; None before the baseline is measured."""
    sigma: float | None
    """Standard deviation over seeds of one run's metric."""
    n: int
    """Runs behind ``metric``."""
    df: int = 0
    """Degrees of freedom behind ``sigma``."""
    audit: float | None = None
    """Mean on the audit split over the same runs; None where there is none."""
    losses: str = ""
    """SHA-256 of its stored per-example losses; empty where seeds change its figure, or it has none."""
    predictions: str = ""
    """SHA-256 of its stored predictions; empty where no fairness rule compares with them."""


@dataclass(frozen=True)
class Measured:
    """The figures of one run, recomputed by the harness."""

    metric: float | None
    """On the validation split; None without a valid one."""
    audit: float | None = None
    """On the audit split; None where there is none."""


@dataclass(frozen=True)
class Kept:
    """A kept state of the campaign; the baseline is the first."""

    seq: int
    """Position among what is settled."""
    description: str
    incumbent: Incumbent
    """Its commit, and its reference when it was kept."""
    whole: bool
    """Whether its commit is there and holds what the ledger says: a restore point to go back to."""


@dataclass(frozen=True)
class Watch:
    """
    What the control charts have seen since each last started afresh.
    """

    progress: tuple[float, ...] = ()
    """Log improvements of the incumbent, one per experiment."""
    progress_seqs: tuple[int, ...] = ()
    """Position of each of these experiments."""
    gaps: tuple[float, ...] = ()
    """Audit gaps of confirmed candidates: how much more each gained on validation than on the audit split."""
    gaps_kept: tuple[bool, ...] = ()
    """Whether each of these was kept."""
    gap_seqs: tuple[int, ...] = ()
    worn_out: bool = False
    """Whether the audit-gap chart has found a leak before: from then on the audit split's veto counts."""
    canaries: tuple[float, ...] = ()
    """Re-runs of the incumbent minus its reference, in sigma of one run."""
    horizon: int = 1
    """Proposals that the mutation budget can pay for, at least 1."""
    decided: int = 0
    """Proposals that were measured so far."""


@dataclass(frozen=True)
class Canary:
    """A re-run of the incumbent, and the chart of these after it."""

    metric: float
    audit: float | None
    residual: float
    """Its distance from the reference, in sigma of one run."""
    s_upper: float
    s_lower: float
    alarm: bool


@dataclass(frozen=True)
class Verified:
    """A suspect state, measured anew."""

    seq: int
    """Position of the mutation that led to it."""
    gain: float | None
    """On validation, over the restore point; None: a run failed."""
    audit_gain: float | None
    held: bool
    message: str


@dataclass(frozen=True)
class Alarm:
    """A control chart's alarm, traced through the ledgers, and what became of it."""

    chart: str
    """``progress``, ``gap`` or ``step``."""
    message: str
    """The chart's figures, for people."""
    last_zero: int
    """Position of the last experiment at which the alarming sum was zero: what was kept later is suspect."""
    suspects: tuple[int, ...]
    """Positions of the suspects, oldest first; the last one is this candidate."""
    culprit: int | None
    """Position of the first suspect that did not hold; None when all did."""
    restore: Kept
    """The state to stand on: the last whole one at or before the last zero, a later one that held, or the incumbent."""
    verified: tuple[Verified, ...]

    @property
    def held(self) -> bool:
        """Whether this candidate, and with it every suspect, is admitted again."""
        return self.culprit is None


@dataclass(frozen=True)
class Verdict:
    """The end of a session."""

    decision: Decision
    reasons: tuple[Reason, ...]
    """Every ground, most important first."""
    status: str
    """Word for results.tsv: ``keep``, ``discard``, ``crash``, ``gate`` or ``escalate``."""
    exit_status: int
    """0 kept or unchanged, 1 gate failed, 10 no gain, 11 escalated, 12 keep or revert itself failed."""
    learned: Incumbent | None = None
    """The incumbent's reference with what this session's runs add to it; None: as before."""
    gap: float | None = None
    """Audit gap of the confirming runs."""
    canary: Canary | None = None
    """The incumbent's re-run, where one was due."""
    alarm: Alarm | None = None


@dataclass(frozen=True)
class Evidence:
    """
    All that a verdict may rest on.
    """

    candidate: Candidate
    mutation: Mutation
    gates: tuple[GateResult, ...]
    """Every gate that the session owes, with missing and deselected ones."""
    complete: bool
    """Whether exactly the pinned gates ran and every one passed."""
    run: RunResult | None
    """The screening run; None when an earlier gate stopped the session before it."""
    metric: float | None
    """The screening run's metric, recomputed by the harness; None without a valid one."""
    problem: str
    """Why there is no metric; empty when there is one."""
    audit: float | None
    """The screening run's metric on the sealed audit split; None without one."""
    seq: int
    """Position that this candidate will have among what is settled."""
    incumbent: Incumbent
    watch: Watch
    """The control charts' inputs so far."""
    kept: tuple[Kept, ...]
    """The kept states since the harness was last ratified, oldest first; the last one is the incumbent."""
    measure: Callable[[], float | None] = field(repr=False)
    """Run the candidate once more on a fresh harness seed; the metric, or None when the run failed."""
    measure_seeds: Callable[[int], Sequence[Measured]] = field(repr=False)
    """The same on several seeds, in parallel where ``run.slots`` allows it."""
    rerun: Callable[[int, int], Sequence[Measured]] = field(repr=False)
    """Run a kept state, by its position, on so many fresh harness seeds."""
    slots: int = 1
    """Runs of one candidate at a time."""
    canary_due: bool = False
    """Whether the incumbent is to be run again, against drift of the machine."""
    losses: Callable[[], tuple[object, object] | None] = field(default=lambda: None, repr=False)
    """Per-example losses of incumbent and candidate on validation, ``[n]`` each; None where there are none."""
    telltale: Callable[[], str] = field(default=str, repr=False)
    """An input column that the candidate leans on and that alone does better than the whole incumbent, or nothing."""


@dataclass(frozen=True)
class Trial:
    """One past proposal, as a proposer sees it: no held-out detail, rounded figures."""

    seq: int
    files: Mapping[str, bytes] = field(repr=False)
    description: str
    status: str
    metric: float | None
    reasons: tuple[str, ...] = ()
    """What is public of the verdict's grounds; :mod:`.feedback` decides."""


@dataclass(frozen=True)
class Event:
    """Something that happened, for ``pytest_autoresearch_record``."""

    kind: str
    """``baseline``, ``keep``, ``revert``, ``escalate``, ``halt``, ``recovered``, ``hook-failed``."""
    data: Mapping[str, object]
