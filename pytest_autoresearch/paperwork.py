"""
What a session writes into the ledgers: its evidence and verdict as payload structs.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import __version__
from .charts import ProgressChart
from .cusum import progress
from .equivalence import fingerprint, surface_digest
from .keep import Reference as KeepReference
from .records import Candidate, Decision, Evidence, Incumbent, Verdict
from .rows import (
    Baseline,
    Chart,
    Fairness,
    Gate,
    Halt,
    Ratify,
    Reason,
    Reference,
    Run,
)
from .rows import Verdict as VerdictRow
from .vcs import commit_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .campaign import Campaign
    from .experiment import Experiment, Measurement
    from .session import AutoresearchSession

__all__ = [
    "baseline_payload",
    "cutover_message",
    "halt_payload",
    "now",
    "ratify_payload",
    "settled_payload",
]

_PACKAGES = ("pytest", "torch", "numpy", "gitpython", "msgspec")


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def baseline_payload(
    session: AutoresearchSession, evidence: Evidence, verdict: Verdict
) -> Baseline:
    """
    The row that begins a campaign: what the incumbent measures, and which gates every keep owes.

    When the session's candidate is a mutation, the incumbent's runs were made beside it; when its gates
    stopped it before any training, the reference stays unmeasured until the next session.
    """
    campaign, experiment = session.campaign, session.experiment
    own = verdict.reasons[0].code == "baseline"
    runs = experiment.runs if own else experiment.baseline
    incumbent = campaign.incumbent
    tree, blobs = campaign.repository.write_surface(campaign.incumbent_files)
    return Baseline(
        **_circumstances(campaign, experiment.started, "harness"),
        tag=campaign.tag,
        branch=campaign.branch,
        budget=campaign.settings.budget.total,
        pinned=tuple(gate.nodeid for gate in evidence.gates) if evidence.complete else (),
        commit=incumbent.commit,
        tree=campaign.repository.tree_of(incumbent.commit),
        candidate=surface_digest(campaign.incumbent_files),
        fingerprint=fingerprint(campaign.incumbent_files),
        surface=blobs,
        snapshot=_pin(campaign, tree),
        reasons=_reasons(verdict) if own else (),
        gates=_gates(evidence) if own else (),
        runs=_runs(runs),
        after=_reference(runs),
        metrics=_metrics(experiment) if own else {},
        fairness=_fairness(experiment) if own else (),
    )


def settled_payload(
    session: AutoresearchSession, evidence: Evidence, verdict: Verdict
) -> VerdictRow:
    """The row of one judged mutation."""
    campaign, experiment = session.campaign, session.experiment
    candidate, mutation = evidence.candidate, evidence.mutation
    kept = verdict.decision is Decision.KEEP
    before = campaign.incumbent
    after = before
    if kept:
        after = _after_keep(experiment, before)
    tree, blobs = campaign.repository.write_surface(candidate.files)
    budget = campaign.budget.remaining
    return VerdictRow(
        **_circumstances(campaign, experiment.started, candidate.origin),
        candidate=candidate.digest,
        fingerprint=fingerprint(candidate.files),
        origin=candidate.origin,
        surface=blobs,
        snapshot=_pin(campaign, tree),
        domain=mutation.domain,
        cost=mutation.cost,
        description=mutation.description,
        decision=verdict.decision,
        status=verdict.status,
        exit_status=verdict.exit_status,
        reasons=_reasons(verdict),
        gates=_gates(evidence),
        runs=_runs(experiment.runs),
        metric=evidence.metric,
        metrics=_metrics(experiment),
        fairness=_fairness(experiment),
        before=_as_row(before),
        after=_as_row(after),
        chart=_chart(campaign, verdict, before, after, evidence),
        budget_before=budget,
        budget_after=budget - mutation.cost,
        commit_before=campaign.repository.head_commit(),
    )


def halt_payload(campaign: Campaign, message: str, candidate: Candidate | None) -> Halt:
    """The row of a breach."""
    first = message.splitlines()[0]
    return Halt(
        **_circumstances(campaign, now(), "harness"),
        reasons=(Reason(code="halt", message=first),),
        candidate=candidate.digest if candidate else "",
        description=message[:2000],
        commit_before=campaign.repository.head_commit(),
    )


def ratify_payload(campaign: Campaign, *, actor: str, reason: str) -> Ratify:
    """The row of a harness that a person changed."""
    commit = campaign.ratified_commit
    entries = campaign.repository.surface_entries(commit, campaign.settings.surface)
    return Ratify(
        **_circumstances(campaign, now(), actor),
        reason=reason,
        commit_before=campaign.incumbent.commit,
        commit=commit,
        tree=campaign.repository.tree_of(commit),
        pinned=(),
        candidate=surface_digest(campaign.incumbent_files),
        surface={path: oid for path, (_, oid) in entries.items()},
        budget=campaign.settings.budget.total,
    )


def cutover_message(session: AutoresearchSession, evidence: Evidence, verdict: Verdict) -> str:
    """The message of a keep commit: what, why, and trailers that anchor the ledgers."""
    campaign, mutation = session.campaign, evidence.mutation
    metric = _after_keep(session.experiment, campaign.incumbent).metric
    heads = campaign.journal.heads()
    return commit_message(
        mutation.description or "a mutation",
        "\n".join(reason.message for reason in verdict.reasons),
        {
            "Autoresearch-Metric": f"{campaign.settings.metric}={metric:.6f}",
            "Autoresearch-Domain": mutation.domain.value,
            "Autoresearch-Cost": mutation.cost,
            "Autoresearch-Budget-Left": campaign.budget.remaining - mutation.cost,
            "Autoresearch-Candidate": evidence.candidate.digest,
            "Autoresearch-Isolation": evidence.run.isolation if evidence.run else "",
            "Autoresearch-Restore-Source": heads["restore-source"],
            "Autoresearch-Cutover-Audit": heads["cutover-audit"],
        },
    )


def _after_keep(experiment: Experiment, before: Incumbent) -> Incumbent:
    """The reference after a keep: the confirming runs, or the screening run where none was asked for."""
    fresh = experiment.runs[1:] or experiment.runs
    values = [measured.metric for measured in fresh if measured.metric is not None]
    return Incumbent(
        commit=before.commit,
        digest=before.digest,
        metric=sum(values) / len(values) if values else before.metric,
        sigma=before.sigma,
        n=len(values) or before.n,
        df=before.df,
    )


def _chart(
    campaign: Campaign,
    verdict: Verdict,
    before: Incumbent,
    after: Incumbent,
    evidence: Evidence,
) -> Chart | None:
    """The progress chart after this experiment; None when nothing was measured."""
    if evidence.metric is None or before.metric is None or not evidence.complete:
        return None
    alarm = any(reason.code == "cusum-alarm" for reason in verdict.reasons)
    step = 0.0 if after.metric is None else progress(before.metric, after.metric)
    monitor = ProgressChart(campaign.state.chart, campaign.settings.cusum, before).monitor()
    monitor.update(step)
    return Chart(x=step, s_upper=monitor.S_upper, s_lower=monitor.S_lower, alarm=alarm)


def _circumstances(campaign: Campaign, started: str, actor: str) -> dict[str, Any]:
    data = campaign.task.data / "manifest.json"
    versions = {"python": platform.python_version(), "pytest-autoresearch": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    hashes = {
        name: campaign.ratified[name][1]
        for name in ("pyproject.toml", campaign.settings.program, campaign.settings.prepare)
        if name in campaign.ratified
    }
    return {
        "started": started,
        "ended": now(),
        "actor": actor,
        "harness_tree": campaign.repository.tree_of(campaign.ratified_commit),
        "data_sha256": campaign.task.data_sha256 if data.is_file() else "",
        "isolation": campaign.wall.label,
        "versions": versions,
        "hashes": hashes,
    }


def _pin(campaign: Campaign, tree: str) -> str:
    """Keep the candidate's bytes from being collected: a reverted mutation stays readable."""
    name = f"refs/autoresearch/{campaign.tag}/candidate/{tree}"
    campaign.repository.pin(name, tree)
    return name


def _as_row(incumbent: Incumbent) -> Reference:
    return Reference(mean=incumbent.metric, sigma=incumbent.sigma, n=incumbent.n, df=incumbent.df)


def _reference(runs: Iterable[Measurement]) -> Reference:
    values = [measured.metric for measured in runs if measured.metric is not None]
    if len(values) < 2:
        return Reference(mean=None, sigma=None, n=0)
    found = KeepReference.from_runs(values)
    return Reference(mean=found.mean, sigma=found.sigma, n=found.n, df=found.df)


def _runs(runs: Iterable[Measurement]) -> tuple[Run, ...]:
    return tuple(
        Run(
            seed=measured.run.seed,
            status=measured.run.status,
            reason=measured.problem or measured.run.reason,
            metric=measured.metric,
            seconds=measured.run.seconds,
            budget_seconds=measured.run.budget_seconds,
            peak_memory_mb=measured.run.peak_memory_mb,
            gpu_memory_mb=measured.run.gpu_memory_mb,
            gpu_utilization=measured.run.gpu_utilization,
            artifact_sha256=measured.run.artifact_sha256,
            device=measured.run.device,
            isolation=measured.run.isolation,
        )
        for measured in runs
    )


def _reasons(verdict: Verdict) -> tuple[Reason, ...]:
    return tuple(Reason(code=r.code, message=r.message[:2000]) for r in verdict.reasons)


def _gates(evidence: Evidence) -> tuple[Gate, ...]:
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


def _metrics(experiment: Experiment) -> dict[str, float | None]:
    evaluation = experiment.evaluation if experiment.runs else None
    return (
        {name: _finite(value) for name, value in evaluation.metrics.items()} if evaluation else {}
    )


def _finite(value: float) -> float | None:
    """Ledgers hold no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _fairness(experiment: Experiment) -> tuple[Fairness, ...]:
    evaluation = experiment.evaluation if experiment.runs else None
    if evaluation is None:
        return ()
    return tuple(
        Fairness(
            metric=line.metric,
            by=line.by,
            value=_finite(line.value),
            at_most=line.at_most,
            at_least=line.at_least,
            passed=line.passed,
        )
        for line in evaluation.fairness_lines()
    )
