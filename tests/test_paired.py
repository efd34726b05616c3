"""Example by example: the rule for metrics that no seed changes."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_autoresearch.keep import Reference
from pytest_autoresearch.paired import bootstrap_deviation, paired_decision

DRAW = np.random.default_rng(11)
BEFORE = DRAW.random(3000)
REFERENCE = Reference(float(BEFORE.mean()), 1e-6, 4, 3)


def decide(after: np.ndarray, **changes: float) -> object:
    return paired_decision(
        BEFORE, after, reference=REFERENCE, metric=float(after.mean()), seed=1, **changes
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_bootstrap_agrees_with_the_formula(scale: float) -> None:
    differences = scale * (DRAW.normal(size=2000) + 0.3)
    formula = differences.std(ddof=1) / np.sqrt(len(differences))
    assert bootstrap_deviation(differences, seed=4) == pytest.approx(formula, rel=0.08)


def test_the_same_figures_lead_to_the_same_decision() -> None:
    after = BEFORE + DRAW.normal(-0.002, 0.05, len(BEFORE))
    assert decide(after) == decide(after)


def test_a_shift_of_every_example_is_kept_and_scatter_alone_is_not() -> None:
    assert decide(BEFORE - 1e-6).action == "keep"
    assert (
        decide(BEFORE + DRAW.permutation(np.linspace(-0.5, 0.5, len(BEFORE)))).action == "discard"
    )
    assert decide(BEFORE).action == "discard"
    assert decide(BEFORE + 0.1).action == "discard"


def test_the_margin_is_in_standard_deviations_of_the_mean_difference() -> None:
    noise = DRAW.normal(size=len(BEFORE))
    noise -= noise.mean()
    one = float(noise.std(ddof=1)) / np.sqrt(len(noise))
    assert decide(BEFORE - noise - 1.3 * one).action == "keep"
    assert decide(BEFORE - noise - 0.7 * one).action == "discard"
    assert decide(BEFORE - noise - 1.3 * one, margin=2.0).action == "discard"


def test_the_objective_must_improve_too() -> None:
    step = paired_decision(
        BEFORE, BEFORE - 0.1, reference=REFERENCE, metric=REFERENCE.mean + 1, seed=1
    )
    assert step.action == "discard"
    assert "the objective itself is no better" in step.message


@pytest.mark.parametrize(
    "after",
    [BEFORE[:-1], BEFORE[:, None], np.full(len(BEFORE), np.nan)],
    ids=["short", "2d", "nan"],
)
def test_what_cannot_be_paired_is_refused(after: np.ndarray) -> None:
    with pytest.raises(ValueError, match="losses"):
        decide(after)
