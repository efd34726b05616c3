"""
``autoresearch ratify``: a person pins HEAD as the Fixed Harness.
"""

from __future__ import annotations

import argparse
import getpass

from ..harness import require_intact
from ..vcs import RepositoryError
from . import opened

HELP = "pin HEAD as the Fixed Harness, after a person changed it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """A change of the rules has a reason."""
    opened.tag_argument(parser)
    parser.add_argument("--reason", required=True, help="why the harness changed")


def run(options: argparse.Namespace) -> int:
    """Refuse where the surface changed as well: that is for a session to judge."""
    from ..settlement import record_ratification

    with opened.campaign(options, writes=True) as campaign:
        if campaign.state.incumbent is None:
            print("nothing to ratify: the campaign's first session pins HEAD")
            return 1
        head = campaign.repository.head_commit()
        campaign.use_harness(head)
        require_intact(iter(campaign.breaches()))
        campaign.require_clean_surface()
        committed = campaign.repository.read_surface(head, campaign.settings.surface)
        if committed != dict(campaign.incumbent_files):
            raise RepositoryError(
                f"commit {head[:12]} changes the surface as well: ratifying is for the harness; commit "
                "the harness alone, and let a session judge the surface"
            )
        campaign.task.require_intact()
        record_ratification(campaign, actor=getpass.getuser(), reason=options.reason)
        print(
            f"ratified {head[:12]} as the Fixed Harness of campaign {campaign.tag!r}; the next session "
            "measures the incumbent anew"
        )
        for line in campaign.anchors.lines():
            print(line)
    return 0
