"""
Records as the parts of ledger rows: the ledger's format is deliberately not the in-memory record.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .evaluation import reported_fairness
from .keep import Reference as KeepReference
from .records import Evidence, Incumbent, Verdict
from .rows import Alarm, Canary, Fairness, Gate, Reason, Reference, Run, Verified

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .experiment import Experiment
    from .measuring import Measurement

__all__ = [
    "alarm_row",
    "canary_row",
    "fairness_rows",
    "gate_rows",
    "measured_reference",
    "metric_row",
    "reason_rows",
    "reference_row",
    "run_rows",
]


def canary_row(verdict: Verdict) -> Canary | None:
    found = verdict.canary
    if found is None:
        return None
    return Canary(
        metric=found.metric,
        audit=found.audit,
        residual=found.residual,
        s_upper=found.s_upper,
        s_lower=found.s_lower,
        alarm=found.alarm,
    )


def alarm_row(verdict: Verdict) -> Alarm | None:
    found = verdict.alarm
    if found is None:
        return None
    return Alarm(
        chart=found.chart,
        message=found.message,
        last_zero=found.last_zero,
        suspects=found.suspects,
        culprit=found.culprit,
        restore=found.restore.incumbent.commit,
        restore_seq=found.restore.seq,
        verified=tuple(
            Verified(
                seq=v.seq, gain=v.gain, audit_gain=v.audit_gain, held=v.held, message=v.message
            )
            for v in found.verified
        ),
    )


def reference_row(incumbent: Incumbent) -> Reference:
    return Reference(
        mean=incumbent.metric,
        sigma=incumbent.sigma,
        n=incumbent.n,
        df=incumbent.df,
        audit=incumbent.audit,
        losses_sha256=incumbent.losses,
        predictions_sha256=incumbent.predictions,
    )


def measured_reference(runs: Iterable[Measurement]) -> Reference:
    runs = list(runs)
    values = [measured.metric for measured in runs if measured.metric is not None]
    if len(values) < 2:
        return Reference(mean=None, sigma=None, n=0)
    found = KeepReference.from_runs(values)
    audits = [measured.audit for measured in runs if measured.audit is not None]
    audit = sum(audits) / len(audits) if len(audits) == len(values) else None
    return Reference(mean=found.mean, sigma=found.sigma, n=found.n, df=found.df, audit=audit)


def run_rows(runs: Iterable[Measurement]) -> tuple[Run, ...]:
    return tuple(
        Run(
            seed=measured.run.seed,
            status=measured.run.status,
            reason=measured.problem or measured.run.reason,
            metric=measured.metric,
            audit=measured.audit,
            seconds=measured.run.seconds,
            budget_seconds=measured.run.budget_seconds,
            peak_memory_mb=measured.run.peak_memory_mb,
            gpu_memory_mb=measured.run.gpu_memory_mb,
            gpu_utilization=measured.run.gpu_utilization,
            artifact_sha256=measured.run.artifact_sha256,
            artifact="/".join(measured.run.artifact.parts[-2:]) if measured.run.artifact else "",
            device=measured.run.device,
            isolation=measured.run.isolation,
            curve=measured.run.curve,
        )
        for measured in runs
    )


def reason_rows(verdict: Verdict) -> tuple[Reason, ...]:
    return tuple(Reason(code=r.code, message=r.message[:2000]) for r in verdict.reasons)


def gate_rows(evidence: Evidence) -> tuple[Gate, ...]:
    return tuple(
        Gate(
            nodeid=gate.nodeid,
            stage=gate.stage,
            outcome=gate.outcome,
            message=gate.message,
            seconds=gate.seconds,
        )
        for gate in evidence.gates
    )


def metric_row(experiment: Experiment) -> dict[str, float | None]:
    evaluation = experiment.evaluation if experiment.runs else None
    return (
        {name: _finite(value) for name, value in evaluation.metrics.items()} if evaluation else {}
    )


def _finite(value: float) -> float | None:
    """Ledgers hold no NaN and no infinity."""
    return value if math.isfinite(value) else None


def fairness_rows(experiment: Experiment) -> tuple[Fairness, ...]:
    evaluation = experiment.evaluation if experiment.runs else None
    return tuple(
        Fairness(
            metric=line.metric,
            by=line.by,
            value=_finite(line.value),
            at_most=line.at_most,
            at_least=line.at_least,
            passed=line.passed,
            low=_finite(line.low),
            high=_finite(line.high),
            incumbent=None if line.incumbent is None else _finite(line.incumbent),
            worse_by=line.worse_by,
            worsening=None if line.worsening is None else _finite(line.worsening),
        )
        for line in reported_fairness(evaluation)
    )
