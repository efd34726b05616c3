"""
What a trained model gives away of a leak: controls after the screening run, for gates.

They cost at most one more training run, of a candidate that is worth confirming, and nothing for the others.
"""

from __future__ import annotations

import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .evaluation import TOLD, predictions
from .scoring import Scoring, ScoringError
from .task import TaskError
from .training import Trainer

if TYPE_CHECKING:
    import numpy as np

    from .experiment import Experiment
    from .task import Task

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["LeakageControls"]

#: Spreads by which a model of shuffled labels must be better than chance, besides its share of the candidate's gain.
ERRORS = 5.0


class LeakageControls:
    """The controls of one session's candidate; each answers with a sentence, empty when it holds."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._campaign = experiment.campaign
        self._rules = experiment.campaign.settings.leakage

    @property
    def peeking(self) -> str:
        """Why the scoring audit does not believe the model: it looks ahead, or at other examples."""
        _ = self._experiment.training_run
        first = self._experiment.runs[0]
        return first.problem if first.peeks else ""

    @property
    def audit_gap(self) -> str:
        """
        Whether the model is so much better on validation than on the audit split that luck of the split is no reason.

        The audit split is sealed: the answer is one bit, and no figure of it is told.
        """
        _ = self._experiment.training_run
        gap = self._experiment.runs[0].gap
        if gap is None or gap <= self._rules.gap_errors:
            return ""
        return (
            f"better on validation than on the sealed audit split by more than {self._rules.gap_errors:g} standard "
            "errors of the difference: the model knows validation labels, by a feature made with them or by rows that "
            "it has seen"
        )

    @cached_property
    def shuffled_labels(self) -> str:
        """Whether the candidate still predicts held-out labels when its training labels are shuffled."""
        if not self._rules.permutation or self._campaign.task.sequence is not None:
            return ""
        if not self._worth_confirming():
            return ""
        try:
            return self._trained_on_shuffled_labels()
        except (ScoringError, TaskError) as error:
            return f"the control on shuffled training labels gave no figure: {error}"

    def _worth_confirming(self) -> bool:
        """Whether fresh seeds would be run for this candidate; the baseline is always kept."""
        from .evidence import watch_of
        from .gain import keep_rule, reference_of

        experiment, incumbent = self._experiment, self._experiment.incumbent
        _ = experiment.training_run
        metric = experiment.runs[0].metric
        if metric is None or experiment.mutation.identical:
            return metric is not None and incumbent.metric is None
        if incumbent.metric is None or incumbent.sigma is None:
            return False
        rule = keep_rule(
            self._campaign.settings.keep, watch_of(self._campaign), reference_of(incumbent)
        )
        return incumbent.metric - metric > rule.screen * incumbent.sigma

    def _trained_on_shuffled_labels(self) -> str:
        import numpy as np

        from .compliance.permutation import worth

        evaluation = self._experiment.evaluation
        if evaluation is None:
            return ""
        # Seeded by the operating system: a candidate that knew the order could undo it.
        rng = np.random.default_rng(secrets.randbits(256))
        task = self._shuffled(rng)
        cohorts, labels = task.cohorts(TOLD), task.labels(TOLD)
        metric = self._campaign.settings.metric

        def figure(p: Array) -> float:
            return task.evaluate(p, labels, cohorts)[metric]

        real = worth(figure, predictions(evaluation), rng)
        control = worth(figure, self._scores(task), rng)
        share, limit = (
            abs(control.gain) / real.gain if real.gain > 0 else 0.0,
            self._rules.permuted_gain,
        )
        if share <= limit or abs(control.errors) <= ERRORS:
            return ""
        return (
            f"trained on shuffled labels it still gains {share:.0%} of what it gains over chance on the held-out rows "
            f"({abs(control.errors):.0f} spreads of chance; at most {limit:.0%}): it knows held-out labels from "
            "elsewhere than the training labels, such as a feature made with them or figures in the source"
        )

    def _shuffled(self, rng: np.random.Generator) -> Task:
        """The task with shuffled training labels; prepared again with them where prepare.py offers it."""
        from .rebuild import all_labels, rebuilt, relabelled

        task, seconds = self._campaign.task, self._campaign.settings.run.seconds
        room = self._campaign.scratch.fresh("shuffled")
        shuffled = rng.permutation(task.training_labels())
        if task.rebuilds:
            return rebuilt(task, {**all_labels(task), "train": shuffled}, room, seconds)
        return relabelled(task, shuffled, room)

    def _scores(self, task: Task) -> Array:
        """
        Train the candidate on the other task and score it, behind the same wall.

        :raises ScoringError: there is no model, or it cannot be scored.
        """
        from msgspec.structs import replace

        from .records import RunRequest
        from .report.terminal import RunProgress
        from .settings import Audit

        campaign = self._campaign
        settings = replace(campaign.settings, audit=Audit(rows=0, prefixes=0))
        trainer = Trainer(settings, task, campaign.wall.level, campaign.scratch)
        scoring = Scoring(settings, task, campaign.wall.level)
        progress = RunProgress.of(self._experiment.config)
        request = RunRequest(
            files=self._experiment.candidate.files,
            seed=secrets.randbits(31),
            seconds=settings.run.seconds,
            workdir=campaign.fresh_run_directory(),
            device=campaign.device,
        )
        with (
            scoring.warm(campaign.scratch.fresh("scoring")) as scorers,
            progress.run(request.seconds) as tick,
        ):
            run = trainer.train(request, tick, progress.say)
            scores = scorers.score(run, (TOLD,))[TOLD]
        if run.artifact is not None:
            run.artifact.unlink()
        return scores
