"""
``autoresearch verify``: hold ledgers and repository together. What ``verifier.py`` does by itself, and restoring on top.
"""

from __future__ import annotations

import argparse
import getpass

from .. import verifier
from . import opened

HELP = "hold ledgers and repository together: PASS, or BLOCK with the first broken link"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``verifier.py`` takes, and ``--restore``."""
    opened.tag_argument(parser)
    parser.add_argument("--seq", help="one finding, by its number in results.tsv")
    parser.add_argument("--anchors", help="file with heads kept elsewhere, as --heads prints them")
    parser.add_argument(
        "--heads", action="store_true", help="print the heads, to be kept elsewhere"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument(
        "--restore",
        action="store_true",
        help="on BLOCK: go back to the last state that verifies, on the record",
    )


def run(options: argparse.Namespace) -> int:
    """Also where a damaged ledger opens no campaign."""
    root = opened.project_root()
    given = [str(root)]
    for name in ("tag", "seq", "anchors"):
        if getattr(options, name) is not None:
            given += [f"--{name}", getattr(options, name)]
    given += [f"--{name}" for name in ("heads", "json") if getattr(options, name)]
    status = int(verifier.main(given))
    if status != 1 or not options.restore:
        return status
    from ..restoring import restore

    tag = verifier.choose_tag(root, options.tag)
    print(restore(root, tag, getpass.getuser()))
    return int(verifier.main([str(root), "--tag", tag]))
