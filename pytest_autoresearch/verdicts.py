"""
The stock verdict: every gate passed, the gain exceeds the measured noise, and the control charts are silent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .gain import gain_verdict
from .records import Decision, Evidence, GateResult, Outcome, Reason, RunStatus, Verdict

if TYPE_CHECKING:
    from .settings import Settings

__all__ = [
    "EXIT",
    "decide_verdict",
    "failed_hook_verdict",
    "failed_verdict",
    "incomplete_verdict",
    "touched_verdict",
]

#: How the skip reason of a gate begins that an earlier stage stopped.
NOT_RUN = "not run:"

#: Exit statuses of a decided session.
EXIT = {"kept": 0, "gate": 1, "no-gain": 10, "escalated": 11, "failed": 12}


def decide_verdict(evidence: Evidence, settings: Settings) -> Verdict:
    """
    Weigh the evidence; runs the candidate again where the keep rule asks for fresh seeds.
    """
    if evidence.run is not None and evidence.run.status is RunStatus.PRUNED:
        reason = Reason("pruned", evidence.run.reason)
        return Verdict(Decision.REVERT, (reason,), "discard", EXIT["no-gain"])
    if not evidence.complete:
        return _gates_verdict(evidence)
    if evidence.metric is None:
        return Verdict(
            Decision.REVERT, (_run_reason(evidence),), _run_status(evidence), EXIT["gate"]
        )
    if evidence.incumbent.metric is None:
        return _unmeasured_verdict(evidence, settings)
    if evidence.mutation.identical:
        message = (
            f"the candidate is the incumbent; it passes every gate ({settings.metric} "
            f"{evidence.metric:.6f} on a fresh seed)"
        )
        return Verdict(Decision.UNCHANGED, (Reason("unchanged", message),), "keep", EXIT["kept"])
    return gain_verdict(evidence, settings)


def _gates_verdict(evidence: Evidence) -> Verdict:
    """Not exactly the pinned gates passed: name each, the cause before its consequences."""
    reasons = []
    if evidence.problem:
        reasons.append(_run_reason(evidence))
    if not evidence.gates:
        reasons.append(Reason("no-gates", "no gate ran: a verdict needs the ratified gates"))
    broken = [gate for gate in evidence.gates if gate.outcome is not Outcome.PASSED]
    blocked = [gate for gate in broken if gate.message.startswith(NOT_RUN)]
    for gate in sorted(broken, key=lambda gate: gate.outcome not in _RED):
        if gate not in blocked:
            reasons.append(Reason(f"gate-{gate.outcome.value}", _gate_sentence(gate)))
    if blocked and reasons:
        what = "1 later gate" if len(blocked) == 1 else f"{len(blocked)} later gates"
        reasons.append(Reason("gates-not-run", f"{what} did not run"))
    elif blocked:
        reasons += [Reason(f"gate-{g.outcome.value}", _gate_sentence(g)) for g in blocked]
    status = _run_status(evidence) if evidence.problem else "gate"
    return Verdict(Decision.REVERT, tuple(reasons), status, EXIT["gate"])


_RED = (Outcome.FAILED, Outcome.ERROR)


def _gate_sentence(gate: GateResult) -> str:
    detail = f": {gate.message}" if gate.message else ""
    return f"{gate.nodeid} {gate.outcome.value}{detail}"


def _run_reason(evidence: Evidence) -> Reason:
    run = evidence.run
    code = run.status.value if run is not None and run.crashed else "no-metric"
    return Reason(code, evidence.problem or "no valid metric")


def _run_status(evidence: Evidence) -> str:
    """A word for results.tsv: a run that delivered no figure is a crash there, as upstream."""
    return "crash" if evidence.metric is None else "gate"


def _baseline_verdict(evidence: Evidence, settings: Settings) -> Verdict:
    """The first session on the unchanged project measures the reference."""
    runs = evidence.measure_seeds(settings.keep.baseline - 1)
    if any(run.metric is None for run in runs):
        reason = Reason("baseline-failed", "a baseline run gave no metric: mend train.py first")
        return Verdict(Decision.REVERT, (reason,), "crash", EXIT["gate"])
    message = f"{settings.keep.baseline} runs on harness seeds, every gate passed"
    return Verdict(Decision.KEEP, (Reason("baseline", message),), "keep", EXIT["kept"])


def _unmeasured_verdict(evidence: Evidence, settings: Settings) -> Verdict:
    """The incumbent becomes the baseline; of a mutation without a measured reference nothing can be said."""
    if evidence.mutation.identical:
        return _baseline_verdict(evidence, settings)
    message = (
        "the incumbent itself gave no metric, so nothing can be compared: commit a train.py that runs, and "
        "measure it with `pytest --autoresearch` first"
    )
    return Verdict(Decision.REVERT, (Reason("baseline-failed", message),), "crash", EXIT["gate"])


#: Of a verdict that is overruled: its measurements are not to be believed.
_NOTHING_LEARNED: dict[str, Any] = {"learned": None, "gap": None, "canary": None, "alarm": None}


def incomplete_verdict(asked: Verdict) -> Verdict:
    """What becomes of a KEEP that somebody asked for without the exact set of passed gates."""
    reason = Reason(
        "gate-set", "a keep needs exactly the pinned gates passed; the verdict was overruled"
    )
    return replace(
        asked,
        decision=Decision.REVERT,
        reasons=(reason, *asked.reasons),
        status="gate",
        exit_status=EXIT["gate"],
        **_NOTHING_LEARNED,
    )


def touched_verdict(asked: Verdict, what: str) -> Verdict:
    """What becomes of any verdict when the harness is not what it was when the session started."""
    return replace(
        asked,
        decision=Decision.REVERT,
        reasons=(Reason("harness-touched", what), *asked.reasons),
        status="gate",
        exit_status=EXIT["gate"],
        **_NOTHING_LEARNED,
    )


def failed_hook_verdict(hook: str, what: str) -> Verdict:
    """The verdict when there is none, because a hook failed."""
    reason = Reason("hook-failed", f"the hook pytest_autoresearch_{hook} failed: {what}")
    return Verdict(Decision.ESCALATE, (reason,), "escalate", EXIT["failed"])


def failed_verdict(asked: Verdict, what: str) -> Verdict:
    """What becomes of a verdict whose keep or revert failed."""
    return replace(
        asked,
        decision=Decision.ESCALATE,
        reasons=(Reason("action-failed", what), *asked.reasons),
        status="escalate",
        exit_status=EXIT["failed"],
    )
