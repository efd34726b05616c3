"""
What a model's predictions are worth, and whether one that learned from shuffled labels is worth anything.

Shuffled training labels teach nothing, so a model that was trained on them must do no better on held-out rows than
with its predictions dealt out to other rows (M. Ojala, G. Garriga, JMLR 11 (2010) 1833, test 1, on the whole pipeline).
If it does better, it knows held-out labels from elsewhere.

The figure is in units of the candidate's own worth. In standard errors of the dealing alone an honest model may be far
from zero: with four weights, a random direction correlates with the true one, however small its predictions are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Worth", "worth"]

Array = NDArray[Any]

#: How often predictions are dealt out anew.
DEALS = 20


@dataclass(frozen=True)
class Worth:
    """By how much a metric is better for predictions on their own rows than on others."""

    gain: float
    """In the metric's unit; 0 for predictions that know nothing of their rows."""
    errors: float
    """The same in standard deviations of the dealing."""


def worth(figure: Callable[[Array], float], predictions: Array, rng: np.random.Generator) -> Worth:
    """
    What predictions gain by standing on their own rows.

    :param figure: the metric of predictions ``[n]``, lower is better.
    """
    dealt = [figure(rng.permutation(predictions)) for _ in range(DEALS)]
    gain = float(np.mean(dealt)) - figure(predictions)
    spread = float(np.std(dealt, ddof=1))
    return Worth(gain, gain / spread if spread > 0 else 0.0)
