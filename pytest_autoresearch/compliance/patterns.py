"""
Patterns of personal data in text, with their checksums.

What is covered: e-mail addresses (also written with "at" and "dot"), phone numbers (+country, North American, with a
trunk zero), IBAN, payment cards, national ids (:mod:`.national`), IPv4, IPv6 and MAC addresses, dates of
birth after a word for one; full-width and other compatibility characters, invisible ones between, and one
level of base64 or hexadecimal digits (:mod:`.hidden`).
What is not covered: names and addresses in free text, bare digits without a checksum and without a word for them.
Measured recall and precision: docs/privacy.md. A finding never carries the value it found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from .checksums import iban
from .findings import Finding, shape
from .hidden import Folded, decoded
from .national import Found, lettered, numbers

__all__ = ["Finding", "scan_text"]

# Every pattern starts at a boundary and repeats one class at a time, so that a scan is linear in its text.
# A literal first character with the boundary behind it lets the engine search for that character alone.
_END = r"(?![\w]|[.-]\d)"
#: Longest parts of an address (RFC 5321, 4.5.3.1); the boundary before the local part keeps a search linear.
_LOCAL, _LABEL = r"[\w.%+-]{1,64}", r"[A-Za-z0-9-]{1,63}"


@cache
def _top_level() -> frozenset[str]:
    lines = Path(__file__).with_name("tlds.txt").read_text(encoding="ascii").splitlines()
    return frozenset(" ".join(line for line in lines if not line.startswith("#")).split())


def _is_top_level(name: str) -> bool:
    name = name.lower()
    return name in _top_level() or name.startswith("xn--")


# -- e-mail --------------------------------------------------------------------

_DOMAIN = re.compile(rf"@((?:{_LABEL}\.){{1,8}}[A-Za-z0-9-]{{2,24}})(?![A-Za-z0-9])")
#: Top-level domains that are no method's name: ``jo@example.org(work)`` is an address, ``a@b.to(device)`` a program.
_NO_METHOD = frozenset(
    re.findall(r"\w+", "com org net edu gov mil int biz de fr uk us ca eu io ch nl pl se fi br")
)
_LOCAL_PART = re.compile(rf"(?<![\w.%+-]){_LOCAL}\Z")


def _emails(text: str) -> Iterator[Found]:
    """A name, an @, and a domain up to a top-level domain that exists."""
    for match in _DOMAIN.finditer(text):
        labels = match[1].split(".")
        called = text[match.end() : match.end() + 1] == "("
        while len(labels) > 1 and not _is_top_level(labels[-1]):
            labels.pop()
        if len(labels) < 2 or (called and labels[-1].lower() not in _NO_METHOD):
            continue
        local = _LOCAL_PART.search(text, max(0, match.start() - 65), match.start())
        if local is not None:
            yield "email", "", local.start(), match.start() + 1 + len(".".join(labels))


_AT = r"(?:[ ]?(?:[(\[{<]\s?(?:at|@)\s?[)\]}>]|%40|&#64;|&#x40;|\\u0040)[ ]?)"
_DOT = r"(?:[ ]?[(\[{<]\s?(?:dot|\.)\s?[)\]}>][ ]?|[ ]dot[ ])"
_SPELLED = re.compile(
    # "(at)" and its like; or " at " and "@" where a spelled "dot" follows
    rf"(?i)(?:{_AT}{_LABEL}(?:(?:{_DOT}|\.){_LABEL}){{1,4}}"
    rf"|(?:[ ]at[ ]|[ ]?@[ ]?){_LABEL}(?:{_DOT}{_LABEL}){{1,4}})(?![\w(])"
)
#: One of these stands in every address that is spelled out.
_MARK = re.compile(r"(?i)[(\[{<]\s?(?:at|dot|[@.])\s?[)\]}>]|[ ]dot[ ]|%40|&#x?[46][04];|\\u0040")


def _spelled(text: str) -> Iterator[Found]:
    """Addresses in words: ``name (at) example dot org``."""
    if not _MARK.search(text):
        return
    for match in _SPELLED.finditer(text):
        last = re.split(r"(?i)[^a-z0-9-]", match[0])[-1]
        local = _LOCAL_PART.search(text, max(0, match.start() - 65), match.start())
        if local is not None and _is_top_level(last):
            yield "email", "spelled out", local.start(), match.end()


# -- accounts, phones, dates, network ------------------------------------------

_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")


def _ibans(text: str) -> Iterator[Found]:
    for match in _IBAN.finditer(text):
        if iban(match[0].replace(" ", "")):
            yield "iban", "", *match.span()


# A number between single spaces on both sides of which no other number stands: not a row of a table.
_ALONE, _APART = r"(?<!\d )(?<!\d,)", r"(?! \d)"
_PHONES = re.compile(
    # +country; North American with separators; a trunk zero
    r"\+(?<![\w.+-]\+)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,4}\)?){2,5}" + _END + "|"
    r"(?<![\w.+-])(?:(?:\+?1|001)[ .-]?)?(?:\([2-9]\d\d\) ?[2-9]\d\d[-. ]|[2-9]\d\d[-.][2-9]\d\d[-.]"
    rf"|{_ALONE}[2-9]\d\d [2-9]\d\d (?=\d{{4}}(?! \d)))"
    r"\d{4}(?:x\d{2,5})?" + _END + "|"
    rf"(?<![\w.+-]){_ALONE}(?<!\d/)(?:\(0[1-9]\d{{0,4}}\) ?|0[1-9]\d{{0,4}}[ /-])\d{{2,8}}(?:[ -]\d{{2,8}}){{0,3}}"
    + _APART
    + r"(?![\w/]|[.-]\d)"
)
_NO_PHONE = re.compile(r"\(?\d\d[/-]\d\d[/-]|\d{4}-[01]\d-[0-3]\d(?!\d)|\+\d+\.\d+\Z")
"""A date, and a float with its sign."""


def _phones(text: str) -> Iterator[Found]:
    for match in _PHONES.finditer(text):
        value = match[0].partition("x")[0]
        digits = sum(c.isdigit() for c in value)
        trunk = value.lstrip("(")[0] == "0" and not value.startswith("001")
        low, high = (10, 12) if trunk else (8, 15)
        if low <= digits <= high and not _NO_PHONE.match(value):
            yield "phone", "", *match.span()


_MONTHS = r"(?:jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-zä]{0,7}|janvier|février|avril|août"
_BIRTH = re.compile(
    r"(?i)(?<!\w)(?:dob|d\.o\.b\.?|date of birth|birth ?date|birth ?day|born|geboren|geb\.|geburtsdatum|née?|"
    r"date de naissance|naissance|nacid[oa]|fecha de nacimiento|nat[oa]|data di nascita)(?!\w)"
    r"[\s:=\"',-]{0,4}(?:(?:on|am|le|el|il|is|was)\s)?[\s:=\"']{0,3}"
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/. ]{1,2}\d{1,2}[-/. ]{1,2}(?:\d{4}|\d\d)"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)? (?:of )?(?:{_MONTHS})\.?,? \d{{4}}"
    rf"|(?:{_MONTHS})\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}|\d{{8}})(?!\d)"
)


def _births(text: str) -> Iterator[Found]:
    for match in _BIRTH.finditer(text):
        yield "birth_date", "", *match.span(1)


_MAC = re.compile(
    r"(?<![\w:.-])[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}(?![\w]|[:-]\w)"
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


def _network(text: str) -> Iterator[Found]:
    """MAC addresses, and IPv6 addresses that can be someone's: not loopback, not unspecified."""
    for match in _MAC.finditer(text):
        if len(set(match[0].lower()) - {match[1]}) > 2:
            yield "mac", "", *match.span()
    for match in _IPV6.finditer(text):
        if sum(map(bool, match[0].split(":"))) < 3:
            continue
        try:
            address = ipaddress.IPv6Address(match[0])
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified or address.is_multicast):
            yield "ipv6", "", *match.span()


# -- all of it -----------------------------------------------------------------

#: An earlier one owns its characters: the digits of a card are not a phone number as well.
_SEARCHES: tuple[Callable[[str], Iterable[Found]], ...] = (
    _emails,
    _spelled,
    _ibans,
    lettered,
    _births,
    _network,
    numbers,
    _phones,
)


def scan_text(text: str) -> tuple[Finding, ...]:
    """Return what looks like personal data in ``text``, in order, without overlaps."""
    taken = bytearray(len(text))
    found = list(_plain(text, taken))
    if not text.isascii():
        folded = Folded(text)
        for finding in _plain(folded.text, bytearray(len(folded.text))):
            start, end = folded.span(*finding.span)
            if taken.find(1, start, end) < 0:
                taken[start:end] = b"\1" * (end - start)
                scheme = finding.scheme or "other characters"
                found.append(
                    Finding(finding.kind, (start, end), shape(text[start:end]), "", scheme)
                )
    for encoding, plain, start, end in decoded(text):
        inner = next(_plain(plain, bytearray(len(plain))), None)
        if inner is not None and taken.find(1, start, end) < 0:
            taken[start:end] = b"\1" * (end - start)
            found.append(Finding(inner.kind, (start, end), shape(text[start:end]), "", encoding))
    return tuple(sorted(found, key=lambda finding: finding.span))


def _plain(text: str, taken: bytearray) -> Iterator[Finding]:
    """What stands in the text as it is; ``taken`` marks the characters that are spoken for."""
    for search in _SEARCHES:
        for kind, scheme, start, end in search(text):
            if taken.find(1, start, end) < 0:
                taken[start:end] = b"\1" * (end - start)
                yield Finding(kind, (start, end), shape(text[start:end]), "", scheme)
