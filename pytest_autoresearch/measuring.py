"""
Runs of a candidate on fresh harness seeds, and their figures: one after the other, or several at a time.

Only the execute hook leaves the main thread, and only where several runs go on at a time: prepare.py's formulas,
scoring and everything drawn on the terminal stay in it, so that Ctrl-C finds it waiting and ends every run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .evaluation import TOLD, Evaluation, evaluate, gap_errors, per_example_losses
from .records import (
    Candidate,
    Curve,
    FixedHarnessViolation,
    RunRequest,
    RunResult,
    RunStatus,
)
from .report.tables import escape
from .report.terminal import RunProgress
from .sandbox import Isolation
from .scoring import PeekingError, ScoringError
from .self_reported import printed_metric
from .task import TaskError
from .training import derive_seed

if TYPE_CHECKING:
    import numpy as np
    import pytest

    from .campaign import Campaign
    from .scoring import Scorers

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["AUDIT", "Ended", "Measurement", "Runner"]

AUDIT = "audit"
"""The sealed split, where the task has one."""


@dataclass(frozen=True)
class Measurement:
    """One run with its figures."""

    run: RunResult
    metric: float | None
    """On the validation split; None without a valid one."""
    problem: str
    """Why there is no metric; empty when there is one."""
    audit: float | None = None
    """On the audit split; None where there is none."""
    gap: float | None = None
    """By how many standard errors the model is better on validation than on the audit split; None without losses."""
    peeks: bool = False
    """Whether the scoring audit is why there is no metric."""
    losses: Array | None = field(default=None, repr=False, compare=False)
    """Loss of each example of the validation split ``[n]``; None where the task gives none."""
    evaluation: Evaluation | None = field(default=None, repr=False, compare=False)
    """Where it was asked for: the model on the validation split."""


@dataclass(frozen=True)
class Ended:
    """What the execute hook came to."""

    run: RunResult
    touched: str = ""


class Runner:
    """
    Runs candidates of one session, or, outside of any, single runs as they were requested before.

    :param config: of the session, whose execute hook is asked.
    :param salt: what the seeds follow from; nobody who proposes may know it.
    """

    def __init__(self, config: pytest.Config | None, campaign: Campaign, salt: str = "") -> None:
        self._config = config
        self._campaign = campaign
        self._salt = salt
        self._drawn = 0
        self._seeds: set[int] = set()
        self.touched = ""
        """Why nothing can be said about any run: the data changed under their feet."""

    def run(
        self,
        candidate: Candidate,
        n: int,
        *,
        keep_evaluation: bool = False,
        stop_at_failure: bool = False,
        hopeless: Callable[[Curve], str] | None = None,
    ) -> list[Measurement]:
        """
        Run a candidate on ``n`` fresh seeds, in as many slots as the settings give; in the order of the seeds.

        A run that fails in whatever way is a measurement without a metric and does not concern the others.

        :param keep_evaluation: keep what gates may ask for; it holds predictions, so not of every run.
        :param stop_at_failure: start no further run once one has no metric; fewer come back then.
        :param hopeless: as :attr:`.records.RunRequest.hopeless`, for each of these runs.
        :raises KeyboardInterrupt: when every run has been killed.
        """
        if self._config is None:
            raise RuntimeError("seeds are drawn in a session: measure() takes one that was")
        requests = [self._request(candidate, hopeless) for _ in range(n)]
        slots = min(n, self.slots)
        progress = RunProgress.of(self._config)
        try:
            if slots <= 1:
                measured = []
                for request in requests:
                    measured.append(self.measure(request, keep_evaluation))
                    if stop_at_failure and measured[-1].metric is None:
                        break
                return measured
            from .slots import Slots

            together = Slots(self, requests, slots, progress)
            return together.measure(keep_evaluation, stop_at_failure)
        finally:
            progress.clear()

    @property
    def slots(self) -> int:
        """
        Runs at a time: one on a GPU, and one where two runs could meet.

        The scorer of one seed holds held-out features while another seed may still train; only level ``strong``
        gives each a file system and a process table of its own, so that the first has nowhere to leave them.
        """
        campaign = self._campaign
        apart = campaign.wall.level in (Isolation.STRONG, Isolation.NONE)
        if not apart or campaign.device == "cuda" or campaign.settings.mode == "self-reported":
            return 1
        return campaign.settings.run.slots

    def _request(self, candidate: Candidate, hopeless: Callable[[Curve], str] | None) -> RunRequest:
        campaign = self._campaign
        while True:
            seed = derive_seed(self._salt, campaign.state.next_seq, candidate.digest, self._drawn)
            self._drawn += 1
            if seed not in self._seeds:
                break
        self._seeds.add(seed)
        return RunRequest(
            files=candidate.files,
            seed=seed,
            seconds=campaign.settings.run.seconds,
            workdir=campaign.fresh_run_directory(),
            device=campaign.device,
            hopeless=hopeless,
        )

    def measure(self, request: RunRequest, keep_evaluation: bool = False) -> Measurement:
        """One run, scored."""
        if self._campaign.settings.mode == "self-reported":
            return self._believe(self.execute(request))
        with self.warm() as scorers:
            return self.judge(self.execute(request), scorers, keep_evaluation)

    def warm(self, others: int = 0) -> AbstractContextManager[Scorers]:
        """Scorers for one run, which may have to wait for those of ``others`` besides its training."""
        campaign = self._campaign
        patience = 2 * others * campaign.settings.run.score_seconds
        return campaign.scoring.warm(campaign.scratch.fresh("scoring"), patience=patience)

    def execute(self, request: RunRequest) -> Ended:
        """Ask the execute hook; in a thread where several runs go on."""
        task = self._campaign.task
        try:
            task.require_intact_view()
            run = self._train(request)
            task.require_intact_view()
        except FixedHarnessViolation as error:
            return Ended(_failed_run(request, error), escape(str(error)))
        except Exception as error:  # a failing hook must not lose the session
            return Ended(_failed_run(request, error))
        return Ended(run)

    def _train(self, request: RunRequest) -> RunResult:
        if self._config is None:
            return self._campaign.trainer.train(request)
        hook = self._config.hook.pytest_autoresearch_execute
        run: RunResult = hook(config=self._config, request=request)
        return run

    def judge(self, ended: Ended, scorers: Scorers, keep_evaluation: bool) -> Measurement:
        """Score what a run left; in the main thread."""
        self.touched = self.touched or ended.touched
        run = ended.run
        if run.crashed:
            return Measurement(run, None, run.reason)
        campaign = self._campaign
        try:
            scores = scorers.score(run, self._splits)
            found = {
                split: evaluate(campaign.task, campaign.settings, scores[split], split)
                for split in self._splits
            }
        except (ScoringError, TaskError) as error:
            peeks = isinstance(error, PeekingError)
            return Measurement(run, None, escape(str(error)), peeks=peeks)
        except FixedHarnessViolation as error:
            self.touched = escape(str(error))
            return Measurement(run, None, self.touched)
        result, audit = found[TOLD], found.get(AUDIT)
        return Measurement(
            run,
            None if audit and audit.problem else result.metric,
            result.problem or (audit.problem if audit else ""),
            audit=None if audit is None else audit.metric,
            gap=None if audit is None else gap_errors(result, audit),
            losses=per_example_losses(result),
            evaluation=result if keep_evaluation else None,
        )

    def _believe(self, ended: Ended) -> Measurement:
        """Take what a run printed for its figure."""
        run = ended.run
        if run.crashed:
            return Measurement(run, None, run.reason)
        metric, problem = printed_metric(run.log_tail, self._campaign.settings)
        return Measurement(run, metric, problem)

    @cached_property
    def _splits(self) -> tuple[str, ...]:
        return (TOLD, AUDIT) if self._campaign.task.has(AUDIT) else (TOLD,)


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
