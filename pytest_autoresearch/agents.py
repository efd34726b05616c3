"""
An agent is a command: the prompt on its standard input, a directory of its own, and the surface files it
leaves there. Exit codes and envelopes disagree between vendors, so the files are the only result.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .candidate import read_directory
from .records import Proposal, Trial
from .report.tables import escape

if TYPE_CHECKING:
    from .campaign import Campaign

__all__ = ["AgentError", "build_prompt", "run_agent"]

#: Seconds between the polite and the final signal.
_GRACE = 5.0


class AgentError(Exception):
    """The agent gave nothing usable; the message says what to look at."""


def run_agent(command: str, campaign: Campaign, history: Sequence[Trial]) -> Proposal | None:
    """
    Let a shell command edit a copy of the surface; None when it changed nothing.

    The directory is outside the project and holds the surface, ``program.md``, a readable copy of
    ``prepare.py`` and the prompt as ``PROMPT.md``. Whatever else the agent leaves there is dropped.

    :raises AgentError: the command could not be run, or a surface file is gone or no plain text file.
    """
    directory = Path(tempfile.mkdtemp(prefix="autoresearch-agent-"))
    try:
        prompt = build_prompt(campaign, history)
        _lay_out(directory, campaign, prompt)
        status = _run(command, directory, prompt, campaign.settings.agent.seconds)
        files = read_directory(directory, campaign.settings.surface)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if files == dict(campaign.incumbent_files):
        if status != 0:
            raise AgentError(
                f"the agent command {command!r} ended with status {status} and changed nothing: run it by "
                "hand to see why"
            )
        return None
    return Proposal(files, "")


def build_prompt(campaign: Campaign, history: Sequence[Trial]) -> str:
    """The agent's prompt: the rules, the history with rounded figures, the budget, how to answer."""
    settings = campaign.settings
    program = campaign.root / settings.program
    rules = program.read_text(encoding="utf-8") if program.is_file() else ""
    metric = campaign.incumbent.metric
    lines = [
        rules.strip(),
        "",
        "## Now",
        f"- Edit only: {', '.join(settings.surface)} in the current directory. Then stop.",
        f"- Budget left: {campaign.budget.remaining} of {settings.budget.total} units.",
        f"- Incumbent {settings.metric}: "
        + ("not measured" if metric is None else f"{metric:.4f}"),
        "",
        "## What was tried, oldest first",
        *(
            f"- {trial.status}"
            + ("" if trial.metric is None else f" {settings.metric} {trial.metric:.4f}")
            + f": {escape(trial.description)}"
            for trial in history[-50:]
        ),
    ]
    return "\n".join(lines) + "\n"


def _lay_out(directory: Path, campaign: Campaign, prompt: str) -> None:
    fixed = {
        name: (campaign.root / name).read_bytes()
        for name in (campaign.settings.program, campaign.settings.prepare)
        if (campaign.root / name).is_file()
    }
    for name, content in {
        **fixed,
        **campaign.incumbent_files,
        "PROMPT.md": prompt.encode(),
    }.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _run(command: str, directory: Path, prompt: str, seconds: float) -> int:
    """Run the command in a process group of its own and end the whole group at the limit."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "PYTEST_"))
    }
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise AgentError(f"the agent command {command!r} cannot be started: {error}") from error
    with process:
        try:
            process.communicate(prompt.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        finally:
            _signal_group(process.pid, signal.SIGKILL)
    return process.returncode


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
