"""
``autoresearch status``: where the campaign stands, what happened lately, and what was tried last.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..authority import authority_lines, authority_summary
from ..changes import open_change
from ..records import Decision
from ..report.log import moment
from ..report.tables import one_line, results_table
from ..report.terminal import incumbent_text
from ..reports import luck, result_rows
from ..self_reported import trust_lines
from . import opened

if TYPE_CHECKING:
    from ..campaign import Campaign

HELP = "where the campaign stands, what happened lately, and what was tried last"

#: Experiments in the table; `autoresearch log --all` has all of them.
SHOWN = 10
#: Hours that "lately" reaches back: a night and the day before it.
LATELY = 24
#: Months for which records are kept at least, counted from the last row.
RETENTION = 6


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where the campaign stands, or who may do what."""
    opened.tag_argument(parser)
    parser.add_argument(
        "--authority", action="store_true", help="the authority matrix: who may do what, and why"
    )


def run(options: argparse.Namespace) -> int:
    """Print section after section, on one screen."""
    if options.authority:
        print("\n".join(authority_lines()))
        return 0
    with opened.campaign(options) as campaign:
        for section in (_standing, _lately, _experiments):
            for line in section(campaign):
                print(line)
    return 0


def _standing(campaign: Campaign) -> Iterator[str]:
    """Incumbent, harness, budget and work tree."""
    state, settings = campaign.state, campaign.settings
    yield f"campaign:  {campaign.tag!r} on {campaign.branch_text}"
    yield f"incumbent: {incumbent_text(campaign.incumbent, settings.metric)}"
    yield from trust_lines(settings)
    yield f"harness:   ratified at {campaign.ratified_commit[:12]}"
    yield f"budget:    {campaign.budget.remaining} of {settings.budget.total} units left"
    breaches = campaign.breaches()
    yield f"work tree: {f'{len(breaches)} breaches' if breaches else 'the harness is intact'}"
    for breach in breaches[:10]:
        yield f"  {breach.path!r}: {breach.what}; to undo: {breach.remedy}"
    halts = sum(row.kind == "halt" for row in state.settled)
    yield f"settled:   {len(result_rows(campaign))} experiments, {halts} halts"
    if campaign.started:
        yield f"keeps:     {luck(campaign) or 'none yet'}"
    for place, rows in campaign.anchors.behind(campaign.journal.heads()).items():
        yield f"anchors:   {place}: {f'the last {rows} rows have not arrived' if rows else 'has every row'}"
    if state.stopped:
        yield f"stopped:   {state.stopped}"
    for label, line in zip(("authority:", "", ""), authority_summary(), strict=True):
        yield f"{label:10} {line}"


def _lately(campaign: Campaign) -> Iterator[str]:
    """The last row, what was kept in the last day, what is open, and until when the records are due."""
    journal, settled = campaign.journal, campaign.state.settled
    last = journal.cutover.last()
    if last is not None:
        when, now = datetime.fromisoformat(last.time), datetime.now(UTC)
        yield f"last:      {moment(last.time)}, {_ago((now - when).total_seconds())}"
        since = {
            row.seq
            for row in journal.cutover.rows()
            if (now - datetime.fromisoformat(row.time)).total_seconds() < LATELY * 3600
        }
        judged = [row for row in settled if row.row in since and row.kind == "verdict"]
        kept = [row for row in judged if row.decision is Decision.KEEP]
        names = "; ".join(f"{row.seq} {row.description}" for row in kept[-5:])
        told = f"{len(judged)} judged and {len(kept)} kept in the last {LATELY} hours"
        yield f"lately:    {one_line(f'{told}: {names}' if names else told, 140)}"
    going = open_change(journal)
    if going is not None:
        begun, intent = going
        yield (
            f"open:      the {intent.action} begun {moment(begun.time)} (row {begun.seq} of restore-source) is not settled: "
            "a session is at work, or was killed and the next one settles it"
        )
    if last is not None:
        yield (
            f"records:   kept until a person removes them; due until {_months_after(when, RETENTION)} at least "
            f"({RETENTION} months from the last row)"
        )


def _experiments(campaign: Campaign) -> Iterator[str]:
    """The last experiments and halts."""
    rows = result_rows(campaign)
    yield ""
    if len(rows) > SHOWN:
        yield f"The last {SHOWN} of {len(rows)} experiments; `autoresearch log --all` tells of every one."
    table = results_table(rows[-SHOWN:], campaign.settings.metric)
    yield table or "Nothing yet: run `pytest --autoresearch`."
    halts = [row for row in campaign.state.settled if row.kind == "halt"]
    for halt in halts[-3:]:
        yield f"halt at row {halt.row}: {halt.reason}"


def _ago(seconds: float) -> str:
    """Roughly how long ago, in one unit; clocks go backwards."""
    if seconds < 0:
        return "ahead of this machine's clock"
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} seconds ago"


def _months_after(when: datetime, months: int) -> str:
    """The same day so many months on, or the first of the next month where that has none."""
    year, month = divmod(when.year * 12 + when.month - 1 + months, 12)
    try:
        return f"{when.replace(year=year, month=month + 1):%Y-%m-%d}"
    except ValueError:
        year, month = divmod(year * 12 + month + 1, 12)
        return f"{year}-{month + 1:02}-01"
