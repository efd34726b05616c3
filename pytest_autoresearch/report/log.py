"""
What happened in a campaign, each event in two or three lines of at most 100 columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..rows import Baseline, Halt, Lost, Ratify, Restore, Stop, Verdict
from .tables import one_line

if TYPE_CHECKING:
    from ..changes import Change
    from ..rows import Payload

__all__ = ["WIDTH", "actor", "figure", "grounds", "log_lines", "moment", "outcome"]

WIDTH = 100
_INDENT = " " * 9


def log_lines(change: Change, metric: str) -> Iterator[str]:
    """
    One event: number, time, what became of it, the figure, the cost; then what it was and why, in words.

    :param metric: the metric's name.
    """
    payload = change.payload
    told = [f"{change.name:>7}", moment(change.row.time), outcome(change)]
    told += [text for text in (figure(payload, metric), _cost(payload), actor(payload)) if text]
    yield _cut("  ".join(told))
    words = [text for text in (_description(change), grounds(change)) if text]
    together = one_line(": ".join(words), 10 * WIDTH)
    yield from map(_indented, [together] if len(together) + len(_INDENT) <= WIDTH else words)
    if isinstance(payload, Verdict):
        if payload.alarm is not None:
            alarm = payload.alarm
            traced = (
                "every suspect held"
                if alarm.culprit is None
                else f"traced to {alarm.culprit}, back at {alarm.restore_seq} ({alarm.restore[:7]})"
            )
            yield _indented(f"alarm of the {alarm.chart} chart: {traced}: {alarm.message}")
        if payload.canary is not None:
            canary = payload.canary
            drift = "ALARM, " if canary.alarm else ""
            yield _indented(
                f"canary: {drift}the incumbent again {canary.metric:.6f}, {canary.residual:+.1f} sigma off"
            )


def moment(time: str) -> str:
    """A row's time to the second, in UTC."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def outcome(change: Change) -> str:
    """What became of a change: at the time, and since."""
    payload, settled = change.payload, change.settled
    word = payload.status if isinstance(payload, Verdict) else change.cutover.action
    if not change.done:
        word += ", rolled back"
    elif change.cutover.resolution == "finished":
        word += ", finished by recovery"
    # A keep that an alarm was traced back to, or whose provenance broke.
    if settled is not None and settled.status == "quarantine" != word:
        word += ", in quarantine since"
    return one_line(word)


def figure(payload: Payload, metric: str) -> str:
    """The metric with its standard error: of a keep or a baseline a mean, else of one run."""
    if isinstance(payload, Baseline) or (isinstance(payload, Verdict) and payload.status == "keep"):
        value, sigma, n = payload.after.mean, payload.after.sigma, payload.after.n
    elif isinstance(payload, Verdict):
        value, sigma, n = payload.metric, payload.before.sigma, 1
    else:
        return ""
    if value is None:
        return ""
    error = "" if sigma is None or not n else f" +- {sigma / math.sqrt(n):.6f}"
    return f"{one_line(metric)} {value:.6f}{error}"


def actor(payload: Payload) -> str:
    """Who decided, where it was no verdict of the harness."""
    if isinstance(payload, Halt | Ratify | Restore):
        return f"by {one_line(payload.actor, 40)}"
    return ""


def grounds(change: Change) -> str:
    """Why, in one sentence; of what was undone, why it was."""
    payload = change.payload
    if not change.done:
        return f"undone: {change.cutover.failure}"
    if isinstance(payload, Verdict | Baseline):
        return payload.reasons[0].message if payload.reasons else ""
    if isinstance(payload, Halt):
        return payload.reasons[0].message if payload.reasons else payload.description
    if isinstance(payload, Stop):
        return f"{payload.message} ({payload.rounds} rounds, {payload.seconds:.0f} s)"
    return payload.reason


def _description(change: Change) -> str:
    payload = change.payload
    if isinstance(payload, Verdict):
        told = payload.description
        domain = f"{payload.domain.value}: "
        return told if told.startswith(domain) else domain + told
    return payload.description if isinstance(payload, Baseline) else ""


def _cost(payload: Payload) -> str:
    if isinstance(payload, Verdict):
        return f"-{payload.cost} = {payload.budget_after} left"
    if isinstance(payload, Baseline):
        return f"{payload.budget} units"
    return f"-{payload.cost} units" if isinstance(payload, Lost | Restore) else ""


def _indented(text: str) -> str:
    return _INDENT + one_line(text, WIDTH - len(_INDENT))


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
