"""
``autoresearch export``: the record for other programs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..changes import Change, NoSuchChangeError, changes, choose, open_change
from . import opened

if TYPE_CHECKING:
    from ..campaign import Campaign

HELP = (
    "the record for other programs: both ledgers joined, a table of findings, or in-toto statements"
)
DETAILS = (
    "jsonl: one object a change, both rows joined. csv: one line a finding. in-toto: one unsigned Statement v1 with SLSA "
    "provenance a line, of each kept finding. Figures of the sealed audit split are left out, unless --sealed asks for "
    "them: an export is for people and their programs, and no agent may read those figures."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What, and where to."""
    parser.description = DETAILS
    parser.add_argument("--format", choices=("jsonl", "csv", "in-toto"), required=True)
    parser.add_argument("--seq", metavar="SEQ", help="one finding, by its number in results.tsv")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="instead of standard output"
    )
    opened.tag_argument(parser)
    opened.sealed_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Write line by line, or the file in one step."""
    if options.sealed and options.format == "in-toto":
        return _refused(
            "--sealed is incompatible with --format in-toto: a statement is made to be passed on, and never holds "
            "figures of the sealed audit split; use jsonl"
        )
    with opened.campaign(options) as campaign:
        try:
            lines = _lines(campaign, options)
            if options.output is None:
                for line in lines:
                    print(line)
                return 0
            text = "".join(f"{line}\n" for line in lines)
        except NoSuchChangeError as error:
            return _refused(str(error))
    from ..report.results import replace_file

    try:
        replace_file(options.output, text.encode())
    except OSError as error:
        return _refused(f"{str(options.output)!r} cannot be written: {error.strerror}")
    return 0


def _refused(message: str) -> int:
    print(f"autoresearch: {message}", file=sys.stderr)
    return 2


def _lines(campaign: Campaign, options: argparse.Namespace) -> Iterator[str]:
    journal, state = campaign.journal, campaign.journal.state_anew()
    chosen: Change | None = None if options.seq is None else choose(journal, state, options.seq)
    if options.format == "in-toto":
        yield from _statements(campaign, chosen)
        return
    from ..report.export import csv_lines, json_line, open_line

    found = changes(journal, state) if chosen is None else iter([chosen])
    if options.format == "csv":
        yield from csv_lines(found, sealed=options.sealed)
        return
    for change in found:
        yield json_line(change, sealed=options.sealed)
    going = open_change(journal) if chosen is None else None
    if going is not None:
        yield open_line(*going)


def _statements(campaign: Campaign, chosen: Change | None) -> Iterator[str]:
    from ..attestation import encode_statement, kept_findings, statement

    found = 0
    for kept in kept_findings(campaign.journal):
        if kept.standing and (chosen is None or kept.seq == chosen.seq):
            found += 1
            made = statement(kept, tag=campaign.tag, repository=campaign.repository)
            yield encode_statement(made).decode("ascii")
    if chosen is not None and not found:
        raise NoSuchChangeError(
            f"{chosen.name} is no keep that stands: statements are made of those alone"
        )
