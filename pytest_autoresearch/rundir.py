"""
The directory of one run: made fresh, filled read-only, read with care, removed whatever a run left in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from .artifact import UntrustedFileError, read_tail
from .report.tables import escape

__all__ = ["fresh", "last_line", "remove", "tail_of", "write_readonly"]


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


def remove(directory: Path) -> None:
    """Delete what a run left, whatever modes it gave its directories."""

    def unlock(function: Callable[[str], object], path: str, error: BaseException) -> None:
        Path(path).parent.chmod(0o700)
        Path(path).chmod(0o700)
        function(path)

    if directory.exists():
        shutil.rmtree(directory, onerror=lambda f, p, e: unlock(f, p, e[1]))
