"""
Redaction before any data access: a table, a policy and a key in; a redacted table and a report out.

    key = read_key(Path("/etc/autoresearch/pseudonyms.key"), outside=ROOT)
    done = redact({"name": names, "age": ages, "note": notes}, policy, key=key)
    np.savez(folder / "features.npz", **done.table)
    (data / "known_values.json").write_bytes(done.known.to_json())

For the trusted side, in any prepare.py that runs once and sees everything.
Not covered: what columns say together. Rules look at one column at a time, so age, place and occupation that are
each common may still single a person out; cohort gates and a small view are the answer to that.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .findings import Scanner, masked, scan_all
from .known import KnownValues
from .patterns import scan_text
from .policy import (
    Bins,
    Drop,
    Groups,
    Keep,
    Mask,
    Policy,
    PolicyError,
    Pseudonymise,
    Rule,
    TruncateDate,
)

__all__ = ["ColumnReport", "Key", "Redacted", "new_key", "read_key", "redact"]

Array = NDArray[Any]

#: Bytes of a key: as long as SHA-256's output, the least that RFC 2104, section 3, advises.
KEY_BYTES = 32


@dataclass(frozen=True)
class Key:
    """A secret for pseudonyms, with a name that says which one it was."""

    name: str
    secret: bytes = field(repr=False)

    def pseudonym(self, domain: str, value: str) -> str:
        """The pseudonym of a value in a domain."""
        message = f"{len(domain)}:{domain}{value}".encode()
        return f"{self.name}.{hmac.digest(self.secret, message, hashlib.sha256).hex()[:32]}"


def new_key(name: str) -> str:
    """A line for a key file, with a fresh secret. Appended, it is the current key: that is how keys rotate."""
    return f"{name} {os.urandom(KEY_BYTES).hex()}\n"


def read_key(path: Path, *, outside: Path, name: str | None = None) -> Key:
    """
    Read a key file: lines of ``name secret`` (64 or more hex digits); the last line is the current key.

    :param outside: the repository, in which a key must not lie.
    :param name: an earlier key's name, to recompute pseudonyms made with it.
    :raises PolicyError: the file lies in the repository, others than its owner can read it, or a line is wrong.
    """
    real = path.resolve()
    if real.is_relative_to(outside.resolve()):
        raise PolicyError(
            f"the key {str(path)!r} lies inside {str(outside)!r}: what stands in a repository is copied with it; "
            "keep keys outside, such as in ~/.config or a secret store"
        )
    if stat.S_IMODE(real.stat().st_mode) & 0o077:
        raise PolicyError(f"others can read the key {str(path)!r}: chmod 600 it")
    keys: dict[str, bytes] = {}
    for number, line in enumerate(real.read_text(encoding="ascii").splitlines(), 1):
        if not line.strip():
            continue
        found = re.fullmatch(rf"([A-Za-z0-9_-]{{1,32}})\s+([0-9a-f]{{{2 * KEY_BYTES},}})\s*", line)
        if found is None or len(found[2]) % 2 or found[1] in keys:
            raise PolicyError(
                f"line {number} of the key file {path.name!r} must be a name that no other line has and "
                f"at least {2 * KEY_BYTES} hex digits"
            )
        keys[found[1]] = bytes.fromhex(found[2])
    wanted = name if name is not None else next(reversed(keys), None)
    if wanted not in keys:
        raise PolicyError(
            f"the key file {path.name!r} has no key {wanted!r}: it has {list(keys)!r}"
        )
    return Key(wanted, keys[wanted])


@dataclass(frozen=True)
class ColumnReport:
    """What became of a column; counts, no values."""

    rule: str
    rows: int
    distinct_before: int
    distinct_after: int
    """0 for a dropped column."""
    changed: int
    """Rows whose value is another one now."""
    rare: int = 0
    """Rows in groups below the minimum, now ``other``."""
    findings: Mapping[str, int] = field(default_factory=dict)
    """Kind to number of what a mask has replaced, or an unchecked keep let through."""


@dataclass(frozen=True)
class Redacted:
    """A table that may be handed on, and what was done to it."""

    table: dict[str, Array] = field(repr=False)
    """Column to values ``[n]``."""
    report: dict[str, ColumnReport]
    known: KnownValues = field(repr=False)
    """Values of dropped and pseudonymised columns, hashed, for the scanners; keep it on the trusted side."""


def redact(
    table: Mapping[str, ArrayLike] | Array,
    policy: Policy,
    *,
    key: Key | None = None,
    scanners: Sequence[Scanner] = (scan_text,),
) -> Redacted:
    """
    Apply a policy to a table.

    :param table: columns ``[n]`` by name, or a structured array ``[n]``.
    :param key: needed if a column is pseudonymised.
    :param scanners: what texts that are masked or kept are searched with, known values besides.
    :raises PolicyError: an unlisted column, columns of different lengths, a missing key, a value that a rule
        cannot take, or personal data in a column that is kept. No message holds a value.
    """
    columns = _columns(table)
    policy.check(tuple(columns))
    remembered = [
        columns[name]
        for name, rule in policy.columns.items()
        if isinstance(rule, Drop | Pseudonymise) and rule.remember
    ]
    known = KnownValues.of(text for column in remembered for text in _texts(column))
    looking = (*scanners, known)
    after: dict[str, Array] = {}
    report: dict[str, ColumnReport] = {}
    for name, column in columns.items():
        rule = policy.columns[name]
        result, rare, findings = _apply(name, rule, column, key, looking)
        before, now = _texts(column), None if result is None else _texts(result)
        if result is not None:
            after[name] = result
        report[name] = ColumnReport(
            rule=str(rule.__struct_config__.tag),
            rows=len(before),
            distinct_before=len(set(before)),
            distinct_after=0 if now is None else len(set(now)),
            changed=len(before) if now is None else sum(map(str.__ne__, before, now)),
            rare=rare,
            findings=findings,
        )
    return Redacted(after, report, known)


def _columns(table: Mapping[str, ArrayLike] | Array) -> dict[str, Array]:
    if isinstance(table, np.ndarray):
        if table.dtype.names is None:
            raise PolicyError(
                "a table is a structured array or a mapping of columns: this has no names"
            )
        columns: dict[str, Array] = {name: table[name] for name in table.dtype.names}
    else:
        columns = {name: np.asarray(values) for name, values in table.items()}
    lengths = {name: column.shape for name, column in columns.items()}
    if any(len(shape) != 1 for shape in lengths.values()) or len(set(lengths.values())) > 1:
        raise PolicyError(
            f"columns must be one-dimensional and equally long: they have {lengths!r}"
        )
    return columns


def _texts(column: Array) -> list[str]:
    """Every value as text; bytes as UTF-8, an integral float without its point."""
    if column.dtype.kind == "f":
        integral = column == np.floor(column)
        return [
            str(int(v)) if whole and np.isfinite(v) else str(v)
            for v, whole in zip(column.tolist(), integral.tolist(), strict=True)
        ]
    return [
        v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in column.tolist()
    ]


def _missing(text: str) -> bool:
    return text in ("", "nan", "NaT", "None")


def _apply(
    name: str, rule: Rule, column: Array, key: Key | None, scanners: Sequence[Scanner]
) -> tuple[Array | None, int, dict[str, int]]:
    """The column under a rule, the rows that were too rare, and findings by kind."""
    if isinstance(rule, Drop):
        return None, 0, {}
    if isinstance(rule, Pseudonymise):
        if key is None:
            raise PolicyError(f"column {name!r} is pseudonymised, which needs a key: read_key(...)")
        domain = rule.domain or name
        names = ("" if _missing(t) else key.pseudonym(domain, t) for t in _texts(column))
        return np.array(list(names), dtype=np.str_), 0, {}
    if isinstance(rule, Bins | TruncateDate | Groups):
        return *_rolled(_generalised(name, rule, column), rule), {}
    texts = _texts(column) if column.dtype.kind not in "biufc" else []
    counts = Counter(f.kind for text in set(texts) for f in scan_all(text, scanners))
    if isinstance(rule, Mask):
        clean = [masked(text, scanners) for text in (texts or _texts(column))]
        return np.array(clean, dtype=np.str_), 0, dict(counts)
    return _kept(name, rule, column, counts)


def _generalised(name: str, rule: Bins | TruncateDate | Groups, column: Array) -> list[str]:
    if isinstance(rule, Bins):
        return _binned(name, rule, column)
    texts = _texts(column)
    if isinstance(rule, TruncateDate):
        return [_truncated(name, rule, text) for text in texts]
    if not rule.groups:
        return texts
    groups = {member: group for group, members in rule.groups.items() for member in members}
    return [groups.get(text, rule.other) for text in texts]


def _kept(
    name: str, rule: Keep, column: Array, counts: Counter[str]
) -> tuple[Array, int, dict[str, int]]:
    from .numeric import scan_numbers

    counts = counts + Counter(f.kind for f in scan_numbers(column, name))
    if counts and not rule.unchecked:
        said = ", ".join(f"{kind} ({n} different values)" for kind, n in sorted(counts.items()))
        raise PolicyError(
            f"column {name!r} is kept and holds personal data: {said}; drop, pseudonymise or mask it"
        )
    return column, 0, dict(counts)


def _binned(name: str, rule: Bins, column: Array) -> list[str]:
    try:
        values = column.astype(np.float64)
    except (ValueError, TypeError):
        raise PolicyError(
            f"column {name!r} is put into bins and holds values that are no numbers"
        ) from None
    edges = [f"{edge:g}" for edge in rule.edges]
    inner = (f"{low}-{high}" for low, high in pairwise(edges))
    labels = [f"<{edges[0]}", *inner, f">={edges[-1]}"]
    places = np.searchsorted(np.array(rule.edges), values, side="right")
    return [
        "" if missing else labels[place]
        for place, missing in zip(places.tolist(), np.isnan(values).tolist(), strict=True)
    ]


def _truncated(name: str, rule: TruncateDate, text: str) -> str:
    if _missing(text):
        return ""
    try:
        date = datetime.date.fromisoformat(text[:10])
    except ValueError:
        raise PolicyError(
            f"column {name!r} is truncated and holds values that are no ISO dates: parse them first"
        ) from None
    return {
        "decade": f"{date.year // 10 * 10}s",
        "year": f"{date.year:04d}",
        "quarter": f"{date.year:04d}-Q{(date.month + 2) // 3}",
        "month": f"{date.year:04d}-{date.month:02d}",
        "day": date.isoformat(),
    }[rule.to]


def _rolled(values: list[str], rule: Bins | TruncateDate | Groups) -> tuple[Array, int]:
    """Values with fewer rows than the minimum become ``other``; if that is still too small, everything does."""
    counts = Counter(value for value in values if value)
    rare = {v for v, n in counts.items() if v != rule.other and n < rule.minimum}
    others = counts[rule.other] + sum(counts[value] for value in rare)
    # One small remainder could be told by the total: the next smallest groups join it.
    for value, n in sorted(counts.items(), key=lambda item: item[1]):
        if 0 < others < rule.minimum and value not in rare and value != rule.other:
            rare.add(value)
            others += n
    rolled = [rule.other if value in rare else value for value in values]
    return np.array(rolled, dtype=np.str_), sum(counts[value] for value in rare)
