"""
What is under test and what it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

__all__ = [
    "BudgetExhausted",
    "Candidate",
    "Domain",
    "FixedHarnessViolation",
    "Mutation",
    "ParameterChange",
    "Proposal",
]


class FixedHarnessViolation(Exception):
    """
    A breach of the Fixed Harness: the execution ends at once, it is neither warned about nor retried.

    The message starts with ``SYSTEM HALT:``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            message if message.startswith("SYSTEM HALT:") else f"SYSTEM HALT: {message}"
        )


class BudgetExhausted(FixedHarnessViolation):
    """The mutation budget cannot pay for the mutation."""

    def __init__(self, requested: int, remaining: int) -> None:
        super().__init__(
            f"MUTATION BUDGET EXHAUSTED. Requested {requested}, remaining {remaining}."
        )
        self.requested = requested
        self.remaining = remaining


class Domain(StrEnum):
    """What a mutation touches; its risk sets its cost."""

    HYPOTHESIS = "hypothesis"
    HYPERPARAMETER = "hyperparameter"
    METRIC = "metric"
    FEATURE = "feature"
    ARCHITECTURE = "architecture"


@dataclass(frozen=True)
class Candidate:
    """
    The bytes of the mutation surface under test: data, never imported by the trusted process.
    """

    files: Mapping[str, bytes] = field(repr=False)
    """Surface path (POSIX, relative to the project root) to content."""
    origin: str
    """Where the bytes were read: ``working tree``, ``directory '...'`` or ``revision '...'``."""
    digest: str
    """SHA-256 over the sorted paths and contents (hex)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))


@dataclass(frozen=True)
class ParameterChange:
    """A module constant whose literal value changed."""

    name: str
    before: str
    """Source text of the old value; empty when the constant is new."""
    after: str
    """Source text of the new value; empty when the constant is gone."""


@dataclass(frozen=True)
class Mutation:
    """What the candidate changes against the incumbent, by abstract syntax tree."""

    domain: Domain
    """The dearest domain touched."""
    domains: frozenset[Domain]
    """Every domain touched."""
    cost: int
    """Budget units."""
    description: str
    """One line, generated from the difference or given by the proposer."""
    diff: str = field(repr=False)
    """Unified diff, incumbent to candidate."""
    parameters: tuple[ParameterChange, ...] = ()
    """Module constants whose literal values changed."""
    touched: frozenset[str] = frozenset()
    """Names of the module-level constants, functions and classes that differ."""
    identical: bool = False
    """The candidate's bytes are the incumbent's."""
    syntax_error: str = ""
    """Why the candidate cannot be parsed; empty when it can."""


@dataclass(frozen=True)
class Proposal:
    """A mutation proposed by an agent: whole files, not a patch."""

    files: Mapping[str, bytes] = field(repr=False)
    description: str
