"""
The fold of cutover-audit's rows into a campaign's state.

A :class:`Fold` can be set down between two rows and taken up again: :attr:`Fold.at` is small, the sequences that grow
lie in a store (:mod:`.store`) up to some element.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from . import __version__
from .budget import Spend
from .chain import Row
from .charts import seed_gaps
from .ledger import START, Place
from .records import Decision, Domain, Incumbent
from .rows import (
    Alarm,
    Baseline,
    Cutover,
    Halt,
    Lost,
    Ratify,
    Reason,
    Reference,
    Restore,
    Run,
    Stop,
    Verdict,
)
from .series import Growing, Mapped
from .state import Gap, Settled, Settlements, State, incumbent_of

if TYPE_CHECKING:
    from .statefile import StateFile

__all__ = ["PROGRAM", "Fold", "Standing", "fold"]

PROGRAM = f"{__version__} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"
"""Which program folds: what another one made of the rows is not taken up."""

_UNMEASURED = Reference(mean=None, sigma=None, n=0)
"""Of an incumbent that the next session measures anew."""


def fold(rows: Iterable[tuple[Row, Cutover]]) -> State:
    """
    The state after the rows of cutover-audit, in order.

    :raises ValueError: for a row that cannot stand where it does.
    """
    folded = Fold()
    for row, cutover in rows:
        folded.step(row, cutover)
    return folded.state()


class Standing(msgspec.Struct):
    """All of a state that does not grow, as :class:`.state.State` has it."""

    seq: int = -1
    tag: str = ""
    branch: str = ""
    incumbent: Incumbent | None = None
    surface: dict[str, str] = {}
    ratified_commit: str = ""
    ratified_tree: str = ""
    data_sha256: str = ""
    budget: int = 0
    spent: int = 0
    gates: tuple[str, ...] = ()
    since_canary: int = 0
    decided: int = 0
    worn_out: bool = False
    stopped: str = ""
    revised: int = 0
    judged_from: int = 0


class Fold:
    """What the rows so far come to, and the place of the last of them."""

    def __init__(self) -> None:
        self.at = Standing()
        self.place: Place = START
        self.file: StateFile | None = None
        """Where the sequences begin; None: all is in memory."""
        self.unsaved = 0
        """Rows that were folded in since."""
        self.settled: Growing[Settled] = Growing()
        self.spends: Growing[Spend] = Growing()
        self.chart: Growing[tuple[int, float]] = Growing()
        """Position and input."""
        self.gaps: Growing[Gap] = Growing()
        self.canaries: Growing[float] = Growing()

    def state(self) -> State:
        chart = self.chart.view()
        standing = {name: getattr(self.at, name) for name in self.at.__struct_fields__}
        return State(
            **{**standing, "surface": MappingProxyType(self.at.surface)},
            spends=self.spends.view(),
            chart=Mapped(_x, chart),
            chart_seqs=Mapped(_seq, chart),
            gaps=self.gaps.view(),
            canaries=self.canaries.view(),
            settled=self.settled.view_as(Settlements),
        )

    def step(self, row: Row, cutover: Cutover) -> None:
        """
        Take one row in.

        :raises ValueError: it cannot stand there; nothing more can be folded.
        """
        self.row = row
        self.at.seq = row.seq
        self.unsaved += 1
        payload = cutover.payload
        done = cutover.resolution != "rolled-back"
        self.at.stopped = payload.message if isinstance(payload, Stop) else ""
        if isinstance(payload, Stop):
            return
        if isinstance(payload, Halt):
            self._halt(payload)
        elif isinstance(payload, Lost):
            self._lost(payload)
        elif isinstance(payload, Baseline):
            if done:
                self._baseline(payload)
        elif self.at.incumbent is None:
            raise ValueError(f"row {row.seq} is a {cutover.action} before any baseline")
        elif isinstance(payload, Verdict):
            self._verdict(self.at.incumbent, payload, cutover)
        elif done and isinstance(payload, Restore):
            self._restore(payload)
        elif done and isinstance(payload, Ratify):
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
                commit=self.at.incumbent.commit if self.at.incumbent else "",
                domain=payload.domain,
                cost=payload.cost,
            )
        )

    def _baseline(self, payload: Baseline) -> None:
        """A later baseline of the campaign renews the reference; what is spent stays spent."""
        # A first session that measured nothing ratified nothing: its harness may still be mended.
        at = self.at
        if payload.after.mean is not None and not at.ratified_commit:
            at.ratified_commit, at.ratified_tree = payload.commit, payload.tree
        at.tag, at.branch = payload.tag, payload.branch
        at.budget = payload.budget
        self._stand(payload, payload.after)
        self._fresh_charts()
        gaps = seed_gaps([(run.metric, run.audit) for run in payload.runs])
        self.gaps.restart([Gap(len(self.settled), gap, kept=False) for gap in gaps])
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
                surface=MappingProxyType(payload.surface),
                decision=Decision.KEEP,
                metric=payload.after.mean,
                memory_mb=_peak(payload.runs),
                reference=payload.after,
            )
        )

    def _fresh_charts(self) -> None:
        """A new reference: nothing that was measured before it can be compared."""
        for chart in (self.chart, self.gaps, self.canaries):
            chart.restart()
        self.at.since_canary = 0

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
                reference=payload.after if kept else None,
            )
        )
        self._spend(payload.domain, payload.cost, payload.description)
        self._chart(payload, kept=kept, done=done)
        if done:
            digest = payload.candidate if kept else incumbent.digest
            self.at.incumbent = incumbent_of(commit, digest, payload.after)
        if kept:
            self.at.surface = payload.surface
        if done and cutover.action == "rollback" and payload.alarm is not None:
            self._quarantine(payload.alarm, payload.after)
        if done and payload.canary is not None and payload.canary.alarm:
            # The reference is of another machine, so to say: the next session measures it anew.
            self.at.incumbent = incumbent_of(commit, incumbent.digest, _UNMEASURED)
            self._fresh_charts()

    def _chart(self, payload: Verdict, *, kept: bool, done: bool) -> None:
        """Add what the experiment says to the charts; an alarm, whatever came of it, empties its own."""
        seq = len(self.settled) - 1
        if payload.chart is not None:
            self.at.decided += 1
            self.at.since_canary += 1
            # Undone, it improved nothing.
            self.chart.append((seq, payload.chart.x if done else 0.0))
        if payload.gap is not None:
            self.gaps.append(Gap(seq, payload.gap, kept))
        if payload.canary is not None:
            self.at.since_canary = 0
            self.canaries.append(payload.canary.residual)
        if payload.chart is not None and payload.chart.alarm:
            self.chart.restart()
        if payload.alarm is not None and payload.alarm.chart == "gap":
            # The sum starts afresh; what an honest gap looks like stays learned.
            culprit = payload.alarm.culprit
            self.at.worn_out = self.at.worn_out or culprit is not None
            honest = [gap for gap in self.gaps.view() if culprit is None or gap.seq < culprit]
            self.gaps.restart([replace(gap, kept=False) for gap in honest])

    def _quarantine(self, alarm: Alarm, reference: Reference) -> None:
        """Go back to the restore point; the suspects behind it were kept and are no more."""
        restored = self.settled.view()[alarm.restore_seq]
        self.at.incumbent = incumbent_of(restored.commit, restored.candidate, reference)
        self.at.surface = dict(restored.surface)
        *before, _ = alarm.suspects  # the candidate has its own row
        out = [seq for seq in before if alarm.culprit is not None and seq >= alarm.culprit]
        # What they improved was taken back.
        chart = self.chart.view()
        self.chart.replace({n: (seq, 0.0) for n, (seq, _) in enumerate(chart) if seq in out})
        message = f"an alarm at mutation {len(self.settled) - 1} was traced back to mutation {alarm.culprit}"
        self._take_back(out, Reason(code="quarantine", message=message))

    def _take_back(self, seqs: Iterable[int], reason: Reason) -> None:
        """What was kept at these positions is no more."""
        settled = self.settled.view_as(Settlements)
        taken = {
            seq: replace(
                settled[seq],
                status="quarantine",
                decision=Decision.REVERT,
                reasons=(reason, *settled[seq].reasons),
            )
            for seq in seqs
        }
        self.settled.replace(taken)
        self.at.revised += len(taken)

    def _ratify(self, payload: Ratify) -> None:
        # A harness that changed may measure otherwise: the next session measures the reference anew.
        self._stand(payload, _UNMEASURED)
        self.at.ratified_commit, self.at.ratified_tree = payload.commit, payload.tree
        if payload.budget is not None:
            self.at.budget = payload.budget

    def _restore(self, payload: Restore) -> None:
        """Provenance was broken: later keeps are no more, and the reference has to be measured anew."""
        self._stand(payload, _UNMEASURED)
        self.at.ratified_commit, self.at.ratified_tree = payload.ratified, payload.tree
        self._fresh_charts()
        self._spend(Domain.HYPOTHESIS, payload.cost, "rows that were given up")
        settled = self.settled.view_as(Settlements)
        later = [
            row.seq for row in settled.kept_since(payload.restore_seq + 1) if row.kind == "verdict"
        ]
        self._take_back(later, Reason(code="blocked", message=payload.reason))

    def _stand(self, payload: Baseline | Ratify | Restore, reference: Reference) -> None:
        """Stand on a commit under its harness; what was judged before was judged otherwise."""
        at = self.at
        at.incumbent = incumbent_of(payload.commit, payload.candidate, reference)
        at.surface = payload.surface
        at.data_sha256 = payload.data_sha256
        at.gates = payload.pinned
        at.judged_from = len(self.settled)

    def _spend(self, domain: Domain, cost: int, description: str) -> None:
        if cost:
            self.at.spent += cost
            left = max(0, self.at.budget - self.at.spent)
            when = datetime.fromisoformat(self.row.time).timestamp()
            self.spends.append(Spend(domain, cost, left, description, when))


def _seq(point: tuple[int, float]) -> int:
    return point[0]


def _x(point: tuple[int, float]) -> float:
    return point[1]


def _peak(runs: tuple[Run, ...]) -> float | None:
    return max((run.peak_memory_mb for run in runs), default=None)
