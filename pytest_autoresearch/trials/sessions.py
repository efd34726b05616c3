"""
Violations around the candidate: in the work tree, the ledgers, the budget, the wall, what was told of cohorts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .candidates import appended
from .violation import NotApplicable, Plant

if TYPE_CHECKING:
    from ..compliance.cohorts import CohortView
    from ..compliance.queries import Memory
    from ..experiment import Experiment

__all__ = ["PLANTS"]


def _stray_file(experiment: Experiment) -> None:
    (experiment.campaign.root / "conftest.py").write_text("planted = True\n")


def _no_budget(experiment: Experiment) -> None:
    from ..budget import MutationBudget

    experiment.budget = MutationBudget(total_budget=0)


def _altered_row(experiment: Experiment) -> None:
    path = experiment.campaign.journal.cutover.path
    if not path.exists():
        raise NotApplicable("no ledger yet: run `pytest --autoresearch` once")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _small_cohorts(minimum: int, log: Memory) -> CohortView:
    """Three persons, and two, beside many."""
    import numpy as np

    from ..compliance.cohorts import CohortView

    many = 40 * max(minimum, 50)
    groups = np.array(["a"] * many + ["b"] * 3 + ["c"] * 2)
    return CohortView({"planted": groups}, {}, minimum=minimum, log=log)


def _told(experiment: Experiment, *, shown: bool) -> None:
    """
    Small cohorts were told of before, under another minimum.

    :param shown: they still are, without any objection.
    """
    from ..compliance.queries import Memory

    minimum, log = experiment.campaign.settings.cohort_minimum, Memory()
    # Shown to a multiple of ten, three persons are none: below this minimum no gate could tell.
    if minimum < 6:
        raise NotApplicable(f"cohort_minimum = {minimum}: smaller cohorts are rounded away")
    answer = _small_cohorts(2, log).view(by="planted", measures=("n",))
    view = _small_cohorts(minimum, log)
    experiment.__dict__["cohort_view"] = view
    if shown:
        vars(view).update(view=lambda by, measures: answer, refusal=lambda by=(): "")


def _differenced(experiment: Experiment) -> None:
    _told(experiment, shown=False)


def _shown(experiment: Experiment) -> None:
    _told(experiment, shown=True)


def _unwalled(experiment: Experiment) -> None:
    declared = experiment.campaign.settings.harm
    if "none" not in (declared.writes, declared.network):
        raise NotApplicable("[tool.autoresearch.harm] claims neither writes nor network")


PLANTS: tuple[Plant, ...] = (
    Plant("a file beside the surface", ("test_only_the_surface_changed",), session=_stray_file),
    Plant(
        "a budget that is spent",
        ("test_budget_pays_for_the_mutation",),
        appended("_planted = 1"),
        session=_no_budget,
    ),
    Plant("one bit of a ledger", ("test_ledgers_verify",), session=_altered_row),
    Plant(
        "cohorts of three and two, shown",
        ("test_cohorts_shown_to_an_agent_are_large_enough",),
        session=_shown,
    ),
    Plant(
        "cohorts of three and two, told of before",
        ("test_everything_told_of_cohorts_isolates_nobody",),
        session=_differenced,
    ),
    Plant(
        "no wall",
        ("test_a_wrong_candidate_could_harm_nobody_outside",),
        session=_unwalled,
        options=("--autoresearch-sandbox=none",),
    ),
)
