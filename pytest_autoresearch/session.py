"""
The object registered with ``--autoresearch``: orders the gates, collects their outcomes, calls the hooks.

It holds no statistics, no git and no ledger: those answer through the hooks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from .evidence import gather
from .experiment import Experiment
from .gates import GateBook, defined_gates
from .records import BudgetExhausted, Decision, Evidence, FixedHarnessViolation, Verdict
from .report.junit import record_junit
from .report.tables import escape
from .report.terminal import header_lines, summary_lines
from .settlement import Settlement, record_halt, settle
from .verdicts import NOT_RUN, failed_hook_verdict, incomplete_verdict, touched_verdict

if TYPE_CHECKING:
    from .campaign import Campaign

#: Statuses of a session that ended by itself, with every gate having had its chance.
_DECIDABLE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


class AutoresearchSession:
    """One mutation, one session."""

    def __init__(self, config: pytest.Config, campaign: Campaign) -> None:
        self.config = config
        self.campaign = campaign
        self.experiment = Experiment(config, campaign)
        self.book = GateBook(
            defined_gates(
                campaign.root,
                campaign.settings.harness,
                campaign.ratified,
                config.getini("python_files"),
                campaign.pinned.contents,
            ),
            campaign.state.gates,
        )
        self.settlement: Settlement | None = None
        self.looped = False
        """Whether the gates had their chance; other modes of pytest finish a session without any."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be changed: asked for, or nothing runs anyway."""
        option = self.config.option
        return bool(option.autoresearch_dry_run or option.collectonly)

    # -- pytest hooks ----------------------------------------------------------

    def pytest_report_header(self) -> list[str]:
        return header_lines(self.campaign, self.experiment)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        try:
            self.experiment.classify()
        except BudgetExhausted as error:
            self._halt(error)
        except Exception as error:
            raise pytest.UsageError(
                f"the hook pytest_autoresearch_classify failed: {_text(error)}; nothing was run"
            ) from error

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        self.book.collected(items)
        result = yield
        self.book.order(items)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        self.looped = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.experiment.answer is not None:
            pytest.skip(f"{NOT_RUN} the verdict is known without")
        failed = self.book.blocked_by(item.nodeid)
        if failed is not None:
            pytest.skip(f"{NOT_RUN} a {failed}-loop gate failed")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self.book.report(report, _public_message(report, call))
        # pytest quotes what a gate looked at: the candidate's source, a run's words.
        if report.failed:
            report.longrepr = _printable(report.longreprtext)
        report.sections = [(title, _printable(text)) for title, text in report.sections]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.config.option.collectonly or exitstatus not in _DECIDABLE or not self.looped:
            return
        gates = self.book.results()
        self.call_quietly("gates_finished", gates=gates)
        try:
            evidence = gather(self.experiment, gates, complete=self.book.complete())
            verdict = self._decide(evidence)
        except KeyboardInterrupt:
            # Nothing is decided and nothing was changed: the candidate stands as it was found.
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            return
        with uninterrupted():
            self.settlement = settle(self, evidence, verdict)
        session.exitstatus = self.settlement.verdict.exit_status
        record_junit(self)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.settlement is None:
            return
        terminalreporter.section("autoresearch", sep="=")
        for line, markup in summary_lines(self):
            terminalreporter.write_line(line, **markup)

    # -- parts -----------------------------------------------------------------

    def _decide(self, evidence: Evidence) -> Verdict:
        """Ask for the verdict; a keep needs every pinned gate passed, whoever asks for it."""
        if self.experiment.answer is not None:
            return self.experiment.answer
        try:
            verdict = self.config.hook.pytest_autoresearch_verdict(
                config=self.config, evidence=evidence
            )
        except Exception as error:
            return failed_hook_verdict("verdict", _text(error))
        if not isinstance(verdict, Verdict):
            return failed_hook_verdict("verdict", f"it returned {verdict!r}, not a Verdict")
        if verdict.decision is Decision.KEEP and not evidence.complete:
            return incomplete_verdict(verdict)
        touched = self.experiment.touched
        if not touched and verdict.decision is Decision.KEEP:
            # Again, as late as can be: what was exchanged meanwhile, and stayed, is found.
            touched = self.campaign.touched()
        if not touched and (verdict.decision is Decision.KEEP or verdict.alarm is not None):
            touched = self.campaign.doubt()
        return touched_verdict(verdict, touched) if touched else verdict

    def _halt(self, error: FixedHarnessViolation) -> None:
        """End the execution at once, on the record."""
        if not self.dry_run:
            record_halt(self.campaign, str(error), self.experiment.candidate)
        raise pytest.UsageError(str(error))

    def call_quietly(self, name: str, **arguments: object) -> None:
        """Call an informational hook; its failure is one red line, never a lost verdict."""
        try:
            getattr(self.config.hook, f"pytest_autoresearch_{name}")(
                config=self.config, **arguments
            )
        except Exception as error:
            self.experiment.notes.append(f"hook pytest_autoresearch_{name} failed: {_text(error)}")


@contextmanager
def uninterrupted() -> Generator[None]:
    """Let Ctrl-C wait while a verdict is carried out: it may end a session between states only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pending:
        raise KeyboardInterrupt


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {escape(str(error))}"


def _printable(text: str) -> str:
    return "\n".join(map(escape, text.replace("\t", "    ").split("\n")))


def _public_message(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    """The first line of a failure or skip, fit for ledgers: no traceback, no data dump."""
    if report.passed:
        return ""
    if report.skipped and isinstance(report.longrepr, tuple):
        return escape(str(report.longrepr[2]).removeprefix("Skipped: "))
    if call.excinfo is None:
        return ""
    text = str(call.excinfo.value).strip() or call.excinfo.typename
    return escape(text.splitlines()[0][:300])
