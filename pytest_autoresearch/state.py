"""
The state of a campaign: what :mod:`.fold` makes of cutover-audit. Nothing counts that the rows do not say.

What grows with the campaign is a sequence that is read when somebody looks at it, see :mod:`.series`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal, Protocol, cast

from .budget import Spend
from .records import Decision, Domain, Incumbent, Trial
from .rows import Reason, Reference
from .series import Series, Stored

__all__ = [
    "Gap",
    "Settled",
    "Settlements",
    "State",
    "StoredSettlements",
    "differences",
    "incumbent_of",
]


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


def incumbent_of(commit: str, digest: str, reference: Reference) -> Incumbent:
    """The incumbent in a commit, with what a row says of its figures."""
    return Incumbent(
        commit,
        digest,
        reference.mean,
        reference.sigma,
        reference.n,
        reference.df,
        reference.audit,
        reference.losses_sha256,
        reference.predictions_sha256,
    )


class StoredSettlements(Stored[Settled], Protocol):
    """Where the beginning of what is settled lies, with what is looked up in it."""

    def marked(self, mark: str, start: int, stop: int) -> Iterable[int]:
        """Numbers of those with this fingerprint, ascending."""

    def kept(self, start: int, stop: int) -> Iterable[int]:
        """Numbers of those that were kept when they were settled, ascending."""


class Settlements(Series[Settled]):
    """Everything that sessions came to; a position in the campaign is an index here."""

    def kept_since(self, seq: int) -> Iterator[Settled]:
        """The states from a position on that stand as kept, oldest first."""
        for row in map(self.__getitem__, self.kept(seq, len(self))):
            if row.decision is Decision.KEEP and row.surface:
                yield row

    def marked_since(self, mark: str, seq: int) -> Iterator[Settled]:
        """Those from a position on with this fingerprint, oldest first."""
        return map(self.__getitem__, self.marked(mark, seq, len(self)))

    def kept(self, start: int, stop: int) -> Iterator[int]:
        """As :meth:`StoredSettlements.kept`; what was taken back since may be among them."""
        if (stored := self._looked_up()) is not None:
            yield from stored.kept(start, min(stop, self._split))
        for row in self.read(max(start, self._split), stop):
            if row.decision is Decision.KEEP:
                yield row.seq

    def marked(self, mark: str, start: int, stop: int) -> Iterator[int]:
        """As :meth:`StoredSettlements.marked`."""
        if (stored := self._looked_up()) is not None:
            yield from stored.marked(mark, start, min(stop, self._split))
        for row in self.read(max(start, self._split), stop):
            if row.fingerprint == mark:
                yield row.seq

    def _looked_up(self) -> StoredSettlements | None:
        return cast("StoredSettlements | None", self._stored)


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
    spends: Sequence[Spend] = field(default=(), repr=False)
    """Input of ``MutationBudget.replay``."""
    gates: tuple[str, ...] = field(default=(), repr=False)
    """Node ids of the pinned gates, all of which a keep owes."""
    chart: Sequence[float] = field(default=(), repr=False)
    """Inputs of the progress chart since its last alarm."""
    chart_seqs: Sequence[int] = field(default=(), repr=False)
    """Position of each of them."""
    gaps: Sequence[Gap] = field(default=(), repr=False)
    """Inputs of the audit-gap chart since its last alarm."""
    canaries: Sequence[float] = field(default=(), repr=False)
    """Inputs of the canary chart since its last alarm."""
    since_canary: int = 0
    """Proposals measured since the incumbent was last run."""
    decided: int = 0
    """Proposals that were measured."""
    worn_out: bool = False
    """Whether the audit-gap chart has found changes that only the validation split believes in."""
    stopped: str = ""
    """Why the last loop of rounds ended, if nothing was judged since."""
    settled: Settlements = field(default_factory=Settlements, repr=False)
    """Everything that sessions came to, oldest first; read when it is looked at."""
    revised: int = 0
    """How many of them were revised: kept, and taken back later."""
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


def differences(one: State, other: State, mark: str) -> str:
    """
    In what two states differ, by name; empty if in nothing.

    :param mark: fingerprint of the candidate that is looked up in them.
    """
    found = [
        each.name for each in fields(State) if getattr(one, each.name) != getattr(other, each.name)
    ]
    ours, theirs = (
        (
            [row.seq for row in state.settled.marked_since(mark, state.judged_from)],
            [row.seq for row in state.settled.kept_since(state.judged_from)],
        )
        for state in (one, other)
    )
    return ", ".join(found) or ("what is looked up" if ours != theirs else "")
