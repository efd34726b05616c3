"""
The stock verdict: every gate passed, the gain exceeds the measured noise, and the control chart is silent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .charts import ProgressChart
from .keep import SIGMA_FLOOR, KeepRule, Reference, Step, decide
from .records import Decision, Evidence, GateResult, Outcome, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config import Settings

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
    if not evidence.complete:
        return _gates_verdict(evidence)
    if evidence.metric is None:
        return Verdict(
            Decision.REVERT, (_run_reason(evidence),), _run_status(evidence), EXIT["gate"]
        )
    if evidence.incumbent.metric is None:
        if not evidence.mutation.identical:
            return _unmeasured_verdict()
        return _baseline_verdict(evidence, settings)
    if evidence.mutation.identical:
        message = (
            f"the candidate is the incumbent; it passes every gate ({settings.metric} "
            f"{evidence.metric:.6f} on a fresh seed)"
        )
        return Verdict(Decision.UNCHANGED, (Reason("unchanged", message),), "keep", EXIT["kept"])
    return _gain_verdict(evidence, settings)


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
    for _ in range(settings.keep.baseline - 1):
        if evidence.measure() is None:
            reason = Reason("baseline-failed", "a baseline run gave no metric: mend train.py first")
            return Verdict(Decision.REVERT, (reason,), "crash", EXIT["gate"])
    message = f"baseline: {settings.keep.baseline} runs on harness seeds, every gate passed"
    return Verdict(Decision.KEEP, (Reason("baseline", message),), "keep", EXIT["kept"])


def _unmeasured_verdict() -> Verdict:
    """A mutation whose reference could not be measured: nothing can be said about it."""
    message = (
        "the incumbent itself gave no metric, so nothing can be compared: commit a train.py that runs, and "
        "measure it with `pytest --autoresearch` first"
    )
    return Verdict(Decision.REVERT, (Reason("baseline-failed", message),), "crash", EXIT["gate"])


def _gain_verdict(evidence: Evidence, settings: Settings) -> Verdict:
    if evidence.metric is None or evidence.incumbent.metric is None:
        raise ValueError("a gain needs two metrics")
    reference, values = reference_of(evidence), [evidence.metric]
    step = _measure_gain(evidence, values, reference, settings)
    if step is None:
        reason = Reason("confirmation-failed", "a confirming run on a fresh seed gave no metric")
        return Verdict(Decision.REVERT, (reason,), "crash", EXIT["no-gain"])
    if step.action != "keep":
        return Verdict(
            Decision.REVERT, (Reason("no-gain", step.message),), "discard", EXIT["no-gain"]
        )
    if ignores_seeds(values, reference):
        message = (
            f"{len(values)} runs on different seeds came to the same figure, which the incumbent's do not: a "
            "candidate that brings its own seed may be the luckiest of many, so no repetition confirms it; "
            "draw from AUTORESEARCH_SEED"
        )
        return Verdict(
            Decision.REVERT, (Reason("seed-ignored", message),), "discard", EXIT["no-gain"]
        )
    chart = ProgressChart(evidence.chart, settings.cusum, evidence.incumbent)
    metric = step.reference_after.mean
    explained = chart.explain(metric)
    if chart.would_alarm(metric):
        reasons = (
            Reason("cusum-alarm", f"implausible progress, a person must look: {explained}"),
            Reason("gain", step.message),
        )
        return Verdict(Decision.ESCALATE, reasons, "escalate", EXIT["escalated"])
    return Verdict(
        Decision.KEEP,
        (Reason("gain", step.message), Reason("cusum-silent", explained)),
        "keep",
        EXIT["kept"],
    )


def reference_of(evidence: Evidence) -> Reference:
    """The incumbent's reference as the keep rule wants it."""
    incumbent = evidence.incumbent
    if incumbent.metric is None or incumbent.sigma is None:
        raise ValueError("the incumbent has not been measured")
    return Reference(incumbent.metric, incumbent.sigma, incumbent.n, incumbent.df)


def _measure_gain(
    evidence: Evidence, values: list[float], reference: Reference, settings: Settings
) -> Step | None:
    """
    Apply the keep rule to ``values``, the screening run's metric, measuring as long as it asks.

    The further metrics are appended to ``values``; None when a run failed.
    """
    rule = KeepRule(alpha=settings.keep.alpha, confirm=settings.keep.confirm)
    step = decide(reference, values[0], values[1:], rule)
    while step.action == "measure":
        metric = evidence.measure()
        if metric is None:
            return None
        values.append(metric)
        step = decide(reference, values[0], values[1:], rule)
    return step


def ignores_seeds(values: Sequence[float], reference: Reference) -> bool:
    """
    Whether fresh seeds were no fresh draws, though the incumbent's are.

    Two honest runs come that close with a probability of 3 %, three with 0.07 %: with one confirming run only
    equal figures count.
    """
    noisy = reference.sigma > 2 * SIGMA_FLOOR * abs(reference.mean)
    share = 0.05 if len(values) > 2 else 1e-6
    return noisy and len(values) > 1 and max(values) - min(values) <= share * reference.sigma


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
    )


def touched_verdict(asked: Verdict, what: str) -> Verdict:
    """What becomes of any verdict when the harness is not what it was when the session started."""
    return replace(
        asked,
        decision=Decision.REVERT,
        reasons=(Reason("harness-touched", what), *asked.reasons),
        status="gate",
        exit_status=EXIT["gate"],
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
