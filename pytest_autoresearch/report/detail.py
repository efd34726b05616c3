"""
Everything that the ledgers and the repository know of one change, in words.
"""

from __future__ import annotations

import math
import shlex
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ..difference import diff
from ..distributions import t_quantile, t_tail
from ..rows import Baseline, Halt, Lost, Ratify, Restore, Stop, Verdict
from ..scatter import larger_scatter, standard_error
from .log import WIDTH, figure, moment, outcome
from .tables import escape, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from ..changes import Change
    from ..rows import Intent, Reference, Run
    from ..settings import Settings
    from ..vcs import Repository

__all__ = ["arithmetic", "changed", "detail_lines", "restore_point_lines", "verifier_line"]

#: Level of the two-sided interval for a gain.
LEVEL = 0.90
_MARGIN = 15


def detail_lines(change: Change, settings: Settings) -> Iterator[str]:
    """
    What became of a change, when, by whom, why, and every figure that its rows hold.

    :param settings: those of today, for the metric's name and the charts' limits.
    """
    payload, intent = change.payload, change.intent
    yield from _field(
        "what",
        f"{change.name}: {outcome(change)}; row {change.row.seq} of cutover-audit, row {change.begun.seq} of "
        "restore-source",
    )
    if isinstance(payload, Verdict | Baseline) and payload.description:
        yield from _field("description", payload.description)
    if isinstance(payload, Verdict):
        yield from _field("domain", payload.domain.value)
    yield from _field("begun", moment(change.begun.time))
    yield from _field("settled", moment(change.row.time))
    if not isinstance(payload, Lost):
        yield from _field("session", f"{moment(payload.started)} to {moment(payload.ended)}")
        yield from _field("by", f"{payload.actor}; isolation {payload.isolation or 'not recorded'}")
        yield from _field("with", _pairs(payload.versions))
        yield from _field("harness", f"tree {payload.harness_tree}")
        yield from _field("data", f"manifest {payload.data_sha256 or 'none'}")
        yield from _field("hashes", _pairs(payload.hashes))
    yield from _why(change)
    if isinstance(payload, Verdict | Baseline):
        yield from _measured(payload, settings.metric)
    if isinstance(payload, Verdict):
        yield from _charts(payload, settings)
        yield from _field(
            "budget",
            f"{payload.budget_before} units before, {payload.cost} spent, {payload.budget_after} after",
        )
    elif intent.cost:
        yield from _field("budget", f"{intent.cost} units spent")


def _why(change: Change) -> Iterator[str]:
    payload = change.payload
    if not change.done:
        yield from _field("undone", change.cutover.failure)
    if isinstance(payload, Verdict | Baseline | Halt):
        reasons = [f"{reason.code}: {reason.message}" for reason in payload.reasons]
        yield from _fields("why", reasons)
    elif isinstance(payload, Stop):
        yield from _field("why", f"{payload.code}: {payload.message}")
        yield from _field("rounds", f"{payload.rounds} in {payload.seconds:.0f} s")
    else:
        yield from _field("why", payload.reason)
    if isinstance(payload, Halt):
        yield from _fields("in full", payload.description.splitlines())
        yield from _fields("breaches", [f"{p}: {what}" for p, what in payload.breaches.items()])
    if isinstance(payload, Ratify | Restore):
        yield from _field("stands on", f"commit {payload.commit}, tree {payload.tree}")
    if isinstance(payload, Restore):
        yield from _fields("given up", payload.discarded)
        yield from _fields("set aside", [f"{p} {h}" for p, h in payload.aside.items()])


def _measured(payload: Verdict | Baseline, metric: str) -> Iterator[str]:
    if (told := figure(payload, metric)) != "":
        yield from _field("metric", f"{told} (standard error)")
    yield from _fields("runs", map(_run, payload.runs))
    if isinstance(payload, Verdict):
        yield from _fields("keep rule", arithmetic(payload))
        yield from _fields("other runs", map(_run, payload.others))
    yield from _field("after", _reference(payload.after))
    yield from _field("metrics", _pairs({name: _number(v) for name, v in payload.metrics.items()}))
    for line in payload.fairness:
        limit = "".join(
            f" {sign} {bound:g}"
            for sign, bound in (("<=", line.at_most), (">=", line.at_least))
            if bound is not None
        )
        result = {None: "reported", True: "ok", False: "FAILED"}[line.passed]
        yield from _field(
            "fairness", f"{line.metric}[{line.by}] {_number(line.value)}{limit} {result}"
        )
    label = "gates"
    for gate in payload.gates:
        message = f": {gate.message}" if gate.message else ""
        yield _labelled(label, one_line(f"{gate.outcome.value} {gate.nodeid}{message}", 400))
        label = ""


def arithmetic(payload: Verdict) -> Iterator[str]:
    """
    What the keep rule held against what: gains over the reference, in the metric's unit and in sigma of one run.

    The standard error is the rule's own (:mod:`.keep`, :mod:`.scatter`), the probability Student's upper tail.
    """
    before, sigma = payload.before, payload.before.sigma
    if payload.metric is None or before.mean is None or sigma is None or before.n < 1:
        return
    yield f"reference {_reference(before)}"
    gain = before.mean - payload.metric
    yield f"screening run {payload.metric:.6f}: gain {gain:+.6f} = {gain / sigma:+.2f} sigma"
    fresh = [run.metric for run in payload.runs[1:] if run.metric is not None]
    if not fresh:
        return
    gain = before.mean - statistics.fmean(fresh)
    df = max(1, before.df)
    own = larger_scatter([payload.metric, *fresh], sigma, df)
    error, freedom = standard_error(sigma, df, before.n, len(fresh), own)
    half = t_quantile((1 + LEVEL) / 2, freedom) * error
    tail = t_tail(abs(gain) / error, freedom)
    formula = f"sigma sqrt(1/{len(fresh)} + 1/{before.n})"
    if own is not None:
        formula = f"Welch's, its own noise is {own.sigma / sigma:.1f} sigma"
    runs = "1 fresh run" if len(fresh) == 1 else f"{len(fresh)} fresh runs"
    yield (
        f"{runs}, mean {statistics.fmean(fresh):.6f}: gain {gain:+.6f} = {gain / sigma:+.2f} sigma, "
        f"{LEVEL:.0%} interval {gain - half:+.6f} to {gain + half:+.6f}"
    )
    yield (
        f"standard error {error:.6f} ({formula}), t = {gain / error:+.2f} on {freedom:.3g} degrees of freedom, "
        f"one-sided p = {tail if gain > 0 else 1 - tail:.2g}"
    )


def _charts(payload: Verdict, settings: Settings) -> Iterator[str]:
    chart, canary, alarm = payload.chart, payload.canary, payload.alarm
    if chart is not None:
        yield from _field(
            "progress",
            f"step {chart.x:+.4f}, S_upper {chart.s_upper:.4f}, S_lower {chart.s_lower:.4f}, decision interval "
            f"today {settings.cusum.interval:g}{', ALARM' if chart.alarm else ''}",
        )
    if payload.gap is not None:
        yield from _field("audit gap", f"{payload.gap:+.6f}")
    if canary is not None:
        sealed = "" if canary.audit is None else f", audit {canary.audit:.6f}"
        yield from _field(
            "canary",
            f"the incumbent again {canary.metric:.6f}{sealed}, {canary.residual:+.2f} sigma off; S_upper "
            f"{canary.s_upper:.3f}, S_lower {canary.s_lower:.3f}{', ALARM' if canary.alarm else ''}",
        )
    if alarm is None:
        return
    yield from _field("alarm", f"{alarm.chart} chart: {alarm.message}")
    suspects = ", ".join(map(str, alarm.suspects))
    culprit = "every suspect held" if alarm.culprit is None else f"traced to {alarm.culprit}"
    yield from _field(
        "trace",
        f"the sum was last zero at {alarm.last_zero}; suspects {suspects}; {culprit}; stands on {alarm.restore_seq} "
        f"({alarm.restore})",
    )
    for found in alarm.verified:
        sealed = "" if found.audit_gain is None else f", audit gain {found.audit_gain:+.6f}"
        gain = "" if found.gain is None else f" (gain {found.gain:+.6f}{sealed})"
        yield from _field("verified", f"{found.seq}{gain}: {found.message}")


def changed(change: Change, repository: Repository) -> Iterator[str]:
    """
    The difference between the restore point's surface and the candidate's, from the objects that the rows name.

    :raises RepositoryError: an object is missing or forged.
    """
    surface: Mapping[str, str] = getattr(change.payload, "surface", {})
    before = change.intent.surface
    if not surface or surface == before:
        return
    contents = repository.read_blobs({*surface.values(), *before.values()})
    text = diff(
        {path: contents[oid] for path, oid in before.items()},
        {path: contents[oid] for path, oid in surface.items()},
    )
    yield from text.splitlines()


def restore_point_lines(change: Change, repository: Repository) -> Iterator[str]:
    """What one would go back to, whether it is there, and the commands that show and take it."""
    intent = change.intent
    if not intent.pin:
        yield from _field("restore point", "none: nothing was changed")
        return
    found = repository.ref(intent.pin)
    # The commit that a pin holds is its name: of a ratification the one that was ratified.
    whole = found == intent.pin.rpartition("/")[2]
    state = "there" if whole else "MISSING" if found is None else f"MOVED to {found}"
    yield from _field("restore point", f"commit {intent.tip}")
    yield from _field("", f"tree {intent.tree}")
    yield from _field("", f"{intent.pin} ({state})")
    if intent.target:
        yield from _field("went to", f"commit {intent.target}")
    snapshot = getattr(change.payload, "snapshot", "")
    if snapshot and repository.ref(snapshot) is None:
        yield from _field("candidate", f"{snapshot} (MISSING)")
        snapshot = ""
    yield from _commands(intent, snapshot, sorted(intent.surface))


def _commands(intent: Intent, snapshot: str, names: list[str]) -> Iterator[str]:
    """Not cut and not wrapped: they are to be copied."""
    for name in names:
        yield _labelled("look at it", f"git show {shlex.quote(f'{intent.tip}:{name}')}")
        if snapshot:
            pair = " ".join(shlex.quote(f"{where}:{name}") for where in (intent.tip, snapshot))
            yield _labelled("compare", f"git diff {pair}")
    files = " ".join(map(shlex.quote, names))
    yield _labelled("take it", f"git restore --source={intent.tip} -- {files}")


def verifier_line(change: Change, root: Path, tag: str) -> str:
    """PASS or BLOCK: of a standing finding its way back to the source, else of the whole campaign."""
    from ..verifier import CannotTell, broken_link, printable, verify

    try:
        report = verify(root, tag)
    except CannotTell as error:
        return _labelled("verifier", f"cannot tell: {printable(str(error))}")
    found = {state.seq for state in report.findings if state.kind in ("baseline", "keep")}
    own = change.seq if change.seq in found else None
    broken = broken_link(report, own)
    what = f"finding {own}" if own is not None else "the campaign; nothing of this change stands"
    if broken is None:
        return _labelled("verifier", f"PASS: {what}")
    return _labelled("verifier", f"BLOCK: {printable(str(broken))}")


def _run(run: Run) -> str:
    metric = "no metric" if run.metric is None else f"{run.metric:.6f}"
    sealed = "" if run.audit is None else f", audit {run.audit:.6f}"
    artifact = f", artifact {run.artifact_sha256[:12]}" if run.artifact_sha256 else ""
    ending = "" if run.status.value == "finished" else f", {run.status.value}: {run.reason}"
    return (
        f"seed {run.seed}: {metric}{sealed}, {run.seconds:.1f} of {run.budget_seconds:g} s, "
        f"{run.peak_memory_mb:.0f} MiB, {run.device}, {run.isolation}{artifact}{ending}"
    )


def _reference(reference: Reference) -> str:
    if reference.mean is None or reference.sigma is None:
        return "not measured"
    runs = "run" if reference.n == 1 else "runs"
    half = (
        t_quantile((1 + LEVEL) / 2, max(1, reference.df))
        * reference.sigma
        / math.sqrt(max(1, reference.n))
    )
    sealed = "" if reference.audit is None else f", audit {reference.audit:.6f}"
    return (
        f"{reference.mean:.6f}, mean of {reference.n} {runs}; sigma of one run {reference.sigma:.6f} on "
        f"{reference.df} degrees of freedom; {LEVEL:.0%} interval {reference.mean - half:.6f} to "
        f"{reference.mean + half:.6f}{sealed}"
    )


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _fields(label: str, texts: Iterable[str]) -> Iterator[str]:
    """One label for several entries."""
    for text in texts:
        yield from _field(label, text)
        label = ""


def _field(label: str, text: str) -> Iterator[str]:
    """A labelled entry, wrapped; nothing where there is nothing to say."""
    for line in textwrap.wrap(one_line(text, 1 << 16), WIDTH - _MARGIN, break_on_hyphens=False):
        yield _labelled(label, line)
        label = ""


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_MARGIN}}{escape(text)}".rstrip()
