"""
Early kill: what the bound lets through and what it stops, in worlds whose truth is known.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from pytest_autoresearch.prune import CHECKPOINTS, ERROR, LEAST, Forecast, forecast, level_at
from pytest_autoresearch.records import Curve

SIGMA = 0.001
SCREEN = 0.5


@dataclass
class World:
    """
    Runs whose metric has noise ``SIGMA``, and whose training loss knows of it what ``seed`` and ``effect`` say.

    The training loss falls exponentially to a level that a candidate's true gain moves by ``effect`` times the gain,
    besides a part of its own with standard deviation ``own``, in sigma; a run's noise moves it with correlation
    ``seed``. ``noise`` is that of a single point.
    """

    rng: random.Random
    effect: float = 1.0
    own: float = 0.5
    seed: float = 0.8
    noise: float = 0.0007

    def run(self, gain: float, own: float = 0.0, shift: float = 0.0) -> tuple[Curve, float]:
        luck = self.rng.gauss(0, 1)
        level = own - self.effect * gain + self.seed * luck
        level += math.sqrt(1 - self.seed**2) * self.rng.gauss(0, 1)
        curve = tuple(
            (
                i / 40,
                0.3 + shift + SIGMA * level + 0.25 * math.exp(-6 * i / 40)
                + self.rng.gauss(0, self.noise),
            )
            for i in range(1, 41)
        )  # fmt: skip
        return curve, 0.31 + SIGMA * (luck - gain)

    def candidate(self, gain: float) -> tuple[Curve, float]:
        return self.run(gain, self.rng.gauss(0, self.own))

    def gain(self) -> float:
        """Some ideas are bad, most do next to nothing, a few are good."""
        kind = self.rng.random()
        if kind < 0.25:
            return -abs(self.rng.gauss(0, 10))
        return self.rng.gauss(-0.3, 1.0) if kind < 0.9 else abs(self.rng.gauss(0, 2))

    def campaign(self, n: int) -> Campaign:
        """``n`` candidates were run; the incumbent has three runs of its own."""
        incumbent = [self.run(0.0) for _ in range(3)]
        past = [self.candidate(self.gain()) for _ in range(n)]
        reference = sum(metric for _, metric in incumbent) / 3
        own = [curve for curve, _ in incumbent]
        found = [forecast(past, own, at, error=ERROR / len(CHECKPOINTS)) for at in CHECKPOINTS]
        return Campaign(reference, found)


@dataclass
class Campaign:
    reference: float
    found: list[Forecast | None]

    def stops(self, curve: Curve) -> bool:
        for at, found in zip(CHECKPOINTS, self.found, strict=True):
            level = level_at(curve, at)
            assert level is not None
            if found is not None and found.best_gain(level) < SCREEN * SIGMA:
                return True
        return False

    def passes(self, metric: float) -> bool:
        return metric < self.reference - SCREEN * SIGMA


def worlds(salt: int, n: int, campaigns: int, **what: float) -> Iterator[tuple[World, Campaign]]:
    for number in range(campaigns):
        world = World(random.Random(f"{salt}/{number}"), **what)
        yield world, world.campaign(n)


@pytest.mark.parametrize(
    ("n", "what"),
    [
        (8, {}),
        (20, {}),
        (60, {}),
        (20, {"own": 2.0, "seed": 0.3}),
        (20, {"own": 0.0, "seed": 0.95, "noise": 0.0001}),
    ],
    ids=["8 past runs", "20", "60", "loose relation", "tight relation"],
)
def test_fewer_than_one_real_improvement_in_a_hundred_is_lost(
    n: int, what: dict[str, float]
) -> None:
    passed = lost = 0
    for world, campaign in worlds(1, n, 60, **what):
        for gain in (1.0, 1.5, 2.0, 3.0):
            for _ in range(10):
                curve, metric = world.candidate(gain)
                passed += campaign.passes(metric)
                lost += campaign.passes(metric) and campaign.stops(curve)

    assert passed > 1000
    assert lost / passed < 0.01


def test_control_without_the_bound_improvements_would_be_lost() -> None:
    passed = lost = 0
    for world, campaign in worlds(1, 20, 60):
        bare = [found and replace(found, quantile=0.0) for found in campaign.found]
        guess = Campaign(campaign.reference, bare)
        for _ in range(20):
            curve, metric = world.candidate(1.0)
            passed += campaign.passes(metric)
            lost += campaign.passes(metric) and guess.stops(curve)

    assert lost / passed > 0.03


def test_hopeless_runs_are_stopped_once_there_is_something_to_learn_from() -> None:
    stopped = {
        (n, gain): sum(
            campaign.stops(world.candidate(gain)[0])
            for world, campaign in worlds(2, n, 40)
            for _ in range(5)
        )
        / 200
        for n in (8, 20, 60)
        for gain in (-5.0, -20.0)
    }

    assert stopped[8, -20.0] < stopped[20, -20.0]
    assert stopped[20, -5.0] > 0.5
    assert stopped[60, -5.0] > 0.8
    assert stopped[60, -20.0] > 0.95


@pytest.mark.parametrize("n", [8, 20, 60])
def test_a_curve_that_tells_nothing_of_the_metric_stops_nobody(n: int) -> None:
    for world, campaign in worlds(3, n, 100, effect=0.0, seed=0.0, own=3.0):
        # Control of the test: the losses differ widely, up to a run that has exploded.
        assert not any(campaign.stops(world.run(0.0, own)[0]) for own in (-10.0, 5.0, 20.0, 1e4))


def test_a_short_history_or_an_incumbent_without_curves_predicts_nothing() -> None:
    world = World(random.Random(4), own=0.0, seed=0.95, noise=0.0)
    past = [world.candidate(-number) for number in range(LEAST)]
    own = [world.run(0.0)[0]]

    assert forecast(past, own, 0.3) is not None
    assert forecast(past[1:], own, 0.3) is None
    assert forecast(past, [], 0.3) is None
    assert forecast(past, [own[0][:11]], 0.3) is None  # it ends before the checkpoint
    assert forecast([past[0]] * 20, own, 0.3) is None  # no two of them differ


def test_one_run_that_ended_well_in_spite_of_its_curve_is_a_warning_for_good() -> None:
    def stops(exceptions: int) -> int:
        count = 0
        for number in range(40):
            world = World(random.Random(number))
            past = [world.candidate(world.gain()) for _ in range(40)]
            # Of these the loss means something else: 20 sigma worse, and no worse a metric.
            past[5 : 5 + exceptions] = [world.run(0.5, 20.0) for _ in range(exceptions)]
            found = forecast(past, [world.run(0.0)[0]], 0.3)
            level = level_at(world.run(0.5, 20.0)[0], 0.3)
            assert level is not None
            count += found is not None and found.best_gain(level) < SCREEN * SIGMA
        return count

    assert stops(0) > 30
    assert stops(1) < stops(0) / 2


def test_a_run_that_exploded_is_no_lever() -> None:
    world = World(random.Random(6))
    past = [world.candidate(world.gain()) for _ in range(30)]
    own = [world.run(0.0)[0]]
    calm = forecast(past, own, 0.3)
    wild = forecast([*past, (tuple((i / 40, 1e6) for i in range(1, 41)), 0.7)], own, 0.3)

    assert calm is not None
    assert wild is not None
    assert wild.slope == pytest.approx(calm.slope)
    assert wild.worst == calm.worst
    assert calm.best_gain(1e6) == calm.best_gain(calm.worst)


@pytest.mark.parametrize(
    ("curve", "level"),
    [
        ((), None),
        (((0.1, 5.0), (0.29, 4.0)), None),
        (((0.35, 5.0), (0.9, 4.0)), None),
        (((0.1, 5.0), (0.25, 4.0), (0.28, 3.0), (0.3, 9.0), (0.4, 1.0)), 4.0),
        (((0.1, 5.0), (0.5, 1.0)), 3.0),
    ],
    ids=["empty", "not there yet", "starts later", "median of the window", "between two points"],
)
def test_the_level_at_a_checkpoint(curve: Curve, level: float | None) -> None:
    assert level_at(curve, 0.3) == pytest.approx(level)
