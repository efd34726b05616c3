"""
Known values: what stood in dropped columns, as a hashed set, so that it is found wherever it turns up later.

A value is cut into words (letters and digits, accents and case folded), and a text is searched for the same words in
a row: ``Doe, Jane`` holds the words of ``jane doe`` in the other order, which counts, too. Numbers are also
looked for as one row of digits. Hashes are BLAKE2b with the set's own random salt. Names are few and can be
guessed, so the set is personal data itself: it belongs beside the raw data, never into the training view.
Values that say nothing (one word of fewer than six letters, fewer than six digits in all) are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from .findings import Finding, shape

__all__ = ["KnownValues"]

_WORD = re.compile(r"[^\W_]+")
#: Words of the longest value that is remembered; a longer one is remembered by its first words.
MOST_WORDS = 6
_SHORTEST_WORD, _SHORTEST_NUMBER = 6, 6


class KnownValues:
    """
    A set of values that are found in texts; a :class:`.findings.Scanner`.

    :ivar skipped: distinct values that say too little to be looked for.
    """

    def __init__(self, salt: bytes, hashes: Iterable[str], firsts: Iterable[str], skipped: int = 0):
        self._salt = salt
        self._hashes = frozenset(hashes)
        self._firsts = frozenset(firsts)
        self.skipped = skipped
        self._hash = lru_cache(1 << 16)(self._digest)

    def __len__(self) -> int:
        return len(self._hashes)

    @classmethod
    def of(cls, values: Iterable[str], salt: bytes | None = None) -> KnownValues:
        """The set of these values; empty and missing ones are no values."""
        self = cls(salt or os.urandom(16), (), ())
        hashes: set[str] = set()
        firsts: set[str] = set()
        skipped = 0
        for value in {v for v in values if v and v not in ("nan", "NaT", "None", "?")}:
            found = False
            for words in _spellings(_words(value)):
                found = True
                firsts.add(self._digest(words[0]))
                hashes.add(self._digest(" ".join(words)))
            skipped += not found
        return cls(self._salt, hashes, firsts, skipped)

    def __call__(self, text: str) -> tuple[Finding, ...]:
        """Every place of ``text`` where a known value stands."""
        if not self._hashes:
            return ()
        words = [(_fold(match[0]), *match.span()) for match in _WORD.finditer(text)]
        found = []
        free = 0
        for index, (word, start, _) in enumerate(words):
            if index < free or self._hash(word) not in self._firsts:
                continue
            row = [word for word, _, _ in words[index : index + MOST_WORDS]]
            for n in range(len(row), 0, -1):
                if self._hash(" ".join(row[:n])) in self._hashes:
                    end = words[index + n - 1][2]
                    found.append(Finding("known_value", (start, end), shape(text[start:end])))
                    free = index + n
                    break
        return tuple(found)

    def _digest(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._salt, digest_size=10).hexdigest()

    def to_json(self) -> bytes:
        """For a file of the trusted side."""
        document = {
            "salt": self._salt.hex(),
            "skipped": self.skipped,
            "firsts": sorted(self._firsts),
            "hashes": sorted(self._hashes),
        }
        return json.dumps(document).encode()

    @classmethod
    def from_json(cls, data: bytes) -> KnownValues:
        """
        What :meth:`to_json` has written.

        :raises ValueError: it is something else.
        """
        try:
            document: dict[str, Any] = json.loads(data)
            salt = bytes.fromhex(document["salt"])
            return cls(salt, document["hashes"], document["firsts"], int(document["skipped"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"no set of known values: {error!r}") from error


def _fold(word: str) -> str:
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(c for c in plain if not unicodedata.combining(c))


def _words(value: str) -> list[str]:
    return [_fold(word) for word in _WORD.findall(value)]


def _spellings(words: list[str]) -> Iterator[list[str]]:
    """The rows of words that stand for a value; none if it says too little."""
    joined = "".join(words)
    digits = sum(c.isdigit() for c in joined)
    if not words or (len(words) == 1 and len(joined) < _SHORTEST_WORD):
        return
    if digits == len(joined):
        if digits < _SHORTEST_NUMBER:
            return
        yield [joined]
    yield words[:MOST_WORDS]
    if len(words) == 2 and not digits:
        yield [words[1], words[0]]
