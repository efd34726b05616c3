"""
Patterns of personal data in text, with their checksums.

What is covered: e-mail, phone (North American and +country), US taxpayer ids, IBAN, payment cards, IPv4.
What is not covered: names and addresses in free text, bare digits without a checksum.
A finding never carries the value it found.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Finding", "scan_text"]


@dataclass(frozen=True)
class Finding:
    """One place that looks like personal data."""

    kind: str
    """``email``, ``phone``, ``national_id``, ``iban``, ``card``, ``ipv4``, ``column`` or ``unscanned``."""
    span: tuple[int, int]
    """Start and end in the scanned string."""
    excerpt: str
    """The value's shape, letters as x and digits as 9; for a column its name, for a file the reason."""
    where: str = ""
    """File, and array or key in it; empty for plain text."""

    def __str__(self) -> str:
        place = f" in {self.where}" if self.where else ""
        return f"{self.kind}{place} at {self.span[0]}: {self.excerpt}"


# Leading digits and lengths that Visa, Mastercard, American Express, Diners, Discover and JCB issue.
_CARD = re.compile(
    r"4(\d{12}|\d{15}|\d{18})|(5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(0[0-5]|[68]\d)\d{11}"
    r"|(6011|65\d\d|64[4-9]\d)\d{12}|35\d{14}|(2131|1800)\d{11}"
)


def _card(text: str) -> bool:
    """Check issuer, length and the check digit of ISO/IEC 7812 (a tenth of issuer-like numbers has it)."""
    compact = re.sub(r"\D", "", text)
    digits = [int(c) for c in reversed(compact)]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return bool(_CARD.fullmatch(compact)) and (sum(digits[::2]) + sum(doubled)) % 10 == 0


# Registered lengths (SWIFT IBAN registry), by country.
_IBAN_LENGTHS = dict(
    re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 "
        "EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 "
        "KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 "
        "PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20",
    )
)


def _iban(text: str) -> bool:
    """Check length by country and the ISO 7064 mod 97-10 check digits."""
    compact = text.replace(" ", "")
    if _IBAN_LENGTHS.get(compact[:2]) != str(len(compact)):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _ipv4(text: str) -> bool:
    """Accept four octets that can be someone's address: not this-network, loopback or broadcast."""
    octets = [int(part) for part in text.split(".")]
    return max(octets) <= 255 and octets[0] not in (0, 127, 255)


# Every pattern starts at a boundary and repeats one class at a time, so that a scan is linear in its text.
# An earlier kind owns its characters: the digits of a card are not a phone number as well.
_EDGE, _END = r"(?<![\w.+-])", r"(?![\w]|[.-]\d)"
_SCANNERS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    (
        "email",
        re.compile(
            r"(?<![\w.%+-])[\w.%+-]+@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
        ),
        bool,
    ),
    (
        "iban",
        re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"),
        _iban,
    ),
    (
        "card",
        re.compile(_EDGE + r"\d{4}(?:[ -]?\d){9,15}" + _END),
        _card,
    ),
    # Areas 000 and 666, group 00 and serial 0000 are never issued; 9xx is the ITIN range.
    (
        "national_id",
        re.compile(_EDGE + r"(?!000|666)\d{3}-(?!00)\d\d-(?!0000)\d{4}" + _END),
        bool,
    ),
    ("ipv4", re.compile(_EDGE + r"\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)"), _ipv4),
    (
        "phone",
        # +country; North American with separators; ten bare digits only where a word says what they are.
        re.compile(
            r"(?<![\w.+-])\+[1-9]\d{0,2}(?:[ -]?\(?\d{1,4}\)?){2,5}" + _END + "|"
            r"(?<![\w.+-])(?:(?:\+?1|001)[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])[2-9]\d\d[-. ]\d{4}"
            r"(?:x\d{2,5})?" + _END + "|"
            r"(?i:\b(?:phone|tel|mobile|cell|call))\W{0,3}[2-9]\d{9}" + _END
        ),
        lambda text: 8 <= sum(c.isdigit() for c in text.partition("x")[0]) <= 15,
    ),
)


def scan_text(text: str) -> tuple[Finding, ...]:
    """Return what looks like personal data in ``text``, in order, without overlaps."""
    found: list[Finding] = []
    taken = bytearray(len(text))
    for kind, pattern, valid in _SCANNERS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if taken.find(1, start, end) < 0 and valid(match[0]):
                taken[start:end] = b"\1" * (end - start)
                found.append(Finding(kind, (start, end), _shape(match[0])))
    return tuple(sorted(found, key=lambda finding: finding.span))


def _shape(value: str) -> str:
    """Mask a value: its shape tells a reader what was found, and nothing about whose it is."""
    return "".join("9" if c.isdigit() else "x" if c.isalpha() else c for c in value)
