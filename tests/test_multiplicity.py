"""Many proposals: how often luck keeps one, and a bound on its ever doing so; against the shipped rule."""

from __future__ import annotations

import random

import pytest

from pytest_autoresearch.keep import PRESETS, KeepRule, Reference, decide
from pytest_autoresearch.multiplicity import expected_false_keeps, false_keep_probability, spend


def null_kept(rng: random.Random, reference: Reference, rule: KeepRule) -> bool:
    """One candidate as good as an incumbent of level 100."""
    step = decide(
        reference, rng.gauss(100, 1), [rng.gauss(100, 1) for _ in range(rule.confirm)], rule
    )
    return step.action == "keep"


def measured(rng: random.Random, df: int, n: int) -> Reference:
    sigma = (rng.gammavariate(df / 2, 2) / df) ** 0.5
    return Reference(rng.gauss(100, n**-0.5), sigma, n, df)


@pytest.mark.parametrize(
    ("rule", "df", "n"),
    [
        (KeepRule(), 3, 4),
        (PRESETS["balanced"], 30, 2),
        (KeepRule(confirm=1), 10, 4),
        (KeepRule(alpha=0.3, early_alpha=0.2, screen=-0.5, confirm=4), 5, 3),
    ],
    ids=["default", "balanced", "one seed", "lax"],
)
def test_the_probability_is_that_of_the_shipped_rule(
    rule: KeepRule, df: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The integral leaves the check for noisier candidates out; five standard errors.
    monkeypatch.setattr("pytest_autoresearch.scatter.NOISIER_ALPHA", 0.0)
    rng = random.Random(8)
    draws = 4000
    share = sum(null_kept(rng, measured(rng, df, n), rule) for _ in range(draws)) / draws
    expected = false_keep_probability(rule, df, n)
    assert share == pytest.approx(expected, abs=5 * (expected / draws) ** 0.5)


def test_one_fresh_seed_of_several_cannot_keep() -> None:
    # Two looks at the same level would keep 1.7 times as often; but the first may only drop.
    lax = KeepRule(alpha=0.01, early_alpha=0.01, screen=-9.0, confirm=2)
    single = KeepRule(alpha=0.01, screen=-9.0, confirm=1)
    assert false_keep_probability(lax, 40, 40) <= false_keep_probability(single, 40, 40)


def test_a_rule_without_confirmation_has_its_own_level() -> None:
    # Exactly: Student's t of the difference between one run and n.
    rule = KeepRule(alpha=0.05, confirm=0)
    for df, n in ((3, 4), (1, 2), (40, 1)):
        assert false_keep_probability(rule, df, n) == pytest.approx(0.05, rel=2e-3)


def test_candidates_that_share_an_incumbent_share_its_luck() -> None:
    rule = KeepRule()
    one = false_keep_probability(rule, 3, 4)
    many = [false_keep_probability(rule, 3, 4, decided) for decided in (0, 1, 10, 100)]
    assert many[:2] == [0, pytest.approx(one)]
    assert one < many[2] < 10 * one
    assert many[2] < many[3] < 1
    assert expected_false_keeps(100, rule, 3, 4) == many[3]
    assert expected_false_keeps(100, PRESETS["strict"], 3, 4) < many[3] / 2


@pytest.mark.parametrize(("df", "n"), [(3, 4), (30, 1), (200, 12)])
def test_spending_gives_each_proposal_its_share(df: int, n: int) -> None:
    rule = spend(KeepRule(), 0.05, 7, 100, df=df, n=n)
    assert false_keep_probability(rule, df, n) == pytest.approx(0.0005, rel=0.01)
    assert false_keep_probability(rule, df, n) <= 0.0005
    assert rule.alpha / KeepRule().alpha == pytest.approx(rule.early_alpha / 0.01)
    assert (rule.screen, rule.confirm) == (1.0, 3)


def test_a_rule_that_is_strict_enough_stays_as_it_is() -> None:
    assert spend(PRESETS["strict"], 0.5, 0, 2) == PRESETS["strict"]


def test_the_familywise_bound_holds_over_whole_campaigns_of_nulls() -> None:
    # The shipped rule with a baseline and canaries; the bound is Boole's, so the rate lies well below it.
    total, horizon, campaigns = 0.1, 20, 150
    spent = plain = 0
    for seed in range(campaigns):
        for familywise in (True, False):
            rng = random.Random(seed)
            reference = Reference.from_runs([rng.gauss(100, 1) for _ in range(4)])
            for t in range(horizon):
                rule = KeepRule()
                if familywise:
                    rule = spend(rule, total, t, horizon, df=reference.df, n=reference.n)
                if null_kept(rng, reference, rule):
                    spent += familywise
                    plain += not familywise
                    break
                if t % 8 == 7:
                    reference = reference.with_canary(rng.gauss(100, 1))
    assert 0 < spent / campaigns <= total
    # The control: without spending the bound is broken.
    assert plain / campaigns > total


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spend(KeepRule(), 0.05, 100, 100), "proposal 100 is outside the horizon of 100"),
        (lambda: spend(KeepRule(), 0.05, -1, 100), "proposal -1 is outside"),
        (lambda: spend(KeepRule(), 1.0, 0, 100), "total 1.0 is outside 0 to 1"),
        (lambda: false_keep_probability(KeepRule(), 0, 4), "df >= 1 and n >= 1"),
        (lambda: expected_false_keeps(-1, KeepRule(), 3, 4), "-1 proposals"),
    ],
)
def test_impossible_campaigns_are_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
