"""
From a verdict to a settled state: the intent on disk, the hook's action, the record, the reports.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .chain import LedgerError
from .journal import JournalError
from .journal import Settlement as Transaction
from .ledger import sync_file
from .paperwork import (
    baseline_payload,
    cutover_message,
    halt_payload,
    now,
    ratify_payload,
    settled_payload,
    stop_payload,
)
from .records import Candidate, Decision, Event, Evidence, Verdict
from .recovery import restore_point
from .reports import extend_results
from .rows import Intent, Payload
from .vcs import RepositoryError
from .verdicts import failed_verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from .campaign import Campaign
    from .rows import Action
    from .session import AutoresearchSession

__all__ = ["Settlement", "record_halt", "record_ratification", "record_stop", "settle"]


@dataclass(frozen=True)
class Settlement:
    """What a session came to."""

    verdict: Verdict
    headline: str
    """One sentence for the terminal."""
    metric: float | None
    """The screening run's metric."""
    cost: int
    """Units charged by this session."""
    remaining: int
    """Units left after it."""
    commit: str
    """The incumbent's commit after it."""


def settle(session: AutoresearchSession, evidence: Evidence, verdict: Verdict) -> Settlement:
    """
    Carry a verdict out, or, in a dry run, say what would become of the candidate.

    Nothing here raises for a keep or revert that fails: the state before is put back, the failure is
    journalled, and the verdict becomes an escalation with status 12.
    """
    campaign, experiment = session.campaign, session.experiment
    remaining = experiment.budget.remaining
    if session.dry_run:
        cost = evidence.mutation.cost
        return _settlement(session, evidence, verdict, cost, remaining - cost)
    clerk = _Clerk(session)
    try:
        own_baseline = verdict.reasons[0].code == "baseline"
        if verdict.decision is Decision.KEEP:
            _sync_artifact(session)
        if not campaign.started or own_baseline or experiment.baseline:
            clerk.start_campaign(evidence, verdict)
        if not own_baseline:
            campaign.drop_foreign_commits()
            verdict = clerk.settle(evidence, verdict)
        first = verdict.reasons[0]
        if first.code == "harness-touched":
            record_halt(campaign, first.message, evidence.candidate)
        extend_results(campaign)
        _discard_artifacts(session, kept=verdict.decision is Decision.KEEP)
    except (JournalError, LedgerError, RepositoryError, OSError) as error:
        experiment.notes.append(f"the verdict could not be recorded: {error}")
        verdict = failed_verdict(verdict, str(error))
    clerk.announce(verdict)
    spent = remaining - campaign.budget.remaining
    return _settlement(session, evidence, verdict, spent, campaign.budget.remaining)


def _sync_artifact(session: AutoresearchSession) -> None:
    """Before a row names the model of a keep by its hash, it is on the disk."""
    for measured in session.experiment.runs[:1]:
        if measured.run.artifact is not None:
            sync_file(measured.run.artifact)


def _discard_artifacts(session: AutoresearchSession, *, kept: bool) -> None:
    """Of all runs of a session only the model of a keep stays: hundreds of rounds must fit on a disk."""
    experiment = session.experiment
    for measured in [*experiment.runs[1 if kept else 0 :], *experiment.baseline]:
        if measured.run.artifact is not None:
            measured.run.artifact.unlink(missing_ok=True)


def record_halt(campaign: Campaign, message: str, candidate: Candidate | None = None) -> None:
    """Put a halt on the record; the state stays as it is."""
    _record(campaign, "halt", halt_payload(campaign, message, candidate))


def _record(campaign: Campaign, action: Action, payload: Payload) -> None:
    """Write a row that changes nothing in git."""
    tip = campaign.repository.head_commit()
    intent = Intent(
        action=action,
        branch=campaign.branch,
        tip=tip,
        tree=campaign.repository.tree_of(tip),
        surface=dict(campaign.state.surface),
        pin="",
    )
    campaign.journal.transact(intent, payload, lambda *_: "", campaign.undo)
    campaign.reload()


def record_stop(campaign: Campaign, code: str, message: str, rounds: int, seconds: float) -> None:
    """Put on the record why a loop of rounds ended: its last row."""
    with campaign.locked():
        _record(campaign, "stop", stop_payload(campaign, code, message, rounds, seconds))


def record_ratification(campaign: Campaign, *, actor: str, reason: str) -> None:
    """Pin the campaign's present harness on the record, by a person's authority."""
    commit = campaign.ratified_commit
    repository = campaign.repository
    campaign.recover()
    before = campaign.incumbent.commit
    pin = restore_point(campaign.tag, commit)
    repository.pin(pin, commit)
    intent = Intent(
        action="ratify",
        branch=campaign.branch,
        tip=before,
        tree=repository.tree_of(before),
        surface=dict(campaign.state.surface),
        pin=pin,
    )
    payload = ratify_payload(campaign, actor=actor, reason=reason)
    campaign.journal.transact(intent, payload, lambda *_: commit, campaign.undo)
    campaign.reload()


def _settlement(
    session: AutoresearchSession, evidence: Evidence, verdict: Verdict, cost: int, remaining: int
) -> Settlement:
    campaign = session.campaign
    description = evidence.mutation.description
    headline = description
    if evidence.mutation.identical:
        headline = "the incumbent as it is"
    if verdict.reasons[0].code == "baseline":
        headline = f"the baseline of campaign {campaign.tag!r}"
    if verdict.decision is Decision.ESCALATE:
        headline += ": a person must look"
    return Settlement(
        verdict, headline, evidence.metric, cost, remaining, campaign.incumbent.commit
    )


class _Clerk:
    """Writes the transactions of one session."""

    def __init__(self, session: AutoresearchSession) -> None:
        self.session = session
        self.campaign = session.campaign
        self.hook = session.config.hook
        self.events: list[Event] = []

    def start_campaign(self, evidence: Evidence, verdict: Verdict) -> None:
        """The first row, or a renewed reference: run 0 on the incumbent's surface."""
        campaign = self.campaign
        payload = baseline_payload(self.session, evidence, verdict)

        def act(intent: Intent, _: Payload) -> str:
            if campaign.repository.branch() != campaign.branch:
                campaign.repository.create_branch_here(campaign.branch)
            return payload.commit

        self._transact("baseline", payload, act)

    def settle(self, evidence: Evidence, verdict: Verdict) -> Verdict:
        """Keep, or put the incumbent back; the verdict that holds afterwards."""
        campaign, candidate = self.campaign, evidence.candidate
        payload = settled_payload(self.session, evidence, verdict)
        if verdict.decision is Decision.KEEP:
            commit = campaign.repository.prepare_commit(
                candidate.files,
                parent=campaign.incumbent.commit,
                message=cutover_message(self.session, evidence, verdict),
                when=int(time.time()),
            )

            def keep(intent: Intent, _: Payload) -> str:
                kept = self.hook.pytest_autoresearch_keep(
                    config=self.session.config, candidate=candidate, commit=commit
                )
                return _same("keep", commit, kept)

            done = self._transact("keep", payload, keep, target=commit)
        elif (target := _restore_target(campaign, verdict)) is not None:
            # The suspects were published: the branch goes back behind them in the same transaction.
            def roll_back(intent: Intent, _: Payload) -> str:
                return campaign.publish(intent.target)

            done = self._transact("rollback", payload, roll_back, target=target)
        else:
            before = campaign.incumbent.commit

            def revert(intent: Intent, _: Payload) -> str:
                back = self.hook.pytest_autoresearch_revert(
                    config=self.session.config, candidate=candidate
                )
                return _same("revert", before, back)

            action: Action = "escalate" if verdict.decision is Decision.ESCALATE else "revert"
            done = self._transact(action, payload, revert)
        if done.cutover.resolution == "rolled-back":
            return failed_verdict(verdict, f"{done.cutover.action} failed: {done.cutover.failure}")
        return verdict

    def announce(self, verdict: Verdict) -> None:
        """Tell the hooks what was written, and call for a person where one is needed."""
        for event in self.events:
            self.session.call_quietly("record", event=event)
        if verdict.decision is Decision.ESCALATE or verdict.alarm is not None:
            self.session.call_quietly("escalate", verdict=verdict)

    def _transact(
        self,
        action: Action,
        payload: Payload,
        act: Callable[[Intent, Payload], str],
        *,
        target: str = "",
    ) -> Transaction:
        campaign, repository = self.campaign, self.campaign.repository
        tip = repository.head_commit()
        pin = restore_point(campaign.tag, tip)
        repository.pin(pin, tip)
        entries = repository.surface_entries(campaign.incumbent.commit, campaign.settings.surface)
        intent = Intent(
            action=action,
            branch=campaign.branch,
            tip=tip,
            tree=repository.tree_of(tip),
            surface={path: oid for path, (_, oid) in entries.items()},
            pin=pin,
            target=target,
            domain=getattr(payload, "domain", None),
            cost=getattr(payload, "cost", 0),
        )
        done = campaign.journal.transact(intent, payload, act, campaign.undo)
        campaign.reload()
        self.events.append(
            Event(
                action,
                {
                    "seq": done.seq,
                    "resolution": done.cutover.resolution,
                    "commit": done.cutover.result,
                    "description": getattr(payload, "description", ""),
                    "metric": getattr(payload, "metric", None),
                    "time": now(),
                },
            )
        )
        return done


def _restore_target(campaign: Campaign, verdict: Verdict) -> str | None:
    """The older commit that an alarm goes back to; None where the incumbent stands."""
    if verdict.decision is not Decision.REVERT or verdict.alarm is None or verdict.alarm.held:
        return None
    commit = verdict.alarm.restore.incumbent.commit
    return None if commit == campaign.incumbent.commit else commit


def _same(name: str, expected: str, answer: object) -> str:
    """A hook must have brought about the state that the intent announced."""
    if answer != expected:
        raise RepositoryError(
            f"pytest_autoresearch_{name} returned {answer!r} instead of {expected!r}: a veto belongs into "
            "pytest_autoresearch_verdict"
        )
    return expected
