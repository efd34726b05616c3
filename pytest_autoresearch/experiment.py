"""
One candidate under test: what it changes, its runs, its figures. Everything is computed once, on first use.

Training and classification go through the hooks; this object only remembers what came back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from .answers import answer
from .budget import MutationBudget
from .candidate import make_candidate
from .charts import ProgressChart
from .keep import Reference
from .measuring import Measurement, Runner
from .paperwork import now
from .records import (
    BudgetExhausted,
    Candidate,
    Curve,
    Incumbent,
    Measured,
    Mutation,
    RunResult,
    Verdict,
)
from .self_reported import labelled
from .training_view import TrainingView
from .views import CandidateView, LedgerView

if TYPE_CHECKING:
    import pytest

    from .campaign import Campaign
    from .compliance.cohorts import CohortView
    from .data_leakage import DataLeakage
    from .evaluation import Evaluation
    from .leakage_controls import LeakageControls
    from .privacy import Privacy


__all__ = ["Experiment", "Measurement"]


class Experiment:
    """The candidate of this session, its runs and its evaluation."""

    def __init__(self, config: pytest.Config, campaign: Campaign) -> None:
        self.config = config
        self.campaign = campaign
        self.candidate: Candidate = campaign.candidate
        self.budget: MutationBudget = campaign.budget
        self.incumbent: Incumbent = campaign.incumbent
        self.runs: list[Measurement] = []
        """Runs of the candidate, the screening run first."""
        self.baseline: list[Measurement] = []
        """Runs of the incumbent that measured the reference in this session, if any."""
        self.others: list[Measurement] = []
        """Runs of other surfaces: of the incumbent as a canary, of kept states that are verified."""
        self.notes: list[str] = []
        """Troubles that did not decide anything, one red line each."""
        self.started = now()
        self.answer: Verdict | None = None
        """The verdict, where nothing needs to be run for one."""
        # A row that no proposer has seen: else a text could be chosen for the seeds that follow from it.
        head = campaign.journal.heads()["cutover-audit"]
        salt = secrets.token_hex(16) if head.startswith("-1:") else head
        self._runner = Runner(config, campaign, salt)

    # -- what it changes -------------------------------------------------------

    def classify(self) -> None:
        """
        Let the hooks say what the mutation is, and check that the budget can pay for it.

        :raises BudgetExhausted: it cannot.
        """
        mutation = self.mutation
        if mutation.cost > self.budget.remaining:
            raise BudgetExhausted(mutation.cost, self.budget.remaining)
        self.answer = answer(self)

    @cached_property
    def mutation(self) -> Mutation:
        """The difference to the incumbent, classified."""
        found: Mutation = self.config.hook.pytest_autoresearch_classify(
            config=self.config, before=self.campaign.incumbent_files, after=self.candidate.files
        )
        return replace(found, description=labelled(found.description, self.campaign.settings))

    @cached_property
    def candidate_view(self) -> CandidateView:
        """The candidate for gates."""
        return CandidateView(self)

    # -- what it does ----------------------------------------------------------

    @cached_property
    def training_run(self) -> RunResult:
        """The screening run; the reference is measured first when nobody has."""
        if self.incumbent.metric is None and not self.mutation.identical:
            self._measure_reference()
        self.runs += self._runner.run(
            self.candidate, 1, keep_evaluation=True, hopeless=self._early_kill()
        )
        return self.runs[0].run

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The screening run's model on the validation split; None when there is no model."""
        _ = self.training_run
        found = self.runs[0].evaluation
        if found is not None:
            from .evaluation import compare
            from .incumbents import incumbent_predictions

            compare(found, lambda: incumbent_predictions(self))
        return found

    @property
    def problem(self) -> str:
        """Why there is no valid metric; empty when there is one or nothing has run."""
        return self.runs[0].problem if self.runs else ""

    @property
    def touched(self) -> str:
        """Why nothing can be said about the candidate: its data changed under its feet."""
        return self._runner.touched

    def _early_kill(self) -> Callable[[Curve], str] | None:
        """Says when the screening run is beyond recovery; None where it must run to its end."""
        from .early_kill import EarlyKill, same_loss
        from .evidence import watch_of
        from .gain import keep_rule, reference_of

        settings, incumbent = self.campaign.settings, self.incumbent
        if (
            not settings.keep.early_kill
            or self.mutation.identical
            or incumbent.metric is None
            or not same_loss(self.mutation, self.candidate.files, settings.sections)
        ):
            return None
        rule = keep_rule(settings.keep, watch_of(self.campaign), reference_of(incumbent))
        return EarlyKill(self.campaign, incumbent, rule.screen)

    @property
    def slots(self) -> int:
        """Runs of one candidate at a time."""
        return self._runner.slots

    def measure(self) -> float | None:
        """Run the candidate once more on a fresh harness seed; the metric, or None when the run failed."""
        return self.measure_seeds(1)[0].metric

    def measure_seeds(self, n: int) -> list[Measured]:
        """Run the candidate on ``n`` more fresh harness seeds, in as many slots as there are."""
        measured = self._runner.run(self.candidate, n)
        self.runs += measured
        return [Measured(m.metric, m.audit) for m in measured]

    def measure_files(self, files: Mapping[str, bytes], n: int) -> list[Measured]:
        """Run another surface on ``n`` fresh harness seeds: the incumbent's, or an earlier kept state's."""
        measured = self._runner.run(make_candidate(files, "a kept state"), n, keep_evaluation=True)
        self.others += measured
        return [Measured(m.metric, m.audit) for m in measured]

    def _measure_reference(self) -> None:
        """Measure the incumbent on n0 harness seeds; without it no difference means anything."""
        before = make_candidate(self.campaign.incumbent_files, "incumbent")
        wanted = self.campaign.settings.keep.baseline
        self.baseline += self._runner.run(
            before, wanted, keep_evaluation=True, stop_at_failure=True
        )
        failed = next((m for m in self.baseline if m.metric is None), None)
        if failed is not None:
            self.notes.append(f"the incumbent itself cannot be measured: {failed.problem}")
            return
        reference = Reference.from_runs([m.metric for m in self.baseline if m.metric is not None])
        audits = [m.audit for m in self.baseline if m.audit is not None]
        self.incumbent = Incumbent(
            commit=self.incumbent.commit,
            digest=self.incumbent.digest,
            metric=reference.mean,
            sigma=reference.sigma,
            n=reference.n,
            df=reference.df,
            audit=fmean(audits) if len(audits) == reference.n else None,
        )

    # -- what is known besides -------------------------------------------------

    @cached_property
    def training_view(self) -> TrainingView:
        """What a run can see of the data."""
        return TrainingView(self.campaign.task)

    @cached_property
    def data_leakage(self) -> DataLeakage:
        """What the data gives away of held-out labels."""
        from .data_leakage import DataLeakage, vouched_for

        campaign = self.campaign
        return DataLeakage(
            campaign.task, campaign.settings, campaign.scratch, known=vouched_for(campaign)
        )

    @cached_property
    def leakage_controls(self) -> LeakageControls:
        """What the candidate's model gives away of a leak."""
        from .leakage_controls import LeakageControls

        return LeakageControls(self)

    @cached_property
    def privacy(self) -> Privacy:
        """The scan for personal data."""
        from .privacy import Privacy

        return Privacy(self.campaign.settings, self.campaign.task)

    @cached_property
    def cohort_view(self) -> CohortView:
        """Cohort aggregates of the training split."""
        from .query_log import cohort_view

        return cohort_view(self.campaign, recorded=self.campaign.writable)

    @cached_property
    def ledger(self) -> LedgerView:
        """The campaign's ledgers, read-only."""
        return LedgerView(self.campaign)

    @cached_property
    def progress_chart(self) -> ProgressChart:
        """The control chart on the incumbent's improvements, before this mutation."""
        return ProgressChart(
            self.campaign.state.chart, self.campaign.settings.cusum, self.incumbent
        )
