"""Row overlap by hash and near-duplicates, flipped labels, time and groups, and what predictions are worth."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.compliance.label_flip import changed_columns, flipped
from pytest_autoresearch.compliance.leakage import overlap, overlap_indices
from pytest_autoresearch.compliance.near_duplicates import near_duplicates, shared_windows
from pytest_autoresearch.compliance.order import later_rows, shared_groups
from pytest_autoresearch.compliance.permutation import worth

rows = st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=30)


def hexes(values: list[bytes]) -> np.ndarray:
    return np.array([hashlib.sha256(value).hexdigest() for value in values], dtype="S64")


def raw(values: list[bytes]) -> np.ndarray:
    digests = [list(hashlib.sha256(value).digest()) for value in values]
    return np.array(digests, dtype=np.uint8)


@given(rows, rows)
def test_every_representation_finds_exactly_the_shared_rows(a: list[bytes], b: list[bytes]) -> None:
    expected = [i for i, row in enumerate(b) if row in set(a)]
    assert overlap_indices(hexes(a), hexes(b)).tolist() == expected
    assert overlap_indices(hexes(a).astype("U64"), hexes(b).astype("U64")).tolist() == expected
    assert overlap_indices(raw(a), raw(b)).tolist() == expected
    assert overlap_indices(raw(a).view(np.uint64), raw(b).view(np.uint64)).tolist() == expected
    assert overlap(hexes(a), hexes(b)) == len(expected)


def test_hashes_that_end_in_zero_bytes_stay_apart() -> None:
    a = np.array([[1, 0, 0, 0]], dtype=np.uint8)
    assert overlap(a, np.array([[1, 0, 0, 0], [1, 0, 0, 1], [0, 1, 0, 0]], dtype=np.uint8)) == 1


def test_repeated_held_out_rows_count_each_time() -> None:
    assert overlap(hexes([b"x", b"y"]), hexes([b"x", b"z", b"x"])) == 2
    assert overlap(np.array([1, 2]), np.array([2, 3])) == 1


@pytest.mark.parametrize(
    ("train", "heldout", "message"),
    [
        (hexes([b"x"])[:0], hexes([b"x"]), "train holds no row hashes"),
        (hexes([b"x"]), hexes([b"x"])[:0], "heldout holds no row hashes"),
        (hexes([b"x"]), raw([b"x"]), "never match"),
        (hexes([b"x"]), hexes([b"x"]).astype("U64"), "never match"),
        (np.array([0.5]), np.array([0.5]), "float64"),
        (np.zeros((1, 1, 1), dtype=np.uint8), raw([b"x"]), "shape"),
    ],
)
def test_hashes_that_cannot_match_are_refused(
    train: np.ndarray, heldout: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        overlap(train, heldout)


# -- near-duplicates ---------------------------------------------------------------

DRAW = np.random.default_rng(11)
#: People who share features: whole years and few codes, so that many are equal without being the same.
PEOPLE = {
    "number": DRAW.integers(18, 70, (4000, 2)).astype(np.float32),
    "code": DRAW.integers(0, 4, (4000, 3)),
}
TRAIN = {name: array[:3000] for name, array in PEOPLE.items()}
HELDOUT = {name: array[3000:] for name, array in PEOPLE.items()}


def joined(train: dict[str, np.ndarray], more: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([train[name], more[name]]) for name in train}


def test_people_who_share_features_are_no_near_duplicates_beyond_chance() -> None:
    noise, column = near_duplicates(TRAIN, HELDOUT)
    assert (noise.kind, column.kind) == ("a little noise", "one column")
    assert noise.rows > 10
    assert column.share > 0.5
    assert max(noise.errors, column.errors) < 3


@pytest.mark.parametrize("jitter", [0.0, 0.01, -0.02], ids=["exact", "up", "down"])
def test_copies_with_a_little_noise_are_counted(jitter: float) -> None:
    copies = {name: array[:200].copy() for name, array in HELDOUT.items()}
    copies["number"] += np.float32(jitter)
    noise, _ = near_duplicates(joined(TRAIN, copies), HELDOUT)
    assert noise.rows >= 200
    assert noise.errors > 6
    assert 0.12 < noise.excess < 0.22


def test_copies_with_one_value_exchanged_are_found_by_all_the_others() -> None:
    draw = np.random.default_rng(1)
    x = {"x": draw.normal(size=(3000, 6))}
    heldout = {"x": draw.normal(size=(500, 6))}
    copies = {"x": heldout["x"][:50].copy()}
    copies["x"][:, 2] += 1.0
    noise, column = near_duplicates(joined(x, copies), heldout)
    assert (noise.rows, column.rows) == (0, 50)
    assert column.errors > 6


def test_many_columns_are_compared_by_projections() -> None:
    draw = np.random.default_rng(2)
    images, heldout = draw.random((800, 16, 16)), draw.random((200, 16, 16))
    copies = heldout[:80] + draw.normal(scale=5e-4, size=(80, 16, 16))
    (honest,) = near_duplicates({"image": images}, {"image": heldout})
    (found,) = near_duplicates({"image": np.concatenate([images, copies])}, {"image": heldout})
    assert honest.rows == 0
    assert found.rows >= 60
    assert found.errors > 6


def test_missing_values_text_and_constants_are_values_like_others() -> None:
    train = {"x": np.array([[np.nan, 1.0], [np.inf, 1.0]]), "city": np.array(["Ulm", "Bonn"])}
    same = {"x": np.array([[np.nan, 1.0], [np.inf, 1.0]]), "city": np.array(["Ulm", "Kiel"])}
    noise, _ = near_duplicates(train, same)
    assert noise.rows == 1


@pytest.mark.parametrize(
    ("heldout", "message"),
    [({"y": HELDOUT["number"]}, "different features"), ({}, "different features")],
)
def test_splits_with_other_features_are_refused(
    heldout: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        near_duplicates({"number": TRAIN["number"]}, heldout)
    with pytest.raises(ValueError, match="has no rows"):
        near_duplicates({"x": np.zeros((0, 2))}, {"x": np.zeros((3, 2))})


def test_sequences_shifted_by_some_tokens_share_their_windows() -> None:
    draw = np.random.default_rng(3)
    text = draw.integers(0, 50, 64 * 400)
    train, heldout = text[: 64 * 300].reshape(300, 64), text[64 * 300 :].reshape(100, 64)
    assert shared_windows(train, heldout).rows == 0
    shifted = text[64 * 300 + 9 : 64 * 340 + 9].reshape(40, 64)
    found = shared_windows(np.concatenate([train, shifted]), heldout)
    assert found.rows == 40
    assert found.errors > 6
    # Sequences that repeat within the training split are the usual rate, and no leak.
    usual = shared_windows(np.concatenate([train[:100]] * 3), np.concatenate([train[:50], heldout]))
    assert usual.expected == 1.0
    assert usual.errors < 0


# -- label flip ----------------------------------------------------------------------


@given(st.lists(st.integers(-3, 3), min_size=2).filter(lambda values: len(set(values)) > 1))
def test_no_label_stays_what_it_was_and_none_is_new(values: list[int]) -> None:
    labels = np.array(values)
    other = flipped(labels)
    assert not np.any(other == labels)
    assert set(other) == set(values)
    assert other.dtype == labels.dtype


def test_labels_of_other_kinds_are_flipped_in_kind() -> None:
    assert flipped(np.array(["no", "yes", "no"])).tolist() == ["yes", "no", "yes"]
    assert flipped(np.array([0.5, 2.0, 1.0], dtype=np.float32)).tolist() == [2.0, 0.5, 1.5]
    assert flipped(np.array([True, False])).tolist() == [False, True]


def test_changed_columns_are_named_with_their_rows() -> None:
    before = {
        "x": np.array([[1.0, np.nan], [2.0, 3.0]]),
        "c": np.array([1, 2]),
        "gone": np.zeros(2),
    }
    after = {"x": np.array([[1.0, np.nan], [2.0, 4.0]]), "c": np.array([1, 2]), "new": np.zeros(2)}
    found = {changed.name: (changed.rows, changed.n) for changed in changed_columns(before, after)}
    assert found == {"x[:, 1]": (1, 2), "gone": (0, 0), "new": (0, 0)}
    assert list(changed_columns(before, before)) == []


# -- time and groups -------------------------------------------------------------------


def test_training_rows_after_the_first_heldout_row_are_counted() -> None:
    days = np.array(["2024-01-01", "2024-03-01", "2024-05-01"])
    heldout = np.array(["2024-06-01", "2024-03-01"])
    assert later_rows(days, heldout) == 1
    assert later_rows(days.astype("M8[D]"), heldout.astype("M8[D]")) == 1
    assert later_rows(np.array([1, 2, 3]), np.array([3.0, 9.0])) == 0


def test_groups_on_both_sides_are_counted_with_their_heldout_rows() -> None:
    found = shared_groups(np.array(["a", "b", "b"]), np.array(["b", "c", "b", "a"]))
    assert (found.groups, found.rows) == (2, 3)
    assert shared_groups(np.array([1, 2]), np.array([3])).groups == 0


@pytest.mark.parametrize(
    ("train", "heldout", "message"),
    [
        (np.array([1, 2]), np.array(["1"]), "one value a row"),
        (np.array([[1, 2]]), np.array([1]), "one value a row"),
        (np.array([]), np.array([1.0]), "one value a row"),
        (np.array([1.0, np.nan]), np.array([1.0]), "1 training rows have no time"),
        (np.array(["2024"], dtype="M8[Y]"), np.array(["NaT"], dtype="M8[Y]"), "1 held-out rows"),
    ],
)
def test_times_that_cannot_be_compared_are_refused(
    train: np.ndarray, heldout: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        later_rows(train, heldout)


# -- permutation -----------------------------------------------------------------------


def test_predictions_are_worth_what_they_gain_on_their_own_rows() -> None:
    draw = np.random.default_rng(4)
    labels = draw.random(2000) < 0.3

    def loss(p: np.ndarray) -> float:
        return float(-np.mean(np.where(labels, np.log(p), np.log(1 - p))))

    knowing = worth(loss, np.where(labels, 0.8, 0.1), np.random.default_rng(0))
    guessing = worth(loss, draw.uniform(0.2, 0.4, 2000), np.random.default_rng(0))
    assert knowing.gain > 0.5
    assert knowing.errors > 20
    assert abs(guessing.gain) < 0.01
    assert worth(loss, np.full(2000, 0.3), np.random.default_rng(0)) == worth(
        loss, np.full(2000, 0.3), np.random.default_rng(1)
    )
