"""
One rule of the fairness table on one model: its figure, how sure it is, and whether the incumbent was fairer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_autoresearch.report.tables import FairnessLine

from .cohort_figures import cohorts, gated_groups, intersection
from .fairness import extremes, measure
from .uncertainty import interval, worsening

if TYPE_CHECKING:
    from pytest_autoresearch.settings import FairnessRule

__all__ = ["fairness_line"]

Array = np.ndarray[Any, np.dtype[Any]]


def fairness_line(
    rule: FairnessRule,
    scores: Array,
    labels: Array,
    columns: Sequence[Array],
    incumbent: Array | None = None,
) -> FairnessLine:
    """
    Hold a model against one rule.

    :param scores: probabilities of label 1, ``[n]``. :param labels: 0 or 1, ``[n]``.
    :param columns: the rule's attributes, ``[n]`` each. :param incumbent: the incumbent's scores on the same rows.
    :raises ValueError: fewer than two cohorts are large enough to compare.
    """
    groups = gated_groups(labels, intersection(columns), pool=rule.small == "pool")
    value = measure(rule.metric, scores, labels, groups, rule.threshold)
    table = cohorts(scores, labels, groups, rule.threshold)
    large = np.isin(groups, [cohort.name for cohort in table if cohort.gated])
    given = (labels[large], groups[large], rule.threshold)
    sure = interval(rule.metric, scores[large], *given)
    before, worse = None, None
    if incumbent is not None:
        before = measure(rule.metric, incumbent, labels, groups, rule.threshold)
        if rule.worse_by is not None:
            worse = worsening(
                rule.metric, incumbent[large], scores[large], *given[:2], threshold=rule.threshold
            )
    return FairnessLine(
        metric=rule.metric,
        by=rule.label,
        value=value,
        at_most=rule.at_most,
        at_least=rule.at_least,
        low=sure.low,
        high=sure.high,
        sure=rule.sure == "interval",
        incumbent=before,
        worse_by=rule.worse_by,
        worsening=None if worse is None else worse.low,
        where=extremes(rule.metric, table),
        worse_where=worse.cohort if worse else "",
    )
