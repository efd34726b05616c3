"""
``autoresearch cohorts``: aggregates of the training split, for people and for an agent's context.
"""

from __future__ import annotations

import argparse
import sys

from . import opened

HELP = "aggregates of the training data by cohort, the only view of them that an agent may be given"


def arguments(parser: argparse.ArgumentParser) -> None:
    """A query."""
    opened.tag_argument(parser)
    parser.add_argument(
        "--by", default="", help="cohort columns, with commas between; without: everybody"
    )
    parser.add_argument(
        "--measures", default="n,positive_rate", help="what to tell (default: n,positive_rate)"
    )
    parser.add_argument("--epsilon", type=float, help="answer with noise, at this privacy cost")


def run(options: argparse.Namespace) -> int:
    """Print the answer, which counts from now on; or say why there is none."""
    from ..query_log import cohort_view, table_lines

    with opened.campaign(options) as campaign:
        campaign.task.require_intact(campaign.state.data_sha256 if campaign.started else None)
        view = cohort_view(campaign, recorded=True)
        try:
            table = view.view(_names(options.by), _names(options.measures), options.epsilon)
        except ValueError as error:
            print(f"autoresearch: {error}", file=sys.stderr)
            return 1
    for line in table_lines(table):
        print(line)
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))
