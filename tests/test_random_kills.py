"""
Three hundred kills of one campaign: whatever they did would add up.
"""

from __future__ import annotations

from pathlib import Path

from crashing import roomy
from kills import kill_at_random, require_whole


def test_a_campaign_under_hundreds_of_random_kills_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    with roomy(tmp_path) as place:
        tally = kill_at_random(place / "project", kills=300, seed=1)
        changes = require_whole(place / "project")
    assert tally.kills == 300
    # The kills hit changes in their middle, and the campaign still got on.
    assert tally.resolutions["finished"] > 10
    assert changes > 30
