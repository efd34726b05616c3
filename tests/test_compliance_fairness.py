"""Fairness formulas against fairlearn, and the floor on cohort sizes."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.compliance import fairness

# Four rows a cohort: a selects 3 of 4 (tpr 1, fpr 0.5), b selects 1 of 4 (tpr 0.5, fpr 0).
SCORES = [0.9, 0.8, 0.5, 0.1, 0.9, 0.2, 0.3, 0.4]
LABELS = [1, 1, 0, 0, 1, 1, 0, 0]
GROUPS = ["a"] * 4 + ["b"] * 4


def test_the_formulas_on_a_case_worked_by_hand() -> None:
    data = (SCORES, LABELS, GROUPS)
    assert fairness.selection_rate(*data) == {"a": 0.75, "b": 0.25}
    assert fairness.demographic_parity_difference(*data) == 0.5
    assert fairness.demographic_parity_ratio(*data) == pytest.approx(1 / 3)
    assert fairness.equal_opportunity_difference(*data) == 0.5
    assert fairness.equalized_odds_difference(*data) == 0.5
    a, b = fairness.cohorts(*data, minimum_n=4, minimum_positives=2)
    assert (a.name, a.n, a.positives, a.accuracy, a.gated) == ("a", 4, 2, 0.75, True)
    assert a.log_loss == pytest.approx(-math.log(0.9 * 0.8 * 0.5 * 0.9) / 4)
    assert (b.tpr, b.fpr, b.accuracy) == (0.5, 0.0, 0.75)


def test_a_score_on_the_threshold_selects() -> None:
    data = ([0.3, 0.29], [1, 0], ["a", "b"])
    assert fairness.selection_rate(*data, 0.3) == {"a": 1.0, "b": 0.0}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.floats(0.1, 0.9))
def test_figures_equal_fairlearn_to_float_precision(
    seed: int, groups: int, threshold: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # what fairlearn's dependencies deprecate is not ours to see
        from fairlearn import metrics as fairlearn
    rng = np.random.default_rng(seed)
    scores = rng.random(600)
    group = rng.integers(0, groups, 600)
    labels = rng.integers(0, 2, 600)
    labels[: 2 * groups] = np.repeat([0, 1], groups)  # every cohort has both labels
    group[: 2 * groups] = np.tile(np.arange(groups), 2)
    for name in (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equalized_odds_difference",
        "equal_opportunity_difference",
        "equalized_odds_ratio",
        "equal_opportunity_ratio",
    ):
        theirs = getattr(fairlearn, name)(labels, scores >= threshold, sensitive_features=group)
        ours = getattr(fairness, name)(scores, labels, group, threshold)
        assert ours == pytest.approx(theirs, abs=1e-12)
        measured = fairness.measure(
            name, scores, labels, group, threshold, minimum_n=1, minimum_positives=1
        )
        assert measured == ours


def sized(**sizes: tuple[int, int]) -> tuple[list[float], list[int], list[str]]:
    """Cohorts of (rows, positives) in which everybody is selected."""
    labels = [int(i < positives) for n, positives in sizes.values() for i in range(n)]
    groups = [name for name, (n, _) in sizes.items() for _ in range(n)]
    return [0.9] * len(groups), labels, groups


def test_small_cohorts_are_listed_and_not_gated() -> None:
    data = sized(big=(200, 50), few=(199, 60), poor=(400, 49), rich=(400, 351), good=(400, 350))
    gated = {cohort.name: cohort.gated for cohort in fairness.cohorts(*data)}
    assert gated == {"big": True, "few": False, "poor": False, "rich": False, "good": True}


def test_a_tiny_cohort_does_not_decide_the_gate() -> None:
    scores, labels, groups = sized(a=(300, 100), b=(300, 100), tiny=(3, 3))
    scores[-3:] = [0.1] * 3
    name = "demographic_parity_difference"
    assert fairness.demographic_parity_difference(scores, labels, groups) == 1.0
    assert fairness.measure(name, scores, labels, groups) == 0.0


def test_fewer_than_two_gated_cohorts_are_an_error_not_a_pass() -> None:
    with pytest.raises(ValueError, match=r"found 1 \(rows/positives a: 300/100, b: 10/5\)"):
        fairness.measure("demographic_parity_ratio", *sized(a=(300, 100), b=(10, 5)))


def test_an_unknown_measure_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'parity' is not a fairness measure: choose from demog"):
        fairness.measure("parity", SCORES, LABELS, GROUPS)


def test_a_ratio_without_a_selected_row_meets_no_threshold() -> None:
    ratio = fairness.demographic_parity_ratio([0.1, 0.1], [0, 1], ["a", "b"])
    assert math.isnan(ratio)
    assert not ratio >= 0.8
    assert not ratio <= 0.8


def test_an_undefined_rate_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'b' has no row with label 1, so its tpr"):
        fairness.equal_opportunity_difference([0.1] * 4, [0, 1, 0, 0], list("aabb"))
    with pytest.raises(ValueError, match="'b' has no row with label 0, so its fpr"):
        fairness.equalized_odds_difference([0.1] * 4, [0, 1, 1, 1], list("aabb"))


@pytest.mark.parametrize(
    ("scores", "labels", "groups", "message"),
    [
        ([0.1], [0, 1], ["a", "b"], "equal length"),
        ([], [], [], "non-empty"),
        ([[0.1]], [[0]], [["a"]], "one non-empty dimension"),
        ([math.nan, 0.5], [0, 1], ["a", "b"], "score nan is outside 0 to 1"),
        ([1.5, 0.5], [0, 1], ["a", "b"], "score 1.5 is outside"),
        ([0.5, 0.5], [0, 2], ["a", "b"], r"labels must be 0 or 1, got \[0, 2\]"),
    ],
)
def test_arrays_that_prove_nothing_are_refused(
    scores: list[float], labels: list[int], groups: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fairness.cohorts(scores, labels, groups)
