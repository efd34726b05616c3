"""
Which isolation levels hold on this machine, and what to do for a better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .remedies import remedy
from .selftest import SelfTest, self_test
from .spec import Isolation

__all__ = ["Survey", "explain", "survey"]

BEST_FIRST = (Isolation.STRONG, Isolation.KERNEL)


@dataclass(frozen=True)
class Survey:
    """The self-tests of every level that needs nothing from the user, the best level first."""

    tests: tuple[SelfTest, ...]
    """One for each level tried."""

    @property
    def best(self) -> Isolation:
        """
        The best level that holds; ``none`` if none does. To tell a person, never to choose for one: a session
        runs at the level that its configuration names, or not at all.
        """
        return next((test.level for test in self.tests if not test.failures), Isolation.NONE)


def survey(directory: Path, hidden: Sequence[Path] = ()) -> Survey:
    """Try every level in a temporary directory below ``directory``; see :func:`self_test`."""
    return Survey(
        tuple(self_test(level, directory=directory, hidden=hidden) for level in BEST_FIRST)
    )


def explain(found: Survey) -> list[str]:
    """Lines for a person: what holds, what does not and why, and the way to a better level."""
    lines = []
    for test in found.tests:
        if not test.failures:
            lines.append(f"{test.level.value}: works (self-test {test.seconds * 1000:.0f} ms)")
            continue
        lines.append(f"{test.level.value}: does not hold: {test.failures[0]}")
        lines.append(f"  to change that: {remedy(test.level, test.failures[0])}")
    if found.best is Isolation.NONE:
        lines.append(
            "container: give the command that starts yours; 'none' runs everything unsandboxed and "
            "labels every row so"
        )
    return lines
