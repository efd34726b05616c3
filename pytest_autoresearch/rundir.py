"""
The directory of one run: made fresh, filled read-only, read with care, removed whatever a run left in it.
"""

# Directories are read by descriptor, which pathlib cannot.
# ruff: noqa: PTH208

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from .artifact import UntrustedFileError, read_tail
from .report.tables import escape

__all__ = ["fresh", "last_line", "remove", "tail_of", "write_readonly"]

DEPTH = 64
"""Levels walked down with a descriptor each; what lies deeper is moved up first."""
PATIENCE = 5.0
"""Seconds in which something may still write to what is removed: the last moments of a killed run."""


def write_readonly(directory: Path, contents: Mapping[str, bytes]) -> Path:
    """A fresh directory with these files, read-only."""
    fresh(directory)
    for name, content in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o444)
    return directory


def tail_of(log: Path, size: int = 8192) -> str:
    """The last lines of a log, escaped: whoever wrote it is not trusted."""
    try:
        text = read_tail(log, size=size).decode("utf-8", errors="replace")
    except UntrustedFileError:
        return ""
    return "\n".join(escape(line) for line in text.replace("\r", "\n").splitlines())


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def fresh(directory: Path) -> Path:
    remove(directory)
    directory.mkdir(parents=True)
    # At the levels that drop root, another user enters; what it may write is decided by the sandbox.
    directory.chmod(0o755)
    return directory


def remove(path: Path) -> None:
    """
    Delete what a run left: whatever modes it gave its directories, whoever owns them, however deep.

    Links are removed and never followed. Nothing happens if there is nothing.

    :raises OSError: it cannot be removed, for example because a file is immutable.
    """
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        try:
            _remove(path.name, parent)
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > give_up:
                raise
        finally:
            os.close(parent)
        time.sleep(0.02)


def _remove(name: str, parent: int) -> None:
    """Remove one entry of a directory."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    top = _enter(name, parent)
    try:
        while entries := os.listdir(top):
            for entry in entries:
                _clear(entry, top, top, DEPTH)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _clear(name: str, parent: int, top: int, levels: int) -> None:
    """Remove an entry, or move it to the top if it lies too deep; gone already is as good."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            return
        inside = _enter(name, parent)
        try:
            if not levels:
                os.rename(name, secrets.token_hex(16), src_dir_fd=parent, dst_dir_fd=top)
                return
            for entry in os.listdir(inside):
                _clear(entry, inside, top, levels - 1)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return


def _enter(name: str, parent: int) -> int:
    """A descriptor of a directory whose owner may now do everything with it."""
    found = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_PATH, dir_fd=parent)
    try:
        # By way of the descriptor: what the name means may change.
        Path(f"/proc/self/fd/{found}").chmod(0o700)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=found)
    finally:
        os.close(found)
