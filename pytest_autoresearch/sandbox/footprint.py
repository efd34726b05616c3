"""
The memory of a process tree, with what its processes' own figures leave out.

Pages of a private temporary file system belong to no process, nor does a file of memory (``memfd_create``)
that is open and not mapped. The first are read off the file systems as the tree sees them, through
``/proc/PID/root``; the second, and files on disk that have lost their last name, off the descriptors in
``/proc/PID/fd``. Memory that is both in such a file and mapped is counted once.

What is not covered: what the kernel itself holds for a program, such as full sockets and pipes, and files
of memory that are on their way through a socket and open nowhere: those take a control group.
"""

# pathlib and contextlib would add a third to the start of every run.
# ruff: noqa: PTH116, PTH123, PTH208

from __future__ import annotations

import os
import stat
import time

from .proc import descendants, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .proc import Process

__all__ = ["Footprint"]

SLICE = 0.002
"""Seconds of a processor in each tick for looking at descriptors."""
BLOCK = 512
SHARED = "/dev/shm"  # noqa: S108

Identity = tuple[int, int]
"""Device and inode of a file."""


class Footprint:
    """What the tree below one process holds in memory, and on disk in files without a name."""

    def __init__(self, root: int, private: Collection[str], user: int | None) -> None:
        """
        :param private: where the tree has file systems of memory that are its own.
        :param user: the tree's own user id; None if others share it.
        """
        self._root = root
        self._outside = {path: device(path) for path in private}
        self._user = user
        self._devices: set[int] = set()
        """The private file systems."""
        self._memory = {device(SHARED), memory_device()}
        """File systems of memory that everybody shares."""
        self._walk: Iterator[None] | None = None
        self._found: dict[Identity, int] = {}
        self._open: dict[Identity, int] = {}
        self._named: dict[Identity, int] = {}
        self.unnamed = 0
        """Bytes on disk in open files without a name."""
        self.tasks = 0
        """Processes and threads at the last look."""
        self.peak = 0
        self.peak_tasks = 1  # the program itself, should it end before the first look

    def look(self) -> int:
        """Bytes of memory; exact whenever it is more than ever before."""
        tree = [process for process in descendants(scan(), (self._root,)) if process.alive]
        self.tasks = sum(process.threads for process in tree)
        self.peak_tasks = max(self.peak_tasks, self.tasks)
        files = self._private(tree)
        self._step(tree)
        self._named = self._shared()
        files += sum((self._open | self._named).values())
        used = files + sum(process.memory(proportional=False)[0] for process in tree)
        if used > self.peak and (len(tree) > 1 or files):
            figures = [process.memory(proportional=True) for process in tree]
            used = files + sum(whole for whole, _ in figures)
            if files and any(shared for _, shared in figures):
                used -= sum(self._twice(process.pid) for process in tree)
        return used

    def _private(self, tree: list[Process]) -> int:
        """Bytes in the private file systems, seen through any process that is in there."""
        sizes: dict[int, int] = {}
        for process in reversed(tree):
            for path, outside in self._outside.items():
                inside = f"/proc/{process.pid}/root{path}"
                found = device(inside)
                if found is not None and found != outside and found not in sizes:
                    try:
                        filled = os.statvfs(inside)
                    except OSError:
                        continue
                    sizes[found] = (filled.f_blocks - filled.f_bfree) * filled.f_frsize
            if len(sizes) == len(self._outside):
                break
        self._devices.update(sizes)
        return sum(sizes.values())

    def _shared(self) -> dict[Identity, int]:
        """What the tree's own user has in the host's shared memory."""
        mine: dict[Identity, int] = {}
        if self._user is None:
            return mine
        try:
            with os.scandir(SHARED) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_uid == self._user:
                        mine[found.st_dev, found.st_ino] = found.st_blocks * BLOCK
        except OSError:
            pass  # removed while we looked
        return mine

    def _step(self, tree: list[Process]) -> None:
        """Look at some more descriptors."""
        give_up = time.thread_time() + SLICE
        if self._walk is None:
            self._found = {}
            self._walk = self._descriptors(tree)
        while time.thread_time() < give_up:
            if next(self._walk, self) is self:
                self._walk = None
                memory = {key: size for key, size in self._found.items() if key[0] in self._memory}
                self._open = memory
                self.unnamed = sum(self._found.values()) - sum(memory.values())
                break

    def _descriptors(self, tree: list[Process]) -> Iterator[None]:
        """Find the open files that have no name."""
        for process in tree:
            directory = f"/proc/{process.pid}/fd"
            try:
                names = os.listdir(directory)
            except OSError:
                names = []
            for name in names:
                yield
                try:
                    found = os.stat(f"{directory}/{name}")
                except OSError:
                    continue
                unnamed = stat.S_ISREG(found.st_mode) and not found.st_nlink
                # What lies on a private file system is counted there.
                if unnamed and found.st_dev not in self._devices:
                    self._found[found.st_dev, found.st_ino] = found.st_blocks * BLOCK

    def _twice(self, pid: int) -> int:
        """Bytes of a process's mappings that are counted as files."""
        size, counted = 0, False
        try:
            with open(f"/proc/{pid}/smaps", "rb") as file:
                for line in file:
                    words = line.split(None, 5)
                    if b"-" in words[0]:
                        major, minor = (int(part, 16) for part in words[3].split(b":"))
                        of = os.makedev(major, minor), int(words[4])
                        counted = of[0] in self._devices or of in self._open or of in self._named
                    elif counted and words[0] == b"Pss:":
                        size += int(words[1]) * 1024
        except OSError:
            pass
        return size


def device(path: str) -> int | None:
    """The file system that a path leads to; None if it cannot be told."""
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def memory_device() -> int | None:
    """The kernel's own file system, which anonymous files of memory lie on."""
    try:
        descriptor = os.memfd_create("autoresearch")
    except (AttributeError, OSError):
        return None
    try:
        return os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)
