"""
``autoresearch report``: results.tsv and progress.png anew from the ledgers.
"""

from __future__ import annotations

import argparse

from ..reports import write_picture, write_results
from . import opened

HELP = "write results.tsv and progress.png anew from the ledgers"

arguments = opened.tag_argument


def run(options: argparse.Namespace) -> int:
    """Write both and say where."""
    with opened.campaign(options) as campaign:
        write_results(campaign)
        print("results: results.tsv")
        print(write_picture(campaign))
    return 0
