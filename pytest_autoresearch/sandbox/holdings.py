"""
What a program holds on disk, looked at from outside: bytes and entries below its writable directories.

One look may take long, so it is taken in slices of time between which the supervisor goes on. It takes
little of a processor (:data:`SLICE` in each tick) unless the file system itself has filled so far since the
last look that the cap may have been passed, which is asked for in each tick and costs nothing.

What is covered: many files, large files, links to the same file once, nesting beyond what a path can say,
directories whose modes hide what is in them. What is not covered: a program fills a disk faster than it is
counted, so it may pass its cap for some seconds; files that it may write elsewhere at level ``none``.
"""

# pathlib and contextlib would add a third to the start of every run.
# ruff: noqa: PTH101

from __future__ import annotations

import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Disk"]

SLICE = 0.002
"""Seconds of a processor in each tick."""
URGENT = 0.02
"""The same when the file system has filled."""
DEPTH = 200
"""Levels of directories; more than a path can name, and each takes a descriptor to walk."""
ENTRIES = 64
"""Between two looks at the clock."""
BLOCK = 512
"""Bytes; what ``st_blocks`` counts, on every file system."""
MIB = 2**20
ATTEMPTS = 5
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
PLACE = os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_PATH", 0)


class HiddenError(Exception):
    """What a directory holds cannot be counted."""


class Disk:
    """The files below some directories."""

    def __init__(self, paths: list[str], cap_mb: float | None, cap_entries: int | None) -> None:
        self._paths = paths
        self._cap = float("inf") if cap_mb is None else cap_mb * MIB
        self._entries_cap = float("inf") if cap_entries is None else cap_entries
        self._walk: Iterator[None] | None = None
        self._bytes = self._entries = 0
        self._links: set[tuple[int, int]] = set()
        self._used = self._filled()
        self._used_before = self._used
        self._last = (0, 0)
        self.peak = 0
        """The most bytes that any look has found."""

    def step(self, beside: int = 0) -> str:
        """
        Look on for a while; why the program has to end, or nothing.

        :param beside: bytes that it holds in files without a name.
        """
        give_up = time.thread_time() + (URGENT if self._urgent() else SLICE)
        try:
            while time.thread_time() < give_up:
                if self._walk is None:
                    self._used = self._filled()
                    self._bytes, self._entries, self._links = beside, 0, set()
                    self._walk = self._everything()
                if next(self._walk, self) is self:
                    self._walk = None
                    self._last = (self._bytes, self._entries)
                    self._used_before = self._used
                    break
                if reason := self._reason():
                    return reason
        except HiddenError:
            return "hidden"
        return self._reason()

    def finish(self, beside: int = 0) -> str:
        """Look once from beginning to end, when nothing can change any more; why it was too much."""
        self._bytes, self._entries, self._links = beside, 0, set()
        try:
            for _ in self._everything():
                if reason := self._reason():
                    return reason
        except HiddenError:
            return "hidden"
        return self._reason()

    def _reason(self) -> str:
        self.peak = max(self.peak, self._bytes)
        if self._bytes > self._cap:
            return "disk"
        return "files" if self._entries > self._entries_cap else ""

    def _filled(self) -> tuple[int, int]:
        """Bytes and entries that the file systems hold, by whomever."""
        size = entries = 0
        seen = set()
        for path in self._paths:
            try:
                found = os.statvfs(path)
            except OSError:
                continue
            if found.f_fsid not in seen:
                seen.add(found.f_fsid)
                size += (found.f_blocks - found.f_bfree) * found.f_frsize
                entries += found.f_files - found.f_ffree
        return size, entries

    def _urgent(self) -> bool:
        """Whether half of what the program may still add has been added since the last look, by whomever."""
        now = self._filled()
        caps = (self._cap, self._entries_cap)
        return any(
            2 * (used - before) > max(cap - had, 0)
            for used, before, cap, had in zip(now, self._used_before, caps, self._last, strict=True)
        )

    def _everything(self) -> Iterator[None]:
        """Count all there is; yields now and then."""
        for path in self._paths:
            top = enter(path)
            if top is None:
                continue
            open_ones = [(top, os.scandir(top))]
            try:
                while open_ones:
                    descriptor, entries = open_ones[-1]
                    entry = next(entries, None)
                    if entry is None:
                        open_ones.pop()
                        entries.close()
                        os.close(descriptor)
                    elif self._count(entry):
                        below = enter(entry.name, descriptor)
                        if below is not None:
                            open_ones.append((below, os.scandir(below)))
                    if len(open_ones) > DEPTH:
                        raise HiddenError
                    if self._entries % ENTRIES == 0:
                        yield
            finally:
                for descriptor, entries in open_ones:
                    entries.close()
                    os.close(descriptor)
            yield

    def _count(self, entry: os.DirEntry[str]) -> bool:
        """Add one entry; whether it is a directory."""
        try:
            found = entry.stat(follow_symlinks=False)
        except PermissionError:
            raise HiddenError from None  # closed again behind our back
        except OSError:
            return False  # removed while we looked
        self._entries += 1
        directory = stat.S_ISDIR(found.st_mode)
        if found.st_nlink > 1 and not directory:
            if (found.st_dev, found.st_ino) in self._links:
                return False
            self._links.add((found.st_dev, found.st_ino))
        self._bytes += found.st_blocks * BLOCK
        return directory


def enter(name: str, parent: int | None = None) -> int | None:
    """
    A descriptor of a directory, whatever its mode; None if it is gone.

    :raises HiddenError: it stays closed.
    """
    for _ in range(ATTEMPTS):
        try:
            found = os.open(name, PLACE, dir_fd=parent)
        except OSError:
            return None
        try:
            # Its owner gets every right, by way of the descriptor and so never through a link.
            if os.fstat(found).st_mode & 0o700 != 0o700:
                os.chmod(f"/proc/self/fd/{found}", 0o700)
            return os.open(".", DIRECTORY, dir_fd=found)
        except PermissionError:
            continue
        except OSError:
            return None
        finally:
            os.close(found)
    raise HiddenError
