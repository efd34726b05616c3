"""
``autoresearch attest``: a signed in-toto statement for each kept finding, and the check of one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import verifier
from ..envelope import (
    EnvelopeError,
    KeyFileError,
    open_envelope,
    private_key,
    public_key,
    seal_envelope,
)
from ..verifier import CannotTell, printable
from . import opened

if TYPE_CHECKING:
    from ..attestation import Kept
    from ..campaign import Campaign

HELP = "a signed in-toto statement for each kept finding; or check one"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to sign with which key, or what to check against which."""
    opened.tag_argument(parser)
    parser.add_argument(
        "seq",
        nargs="?",
        type=opened.positive,
        help="one finding, by its number in results.tsv (default: all)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="default: attestations/ in the campaign's directory",
    )
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        help="Ed25519 key, PEM or OpenSSH: a private one outside the project to sign; with --check a public one",
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="check an envelope instead")


def run(options: argparse.Namespace) -> int:
    """0: signed, or the signature holds. 1: refused, or it does not. 2: cannot tell."""
    try:
        return _check(options) if options.check is not None else _attest(options)
    except (CannotTell, KeyFileError, OSError) as error:
        print(f"cannot tell: {error}", file=sys.stderr)
        return 2


def _attest(options: argparse.Namespace) -> int:
    from ..attestation import encode_statement, statement

    with opened.campaign(options) as campaign:
        if options.key.resolve().is_relative_to(campaign.root.resolve()):
            raise KeyFileError(
                f"the key {str(options.key)!r} lies in the project, within an agent's reach: keep it elsewhere"
            )
        key = private_key(options.key)
        text, problem = campaign.anchors.testimony()
        if problem and campaign.settings.anchors.required:
            raise CannotTell(problem)
        report = verifier.verify(campaign.root, campaign.tag, anchors=text or None)
        broken = verifier.broken_link(report, None)
        if broken is not None:
            print(f"BLOCK: {broken}: nothing is attested")
            return 1
        directory = options.output or campaign.directory / "attestations"
        directory.mkdir(parents=True, exist_ok=True)
        for kept in _chosen(campaign, options.seq):
            made = encode_statement(
                statement(kept, tag=campaign.tag, repository=campaign.repository)
            )
            path = directory / f"{campaign.tag}-{kept.seq:06d}.intoto.jsonl"
            path.write_bytes(seal_envelope(made, key))
            print(path)
    return 0


def _chosen(campaign: Campaign, seq: int | None) -> Iterator[Kept]:
    """The kept findings that the campaign stands on, or the one that was asked for."""
    from ..attestation import kept_findings

    found = list(kept_findings(campaign.journal))
    standing = [kept for kept in found if kept.standing]
    if seq is None:
        yield from standing
        return
    yield from (kept for kept in standing if kept.seq == seq)
    if all(kept.seq != seq for kept in standing):
        gone = any(kept.seq == seq for kept in found)
        numbers = ", ".join(str(kept.seq) for kept in standing) or "none"
        what = "was rolled back" if gone else "is no kept finding"
        raise CannotTell(f"{seq} {what}: the campaign stands on {numbers}")


def _check(options: argparse.Namespace) -> int:
    from ..attestation import BUILD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE

    key = public_key(options.key)
    try:
        made = json.loads(open_envelope(options.check.read_bytes(), key))
        kinds = (
            made["_type"],
            made["predicateType"],
            made["predicate"]["buildDefinition"]["buildType"],
        )
        if kinds != (STATEMENT_TYPE, PREDICATE_TYPE, BUILD_TYPE):
            raise EnvelopeError(f"it states something else: {kinds}")
        subject = [(str(one["name"]), dict(one["digest"])) for one in made["subject"]]
    except EnvelopeError as error:
        print(printable(f"BLOCK: {options.check.name}: {error}"))
        return 1
    except (ValueError, LookupError, TypeError) as error:
        print(printable(f"BLOCK: {options.check.name}: it is no statement of a finding: {error!r}"))
        return 1
    for name, digest in subject:
        for kind, value in sorted(digest.items()):
            print(printable(f"{kind} {value}  {name}"))
    print("PASS: signed by this key; that the things above are these is for you to compare")
    return 0
