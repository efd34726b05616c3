"""
Splits that ignore time or belonging: a model learns from the future, or meets its patients again.

What is covered: training rows later than held-out ones, and groups (a patient, a household, a document) on both sides,
by columns that the configuration names. What is not: data without such columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shared", "later_rows", "shared_groups"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Shared:
    """Groups with rows on both sides."""

    groups: int
    rows: int
    """Held-out rows of these groups."""


def later_rows(train: Array, heldout: Array) -> int:
    """
    Training rows that are later than the first held-out row; equal times are not later.

    :param train: times ``[n]``: numbers, dates, or text that sorts by time. :param heldout: times ``[m]``.
    :raises ValueError: times of different kinds, a missing one, or none.
    """
    _check("time", train, heldout)
    for name, times in (("training", train), ("held-out", heldout)):
        missing = np.isnat(times) if times.dtype.kind in "mM" else times != times  # noqa: PLR0124
        if np.any(missing):
            raise ValueError(
                f"{int(np.sum(missing))} {name} rows have no time: they can be of any time"
            )
    first = np.sort(heldout)[0]  # text has no minimum in numpy
    return int(np.count_nonzero(train > first))


def shared_groups(train: Array, heldout: Array) -> Shared:
    """
    Groups that have rows in both splits.

    :param train: the group of each row ``[n]``. :param heldout: ``[m]``.
    :raises ValueError: groups of different kinds, or no rows.
    """
    _check("group", train, heldout)
    both = np.isin(heldout, train)
    return Shared(len(np.unique(heldout[both])), int(both.sum()))


def _check(what: str, train: Array, heldout: Array) -> None:
    kinds = {
        "number" if array.dtype.kind in "biuf" else array.dtype.kind for array in (train, heldout)
    }
    sized = all(array.ndim == 1 and array.size for array in (train, heldout))
    if len(kinds) > 1 or not sized:
        raise ValueError(
            f"the {what} column must be one value a row in every split: training has {train.dtype} of shape "
            f"{train.shape!r}, held-out {heldout.dtype} of shape {heldout.shape!r}"
        )
