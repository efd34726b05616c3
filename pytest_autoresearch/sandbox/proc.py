"""
The process table, as ``/proc`` shows it. On other systems there is none, and every list is empty.
"""

# pathlib would add a third to the start of every run.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Process", "descendants", "scan", "signal_groups"]

PAGE = os.sysconf("SC_PAGE_SIZE")


class Process:
    """One process, as ``/proc/PID/stat`` shows it."""

    __slots__ = ("alive", "group", "headless", "parent", "pid", "resident", "session", "threads")

    def __init__(self, pid: int, stat: bytes) -> None:
        # The command's name stands in parentheses and may hold anything, parentheses included.
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        self.threads = int(fields[17])
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.resident = int(fields[21]) * PAGE
        ended = fields[0] in (b"Z", b"X")
        # A process whose first thread has ended looks like a zombie while the others go on.
        self.headless = ended and self.threads > 1
        self.alive = not ended or self.headless

    def memory(self, *, proportional: bool) -> tuple[int, int]:
        """
        Bytes resident, and how many of these are shared memory.

        Pages shared by k processes count as 1/k each if asked for, and where the kernel says so.
        """
        if self.headless:
            threads = scan(f"/proc/{self.pid}/task")
            return max((thread.resident for thread in threads), default=0), 0
        if proportional:
            try:
                with open(f"/proc/{self.pid}/smaps_rollup", "rb") as file:
                    lines = dict(line.split(b":", 1) for line in file if b":  " in line)
                whole, shared = lines[b"Pss"], lines.get(b"Pss_Shmem", b"0 kB")
                return int(whole.split()[0]) * 1024, int(shared.split()[0]) * 1024
            except (OSError, KeyError):
                pass
        return self.resident, 0


def scan(directory: str = "/proc") -> list[Process]:
    """Every process of the machine that can be seen, or every thread of a ``task`` directory."""
    found: list[Process] = []
    try:
        names = os.listdir(directory)
    except OSError:
        return found
    for name in names:
        if name.isdigit():
            try:
                with open(f"{directory}/{name}/stat", "rb", buffering=0) as file:
                    found.append(Process(int(name), file.read(1024)))
            except (OSError, ValueError):
                continue  # it ended while we looked
    return found


def descendants(processes: Collection[Process], roots: Collection[int]) -> list[Process]:
    """Everything below the processes with the ids ``roots``, those excluded."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    pending = list(roots)
    while pending:
        below = children.pop(pending.pop(), [])
        found.extend(below)
        pending.extend(process.pid for process in below)
    return found


def signal_groups(groups: Collection[int], number: int) -> None:
    """
    Signal whole process groups.

    The kernel signals a group under one lock, so a member cannot fork its way out in between; and a
    group that holds a descendant holds nothing else, since a group never spans two sessions.
    """
    for group in groups:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            continue
