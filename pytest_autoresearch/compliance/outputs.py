"""
The scan of what a run leaves behind: its output, and every string of its artifact, whatever the format.

An artifact is an archive of JSON and raw numbers, an array, or anything else. Scanned are: the printable stretches of
the file itself (member names, comments and what is stored unpacked), of every packed member, and the strings of
members that are JSON. Text may also stand in an array with one number for each character, as ``uint8``,
in wider integers or in floats: those are read as characters, too.
What is not covered: text in any other encoding (a cipher, one-hot, half precision), and what a model has memorised in
its weights. An artifact never goes to an agent, and a run that wants to hide something in it can.

Raw numbers look like text by chance, so an e-mail address among them must be at least 12 characters long with a
domain in one case (below 1e-12 per byte of random numbers), and nothing is decoded there.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .findings import Finding, scan_all
from .patterns import scan_text
from .pii import Scanners, check_size, json_strings, limited

__all__ = ["scan_artifact", "scan_output"]

#: Shortest stretch of printable characters that is looked at: no address is shorter than six.
_SHORTEST = 7
_SHORTEST_EMAIL = 12


def scan_output(log: bytes, scanners: Scanners = (scan_text,)) -> tuple[Finding, ...]:
    """Findings in a run's output; places are lines (``line 12``)."""
    found: list[Finding] = []
    text = log.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    whole = scan_all(text, scanners)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    lines = np.searchsorted(starts, [f.span[0] for f in whole], side="right").tolist()
    for finding, line in zip(whole, lines, strict=True):
        begin, end = finding.span
        at = starts[line - 1]
        found.append(replace(finding, span=(begin - at, end - at), where=f"line {line}"))
    return tuple(limited(found))


def scan_artifact(path: Path, scanners: Scanners = (scan_text,)) -> tuple[Finding, ...]:
    """
    Findings in an artifact; places are members of the archive.

    :raises ValueError: it holds more than the scan takes, or is a damaged archive.
    """
    return tuple(limited(_artifact(path, scanners)))


def _artifact(path: Path, scanners: Scanners) -> Iterator[Finding]:
    check_size(path)
    content = path.read_bytes()
    if not zipfile.is_zipfile(path):
        yield from _binary(content, path.name, scanners)
        return
    # What lies between members is in none of them: the file is looked at as a whole once more, for bytes alone.
    seen: set[tuple[str, str]] = set()
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            where = f"{path.name}:{_short(member.filename)}"
            for finding in scan_all(member.filename.replace("/", " "), scanners):
                yield replace(finding, where=f"{path.name}: a member's name")
            try:
                inner = archive.read(member)
            except (
                zipfile.BadZipFile,
                NotImplementedError,
                RuntimeError,
                OSError,
                EOFError,
            ) as error:
                raise ValueError(f"member of {path.name!r} cannot be read: {error}") from error
            for finding in _member(inner, where, scanners):
                seen.add((finding.kind, finding.excerpt))
                yield finding
    for finding in _printable(np.frombuffer(content, np.uint8), path.name, scanners):
        if (finding.kind, finding.excerpt) not in seen:
            yield finding


def _short(name: str) -> str:
    """A member's name without the archive's own folder."""
    return name.partition("/")[2] or name


def _member(content: bytes, where: str, scanners: Scanners) -> Iterator[Finding]:
    if content[:1] in (b"{", b"["):
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if document is not None:
            text = "\n".join(dict.fromkeys(json_strings(document)))
            # A name in a program has underscores where a number has hyphens.
            text = re.sub(r"(?<=\d)_(?=\d)", "-", text)
            yield from (replace(f, where=where) for f in scan_all(text, scanners))
            return
    yield from _binary(content, where, scanners)


def _binary(content: bytes, where: str, scanners: Scanners) -> Iterator[Finding]:
    yield from _printable(np.frombuffer(content, dtype=np.uint8), where, scanners)
    for kind in ("<u2", "<u4", "<u8", "<f4", "<f8"):
        for offset in _offsets(content):
            count = (len(content) - offset) // int(kind[2:])
            values = np.frombuffer(content, dtype=kind, count=count, offset=offset)
            yield from _printable(values, where, scanners, f"characters as {kind[1:]}")


def _offsets(content: bytes) -> tuple[int, ...]:
    """Where numbers may begin: at the start, and behind the header of a .npy file."""
    if content[:6] == b"\x93NUMPY" and len(content) > 10:
        return (0, min(len(content), 10 + int.from_bytes(content[8:10], "little")))
    return (0,)


def _printable(
    values: NDArray[Any], where: str, scanners: Scanners, encoding: str = ""
) -> Iterator[Finding]:
    """Findings in the stretches of numbers that are codes of printable characters; places are indices."""
    with np.errstate(invalid="ignore"):
        printable = (values >= 32) & (values <= 126)
        if values.dtype.kind == "f":
            printable &= values == np.floor(values)
    edges = np.flatnonzero(np.diff(printable, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= _SHORTEST
    starts, ends = starts[long], ends[long]
    stretches = [
        values[start:end].astype(np.uint8).tobytes().decode("ascii")
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    text = "\n".join(stretches)
    begins = np.cumsum([0, *(len(stretch) + 1 for stretch in stretches)])
    for finding in scan_all(text, scanners):
        begin, end = finding.span
        if not _by_chance(finding, text[begin:end]):
            index = int(np.searchsorted(begins, begin, side="right")) - 1
            at = int(starts[index]) + begin - int(begins[index])
            scheme = encoding or finding.scheme
            yield replace(finding, span=(at, at + end - begin), where=where, scheme=scheme)


def _by_chance(finding: Finding, value: str) -> bool:
    """Whether random bytes would look like this often enough to be seen in a model."""
    if finding.kind != "email":
        return finding.scheme in ("base64", "hex")
    domain = value.rpartition("@")[2]
    mixed = domain not in (domain.lower(), domain.upper())
    return len(value) < _SHORTEST_EMAIL or mixed
