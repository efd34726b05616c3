"""
Early kill in a campaign: which past runs a screening run is held against, and whether it may be at all.

Only screening runs count as past: one a candidate, so that the next one is to them as they are to each other. Runs
that were stopped have no metric and do not count; nor do runs on other data, another harness, budget or device.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from .chain import LedgerError
from .curve import FILE
from .mutation import DEFAULT_SECTIONS
from .prune import CHECKPOINTS, ERROR, Past, forecast, level_at
from .records import Curve, Domain, Incumbent, Mutation
from .rows import Baseline, Run, Verdict
from .syntax import split, try_parse

if TYPE_CHECKING:
    from .campaign import Campaign

__all__ = ["EarlyKill", "same_loss"]


class EarlyKill:
    """
    Says, while the screening run trains, whether it is beyond recovery: once at each checkpoint.

    :param incumbent: as this session found it, measured.
    :param screen: sigma by which the screening run must be better to be worth confirming.
    """

    def __init__(self, campaign: Campaign, incumbent: Incumbent, screen: float) -> None:
        self._campaign = campaign
        self._incumbent = incumbent
        self._screen = screen
        self._left = list(CHECKPOINTS)

    def __call__(self, curve: Curve) -> str:
        """Why a run with this curve may be stopped; empty if it must go on."""
        while self._left and curve and curve[-1][0] >= self._left[0]:
            if reason := self._judge(curve, self._left.pop(0)):
                return reason
        return ""

    def _judge(self, curve: Curve, checkpoint: float) -> str:
        level, sigma = level_at(curve, checkpoint), self._incumbent.sigma
        if level is None or sigma is None:
            return ""
        past, own = self._history
        found = forecast(past, own, checkpoint, error=ERROR / len(CHECKPOINTS))
        if found is None:
            return ""
        best = found.best_gain(level) / sigma
        if best >= self._screen:
            return ""
        side = f"{best:.1f} sigma better" if best >= 0 else f"{-best:.1f} sigma worse"
        return (
            f"stopped at {curve[-1][0]:.0%} of its budget: its training loss was {level:.6g}, the incumbent's "
            f"{found.level:.6g}; by {len(past)} past runs it would end {side} at best, and "
            f"{self._screen:g} sigma are worth confirming"
        )

    @cached_property
    def _history(self) -> tuple[Past, tuple[Curve, ...]]:
        """Past screening runs with a curve, oldest first, and the curves of the incumbent's own runs."""
        try:
            return self._read()
        except LedgerError:  # a gate says so
            return (), ()

    def _read(self) -> tuple[Past, tuple[Curve, ...]]:
        campaign = self._campaign
        state = campaign.state
        judged = state.settled[state.judged_from :]
        first = judged[0].row if judged else state.seq + 1
        past: list[tuple[Curve, float]] = []
        own: dict[str, tuple[Run, ...]] = {}
        for row, cutover in campaign.journal.cutovers():
            payload = cutover.payload
            if row.seq < first or not isinstance(payload, Verdict | Baseline):
                continue
            runs = tuple(run for run in payload.runs if self._alike(run))
            # What the screening run was selected for, the others were not.
            own[payload.candidate] = runs if isinstance(payload, Baseline) else runs[1:] or runs
            for run in runs[:1]:
                if run.curve and run.metric is not None and run == payload.runs[0]:
                    past.append((run.curve, run.metric))
        mine = own.get(self._incumbent.digest, ())
        return past, tuple(run.curve for run in mine if run.curve)

    def _alike(self, run: Run) -> bool:
        campaign = self._campaign
        seconds = campaign.settings.run.seconds
        return run.budget_seconds == seconds and run.device == campaign.device


def same_loss(
    mutation: Mutation, files: Mapping[str, bytes], sections: Mapping[Domain, tuple[str, ...]]
) -> bool:
    """
    Whether a mutation leaves alone what the figures of the learning curve mean, as far as its text shows.

    It does not if it touches a definition of the metric domain or a name that one uses (a factor of the loss), or
    the code that writes the curve or leads to it (the training loop). A change outside of all definitions may be
    anything where the curve is written outside of them as well.
    """
    patterns = sections.get(Domain.METRIC, DEFAULT_SECTIONS[Domain.METRIC])
    if mutation.syntax_error or Domain.METRIC in mutation.domains:
        return False
    meaning: set[str] = set()
    writers: set[str] = set()
    uses: dict[str, set[str]] = {}
    for path, source in files.items():
        tree = try_parse(source) if path.endswith(".py") else None
        for part in [] if tree is None else split(tree, source):
            used = {node.id for node in ast.walk(part.node) if isinstance(node, ast.Name)}
            if any(fnmatchcase(part.name.lower(), pattern.lower()) for pattern in patterns):
                meaning |= {part.name} | used
            if FILE.encode() in part.text:
                # The name of a constant may be used anywhere, outside of definitions too.
                writers |= {part.name, ""} if part.constant else {part.name}
            uses.setdefault(part.name, set()).update(used)
    if "" in writers and mutation.domains - {Domain.HYPOTHESIS, Domain.HYPERPARAMETER}:
        return False
    leading = writers - {""}
    while more := {name for name in uses if name and uses[name] & leading} - leading:
        leading |= more
    return not (meaning | leading) & mutation.touched
