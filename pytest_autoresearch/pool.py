"""
The held-out examples of several splits in one row, mixed, so that one pass of one scorer answers for all.

A second split then costs its inference and nothing else: no process, no import, no loading of the model. And
nobody who is asked can tell which split an example belongs to: the order is drawn from the labels, which no
sandbox sees. It is the same every time, because the last bit of a prediction may depend on its place in the
array, and one artifact has one metric.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .task import TaskError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .task import Task

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["Pool", "pool"]


@dataclass(frozen=True)
class Pool:
    """Examples of several splits, mixed."""

    features: Mapping[str, Array]
    """What a scorer gets, ``[n, ...]`` each."""
    labels: Array
    """``[n]``, or ``[n, T]`` of a sequence task; what no scorer gets."""
    places: Mapping[str, NDArray[np.intp]]
    """Of each split the places of its examples in the arrays above, in the split's own order."""

    def apart(self, predictions: Array) -> dict[str, Array]:
        """Predictions ``[n, ...]`` of the examples as they stand here, by split and in the split's order."""
        return {split: predictions[places] for split, places in self.places.items()}


def pool(task: Task, splits: tuple[str, ...]) -> Pool:
    """
    Mix the examples of ``splits``.

    Held in memory are all of them once, and besides one split as it is read.

    :raises TaskError: the arrays of a split do not belong together, or those of two splits differ in name,
        dtype or shape beyond the number of examples.
    """
    import numpy as np

    labels = {split: task.labels(split) for split in splits}
    n = sum(len(found) for found in labels.values())
    order = _order(labels, n)
    places, start = {}, 0
    for split in splits:
        places[split] = order[start : (start := start + len(labels[split]))]
    pooled: dict[str, Array] = {}
    first: dict[str, str] = {}
    for split in splits:
        given = task.features(split)
        kinds = _kinds(split, given, labels[split])
        if not first:
            first = kinds
            pooled = {name: np.empty((n, *a.shape[1:]), a.dtype) for name, a in given.items()}
            pooled_labels = np.empty((n, *labels[split].shape[1:]), labels[split].dtype)
        elif kinds != first:
            raise TaskError(
                f"the held-out data of {splits[0]!r} and {split!r} cannot be scored together, "
                f"[n, ...] each: {_listed(first)} and {_listed(kinds)}: let prepare.py write the same "
                f"arrays with the same dtype and shape for both"
            )
        for name, array in given.items():
            pooled[name][places[split]] = array
        pooled_labels[places[split]] = labels[split]
    return Pool(pooled, pooled_labels, places)


def _order(labels: Mapping[str, Array], n: int) -> NDArray[np.intp]:
    """A permutation that nobody knows who does not know the labels."""
    import numpy as np

    digest = hashlib.sha256(b"order of held-out examples")
    for found in labels.values():
        digest.update(np.ascontiguousarray(found).tobytes())
    return np.random.default_rng(int.from_bytes(digest.digest())).permutation(n)


def _kinds(split: str, features: Mapping[str, Array], labels: Array) -> dict[str, str]:
    """Dtype and shape of one example of each array, labels included."""
    kinds = {}
    for name, array in sorted({**features, "labels": labels}.items()):
        if array.ndim == 0 or len(array) != len(labels):
            raise TaskError(
                f"{name!r} of the held-out split {split!r} has shape {array.shape!r} for {len(labels)} "
                f"labels: every array has one entry an example, [n, ...]"
            )
        kinds[name] = f"{array.dtype}[{', '.join(map(str, ('n', *array.shape[1:])))}]"
    return kinds


def _listed(kinds: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {kind}" for name, kind in kinds.items()) + "}"
