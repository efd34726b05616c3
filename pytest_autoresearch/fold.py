"""
The fold of cutover-audit's rows into a campaign's state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from .budget import Spend
from .chain import Row
from .charts import seed_gaps
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
from .state import Gap, Settled, State

__all__ = ["fold"]


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
        self.chart: list[tuple[int, float]] = []
        self.gaps: list[Gap] = []
        self.canaries: list[float] = []
        self.since_canary = 0
        self.decided = 0
        self.stopped = ""
        self.worn_out = False
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
            chart=tuple(x for _, x in self.chart),
            chart_seqs=tuple(seq for seq, _ in self.chart),
            gaps=tuple(self.gaps),
            canaries=tuple(self.canaries),
            since_canary=self.since_canary,
            decided=self.decided,
            stopped=self.stopped,
            worn_out=self.worn_out,
            settled=tuple(self.settled),
            judged_from=self.judged_from,
        )

    def step(self, row: Row, cutover: Cutover) -> None:
        self.row = row
        payload = cutover.payload
        done = cutover.resolution != "rolled-back"
        self.stopped = payload.message if isinstance(payload, Stop) else ""
        if isinstance(payload, Stop):
            return
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
        self._fresh_charts()
        gaps = seed_gaps([(run.metric, run.audit) for run in payload.runs])
        self.gaps = [Gap(len(self.settled), gap, kept=False) for gap in gaps]
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
                reference=payload.after,
            )
        )

    def _fresh_charts(self) -> None:
        """A new reference: nothing that was measured before it can be compared."""
        self.chart, self.gaps, self.canaries, self.since_canary = [], [], [], 0

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
            self.incumbent = _incumbent(commit, digest, payload.after)
        if kept:
            self.surface = MappingProxyType(payload.surface)
        if done and cutover.action == "rollback" and payload.alarm is not None:
            self._quarantine(payload.alarm, payload.after)
        if done and payload.canary is not None and payload.canary.alarm:
            # The reference is of another machine, so to say: the next session measures it anew.
            unmeasured = Reference(mean=None, sigma=None, n=0)
            self.incumbent = _incumbent(commit, incumbent.digest, unmeasured)
            self._fresh_charts()

    def _chart(self, payload: Verdict, *, kept: bool, done: bool) -> None:
        """Add what the experiment says to the charts; an alarm, whatever came of it, empties its own."""
        seq = self.settled[-1].seq
        if payload.chart is not None:
            self.decided += 1
            self.since_canary += 1
            self.chart.append(
                (seq, payload.chart.x if done else 0.0)
            )  # undone: it improved nothing
        if payload.gap is not None:
            self.gaps.append(Gap(seq, payload.gap, kept))
        if payload.canary is not None:
            self.since_canary = 0
            self.canaries.append(payload.canary.residual)
        if payload.chart is not None and payload.chart.alarm:
            self.chart = []
        if payload.alarm is not None and payload.alarm.chart == "gap":
            # The sum starts afresh; what an honest gap looks like stays learned.
            culprit = payload.alarm.culprit
            self.worn_out = self.worn_out or culprit is not None
            honest = [gap for gap in self.gaps if culprit is None or gap.seq < culprit]
            self.gaps = [replace(gap, kept=False) for gap in honest]

    def _quarantine(self, alarm: Alarm, reference: Reference) -> None:
        """Go back to the restore point; the suspects behind it were kept and are no more."""
        restored = self.settled[alarm.restore_seq]
        self.incumbent = _incumbent(restored.commit, restored.candidate, reference)
        self.surface = restored.surface
        *before, _ = alarm.suspects  # the candidate has its own row
        out = [seq for seq in before if alarm.culprit is not None and seq >= alarm.culprit]
        # What they improved was taken back.
        self.chart = [(seq, 0.0 if seq in out else x) for seq, x in self.chart]
        for seq in out:
            past = self.settled[seq]
            message = f"an alarm at mutation {self.settled[-1].seq} was traced back to mutation {alarm.culprit}"
            self.settled[seq] = replace(
                past,
                status="quarantine",
                decision=Decision.REVERT,
                reasons=(Reason(code="quarantine", message=message), *past.reasons),
            )

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

    def _restore(self, payload: Restore) -> None:
        """Provenance was broken: later keeps are no more, and the reference has to be measured anew."""
        unmeasured = Reference(mean=None, sigma=None, n=0)
        self.incumbent = _incumbent(payload.commit, payload.candidate, unmeasured)
        self.surface = MappingProxyType(payload.surface)
        self.ratified = (payload.ratified, payload.tree)
        self.data_sha256 = payload.data_sha256
        self.gates = payload.pinned
        self._fresh_charts()
        self.judged_from = len(self.settled)
        self._spend(Domain.HYPOTHESIS, payload.cost, "rows that were given up")
        reason = Reason(code="blocked", message=payload.reason)
        for past in self.settled[payload.restore_seq + 1 :]:
            if past.kind == "verdict" and past.decision is Decision.KEEP:
                self.settled[past.seq] = replace(
                    past,
                    status="quarantine",
                    decision=Decision.REVERT,
                    reasons=(reason, *past.reasons),
                )

    def _spend(self, domain: Domain, cost: int, description: str) -> None:
        if cost:
            self.spent += cost
            left = max(0, self.budget - self.spent)
            when = datetime.fromisoformat(self.row.time).timestamp()
            self.spends.append(Spend(domain, cost, left, description, when))


def _incumbent(commit: str, digest: str, reference: Reference) -> Incumbent:
    return Incumbent(
        commit,
        digest,
        reference.mean,
        reference.sigma,
        reference.n,
        reference.df,
        reference.audit,
        reference.losses_sha256,
    )


def _peak(runs: tuple[Run, ...]) -> float | None:
    return max((run.peak_memory_mb for run in runs), default=None)
