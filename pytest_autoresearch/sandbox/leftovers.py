"""
What to do when a program has killed its own supervisor: find its processes and end them.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from .proc import descendants, scan, signal_groups

__all__ = ["kill_marked"]


def kill_marked(mark: bytes, session: int) -> int:
    """
    Kill what a lost supervisor left behind; the number of processes.

    Second line of defence: it finds the program's session, every process that still shows the run's
    mark in its environment, and their descendants. A process that shed all three escapes it.
    """
    killed: set[int] = set()
    for _ in range(100):
        processes = scan()
        roots = {
            process.pid
            for process in processes
            if process.session == session or mark in _environment(process.pid)
        }
        below = {process.pid for process in descendants(processes, roots)}
        found = [p for p in processes if p.alive and p.pid in roots | below]
        if not found:
            break
        killed.update(process.pid for process in found)
        signal_groups({process.group for process in found}, signal.SIGKILL)
        time.sleep(0.01)
    return len(killed)


def _environment(pid: int) -> list[bytes]:
    """The environment that a process was started with; empty if it cannot be read."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
