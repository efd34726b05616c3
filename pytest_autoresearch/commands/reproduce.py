"""
``autoresearch reproduce``: run a finding again and say whether its metric holds.
"""

from __future__ import annotations

import argparse
import sys

from ..campaign import NOT_READY
from ..changes import NoSuchChangeError, choose
from ..report.tables import escape
from . import opened

HELP = "run a finding again on its recorded seeds, and say whether the recorded metric holds"

REPRODUCED, NOT_REPRODUCED, CANNOT = 0, 1, 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which finding, and how much of it."""
    parser.add_argument("seq", metavar="SEQ", help="its number in results.tsv")
    opened.tag_argument(parser)
    parser.add_argument(
        "--sandbox",
        choices=("strong", "kernel", "container", "none"),
        help="isolation level (default: as configured then)",
    )
    parser.add_argument(
        "--runs", choices=("all", "1"), default="all", help="every recorded run, or the first (all)"
    )


def run(options: argparse.Namespace) -> int:
    """Nothing is written: no work tree, branch or ledger is touched, and no unit is spent."""
    from ..reproduction import CannotReproduceError

    try:
        return _reproduce(options)
    except (CannotReproduceError, NoSuchChangeError, *NOT_READY) as error:
        print(f"cannot be reproduced: {escape(str(error))}", file=sys.stderr)
        return CANNOT


def _reproduce(options: argparse.Namespace) -> int:
    from ..reproduction import WITHIN, Reproduction, drift

    with opened.campaign(options) as campaign:
        change = choose(campaign.journal, campaign.journal.state_anew(), options.seq)
        again = Reproduction(campaign, change, every=options.runs == "all")
        campaign.enter_scratch()
        for note in again.notes:
            print(f"note: {escape(note)}")
        print(
            f"{'seed':>10}  {'recorded':>12}  {'measured':>12}  {'difference':>10}  model file  holds"
        )
        reruns = []
        for rerun in again.reruns():
            reruns.append(rerun)
            off = "-" if rerun.difference is None else f"{rerun.difference:+.3g}"
            print(
                f"{rerun.recorded.seed:>10}  {_figure(rerun.recorded.metric)}  "
                f"{_figure(rerun.measured.metric)}  {off:>10}  {'same' if rerun.same_model else 'other':<10}  "
                f"{'yes' if rerun.holds else 'NO'}, {escape(rerun.rule)}",
                flush=True,
            )
        held = sum(rerun.holds for rerun in reruns)
        if any(rerun.rule.startswith(WITHIN) for rerun in reruns):
            print(again.noise)
        off_together = drift(reruns, again.noise)
        metric = f"{campaign.settings.metric} of {change.name}"
    if held == len(reruns) and not off_together:
        print(f"REPRODUCED: {metric} holds on {held} of {len(again.runs)} recorded seeds")
        return REPRODUCED
    print(
        f"NOT REPRODUCED: {metric} holds on {held} of {len(reruns)} recorded seeds"
        + (f"; {off_together}" if off_together else "")
    )
    return NOT_REPRODUCED


def _figure(metric: float | None) -> str:
    return f"{'none' if metric is None else format(metric, '.8f'):>12}"
