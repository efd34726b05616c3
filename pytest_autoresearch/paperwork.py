"""
What a session writes into the ledgers: its evidence and verdict as payload structs.
"""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from . import __version__
from .charts import ProgressChart, change
from .equivalence import fingerprint, surface_digest
from .gain import reference_of
from .incumbents import directory, store_predictions
from .keep import Reference as KeepReference
from .losses import store
from .meters import device_name
from .records import Candidate, Decision, Evidence, Incumbent, Verdict
from .report.tables import escape
from .row_parts import (
    alarm_row,
    canary_row,
    fairness_rows,
    gate_rows,
    measured_reference,
    metric_row,
    reason_rows,
    reference_row,
    run_rows,
)
from .rows import Baseline, Chart, Halt, Ratify, Reason, Reference, Stop
from .rows import Verdict as VerdictRow
from .self_reported import labelled
from .vcs import commit_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .campaign import Campaign
    from .experiment import Experiment
    from .measuring import Measurement
    from .session import AutoresearchSession

__all__ = [
    "baseline_payload",
    "cutover_message",
    "environment",
    "halt_payload",
    "now",
    "ratify_payload",
    "settled_payload",
    "stop_payload",
]

_PACKAGES = ("pytest", "torch", "numpy", "gitpython", "msgspec")
#: How the ledgers and commits name where a metric comes from.
_SOURCES = {"verified": "recomputed", "self-reported": "self-reported"}


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
        description=labelled("baseline", campaign.settings),
        reasons=reason_rows(verdict) if own else (),
        gates=gate_rows(evidence) if own else (),
        runs=run_rows(runs),
        after=_baseline_reference(experiment, runs),
        metrics=metric_row(experiment) if own else {},
        fairness=fairness_rows(experiment) if own else (),
    )


def settled_payload(
    session: AutoresearchSession, evidence: Evidence, verdict: Verdict
) -> VerdictRow:
    """The row of one judged mutation."""
    campaign, experiment = session.campaign, session.experiment
    candidate, mutation = evidence.candidate, evidence.mutation
    before = campaign.incumbent
    after = _after(experiment, evidence, verdict)
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
        reasons=reason_rows(verdict),
        gates=gate_rows(evidence),
        runs=run_rows(experiment.runs),
        metric=evidence.metric,
        metrics=metric_row(experiment),
        fairness=fairness_rows(experiment),
        before=reference_row(before),
        after=reference_row(after),
        chart=_chart(campaign, verdict, before, after, evidence),
        gap=verdict.gap,
        canary=canary_row(verdict),
        alarm=alarm_row(verdict),
        others=run_rows(experiment.others),
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


def stop_payload(campaign: Campaign, code: str, message: str, rounds: int, seconds: float) -> Stop:
    """The row with which a loop of rounds ends."""
    return Stop(
        **_circumstances(campaign, now(), "harness"),
        code=code,
        message=message[:2000],
        rounds=rounds,
        seconds=seconds,
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
    metric = _after(session.experiment, evidence, verdict).metric
    heads = campaign.journal.heads()
    return commit_message(
        mutation.description or "a mutation",
        "\n".join(reason.message for reason in verdict.reasons),
        {
            "Autoresearch-Metric": f"{campaign.settings.metric}={metric:.6f}",
            "Autoresearch-Metric-Source": _SOURCES[campaign.settings.mode],
            "Autoresearch-Domain": mutation.domain.value,
            "Autoresearch-Cost": mutation.cost,
            "Autoresearch-Budget-Left": campaign.budget.remaining - mutation.cost,
            "Autoresearch-Candidate": evidence.candidate.digest,
            "Autoresearch-Isolation": evidence.run.isolation if evidence.run else "",
            "Autoresearch-Restore-Source": heads["restore-source"],
            "Autoresearch-Cutover-Audit": heads["cutover-audit"],
        },
    )


def _after(experiment: Experiment, evidence: Evidence, verdict: Verdict) -> Incumbent:
    """The incumbent's reference after the verdict has been carried out."""
    before = experiment.incumbent
    learned = verdict.learned or before
    if verdict.decision is Decision.KEEP:
        return _after_keep(experiment, learned)
    if verdict.alarm is not None and verdict.decision is Decision.REVERT:
        return learned
    # A verdict that was overruled or escalated says nothing about the incumbent but its own re-runs.
    return replace(learned, commit=before.commit, digest=before.digest)


def _after_keep(experiment: Experiment, learned: Incumbent) -> Incumbent:
    """The reference after a keep: the confirming runs, or the screening run where none was asked for."""
    fresh = experiment.runs[1:] or experiment.runs
    values = [measured.metric for measured in fresh if measured.metric is not None]
    audits = [measured.audit for measured in fresh if measured.audit is not None]
    return Incumbent(
        commit=learned.commit,
        digest=learned.digest,
        metric=sum(values) / len(values) if values else learned.metric,
        sigma=learned.sigma,
        n=len(values) or learned.n,
        df=learned.df,
        audit=sum(audits) / len(audits) if audits and len(audits) == len(values) else None,
        losses=_stored(experiment, fresh, learned),
        predictions=store_predictions(experiment, experiment.runs[0], kept=True),
    )


def _stored(experiment: Experiment, runs: Sequence[Measurement], incumbent: Incumbent) -> str:
    """Keep the new incumbent's per-example losses where examples stand in for seeds; the SHA-256 of them."""
    losses = runs[0].losses if runs else None
    if losses is None or not reference_of(incumbent).deterministic:
        return ""
    return store(directory(experiment.campaign, "losses"), experiment.candidate.digest, losses)


def _baseline_reference(experiment: Experiment, runs: Sequence[Measurement]) -> Reference:
    found = measured_reference(runs)
    if found.mean is None or found.sigma is None:
        return found
    predicted = store_predictions(experiment, runs[0], kept=False)
    reference = KeepReference(found.mean, found.sigma, found.n, found.df)
    found = msgspec.structs.replace(found, predictions_sha256=predicted)
    if runs[0].losses is None or not reference.deterministic:
        return found
    digest = surface_digest(experiment.campaign.incumbent_files)
    stored = store(directory(experiment.campaign, "losses"), digest, runs[0].losses)
    return msgspec.structs.replace(found, losses_sha256=stored)


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
    settings = campaign.settings.cusum
    alarm = any(reason.code == "cusum-alarm" for reason in verdict.reasons) and (
        verdict.alarm is None or verdict.alarm.chart == "progress"
    )
    step = 0.0
    if verdict.decision is Decision.KEEP and after.metric is not None:
        step = change(before.metric, after.metric, settings)
    monitor = ProgressChart(campaign.state.chart, settings, before).monitor()
    monitor.update(step)
    return Chart(x=step, s_upper=monitor.S_upper, s_lower=monitor.S_lower, alarm=alarm)


def environment() -> dict[str, str]:
    """What a figure's last bit may depend on: the processor's name and the versions of the tools."""
    found = {
        "python": platform.python_version(),
        "processor": escape(device_name("cpu")),
        "pytest-autoresearch": __version__,
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _circumstances(campaign: Campaign, started: str, actor: str) -> dict[str, Any]:
    data = campaign.task.data / "manifest.json"
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
        "metric_source": _SOURCES[campaign.settings.mode],
        "isolation": campaign.wall.label,
        "versions": environment(),
        "hashes": hashes,
    }


def _pin(campaign: Campaign, tree: str) -> str:
    """Keep the candidate's bytes from being collected: a reverted mutation stays readable."""
    name = f"refs/autoresearch/{campaign.tag}/candidate/{tree}"
    campaign.repository.pin(name, tree)
    return name
