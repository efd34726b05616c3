"""
What people read afterwards, projected from the ledgers: results.tsv, progress.png, one sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .feedback import public_trials
from .records import Decision, Trial
from .report.results import ResultRow, write_results_tsv
from .report.tables import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .campaign import Campaign

__all__ = ["history", "result_rows", "sentence", "write_picture", "write_results"]


def result_rows(campaign: Campaign) -> list[ResultRow]:
    """One row per settled proposal, the baseline first; re-validations of the incumbent are left out."""
    return [
        ResultRow(
            commit=row.commit,
            metric=row.metric,
            memory_gb=None if row.memory_mb is None else row.memory_mb / 1024,
            status=row.status,
            description=row.description,
            reason=row.reason,
            domain="" if row.domain is None else row.domain.value,
            cost=row.cost,
            seq=row.seq,
        )
        for row in campaign.state.settled
        if (row.kind == "verdict" and row.decision is not Decision.UNCHANGED)
        or (row.kind == "baseline" and row.metric is not None)
    ]


def history(campaign: Campaign) -> Sequence[Trial]:
    """The settled proposals as a proposer sees them: bytes, and what :mod:`.feedback` lets through."""
    state = campaign.state
    trials = state.trials(campaign.repository.read_blobs)
    return public_trials(trials, state.settled, campaign.settings.feedback)


def write_results(campaign: Campaign) -> None:
    """Write results.tsv anew."""
    write_results_tsv(
        campaign.root / "results.tsv", result_rows(campaign), campaign.settings.metric
    )


def write_picture(campaign: Campaign) -> str:
    """Draw progress.png; a line that says so, or why not."""
    from .report.progress import write_progress_png

    problem = write_progress_png(
        campaign.root / "progress.png", result_rows(campaign), campaign.settings.metric
    )
    return problem or "running best: progress.png"


def sentence(campaign: Campaign, first: int, reason: str, seconds: float) -> str:
    """One sentence that says what the rounds came to."""
    rounds = [row for row in campaign.state.settled[first:] if row.kind == "verdict"]
    kept = [row for row in rounds if row.decision is Decision.KEEP]
    name, incumbent = campaign.settings.metric, campaign.incumbent
    starts = [row.metric for row in campaign.state.settled if row.kind == "baseline"]
    gain = ""
    start = next((metric for metric in starts if metric is not None), None)
    if start is not None and incumbent.metric is not None and incumbent.sigma:
        noise = incumbent.sigma * (1 / incumbent.n + 1 / (incumbent.df + 1)) ** 0.5
        gain = (
            f"; {name} went from {start:.6f} to {incumbent.metric:.6f}, a gain of "
            f"{start - incumbent.metric:.6f} +- {noise:.6f} ({(1 - incumbent.metric / start):.1%})"
        )
    return (
        f"{len(rounds)} mutations judged in {seconds:.0f} s, {len(kept)} kept{gain}; "
        f"{campaign.budget.remaining} of {campaign.settings.budget.total} units of budget left; ended "
        f"because {one_line(reason, 200)}."
    )
