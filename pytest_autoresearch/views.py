"""
What a gate sees of a candidate and of the ledgers: data and questions, nothing that can be changed.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from .harness import Breach
from .protected import protected_problems
from .records import Domain
from .series import Mapped
from .state import Settled

if TYPE_CHECKING:
    from .campaign import Campaign
    from .experiment import Experiment

__all__ = ["CandidateView", "LedgerView"]


class LedgerView:
    """The campaign's two ledgers as a gate sees them: what is settled, and whether the chains hold."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign

    @property
    def settled(self) -> Sequence[Settled]:
        """Everything that sessions came to, oldest first; without the figures of the sealed audit split."""
        from msgspec.structs import replace as other

        def unaudited(row: Settled) -> Settled:
            return replace(row, reference=row.reference and other(row.reference, audit=None))

        return Mapped(unaudited, self._campaign.state.settled)

    @property
    def problem(self) -> str | None:
        """The first thing wrong with either ledger, between them or with what their rows say; else None."""
        from .verifier import check_files

        found = check_files(self._campaign.directory, self._campaign.tag)
        return None if found is None else str(found)


class CandidateView:
    """
    The candidate as a gate sees it: text, syntax tree and difference; never an importable module.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self.files: Mapping[str, bytes] = experiment.candidate.files
        self.origin = experiment.candidate.origin
        self.mutation = experiment.mutation
        self.domain: Domain = self.mutation.domain
        self.diff = self.mutation.diff
        entry = experiment.campaign.settings.entry
        self.text = self.files[entry].decode("utf-8", errors="replace")
        self.incumbent_text = experiment.campaign.incumbent_files[entry].decode(
            "utf-8", errors="replace"
        )

    @cached_property
    def tree(self) -> ast.Module:
        """
        The entry file's syntax tree.

        :raises SyntaxError: the candidate cannot be parsed; ``mutation.syntax_error`` says so without raising.
        """
        return ast.parse(self.files[self._experiment.campaign.settings.entry])

    def protected_touched(self) -> tuple[str, ...]:
        """What the mutation does to protected names and values, a sentence each; empty when nothing."""
        campaign = self._experiment.campaign
        settings = campaign.settings
        return protected_problems(
            campaign.incumbent_files, self.files, settings.protected, settings.protected_values
        )

    def breaches(self) -> list[Breach]:
        """What departs from the ratified harness right now; empty when only the surface changed."""
        return self._experiment.campaign.breaches()
