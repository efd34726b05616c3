"""
What a session left on disk, read back with the product's own verifier or with nothing but the file system.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from project import LEAN, Project

from pytest_autoresearch.journal import Journal
from pytest_autoresearch.state import State

BETTER = ("STEPS = 60", "STEPS = 120")
WORSE = ("STEPS = 60", "STEPS = 10")


def journal(project: Project, tag: str = "main") -> Journal:
    """The ledgers of a campaign."""
    return Journal(project.root / ".autoresearch" / tag)


def state(project: Project, tag: str = "main") -> State:
    """Where a campaign stands by its ledgers, which must verify."""
    found = journal(project, tag)
    problem = found.verify()
    assert problem is None, str(problem)
    return found.state()


def last_codes(project: Project) -> list[str]:
    """The codes of the reasons of the last settled row."""
    return [reason.code for reason in state(project).settled[-1].reasons]


def snapshot(root: Path, *ignored: str) -> dict[str, tuple[int, bytes]]:
    """Every file below a directory, ``.git`` included: mode and content, a link's target."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if (path.is_dir() and not path.is_symlink()) or "__pycache__" in name:
            continue
        if any(name == prefix or name.startswith(f"{prefix}/") for prefix in ignored):
            continue
        content = bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        found[name] = (path.lstat().st_mode, content)
    return found


def difference(
    before: dict[str, tuple[int, bytes]], after: dict[str, tuple[int, bytes]]
) -> list[str]:
    """Names of the files that came, went or changed."""
    names = before.keys() | after.keys()
    return sorted(name for name in names if before.get(name) != after.get(name))


def start(project: Project, *arguments: str) -> subprocess.Popen[bytes]:
    """A session in the background, as leader of its own process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "--autoresearch", *arguments],
        cwd=project.root,
        env={**os.environ, **LEAN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the session's whole group: nobody may clean up."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
