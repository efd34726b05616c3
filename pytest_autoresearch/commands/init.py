"""
``autoresearch init``: adopt an existing repository, without overwriting anything.
"""

from __future__ import annotations

import argparse
import sys

from . import opened

HELP = "adopt this repository: configuration, stock gates, .gitignore, and what to do next"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What cannot be read from the files."""
    parser.add_argument(
        "--metric", help="name of the printed line `NAME: value` that is to be minimised"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be written")


def run(options: argparse.Namespace) -> int:
    """Write what is missing and say the next steps."""
    from ..adoption import AdoptionError, adopt, look, next_steps

    root = opened.project_root()
    try:
        if not (root / ".git").exists():
            raise AdoptionError(
                f"{str(root)!r} is no git repository, and every verdict is a commit or a revert: `git init`, "
                "commit what you have, then run this again"
            )
        found = look(root, options.metric)
        for line in adopt(root, found, write=not options.dry_run):
            print(line)
    except AdoptionError as error:
        print(f"autoresearch: {error}", file=sys.stderr)
        return 1
    print()
    for line in next_steps(found):
        print(line)
    return 0
