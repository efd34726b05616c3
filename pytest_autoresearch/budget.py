"""
The mutation budget: a finite allowance of units, spent per mutation by domain.

Costs follow risk: a hypothesis touches nothing, a feature is the usual way target leakage comes in,
an architecture change has the widest effects. Standard library only, no I/O: the budget of a
session is replayed from the ledger, it is never stored on its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from .records import BudgetExhausted, Domain

__all__ = ["COSTS", "MutationBudget", "Spend"]

COSTS: Mapping[Domain, int] = MappingProxyType(
    {
        Domain.HYPOTHESIS: 5,
        Domain.HYPERPARAMETER: 10,
        Domain.METRIC: 10,
        Domain.FEATURE: 20,
        Domain.ARCHITECTURE: 25,
    }
)
"""Units per mutation."""


@dataclass(frozen=True)
class Spend:
    """One deduction from the budget."""

    type: Domain
    cost: int
    """Units."""
    remaining: int
    """Units left after this spend."""
    description: str
    time: float
    """Seconds since the epoch, UTC."""


class MutationBudget:
    """
    What the agent may still alter, metered: ``spend`` deducts or raises, nothing adds.

    >>> budget = MutationBudget(total_budget=35)
    >>> budget.spend("architecture", "a second block").remaining
    10
    >>> budget.spend("architecture", "a third block")
    Traceback (most recent call last):
    pytest_autoresearch.records.BudgetExhausted: SYSTEM HALT: MUTATION BUDGET EXHAUSTED. \
Requested 25, remaining 10.
    """

    def __init__(
        self,
        total_budget: int = 100,
        costs: Mapping[Domain, int] | Mapping[str, int] = COSTS,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        ``costs`` replaces the price of the domains it names; the others keep theirs.

        Raises ValueError for a total below zero, a cost below one unit or an unknown domain.
        """
        if type(total_budget) is not int or total_budget < 0:
            raise ValueError(
                f"total_budget is {total_budget!r}: give a whole number of units, zero or more"
            )
        prices = dict(COSTS)
        for name, cost in costs.items():
            if type(cost) is not int or cost < 1:
                raise ValueError(
                    f"cost of {str(name)!r} is {cost!r}: give a whole number of units, one or "
                    "more; a free mutation would let the loop run for ever"
                )
            prices[_domain(name)] = cost
        self.total_budget = total_budget
        self.costs: Mapping[Domain, int] = MappingProxyType(prices)
        self._clock = clock
        self._remaining = total_budget
        self._past: Iterable[Spend] = ()
        self._ledger: list[Spend] = []

    @classmethod
    def replay(
        cls,
        spends: Iterable[Spend],
        total_budget: int = 100,
        costs: Mapping[Domain, int] | Mapping[str, int] = COSTS,
        *,
        spent: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> MutationBudget:
        """
        The budget after ``spends``, oldest first.

        Each spend keeps the cost it was made at, whatever the prices are now. Its ``remaining`` is
        computed anew against ``total_budget``; a total that was lowered below what is already spent
        leaves zero.

        ``spent`` is the sum of all costs where it is known: then ``spends``, a sequence, is not read before somebody
        asks for :attr:`ledger`.
        """
        budget = cls(total_budget, costs, clock=clock)
        budget._past = spends
        if spent is None:
            budget._past = past = budget._replayed()
            budget._remaining = past[-1].remaining if past else total_budget
        else:
            budget._remaining = max(0, total_budget - spent)
        return budget

    def _replayed(self) -> tuple[Spend, ...]:
        """The past spends against this total."""
        found, remaining = [], self.total_budget
        for spend in self._past:
            if type(spend.cost) is not int or spend.cost < 0:
                raise ValueError(
                    f"replayed spend {spend.description!r} costs {spend.cost!r}: a ledger row never "
                    "gives units back; verify the ledger"
                )
            remaining = max(0, remaining - spend.cost)
            found.append(replace(spend, type=_domain(spend.type), remaining=remaining))
        return tuple(found)

    def cost(self, mutation_type: Domain | str) -> int:
        """Units that one mutation of this domain costs."""
        return self.costs[_domain(mutation_type)]

    def can_afford(self, mutation_type: Domain | str) -> bool:
        """Whether ``spend`` of this domain would succeed now."""
        return self.cost(mutation_type) <= self.remaining

    def spend(self, mutation_type: Domain | str, description: str) -> Spend:
        """
        Deduct one mutation of this domain.

        Raises BudgetExhausted, and deducts nothing, when it does not fit.
        """
        domain = _domain(mutation_type)
        cost = self.costs[domain]
        if cost > self.remaining:
            raise BudgetExhausted(cost, self.remaining)
        self._remaining -= cost
        spend = Spend(domain, cost, self._remaining, description, self._clock())
        self._ledger.append(spend)
        return spend

    @property
    def remaining(self) -> int:
        """Units left."""
        return self._remaining

    @property
    def spent(self) -> int:
        """Units gone."""
        return self.total_budget - self.remaining

    @property
    def utilization(self) -> float:
        """Share of the total that is spent, 0 to 1; a total of zero is wholly spent."""
        return self.spent / self.total_budget if self.total_budget else 1.0

    @property
    def exhausted(self) -> bool:
        """Whether not even the cheapest domain fits any more; this ends the loop."""
        return self.remaining < min(self.costs.values())

    @property
    def ledger(self) -> tuple[Spend, ...]:
        """Every spend, oldest first."""
        return (*self._replayed(), *self._ledger)

    def __repr__(self) -> str:
        return f"MutationBudget({self.remaining} of {self.total_budget} left)"


def _domain(name: Domain | str) -> Domain:
    try:
        return Domain(name)
    except ValueError:
        raise ValueError(
            f"unknown mutation type {name!r}: choose one of {', '.join(Domain)}"
        ) from None
