"""
Numbers: cards, national ids, IPv4 addresses and bare phone numbers, told apart by the shape they are written in.

A text is cut into numbers (digits joined by full stops, slashes, hyphens), runs of numbers between single spaces are
looked up by shape in a trie, and what has the shape is put to the check digits of :mod:`.checksums`. A shape
that other numbers have, too, counts only where a word right before it says what it is (*context*).

Every step is linear in the text. What is not covered: a weak number (nine to twelve bare digits with at most one
check digit) without such a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from . import checksums

__all__ = ["Found", "lettered", "numbers"]

#: Characters before a number in which a word of its context may stand.
CONTEXT_WIDTH = 48


@dataclass(frozen=True)
class Number:
    """A kind of number, and what makes one of it."""

    kind: str
    scheme: str
    valid: Callable[[str], bool]
    """Of the compact number: digits and letters only."""
    context: re.Pattern[str] | None = None
    """Word that must stand before it; None: shape and check digits are enough."""
    isolated: bool = False
    """Whether no number of four or more digits may stand beside it: groups of four also stand in tables."""


@dataclass
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    numbers: list[Number] = field(default_factory=list)


def _words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<!\w)(?:{words})(?!\w)")


def _personnummer(number: str) -> bool:
    """Without a word for it, 240102-1011 is a time stamp as well."""
    born_lately = number[-10:-8] < "40"
    a_time = number[-4:-2] < "24" and number[-2:] < "60"
    return checksums.personnummer(number) and not (born_lately and a_time)


def _phone(number: str) -> bool:
    return 9 <= len(number) <= 13 and len(set(number)) > 2


_SSN = _words(r"ssn|itin|tin|social[ -]security(?: (?:no|number|nr))?\.?|taxpayer id\w*")
_NHS = _words(r"nhs(?: (?:no|number|nr))?\.?")
_STEUER = _words(r"steuer-?id\w*|st-?idnr\.?|idnr\.?|identifikationsnummer|tax id\w*|tin")
_BSN = _words(r"bsn|burgerservicenummer|sofi-?nummer|citizen service number")
_PESEL = _words(r"pesel")
_PN = _words(r"personnummer|person-?nr\.?|samordningsnummer|pnr")
_AADHAAR = _words(r"aadhaar|aadhar|uidai?")
_CPF = _words(r"cpf")
_SIN = _words(r"sin|nas|social insurance(?: (?:no|number))?\.?")
_BE = _words(r"rijksregister\w*|registre national|numéro national|national number|nn|insz|niss")
_TR = _words(r"t\.?c\.? ?kimlik(?: no)?|tckn|kimlik no|tc no")
_PHONE = _words(
    r"phone|telephone|tel|telefon|téléphone|telefono|teléfono|móvil|mobile|mobil|handy|cell|call|fax|whatsapp|sms"
)

_CARD = Number("card", "", checksums.issued_card)
_CARD_GROUPS = Number("card", "", checksums.issued_card, isolated=True)
#: Shapes as written, a 9 for each digit; ``{n}`` stands for so many of them.
_SHAPES: tuple[tuple[str, Number], ...] = (
    *((f"{{{n}}}", _CARD) for n in (13, 14, 15, 16, 18, 19)),
    ("{4} {4} {4} {4}|{4} {4} {4} {4} {3}|{4} {4} {4} {1}", _CARD_GROUPS),
    ("{4}-{4}-{4}-{4}|{4} {6} {5}|{4}-{6}-{5}|{4} {6} {4}|{4}-{6}-{4}", _CARD),
    ("{3}-{2}-{4}", Number("national_id", "us ssn", checksums.ssn)),
    ("{9}|{3} {2} {4}", Number("national_id", "us ssn", checksums.ssn, _SSN)),
    ("{10}|{3} {3} {4}|{3}-{3}-{4}", Number("national_id", "uk nhs", checksums.nhs, _NHS)),
    ("{2} {3} {3} {3}", Number("national_id", "de steuer-id", checksums.steuer_id)),
    ("{11}", Number("national_id", "de steuer-id", checksums.steuer_id, _STEUER)),
    ("{15}|{13} {2}|{1} {2} {2} {2} {3} {3} {2}", Number("national_id", "fr nir", checksums.nir)),
    ("{4}.{2}.{3}", Number("national_id", "nl bsn", checksums.bsn)),
    ("{9}|{3}.{3}.{3}|{3} {3} {3}", Number("national_id", "nl bsn", checksums.bsn, _BSN)),
    ("{11}", Number("national_id", "pl pesel", checksums.pesel, _PESEL)),
    ("{6}-{4}|{8}-{4}", Number("national_id", "se personnummer", _personnummer)),
    (
        "{10}|{12}|{6}-{4}|{8}-{4}",
        Number("national_id", "se personnummer", checksums.personnummer, _PN),
    ),
    (
        "{4} {4} {4}|{4}-{4}-{4}",
        Number("national_id", "in aadhaar", checksums.aadhaar, isolated=True),
    ),
    ("{12}|{4} {4} {4}", Number("national_id", "in aadhaar", checksums.aadhaar, _AADHAAR)),
    ("{3}.{3}.{3}-{2}", Number("national_id", "br cpf", checksums.cpf)),
    ("{11}", Number("national_id", "br cpf", checksums.cpf, _CPF)),
    ("{9}|{3}-{3}-{3}|{3} {3} {3}", Number("national_id", "ca sin", checksums.sin, _SIN)),
    ("{13}|{3}.{4}.{4}.{2}", Number("national_id", "ch ahv", checksums.ahv)),
    (
        "{2}.{2}.{2}-{3}.{2}",
        Number("national_id", "be rijksregisternummer", checksums.rijksregisternummer),
    ),
    (
        "{11}",
        Number("national_id", "be rijksregisternummer", checksums.rijksregisternummer, _BE),
    ),
    ("{11}|{6} {5}", Number("national_id", "no fødselsnummer", checksums.fodselsnummer)),
    ("{11}", Number("national_id", "tr tckn", checksums.tckn, _TR)),
    ("{18}", Number("national_id", "cn resident id", checksums.resident_id)),
    ("{9}|{10}|{11}|{12}|{5} {5}|{5} {6}|{3} {3} {3}", Number("phone", "", _phone, _PHONE)),
)


def _trie() -> _Node:
    root = _Node()
    for shapes, number in _SHAPES:
        for written in shapes.split("|"):
            node = root
            for part in re.sub(r"\{(\d+)\}", lambda n: "9" * int(n[1]), written).split(" "):
                node = node.children.setdefault(part, _Node())
            node.numbers.append(number)
    return root


_ROOT = _trie()
_DIGITS = str.maketrans("0123456789", "9" * 10)
_NOT_ALNUM = re.compile(r"[^0-9A-Za-z]")
# Possessive: a number is taken whole or not at all, so that nothing is tried twice.
_NUMBER = re.compile(r"(?<![^\W_])(?<![.+-])[0-9]++(?:[./-][0-9]++)*+(?![^\W_])")
#: What makes four numbers between full stops a version.
_VERSION = re.compile(r"(?i)(?:\bv(?:ersions?)?|\bver|\brelease|\bbuild|[=~<>!]=)[ :.]?\Z")

Found = tuple[str, str, int, int]
"""Kind, scheme, start, end."""


def numbers(text: str) -> Iterator[Found]:
    """Every number in a text that is someone's; two may overlap."""
    row: list[tuple[int, int, str]] = []
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        if row and not (row[-1][1] == start - 1 and text[start - 1] == " "):
            yield from _in_row(text, row)
            row = []
        row.append((start, end, match[0].translate(_DIGITS)))
    yield from _in_row(text, row)


def _in_row(text: str, row: list[tuple[int, int, str]]) -> Iterator[Found]:
    """Numbers among those between single spaces."""
    for first, (start, _, shape) in enumerate(row):
        if shape.count(".") == 3:
            stop = start + len(
                shape.partition("/")[0]
            )  # a network's address has its size behind it
            if _ipv4(text, start, stop):
                yield "ipv4", "", start, stop
        node = _ROOT.children.get(shape)
        last = first
        while node is not None:
            stop = row[last][1]
            beside = (*row[max(0, first - 1) : first], *row[last + 1 : last + 2])
            alone = not any(shape.startswith("9999") for _, _, shape in beside)
            for number in node.numbers:
                if (alone or not number.isolated) and _is(number, text, start, stop):
                    yield number.kind, number.scheme, start, stop
                    break
            last += 1
            node = node.children.get(row[last][2]) if last < len(row) else None


def _is(number: Number, text: str, start: int, end: int) -> bool:
    if not number.valid(_NOT_ALNUM.sub("", text[start:end])):
        return False
    before = text[max(0, start - CONTEXT_WIDTH) : start]
    return number.context is None or number.context.search(before) is not None


def _ipv4(text: str, start: int, end: int) -> bool:
    """Four octets that can be someone's address: not this-network, loopback or broadcast, and no version."""
    parts = text[start:end].split(".")
    if any(len(part) > 3 or not part.isdigit() or int(part) > 255 for part in parts):
        return False
    return int(parts[0]) not in (0, 127, 255) and not _VERSION.search(
        text[max(0, start - 16) : start]
    )


# -- numbers with letters ------------------------------------------------------

# Digits of a codice fiscale may be letters instead, against two people with the same one (omocodia).
_D = "[0-9LMNPQRSTUV]"
_SCHEMES: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("uk nino", r"[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]", checksums.nino),
    (
        "it codice fiscale",
        rf"[A-Z]{{6}}{_D}{{2}}[ABCDEHLMPRST]{_D}{{2}}[A-Z]{_D}{{3}}[A-Z]",
        checksums.codice_fiscale,
    ),
    ("es dni", r"\d{8}-?[A-HJ-NP-TV-Z]|\d{2}\.\d{3}\.\d{3}-?[A-HJ-NP-TV-Z]", checksums.dni),
    ("es nie", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", checksums.dni),
    ("fr nir", r"[12] ?\d\d ?\d\d ?2[AB] ?\d{3} ?\d{3} ?\d\d", checksums.nir),
    ("cn resident id", r"\d{17}X", checksums.resident_id),
)
_LETTERED = re.compile(
    r"(?<![^\W_])(?<![.+-])(?:"
    + "|".join(f"({pattern})" for _, pattern, _ in _SCHEMES)
    + r"|(\d{6}[-+A-FYXWVU]\d{3}[0-9A-Y]))(?![^\W_]|-\w)"
)


def lettered(text: str) -> Iterator[Found]:
    """Numbers with letters in them, which only their own scheme has."""
    for match in _LETTERED.finditer(text):
        index = (match.lastindex or 1) - 1
        if index == len(_SCHEMES):
            if checksums.hetu(match[0]):
                yield "national_id", "fi hetu", *match.span()
        elif _SCHEMES[index][2](_NOT_ALNUM.sub("", match[0])):
            yield "national_id", _SCHEMES[index][0], *match.span()
