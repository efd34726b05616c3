"""
``autoresearch log``: what happened, the newest first.
"""

from __future__ import annotations

import argparse
from collections import deque

from ..changes import changes, open_change
from ..report.log import log_lines, moment
from . import opened

HELP = (
    "what happened, the newest first: every verdict, halt, alarm, ratification, recovery and stop"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """How far back."""
    opened.tag_argument(parser)
    far = parser.add_mutually_exclusive_group()
    far.add_argument(
        "-n", type=opened.positive, default=20, metavar="N", help="the last N events (20)"
    )
    far.add_argument("--all", action="store_true", help="all of them")


def run(options: argparse.Namespace) -> int:
    """Figures of the sealed audit split are left out."""
    with opened.campaign(options) as campaign:
        metric = campaign.settings.metric
        going = open_change(campaign.journal)
        if going is not None:
            print(
                f"{'open':>7}  {moment(going[0].time)}  {going[1].action}: begun and not settled yet; a session is at "
                f"work, or was killed and the next one settles it"
            )
        told = deque(
            changes(campaign.journal, campaign.state), maxlen=None if options.all else options.n
        )
        for change in reversed(told):
            for line in log_lines(change, metric):
                print(line)
        if not told:
            print("Nothing yet: run `pytest --autoresearch`.")
    return 0
