"""
Violations in the candidate's own text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .violation import PERSONAL, NotApplicable, Plant

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = ["PLANTS", "appended"]

Change = Callable[[dict[str, bytes], "Settings"], dict[str, bytes]]


def appended(text: str) -> Change:
    """The incumbent with one more line."""

    def change(files: dict[str, bytes], settings: Settings) -> dict[str, bytes]:
        entry = settings.entry
        return {**files, entry: files[entry] + b"\n" + text.encode() + b"\n"}

    return change


def _protected(files: dict[str, bytes], settings: Settings) -> dict[str, bytes]:
    if not settings.protected:
        raise NotApplicable("[tool.autoresearch] protected names nothing")
    return appended(f"_planted = {settings.protected[0]!r}")(files, settings)


PLANTS: tuple[Plant, ...] = (
    Plant("a file that Python cannot read", ("test_candidate_can_be_parsed",), appended("def (:")),
    Plant("a protected name", ("test_protected_parameters_are_untouched",), _protected),
    Plant(
        "an address in the proposal",
        ("test_proposal_holds_no_personal_data",),
        appended(f"# ask {PERSONAL}"),
    ),
)
