"""
Sequence tasks: next-token prediction, where the inputs are the shifted labels.

prepare.py declares one with two constants: ``SEQUENCE``, the name of the feature array of token ids
``[n, T]``, and ``VOCABULARY``, the number of ids. Its ``score`` then gives a logit for every id of the
vocabulary, ``[n, T, VOCABULARY]``, and its labels ``[n, T]`` hold the token that follows each position
(:data:`IGNORE` where none is predicted). Normalising the logits and looking up the labels in them is the
harness's business, so that neither scale nor shift of the logits, nor a loss of the model's own, has a say;
``evaluate`` gets the log-probabilities of the labels, ``[n, T]`` in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "IGNORE",
    "SequenceTask",
    "bits_per_byte",
    "label_log_probabilities",
    "log_softmax",
    "mean_cost",
]

IGNORE = -1
"""The label of a position at which nothing is predicted, such as padding."""
LARGEST_VOCABULARY = 1 << 20


@dataclass(frozen=True)
class SequenceTask:
    """What prepare.py declares of a sequence task."""

    tokens: str
    """Name of the feature array that holds the token ids, ``[n, T]``."""
    vocabulary: int
    """Token ids are 0 to ``vocabulary`` - 1."""

    @classmethod
    def declared(cls, prepare: ModuleType) -> SequenceTask | None:
        """
        The declaration in prepare.py; None for a task that predicts one probability a row.

        :raises ValueError: the constants are incomplete or of the wrong type.
        """
        tokens = getattr(prepare, "SEQUENCE", None)
        vocabulary = getattr(prepare, "VOCABULARY", None)
        if tokens is None:
            return None
        if not isinstance(tokens, str):
            raise ValueError(
                f"prepare.py says SEQUENCE = {tokens!r}: it must be the name of the feature array that "
                "holds the token ids"
            )
        if type(vocabulary) is not int or not 2 <= vocabulary <= LARGEST_VOCABULARY:
            raise ValueError(
                f"prepare.py says VOCABULARY = {vocabulary!r}: a sequence task needs the number of token "
                f"ids, from 2 to {LARGEST_VOCABULARY}"
            )
        return cls(tokens, vocabulary)

    def check(self, features: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> None:
        """
        Hold the held-out data against the declaration.

        :raises ValueError: no such feature, shapes that differ, or ids outside the vocabulary.
        """
        if self.tokens not in features:
            raise ValueError(
                f"prepare.py says SEQUENCE = {self.tokens!r}, but the features are {sorted(features)!r}"
            )
        tokens = features[self.tokens]
        if tokens.ndim != 2 or tokens.shape != labels.shape or not tokens.size:
            raise ValueError(
                f"{self.tokens!r} has shape {tokens.shape!r} and the labels {labels.shape!r}: both must "
                "be [n, T] of a sequence task"
            )
        for name, ids, low in ((self.tokens, tokens, 0), ("labels", labels, IGNORE)):
            if ids.dtype.kind not in "iu" or ids.min() < low or ids.max() >= self.vocabulary:
                raise ValueError(
                    f"{name!r} must hold integers from {low} to {self.vocabulary - 1}, the declared "
                    f"vocabulary, but holds {ids.dtype} from {ids.min()} to {ids.max()}"
                )


def log_softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """
    Normalised log-probabilities, float64, over the last axis of finite logits.

    Adding a constant to all logits of a position changes nothing.
    """
    import numpy as np

    shifted = np.array(logits, dtype=np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def label_log_probabilities(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """
    Log-probabilities in nats, float64 ``[...]``, that logits ``[..., V]`` give to labels ``[...]``.

    Zero where the label is :data:`IGNORE`, so that a sum leaves the position out.
    """
    import numpy as np

    wanted = np.asarray(labels)
    ignored = wanted == IGNORE
    index = np.where(ignored, 0, wanted).astype(np.intp)
    found = np.take_along_axis(log_softmax(logits), index[..., None], axis=-1)[..., 0]
    return np.where(ignored, 0.0, found)


def mean_cost(log_probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """
    Mean cost in nats of the labels of each sequence, ``[n]`` for ``[n, T]``; 0 where none counts.

    :param log_probabilities: of the labels, in nats, 0 where the label is :data:`IGNORE`.
    """
    import numpy as np

    counted = (np.asarray(labels) != IGNORE).sum(axis=1)
    total = np.asarray(log_probabilities, dtype=np.float64).sum(axis=1)
    found: NDArray[np.float64] = -total / np.maximum(1, counted)
    return found


def bits_per_byte(log_probabilities: ArrayLike, n_bytes: int) -> float:
    """
    Bits that the labels cost, per byte of the raw text they stand for.

    :param log_probabilities: of the labels, in nats; what ``evaluate`` gets.
    :param n_bytes: bytes of the held-out text behind the labels, counted in the raw text and never by
        what a model says: a tokenizer that charges fewer bytes would lower the metric.
    """
    import numpy as np

    if n_bytes < 1:
        raise ValueError(f"n_bytes = {n_bytes!r}: the labels stand for at least one byte of text")
    total = math.fsum(np.asarray(log_probabilities, dtype=np.float64).ravel().tolist())
    return -total / (math.log(2) * n_bytes)
