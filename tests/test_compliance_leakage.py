"""Row overlap by hash."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.compliance.leakage import overlap, overlap_indices

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
