"""
How sure a fairness figure is, cohorts that are small or crossed, and whether the incumbent was fairer.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_autoresearch.compliance import fairness
from pytest_autoresearch.compliance.cohort_figures import (
    POOLED,
    cohorts,
    gated_groups,
    intersection,
)
from pytest_autoresearch.compliance.rules import fairness_line
from pytest_autoresearch.compliance.uncertainty import interval, worsening
from pytest_autoresearch.settings import FairnessRule

Array = NDArray[np.float64]


def world(seed: int, n: int = 3000) -> tuple[Array, NDArray[np.int64], NDArray[np.str_]]:
    """Scores, labels and two cohorts of people, of a model that is the same for both."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    scores = np.clip(0.3 + 0.35 * (labels - 0.3) + 0.2 * rng.standard_normal(n), 0, 1)
    return scores, labels, rng.choice(np.array(["F", "M"]), n)


def again(scores: Array, seed: int) -> Array:
    """The same model after training on another seed: each score a little off."""
    return np.clip(scores + 0.02 * np.random.default_rng(seed).standard_normal(len(scores)), 0, 1)


# --- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(fairness.FORMULAS))
def test_an_interval_is_that_of_rows_drawn_with_replacement(name: str) -> None:
    scores, labels, groups = world(1)
    scores = np.where(groups == "F", scores * 0.9, scores)
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(400):
        rows = rng.integers(0, len(labels), len(labels))
        drawn.append(fairness.measure(name, scores[rows], labels[rows], groups[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])

    found = interval(name, scores, labels, groups)

    width = high - low
    assert found.low == pytest.approx(low, abs=0.15 * width)
    assert found.high == pytest.approx(high, abs=0.15 * width)
    assert interval(name, scores, labels, groups) == found


# --- worse than the incumbent --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(fairness.FORMULAS))
def test_another_seed_is_noise_and_a_cohort_worse_off_is_not(name: str) -> None:
    scores, labels, groups = world(3)
    same = again(scores, 4)
    # Those of F who should be selected are missed more often, the others of F selected more often.
    shifted = np.where(groups == "F", np.clip(same - 0.25 * (labels - 0.3), 0, 1), same)
    if name == "calibration_gap":
        shifted = np.where(groups == "F", np.clip(same + 0.15, 0, 1), same)
    if name.startswith("demographic"):
        shifted = np.where(groups == "F", same * 0.6, same)

    noise = worsening(name, scores, same, labels, groups)
    worse = worsening(name, scores, shifted, labels, groups)

    assert noise.low < 0
    assert worse.amount > worse.low > 0.01
    assert worse.cohort == ("F" if name in {"error_rate", "log_loss", "calibration_gap"} else "")
    better = worsening(name, shifted, scores, labels, groups)
    assert better.low < 0


def test_the_same_predictions_are_no_worse() -> None:
    scores, labels, groups = world(5)
    for name in fairness.FORMULAS:
        found = worsening(name, scores, scores, labels, groups)
        assert (found.amount, found.low) == (0, pytest.approx(0, abs=1e-12))


# --- cohorts -------------------------------------------------------------------------------------


def test_an_intersection_sees_what_neither_attribute_shows() -> None:
    n = 4000
    sex = np.tile(np.array(["F", "M"]), n // 2)
    race = np.repeat(np.array(["A", "B"]), n // 2)
    labels = np.tile(np.array([0, 0, 1, 1]), n // 4)
    selected = (sex == "F") == (race == "A")  # of each sex and of each race one half
    scores = np.where(selected, 0.9, 0.1)
    name = "demographic_parity_difference"
    assert fairness.measure(name, scores, labels, sex) == 0
    assert fairness.measure(name, scores, labels, race) == 0

    both = intersection([sex, race])

    assert sorted(set(both.tolist())) == ["F & A", "F & B", "M & A", "M & B"]
    assert fairness.measure(name, scores, labels, both) == 1
    line = fairness_line(
        FairnessRule(metric=name, by=("sex", "race"), at_most=0.2), scores, labels, [sex, race]
    )
    assert line.passed is False
    assert str(line).startswith(
        "demographic_parity_difference[sex&race]=1.000 > threshold=0.200 (95 % interval 1.000 to 1.000; "
        "selection rate F & B 0.000, "
    )


def test_columns_of_different_length_have_no_intersection() -> None:
    with pytest.raises(ValueError, match="columns of equal length"):
        intersection([["a"], ["b", "c"]])


def test_small_cohorts_count_together_where_they_are_pooled() -> None:
    groups = np.array(["big"] * 900 + ["few"] * 150 + ["rare"] * 150)
    labels = np.tile(np.array([0, 1]), 600)
    scores = np.where(groups == "big", np.where(labels == 1, 0.9, 0.1), 0.1)
    rule = FairnessRule(metric="equal_opportunity_difference", by="race", at_most=0.2, small="pool")

    pooled = gated_groups(labels, groups, pool=True)

    assert sorted(set(pooled.tolist())) == [POOLED, "big"]
    assert gated_groups(labels, groups).tolist() == groups.tolist()
    line = fairness_line(rule, scores, labels, [groups])
    assert (line.value, line.passed) == (1.0, False)
    assert POOLED in str(line)
    with pytest.raises(ValueError, match="found 1"):  # one by one no threshold sees them
        fairness_line(FairnessRule(metric=rule.metric, by="race"), scores, labels, [groups])


# --- rules ---------------------------------------------------------------------------------------


def test_a_rule_may_ask_for_the_whole_interval() -> None:
    scores, labels, groups = world(6)
    found = fairness.measure("error_rate_difference", scores, labels, groups)
    limit = found + 0.001
    estimate = FairnessRule(metric="error_rate_difference", by="sex", at_most=limit)
    sure = FairnessRule(metric="error_rate_difference", by="sex", at_most=limit, sure="interval")
    assert fairness_line(estimate, scores, labels, [groups]).passed is True
    line = fairness_line(sure, scores, labels, [groups])
    assert line.passed is False
    assert line.low < found < line.high
    at_least = FairnessRule(metric="demographic_parity_ratio", by="sex", at_least=0.9)
    ratio = fairness_line(at_least, scores, labels, [groups])
    assert ratio.passed is (ratio.value >= 0.9)


def test_fairness_may_worsen_within_the_limit_only_as_far_as_the_rule_says() -> None:
    scores, labels, groups = world(7, n=6000)
    worse = np.where((groups == "F") & (labels == 1), np.clip(scores - 0.1, 0, 1), scores)
    rule = FairnessRule(metric="equal_opportunity_difference", by="sex", at_most=0.9, worse_by=0.02)

    line = fairness_line(rule, worse, labels, [groups], incumbent=scores)

    assert line.incumbent == fairness.measure(rule.metric, scores, labels, groups)
    assert line.passed is False
    assert "at least less fair than the incumbent's" in str(line)
    assert fairness_line(rule, again(scores, 8), labels, [groups], incumbent=scores).passed is True
    # Nothing to compare with: the limit alone counts.
    assert fairness_line(rule, worse, labels, [groups]).passed is True


def test_the_threshold_of_a_rule_decides_who_is_selected() -> None:
    scores, labels, groups = world(9)
    high = FairnessRule(metric="demographic_parity_difference", by="sex", threshold=0.9)
    table = cohorts(scores, labels, groups, 0.9)
    rates = [cohort.selection_rate for cohort in table]
    assert fairness_line(high, scores, labels, [groups]).value == max(rates) - min(rates)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_error_rates_equal_fairlearn(seed: int, groups: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # what fairlearn's dependencies deprecate is not ours to see
        from fairlearn.metrics import MetricFrame
    rng = np.random.default_rng(seed)
    scores, labels = rng.random(500), rng.integers(0, 2, 500)
    group = rng.integers(0, groups, 500)
    frame = MetricFrame(
        metrics=lambda y, p: float(np.mean(np.asarray(y) != np.asarray(p))),
        y_true=labels,
        y_pred=(scores >= 0.5).astype(int),
        sensitive_features=group,
    )
    given_to_both = (scores, labels, group)
    floor = {"minimum_n": 1, "minimum_positives": 1}
    assert fairness.measure("error_rate", *given_to_both, **floor) == pytest.approx(
        frame.group_max(), abs=1e-12
    )
    assert fairness.measure("error_rate_difference", *given_to_both, **floor) == pytest.approx(
        frame.difference(), abs=1e-12
    )


def test_a_model_that_selects_nobody_meets_no_ratio_and_breaks_nothing() -> None:
    scores, labels, groups = world(10)
    nobody = np.full(len(scores), 0.1)
    for name in fairness.FORMULAS:
        for before, after in ((scores, nobody), (nobody, nobody)):
            rule = FairnessRule(metric=name, by="sex", worse_by=0.01)
            line = fairness_line(rule, after, labels, [groups], incumbent=before)
            if name.endswith("_ratio"):
                assert np.isnan([line.value, line.low, line.high]).all()
                assert line.passed is False
            else:
                assert line.low <= line.high
            assert str(line)
