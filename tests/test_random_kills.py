"""
Kills of one campaign, one after the other: whatever they did would add up. ``benchmarks/crashes.py`` does thousands.
"""

from __future__ import annotations

from pathlib import Path

from crashing import roomy
from kills import kill_at_random, require_whole


def test_a_campaign_under_random_kills_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    with roomy(tmp_path) as place:
        tally = kill_at_random(place / "project", kills=150, seed=1)
        changes = require_whole(place / "project")
    assert tally.kills == 150
    # The kills hit changes in their middle, and the campaign still got on: thirty were made to.
    assert tally.resolutions["finished"] >= 5
    assert changes > 15
