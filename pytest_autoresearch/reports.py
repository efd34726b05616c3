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


def luck(campaign: Campaign) -> str:
    """How many keeps of the campaign luck alone would explain, in half a sentence."""
    from .evidence import watch_of
    from .gain import keep_rule
    from .keep import Reference
    from .multiplicity import expected_false_keeps

    state, expected, decided = campaign.state, 0.0, 0
    kept = -1  # the baseline
    reference: Reference | None = None
    for row in state.settled[state.judged_from :]:
        if row.kind == "verdict" and row.metric is not None:
            decided += 1
        if row.decision is not Decision.KEEP or row.reference is None:
            continue
        if row.reference.mean is None or row.reference.sigma is None:
            continue
        kept += 1
        if reference is not None:
            rule = keep_rule(campaign.settings.keep, watch_of(campaign), reference)
            expected += expected_false_keeps(decided, rule, reference.df, reference.n)
        mean, sigma = row.reference.mean, row.reference.sigma
        reference, decided = Reference(mean, sigma, row.reference.n, row.reference.df), 0
    if reference is not None:
        rule = keep_rule(campaign.settings.keep, watch_of(campaign), reference)
        expected += expected_false_keeps(decided, rule, reference.df, reference.n)
    keeps = "keep" if kept == 1 else "keeps"
    return f"luck alone would explain at most {expected:.2g} of {max(kept, 0)} {keeps}"


def sentence(campaign: Campaign, first: int, reason: str, seconds: float) -> str:
    """One sentence that says what the rounds came to."""
    settled = campaign.state.settled
    rounds = [row for row in settled[first:] if row.kind == "verdict"]
    kept = [row for row in rounds if row.decision is Decision.KEEP]
    name, incumbent = campaign.settings.metric, campaign.incumbent
    baselines = (row for row in settled if row.kind == "baseline" and row.metric is not None)
    row, gain = next(baselines, None), ""
    start = row.reference if row else None
    if (
        row
        and start
        and start.mean is not None
        and incumbent.metric is not None
        and incumbent.sigma
    ):
        noise = incumbent.sigma * (1 / incumbent.n + 1 / start.n) ** 0.5
        gain = (
            f"; {name} went from {start.mean:.6f} to {incumbent.metric:.6f}, a gain of "
            f"{start.mean - incumbent.metric:.6f} +- {noise:.6f} "
            f"({(1 - incumbent.metric / start.mean):.1%}); {luck(campaign)}"
        )
        if incumbent.digest == row.candidate:
            # Canaries are draws of the same model: whatever they did to its mean is no gain.
            error = incumbent.sigma / incumbent.n**0.5
            gain = f"; {name} stays at {incumbent.metric:.6f} +- {error:.6f}"
    return (
        f"{len(rounds)} mutations judged in {seconds:.0f} s, {len(kept)} kept{gain}; "
        f"{campaign.budget.remaining} of {campaign.settings.budget.total} units of budget left; ended "
        f"because {one_line(reason, 200)}."
    )
