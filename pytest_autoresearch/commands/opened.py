"""
A campaign as a subcommand opens it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..campaign import Campaign

__all__ = ["campaign", "positive", "project_root", "sealed_argument", "tag_argument"]


def tag_argument(parser: argparse.ArgumentParser) -> None:
    """Let a user name the campaign."""
    parser.add_argument("--tag", help="campaign (default: the current branch's, else 'main')")


def sealed_argument(parser: argparse.ArgumentParser) -> None:
    """Let a person see what no agent may."""
    parser.add_argument(
        "--sealed",
        action="store_true",
        help="with the figures of the sealed audit split: for people; an agent that learns them breaks the seal",
    )


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def project_root() -> Path:
    """The nearest directory upwards that is a repository, else the current one."""
    here = Path.cwd()
    return next((path for path in (here, *here.parents) if (path / ".git").exists()), here)


@contextmanager
def campaign(options: argparse.Namespace, *, writes: bool = False) -> Iterator[Campaign]:
    """
    The campaign that ``options.tag`` names, closed at the end.

    :param writes: hold the campaign's lock.
    """
    # The names a session's options have, so that a campaign opens the same way.
    given = argparse.Namespace(
        autoresearch_tag=options.tag,
        autoresearch_dry_run=not writes,
        collectonly=False,
        autoresearch_rounds=None,
        autoresearch_sandbox=getattr(options, "sandbox", None),
        autoresearch_candidate=None,
    )
    with closing(Campaign(project_root(), given)) as found:
        yield found
