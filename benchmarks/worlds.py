"""
Made-up campaigns in which the truth about every proposal is known; unit: sigma, the noise of one training run.

A world decides what proposals are worth; a rule sees their runs only. The same proposals and the same noise meet
every rule, so that rules can be compared proposal by proposal.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = ["BASE", "WORLDS", "Candidate", "World", "Worlds"]

#: The metric's level at the start, in sigma: one run's noise is 0.05 % of it, as in public logs of this kind.
BASE = 2000.0

#: Runs of one candidate that are drawn beforehand; no rule here asks for more.
_RUNS = 5


@dataclass(frozen=True)
class World:
    """What proposals are worth and what one run shows of it."""

    ideas: int = 60
    """Size of the pool of real ideas; one that was kept is worth nothing the next time."""
    total: float = 55.0
    """What the pool is worth in all."""
    spread: float = 1.8
    """Sizes are log-normal: standard deviation of their logarithm."""
    obvious: float = 0.55
    """An idea is proposed with a weight of its size to this power: large ones come early."""
    share: float = 0.35
    """Share of proposals that come from the pool."""
    harmful: float = 0.7
    """Share of the other proposals that do harm; the rest change nothing at all."""
    harm: float = 1.2
    """Mean harm, exponential."""
    overfit: float = 0.0
    """Standard deviation of what a proposal gains on the validation set alone, whatever the seed."""
    heavy: bool = False
    """Whether noise has the tails of Student's t with 5 degrees of freedom, at the same sigma."""


#: K: calibrated so that the naive rule's true gain at 100 and 700 runs, its keeps and their share of real ones, and
#: the same figures of fixed margins of 1 to 3 sigma, are about those of a simulation fitted to a public log of 126
#: experiments.
WORLDS = {
    "A/A": World(share=0.0, harmful=0.0),
    "A/A, t5 noise": World(share=0.0, harmful=0.0, heavy=True),
    "K": World(),
    "G": World(overfit=1.0),
}


@dataclass
class Candidate:
    """One proposal: its runs so far are counted in the campaign that it belongs to."""

    worlds: Worlds
    effect: float
    """True improvement, positive is better."""
    overfit: tuple[float, float]
    """What it seems to gain besides on the validation and on the audit set."""
    noise: list[float]
    drawn: int = 0

    def run(self) -> float:
        """Train on the next fresh seed: the validation metric."""
        self.drawn += 1
        self.worlds.runs += 1
        return self.worlds.seen - self.effect - self.overfit[0] + self.noise[self.drawn - 1]

    def audit(self, runs: slice) -> float:
        """Mean audit metric of models already trained: the same seeds' noise, other idiosyncrasies."""
        noise = self.noise[runs]
        return self.worlds.audited - self.effect - self.overfit[1] + sum(noise) / len(noise)

    def partial(self, extra: float) -> float:
        """What the screening run's curve says of its end after 30 % of the budget; off by ``extra`` sigma."""
        return (
            self.worlds.seen
            - self.effect
            - self.overfit[0]
            + self.noise[0]
            + extra * self.noise[_RUNS]
        )


class Worlds:
    """
    One campaign: proposals in order, what they are worth, and the training runs spent.

    :ivar seen: level of the validation metric with everything kept so far; ``audited`` and ``true`` likewise.
    """

    def __init__(self, world: World, seed: int, length: int) -> None:
        rng = np.random.default_rng(seed)
        self.world = world
        self.runs = 0.0
        self.seen = self.audited = self.true = BASE
        order = np.array(
            [NormalDist().inv_cdf((j + 0.5) / world.ideas) for j in range(world.ideas)]
        )
        sizes = np.exp(world.spread * order)
        self._sizes = (sizes / sizes.sum() * world.total).tolist()
        weights = np.cumsum(sizes**world.obvious)
        pick = np.searchsorted(weights / weights[-1], rng.random(length))
        from_pool = rng.random(length) < world.share
        self._pick = np.where(from_pool, np.minimum(pick, world.ideas - 1), -1).tolist()
        harm = rng.exponential(world.harm, length) * (rng.random(length) < world.harmful)
        self._harm = harm.tolist()
        self._overfit = (world.overfit * rng.standard_normal((length, 2))).tolist()
        self._noise = self._draw(rng, (length, _RUNS + 1))
        self._own = iter(self._draw(rng, (length, 1)))
        self._kept: set[int] = set()

    def _draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> list[list[float]]:
        noise = rng.standard_normal(shape)
        if self.world.heavy:
            noise = rng.standard_t(5, shape) / (5 / 3) ** 0.5
        drawn: list[list[float]] = noise.tolist()
        return drawn

    def candidate(self, t: int) -> Candidate:
        """Proposal number ``t``."""
        pick = self._pick[t]
        effect = -self._harm[t] if pick < 0 else self._sizes[pick]
        if pick in self._kept:
            effect = 0.0
        return Candidate(self, effect, tuple(self._overfit[t]), self._noise[t])

    def incumbent_run(self) -> tuple[float, float]:
        """Train the incumbent on a fresh seed: validation and audit metric."""
        self.runs += 1
        noise = next(self._own)[0]
        return self.seen + noise, self.audited + noise

    def keep(self, t: int, candidate: Candidate) -> None:
        """Make the candidate the incumbent."""
        self.true -= candidate.effect
        self.seen -= candidate.effect + candidate.overfit[0]
        self.audited -= candidate.effect + candidate.overfit[1]
        if self._pick[t] >= 0:
            self._kept.add(self._pick[t])
