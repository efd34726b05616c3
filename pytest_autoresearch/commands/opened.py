"""
A campaign as a subcommand opens it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..campaign import Campaign

__all__ = ["campaign", "project_root", "tag_argument"]


def tag_argument(parser: argparse.ArgumentParser) -> None:
    """Let a user name the campaign."""
    parser.add_argument("--tag", help="campaign (default: the current branch's, else 'main')")


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
        autoresearch_sandbox=None,
        autoresearch_candidate=None,
    )
    with closing(Campaign(project_root(), given)) as found:
        yield found
