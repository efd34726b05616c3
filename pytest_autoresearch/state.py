"""
The state of a campaign as a fold over cutover-audit: nothing counts that the rows do not say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from .budget import Spend
from .chain import Row
from .records import Decision, Domain, Incumbent, Trial
from .rows import Baseline, Cutover, Halt, Lost, Ratify, Reason, Reference, Run, Verdict

__all__ = ["Settled", "State", "fold"]


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

    @property
    def reason(self) -> str:
        """The most important ground, in words."""
        return self.reasons[0].message if self.reasons else ""


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
    """Inputs of the control chart since its last alarm."""
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


def fold(rows: Iterable[tuple[Row, Cutover]]) -> State:
    """
    The state after the rows of cutover-audit, in order.

    :raises ValueError: for a row that cannot stand where it does.
    """
    campaign = _Campaign()
    for row, cutover in rows:
        campaign.step(row, cutover)
    return campaign.state()


class _Campaign:
    """Accumulates in lists, so that a long campaign folds in linear time."""

    def __init__(self) -> None:
        self.row = Row(-1, "", "", b"", "", "")
        self.tag = self.branch = ""
        self.incumbent: Incumbent | None = None
        self.surface: Mapping[str, str] = MappingProxyType({})
        self.ratified = ("", "")
        self.data_sha256 = ""
        self.budget = 0
        self.spent = 0
        self.spends: list[Spend] = []
        self.gates: tuple[str, ...] = ()
        self.chart: list[float] = []
        self.settled: list[Settled] = []
        self.judged_from = 0

    def state(self) -> State:
        return State(
            seq=self.row.seq,
            tag=self.tag,
            branch=self.branch,
            incumbent=self.incumbent,
            surface=self.surface,
            ratified_commit=self.ratified[0],
            ratified_tree=self.ratified[1],
            data_sha256=self.data_sha256,
            budget=self.budget,
            spent=self.spent,
            spends=tuple(self.spends),
            gates=self.gates,
            chart=tuple(self.chart),
            settled=tuple(self.settled),
            judged_from=self.judged_from,
        )

    def step(self, row: Row, cutover: Cutover) -> None:
        self.row = row
        payload = cutover.payload
        done = cutover.resolution != "rolled-back"
        if isinstance(payload, Halt):
            self._halt(payload)
        elif isinstance(payload, Lost):
            self._lost(payload)
        elif isinstance(payload, Baseline):
            if done:
                self._baseline(payload)
        elif self.incumbent is None:
            raise ValueError(f"row {row.seq} is a {cutover.action} before any baseline")
        elif isinstance(payload, Verdict):
            self._verdict(self.incumbent, payload, cutover)
        elif done:
            self._ratify(payload)

    def _halt(self, payload: Halt) -> None:
        self.settled.append(
            Settled(
                seq=len(self.settled),
                row=self.row.seq,
                kind="halt",
                candidate=payload.candidate,
                description=payload.description,
                status="halt",
                reasons=payload.reasons,
                commit=payload.commit_before,
            )
        )

    def _lost(self, payload: Lost) -> None:
        if payload.domain is not None:
            self._spend(payload.domain, payload.cost, payload.reason)
        self.settled.append(
            Settled(
                seq=len(self.settled),
                row=self.row.seq,
                kind="lost",
                candidate="",
                description="",
                status="lost",
                reasons=(Reason(code="lost", message=payload.reason),),
                commit=self.incumbent.commit if self.incumbent else "",
                domain=payload.domain,
                cost=payload.cost,
            )
        )

    def _baseline(self, payload: Baseline) -> None:
        """A later baseline of the campaign renews the reference; what is spent stays spent."""
        # A first session that measured nothing ratified nothing: its harness may still be mended.
        if payload.after.mean is not None and not self.ratified[0]:
            self.ratified = (payload.commit, payload.tree)
        self.tag, self.branch = payload.tag, payload.branch
        self.incumbent = _incumbent(payload.commit, payload.candidate, payload.after)
        self.surface = MappingProxyType(payload.surface)
        self.data_sha256 = payload.data_sha256
        self.budget = payload.budget
        self.gates = payload.pinned
        self.chart = []
        self.judged_from = len(self.settled)
        self.settled.append(
            Settled(
                seq=len(self.settled),
                row=self.row.seq,
                kind="baseline",
                candidate=payload.candidate,
                description=payload.description,
                status=payload.status,
                reasons=payload.reasons,
                commit=payload.commit,
                fingerprint=payload.fingerprint,
                surface=self.surface,
                decision=Decision.KEEP,
                metric=payload.after.mean,
                memory_mb=_peak(payload.runs),
            )
        )

    def _verdict(self, incumbent: Incumbent, payload: Verdict, cutover: Cutover) -> None:
        done = cutover.resolution != "rolled-back"
        kept = done and payload.decision is Decision.KEEP
        commit = cutover.result if kept else incumbent.commit
        reasons = payload.reasons
        if not done:
            message = f"the {cutover.action} failed and was undone: {cutover.failure}"
            reasons = (Reason(code="rolled-back", message=message), *reasons)
        self.settled.append(
            Settled(
                seq=len(self.settled),
                row=self.row.seq,
                kind="verdict",
                candidate=payload.candidate,
                description=payload.description,
                status=payload.status if done else "escalate",
                reasons=reasons,
                commit=commit,
                fingerprint=payload.fingerprint,
                surface=MappingProxyType(payload.surface),
                domain=payload.domain,
                cost=payload.cost,
                decision=payload.decision if done else Decision.ESCALATE,
                # A kept run was selected for being good; the runs that confirmed it were not.
                metric=payload.after.mean if kept else payload.metric,
                memory_mb=_peak(payload.runs),
            )
        )
        self._spend(payload.domain, payload.cost, payload.description)
        if payload.chart is not None and payload.chart.alarm:
            self.chart = []
        elif payload.chart is not None:
            self.chart.append(payload.chart.x if done else 0.0)  # undone: it improved nothing
        if done:
            digest = payload.candidate if kept else incumbent.digest
            self.incumbent = _incumbent(commit, digest, payload.after)
        if kept:
            self.surface = MappingProxyType(payload.surface)

    def _ratify(self, payload: Ratify) -> None:
        # A harness that changed may measure otherwise: the next session measures the reference anew.
        unmeasured = Reference(mean=None, sigma=None, n=0)
        self.incumbent = _incumbent(payload.commit, payload.candidate, unmeasured)
        self.surface = MappingProxyType(payload.surface)
        self.ratified = (payload.commit, payload.tree)
        self.data_sha256 = payload.data_sha256
        self.gates = payload.pinned
        self.judged_from = len(self.settled)
        self.budget = self.budget if payload.budget is None else payload.budget

    def _spend(self, domain: Domain, cost: int, description: str) -> None:
        if cost:
            self.spent += cost
            left = max(0, self.budget - self.spent)
            when = datetime.fromisoformat(self.row.time).timestamp()
            self.spends.append(Spend(domain, cost, left, description, when))


def _incumbent(commit: str, digest: str, reference: Reference) -> Incumbent:
    return Incumbent(commit, digest, reference.mean, reference.sigma, reference.n, reference.df)


def _peak(runs: tuple[Run, ...]) -> float | None:
    return max((run.peak_memory_mb for run in runs), default=None)
