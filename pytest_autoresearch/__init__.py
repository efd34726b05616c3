"""Every change an LLM agent makes to train.py, validated as a pytest session."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .records import (
        Alarm,
        BudgetExhausted,
        Canary,
        Candidate,
        Decision,
        Domain,
        Event,
        Evidence,
        FixedHarnessViolation,
        GateResult,
        Incumbent,
        Kept,
        Measured,
        Mutation,
        Outcome,
        ParameterChange,
        Proposal,
        Reason,
        RunRequest,
        RunResult,
        RunStatus,
        Stage,
        Trial,
        Verdict,
        Verified,
        Watch,
    )

__version__ = "0.1.0"

__all__ = [
    "Alarm",
    "BudgetExhausted",
    "Canary",
    "Candidate",
    "Decision",
    "Domain",
    "Event",
    "Evidence",
    "FixedHarnessViolation",
    "GateResult",
    "Incumbent",
    "Kept",
    "Measured",
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
    "Verified",
    "Watch",
    "__version__",
]


def __getattr__(name: str) -> object:
    # Every pytest session imports this package; building twenty dataclasses for nothing takes 15 ms.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import records

    return getattr(records, name)
