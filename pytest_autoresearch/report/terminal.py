"""
What a session tells the person in front of it: a header, the run's progress, and the verdict with its reasons.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifact import UntrustedFileError, read_tail
from ..records import Decision, Incumbent
from .tables import escape, fairness_table

if TYPE_CHECKING:
    import pytest

    from ..campaign import Campaign
    from ..experiment import Experiment
    from ..session import AutoresearchSession

__all__ = ["RunProgress", "header_lines", "incumbent_text", "summary_lines"]

Line = tuple[str, dict[str, bool]]

_HEADLINE = {
    Decision.KEEP: ("KEPT", {"green": True, "bold": True}),
    Decision.UNCHANGED: ("UNCHANGED", {"green": True, "bold": True}),
    Decision.REVERT: ("REVERTED", {"yellow": True, "bold": True}),
    Decision.ESCALATE: ("ESCALATED", {"red": True, "bold": True}),
}


def incumbent_text(incumbent: Incumbent, metric: str) -> str:
    """The incumbent in half a line."""
    if incumbent.metric is None or incumbent.sigma is None:
        return f"{incumbent.commit[:7]}, {metric} not measured yet"
    runs = "run" if incumbent.n == 1 else "runs"
    return (
        f"{incumbent.commit[:7]}, {metric} {incumbent.metric:.6f} "
        f"(mean of {incumbent.n} {runs}; sd of one run {incumbent.sigma:.6f})"
    )


def header_lines(campaign: Campaign, experiment: Experiment) -> list[str]:
    """Task, candidate, incumbent, device, isolation and budget, under pytest's own header."""
    settings, mutation, budget = campaign.settings, experiment.mutation, experiment.budget
    run = settings.run
    what = (
        "the incumbent, unchanged"
        if mutation.identical
        else f"{mutation.domain.value}, {mutation.cost} units: {mutation.description}"
    )
    threads = "thread" if run.threads == 1 else "threads"
    dry = (
        ", dry run: nothing will be changed"
        if experiment.config.option.autoresearch_dry_run
        else ""
    )
    return [
        f"autoresearch: {campaign.task.name}, {settings.metric} (lower is better), "
        f"campaign {campaign.tag!r} on {campaign.branch_text}{dry}",
        *(f"autoresearch: {note}" for note in campaign.notes),
        f"candidate: {candidate_text(experiment)}, {what}",
        f"incumbent: {incumbent_text(experiment.incumbent, settings.metric)}",
        f"device: {campaign.device_text}, {run.threads} {threads}, {run.seconds:g} s a run"
        f"{warmup_text(run.warmup_seconds)}; "
        f"isolation: {campaign.wall}",
        f"budget: {budget.remaining} of {settings.budget.total} units left",
    ]


def warmup_text(seconds: float) -> str:
    """The allowance for imports and compilation, where there is one."""
    return f" + {seconds:g} s warm-up allowance" if seconds else ""


def candidate_text(experiment: Experiment) -> str:
    """Where the candidate's bytes were read."""
    return escape(experiment.candidate.origin)


def summary_lines(session: AutoresearchSession) -> Iterator[Line]:
    """The verdict: headline, reasons, metric against incumbent, fairness, cost, notes."""
    settlement = session.settlement
    if settlement is None:
        return
    experiment, settings = session.experiment, session.campaign.settings
    word, markup = _HEADLINE[settlement.verdict.decision]
    if session.dry_run:
        word = f"WOULD BE {word}"
    yield f"{word}: {settlement.headline}", markup
    for reason in settlement.verdict.reasons[:12]:
        yield f"  {reason.code}: {reason.message}", {}
    if len(settlement.verdict.reasons) > 12:
        yield (
            f"  ... and {len(settlement.verdict.reasons) - 12} more reasons, all in the ledger",
            {},
        )
    yield "", {}
    yield from _figures(settlement.metric, experiment.incumbent, settings.metric)
    evaluation = experiment.evaluation if experiment.runs else None
    if evaluation is not None and settings.fairness:
        for line in fairness_table(evaluation.fairness_lines()).splitlines():
            yield f"  {line}", {}
        yield "", {}
    run = experiment.runs[0].run if experiment.runs else None
    if run is not None:
        gpu = ""
        if run.gpu_memory_mb is not None:
            busy = f", {run.gpu_utilization:.0%} busy" if run.gpu_utilization is not None else ""
            gpu = f", GPU peak {run.gpu_memory_mb:.0f} MiB{busy}"
        yield (
            f"run: {run.seconds:.1f} s of {run.budget_seconds:g} s"
            f"{warmup_text(settings.run.warmup_seconds)}, peak {run.peak_memory_mb:.0f} MiB"
            f"{gpu} on {run.device}, isolation {run.isolation}",
            {},
        )
    yield (
        f"budget: {settlement.cost} units spent, {settlement.remaining} of "
        f"{settings.budget.total} left",
        {},
    )
    for note in experiment.notes:
        yield note, {"red": True}
    if run is not None and run.crashed and run.log_tail:
        yield "last lines of the run's output (untrusted text):", {}
        for text in run.log_tail.splitlines()[-8:]:
            yield f"  | {text}", {}


def _figures(metric: float | None, incumbent: Incumbent, name: str) -> Iterator[Line]:
    if metric is None:
        return
    line = f"{name}: {metric:.6f}"
    if incumbent.metric is not None and incumbent.sigma:
        difference = metric - incumbent.metric
        line += (
            f", incumbent {incumbent.metric:.6f}, difference {difference:+.6f} "
            f"({difference / incumbent.sigma:+.1f} sigma; negative is better)"
        )
    yield line, {}
    yield "", {}


class RunProgress:
    """One line that is rewritten while a training runs, where a terminal is attached."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._shown = 0
        self._last = 0.0

    @property
    def active(self) -> bool:
        """Whether anybody would see it."""
        return self._terminal is not None and bool(self._terminal.isatty)

    def tick(self, label: str, elapsed: float, budget: float, log: Path) -> None:
        """Show elapsed/budget and the last line of the run's log, at most four times a second."""
        now = time.monotonic()
        if not self.active or now - self._last < 0.2:
            return
        self._last = now
        width = max(20, self._terminal._tw.fullwidth - 2)
        text = f"{label} {elapsed:4.0f}/{budget:g} s  {_last_log_line(log)}"[:width]
        self._write("\r" + text + " " * max(0, self._shown - len(text)))
        self._shown = len(text)

    def say(self, text: str) -> None:
        """Write one line, terminal or not."""
        if self._terminal is not None:
            self.clear()
            self._write(f"\n{escape(text)}\n")

    def clear(self) -> None:
        """Wipe the line."""
        if self._shown:
            self._write("\r" + " " * self._shown + "\r")
            self._shown = 0

    def _write(self, text: str) -> None:
        if self._capture is None:
            self._terminal.write(text, flush=True)
        else:
            with self._capture.global_and_fixture_disabled():
                self._terminal.write(text, flush=True)


def _last_log_line(log: Path) -> str:
    try:
        lines = read_tail(log, size=2048).decode("utf-8", errors="replace").splitlines()
    except UntrustedFileError:
        return ""
    return next((escape(line.strip()) for line in reversed(lines) if line.strip()), "")
