"""
One candidate under test: what it changes, its runs, its figures. Everything is computed once, on first use.

Training and classification go through the hooks; this object only remembers what came back.
"""

from __future__ import annotations

import secrets
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .answers import answer
from .budget import MutationBudget
from .charts import ProgressChart
from .evaluation import Evaluation, evaluate
from .paperwork import now
from .records import (
    BudgetExhausted,
    Candidate,
    Evidence,
    FixedHarnessViolation,
    GateResult,
    Incumbent,
    Mutation,
    RunRequest,
    RunResult,
    RunStatus,
    Verdict,
)
from .report.tables import escape
from .scoring import ScoringError
from .task import TrainingView
from .training import derive_seed
from .views import CandidateView, LedgerView

if TYPE_CHECKING:
    import pytest

    from .campaign import Campaign
    from .compliance.cohorts import CohortView


__all__ = ["Experiment", "Measurement"]

#: The split that drives the keep rule.
SPLIT = "val"


class Measurement:
    """One run with its metric."""

    def __init__(self, run: RunResult, metric: float | None, problem: str) -> None:
        self.run = run
        self.metric = metric
        self.problem = problem


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
        self.notes: list[str] = []
        """Troubles that did not decide anything, one red line each."""
        self.touched = ""
        """Why nothing can be said about the candidate: its data changed under its feet."""
        self.on_tick = None
        self.started = now()
        self.answer: Verdict | None = None
        """The verdict, where nothing needs to be run for one."""
        self._drawn = 0
        # A row that no proposer has seen: else a text could be chosen for the seeds that follow from it.
        head = campaign.journal.heads()["cutover-audit"]
        self._salt = secrets.token_hex(16) if head.startswith("-1:") else head

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
        return found

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
        return self._run(self.candidate, self.runs, keep_evaluation=True).run

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The screening run's model on the validation split; None when there is no model."""
        _ = self.training_run
        return self._evaluation

    _evaluation: Evaluation | None = None

    @property
    def problem(self) -> str:
        """Why there is no valid metric; empty when there is one or nothing has run."""
        return self.runs[0].problem if self.runs else ""

    def measure(self) -> float | None:
        """Run the candidate once more on a fresh harness seed; the metric, or None when the run failed."""
        return self._run(self.candidate, self.runs).metric

    def _measure_reference(self) -> None:
        """Measure the incumbent on n0 harness seeds; without it no difference means anything."""
        from .candidate import make_candidate
        from .keep import Reference

        before = make_candidate(self.campaign.incumbent_files, "incumbent")
        for _ in range(self.campaign.settings.keep.baseline):
            measured = self._run(before, self.baseline)
            if measured.metric is None:
                self.notes.append(f"the incumbent itself cannot be measured: {measured.problem}")
                return
        reference = Reference.from_runs([m.metric for m in self.baseline if m.metric is not None])
        self.incumbent = Incumbent(
            commit=self.incumbent.commit,
            digest=self.incumbent.digest,
            metric=reference.mean,
            sigma=reference.sigma,
            n=reference.n,
            df=reference.df,
        )

    def _run(
        self, candidate: Candidate, into: list[Measurement], *, keep_evaluation: bool = False
    ) -> Measurement:
        """One run of a candidate through the execute hook, scored."""
        campaign = self.campaign
        seed = derive_seed(self._salt, campaign.state.next_seq, candidate.digest, self._drawn)
        self._drawn += 1
        workdir = campaign.fresh_run_directory()
        request = RunRequest(
            files=candidate.files,
            seed=seed,
            seconds=campaign.settings.run.seconds,
            workdir=workdir,
            device=campaign.device,
        )
        scratch = campaign.scratch.fresh("scoring")
        with campaign.scoring.warm(scratch, SPLIT):
            try:
                campaign.task.require_intact_view()
                run = self.config.hook.pytest_autoresearch_execute(
                    config=self.config, request=request
                )
                campaign.task.require_intact_view()
            except FixedHarnessViolation as error:
                self.touched = escape(str(error))
                run = _failed_run(request, error)
            except Exception as error:  # a failing hook must not lose the session
                run = _failed_run(request, error)
            evaluation, problem = self._score(run, scratch)
        if keep_evaluation:
            self._evaluation = evaluation
        metric = None if evaluation is None else evaluation.metric
        into.append(Measurement(run, metric, problem))
        return into[-1]

    def _score(self, run: RunResult, workdir: Path) -> tuple[Evaluation | None, str]:
        if run.crashed:
            return None, run.reason
        campaign = self.campaign
        try:
            scores = campaign.scoring.score(run, workdir, SPLIT)
            result = evaluate(campaign.task, campaign.settings, scores, SPLIT)
        except ScoringError as error:
            return None, escape(str(error))
        except FixedHarnessViolation as error:
            self.touched = escape(str(error))
            return None, self.touched
        return result, result.problem

    # -- what is known besides -------------------------------------------------

    @cached_property
    def training_view(self) -> TrainingView:
        """What a run can see of the data."""
        return TrainingView(self.campaign.task)

    @cached_property
    def cohort_view(self) -> CohortView:
        """Cohort aggregates of the training split."""
        from .compliance.cohorts import CohortView

        task = self.campaign.task
        columns = task.cohorts("train")
        return CohortView(
            columns,
            # A task whose examples are no persons has no cohorts, and then no measure of theirs.
            {"positive_rate": task.training_labels()} if columns else {},
            minimum=self.campaign.settings.cohort_minimum,
        )

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

    def evidence(self, gates: tuple[GateResult, ...], *, complete: bool) -> Evidence:
        """All that the verdict may rest on; trains now if no gate has asked for it and all passed."""
        if complete:
            _ = self.training_run
        first = self.runs[0] if self.runs else None
        return Evidence(
            candidate=self.candidate,
            mutation=self.mutation,
            gates=gates,
            complete=complete,
            run=first.run if first else None,
            metric=first.metric if first else None,
            problem=first.problem if first else "",
            incumbent=self.incumbent,
            chart=self.progress_chart.inputs,
            measure=self.measure,
        )


def _failed_run(request: RunRequest, error: Exception) -> RunResult:
    """The result of a run whose execute hook raised."""
    return RunResult(
        status=RunStatus.CRASHED,
        reason=escape(f"the execute hook failed: {type(error).__name__}: {error}"),
        seed=request.seed,
        seconds=0.0,
        budget_seconds=request.seconds,
        artifact=None,
        artifact_sha256="",
        returncode=None,
        peak_memory_mb=0.0,
        device=request.device,
        isolation="unknown",
    )
