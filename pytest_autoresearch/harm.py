"""
The Harm Test: if this candidate were wrong, could it cause harm outside the sandbox?

A person declares in ``[tool.autoresearch.harm]`` what a candidate could do there; a gate holds the facts of the session
against it: the isolation level that the self-test found to hold, the project's own hooks, what leaves the harness.

What is covered: the candidate, as a run and as a model that is scored. What is not covered: what gates, ``prepare.py``
and hooks do by themselves, which people write and ratify; an agent's network, which is declared with the agent; what
people do with a kept model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from .compliance.aggregates import individual_outputs
from .sandbox import Isolation

if TYPE_CHECKING:
    from .evaluation import Evaluation
    from .experiment import Experiment
    from .records import RunResult

__all__ = ["HarmTest", "Property"]

#: Hooks that act in the place of the harness, or after it.
_ACTING = ("execute", "keep", "revert")
_WAY_OUT = "or declare [tool.autoresearch.harm] {name} = 'unchecked', which a person answers for"


@dataclass(frozen=True)
class Property:
    """One thing that a wrong candidate could do outside the sandbox."""

    name: str
    """``outputs``, ``writes``, ``network`` or ``individuals``."""
    declared: str
    """As configured; ``unchecked`` claims nothing."""
    against: str = ""
    """The fact that speaks against the strict value; empty when it holds."""

    @property
    def problem(self) -> str:
        """Why the declared value does not hold; empty when it does."""
        if self.declared == "unchecked" or not self.against:
            return ""
        way_out = _WAY_OUT.format(name=self.name)
        return f"{self.name} = {self.declared!r} does not hold: {self.against}, {way_out}"


class HarmTest:
    """The declared properties of this session's candidate, with the facts."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._declared = experiment.campaign.settings.harm

    @property
    def properties(self) -> tuple[Property, ...]:
        """What is known before anything runs."""
        declared = self._declared
        return (
            Property("outputs", declared.outputs, self._outputs()),
            Property("writes", declared.writes, self._wall("file") or self._hooks(_ACTING)),
            Property(
                "network", declared.network, self._wall("network") or self._hooks(_ACTING[:1])
            ),
            Property("individuals", declared.individuals),
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What is declared and does not hold, a sentence each."""
        return tuple(each.problem for each in self.properties if each.problem)

    def problems_of(self, run: RunResult, evaluation: Evaluation) -> tuple[str, ...]:
        """What did not hold for a run and its model."""
        declared, held = self._declared, ""
        level = self._experiment.campaign.wall.level.value
        if run.isolation != level:
            held = f"the run was at isolation level {run.isolation!r} and not at {level!r}: run it there"
        told = "; ".join(individual_outputs(evaluation))
        found = (
            Property("writes", declared.writes, held),
            Property("network", declared.network, held),
            Property("individuals", declared.individuals, told and f"{told}: give figures of many"),
        )
        return tuple(each.problem for each in found if each.problem)

    # -- facts -----------------------------------------------------------------

    def _wall(self, what: str) -> str:
        """The self-test has passed at every level but one, before anything of this session ran."""
        level = self._experiment.campaign.wall.level
        if level is not Isolation.NONE:
            return ""
        return (
            f"at isolation level {level.value!r} the kernel keeps no {what} from a run: "
            "choose 'strong' or 'kernel'"
        )

    def _hooks(self, names: tuple[str, ...]) -> str:
        """Implementations of a project's own that act outside the harness."""
        found = ", ".join(self._foreign(names))
        return found and f"{found} may act anywhere: leave it to the harness"

    def _foreign(self, names: tuple[str, ...]) -> Iterator[str]:
        from . import defaults

        hooks = self._experiment.config.hook
        for name in names:
            for each in getattr(hooks, f"pytest_autoresearch_{name}").get_hookimpls():
                if each.plugin is not defaults:
                    yield f"the hook pytest_autoresearch_{name} of {PurePath(each.plugin_name).name}"

    def _outputs(self) -> str:
        lines = self._experiment.campaign.settings.feedback.log_lines
        if not lines:
            return ""
        return f"feedback.log_lines = {lines} hands a run's own words to the agent: set it to 0"
