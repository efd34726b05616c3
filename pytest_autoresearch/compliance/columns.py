"""
What single input columns say about the labels, on their own.

A column that alone predicts better than a whole model did is no input but the answer: filled in after the outcome, or
made from it (*target leakage*: S. Kaufman, S. Rosset, C. Perlich, O. Stitelman, ACM TKDD 6 (2012) 15). Neither fresh
seeds nor another split made in the same way can show that.

What is covered: binary labels, numeric and coded columns. What is not: leaks that are spread over several columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Column",
    "best_column",
    "bins_of",
    "column_predictions",
    "edges_of",
    "gives_away",
    "leans_on",
    "log_losses",
    "logit",
    "rates_of",
    "single_columns",
]

Array = NDArray[Any]

#: Bins by quantile of a column with more values than that.
BINS = 32
#: Share of a constant prediction's figure at which a column alone is taken for the answer.
GIVEN_AWAY = 0.5
#: Weight of the overall rate in a bin's, in examples: a bin of one says little.
PRIOR = 2.0


@dataclass(frozen=True)
class Column:
    """A single input column as a predictor."""

    name: str
    figure: float
    """The objective for its predictions; lower is better."""
    predictions: NDArray[np.float64]
    """Probabilities ``[n]``, as :func:`column_predictions`."""


def best_column(
    features: Mapping[str, Array], labels: Array, figure: Callable[[Array], float]
) -> Column | None:
    """
    The column that predicts best alone; None where there is nothing to try.

    :param features: ``[n]`` or ``[n, d]`` each, numeric or codes.
    :param labels: ``[n]``, 0 or 1; of any other kind: None.
    :param figure: the objective for probabilities ``[n]``.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        return None
    found = []
    for name, values in single_columns(features, len(labels)):
        predictions = column_predictions(values, labels)
        value = figure(predictions)
        if np.isfinite(value):
            found.append(Column(name, float(value), predictions))
    return min(found, key=lambda column: column.figure, default=None)


def gives_away(column: Column, labels: Array, figure: Callable[[Array], float]) -> bool:
    """
    Whether a column alone explains half or more of what there is to explain: an answer, not an input.

    A figure that falls to half of a constant prediction's. Of UCI Adult's columns the best one explains a quarter; one
    that is right about 90 % of even labels explains 53 % (log loss). A weaker leak passes for an honest input here.
    """
    constant = figure(np.full(len(labels), float(np.mean(labels))))
    return bool(np.isfinite(constant)) and column.figure <= GIVEN_AWAY * constant


def leans_on(column: Array, predictions: Array, labels: Array) -> bool:
    """
    Whether a model's predictions move with those of a column among examples of the same label.

    Given the label, a column that was made from it says nothing more that an honest model could share, so any
    correlation is use. Where the column does not vary within a label (an exact copy) nobody can tell: True.

    :param column: probabilities ``[n]`` from the column alone. :param predictions: the model's ``[n]``.
    """
    varied = False
    for label in np.unique(labels):
        chosen = labels == label
        own, model = logit(column[chosen]), logit(predictions[chosen])
        if min(np.ptp(own), np.ptp(model)) < 1e-9:
            continue
        varied = True
        correlation = abs(float(np.corrcoef(own, model)[0, 1]))
        # Five standard errors of no correlation at all (1 / sqrt(n)).
        if correlation > max(0.1, 5 / np.sqrt(chosen.sum())):
            return True
    return not varied


def logit(p: Array) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(p, dtype=np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)))


def column_predictions(column: Array, labels: Array) -> NDArray[np.float64]:
    """
    Probabilities ``[n]`` of label 1 from one column ``[n]`` alone, each from the other half of the examples.

    The rate of each value, or of each quantile bin where there are many values, drawn to the overall rate.
    """
    edges = edges_of(column)
    code = bins_of(column, edges)
    half = np.arange(len(code)) % 2 == 0
    predictions = np.empty(len(code))
    for known, asked in ((half, ~half), (~half, half)):
        predictions[asked] = rates_of(code[known], labels[known], len(edges) + 1)[code[asked]]
    return predictions


def _finite(column: Array) -> NDArray[np.float64]:
    """Real values in which a missing one is a value like another, below all."""
    return np.nan_to_num(np.asarray(column, dtype=np.float64), nan=-np.inf)


def bins_of(column: Array, edges: Array) -> NDArray[np.int64]:
    """The bin ``[n]`` of each value; bins as :func:`edges_of`."""
    return np.searchsorted(edges, _finite(column), side="right")


def edges_of(column: Array) -> NDArray[np.float64]:
    """Where bins begin: at each value but the first, or at quantiles where there are many values."""
    values = np.sort(_finite(column))
    distinct = np.unique(values)
    if len(distinct) > BINS:
        # Equal values belong into one bin, whatever their order.
        distinct = np.unique(values[np.arange(BINS) * len(values) // BINS])
    return distinct[1:]


def rates_of(code: Array, labels: Array, size: int) -> NDArray[np.float64]:
    """The rate of label 1 in each bin, drawn to the overall rate."""
    rate = labels.mean() if len(labels) else 0.5
    count = np.bincount(code, minlength=size)
    ones = np.bincount(code, weights=labels, minlength=size)
    return np.clip((ones + PRIOR * rate) / (count + PRIOR), 1e-6, 1 - 1e-6)


def single_columns(features: Mapping[str, Array], n: int) -> Iterator[tuple[str, Array]]:
    """Every single column ``[n]`` of numbers with its name."""
    for name, values in features.items():
        array = np.asarray(values)
        if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or len(array) != n:
            continue
        if array.ndim == 1:
            yield name, array
        else:
            yield from ((f"{name}[:, {index}]", array[:, index]) for index in range(array.shape[1]))


def log_losses(p: Array, target: Array) -> NDArray[np.float64]:
    """Log loss of each row in nats."""
    return np.asarray(-np.where(target == 1, np.log(p), np.log1p(-p)))
