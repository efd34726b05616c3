"""
``autoresearch verify``: hold ledgers and repository together. What ``verifier.py`` does by itself, and restoring on top.
"""

from __future__ import annotations

import argparse
import getpass
import sys
import tempfile
from pathlib import Path

from .. import verifier
from ..campaign import NOT_READY
from . import opened

HELP = "hold ledgers and repository together: PASS, or BLOCK with the first broken link"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``verifier.py`` takes, and ``--restore``."""
    opened.tag_argument(parser)
    parser.add_argument("--seq", help="one finding, by its number in results.tsv")
    parser.add_argument(
        "--anchors",
        action="append",
        default=[],
        help="file with heads kept elsewhere, as --heads prints them; may be given more than once",
    )
    parser.add_argument(
        "--allowed-signers",
        metavar="FILE",
        help="require that the heads are signed by somebody in this file, which has git's format",
    )
    parser.add_argument("--identity", help="who of them must have signed (default: anybody)")
    parser.add_argument(
        "--heads", action="store_true", help="print the heads, to be kept elsewhere"
    )
    parser.add_argument(
        "--save", metavar="FILE", help="on PASS of everything, write a checkpoint there"
    )
    parser.add_argument(
        "--since",
        metavar="FILE",
        help="go on from a checkpoint: read only the rows behind it",
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
    for name in ("tag", "seq", "allowed_signers", "identity", "since", "save"):
        if getattr(options, name) is not None:
            given += [f"--{name.replace('_', '-')}", getattr(options, name)]
    for path in options.anchors:
        given += ["--anchors", path]
    given += [f"--{name}" for name in ("heads", "json") if getattr(options, name)]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "anchors"
        text, required = _kept_outside(options)
        if text:
            file.write_text(text, encoding="ascii", errors="replace")
            given += ["--anchors", str(file)]
        status = int(verifier.main(given))
    if status == 0 and required:
        print(f"cannot tell: {required}", file=sys.stderr)
        return 2
    if status != 1 or not options.restore:
        return status
    from ..restoring import restore

    tag = verifier.choose_tag(root, options.tag)
    print(restore(root, tag, getpass.getuser()))
    return int(verifier.main([str(root), "--tag", tag]))


def _kept_outside(options: argparse.Namespace) -> tuple[str, str]:
    """What the configured places hold, and which required one cannot be asked; a damaged campaign names none."""
    try:
        with opened.campaign(options) as campaign:
            text, problem = campaign.anchors.testimony()
            required = campaign.settings.anchors.required
    except NOT_READY:
        return "", ""
    if problem:
        print(f"note: {problem}", file=sys.stderr)
    return text, problem if required else ""
