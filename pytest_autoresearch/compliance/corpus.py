"""
A corpus with known truth, to measure scanners: invented personal data in many spellings, and what only looks like it.

    found = measure(scan_text, seed=1, n=100)

Every value is drawn, none is anybody's on purpose; addresses lie below ``example.org`` and its like, phone numbers are
random digits. The check digits are those of :mod:`.checksums`, which docs/privacy.md compares with another
implementation. Hard negatives are lines as training runs, tables and programs print them.
"""

from __future__ import annotations

import base64
import random
import re
import string
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from . import checksums
from .findings import Scanner

__all__ = ["NEGATIVES", "POSITIVES", "Example", "Form", "Score", "examples", "measure"]

Draw = Callable[[random.Random], str]

_FIRST = [
    "Ann",
    "Ben",
    "Carla",
    "David",
    "Elena",
    "Farid",
    "Greta",
    "Hassan",
    "Ines",
    "Jonas",
    "Kamila",
    "Liam",
    "Maria",
    "Noah",
    "Olga",
    "Priya",
    "Quentin",
    "Rosa",
    "Samir",
    "Tessa",
    "Umar",
    "Vera",
    "Wanda",
    "Xavier",
    "Yusuf",
    "Zoe",
]
_LAST = [
    "Almeida",
    "Becker",
    "Castillo",
    "Dubois",
    "Eriksson",
    "Ferrari",
    "Gupta",
    "Haddad",
    "Ivanova",
    "Jansen",
    "Kowalski",
    "Lindqvist",
    "Moreau",
    "Novak",
    "Okafor",
    "Petrov",
    "Quiroga",
    "Rossi",
    "Schneider",
    "Tanaka",
    "Ueda",
    "Virtanen",
    "Wagner",
    "Yilmaz",
    "Zimmermann",
]
_HOSTS = ["example.org", "example.com", "mail.example.net", "shop.example.co.uk", "uni-example.de"]


@dataclass(frozen=True)
class Form:
    """One way in which one kind of value is written."""

    kind: str
    name: str
    draw: Draw
    before: str = ""
    """Words that stand before it, as part of the form."""
    hard: bool = False
    """Whether it is known to be missed: it is measured all the same, and not held against a floor."""


@dataclass(frozen=True)
class Example:
    """A text, and where something stands in it."""

    text: str
    kind: str
    """Empty: nothing does."""
    form: str
    span: tuple[int, int] = (0, 0)


def _fill(pattern: str, valid: Callable[[str], bool] = bool) -> Draw:
    """Digits for ``#``, letters for ``@``, until the check digits are right."""

    def draw(rng: random.Random) -> str:
        while True:
            value = "".join(
                rng.choice(string.digits)
                if c == "#"
                else rng.choice(string.ascii_uppercase)
                if c == "@"
                else c
                for c in pattern
            )
            if valid(re.sub(r"[^0-9A-Za-z]", "", value)):
                return value

    return draw


def _name(rng: random.Random) -> str:
    return f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"


def _email(rng: random.Random) -> str:
    first, last = _name(rng).lower().split(" ")
    host = rng.choice(_HOSTS)
    return (
        rng.choice((f"{first}.{last}", f"{first[0]}{last}{rng.randrange(99)}", f"{last}_{first}+x"))
        + f"@{host}"
    )


def _spelled(at: str, dot: str) -> Draw:
    return lambda rng: _email(rng).replace("@", at).replace(".", dot)


def _hidden(change: Callable[[str], str], draw: Draw = _email) -> Draw:
    return lambda rng: change(draw(rng))


def _wide(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _iban(rng: random.Random) -> str:
    country, pattern = rng.choice(
        (
            ("DE", "#" * 18),
            ("GB", "@@@@" + "#" * 14),
            ("FR", "#" * 23),
            ("NL", "@@@@" + "#" * 10),
            ("NO", "#" * 11),
        )
    )
    body = _fill(pattern)(rng)
    rest = int("".join(str(int(c, 36)) for c in body + country + "00")) % 97
    return f"{country}{98 - rest:02d}{body}"


def _grouped(draw: Draw, size: int = 4, by: str = " ") -> Draw:
    def grouped(rng: random.Random) -> str:
        value = draw(rng)
        return by.join(value[at : at + size] for at in range(0, len(value), size))

    return grouped


_VISA = _fill("4" + "#" * 15, checksums.issued_card)
_AMEX = _fill("37" + "#" * 13, checksums.issued_card)
_IPV6 = _hidden(
    lambda digits: ":".join(digits[at : at + 4] for at in range(0, 32, 4)),
    lambda r: f"2a02{r.getrandbits(112):028x}",
)
_DATES: tuple[Draw, ...] = (
    lambda r: f"{r.randrange(1930, 2010)}-{r.randrange(1, 13):02d}-{r.randrange(1, 29):02d}",
    lambda r: f"{r.randrange(1, 29):02d}/{r.randrange(1, 13):02d}/{r.randrange(1930, 2010)}",
    lambda r: (
        f"{r.randrange(1, 29)} {r.choice(['January', 'March', 'August', 'December'])} {r.randrange(1930, 2010)}"
    ),
)


def _national() -> Iterator[Form]:
    """Each scheme as it is printed, and bare behind a word for it."""
    printed = {
        "us ssn": ("###-##-####", checksums.ssn),
        "uk nino": ("@@ ## ## ## @", lambda n: n[-1] in "ABCD" and checksums.nino(n)),
        "de steuer-id": ("## ### ### ###", checksums.steuer_id),
        "fr nir": ("1 ## 0# ## ### ### ##", checksums.nir),
        "es dni": ("########@", checksums.dni),
        "es nie": ("X#######@", checksums.dni),
        "it codice fiscale": ("@@@@@@##H##@###@", checksums.codice_fiscale),
        "nl bsn": ("####.##.###", checksums.bsn),
        "se personnummer": ("##0###-####", lambda n: n[:2] > "40" and checksums.personnummer(n)),
        "in aadhaar": ("#### #### ####", checksums.aadhaar),
        "br cpf": ("###.###.###-##", checksums.cpf),
        "ch ahv": ("756.####.####.##", checksums.ahv),
        "be rijksregisternummer": ("##.0#.##-###.##", checksums.rijksregisternummer),
        "no fødselsnummer": ("##0### #####", checksums.fodselsnummer),
        "cn resident id": ("110108196#0##2###X", checksums.resident_id),
    }
    for scheme, (pattern, valid) in printed.items():
        yield Form("national_id", scheme, _fill(pattern, valid))
    yield Form("national_id", "fi hetu", _hetu)
    bare: dict[str, tuple[str, str, Callable[[str], bool]]] = {
        "us ssn": ("SSN: ", "#########", checksums.ssn),
        "uk nhs": ("NHS number ", "##########", checksums.nhs),
        "nl bsn": ("BSN ", "#########", checksums.bsn),
        "pl pesel": ("PESEL ", "##0########", checksums.pesel),
        "in aadhaar": ("Aadhaar no. ", "############", checksums.aadhaar),
        "ca sin": ("SIN ", "### ### ###", checksums.sin),
        "tr tckn": ("TC kimlik no: ", "###########", checksums.tckn),
    }
    for scheme, (before, pattern, valid) in bare.items():
        yield Form("national_id", f"{scheme}, bare behind a word", _fill(pattern, valid), before)
    yield Form("national_id", "bare, no word", _fill("#########", checksums.bsn), hard=True)


def _hetu(rng: random.Random) -> str:
    while True:
        body = f"{rng.randrange(1, 29):02d}{rng.randrange(1, 13):02d}{rng.randrange(30, 99)}-{rng.randrange(2, 900):03d}"
        for c in "0123456789ABCDEFHJKLMNPRSTUVWXY":
            if checksums.hetu(body + c):
                return body + c


#: What is to be found.
POSITIVES: tuple[Form, ...] = (
    Form("email", "plain", _email),
    Form("email", "(at) dot", _spelled(" (at) ", ".")),
    Form("email", "[at] [dot]", _spelled("[at]", "[dot]")),
    Form("email", "at dot, in words", _spelled(" at ", " dot ")),
    Form("email", "%40", _spelled("%40", ".")),
    Form("email", "zero-width characters", _hidden(lambda t: t.replace("@", "\u200b@\u200b"))),
    Form("email", "full-width", _hidden(_wide)),
    Form("email", "base64", _hidden(lambda t: base64.b64encode(t.encode()).decode())),
    Form("email", "hex", _hidden(lambda t: t.encode().hex())),
    Form("email", "base64 twice", _hidden(lambda t: base64.b64encode(base64.b64encode(t.encode())).decode()), hard=True),
    Form("email", "backwards", _hidden(lambda t: t[::-1]), hard=True),
    Form("phone", "+country", _fill("+49 30 #######")),
    Form("phone", "+country, no spaces", _fill("+3361#######")),
    Form("phone", "North American", _fill("(2##) 555-####")),
    Form("phone", "North American, hyphens", _fill("415-2##-####")),
    Form("phone", "trunk zero, spaces", _fill("020 7### ####")),
    Form("phone", "trunk zero, slash", _fill("0151/2#######")),
    Form("phone", "bare behind a word", _fill("21255#####"), "phone "),
    Form("phone", "bare, no word", _fill("21255#####"), hard=True),
    Form("iban", "compact", _iban),
    Form("iban", "groups of four", _grouped(_iban)),
    Form("iban", "full-width", _hidden(_wide, _iban)),
    Form("card", "compact", _VISA),
    Form("card", "groups of four", _grouped(_VISA)),
    Form("card", "hyphens", _grouped(_VISA, by="-")),
    Form("card", "American Express 4-6-5", _hidden(lambda t: f"{t[:4]} {t[4:10]} {t[10:]}", _AMEX)),
    Form("card", "full stops", _grouped(_VISA, by="."), hard=True),
    *_national(),
    Form("ipv4", "public", lambda r: f"{r.randrange(128, 220)}.{r.randrange(256)}.{r.randrange(256)}.{r.randrange(256)}"),
    Form("ipv6", "full", _IPV6),
    Form("ipv6", "short", lambda r: f"2a02:{r.randrange(16, 4096):x}:{r.randrange(16, 4096):x}::{r.randrange(1, 4096):x}"),
    Form("mac", "colons", _hidden(lambda t: ":".join(t[at : at + 2] for at in range(0, 12, 2)), lambda r: f"{r.getrandbits(48):012x}")),
    Form("birth_date", "ISO", _DATES[0], "born "),
    Form("birth_date", "day first", _DATES[1], "DOB: "),
    Form("birth_date", "month in words", _DATES[2], "date of birth: "),
    Form("birth_date", "no word", _DATES[0], hard=True),
)  # fmt: skip
#: Texts around a value; one of a spreadsheet, of a log, of a letter.
_AROUND = (
    "Please contact {} before noon.",
    "customer={};status=ok",
    '{{"row": 7, "value": "{}"}}',
    "{}",
    "Hamburg,{},2024-01-02,0.75",
    "epoch 3/10 | {} | loss 0.4231",
    "<td>{}</td>",
    "see ({}), thanks",
)


def _log(rng: random.Random) -> str:
    return (
        f"step {rng.randrange(10**5):05d} ({rng.random() * 100:.1f}%) | loss: {rng.random():.6f} | lrm: {rng.random():.2f} | "
        f"dt: {rng.randrange(9999)}ms | tok/sec: {rng.randrange(10**7):,} | mfu: {rng.random() * 50:.2f}% | epoch: {rng.randrange(9)} | "
        f"remaining: {rng.randrange(999)}s"
    )


def _digits(low: int, high: int) -> Draw:
    return lambda rng: str(rng.randrange(10**low, 10**high))


#: What is not personal, by where it comes from.
NEGATIVES: dict[str, Draw] = {
    "order numbers, 9 to 12 digits": lambda r: f"order {_digits(8, 12)(r)} shipped",
    "order numbers, 13 to 19 digits": lambda r: f"transaction {_digits(12, 19)(r)} settled",
    "part numbers": lambda r: f"part {_digits(2, 3)(r)}-{_digits(2, 3)(r)}-{_digits(2, 3)(r)}, qty {r.randrange(99)}",
    "git object ids": lambda r: f"commit {r.getrandbits(160):040x}",
    "sha-256 sums": lambda r: f"{r.getrandbits(256):064x}  model.pt2",
    "UUIDs": lambda r: f"run {uuid.UUID(int=r.getrandbits(128))}",
    "versions": lambda r: f"torch=={r.randrange(9)}.{r.randrange(20)}.{r.randrange(9)}.{r.randrange(9)}, v{r.randrange(9)}.{r.randrange(9)}.{r.randrange(9)}",
    "time stamps": lambda r: f"{_DATES[0](r)}T{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}.{_digits(5, 6)(r)}+00:00 {_digits(9, 10)(r)} {_digits(12, 13)(r)}",
    "compact time stamps": lambda r: f"run-20{r.randrange(10, 40)}0{r.randrange(1, 9)}{r.randrange(10, 28)}-{r.randrange(10, 23)}{r.randrange(10, 59)}{r.randrange(10, 59)} started 20{r.randrange(10, 40)}0{r.randrange(1, 9)}{r.randrange(10, 28)}-{r.randrange(10, 23)}{r.randrange(10, 59)}",
    "floats": lambda r: f"{r.random()!r} {r.gauss(0, 1e6)!r} {r.random():.3e} {-r.random():+.10f}",
    "log lines of training": _log,
    "tables of decimals": lambda r: " ".join(f"{r.random() * 10 ** r.randrange(4):.4f}" for _ in range(10)),
    "tables of integers": lambda r: " ".join(str(r.randrange(10 ** r.randrange(1, 6))) for _ in range(12)),
    "tables of four digits": lambda r: " ".join(f"{r.randrange(10**4):04d}" for _ in range(8)),
    "arrays": lambda r: f"tensor([{', '.join(f'{r.gauss(0, 1):.4f}' for _ in range(8))}], dtype=torch.float32)",
    "programs": lambda r: r.choice(("logits = x@self.weight.T + b", "q@k.transpose(-2, -1)", "out = a@b.to(device)", "@pytest.mark.gate('pre')", "x[:, 1:2] @ w.mean(0)", "assert a::b::c == 0x7ffee4c0", "std::vector<int> v; a::b::f()", "lr=3e-4, betas=(0.9, 0.999), eps=1e-08")) + f"  # {r.randrange(999)}",
    "paths and addresses of pages": lambda r: f"https://example.org/{r.randrange(99999)}/v{r.randrange(9)}?id={_digits(8, 10)(r)} /usr/lib/python3.11/x_{r.randrange(9999)}.py:{r.randrange(999)}",
    "random base64": lambda r: base64.b64encode(r.randbytes(48)).decode(),
    "prose": lambda r: " ".join(r.choices(["we", "look", "at", "the", "model", "and", "dot", "the", "loss", "to", "train", "of", "two", "layers", "born", "in", "data", "on", "call", "mobile", "phone", "with", "12", "heads"], k=16)),
    "amounts and dates": lambda r: f"{r.randrange(10**6):,}.{r.randrange(99):02d} EUR on {_DATES[1](r)}, {r.randrange(9)}.{r.randrange(100, 999)}.{r.randrange(100, 999)} rows",
}  # fmt: skip


def examples(seed: int, n: int) -> Iterator[Example]:
    """``n`` of every form and of every negative, in different surroundings."""
    rng = random.Random(seed)
    for form in POSITIVES:
        for index in range(n):
            value = form.draw(rng)
            around = _AROUND[index % len(_AROUND)]
            text = around.format(form.before + value)
            start = text.index(form.before + value) + len(form.before)
            yield Example(text, form.kind, form.name, (start, start + len(value)))
    for name, draw in NEGATIVES.items():
        for _ in range(n):
            yield Example(draw(rng), "", name)


@dataclass
class Score:
    """What a scanner finds of one kind."""

    truth: int = 0
    found: int = 0
    """Values of which at least one half is covered by findings of whatever kind."""
    named: int = 0
    """Those that are found under their own kind."""
    right: int = 0
    """Findings of this kind on personal data."""
    wrong: int = 0
    """Findings of this kind on anything else."""
    forms: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Form to values found and values there are."""

    @property
    def recall(self) -> float:
        return self.found / self.truth if self.truth else 1.0

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0


def measure(
    scanner: Scanner, *, seed: int, n: int
) -> tuple[dict[str, Score], dict[str, tuple[int, int]]]:
    """
    Scores by kind, and for each sort of negative how many lines have a finding, of how many.

    Precision depends on the mixture: here there are ``n`` lines of every form and of every negative.
    """
    scores: dict[str, Score] = {}
    alarms: dict[str, tuple[int, int]] = {}
    for example in examples(seed, n):
        findings = scanner(example.text)
        start, end = example.span
        hits = [f for f in findings if f.span[0] < end and start < f.span[1]]
        for finding in findings:
            score = scores.setdefault(finding.kind, Score())
            score.right += finding in hits
            score.wrong += finding not in hits
        if not example.kind:
            before, lines = alarms.get(example.form, (0, 0))
            alarms[example.form] = (before + bool(findings), lines + 1)
            continue
        score = scores.setdefault(example.kind, Score())
        covered = sum(min(f.span[1], end) - max(f.span[0], start) for f in hits)
        hit = 2 * covered >= end - start
        found, there = score.forms.get(example.form, (0, 0))
        score.forms[example.form] = (found + hit, there + 1)
        score.truth += 1
        score.found += hit
        score.named += hit and any(f.kind == example.kind for f in hits)
    return scores, alarms
