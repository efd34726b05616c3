"""Every change an LLM agent makes to train.py, validated as a pytest session."""

from __future__ import annotations

from .records import (
    BudgetExhausted,
    Candidate,
    Decision,
    Domain,
    Event,
    FixedHarnessViolation,
    GateResult,
    Incumbent,
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
)

__version__ = "0.1.0"

__all__ = [
    "BudgetExhausted",
    "Candidate",
    "Decision",
    "Domain",
    "Event",
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
    "__version__",
]
