"""
The records that flow through a session: frozen, typed, and importing nothing of ours.

A candidate becomes a mutation, a mutation is run, a run is evaluated, gates judge it, a verdict falls.
"""

from .candidates import (
    BudgetExhausted,
    Candidate,
    Domain,
    FixedHarnessViolation,
    Mutation,
    ParameterChange,
    Proposal,
)
from .judgement import (
    Alarm,
    Canary,
    Decision,
    Event,
    Evidence,
    Incumbent,
    Kept,
    Measured,
    Reason,
    Trial,
    Verdict,
    Verified,
    Watch,
)
from .runs import Curve, GateResult, Outcome, RunRequest, RunResult, RunStatus, Stage

__all__ = [
    "Alarm",
    "BudgetExhausted",
    "Canary",
    "Candidate",
    "Curve",
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
]
