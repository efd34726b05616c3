"""
What a person sees in a real terminal.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from project import Project

from pytest_autoresearch.session import uninterrupted


def in_a_terminal(project: Project, *arguments: str) -> str:
    """Run a session on a pseudo-terminal and return the raw bytes it drew, decoded."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "--autoresearch", *arguments],
        cwd=project.root, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    ):  # fmt: skip
        os.close(theirs)
        drawn = b""
        while True:
            try:
                drawn += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    return drawn.decode()


def test_runs_show_their_progress_escaped_on_one_line_and_wipe_it(project: Project) -> None:
    """The first run of a baseline is alone, the other two go on at the same time."""
    project.edit("[tool.autoresearch.run]", "[tool.autoresearch.run]\nslots = 2", "pyproject.toml")
    project.edit(
        "    for step in range(STEPS):",
        "    import time\n    for step in range(STEPS):\n"
        "        time.sleep(0.02); print(f'step {step} \\x1b[2Jgone')",
    )
    project.commit("two slots")
    drawn = in_a_terminal(project)
    assert re.search(r"\rtraining +\d+/20 s  step \d", drawn), drawn
    assert re.search(r"\r2 runs +\d+/20 s  step \d", drawn), drawn
    assert "\\x1b[2Jgone" in drawn
    assert "\x1b[2J" not in drawn
    for what in ("training", "2 runs"):
        assert "\r   " in drawn[drawn.rindex(f"\r{what}") :]


def test_a_verdict_stands_out_and_names_reason_metric_and_budget(measured: Project) -> None:
    measured.edit("STEPS = 60", "STEPS = 50")
    drawn = in_a_terminal(measured, "-q")
    assert "REVERTED: STEPS 60 -> 50" in drawn
    assert "no-gain: " in drawn
    assert "sigma; negative is better)" in drawn
    assert "budget: 10 units spent, 90 of 100 left" in drawn


def test_ctrl_c_waits_until_a_verdict_is_carried_out() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 (both must run)
        signal.raise_signal(signal.SIGINT)
        steps.append("carried out")
    assert steps == ["carried out"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
