"""
What a planted violation is: which gates must stop it, and what it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ..experiment import Experiment
    from ..records import RunResult
    from ..settings import Settings
    from ..task import Task

__all__ = ["PERSONAL", "Model", "NotApplicable", "Plant"]

#: Personal data that no rule for examples and test domains lets through; nobody's.
PERSONAL = "jane.doe@contoso-mail.com, 536-22-8745"


class NotApplicable(Exception):
    """There is nothing in this project for the violation; the message says what is missing."""


@dataclass(frozen=True)
class Model:
    """What stands in for a run and its model."""

    run: RunResult
    metric: float | None
    problem: str = ""
    """Why there is no metric."""
    gap: float | None = None
    """Standard errors by which it is better on validation than on the audit split."""
    peeks: bool = False
    """Whether the scoring audit is why there is no metric."""
    metrics: Mapping[str, Any] | None = None
    """By prepare.py's ``evaluate``; None: the metric alone."""
    scores: Any = None
    """Predictions of the validation rows ``[n]``; None: 0.5 each."""


@dataclass(frozen=True)
class Plant:
    """One violation; what it leaves None stays as it is in the incumbent's session."""

    name: str
    gates: tuple[str, ...]
    """Names of the stock gates that must fail."""
    candidate: Callable[[dict[str, bytes], Settings], dict[str, bytes]] | None = None
    """The candidate's files, from the incumbent's."""
    data: Callable[[Path, Task, Settings], None] | None = None
    """Changes a copy of the data directory; the manifest is written anew."""
    prepare: Callable[[str, Task], str] | None = None
    """Changes the text of prepare.py that the checks on the data run."""
    model: Callable[[Model, Task, Settings, Path], Model] | None = None
    """Changes what stands in for the run; files go below the directory given."""
    session: Callable[[Experiment], None] | None = None
    """Changes something else in the session, right before the gates."""
    options: tuple[str, ...] = ()
    """Further options of the session."""
