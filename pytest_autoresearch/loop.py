"""
Rounds: propose, judge in a child pytest, look at the ledger, repeat.

The parent never imports a gate's subject or torch: each round is a session of its own, so that nothing a
round leaves in memory can reach the next. What a round decided is read from the ledger, not from its output.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .agents import AgentError, agent_text
from .candidate import CandidateError
from .chain import LedgerError
from .journal import JournalError
from .records import Decision, FixedHarnessViolation, Proposal
from .report.tables import escape, results_table
from .reports import history, result_rows, sentence, write_picture
from .settlement import record_stop
from .state import Settled
from .vcs import RepositoryError

if TYPE_CHECKING:
    from .campaign import Campaign

__all__ = ["run_rounds"]

#: Child statuses after which the loop goes on: kept, gate failed, no gain.
_GOES_ON = frozenset({0, 1, 10})
_OWN_OPTIONS = ("--autoresearch-rounds", "--autoresearch-agent", "--autoresearch-tag")


def run_rounds(config: pytest.Config, campaign: Campaign) -> int:
    """Run up to ``--autoresearch-rounds`` rounds; the exit status is the parent's."""
    return _Loop(config, campaign).run(config.option.autoresearch_rounds)


@dataclass(frozen=True)
class Stopped:
    """Why a loop of rounds ended."""

    code: str
    """As :attr:`.rows.Stop.code`."""
    message: str


class _Loop:
    def __init__(self, config: pytest.Config, campaign: Campaign) -> None:
        self.config = config
        self.campaign = campaign
        self.terminal = config.get_terminal_writer()
        self.started = time.monotonic()
        self.status = 0
        self.first = len(campaign.state.settled)

    def run(self, rounds: int) -> int:
        self.campaign.require_clean_surface()
        self._say(
            f"autoresearch: up to {rounds} rounds on {self.campaign.branch_text}, "
            f"{self.campaign.budget.remaining} units of budget left",
            bold=True,
        )
        if (self.config.option.autoresearch_agent or "evolve") != "evolve":
            self._say(agent_text(self.campaign))
        try:
            stop = self._rounds(rounds)
        except KeyboardInterrupt:
            stop = Stopped("interrupted", "interrupted by the user")
            self.status = int(pytest.ExitCode.INTERRUPTED)
        self._put_on_record(stop)
        self._conclude(stop.message)
        return self.status

    def _rounds(self, rounds: int) -> Stopped:
        if self.campaign.incumbent.metric is None:
            before = self.campaign.incumbent.commit
            if not self._judge("baseline", [f"--autoresearch-candidate={before}"]):
                return Stopped("session", "the baseline was not established")
        for number in range(1, rounds + 1):
            if stop := self._stop_rule():
                return stop
            try:
                proposal = self._propose(number)
            except (AgentError, CandidateError, FixedHarnessViolation) as error:
                self.status = int(pytest.ExitCode.TESTS_FAILED)
                self._say(escape(str(error)), red=True)
                return Stopped("proposer", "the proposer failed")
            if proposal is None:
                return Stopped("proposer", "the proposer has nothing new to try")
            directory = self.campaign.write_proposal(number, proposal)
            arguments = [f"--autoresearch-candidate={directory}"]
            if proposal.description:
                arguments.append(f"--autoresearch-message={escape(proposal.description)}")
            if not self._judge(f"round {number:>3}", arguments):
                return self._stopped()
        return self._stop_rule() or Stopped("rounds", f"{rounds} rounds are done")

    def _stop_rule(self) -> Stopped | None:
        """The first of the configured rules that ends the loop here; None: go on."""
        campaign, stop = self.campaign, self.campaign.settings.stop
        metric, name = campaign.incumbent.metric, campaign.settings.metric
        if stop.target is not None and metric is not None and metric <= stop.target:
            return Stopped(
                "target", f"the target is reached: {name} {metric:.6f} <= {stop.target:g}"
            )
        if campaign.budget.exhausted:
            left = campaign.budget.remaining
            return Stopped("budget", f"the mutation budget is exhausted ({left} units left)")
        elapsed = time.monotonic() - self.started
        if stop.hours is not None and elapsed >= stop.hours * 3600:
            return Stopped("wall-time", f"{stop.hours:g} h are over (stop.hours)")
        idle = self._measured_without_gain()
        if stop.without_gain is not None and idle >= stop.without_gain:
            message = f"{idle} measured experiments in a row brought no gain (stop.without_gain)"
            return Stopped("no-gain", message)
        return None

    def _measured_without_gain(self) -> int:
        """Measured experiments of this loop since its last keep: a gate's refusal says nothing about ideas."""
        count = 0
        for past in reversed(self.campaign.state.settled[self.first :]):
            if past.decision is Decision.KEEP:
                break
            count += past.kind == "verdict" and past.metric is not None
        return count

    def _put_on_record(self, stop: Stopped) -> None:
        """Why the loop ended is the ledger's last row; without a campaign there is no ledger yet."""
        if self.campaign.read_only or not self.campaign.state.settled:
            return
        rounds = len(self.campaign.state.settled) - self.first
        try:
            record_stop(
                self.campaign, stop.code, stop.message, rounds, time.monotonic() - self.started
            )
        except (JournalError, LedgerError, RepositoryError, OSError) as error:
            self._say(f"the end of the loop could not be recorded: {escape(str(error))}", red=True)

    def _propose(self, number: int) -> Proposal | None:
        proposal: Proposal | None = self.config.hook.pytest_autoresearch_propose(
            config=self.config,
            files=self.campaign.incumbent_files,
            history=history(self.campaign),
            number=len(self.campaign.state.settled),
        )
        return proposal

    def _judge(self, label: str, arguments: Sequence[str]) -> bool:
        """One child session; True when the loop may go on."""
        before = len(self.campaign.state.settled)
        log = self.campaign.directory / "rounds" / f"{before:04d}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self.status = self._child(arguments, log)
        self.campaign.reload()
        settled = self.campaign.state.settled[before:]
        for past in settled:
            self._report(label, past, time.monotonic() - started)
        if self.status in _GOES_ON and settled:
            self.status = 0
            return True
        self._say(f"{label}: the session ended with status {self.status}; its output:", red=True)
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]:
            self._say(f"  | {escape(line)}")
        return False

    def _child(self, arguments: Sequence[str], log: Path) -> int:
        command = [
            sys.executable,
            "-P",  # the working directory must not be importable before the harness is checked
            "-m",
            "pytest",
            *_without(self.config.invocation_params.args, _OWN_OPTIONS),
            f"--autoresearch-tag={self.campaign.tag}",
            *arguments,
        ]
        verbose = self.config.option.verbose > 0
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command,
                cwd=self.config.invocation_params.dir,
                stdin=subprocess.DEVNULL,
                stdout=None if verbose else sink,
                stderr=None if verbose else subprocess.STDOUT,
            )
            with process:
                try:
                    return process.wait()
                except KeyboardInterrupt:
                    # The child got the same Ctrl-C; let it end between states.
                    process.wait()
                    raise

    def _report(self, label: str, past: Settled, seconds: float) -> None:
        """One line a round: what, figure, verdict and why."""
        metric = "" if past.metric is None else f"{past.metric:.6f}  "
        markup = {"keep": {"green": True}, "discard": {}}.get(past.status, {"red": True})
        self._say(
            f"{label}  {past.status:<10} {metric}{escape(past.description)}: {escape(past.reason)} "
            f"[{seconds:.0f} s, {self.campaign.budget.remaining} units left]",
            **markup,
        )

    def _stopped(self) -> Stopped:
        words = {11: "a person must look", 12: "a keep or revert failed"}
        message = words.get(self.status, f"a session ended with status {self.status}")
        return Stopped("session", message)

    def _conclude(self, reason: str) -> None:
        """Table, picture, and one sentence that says what happened."""
        campaign = self.campaign
        rows = result_rows(campaign)
        if rows:
            self._say("")
            for line in results_table(rows, campaign.settings.metric).splitlines():
                self._say(line)
        self._say("")
        if rows:
            self._say(write_picture(campaign))
        self._say(
            sentence(campaign, self.first, reason, time.monotonic() - self.started), bold=True
        )

    def _say(self, text: str, **markup: bool) -> None:
        self.terminal.line(text, **markup)
        self.terminal.flush()


def _without(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """The command line without options that take one value, in both spellings."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in names:
            skip = True
        elif not argument.startswith(tuple(f"{name}=" for name in names)):
            kept.append(argument)
    return kept
