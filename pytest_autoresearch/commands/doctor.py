"""
``autoresearch doctor``: what holds on this machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

HELP = "which isolation levels hold on this machine, and the way to a better one"


def arguments(_: argparse.ArgumentParser) -> None:
    """None."""


def run(_: argparse.Namespace) -> int:
    """Try every level out."""
    from ..sandbox.survey import explain, survey

    with TemporaryDirectory(prefix="autoresearch-doctor-") as directory:
        found = survey(Path(directory))
    for line in explain(found):
        print(line)
    return 0
