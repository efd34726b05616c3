"""
results.tsv: one row an experiment, the upstream project's columns first.

It is derived from the ledgers, and nothing is ever read back from it. A session adds its rows to the file that the one
before left, and writes it anew where anybody touched it or an earlier row changed.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .tables import escape

__all__ = [
    "FileMark",
    "ResultRow",
    "cell",
    "extend_results_tsv",
    "file_mark",
    "replace_file",
    "write_results_tsv",
]

FileMark = tuple[int, int, int]

#: Columns after ``commit`` and the metric; the first three are upstream's.
_REST = ("memory_gb", "status", "description", "reason", "domain", "cost", "seq")

#: What opens a formula in a spreadsheet: = + - @ and their full-width twins.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True)
class ResultRow:
    """One experiment."""

    commit: str
    """Object id or a short form; what a discarded experiment has for one is the caller's choice."""
    metric: float | None
    """None when there is no valid metric; written as 0.000000, as upstream does for a crash."""
    memory_gb: float | None
    """Peak memory of the run; None and 0.0 alike when nothing ran."""
    status: str
    """``keep``, ``discard``, ``crash``, ``gate`` or ``escalate``."""
    description: str
    """One line about the mutation: untrusted text."""
    reason: str
    """Why the verdict fell so: may quote untrusted text."""
    domain: str
    """The mutation's domain; empty for the baseline."""
    cost: int
    """Budget units."""
    seq: int
    """Number of the experiment in the campaign; 0 is the baseline."""


def write_results_tsv(path: Path, rows: Iterable[ResultRow], metric_name: str) -> None:
    """
    Replace ``path`` by the table of ``rows``: a reader sees the old file or the new one, never a part.

    Control characters are escaped, so that a row is always one line; text that a spreadsheet would take for
    a formula gets a leading apostrophe; quotes are doubled as the csv module does.

    :raises ValueError: for a metric name that is no identifier or is another column's name.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", metric_name) or metric_name in (
        "commit",
        *_REST,
    ):
        raise ValueError(
            f"metric name {metric_name!r} cannot head a column of results.tsv: use an identifier other than "
            f"commit, {', '.join(_REST)}"
        )
    header = "\t".join(("commit", metric_name, *_REST))
    replace_file(path, f"{header}\n{_lines(rows)}".encode())


def extend_results_tsv(path: Path, rows: Iterable[ResultRow], left: FileMark) -> bool:
    """
    Add ``rows`` to the table at ``path`` in one write, if it is the file that :func:`file_mark` saw.

    :return: False if it is not, or took only a part: it has to be written anew.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if _mark(os.fstat(descriptor)) != left:
            return False
        content = _lines(rows).encode()
        if os.write(descriptor, content) != len(content):
            return False
        os.fsync(descriptor)  # before anybody notes down that it stands there
        return True
    finally:
        os.close(descriptor)


def file_mark(path: Path) -> FileMark:
    """
    What changes when anybody changes a file: inode, size, time of its last change in ns.

    :raises OSError: when there is none.
    """
    return _mark(path.lstat())


def _mark(found: os.stat_result) -> FileMark:
    return found.st_ino, found.st_size, found.st_ctime_ns


def _lines(rows: Iterable[ResultRow]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    for row in rows:
        memory = row.memory_gb
        writer.writerow(
            (
                cell(row.commit),
                f"{row.metric if row.metric is not None and math.isfinite(row.metric) else 0.0:.6f}",
                f"{memory if memory is not None and math.isfinite(memory) else 0.0:.1f}",
                cell(row.status),
                cell(row.description),
                cell(row.reason),
                cell(row.domain),
                row.cost,
                row.seq,
            )
        )
    return buffer.getvalue()


def cell(text: str) -> str:
    """Text for one cell of a table: escaped, and disarmed where a spreadsheet would evaluate it."""
    safe = escape(text)
    return f"'{safe}" if safe.lstrip().startswith(_FORMULA) else safe


def replace_file(path: Path, content: bytes) -> None:
    """
    Put ``content`` in the place of ``path`` in one step; a symbolic link there is replaced, not followed.

    :raises OSError: when the directory cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
