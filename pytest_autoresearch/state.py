"""
The state of a campaign: what :mod:`.fold` makes of cutover-audit. Nothing counts that the rows do not say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from .budget import Spend
from .records import Decision, Domain, Incumbent, Trial
from .rows import Reason, Reference

__all__ = ["Gap", "Settled", "State"]


@dataclass(frozen=True)
class Settled:
    """One thing that a session came to; the baseline is the first."""

    seq: int
    """Position in the campaign; 0 is the baseline."""
    row: int
    """Number of its row in cutover-audit."""
    kind: Literal["baseline", "verdict", "halt", "lost"]
    candidate: str
    """Digest of the surface."""
    description: str
    status: str
    """The word in results.tsv; ``halt`` and ``lost`` besides."""
    reasons: tuple[Reason, ...]
    commit: str
    """The commit that holds it when it was kept, else the incumbent's at that time."""
    fingerprint: str = ""
    surface: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Surface path to git blob id; ``Repository.read_blobs`` reads the bytes."""
    domain: Domain | None = None
    cost: int = 0
    decision: Decision | None = None
    metric: float | None = None
    """Of a keep the mean of its confirming runs, else the screening run's."""
    memory_mb: float | None = None
    """Peak of its runs; None when nothing ran."""
    reference: Reference | None = field(default=None, repr=False)
    """Of a keep or a baseline: the incumbent's reference when it was made."""

    @property
    def reason(self) -> str:
        """The most important ground, in words."""
        return self.reasons[0].message if self.reasons else ""


@dataclass(frozen=True)
class Gap:
    """One input of the audit-gap chart."""

    seq: int
    value: float
    kept: bool


@dataclass(frozen=True)
class State:
    """Where a campaign stands; ``State()`` before its baseline."""

    seq: int = -1
    """Number of the last row of cutover-audit that is folded in."""
    tag: str = ""
    branch: str = ""
    incumbent: Incumbent | None = None
    surface: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The incumbent's surface: path to git blob id."""
    ratified_commit: str = ""
    ratified_tree: str = ""
    data_sha256: str = ""
    budget: int = 0
    """Units of the campaign."""
    spent: int = 0
    spends: tuple[Spend, ...] = field(default=(), repr=False)
    """Input of ``MutationBudget.replay``."""
    gates: tuple[str, ...] = field(default=(), repr=False)
    """Node ids of the pinned gates, all of which a keep owes."""
    chart: tuple[float, ...] = field(default=(), repr=False)
    """Inputs of the progress chart since its last alarm."""
    chart_seqs: tuple[int, ...] = field(default=(), repr=False)
    """Position of each of them."""
    gaps: tuple[Gap, ...] = field(default=(), repr=False)
    """Inputs of the audit-gap chart since its last alarm."""
    canaries: tuple[float, ...] = field(default=(), repr=False)
    """Inputs of the canary chart since its last alarm."""
    since_canary: int = 0
    """Proposals measured since the incumbent was last run."""
    decided: int = 0
    """Proposals that were measured."""
    worn_out: bool = False
    """Whether the audit-gap chart has found changes that only the validation split believes in."""
    stopped: str = ""
    """Why the last loop of rounds ended, if nothing was judged since."""
    settled: tuple[Settled, ...] = field(default=(), repr=False)
    """Everything that sessions came to, oldest first."""
    judged_from: int = 0
    """Index in ``settled`` from which on the harness and the data are those of today."""

    @property
    def remaining(self) -> int:
        """Units of the mutation budget that are left."""
        return max(0, self.budget - self.spent)

    @property
    def next_seq(self) -> int:
        """Position that the next settled thing will have."""
        return len(self.settled)

    def trials(
        self, read_blobs: Callable[[Iterable[str]], Mapping[str, bytes]]
    ) -> tuple[Trial, ...]:
        """
        The baseline and every proposal with its bytes, oldest first.

        :param read_blobs: ``Repository.read_blobs``; called once.
        """
        rows = [row for row in self.settled if row.surface]
        contents = read_blobs({oid for row in rows for oid in row.surface.values()})
        return tuple(
            Trial(
                seq=row.seq,
                files=MappingProxyType({path: contents[oid] for path, oid in row.surface.items()}),
                description=row.description,
                status=row.status,
                metric=row.metric,
            )
            for row in rows
        )
