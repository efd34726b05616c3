"""
What a scanner reports, and how it is told: kind, place and count, and never the value.

Messages reach ledgers, terminals and agents, so :class:`Finding` holds the value's shape only, and
:func:`summary` groups findings into a few lines whose places are scanned themselves: a file or an array may be
named after a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Finding", "Scanner", "masked", "merged", "scan_all", "shape", "summary"]


@dataclass(frozen=True)
class Finding:
    """One place that looks like personal data."""

    kind: str
    """``email``, ``phone``, ``national_id``, ``iban``, ``card``, ``ipv4``, ``ipv6``, ``mac``, ``birth_date``,
    ``known_value``, ``person`` and what else a scanner calls it; ``column`` and ``unscanned`` for files."""
    span: tuple[int, int]
    """Start and end in the scanned string."""
    excerpt: str
    """The value's shape, letters as x and digits as 9; for a column its name, for a file the reason."""
    where: str = ""
    """File, and array or key in it; empty for plain text."""
    scheme: str = ""
    """Which number it is, such as ``us ssn``, or how it was hidden, such as ``base64``."""

    def __str__(self) -> str:
        scheme = f" ({self.scheme})" if self.scheme else ""
        place = f" in {self.where}" if self.where else ""
        return f"{self.kind}{scheme}{place} at {self.span[0]}: {self.excerpt}"


class Scanner(Protocol):
    """Anything that finds personal data in a text: built-in patterns, known values, Presidio, your own."""

    def __call__(self, text: str) -> Sequence[Finding]:
        """Findings in ``text``, in order, without overlaps."""


def shape(value: str) -> str:
    """Mask a value: its shape tells a reader what was found, and nothing about whose it is."""
    return "".join("9" if c.isdigit() else "x" if c.isalpha() else c for c in value)


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings in order of their place, without overlaps: of two, the one that starts earlier, then the longer."""
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda f: (f.span[0], -f.span[1])):
        if not kept or finding.span[0] >= kept[-1].span[1]:
            kept.append(finding)
    return tuple(kept)


def scan_all(text: str, scanners: Sequence[Scanner]) -> tuple[Finding, ...]:
    """What any of several scanners finds."""
    if len(scanners) == 1:
        return tuple(scanners[0](text))
    return merged(finding for scanner in scanners for finding in scanner(text))


def masked(text: str, scanners: Sequence[Scanner]) -> str:
    """The text with every finding replaced by its kind in brackets, until nothing else is found any more."""
    while True:
        findings = scan_all(text, scanners)
        # A scanner may take the word in the brackets for a value, too: that would never end.
        names = "|".join(re.escape(kind) for kind in {finding.kind for finding in findings})
        masks = [match.span() for match in re.finditer(rf"\[(?:{names})\]", text)] if names else []
        values = [
            f for f in findings if not any(a <= f.span[0] and f.span[1] <= b for a, b in masks)
        ]
        if not values:
            return text
        for finding in reversed(values):
            start, end = finding.span
            text = f"{text[:start]}[{finding.kind}]{text[end:]}"


def summary(findings: Iterable[Finding], scanners: Sequence[Scanner]) -> list[str]:
    """One line for each kind and place, in order of appearance: ``email in notes.txt: 3, the first at 17``."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind, finding.scheme, finding.where), []).append(finding)
    lines = []
    for (kind, scheme, where), found in groups.items():
        name = f"{kind} ({scheme})" if scheme else kind
        place = f" in {masked(where, scanners)}" if where else ""
        if kind in ("column", "unscanned"):
            said = ", ".join(dict.fromkeys(repr(masked(f.excerpt, scanners)) for f in found))
            lines.append(f"{name}{place}: {said}")
        else:
            lines.append(f"{name}{place}: {len(found)}, the first at {found[0].span[0]}")
    return lines
