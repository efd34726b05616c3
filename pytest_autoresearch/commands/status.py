"""
``autoresearch status``: where the campaign stands, and what was tried.
"""

from __future__ import annotations

import argparse

from ..report.tables import results_table
from ..report.terminal import incumbent_text
from ..reports import luck, result_rows
from . import opened

HELP = "where the campaign stands, and what was tried"

arguments = opened.tag_argument


def run(options: argparse.Namespace) -> int:
    """Print incumbent, harness, budget, work tree and every experiment."""
    with opened.campaign(options) as campaign:
        state, settings = campaign.state, campaign.settings
        print(f"campaign:  {campaign.tag!r} on {campaign.branch_text}")
        print(f"incumbent: {incumbent_text(campaign.incumbent, settings.metric)}")
        print(f"harness:   ratified at {campaign.ratified_commit[:12]}")
        print(f"budget:    {campaign.budget.remaining} of {settings.budget.total} units left")
        breaches = campaign.breaches()
        intact = "the harness is intact" if not breaches else f"{len(breaches)} breaches"
        print(f"work tree: {intact}")
        for breach in breaches[:10]:
            print(f"  {breach.path!r}: {breach.what}; to undo: {breach.remedy}")
        rows = result_rows(campaign)
        halts = [row for row in state.settled if row.kind == "halt"]
        print(f"settled:   {len(rows)} experiments, {len(halts)} halts")
        if campaign.started:
            print(f"keeps:     {luck(campaign)}")
        if state.stopped:
            print(f"stopped:   {state.stopped}")
        print()
        print(results_table(rows, settings.metric) or "Nothing yet: run `pytest --autoresearch`.")
        for halt in halts[-5:]:
            print(f"\nhalt at row {halt.row}: {halt.reason}")
    return 0
