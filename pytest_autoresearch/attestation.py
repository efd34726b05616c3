"""
One kept finding as an in-toto Statement with SLSA provenance: what was made, from what, by what.

The statement is a projection of two rows and of the objects they name, and of nothing else: made twice, it is
the same bytes. It is not signed here.

Formats: in-toto Attestation Framework v1 (Statement, ResourceDescriptor, DigestSet) and SLSA Provenance v1
(buildDefinition, runDetails). The metric on the audit split stays out: no agent may learn it from a file that
people pass around.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .fold import fold
from .rows import Restore, Verdict

if TYPE_CHECKING:
    from .chain import Row
    from .journal import Journal
    from .rows import Cutover, Intent, Run
    from .vcs import Repository

__all__ = [
    "BUILDER",
    "BUILD_TYPE",
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "Kept",
    "encode_statement",
    "kept_findings",
    "statement",
]

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
# URIs that resolve nowhere: docs/provenance.md, "Attestations", says what they stand for.
BUILD_TYPE = "pytest-autoresearch:experiment/v1"
BUILDER = "pytest-autoresearch:session/"
"""The isolation level follows: trust in a builder is trust in its wall."""


@dataclass(frozen=True)
class Kept:
    """A keep that took place."""

    seq: int
    """Position in the campaign, as in results.tsv."""
    standing: bool
    """Whether the campaign still builds on it; False once it was rolled back."""
    begun: Row
    """Its row in restore-source."""
    intent: Intent
    settled: Row
    """Its row in cutover-audit."""
    cutover: Cutover
    verdict: Verdict


def kept_findings(journal: Journal) -> Iterator[Kept]:
    """
    Every keep that took place, oldest first; baselines are none, findings start from them.

    :raises LedgerError: when a ledger is not what was written.
    """
    positions = {row.row: row.seq for row in fold(journal.cutovers()).settled}
    gone = _rolled_back(journal, positions)
    # A change that is still open has no second row.
    pairs = zip(journal.intents(), journal.cutovers(), strict=False)
    for (begun, intent), (settled, cutover) in pairs:
        payload = cutover.payload
        if _took_place(cutover, "keep") and isinstance(payload, Verdict):
            yield Kept(
                seq=positions[settled.seq],
                standing=settled.seq not in gone,
                begun=begun,
                intent=intent,
                settled=settled,
                cutover=cutover,
                verdict=payload,
            )


def _rolled_back(journal: Journal, positions: dict[int, int]) -> set[int]:
    """Rows of keeps that a later row went back behind."""
    standing: dict[int, int] = {}
    gone: set[int] = set()
    for settled, cutover in journal.cutovers():
        if _took_place(cutover, "keep"):
            standing[settled.seq] = positions[settled.seq]
        elif _took_place(cutover, "rollback"):
            payload = cutover.payload
            if isinstance(payload, Restore):
                last = payload.restore_seq
            elif isinstance(payload, Verdict) and payload.alarm is not None:
                last = payload.alarm.restore_seq
            else:
                continue
            gone |= {row for row, seq in standing.items() if seq > last}
            standing = {row: seq for row, seq in standing.items() if seq <= last}
    return gone


def _took_place(cutover: Cutover, action: str) -> bool:
    return cutover.action == action and cutover.resolution != "rolled-back"


def statement(kept: Kept, *, tag: str, repository: Repository) -> dict[str, Any]:
    """
    The in-toto Statement of one finding.

    :raises RepositoryError: when the surface's contents are missing or forged.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": _subject(kept, repository),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": _definition(kept),
            "runDetails": _details(kept, tag),
        },
    }


def encode_statement(made: dict[str, Any]) -> bytes:
    """The statement's bytes: sorted keys, no blanks, ASCII."""
    return json.dumps(made, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _subject(kept: Kept, repository: Repository) -> list[dict[str, Any]]:
    """What the finding is: the commit, the model that was scored, the surface's files."""
    subject = [_resource(kept.intent.branch, gitCommit=kept.cutover.result)]
    run = kept.verdict.runs[0] if kept.verdict.runs else None
    if run is not None and run.artifact_sha256:
        subject.append(_resource(run.artifact.rpartition("/")[2], sha256=run.artifact_sha256))
    surface = kept.verdict.surface
    contents = repository.read_blobs(surface.values())
    for path, oid in sorted(surface.items()):
        digest = hashlib.sha256(contents[oid]).hexdigest()
        subject.append(_resource(path, gitBlob=oid, sha256=digest))
    return subject


def _definition(kept: Kept) -> dict[str, Any]:
    verdict = kept.verdict
    run = verdict.runs[0] if verdict.runs else None
    dependencies = [
        _noted("restore point", {"ref": kept.intent.pin}, gitCommit=kept.intent.tip),
        _resource("harness", gitTree=verdict.harness_tree),
    ]
    if verdict.data_sha256:
        dependencies.append(_resource("data manifest", sha256=verdict.data_sha256))
    for name, oid in sorted(verdict.hashes.items()):
        dependencies.append(_resource(name, gitBlob=oid))
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "candidate": verdict.candidate,
            "surface": verdict.surface,
            "snapshot": verdict.snapshot,
            "origin": verdict.origin,
            "description": verdict.description,
            "domain": verdict.domain.value,
        },
        "internalParameters": {
            "seeds": [one.seed for one in verdict.runs],
            "settings": verdict.hashes.get("pyproject.toml", ""),
            "isolation": verdict.isolation,
            "device": run.device if run else "",
            "budgetSeconds": run.budget_seconds if run else None,
            "cost": verdict.cost,
        },
        "resolvedDependencies": dependencies,
    }


def _details(kept: Kept, tag: str) -> dict[str, Any]:
    verdict = kept.verdict
    result = {
        "decision": verdict.decision.value,
        "reasons": [{"code": one.code, "message": one.message} for one in verdict.reasons],
        "metric": verdict.metric,
        "metrics": verdict.metrics,
        "before": _reference(verdict.before.mean, verdict.before.sigma, verdict.before.n),
        "after": _reference(verdict.after.mean, verdict.after.sigma, verdict.after.n),
        "runs": [_run(one) for one in verdict.runs],
        "gates": {gate.nodeid: gate.outcome.value for gate in verdict.gates},
        "fairness": [
            {
                "metric": line.metric,
                "by": line.by,
                "value": line.value,
                "atMost": line.at_most,
                "atLeast": line.at_least,
                "passed": line.passed,
            }
            for line in verdict.fairness
        ],
    }
    return {
        "builder": {"id": f"{BUILDER}{verdict.isolation}", "version": verdict.versions},
        "metadata": {
            "invocationId": f"{tag}/{kept.seq}",
            "startedOn": _timestamp(verdict.started),
            "finishedOn": _timestamp(verdict.ended),
        },
        "byproducts": [
            # A row's hash holds for every row before it: these are the ledgers' heads at that moment.
            _noted("restore-source row", {"seq": kept.begun.seq}, sha256=kept.begun.sha256),
            _noted("cutover-audit row", {"seq": kept.settled.seq}, sha256=kept.settled.sha256),
            _noted("verdict", result, sha256=kept.intent.payload_sha256),
        ],
    }


def _run(run: Run) -> dict[str, Any]:
    return {"seed": run.seed, "metric": run.metric, "artifactSha256": run.artifact_sha256}


def _reference(mean: float | None, sigma: float | None, n: int) -> dict[str, Any]:
    return {"mean": mean, "sigma": sigma, "n": n}


def _resource(name: str, /, **digest: str) -> dict[str, Any]:
    return {"name": name, "digest": digest}


def _noted(name: str, annotations: dict[str, Any], /, **digest: str) -> dict[str, Any]:
    return {**_resource(name, **digest), "annotations": annotations}


def _timestamp(text: str) -> str:
    """RFC 3339 in UTC with a Z, as in-toto has it."""
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
