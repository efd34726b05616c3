"""
What keep rules do over whole campaigns, at equal numbers of training runs: the shipped rule against common ones.

    python benchmarks/decisions.py [--campaigns 100] [--seed 10000] [--variants] [--json FILE]

The shipped :func:`pytest_autoresearch.keep.decide` and the shipped charts are called for every decision; nothing
is copied. Everything is seeded, and every rule meets the same proposals with the same noise. Unit: sigma, the
standard deviation over seeds of one training run's metric. The other rules are told sigma, ours measures it. The
rule's numbers were chosen on campaigns with seeds below 1000: the ones here are others.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
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


class Rule(ABC):
    """A keep rule at work in one campaign."""

    reference: float
    """The level of the metric that the rule claims for the incumbent."""
    opening: float
    """What it claimed at the start."""

    def begin(self, campaign: Worlds) -> None:
        """Measure the incumbent as the rule wants it: here with one run."""
        self.opening = self.reference = campaign.incumbent_run()[0]

    def before(self, t: int, campaign: Worlds) -> None:  # noqa: B027 -- most rules need nothing
        """Do what is due before proposal ``t``."""

    @abstractmethod
    def judge(self, candidate: Candidate) -> bool:
        """Run the candidate as often as wanted and say whether it is kept; :attr:`reference` follows."""


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
        while (
            decisions is None
            and len(states) < len(budgets)
            and campaign.runs > budgets[len(states)]
        ):
            states.append(last)
        if decisions is None and len(states) == len(budgets):
            return states, trail
        if kept:
            campaign.keep(t, candidate)
            keeps += 1
            false += candidate.effect <= 0
        trail.append(rule.reference)
        t += 1


def noise_only(make: Callable[[], Rule], world: World, seeds: range) -> dict[str, float]:
    """Campaigns of 100 proposals that change nothing: false keeps and what they cost."""
    false, runs = [], []
    for seed in seeds:
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


def power(make: Callable[[], Rule], seeds: range) -> dict[str, float]:
    """Probability that an improvement is kept which comes after 30 proposals that change nothing."""
    kept = dict.fromkeys(map(str, EFFECTS), 0)
    for seed in seeds:
        campaign = Worlds(WORLDS["A/A"], seed, 30 + len(EFFECTS))
        rule = make()
        follow(rule, campaign, (), 30)
        for place, effect in enumerate(EFFECTS):
            candidate = replace(campaign.candidate(30 + place), effect=effect)
            kept[str(effect)] += copy.deepcopy(rule).judge(candidate)
    return {effect: count / len(seeds) for effect, count in kept.items()}


def whole(make: Callable[[], Rule], world: World, seeds: range) -> dict[str, object]:
    """Campaigns with real ideas, to a short and a long budget."""
    states, alarms = [], 0
    for seed in seeds:
        campaign = Worlds(world, seed, 2 * LONG)
        reached, trail = follow(make(), campaign, (SHORT, LONG))
        states.append(reached)
        alarms += _alarms(trail)
    return {"progress_alarms": alarms / len(seeds), **summary(states)}


def _alarms(trail: Sequence[float]) -> bool:
    """Whether the shipped progress chart would ever have alarmed on what the rule claims."""
    chart = CUSUMMonitor(0.0, PROGRESS_ALLOWANCE, PROGRESS_INTERVAL)
    return any(chart.update(progress(before, after)) for before, after in pairwise(trail))


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


NAIVE = "naive: better than the best"

RULES: dict[str, Callable[[], Rule]] = {
    NAIVE: Margin,
    "margin 1 sigma": lambda: Margin(1.0),
    "margin 2 sigma": lambda: Margin(2.0),
    "|best - baseline| >= 2 MAD": Confidence,
    "two wins": TwoWins,
    "default": Shipped,
    "balanced": lambda: Shipped(PRESETS["balanced"]),
    "strict": lambda: Shipped(PRESETS["strict"]),
    "default + early kill": lambda: Shipped(early_kill=True),
}


@dataclass
class ShrunkReference(Shipped):
    """After a keep the reference gives half a run's weight to the old level, at most 2 sigma away: shrinkage."""

    def judge(self, candidate: Candidate) -> bool:
        before = self.known
        kept = super().judge(candidate)
        if kept:
            n, gain = self.known.n, before.mean - self.known.mean
            back = min(gain, 2 * before.sigma) * 0.5 / (n + 0.5)
            self.known = replace(self.known, mean=self.known.mean + back)
            self.reference = self.known.mean
        return kept


@dataclass
class FallingScreen(Shipped):
    """The screen starts at 2 sigma, while large ideas are easy to find, and falls to 0.75 over 200 proposals."""

    def before(self, t: int, campaign: Worlds) -> None:
        super().before(t, campaign)
        self.rule = replace(self.rule, screen=2.0 - 1.25 * min(1.0, t / 200))


@dataclass
class BelievesOddsOfKeeps(Shipped):
    """Adaptive level: lax while the campaign keeps much, strict when it does not; alpha 0.05 to 0.2."""

    recent: list[bool] = field(default_factory=list)

    def judge(self, candidate: Candidate) -> bool:
        share = (sum(self.recent[-30:]) + 2) / (len(self.recent[-30:]) + 20)
        self.rule = replace(self.rule, alpha=min(0.2, max(0.05, share)))
        self.recent.append(super().judge(candidate))
        return self.recent[-1]


def halving(world: World, seed: int, batch: int, budgets: Sequence[float]) -> list[State]:
    """
    Race ``batch`` proposals against one incumbent: one run each, the better half runs again, and so on.

    The last one's runs but the first are held against the incumbent as the shipped rule does at its end.
    """
    campaign = Worlds(world, seed, 2 * LONG)
    rule = Shipped(KeepRule(confirm=2, screen=-10.0))
    rule.begin(campaign)
    keeps = false = t = 0
    states: list[State] = []
    while True:
        last = State(
            BASE - campaign.true, rule.opening - rule.reference, keeps, false, t, campaign.runs
        )
        rule.before(CANARY - 1, campaign)
        racing = [(campaign.candidate(t + place), t + place) for place in range(batch)]
        runs = {place: [candidate.run()] for candidate, place in racing}
        while len(racing) > 1:
            racing.sort(key=lambda pair: statistics.fmean(runs[pair[1]]))
            racing = racing[: len(racing) // 2]
            for candidate, place in racing:
                runs[place].append(candidate.run())
        candidate, place = racing[0]
        first, *fresh = runs[place]
        step = decide(rule.known, first, fresh, replace(rule.rule, confirm=len(fresh)))
        rule.known = step.reference_after
        rule.reference = rule.known.mean
        while campaign.runs > budgets[len(states)]:
            states.append(last)
            if len(states) == len(budgets):
                return states
        if step.action == "keep":
            campaign.keep(place, candidate)
            keeps += 1
            false += candidate.effect <= 0
        t += batch


def noisier(rule: KeepRule, ratio: float, seeds: range) -> float:
    """How often a candidate is kept that is as good as the incumbent and ``ratio`` times as noisy."""
    kept = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        known = Reference.from_runs([float(x) for x in BASE + rng.standard_normal(4)])
        # Sigma as well known as after some ten proposals.
        known = replace(known, sigma=float(np.sqrt(rng.chisquare(20) / 20)), df=20)
        values = [float(x) for x in BASE + ratio * rng.standard_normal(1 + rule.confirm)]
        kept += decide(known, values[0], values[1:], rule).action == "keep"
    return kept / len(seeds)


VARIANTS: dict[str, Callable[[], Rule]] = {
    "screen 0.5, alpha 0.05": lambda: Shipped(KeepRule(alpha=0.05, screen=0.5)),
    "screen 0.5": lambda: Shipped(KeepRule(screen=0.5)),
    "screen 1.5": lambda: Shipped(KeepRule(screen=1.5)),
    "confirm 2": lambda: Shipped(KeepRule(confirm=2)),
    "confirm 4": lambda: Shipped(KeepRule(confirm=4)),
    "no canary": lambda: Shipped(canary=0),
    "canary 4": lambda: Shipped(canary=4),
    "baseline 8": lambda: Shipped(baseline=8),
    "shrunk reference": ShrunkReference,
    "falling screen": FallingScreen,
    "level follows the keeps": BelievesOddsOfKeeps,
}


def summary(states: Sequence[Sequence[State]]) -> dict[str, object]:
    """Means over campaigns at each budget."""
    result: dict[str, object] = {}
    for place, budget in enumerate((SHORT, LONG)):
        column = [reached[place] for reached in states]
        gaps = [state.claimed - state.true for state in column]
        result[str(budget)] = {
            "true": statistics.fmean(state.true for state in column),
            "true_se": _error([state.true for state in column]),
            "gap": statistics.fmean(gaps),
            "gap_se": _error(gaps),
            "keeps": statistics.fmean(state.keeps for state in column),
            "false": statistics.fmean(state.false for state in column),
            "real": 1 - sum(s.false for s in column) / max(1, sum(s.keeps for s in column)),
            "each": [state.true for state in column],
        }
    return result


def table(rows: dict[str, dict[str, Any]], against: dict[str, Any]) -> str:
    """The figures of whole campaigns, with the difference to another rule's in the same ones."""
    lines = []
    for name, row in rows.items():
        short, long = row[str(SHORT)], row[str(LONG)]
        ahead = [
            mine - theirs
            for mine, theirs in zip(long["each"], against[str(LONG)]["each"], strict=True)
        ]
        null, found = row.get("null"), row.get("power")
        lines.append(
            [
                name,
                f"{null['false']:.2f} ({null['false_se']:.2f})" if null else "",
                f"{null['runs']:.2f}" if null else "",
                "/".join(f"{share:.2f}" for share in found.values()) if found else "",
                f"{short['true']:.1f} ({short['true_se']:.1f})",
                f"{long['true']:.1f} ({long['true_se']:.1f})",
                f"{statistics.fmean(ahead):+.1f} ({_error(ahead):.1f})",
                f"{long['gap']:+.2f} ({long['gap_se']:.2f})",
                f"{long['keeps']:.1f} ({long['false']:.1f})",
                f"{long['real']:.0%}",
            ]
        )
    headers = (
        "rule",
        "false keeps per 100 nulls",
        "runs per decision",
        "power at " + "/".join(f"{effect:g}" for effect in EFFECTS),
        f"true gain at {SHORT}",
        f"at {LONG}",
        "ahead of naive",
        "claimed - true",
        "keeps (false)",
        "real",
    )
    # Without campaigns of nulls there is nothing to say in three of the columns.
    known = [place for place in range(len(headers)) if any(line[place] for line in lines)]
    lines = [[line[place] for place in known] for line in lines]
    shown = [headers[place] for place in known]
    return tabulate(lines, headers=shown, tablefmt="github", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--campaigns", type=int, default=100, help="campaigns per rule (100)")
    parser.add_argument("--seed", type=int, default=10_000, help="of the first campaign (10000)")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--variants", action="store_true", help="also what was tried and not taken")
    asked = parser.parse_args()
    n, began = asked.campaigns, time.perf_counter()

    def seeds(times: int = 1) -> range:
        return range(asked.seed, asked.seed + times * n)

    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; {n} campaigns; unit sigma, standard errors in brackets\n"
    )
    found: dict[str, Any] = {}

    def measure(rules: dict[str, Callable[[], Rule]]) -> dict[str, Any]:
        return {
            name: {
                "null": noise_only(make, WORLDS["A/A"], seeds(5)),
                "power": power(make, seeds(10)),
                **whole(make, WORLDS["K"], seeds()),
            }
            for name, make in rules.items()
        }

    found["K"] = measure(RULES)
    naive = found["K"][NAIVE]
    print("K: a finite pool of real ideas\n\n" + table(found["K"], naive) + "\n")
    alarms = {name: row["progress_alarms"] for name, row in found["K"].items()}
    print(f"the progress chart alarms in {max(alarms.values()):.0%} of these campaigns at most\n")

    overfitting: dict[str, Callable[[], Rule]] = {
        NAIVE: Margin,
        "margin 1 sigma": lambda: Margin(1.0),
        "default": Shipped,
        "default + audit veto": lambda: Shipped(veto=True),
        "strict + audit veto": lambda: Shipped(PRESETS["strict"], veto=True),
    }
    found["G"] = {name: whole(make, WORLDS["G"], seeds()) for name, make in overfitting.items()}
    print("G: each proposal also fits the validation set by chance, sd 1 sigma\n")
    print(table(found["G"], found["G"][NAIVE]) + "\n")

    heavy = {
        name: noise_only(RULES[name], WORLDS["A/A, t5 noise"], seeds(5))
        for name in (NAIVE, "margin 2 sigma", "default", "balanced", "strict")
    }
    found["t5"] = heavy
    print("noise with t5 tails: false keeps per 100 nulls")
    print(
        ", ".join(
            f"{name} {row['false']:.2f} ({row['false_se']:.2f})" for name, row in heavy.items()
        )
    )

    found["noisier"] = {str(ratio): noisier(KeepRule(), ratio, seeds(40)) for ratio in (1, 2, 4, 8)}
    print("\na null so many times as noisy as the incumbent is kept with a probability of")
    print(", ".join(f"{ratio}: {share:.1%}" for ratio, share in found["noisier"].items()))

    if asked.variants:
        found["variants"] = measure({"default": Shipped, **VARIANTS})
        for batch in (4, 8):
            states = [halving(WORLDS["K"], seed, batch, (SHORT, LONG)) for seed in seeds()]
            found["variants"][f"halving, {batch} at once"] = summary(states)
        print("\nvariants of the default in K\n\n" + table(found["variants"], naive))
    print(f"\n{time.perf_counter() - began:.0f} s")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
