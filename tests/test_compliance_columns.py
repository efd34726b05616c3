"""Single columns that give the label away, and honest ones that do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.compliance.column_strength import differences, strengths, suspicious
from pytest_autoresearch.compliance.columns import (
    Column,
    best_column,
    column_predictions,
    gives_away,
    leans_on,
)

DRAW = np.random.default_rng(5)
N = 4000
LABELS = (DRAW.random(N) < 0.3).astype(np.int8)
NOISE = DRAW.normal(size=(N, 3)).astype(np.float32)


def log_loss(p: np.ndarray) -> float:
    return float(-np.mean(np.where(LABELS == 1, np.log(p), np.log(1 - p))))


PRIOR_LOSS = log_loss(np.full(N, LABELS.mean()))


def test_columns_of_noise_are_no_better_than_the_overall_rate() -> None:
    found = best_column({"x": NOISE}, LABELS, log_loss)
    assert found is not None
    assert PRIOR_LOSS * 0.995 < found.figure < PRIOR_LOSS * 1.02


@pytest.mark.parametrize(
    "leak",
    [LABELS, 1 - LABELS, LABELS * 3.5 + 0.01 * NOISE[:, 0], np.where(LABELS == 1, np.nan, 1.0)],
    ids=["copy", "opposite", "blurred", "missing where it happened"],
)
def test_a_column_that_is_the_answer_stands_out_in_whatever_form(leak: np.ndarray) -> None:
    found = best_column({"x": NOISE, "late": leak.astype(np.float64)}, LABELS, log_loss)
    assert found is not None
    assert found.name == "late"
    assert found.figure < 0.05 * PRIOR_LOSS


def test_codes_in_any_order_are_read_by_value() -> None:
    code = np.where(LABELS == 1, DRAW.choice([1, 5, 9], N), DRAW.choice([0, 4, 8], N))
    found = best_column({"c": np.stack([np.zeros(N), code], axis=1)}, LABELS, log_loss)
    assert found is not None
    assert found.name == "c[:, 1]"
    assert found.figure < 0.05


def test_no_example_is_predicted_from_its_own_label() -> None:
    """An identifier has a value for every example: read off itself it would be perfect."""
    found = best_column({"id": DRAW.permutation(N)}, LABELS, log_loss)
    assert found is not None
    assert found.figure > PRIOR_LOSS * 0.995
    few = np.arange(N) // 2 * 1.0
    assert log_loss(column_predictions(few, LABELS)) > PRIOR_LOSS * 0.99


@pytest.mark.parametrize("labels", [LABELS * 2, np.zeros((N, 2)), np.full(N, 0.5)])
def test_other_labels_than_two_classes_are_left_alone(labels: np.ndarray) -> None:
    assert best_column({"x": NOISE}, labels, log_loss) is None


def test_what_is_no_column_is_passed_over() -> None:
    odd = {"words": np.array(["a"] * N), "images": np.zeros((N, 2, 2)), "short": np.zeros(3)}
    assert best_column(odd, LABELS, log_loss) is None


@given(
    st.lists(st.sampled_from([0.0, 1.5, -2.0, float("nan"), float("inf")]), min_size=1, max_size=80)
)
def test_predictions_are_probabilities_whatever_the_values(values: list[float]) -> None:
    labels = np.arange(len(values)) % 2
    predictions = column_predictions(np.array(values), labels)
    assert predictions.shape == (len(values),)
    assert ((predictions > 0) & (predictions < 1)).all()


def test_a_model_that_uses_the_column_is_told_from_one_that_does_not() -> None:
    late = np.where(DRAW.random(N) < 0.95, LABELS, 1 - LABELS)
    column = column_predictions(late, LABELS)
    signal = NOISE[:, 0] + LABELS
    honest = 1 / (1 + np.exp(-(signal - 1)))
    leaning = 1 / (1 + np.exp(-(signal - 1 + late)))
    assert not leans_on(column, honest, LABELS)
    assert leans_on(column, leaning, LABELS)


def test_of_an_exact_copy_nobody_can_tell() -> None:
    column = np.where(LABELS == 1, 0.99, 0.01)
    assert leans_on(column, 1 / (1 + np.exp(-NOISE[:, 0])), LABELS)


@pytest.mark.parametrize(
    ("right", "leak"), [(0.95, True), (0.92, True), (0.8, False), (0.5, False)]
)
def test_a_strong_honest_input_is_not_taken_for_the_answer(right: float, leak: bool) -> None:
    value = np.where(np.random.default_rng(2).random(N) < right, LABELS, 1 - LABELS)
    predictions = column_predictions(value, LABELS)
    column = Column("x", log_loss(predictions), predictions)
    assert gives_away(column, LABELS, log_loss) is leak


# -- against the other columns -----------------------------------------------------

#: Ten weak signs: no one says much, all together more.
WEAK = np.stack([0.8 * LABELS + DRAW.normal(size=N) for _ in range(10)], axis=1)


def agreeing(right: float) -> np.ndarray:
    return np.where(DRAW.random(N) < right, LABELS, 1 - LABELS).astype(np.float64)


@pytest.mark.parametrize(
    "leak", [LABELS, 7.5 - LABELS, agreeing(0.97)], ids=["copy", "other scale", "97 of 100"]
)
def test_a_column_that_alone_beats_all_the_others_is_suspicious(leak: np.ndarray) -> None:
    (found,) = suspicious({"x": WEAK[:, :3], "late": leak.astype(np.float64)}, LABELS, 0.5)
    assert found.name == "late"
    assert found.explained > 0.6
    assert found.others < 0.3


def test_two_columns_that_give_the_answer_do_not_cover_for_each_other() -> None:
    found = suspicious({"x": WEAK[:, :3], "a": LABELS, "b": 1 - LABELS}, LABELS, 0.5)
    assert {column.name for column in found} == {"a", "b"}


def test_a_strong_column_among_strong_ones_is_honest() -> None:
    """What many others say together as well is no secret."""
    strong = 3.2 * LABELS + DRAW.normal(size=N)
    many = np.stack([2.0 * LABELS + DRAW.normal(size=N) for _ in range(10)], axis=1)
    assert strengths({"strong": strong}, LABELS)[0].explained > 0.5
    assert suspicious({"x": many, "strong": strong}, LABELS, 0.5) == ()
    (alone,) = suspicious({"x": NOISE, "strong": strong}, LABELS, 0.5)
    assert alone.name == "strong"


def test_classes_and_real_labels_are_asked_about_one_by_one() -> None:
    classes = DRAW.integers(0, 4, N)
    (found,) = suspicious({"x": NOISE, "late": (classes == 2) * 1.0}, classes, 0.5)
    assert found.name == "late"
    real = DRAW.normal(size=N)
    (found,) = suspicious({"x": NOISE, "late": real**3}, real, 0.5)
    assert found.name == "late"
    assert suspicious({"x": NOISE}, np.zeros(N), 0.5) == ()
    assert suspicious({"x": NOISE}, np.zeros((N, 2)), 0.5) == ()


def test_a_column_made_with_the_labels_of_one_split_says_more_about_it() -> None:
    parts = {"train": slice(0, 2000), "val": slice(2000, 3000), "audit": slice(3000, N)}
    encoded = np.where(np.arange(N) < 3000, LABELS * 1.0, 0.3) + 0.1 * NOISE[:, 0]
    splits = {
        name: ({"honest": WEAK[part, 0], "encoded": encoded[part]}, LABELS[part])
        for name, part in parts.items()
    }
    found = {d.name: d.errors for d in differences(splits["train"], splits["val"], splits["audit"])}
    assert found["encoded"] > 10
    assert abs(found["honest"]) < 4
    back = {d.name: d.errors for d in differences(splits["train"], splits["audit"], splits["val"])}
    assert back["encoded"] == -found["encoded"]
