"""
Opening a campaign for pytest: every trouble becomes a usage error with the way out, a breach is put on record.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from .campaign import NOT_READY, Campaign
from .records import FixedHarnessViolation
from .settlement import record_halt

if TYPE_CHECKING:
    import argparse

__all__ = ["open_campaign"]


def open_campaign(config: pytest.Config, options: argparse.Namespace) -> Campaign:
    """
    Open the campaign for one session or for a parent of rounds, whatever it takes before any gate runs.

    :raises pytest.UsageError: for everything that is not ready, with the way out.
    """
    try:
        campaign = Campaign(config.rootpath, options)
        with ExitStack() as unless_opened:
            unless_opened.callback(campaign.close)
            try:
                campaign.prepare()
                campaign.pin(config)
            except FixedHarnessViolation as error:
                if not campaign.read_only:
                    with campaign.locked():
                        record_halt(campaign, str(error))
                raise
            unless_opened.pop_all()
    except NOT_READY as error:
        raise pytest.UsageError(str(error)) from error
    return campaign
