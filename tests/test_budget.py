"""The mutation budget: prices, refusals and replay."""

from __future__ import annotations

import dataclasses
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.budget import COSTS, MutationBudget, Spend
from pytest_autoresearch.records import BudgetExhausted, Domain, FixedHarnessViolation

properties = settings(deadline=None)


@pytest.mark.parametrize(
    ("domain", "cost"),
    [
        ("hypothesis", 5),
        ("hyperparameter", 10),
        ("metric", 10),
        ("feature", 20),
        ("architecture", 25),
    ],
)
def test_each_domain_has_its_price(domain: str, cost: int) -> None:
    budget = MutationBudget()
    assert budget.spend(domain, "a change").cost == cost
    assert budget.remaining == 100 - cost
    assert budget.spent == cost
    assert budget.utilization == cost / 100


def test_what_does_not_fit_is_refused_and_costs_nothing() -> None:
    budget = MutationBudget(35)
    budget.spend(Domain.ARCHITECTURE, "a second block")
    with pytest.raises(BudgetExhausted) as caught:
        budget.spend(Domain.ARCHITECTURE, "a third block")
    assert (
        str(caught.value) == "SYSTEM HALT: MUTATION BUDGET EXHAUSTED. Requested 25, remaining 10."
    )
    assert isinstance(caught.value, FixedHarnessViolation)
    assert (budget.remaining, len(budget.ledger)) == (10, 1)
    assert not budget.can_afford("feature")
    assert budget.can_afford("metric")


@pytest.mark.parametrize(("total", "exhausted"), [(0, True), (4, True), (5, False)])
def test_the_loop_ends_when_the_cheapest_domain_does_not_fit(total: int, exhausted: bool) -> None:
    assert MutationBudget(total).exhausted is exhausted


def test_a_budget_of_zero_is_wholly_spent() -> None:
    assert MutationBudget(0).utilization == 1.0


def test_the_ledger_tells_every_spend_and_cannot_be_edited() -> None:
    ticks = count(1000)
    budget = MutationBudget(clock=lambda: float(next(ticks)))
    budget.spend("metric", "log loss in bits")
    budget.spend("feature", "age squared")
    assert budget.ledger == (
        Spend(Domain.METRIC, 10, 90, "log loss in bits", 1000.0),
        Spend(Domain.FEATURE, 20, 70, "age squared", 1001.0),
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        budget.ledger[0].cost = 0  # type: ignore[misc]
    with pytest.raises(TypeError):
        budget.costs[Domain.FEATURE] = 0  # type: ignore[index]


def test_custom_costs_replace_only_the_prices_they_name() -> None:
    budget = MutationBudget(100, {"feature": 60})
    assert budget.cost("feature") == 60
    assert budget.cost("architecture") == COSTS[Domain.ARCHITECTURE]


@pytest.mark.parametrize("cost", [0, -5, True, 2.5, "5", None])
def test_a_price_below_one_unit_is_refused(cost: object) -> None:
    with pytest.raises(ValueError, match=r"cost of 'metric' is .*one or more"):
        MutationBudget(100, {"metric": cost})  # type: ignore[arg-type]


@pytest.mark.parametrize("total", [-1, True, 99.5, "100", float("inf")])
def test_a_total_that_is_no_whole_number_is_refused(total: object) -> None:
    with pytest.raises(ValueError, match="total_budget is"):
        MutationBudget(total)  # type: ignore[arg-type]


def test_an_unknown_domain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'magic': choose one of hypothesis, hyperparameter"):
        MutationBudget().spend("magic", "?")
    with pytest.raises(ValueError, match="unknown mutation type 'magic'"):
        MutationBudget(100, {"magic": 5})


def test_a_replayed_spend_keeps_the_price_it_was_made_at() -> None:
    spend = Spend(Domain.FEATURE, 20, remaining=12345, description="age squared", time=7.0)
    budget = MutationBudget.replay([spend], 100, {"feature": 50})
    assert budget.ledger == (dataclasses.replace(spend, remaining=80),)
    assert budget.cost("feature") == 50


def test_a_total_lowered_below_what_is_spent_leaves_zero() -> None:
    spends = [Spend(Domain.FEATURE, 20, 0, str(number), 0.0) for number in range(3)]
    budget = MutationBudget.replay(spends, 30)
    assert (budget.remaining, budget.utilization, budget.exhausted) == (0, 1.0, True)
    assert len(budget.ledger) == 3


@pytest.mark.parametrize("cost", [-10, True, 2.5])
def test_a_ledger_row_that_gives_units_back_is_refused(cost: object) -> None:
    with pytest.raises(ValueError, match="never gives units back"):
        MutationBudget.replay([Spend(Domain.FEATURE, cost, 0, "refund", 0.0)])  # type: ignore[arg-type]


def test_the_representation_says_what_is_left() -> None:
    assert repr(MutationBudget(40)) == "MutationBudget(40 of 40 left)"


@properties
@given(st.integers(0, 300), st.lists(st.sampled_from(list(Domain)), max_size=40))
def test_replaying_the_ledger_gives_the_same_budget(total: int, wishes: list[Domain]) -> None:
    budget = MutationBudget(total)
    for wish in wishes:
        left = budget.remaining
        if budget.can_afford(wish):
            assert budget.spend(wish, f"a {wish}").remaining == left - COSTS[wish]
        else:
            with pytest.raises(BudgetExhausted) as caught:
                budget.spend(wish, f"a {wish}")
            assert (caught.value.requested, caught.value.remaining) == (COSTS[wish], left)
    assert budget.remaining == total - sum(spend.cost for spend in budget.ledger) >= 0
    replayed = MutationBudget.replay(budget.ledger, total)
    assert (replayed.ledger, replayed.remaining) == (budget.ledger, budget.remaining)
