"""
What people read afterwards, projected from the ledgers: results.tsv, progress.png, one sentence.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from . import __version__
from .feedback import public_trials
from .privacy import scanners_of
from .records import Decision, Trial
from .report.results import (
    FileMark,
    ResultRow,
    extend_results_tsv,
    file_mark,
    replace_file,
    write_results_tsv,
)
from .report.tables import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .campaign import Campaign

__all__ = ["extend_results", "history", "result_rows", "sentence", "write_picture", "write_results"]


class _Written(msgspec.Struct):
    """What stands in the results.tsv that a session left."""

    program: str
    metric: str
    settled: int
    """Settled things that are in it, or were left out."""
    row: int
    """Row of the last of them in cutover-audit."""
    revised: int
    file: FileMark


def result_rows(campaign: Campaign, first: int = 0) -> list[ResultRow]:
    """
    One row per settled proposal, the baseline first; re-validations of the incumbent are left out.

    :param first: position from which on.
    """
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
        for row in campaign.state.settled[first:]
        if (row.kind == "verdict" and row.decision is not Decision.UNCHANGED)
        or (row.kind == "baseline" and row.metric is not None)
    ]


def history(campaign: Campaign) -> Sequence[Trial]:
    """The settled proposals as a proposer sees them: bytes, and what :mod:`.feedback` lets through."""
    state = campaign.state
    trials = state.trials(campaign.repository.read_blobs)
    scanners = scanners_of(campaign.settings, campaign.task)
    return public_trials(trials, state.settled, campaign.settings.feedback, scanners)


def write_results(campaign: Campaign) -> None:
    """Write results.tsv anew."""
    write_results_tsv(
        campaign.root / "results.tsv", result_rows(campaign), campaign.settings.metric
    )


def extend_results(campaign: Campaign) -> None:
    """Bring results.tsv up to date: add what is new to what a session left, or write it anew."""
    path, note = campaign.root / "results.tsv", campaign.directory / "results.json"
    settled = campaign.state.settled
    left = _left(note)
    current = _Written(
        program=__version__,
        metric=campaign.settings.metric,
        settled=len(settled),
        row=settled[-1].row if settled else -1,
        revised=campaign.state.revised,
        file=(0, 0, 0),
    )
    with suppress(OSError):
        if left == msgspec.structs.replace(current, file=file_mark(path)):
            return
    if (
        left is None
        or (left.program, left.metric, left.revised)
        != (current.program, current.metric, current.revised)
        or not 0 < left.settled <= len(settled)
        or settled[left.settled - 1].row != left.row
        or not extend_results_tsv(path, result_rows(campaign, left.settled), left.file)
    ):
        write_results(campaign)
    current.file = file_mark(path)
    replace_file(note, msgspec.json.encode(current))


def _left(note: Path) -> _Written | None:
    try:
        return msgspec.json.decode(note.read_bytes(), type=_Written)
    except (OSError, msgspec.MsgspecError):
        return None


def write_picture(campaign: Campaign) -> str:
    """Draw progress.png; a line that says so, or why not."""
    from .report.progress import write_progress_png

    problem = write_progress_png(
        campaign.root / "progress.png", result_rows(campaign), campaign.settings.metric
    )
    return problem or "running best: progress.png"


def luck(campaign: Campaign) -> str:
    """How many keeps of the campaign luck alone would explain, in half a sentence; empty without one."""
    from .evidence import watch_of
    from .gain import keep_rule
    from .keep import Reference
    from .multiplicity import expected_false_keeps

    state, watch = campaign.state, watch_of(campaign)

    def false_keeps(reference: Reference, decided: int) -> float:
        rule = keep_rule(campaign.settings.keep, watch, reference)
        return expected_false_keeps(decided, rule, reference.df, reference.n)

    expected, decided = 0.0, 0
    kept = -1  # the baseline
    reference: Reference | None = None
    for row in state.settled[state.judged_from :]:
        if row.kind == "verdict" and row.metric is not None:
            decided += 1
        if row.decision is not Decision.KEEP or row.reference is None:
            continue
        mean, sigma, df = row.reference.mean, row.reference.sigma, row.reference.df
        if mean is None or not sigma or not df:
            continue
        kept += 1
        if reference is not None:
            expected += false_keeps(reference, decided)
        reference, decided = Reference(mean, sigma, row.reference.n, df), 0
    if reference is not None:
        expected += false_keeps(reference, decided)
    if kept < 1:
        return ""
    keeps = "keep" if kept == 1 else "keeps"
    return f"luck alone would explain at most {expected:.2g} of {kept} {keeps}"


def sentence(campaign: Campaign, first: int, reason: str, seconds: float) -> str:
    """One sentence that says what the rounds came to."""
    rounds = [row for row in campaign.state.settled[first:] if row.kind == "verdict"]
    kept = [row for row in rounds if row.decision is Decision.KEEP]
    return (
        f"{len(rounds)} mutations judged in {seconds:.0f} s, {len(kept)} kept{_gain(campaign)}; "
        f"{campaign.budget.remaining} of {campaign.settings.budget.total} units of budget left; ended "
        f"because {one_line(reason, 200)}."
    )


def _gain(campaign: Campaign) -> str:
    """How far the incumbent came since the first measured baseline, in half a sentence."""
    name, incumbent = campaign.settings.metric, campaign.incumbent
    settled = campaign.state.settled
    row = next((row for row in settled if row.kind == "baseline" and row.metric is not None), None)
    start = row.reference if row else None
    if row is None or start is None or start.mean is None:
        return ""
    if incumbent.metric is None or not incumbent.sigma:
        return ""
    if incumbent.digest == row.candidate:
        # Canaries are draws of the same model: whatever they did to its mean is no gain.
        error = incumbent.sigma / incumbent.n**0.5
        return f"; {name} stays at {incumbent.metric:.6f} +- {error:.6f}"
    noise = incumbent.sigma * (1 / incumbent.n + 1 / start.n) ** 0.5
    chance = luck(campaign)
    return (
        f"; {name} went from {start.mean:.6f} to {incumbent.metric:.6f}, a gain of "
        f"{start.mean - incumbent.metric:.6f} +- {noise:.6f} "
        f"({(1 - incumbent.metric / start.mean):.1%})" + (f"; {chance}" if chance else "")
    )
