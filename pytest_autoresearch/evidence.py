"""
What a verdict may rest on, gathered from the experiment and the ledgers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .incumbents import incumbent_losses
from .records import Evidence, GateResult, Kept, Measured, Watch
from .state import incumbent_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from .campaign import Campaign
    from .experiment import Experiment
    from .state import Settled

__all__ = ["gather", "watch_of"]


def gather(experiment: Experiment, gates: tuple[GateResult, ...], *, complete: bool) -> Evidence:
    """All that the verdict may rest on; trains now if no gate has asked for it and all passed."""
    if complete:
        _ = experiment.training_run
    campaign = experiment.campaign
    first = experiment.runs[0] if experiment.runs else None
    kept = _kept_states(experiment)

    def rerun(seq: int, n: int) -> Sequence[Measured]:
        past = next(state for state in _kept_rows(campaign) if state.seq == seq)
        return experiment.measure_files(_files(campaign, past), n)

    every, state = campaign.settings.keep.canary, campaign.state
    return Evidence(
        candidate=experiment.candidate,
        mutation=experiment.mutation,
        gates=gates,
        complete=complete,
        run=first.run if first else None,
        metric=first.metric if first else None,
        problem=first.problem if first else "",
        audit=first.audit if first else None,
        # A baseline that this session measured has its row written before the candidate's.
        seq=state.next_seq + (0 if campaign.started and not experiment.baseline else 1),
        incumbent=experiment.incumbent,
        watch=watch_of(campaign),
        kept=kept,
        measure=experiment.measure,
        measure_seeds=experiment.measure_seeds,
        rerun=rerun,
        slots=experiment.slots,
        canary_due=bool(every) and state.since_canary >= every and bool(kept),
        losses=lambda: _losses(experiment),
        telltale=lambda: _telltale(experiment),
    )


def watch_of(campaign: Campaign) -> Watch:
    """The control charts' inputs."""
    state = campaign.state
    cheapest = min((cost for cost in campaign.costs.values() if cost), default=1)
    return Watch(
        progress=tuple(state.chart),
        progress_seqs=tuple(state.chart_seqs),
        gaps=tuple(gap.value for gap in state.gaps),
        gaps_kept=tuple(gap.kept for gap in state.gaps),
        gap_seqs=tuple(gap.seq for gap in state.gaps),
        worn_out=state.worn_out,
        canaries=tuple(state.canaries),
        horizon=max(1, campaign.settings.budget.total // cheapest),
        decided=state.decided,
    )


def _kept_states(experiment: Experiment) -> tuple[Kept, ...]:
    """The states to go back to since the harness was last ratified, oldest first."""
    campaign, found = experiment.campaign, []
    for row in _kept_rows(campaign):
        reference = row.reference
        if reference is None or reference.mean is None:
            continue
        incumbent = incumbent_of(row.commit, row.candidate, reference)
        found.append(Kept(row.seq, row.description, incumbent, _is_whole(campaign, row)))
    if experiment.baseline and experiment.incumbent.metric is not None:
        # Measured in this session: its row is the one before the candidate's.
        return (Kept(campaign.state.next_seq, "baseline", experiment.incumbent, True),)
    if found and campaign.state.incumbent is not None and campaign.started:
        # What canaries and confirming runs of others taught since then.
        last = found[-1]
        found[-1] = Kept(last.seq, last.description, campaign.state.incumbent, last.whole)
    return tuple(found)


def _files(campaign: Campaign, row: Settled) -> Mapping[str, bytes]:
    """The surface of a kept state, from the blobs that its row names."""
    contents = campaign.repository.read_blobs(row.surface.values())
    return {path: contents[oid] for path, oid in row.surface.items()}


def _losses(experiment: Experiment) -> tuple[object, object] | None:
    """Per-example losses of incumbent and candidate; None where the task gives none."""
    candidate = experiment.runs[0].losses if experiment.runs else None
    if candidate is None:
        return None
    before = incumbent_losses(experiment)
    return None if before is None or len(before) != len(candidate) else (before, candidate)


def _telltale(experiment: Experiment) -> str:
    """The input column that the candidate leans on and that alone does better than the whole incumbent."""
    from .compliance.columns import best_column, gives_away, leans_on
    from .evaluation import TOLD, predictions

    task, settings = experiment.campaign.task, experiment.campaign.settings
    metric, evaluation = experiment.incumbent.metric, experiment.evaluation
    if metric is None or evaluation is None or task.sequence is not None:
        return ""
    labels, cohorts = task.labels(TOLD), task.cohorts(TOLD)

    def figure(p: np.ndarray[Any, Any]) -> float:
        return task.evaluate(p, labels, cohorts).get(settings.metric, math.inf)

    found = best_column(task.features(TOLD), labels, figure)
    if found is None or found.figure >= metric or not gives_away(found, labels, figure):
        return ""
    return found.name if leans_on(found.predictions, predictions(evaluation), labels) else ""


def _kept_rows(campaign: Campaign) -> list[Settled]:
    return list(campaign.state.settled.kept_since(campaign.state.judged_from))


def _is_whole(campaign: Campaign, row: Settled) -> bool:
    """Whether the commit of a kept state is there and holds the surface that its row names."""
    from .vcs import RepositoryError

    try:
        entries = campaign.repository.surface_entries(row.commit, campaign.settings.surface)
    except RepositoryError:
        return False
    return {path: oid for path, (_, oid) in entries.items()} == dict(row.surface)
