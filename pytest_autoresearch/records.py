"""
The records that flow through a session: frozen, typed, and importing nothing of ours.

A candidate becomes a mutation, a mutation is run, a run is evaluated, gates judge it, a verdict falls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

__all__ = [
    "BudgetExhausted",
    "Candidate",
    "Decision",
    "Domain",
    "Event",
    "Evidence",
    "FixedHarnessViolation",
    "GateResult",
    "Incumbent",
    "Mutation",
    "Outcome",
    "ParameterChange",
    "Proposal",
    "Reason",
    "RunRequest",
    "RunResult",
    "RunStatus",
    "Stage",
    "Trial",
    "Verdict",
]


class FixedHarnessViolation(Exception):
    """
    A breach of the Fixed Harness: the execution ends at once, it is neither warned about nor retried.

    The message starts with ``SYSTEM HALT:``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            message if message.startswith("SYSTEM HALT:") else f"SYSTEM HALT: {message}"
        )


class BudgetExhausted(FixedHarnessViolation):
    """The mutation budget cannot pay for the mutation."""

    def __init__(self, requested: int, remaining: int) -> None:
        super().__init__(
            f"MUTATION BUDGET EXHAUSTED. Requested {requested}, remaining {remaining}."
        )
        self.requested = requested
        self.remaining = remaining


class Domain(StrEnum):
    """What a mutation touches; its risk sets its cost."""

    HYPOTHESIS = "hypothesis"
    HYPERPARAMETER = "hyperparameter"
    METRIC = "metric"
    FEATURE = "feature"
    ARCHITECTURE = "architecture"


class Stage(StrEnum):
    """When a gate runs: before data access, on the mutation, on the trained model."""

    PRE = "pre"
    MID = "mid"
    POST = "post"


class RunStatus(StrEnum):
    """How a training run ended."""

    FINISHED = "finished"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    NO_ARTIFACT = "no-artifact"


class Outcome(StrEnum):
    """How a gate ended. Only PASSED counts towards a keep."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    XPASSED = "xpassed"
    DESELECTED = "deselected"
    MISSING = "missing"


class Decision(StrEnum):
    """What becomes of the candidate."""

    KEEP = "keep"
    REVERT = "revert"
    ESCALATE = "escalate"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Candidate:
    """
    The bytes of the mutation surface under test: data, never imported by the trusted process.
    """

    files: Mapping[str, bytes] = field(repr=False)
    """Surface path (POSIX, relative to the project root) to content."""
    origin: str
    """Where the bytes were read: ``working tree``, ``directory '...'`` or ``revision '...'``."""
    digest: str
    """SHA-256 over the sorted paths and contents (hex)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))


@dataclass(frozen=True)
class ParameterChange:
    """A module constant whose literal value changed."""

    name: str
    before: str
    """Source text of the old value; empty when the constant is new."""
    after: str
    """Source text of the new value; empty when the constant is gone."""


@dataclass(frozen=True)
class Mutation:
    """What the candidate changes against the incumbent, by abstract syntax tree."""

    domain: Domain
    """The dearest domain touched."""
    domains: frozenset[Domain]
    """Every domain touched."""
    cost: int
    """Budget units."""
    description: str
    """One line, generated from the difference or given by the proposer."""
    diff: str = field(repr=False)
    """Unified diff, incumbent to candidate."""
    parameters: tuple[ParameterChange, ...] = ()
    """Module constants whose literal values changed."""
    touched: frozenset[str] = frozenset()
    """Names of the module-level constants, functions and classes that differ."""
    identical: bool = False
    """The candidate's bytes are the incumbent's."""
    syntax_error: str = ""
    """Why the candidate cannot be parsed; empty when it can."""


@dataclass(frozen=True)
class RunRequest:
    """One training run, as the execute hook receives it."""

    files: Mapping[str, bytes] = field(repr=False)
    """Surface files to run."""
    seed: int
    """The harness owns the seed."""
    seconds: float
    """Compute budget, wall-clock seconds from process start."""
    workdir: Path
    """Fresh directory of this run, made by the harness; the run's output lands below it."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""


@dataclass(frozen=True)
class RunResult:
    """What one training run left behind, measured from outside."""

    status: RunStatus
    reason: str
    """One line a person accepts: ``finished``, ``exit status 1: ZeroDivisionError``, ..."""
    seed: int
    seconds: float
    """Wall-clock seconds from spawn to the end of the last process."""
    budget_seconds: float
    artifact: Path | None
    """The exported model, copied out of the run's reach; None unless the run finished."""
    artifact_sha256: str
    """Empty without an artifact."""
    returncode: int | None
    peak_memory_mb: float
    """Peak resident memory of the process tree, MiB, read from outside."""
    device: str
    isolation: str
    """Isolation level that really held: ``none``, ``strong``, ..."""
    gpu_memory_mb: float | None = None
    """Peak GPU memory above the level before the run, MiB; None without a GPU."""
    gpu_utilization: float | None = None
    """Mean GPU utilisation while it ran, 0 to 1; None without a GPU."""
    log_tail: str = field(default="", repr=False)
    """Last lines of the run's output, control characters escaped: untrusted text."""

    @property
    def crashed(self) -> bool:
        """Whether the run failed to deliver an artifact, for whatever reason."""
        return self.status is not RunStatus.FINISHED


@dataclass(frozen=True)
class GateResult:
    """One gate's outcome."""

    nodeid: str
    stage: Stage
    outcome: Outcome
    message: str = ""
    """The assertion's first line, or the skip reason; escaped."""
    seconds: float = 0.0


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
    """Degrees of freedom behind ``sigma``: baseline runs - 1."""


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
    incumbent: Incumbent
    chart: tuple[float, ...]
    """Log improvements of the incumbent per experiment so far: the input of the progress chart."""
    measure: Callable[[], float | None] = field(repr=False)
    """Run the candidate once more on a fresh harness seed; the metric, or None when the run failed."""


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
class Proposal:
    """A mutation proposed by an agent: whole files, not a patch."""

    files: Mapping[str, bytes] = field(repr=False)
    description: str


@dataclass(frozen=True)
class Event:
    """Something that happened, for ``pytest_autoresearch_record``."""

    kind: str
    """``baseline``, ``keep``, ``revert``, ``escalate``, ``halt``, ``recovered``, ``hook-failed``."""
    data: Mapping[str, object]
