"""
The authority matrix: who may do what, and which code sees to it.

An agent summarises cohorts and trends and mutates the surface; what changes the rules, the record or the world is for
people; individuals are for nobody. Every entry names what enforces it, and a test calls that for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from operator import attrgetter

__all__ = ["MATRIX", "Actor", "Entry", "authority_lines", "authority_summary", "enforcement"]


class Actor(StrEnum):
    """Who may do something."""

    AGENT = "agent"
    HUMAN = "human"
    BLOCKED = "blocked"

    @property
    def words(self) -> str:
        """For people."""
        return {"agent": "an agent may", "human": "only people may", "blocked": "nobody may"}[self]


@dataclass(frozen=True)
class Entry:
    """One action, who may do it, and what keeps everybody else from it."""

    action: str
    actor: Actor
    how: str
    """The mechanism in words."""
    where: str
    """The mechanism in code: ``module:name``, relative to the package."""


MATRIX = (
    Entry(
        "see cohort summaries",
        Actor.AGENT,
        "aggregates above a floor, audited together with every answer before",
        "compliance.cohorts:CohortView.view",
    ),
    Entry(
        "see aggregate trends",
        Actor.AGENT,
        "past proposals in words of a closed list, with rounded figures",
        "feedback:public_trials",
    ),
    Entry(
        "mutate the surface within the budget",
        Actor.AGENT,
        "each mutation is paid for before anything runs, and halts when the budget cannot pay",
        "budget:MutationBudget.spend",
    ),
    Entry(
        "ratify the harness",
        Actor.HUMAN,
        "any file outside the surface that differs from the ratified tree halts the session",
        "harness:require_intact",
    ),
    Entry(
        "amend the rules",
        Actor.HUMAN,
        "the configuration comes from the ratified tree, and the surface may not hold it",
        "config:load_settings",
    ),
    Entry(
        "apply findings",
        Actor.HUMAN,
        "a keep moves the campaign's own branch and no other",
        "campaign:Campaign.publish",
    ),
    Entry(
        "restore an earlier state",
        Actor.HUMAN,
        "repository, ledgers and data can be shown to no agent",
        "agent_room:Shown.choose",
    ),
    Entry(
        "retrieve individual records",
        Actor.BLOCKED,
        "the view has no way to rows, and asking for one halts",
        "compliance.cohorts:CohortView.records",
    ),
    Entry(
        "isolate persons by combining answers",
        Actor.BLOCKED,
        "an answer that would bring fewer than the minimum into the span of all answers is refused",
        "compliance.disclosure:Span.fewest",
    ),
    Entry(
        "decide about individuals",
        Actor.BLOCKED,
        "metrics that hold a figure for each individual are refused, and the run with them",
        "compliance.aggregates:aggregates",
    ),
    Entry(
        "recommend for specific entities",
        Actor.BLOCKED,
        "of everything a run writes only the one artifact is taken out",
        "artifact:take_artifact",
    ),
    Entry(
        "touch protected names or values",
        Actor.BLOCKED,
        "the mutation's syntax is searched before anything runs",
        "protected:protected_problems",
    ),
)


def enforcement(entry: Entry) -> object:
    """
    The function that enforces an entry.

    :raises AttributeError, ModuleNotFoundError: there is none by that name.
    """
    module, _, name = entry.where.partition(":")
    found: object = attrgetter(name)(import_module(f".{module}", __package__))
    return found


def authority_summary() -> list[str]:
    """A line for each actor."""
    return [
        f"{actor.words} {', '.join(entry.action for entry in MATRIX if entry.actor is actor)}"
        for actor in Actor
    ]


def authority_lines() -> list[str]:
    """The whole matrix as a plain table: actor, action, mechanism, code."""
    from tabulate import tabulate

    rows = [(entry.actor.value, entry.action, entry.how, entry.where) for entry in MATRIX]
    return tabulate(rows, ("who", "what", "what enforces it", "where")).splitlines()
