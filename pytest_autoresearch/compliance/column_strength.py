"""
How much single columns say about the labels, held against all the others and against other splits.

A column that was filled in after the outcome, or made from it, explains alone what all honest columns together do not
(S. Kaufman et al., ACM TKDD 6 (2012) 15). Strength alone is no sign: of public data sets used for teaching several
have an honest column that explains most of the labels, but then the others do so, too.

A column that was computed with the labels of some rows, such as an encoding by their mean, says more about these rows
than about others. Of an honest column two splits at random tell the same, whatever it is worth.

What is covered: numeric and coded columns ``[n]`` and ``[n, d]``; classes, and real labels split at their median.
What is not: leaks that are spread over several columns; text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import (
    bins_of,
    column_predictions,
    edges_of,
    log_losses,
    logit,
    rates_of,
    single_columns,
)

__all__ = ["Difference", "Strength", "differences", "strengths", "suspicious"]

Array = NDArray[Any]
Features = Mapping[str, Array]

#: Classes that are looked at one by one, the most frequent ones.
CLASSES = 16
#: Largest number of columns, the strongest of those in question, that are fitted together.
TOGETHER = 64


@dataclass(frozen=True)
class Strength:
    """What one column alone says about the labels."""

    name: str
    explained: float
    """Share of a constant prediction's log loss that the column's own prediction saves: 0 nothing, 1 all."""
    others: float = 0.0
    """The same for all columns that are not suspicious, fitted together; of a suspicious column only."""


@dataclass(frozen=True)
class Difference:
    """By how much one column says more about the labels of one split than of another."""

    name: str
    errors: float
    """In standard errors of the difference; a split at random gives a standard normal variate."""


def strengths(features: Features, labels: Array) -> tuple[Strength, ...]:
    """
    How much of the labels each column explains alone, the strongest first.

    Of classes the one that is told best counts.

    :param features: ``[n]`` or ``[n, d]`` each, numeric or codes. :param labels: ``[n]``.
    """
    found: dict[str, float] = {}
    for target_of in _questions(labels):
        target = target_of(labels)
        for name, values in single_columns(features, len(target)):
            explained = _explained(column_predictions(values, target), target)
            found[name] = max(found.get(name, explained), explained)
    ranked = sorted(found.items(), key=lambda item: -item[1])
    return tuple(Strength(name, explained) for name, explained in ranked)


def suspicious(features: Features, labels: Array, threshold: float) -> tuple[Strength, ...]:
    """
    Columns that explain the share ``threshold`` or more alone, and more than all below it do together.

    :param features: as :func:`strengths`. :param labels: ``[n]``.
    """
    found: dict[str, Strength] = {}
    for target_of in _questions(labels):
        target = target_of(labels)
        ranked = strengths(features, target)
        strong = [column for column in ranked if column.explained >= threshold]
        if not strong:
            continue
        weak = {column.name for column in ranked[len(strong) :][:TOGETHER]}
        others = _explained_together(features, target, weak)
        for column in strong:
            if column.explained > others:
                found.setdefault(column.name, Strength(column.name, column.explained, others))
    return tuple(found.values())


def _explained_together(features: Features, target: Array, names: Iterable[str]) -> float:
    """
    What a logistic regression on the columns' own predictions explains of a half of the rows it has not seen.

    Rows come in fours, of which it sees two: a column's predictions are crossed over odd and even rows.
    """
    chosen = set(names)
    logits = [
        logit(column_predictions(values, target))
        for name, values in single_columns(features, len(target))
        if name in chosen
    ]
    inputs = np.stack([*logits, np.ones(len(target))], axis=1)
    half = np.arange(len(target)) % 4 < 2
    p = np.empty(len(target))
    for known, asked in ((half, ~half), (~half, half)):
        p[asked] = _sigmoid(inputs[asked] @ _logistic(inputs[known], target[known]))
    return _explained(np.clip(p, 1e-6, 1 - 1e-6), target)


def _logistic(inputs: Array, target: Array) -> Array:
    """Weights of a logistic regression with a ridge of one, by Newton's method."""
    weights = np.zeros(inputs.shape[1])
    ridge = np.eye(inputs.shape[1])
    for _ in range(25):
        p = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (p - target) + weights
        step = np.linalg.solve((inputs * (p * (1 - p))[:, None]).T @ inputs + ridge, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))


def _explained(p: Array, target: Array) -> float:
    constant = log_losses(np.full(len(target), target.mean()), target).mean()
    return float(1 - log_losses(p, target).mean() / constant)


def differences(
    train: tuple[Features, Array],
    one: tuple[Features, Array],
    other: tuple[Features, Array],
) -> tuple[Difference, ...]:
    """
    How much more each column, as the training split explains it, says about one split than about another.

    A column that was computed with the labels of one split and without those of the other tells more about it; an
    honest one tells the same about both, whatever it tells.

    :param train: features and labels of a split, as is each of the others.
    """
    found: dict[str, float] = {}
    for target_of in _questions(train[1]):
        known = target_of(train[1])
        asked = [(dict(single_columns(x, len(y))), target_of(y)) for x, y in (one, other)]
        for name, values in single_columns(train[0], len(known)):
            edges = edges_of(values)
            code = bins_of(values, edges)
            rates = rates_of(code, known, len(edges) + 1)
            saved = []
            for columns, target in asked:
                bins = bins_of(columns[name], edges)
                constant = np.full(len(target), np.clip(target.mean(), 1e-6, 1 - 1e-6))
                saved.append(log_losses(constant, target) - log_losses(rates[bins], target))
            error = np.sqrt(sum(gain.var() / len(gain) for gain in saved))
            if error > 0:
                errors = float((saved[0].mean() - saved[1].mean()) / error)
                found[name] = max(found.get(name, -np.inf), errors)
    ranked = sorted(found.items(), key=lambda item: -item[1])
    return tuple(Difference(name, errors) for name, errors in ranked)


def _questions(labels: Array) -> list[Callable[[Array], NDArray[np.int8]]]:
    """How labels become 0 or 1: of two classes one, of more each against the others, real values by their median."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "biufSU":
        return []
    values, counts = np.unique(labels, return_counts=True)
    if len(values) < 2:
        return []
    if labels.dtype.kind == "f" and len(values) > CLASSES:
        return [partial(_above, np.median(labels))]
    chosen = values[1:] if len(values) == 2 else values[np.argsort(-counts)][:CLASSES]
    return [partial(_equal, value) for value in chosen]


def _above(value: Any, labels: Array) -> NDArray[np.int8]:
    return np.asarray(labels > value).astype(np.int8)


def _equal(value: Any, labels: Array) -> NDArray[np.int8]:
    return np.asarray(labels == value).astype(np.int8)
