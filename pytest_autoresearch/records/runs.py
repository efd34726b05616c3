"""
Training runs and gates, and how they end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

__all__ = ["Curve", "GateResult", "Outcome", "RunRequest", "RunResult", "RunStatus", "Stage"]


class RunStatus(StrEnum):
    """How a training run ended."""

    FINISHED = "finished"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    NO_ARTIFACT = "no-artifact"
    PRUNED = "pruned"


Curve = tuple[tuple[float, float], ...]
"""A learning curve: (share of the compute budget that is used, 0 to 1; training loss), in order of time."""


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
    hopeless: Callable[[Curve], str] | None = field(default=None, repr=False)
    """Says why a run with this learning curve may be stopped now, or nothing; None: let it run to its end."""
    cancelled: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    """Set when the session ends before the run: a run in a thread hears of Ctrl-C by it."""


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
    log: Path | None = field(default=None, repr=False)
    """The whole output as captured, up to ``run.output_kb``: an untrusted file; None where nobody kept it."""
    curve: Curve = field(default=(), repr=False)
    """What the run said of its training loss: untrusted figures, no held-out information in them."""

    @property
    def crashed(self) -> bool:
        """Whether the run failed to deliver an artifact, for whatever reason."""
        return self.status is not RunStatus.FINISHED


class Stage(StrEnum):
    """When a gate runs: before data access, on the mutation, on the trained model."""

    PRE = "pre"
    MID = "mid"
    POST = "post"


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


@dataclass(frozen=True)
class GateResult:
    """One gate's outcome."""

    nodeid: str
    stage: Stage
    outcome: Outcome
    message: str = ""
    """The assertion's first line, or the skip reason; escaped."""
    seconds: float = 0.0
