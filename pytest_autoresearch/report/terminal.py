"""
What a session tells the person in front of it: a header, the run's progress, and the verdict with its reasons.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ..artifact import UntrustedFileError, read_tail
from ..evaluation import reported_fairness
from ..records import Decision, Incumbent
from ..self_reported import trust_lines
from .tables import escape, fairness_table

if TYPE_CHECKING:
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
        *trust_lines(settings),
        f"budget: {budget.remaining} of {settings.budget.total} units left",
        *_unchecked(experiment),
    ]


def _unchecked(experiment: Experiment) -> Iterator[str]:
    """What the leakage gates have nothing to look at for, which they pass."""
    looks = experiment.campaign.settings.mode == "verified"
    if looks and not experiment.config.option.collectonly:
        yield f"leakage: not checked: {', '.join(experiment.data_leakage.unchecked) or 'nothing'}"


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
    if lines := reported_fairness(evaluation):
        for line in fairness_table(lines).splitlines():
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
    for note in (*experiment.notes, *session.campaign.anchors.lines()):
        yield note, {"red": True}
    if run is not None and run.crashed and run.status != "pruned" and run.log_tail:
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


class _Going(NamedTuple):
    """A run that goes on."""

    elapsed: float
    budget: float
    log: Path


class RunProgress:
    """
    One line that is rewritten while runs go on, where a terminal is attached.

    Runs may go on in threads: they only say how far they are, and the main thread draws.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shown = 0
        self._last = 0.0
        self._going: dict[object, _Going] = {}
        self._unsaid: deque[str] = deque()

    @classmethod
    def of(cls, config: pytest.Config) -> RunProgress:
        """The one of this session."""
        return config.stash.setdefault(_PROGRESS, cls(config))

    @property
    def active(self) -> bool:
        """Whether anybody would see it."""
        return self._terminal is not None and bool(self._terminal.isatty)

    @contextmanager
    def run(self, budget: float) -> Iterator[Callable[[float, Path], None]]:
        """A run of ``budget`` seconds; call what it gives with the elapsed seconds and the log's path."""
        key = object()

        def tick(elapsed: float, log: Path) -> None:
            self._going[key] = _Going(elapsed, budget, log)
            self.draw()

        try:
            yield tick
        finally:
            self._going.pop(key, None)
            if not self._going:
                self.clear()

    def draw(self) -> None:
        """Show elapsed/budget and the last line of the slowest run's log, at most four times a second."""
        if threading.current_thread() is not threading.main_thread():
            return
        while self._unsaid:
            self._say(self._unsaid.popleft())
        now = time.monotonic()
        going = list(self._going.values())
        if not going or not self.active or now - self._last < 0.2:
            return
        self._last = now
        slowest = min(going, key=lambda run: run.elapsed)
        runs = "training" if len(going) == 1 else f"{len(going)} runs"
        width = max(20, self._terminal._tw.fullwidth - 2)
        done = f"{runs} {slowest.elapsed:4.0f}/{slowest.budget:g} s"
        text = f"{done}  {_last_log_line(slowest.log)}"[:width]
        self._write("\r" + text + " " * max(0, self._shown - len(text)))
        self._shown = len(text)

    def say(self, text: str) -> None:
        """Write one line, terminal or not."""
        self._unsaid.append(text)
        self.draw()

    def clear(self) -> None:
        """Wipe the line."""
        if self._shown and threading.current_thread() is threading.main_thread():
            self._write("\r" + " " * self._shown + "\r")
            self._shown = 0

    def _say(self, text: str) -> None:
        if self._terminal is not None:
            self.clear()
            self._write(f"\n{escape(text)}\n")

    @property
    def _terminal(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    def _write(self, text: str) -> None:
        capture: Any = self._config.pluginmanager.get_plugin("capturemanager")
        if capture is None:
            self._terminal.write(text, flush=True)
        else:
            with capture.global_and_fixture_disabled():
                self._terminal.write(text, flush=True)


_PROGRESS = pytest.StashKey[RunProgress]()


def _last_log_line(log: Path) -> str:
    try:
        lines = read_tail(log, size=2048).decode("utf-8", errors="replace").splitlines()
    except UntrustedFileError:
        return ""
    return next((escape(line.strip()) for line in reversed(lines) if line.strip()), "")
