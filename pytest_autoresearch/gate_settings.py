"""
The tables of ``[tool.autoresearch]`` that gates hold a candidate against.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from .keys import Count, FairnessMetric, Nothing, Share, Small, Sureness, Table, Told

__all__ = [
    "Audit",
    "Cohorts",
    "FairnessRule",
    "Harm",
    "Leakage",
    "Pii",
    "Source",
]


class FairnessRule(Table, frozen=True):
    """One line of the fairness table: gated when it has a limit, else only reported."""

    metric: FairnessMetric
    by: str | tuple[str, ...]
    """Protected attribute; several: the cohorts of their intersection."""
    at_most: Share | None = None
    at_least: Share | None = None
    worse_by: Share | None = None
    """By how much a candidate may be less fair than the incumbent, beyond noise, in the metric's unit."""
    sure: Sureness = "estimate"
    """What must meet ``at_most`` or ``at_least``: the figure, or its whole 95 % interval."""
    small: Small = "list"
    """Cohorts too small to gate: only listed, or put together into one."""
    threshold: Share = 0.5
    """Score from which a row is selected."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """The protected attributes, one at least."""
        return (self.by,) if isinstance(self.by, str) else self.by

    @property
    def label(self) -> str:
        """The attributes as messages and rows have them."""
        return "&".join(self.attributes)


class Pii(Table, frozen=True):
    """What the scan for personal data looks for besides its own patterns."""

    denied: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] = ()
    """Shell patterns of further column names that a training view may not have, such as ``"diagnosis*"``."""
    allowed: tuple[Annotated[str, msgspec.Meta(min_length=6)], ...] = ()
    """Exact values that are let through, such as a support address."""
    presidio: bool = False
    """Whether Presidio looks, too (extra ``[presidio]``)."""
    presidio_model: str = ""
    """Its spaCy model, which finds names; empty: patterns only."""


class Audit(Table, frozen=True):
    """Scoring again in a fresh process, against models that look at other examples or ahead."""

    rows: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 256
    """Examples that are scored again, in another order and company; 0: none."""
    prefixes: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 256
    """Of a sequence task: random prefixes that are scored again, with another continuation."""
    tolerance: Annotated[float, msgspec.Meta(gt=0.0, le=0.1)] = 1e-4
    """Largest difference in log-probability that rounding explains: nats, relative beyond one nat."""


class Source(Table, frozen=True):
    """What a mutation's text may look like: something that a person can review."""

    added_kb: Count = 64
    """KiB of lines that one mutation may add."""
    literal_bytes: Count = 2048
    """Bytes of one new literal, in the source's spelling."""
    line_length: Count = 400
    """Characters of one new line."""


class Cohorts(Table, frozen=True):
    """What is told of cohorts in the training split."""

    shown: tuple[tuple[str, ...], ...] = ()
    """Tables in every agent's prompt, each by its columns: ``[["sex"], ["sex", "race"]]``."""
    epsilon: Annotated[float, msgspec.Meta(gt=0.0, le=100.0)] | None = None
    """Noise in every answer, which costs so much privacy budget (extra ``[privacy]``); None: no noise."""
    epsilon_total: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)] = 1.0
    """The privacy budget: the sum of the epsilons of all answers about the same data."""


class Harm(Table, frozen=True):
    """What a candidate could do outside the sandbox if it were wrong; a gate holds the facts against it."""

    outputs: Told = "aggregates"
    """What leaves the harness about a model."""
    writes: Nothing = "none"
    """Files outside its own output directory, and deployments by a hook of the project."""
    network: Nothing = "none"
    individuals: Nothing = "none"
    """Decisions or recommendations about single persons."""


class Leakage(Table, frozen=True):
    """What may not be known of held-out data, by the gates of ``harness_tests/test_leakage.py``."""

    near_duplicates: Share = 0.01
    """Share of held-out rows nearly in the training split, beyond what a split at random gives."""
    column: Share = 0.5
    """Share of the labels' log loss that a column may explain alone, unless the others explain as much."""
    known_strong: tuple[str, ...] = ()
    """Columns that may explain more: a person has looked into how they came about."""
    time: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Array of ``index.npz`` with each row's time: no training row is later than a held-out one."""
    group: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Array of ``index.npz`` with each row's group (patient, household): none is on both sides."""
    permutation: bool = True
    """Whether a candidate worth confirming is run once more on shuffled training labels."""
    permuted_gain: Share = 0.1
    """Share of the candidate's own gain over chance that it may have on shuffled labels."""
    gap_errors: Annotated[float, msgspec.Meta(ge=1.0, le=100.0)] = 6.0
    """Standard errors by which validation may look better than the audit split."""
