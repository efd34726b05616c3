"""
The record for other programs: JSON Lines, one object a change; CSV, one line a finding.

The fields stand in docs/provenance.md and only ever grow in number.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from ..changes import Change, unsealed
from ..records import Outcome
from ..rows import Baseline, Halt, Lost, Verdict
from .results import cell

if TYPE_CHECKING:
    from ..chain import Row
    from ..rows import Intent, Payload

__all__ = ["COLUMNS", "csv_line", "csv_lines", "json_line", "open_line"]

VERSION = 1

#: Columns of the CSV; those of the sealed audit split stand behind them where they are asked for.
COLUMNS = (
    "seq",
    "row",
    "begun",
    "settled",
    "action",
    "resolution",
    "status",
    "domain",
    "cost",
    "budget_before",
    "budget_after",
    "metric",
    "reference_before",
    "sigma_before",
    "reference_after",
    "sigma_after",
    "runs",
    "gates_passed",
    "gates",
    "description",
    "reason",
    "actor",
    "isolation",
    "commit",
    "restore_point",
    "candidate",
    "harness_tree",
    "data_sha256",
)
SEALED = ("audit_before", "audit_after", "audit_gap")


def json_line(change: Change, *, sealed: bool) -> str:
    """Both rows of a settled change as one JSON object in ASCII."""
    payload = change.payload if sealed else unsealed(change.payload)
    return _json(
        {
            **_begun(change.begun, change.intent),
            "seq": change.seq,
            "row": change.row.seq,
            "settled": change.row.time,
            "resolution": change.cutover.resolution,
            "result": change.cutover.result,
            "failure": change.cutover.failure,
            "status": change.settled.status if change.settled else None,
            "payload": msgspec.to_builtins(payload),
            "sha256": {"restore-source": change.begun.sha256, "cutover-audit": change.row.sha256},
        }
    )


def open_line(begun: Row, intent: Intent) -> str:
    """The same of a change that is not settled yet."""
    nothing = dict.fromkeys(("seq", "row", "settled", "result", "failure", "status", "payload"))
    sums = {"restore-source": begun.sha256, "cutover-audit": None}
    return _json({**_begun(begun, intent), **nothing, "resolution": "open", "sha256": sums})


def csv_lines(found: Iterator[Change], *, sealed: bool) -> Iterator[str]:
    """A heading and one line a finding, halts and lost ones among them."""
    yield _csv((*COLUMNS, *(SEALED if sealed else ())))
    for change in found:
        if change.settled is not None:
            yield csv_line(change, sealed=sealed)


def csv_line(change: Change, *, sealed: bool) -> str:
    """One finding; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    payload, settled = change.payload, change.settled
    verdict = payload if isinstance(payload, Verdict) else None
    before = verdict.before if verdict else None
    after = payload.after if isinstance(payload, Verdict | Baseline) else None
    gates = payload.gates if isinstance(payload, Verdict | Baseline) else ()
    row: list[object] = [
        change.seq,
        change.row.seq,
        change.begun.time,
        change.row.time,
        change.cutover.action,
        change.cutover.resolution,
        settled.status if settled else None,
        verdict.domain.value if verdict else None,
        verdict.cost if verdict else change.intent.cost,
        verdict.budget_before if verdict else None,
        verdict.budget_after if verdict else None,
        verdict.metric if verdict else None,
        before and before.mean,
        before and before.sigma,
        after and after.mean,
        after and after.sigma,
        len(payload.runs) if isinstance(payload, Verdict | Baseline) else 0,
        sum(gate.outcome is Outcome.PASSED for gate in gates),
        len(gates),
        settled.description if settled else "",
        settled.reason if settled else "",
        *_circumstances(payload),
        settled.commit if settled else "",
        change.intent.pin,
        payload.candidate if isinstance(payload, Verdict | Baseline | Halt) else "",
        *(("", "") if isinstance(payload, Lost) else (payload.harness_tree, payload.data_sha256)),
    ]
    if sealed:
        row += [before and before.audit, after and after.audit, verdict.gap if verdict else None]
    return _csv(row)


def _circumstances(payload: Payload) -> tuple[str, str]:
    return ("", "") if isinstance(payload, Lost) else (payload.actor, payload.isolation)


def _begun(row: Row, intent: Intent) -> dict[str, Any]:
    return {
        "v": VERSION,
        "source_row": row.seq,
        "begun": row.time,
        "action": intent.action,
        "branch": intent.branch,
        "restore_point": {
            "commit": intent.tip,
            "tree": intent.tree,
            "surface": intent.surface,
            "pin": intent.pin,
        },
        "target": intent.target,
    }


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def _csv(row: Iterator[object] | tuple[object, ...] | list[object]) -> str:
    buffer = io.StringIO()
    cells = [cell(value) if isinstance(value, str) else value for value in row]
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()
