"""
What keep rules do over whole campaigns, at equal numbers of training runs: the shipped rule against common ones.

    python benchmarks/decisions.py [--campaigns 200] [--json FILE]

The shipped :func:`pytest_autoresearch.keep.decide` and the shipped charts are called for every decision; nothing
is copied. Everything is seeded, and every rule meets the same proposals with the same noise. Unit: sigma, the
standard deviation over seeds of one training run's metric. The other rules are told sigma, ours measures it.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tabulate import tabulate
from worlds import BASE, WORLDS, Candidate, World, Worlds

from pytest_autoresearch.cusum import (
    PROGRESS_ALLOWANCE,
    PROGRESS_INTERVAL,
    CUSUMMonitor,
    progress,
)
from pytest_autoresearch.keep import PRESETS, KeepRule, Reference, decide

SHORT, LONG = 100, 700
CANARY = 8
VETO = 0.5
#: How far the curve at 30 % of the budget is off the end, in sigma, and what such a run costs.
PARTIAL, STOPPED = 1.0, 0.3
EFFECTS = (0.25, 0.5, 1.0, 2.0)


class Rule:
    """A keep rule at work in one campaign."""

    reference: float
    """The level of the metric that the rule claims for the incumbent."""
    opening: float
    """What it claimed at the start."""

    def begin(self, campaign: Worlds) -> None:
        """Measure the incumbent as the rule wants it: here with one run."""
        self.opening = self.reference = campaign.incumbent_run()[0]

    def before(self, t: int, campaign: Worlds) -> None:
        """Do what is due before proposal ``t``."""

    def judge(self, candidate: Candidate) -> bool:
        """Run the candidate as often as wanted and say whether it is kept; :attr:`reference` follows."""
        raise NotImplementedError


@dataclass
class Margin(Rule):
    """Better than the best single run by more than ``sigmas``; with 0 the naive rule."""

    sigmas: float = 0.0

    def judge(self, candidate: Candidate) -> bool:
        metric = candidate.run()
        kept = metric < self.reference - self.sigmas
        if kept:
            self.reference = metric
        return kept


@dataclass
class Confidence(Rule):
    """Better than the best, and |best - baseline| at least twice the median absolute deviation of all results."""

    results: list[float] = field(default_factory=list)

    def begin(self, campaign: Worlds) -> None:
        super().begin(campaign)
        self.results.append(self.reference)

    def judge(self, candidate: Candidate) -> bool:
        metric = candidate.run()
        self.results.append(metric)
        if metric >= self.reference:
            return False
        middle = statistics.median(self.results)
        deviation = statistics.median([abs(result - middle) for result in self.results])
        kept = abs(metric - self.opening) >= 2 * deviation
        if kept:
            self.reference = metric
        return kept


@dataclass
class TwoWins(Rule):
    """Better than the incumbent's figure twice in a row; the mean of the two is the new figure."""

    def judge(self, candidate: Candidate) -> bool:
        first = candidate.run()
        if first >= self.reference:
            return False
        second = candidate.run()
        if second >= self.reference:
            return False
        self.reference = (first + second) / 2
        return True


@dataclass
class Shipped(Rule):
    """The shipped rule: baseline, canaries, and optionally the audit veto and early kill."""

    rule: KeepRule = field(default_factory=KeepRule)
    veto: bool = False
    early_kill: bool = False
    baseline: int = 4
    canary: int = CANARY

    def begin(self, campaign: Worlds) -> None:
        runs = [campaign.incumbent_run() for _ in range(self.baseline)]
        self.known = Reference.from_runs([validation for validation, _ in runs])
        self.audited = statistics.fmean(audit for _, audit in runs)
        self.opening = self.reference = self.known.mean

    def before(self, t: int, campaign: Worlds) -> None:
        if self.canary and t % self.canary == self.canary - 1:
            validation, audit = campaign.incumbent_run()
            self.audited += (audit - self.audited) / (self.known.n + 1)
            self.known = self.known.with_canary(validation)
            self.reference = self.known.mean

    def judge(self, candidate: Candidate) -> bool:
        if self.early_kill:
            # Hopeless: at most one such run in twenty would pass the screen at its end.
            seen = (self.known.mean - candidate.partial(PARTIAL)) / self.known.sigma
            if seen < self.rule.screen - 1.645 * PARTIAL:
                candidate.worlds.runs += STOPPED
                return False
        metric, fresh = candidate.run(), list[float]()
        step = decide(self.known, metric, fresh, self.rule)
        while step.action == "measure":
            fresh.append(candidate.run())
            step = decide(self.known, metric, fresh, self.rule)
        kept = step.action == "keep"
        if kept and self.veto:
            audit = candidate.audit(slice(1, 1 + len(fresh)))
            kept = self.audited - audit > VETO * self.known.sigma
            if not kept:
                self.known = self.known.with_group(fresh)
        if kept:
            self.audited = candidate.audit(slice(1, 1 + len(fresh)))
        if kept or step.action == "discard":
            self.known = step.reference_after
        self.reference = self.known.mean
        return kept


@dataclass(frozen=True)
class State:
    """A campaign at one moment."""

    true: float
    claimed: float
    keeps: int
    false: int
    decided: int
    runs: float


def follow(
    rule: Rule, campaign: Worlds, budgets: Sequence[float], decisions: int | None = None
) -> tuple[list[State], list[float]]:
    """
    Run one campaign; its state when each budget of runs is spent, and the reference after each decision.

    A decision that a budget does not pay to its end does not count. With ``decisions`` so many are made instead.
    """
    rule.begin(campaign)
    keeps = false = t = 0
    states: list[State] = []
    trail = [rule.reference]
    while True:
        true, claimed = BASE - campaign.true, rule.opening - rule.reference
        last = State(true, claimed, keeps, false, t, campaign.runs)
        if decisions is not None and t == decisions:
            return [last], trail
        rule.before(t, campaign)
        candidate = campaign.candidate(t)
        kept = rule.judge(candidate)
        while decisions is None and len(states) < len(budgets) and campaign.runs > budgets[len(states)]:
            states.append(last)
        if decisions is None and len(states) == len(budgets):
            return states, trail
        if kept:
            campaign.keep(t, candidate)
            keeps += 1
            false += candidate.effect <= 0
        trail.append(rule.reference)
        t += 1


def noise_only(make: Callable[[], Rule], world: World, campaigns: int) -> dict[str, float]:
    """Campaigns of 100 proposals that change nothing: false keeps and what they cost."""
    false, runs = [], []
    for seed in range(campaigns):
        campaign = Worlds(world, seed, SHORT)
        rule = make()
        (state,), _ = follow(rule, campaign, (), SHORT)
        false.append(state.false)
        runs.append(state.runs / SHORT)
    return {
        "false": statistics.fmean(false),
        "false_se": _error(false),
        "any": statistics.fmean(count > 0 for count in false),
        "runs": statistics.fmean(runs),
    }


def power(make: Callable[[], Rule], campaigns: int) -> dict[str, float]:
    """Probability that an improvement is kept which comes after 30 proposals that change nothing."""
    kept = dict.fromkeys(map(str, EFFECTS), 0)
    for seed in range(campaigns):
        campaign = Worlds(WORLDS["A/A"], seed, 30 + len(EFFECTS))
        rule = make()
        follow(rule, campaign, (), 30)
        for place, effect in enumerate(EFFECTS):
            candidate = replace(campaign.candidate(30 + place), effect=effect)
            kept[str(effect)] += copy.deepcopy(rule).judge(candidate)
    return {effect: count / campaigns for effect, count in kept.items()}


def whole(make: Callable[[], Rule], world: World, campaigns: int) -> dict[str, object]:
    """Campaigns with real ideas, to a short and a long budget."""
    states, alarms = [], [0, 0]
    for seed in range(campaigns):
        campaign = Worlds(world, seed, 2 * LONG)
        reached, trail = follow(make(), campaign, (SHORT, LONG))
        states.append(reached)
        alarms[0] += _alarms(trail)
    result: dict[str, object] = {"progress_alarms": alarms[0] / campaigns}
    for place, budget in enumerate((SHORT, LONG)):
        column = [reached[place] for reached in states]
        result[str(budget)] = {
            "true": statistics.fmean(state.true for state in column),
            "true_se": _error([state.true for state in column]),
            "gap": statistics.fmean(state.claimed - state.true for state in column),
            "gap_se": _error([state.claimed - state.true for state in column]),
            "keeps": statistics.fmean(state.keeps for state in column),
            "false": statistics.fmean(state.false for state in column),
            "real": 1 - sum(s.false for s in column) / max(1, sum(s.keeps for s in column)),
            "each": [state.true for state in column],
        }
    return result


def _alarms(trail: Sequence[float]) -> bool:
    """Whether the shipped progress chart would ever have alarmed on what the rule claims."""
    chart = CUSUMMonitor(0.0, PROGRESS_ALLOWANCE, PROGRESS_INTERVAL)
    pairs = zip(trail, trail[1:], strict=False)
    return any(chart.update(progress(before, after)) for before, after in pairs)


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


RULES: dict[str, Callable[[], Rule]] = {
    "naive: better than the best": Margin,
    "margin 1 sigma": lambda: Margin(1.0),
    "margin 2 sigma": lambda: Margin(2.0),
    "|best - baseline| >= 2 MAD": Confidence,
    "two wins": TwoWins,
    "default": Shipped,
    "balanced": lambda: Shipped(PRESETS["balanced"]),
    "strict": lambda: Shipped(PRESETS["strict"]),
    "default + early kill": lambda: Shipped(early_kill=True),
}
