"""
Texts that do not show what they hold: other spellings of the same characters, and encodings.

:class:`Folded` is a text in plain characters with the way back to the places in the original. Encodings are
undone for one level: base64 of base64 stays what it is.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Decoded", "Folded", "decoded"]

_FOREIGN = re.compile(r"[^\x00-\x7f]+")
#: Hyphens and full stops of other scripts and of typography, to which NFKC gives no plain form.
_PLAIN = {
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212\u00ad"), "-"),
    **dict.fromkeys(map(ord, "\u3002\u2024\u00b7"), "."),
    0x00AD: "",
}


class Folded:
    """
    A text in Unicode's compatibility form (NFKC by character) without invisible characters.

    :ivar text: what to search.
    """

    def __init__(self, text: str) -> None:
        pieces: list[str] = []
        # Where a stretch of the folded text starts, where in the original, and whether it is a copy.
        self._starts: list[int] = []
        self._origins: list[tuple[int, int]] = []
        length = last = 0

        def add(piece: str, start: int, end: int) -> None:
            nonlocal length
            if piece:
                pieces.append(piece)
                self._starts.append(length)
                self._origins.append((start, end))
                length += len(piece)

        for match in _FOREIGN.finditer(text):
            add(text[last : match.start()], last, match.start())
            for at in range(*match.span()):
                add(_plain(text[at]), at, at + 1)
            last = match.end()
        add(text[last:], last, len(text))
        self.text = "".join(pieces)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the original of a place in the folded text."""
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, at: int) -> tuple[int, int]:
        """Start and end in the original of one folded character."""
        index = bisect_right(self._starts, at) - 1
        start, end = self._origins[index]
        following = self._starts[index + 1] if index + 1 < len(self._starts) else len(self.text)
        if end - start == following - self._starts[index]:
            start += at - self._starts[index]
            return start, start + 1
        return start, end


def _plain(character: str) -> str:
    if ord(character) in _PLAIN:
        return _PLAIN[ord(character)]
    if unicodedata.category(character) in ("Cf", "Mn"):
        return ""
    digit = unicodedata.digit(character, None)
    if digit is not None and character.isdecimal():
        return str(digit)
    return unicodedata.normalize("NFKC", character)


class Decoded(NamedTuple):
    """A piece of text that stands in another one in an encoding."""

    encoding: str
    text: str
    start: int
    end: int


_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{12,}+={0,2}")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0x)?((?:[0-9A-Fa-f]{2}){9,}+)(?![0-9A-Za-z])")
_SPACES = frozenset("\t\n\r")


def decoded(text: str) -> Iterator[Decoded]:
    """Every stretch of base64 (either alphabet) or hexadecimal digits that is text when decoded."""
    for match in _HEX.finditer(text):
        if (plain := _text(bytes.fromhex(match[1]))) is not None:
            yield Decoded("hex", plain, *match.span())
    for match in _BASE64.finditer(text):
        body = match[0].rstrip("=").translate(_URLSAFE)
        if len(body) % 4 == 1:
            continue
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4))
        except binascii.Error:
            continue
        if (plain := _text(raw)) is not None:
            yield Decoded("base64", plain, *match.span())


_URLSAFE = str.maketrans("-_", "+/")


def _text(raw: bytes) -> str | None:
    """What was encoded, if it is printable text."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if all(c.isprintable() or c in _SPACES for c in text) else None
