"""
``autoresearch show``: everything about one finding.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import msgspec

from ..changes import NoSuchChangeError, choose, unsealed
from ..report.detail import changed, detail_lines, restore_point_lines, verifier_line
from ..report.tables import escape
from ..vcs import RepositoryError
from . import opened

HELP = "one finding: what changed, when, why, by whom, every figure, and what it would go back to"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which one."""
    parser.add_argument(
        "seq", metavar="SEQ", help="its number in results.tsv, or row:N, its row in cutover-audit"
    )
    opened.tag_argument(parser)
    opened.sealed_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Print rows, restore point, the verifier's verdict and the difference."""
    with opened.campaign(options) as campaign:
        try:
            change = choose(campaign.journal, campaign.journal.state_anew(), options.seq)
        except NoSuchChangeError as error:
            print(f"autoresearch: {error}", file=sys.stderr)
            return 2
        if not options.sealed:
            cutover = msgspec.structs.replace(change.cutover, payload=unsealed(change.payload))
            change = replace(change, cutover=cutover)
        for line in detail_lines(change, campaign.settings):
            print(line)
        for line in restore_point_lines(change, campaign.repository):
            print(line)
        print(verifier_line(change, campaign.root, campaign.tag))
        try:
            lines = list(changed(change, campaign.repository))
        except RepositoryError as error:
            lines = [f"the difference cannot be shown: {escape(str(error))}"]
        if lines:
            print("", *lines, sep="\n")
    return 0
