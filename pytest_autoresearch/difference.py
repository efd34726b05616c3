"""
What differs between two versions of the surface, as text that a person can trust.

Unified, with everything escaped that a terminal would obey or a reader would not see; in bounded work,
whatever the files hold.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from .report.tables import escape

__all__ = ["BLANK", "diff", "visible"]

# difflib is cubic in the worst case, and a hostile file is one.
_DIFFLIB_CAP = 1_500

BLANK = "\u115f\u1160\u3164\ufe00-\ufe0e\uffa0\U000e0100-\U000e0fff"
"""
Letters and marks that count as printable and print nothing, for a class of characters.

U+FE0F is missing on purpose: it only makes an emoji colourful.
"""
_BLANK = re.compile(f"[{BLANK}]")


def diff(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    """Unified difference as ``a/train.py b/train.py``; hidden and undecodable characters escaped."""
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old != new:
            lines.append(f"--- {'/dev/null' if old is None else 'a/' + path}")
            lines.append(f"+++ {'/dev/null' if new is None else 'b/' + path}")
            lines.extend(_hunks(_lines(old or b""), _lines(new or b"")))
    return "".join(f"{visible(line)}\n" for line in lines)


def visible(text: str) -> str:
    """Source text made safe to show: line feeds and tabs stay; an undecodable byte becomes its escape."""
    # surrogateescape keeps an undecodable byte 0x80 to 0xFF as U+DC80 to U+DCFF.
    text = re.sub("[\udc80-\udcff]", lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)
    text = _BLANK.sub(lambda match: ascii(match[0])[1:-1], text)
    return re.sub(r"[^\t\n]+", lambda match: escape(match[0]), text)


def _lines(data: bytes) -> list[str]:
    """Lines without their line feeds; the last one says so if the file ends without."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if lines[-1]:
        lines[-1] += "\n\\ No newline at end of file"
    else:
        lines.pop()
    return lines


def _hunks(old: list[str], new: list[str]) -> Iterator[str]:
    """
    Unified hunks. The common head and tail go first, as they are most of the file; what remains is
    compared line by line, unless that would take seconds: then it is replaced as a block.
    """
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    start, stop = max(0, head - 3), max(0, tail - 3)
    left, right = old[start : len(old) - stop], new[start : len(new) - stop]
    if max(len(left), len(right)) <= _DIFFLIB_CAP:
        for line in [*difflib.unified_diff(left, right, lineterm="")][2:]:
            shifted = re.sub(r"(?<=[-+])\d+", lambda at: str(int(at[0]) + start), line)
            yield shifted if line.startswith("@@ ") else line
    else:
        gone, come = old[head : len(old) - tail], new[head : len(new) - tail]
        yield f"@@ -{head + bool(gone)},{len(gone)} +{head + bool(come)},{len(come)} @@"
        yield from (f"-{line}" for line in gone)
        yield from (f"+{line}" for line in come)
