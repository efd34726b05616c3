"""
Held-out rows that are training rows with a little noise, with one value changed, or shifted by some tokens.

Row hashes find exact copies only. Here rows are near-duplicates when they share a cell of a randomly shifted grid
(locality-sensitive hashing: M. Datar, N. Immorlica, P. Indyk, V. Mirrokni, SCG 2004), when they are equal but for one
column, or when half of their token windows are the same (shingles: A. Broder, SEQUENCES 1997).

People who are not the same person share features, so a near-duplicate proves nothing. What is held against a threshold
is the excess: a split at random gives held-out rows as many near-duplicates among the training rows as training rows
have among each other.

Every step sorts or hashes rows: the time grows with n log n.
What is not covered: copies with noise beyond a twentieth of a column's standard deviation in every column; a handful
of copies among thousands of rows; copies that stand in the training split several times, which is then the usual rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NearDuplicates", "near_duplicates", "shared_windows"]

Array = NDArray[Any]
Keys = NDArray[np.uint64]
Found = NDArray[np.bool_]

#: Width of a grid's cells in standard deviations of a column, and how many grids: noise of a fifth of the width
#: in each of five columns leaves one of four grids unchanged with a probability of 80 %.
WIDTH, GRIDS = 0.05, 4
#: More real-valued columns than that are replaced by as many random projections as the second figure says.
WIDE, PROJECTIONS = 32, 8
#: With more columns than that, rows are not looked up by all columns but one.
LEAVE_ONE_OUT = 64


@dataclass(frozen=True)
class NearDuplicates:
    """How many held-out rows have a near-duplicate among the training rows, and how many that should be."""

    kind: str
    """In what they differ: ``a little noise``, ``one column``, ``some tokens``."""
    rows: int
    n: int
    """Held-out rows."""
    expected: float
    """Share of the training rows that have a near-duplicate among the others."""
    errors: float
    """Standard errors by which the share is above what is expected."""

    @property
    def share(self) -> float:
        """Of the held-out rows."""
        return self.rows / self.n

    @property
    def excess(self) -> float:
        """Share of the held-out rows beyond what a split at random gives."""
        return self.share - self.expected


def near_duplicates(
    train: Mapping[str, Array], heldout: Mapping[str, Array], *, seed: int = 0
) -> tuple[NearDuplicates, ...]:
    """
    Count near-duplicates between two splits, for each way in which rows may differ.

    :param train: arrays ``[n, ...]`` by name: real values, codes, text. :param heldout: the same names, ``[m, ...]``.
    :raises ValueError: the splits have different arrays, or no rows.
    """
    exact, real = _columns(train, heldout)
    n = len(next(iter(train.values())))
    rng = np.random.default_rng(seed)
    found = []
    noise = [_grid(exact, real, rng) for _ in range(GRIDS if real.shape[1] else 1)]
    found.append(_compare("a little noise", noise, n))
    if 1 < exact.shape[1] + real.shape[1] <= LEAVE_ONE_OUT:
        found.append(_compare("one column", _all_but_one(exact, real, rng), n))
    return tuple(found)


def shared_windows(train: Array, heldout: Array) -> NearDuplicates:
    """
    Count held-out sequences half of whose windows occur in a training sequence.

    :param train: token ids ``[n, T]``. :param heldout: ``[m, T]``.
    """
    tokens = np.concatenate([train, heldout])
    rows, length = tokens.shape
    width = max(2, min(length, max(8, length // 4)))
    hashes = np.zeros((rows, length - width + 1), dtype=np.uint64)
    # A polynomial in the tokens modulo 2**64 (Karp and Rabin 1987).
    with np.errstate(over="ignore"):
        for offset in range(width):
            piece = tokens[:, offset : offset + hashes.shape[1]].astype(np.uint64)
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + _mixed(piece)
    owner = np.repeat(np.arange(rows), hashes.shape[1])
    _, code = np.unique(hashes.ravel(), return_inverse=True)
    pairs = np.unique(np.stack([code.astype(np.int64), owner]), axis=1)
    trained = pairs[0][pairs[1] < len(train)]
    rows_with = np.bincount(trained, minlength=int(code.max()) + 1)
    others = rows_with[code] - (owner < len(train))  # a training row is no other row of its own
    share = (others > 0).reshape(rows, -1).mean(axis=1)
    return _result("some tokens", share >= 0.5, len(train))


def _columns(train: Mapping[str, Array], heldout: Mapping[str, Array]) -> tuple[Array, Array]:
    """Both splits one upon the other: exact columns as integers ``[n + m, a]``, real ones ``[n + m, b]``."""
    if train.keys() != heldout.keys() or not train:
        raise ValueError(
            f"the splits have different features: {sorted(train)!r} and {sorted(heldout)!r}"
        )
    exact, real = [], []
    for name in sorted(train):
        both = np.concatenate([train[name], heldout[name]])
        if not len(train[name]) or not len(heldout[name]):
            raise ValueError(
                f"feature {name!r} has no rows: near-duplicates of nothing prove nothing"
            )
        flat = both.reshape(len(both), -1)
        if flat.dtype.kind == "f":
            real.append(flat.astype(np.float64))
        elif flat.dtype.kind in "biu":
            exact.append(flat.astype(np.int64))
        else:
            codes = [np.unique(column, return_inverse=True)[1] for column in flat.T]
            exact.append(np.stack(codes, axis=1).astype(np.int64))
    empty = np.zeros((len(both), 0))
    return (
        np.concatenate(exact, axis=1) if exact else empty.astype(np.int64),
        np.concatenate(real, axis=1) if real else empty,
    )


def _grid(exact: Array, real: Array, rng: np.random.Generator) -> Keys:
    """A key ``[n]`` for each row: its cell in a randomly shifted grid, and its exact columns."""
    # What is no finite number is a value of its own.
    special = np.isnan(real) + 2 * np.isposinf(real) + 3 * np.isneginf(real)
    filled = np.where(special == 0, real, 0.0)
    with np.errstate(over="ignore"):
        scale = filled.std(axis=0)
    scaled = filled / np.where(scale > 0, scale, 1.0)
    if scaled.shape[1] > WIDE:
        directions = rng.normal(size=(scaled.shape[1], PROJECTIONS))
        scaled = (scaled - scaled.mean(axis=0)) @ directions
        scaled /= np.maximum(scaled.std(axis=0), 1e-12)
    cells = np.floor(scaled / WIDTH + rng.random(scaled.shape[1])).astype(np.int64)
    return _row_keys([*_hashed(exact, rng), *_hashed(special, rng), *_hashed(cells, rng)])


def _all_but_one(exact: Array, real: Array, rng: np.random.Generator) -> Iterator[Keys]:
    """For each column the keys ``[n]`` of all the others; the sum of all hashes minus that of the column."""
    # -0.0 and 0.0 are one value.
    columns = [*_hashed(exact, rng), *_hashed((real + 0.0).view(np.int64), rng)]
    total = _row_keys(columns)
    for column in columns:
        with np.errstate(over="ignore"):
            yield total - column


def _hashed(codes: Array, rng: np.random.Generator) -> list[Keys]:
    """A hash ``[n]`` of each column of integers ``[n, d]``, salted by the column."""
    salts = rng.integers(0, 2**63, size=(codes.shape[1], 1), dtype=np.uint64)
    with np.errstate(over="ignore"):
        return list(_mixed(codes.T.astype(np.uint64) + salts))


def _row_keys(columns: list[Keys]) -> Keys:
    total = np.zeros(len(columns[0]), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            total += column
    return total


def _mixed(values: Keys) -> Keys:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        x = values + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


def _compare(kind: str, keys: Any, n: int) -> NearDuplicates:
    """Rows that share any of their keys with a training row other than themselves."""
    found: Found | None = None
    for key in keys:
        _, code = np.unique(key, return_inverse=True)
        count = np.bincount(code[:n], minlength=int(code.max()) + 1)
        shared = count[code] > (np.arange(len(code)) < n)
        found = shared if found is None else found | shared
    assert found is not None
    return _result(kind, found, n)


def _result(kind: str, found: Found, n: int) -> NearDuplicates:
    """Two proportions against each other, with half a row more on either side where there is none."""
    rows, m = int(found[n:].sum()), len(found) - n
    expected = float(found[:n].mean())
    p = (float(found[:n].sum()) + 0.5) / (n + 1)
    error = math.sqrt(p * (1 - p) * (1 / n + 1 / m))
    return NearDuplicates(kind, rows, m, expected, (rows / m - expected) / error)
