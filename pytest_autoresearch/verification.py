"""
The response to an alarm: trace it to the mutations that may be its cause, measure those anew, admit what holds.

Suspect is every mutation that was kept after the alarming sum was last zero, which is the change-point estimate
(Page 1954), and the candidate at hand. The newest suspect state is measured first, on fresh harness seeds and the
sealed audit split, against the last whole restore point before them: if it holds, all of them do. Else the one before
it, until one holds. What comes after that one is rolled back and quarantined.

Everything is measured before anything is written: a session that dies meanwhile has changed nothing.
"""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING

from .distributions import t_quantile
from .records import (
    Alarm,
    Decision,
    Evidence,
    Incumbent,
    Kept,
    Reason,
    Verdict,
    Verified,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import Settings

__all__ = ["SEEDS", "raise_alarm"]

#: Fresh seeds on which a suspect is measured anew.
SEEDS = 3
#: One-sided level at which its gain must hold.
LEVEL = 0.05


def raise_alarm(
    evidence: Evidence,
    settings: Settings,
    *,
    chart: str,
    message: str,
    last_zero: int,
    gained: Reason,
    learned: Incumbent,
    gap: float | None,
) -> Verdict:
    """
    Verify the suspects of an alarm; the verdict on the candidate, with the alarm in it.

    :param last_zero: position of the last experiment at which the alarming sum was zero; -1: none.
    """
    candidate = evidence.seq
    before = [
        kept for kept in evidence.kept if kept.seq > last_zero and kept is not evidence.kept[0]
    ]
    suspects = (*(kept.seq for kept in before), candidate)
    trusted = [kept for kept in evidence.kept if kept.seq not in suspects and kept.whole]
    escalated = _sealed_off(evidence, trusted, chart, message, gained)
    if escalated is not None:
        return escalated
    restore, verified = trusted[-1], []
    # Seeds and splits all share a column that holds the answer: whoever uses it first looks like a discovery.
    column = evidence.telltale() if chart != "gap" else ""
    states: list[Kept | None] = [None, *reversed(before)]
    for state in states:
        path = [trusted[-1], *(kept for kept in before if state is None or kept.seq < state.seq)]
        found = _verify(evidence, state, path, column if state is None else "")
        verified.append(found)
        if found.held and (state is None or state.whole):
            restore = state or evidence.kept[-1]
            break
    held = verified[0].held
    culprit = None if held else _first_after(suspects, verified)
    alarm = Alarm(chart, message, last_zero, suspects, culprit, restore, tuple(verified))
    reasons = _story(alarm, evidence, gained)
    if held:
        return Verdict(Decision.KEEP, reasons, "keep", 0, learned=learned, gap=gap, alarm=alarm)
    learned = learned if restore.incumbent.commit == learned.commit else restore.incumbent
    return Verdict(
        Decision.REVERT, reasons, "quarantine", 10, learned=learned, gap=gap, alarm=alarm
    )


def _first_after(suspects: Sequence[int], verified: Sequence[Verified]) -> int:
    """The oldest suspect behind the newest that held: the mutation that brought in what does not hold."""
    good = max((found.seq for found in verified if found.held), default=-1)
    return next(seq for seq in suspects if seq > good)


def _sealed_off(
    evidence: Evidence, trusted: Sequence[Kept], chart: str, message: str, gained: Reason
) -> Verdict | None:
    """The verdict where nothing can be verified: a person must look."""
    if not trusted:
        why = "no restore point before it is whole: `autoresearch verify` says what is missing"
    elif trusted[-1].incumbent.audit is None or evidence.audit is None:
        why = "the task has no audit split to verify it on: a person must look"
    else:
        return None
    if chart == "step":
        # Implausible on no chart: fresh seeds have confirmed it already, and there is nothing else to ask.
        return Verdict(Decision.KEEP, (gained, Reason("step", f"{message}; {why}")), "keep", 0)
    reasons = (Reason("cusum-alarm", f"{message}; {why}"), gained)
    return Verdict(Decision.ESCALATE, reasons, "escalate", 11)


def _verify(evidence: Evidence, state: Kept | None, path: Sequence[Kept], column: str) -> Verified:
    """
    Measure a suspect state anew (None: the candidate) against the restore point.

    :param path: the restore point and what was kept between it and the state: each step must hold on the audit split.
    """
    before = path[0].incumbent
    if state is None:
        seq, runs = evidence.seq, list(evidence.measure_seeds(SEEDS))
    else:
        seq, runs = state.seq, list(evidence.rerun(state.seq, SEEDS))
    metrics = [run.metric for run in runs if run.metric is not None]
    audits = [run.audit for run in runs if run.audit is not None]
    if len(metrics) < SEEDS or len(audits) < SEEDS:
        return Verified(seq, None, None, False, "a run on a fresh seed gave no figures")
    if before.metric is None or before.audit is None or before.sigma is None:
        raise ValueError("a restore point that was never measured cannot verify anything")
    gain = before.metric - statistics.fmean(metrics)
    audit_gain = before.audit - statistics.fmean(audits)
    error = before.sigma * math.sqrt(1 / SEEDS + 1 / before.n)
    margin = t_quantile(1 - LEVEL, max(1, before.df)) * error
    figures = [(kept.incumbent.metric, kept.incumbent.audit) for kept in path]
    steps = pairwise([*figures, (statistics.fmean(metrics), statistics.fmean(audits))])
    on_seeds = gain > margin
    on_audit = audit_gain > max(0.5 * gain, 0.0) and all(_follows(*step, error) for step in steps)
    message = (
        f"{_holds(on_seeds)} on {SEEDS} fresh seeds ({gain / before.sigma:.1f} sigma over the restore point), "
        f"{_holds(on_audit)} on the sealed audit split"
    )
    if column:
        message += f"; but it leans on input column {column!r}, which alone does better than the whole incumbent: a leak"
    return Verified(seq, gain, audit_gain, on_seeds and on_audit and not column, message)


def _follows(
    before: tuple[float | None, float | None],
    after: tuple[float | None, float | None],
    error: float,
) -> bool:
    """
    Whether the audit split follows one step at least half of the way, give or take a standard error.

    Over several steps at once honest progress would cover for a leak.

    :param before, after: figures on validation and on the audit split.
    """
    if before[0] is None or before[1] is None or after[0] is None or after[1] is None:
        return False
    return before[1] - after[1] > 0.5 * (before[0] - after[0]) - error


def _holds(held: bool) -> str:
    return "holds" if held else "does not hold"


def _story(alarm: Alarm, evidence: Evidence, gained: Reason) -> tuple[Reason, ...]:
    """What happened, in the order in which a person asks."""
    names = {kept.seq: kept.description for kept in evidence.kept}
    names[evidence.seq] = evidence.mutation.description

    def told(seq: int) -> str:
        which = "this candidate" if seq == evidence.seq else f"mutation {seq}"
        return f"{which} ({names[seq]})"

    start = "the start" if alarm.last_zero < 0 else f"mutation {alarm.last_zero}"
    reasons = [
        Reason("step" if alarm.chart == "step" else "cusum-alarm", alarm.message),
        Reason(
            "mutation-trace",
            f"suspect since {start}: {'; '.join(told(seq) for seq in alarm.suspects)}",
        ),
        *(Reason("verification", f"{told(v.seq)}: {v.message}") for v in alarm.verified),
    ]
    if alarm.culprit is None:
        return (
            gained,
            *reasons,
            Reason("re-admitted", "every suspect holds; the sum starts afresh"),
        )
    back = alarm.restore.incumbent.commit[:7]
    which = f"mutation {alarm.restore.seq}" if alarm.restore.seq else "the baseline"
    out = [seq for seq in alarm.suspects if seq >= alarm.culprit]
    reasons.append(
        Reason(
            "quarantine",
            f"traced to {told(alarm.culprit)}; "
            + (f"{len(out)} mutations are" if len(out) > 1 else "it is")
            + f" discarded for good, {back} ({which}) stands; the sum starts afresh",
        )
    )
    return tuple(reasons)
