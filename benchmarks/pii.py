"""
What the scanners for personal data find and miss, on a generated corpus with known truth, and how fast they are.

    python benchmarks/pii.py                    # 200 of every form and of every negative; about a minute
    python benchmarks/pii.py --presidio         # Presidio on the same lines in the same run, if it is installed
    python benchmarks/pii.py --oracle           # check digits against python-stdnum, if it is installed

The tables of docs/privacy.md come from here, seed 1.
"""

from __future__ import annotations

import argparse
import platform
import random
import string
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from pytest_autoresearch.compliance import checksums
from pytest_autoresearch.compliance.corpus import NEGATIVES, POSITIVES, Score, measure
from pytest_autoresearch.compliance.findings import Scanner
from pytest_autoresearch.compliance.numeric import scan_numbers
from pytest_autoresearch.compliance.patterns import scan_text

HARD = {(form.kind, form.name) for form in POSITIVES if form.hard}


def recall(scores: dict[str, Score], kind: str, *, hard: bool) -> tuple[int, int]:
    forms = scores[kind].forms.items() if kind in scores else ()
    counted = [counts for name, counts in forms if ((kind, name) in HARD) == hard]
    return sum(found for found, _ in counted), sum(there for _, there in counted)


def by_kind(scores: dict[str, Score]) -> None:
    print(
        "\n| kind | recall | of the forms known to be missed | precision | forms with misses |\n|---|---|---|---|---|"
    )
    for kind in dict.fromkeys(form.kind for form in POSITIVES):
        score = scores[kind]
        found, there = recall(scores, kind, hard=False)
        lost, hidden = recall(scores, kind, hard=True)
        misses = ", ".join(f"{n}: {a}/{b}" for n, (a, b) in score.forms.items() if a < b)
        print(
            f"| {kind} | {found / there:.3f} ({there}) | {f'{lost}/{hidden}' if hidden else '-'} | {score.precision:.3f} | {misses or '-'} |"
        )


def by_negative(alarms: dict[str, tuple[int, int]]) -> None:
    print("\n| what is not personal | lines with a finding |\n|---|---|")
    for name in NEGATIVES:
        print(f"| {name} | {alarms[name][0]} of {alarms[name][1]} |")
    print(f"| all | {sum(a for a, _ in alarms.values())} of {sum(b for _, b in alarms.values())} |")


def speed(scanner: Scanner) -> None:
    rng = random.Random(1)
    texts = {
        "a training log": "".join(
            NEGATIVES["log lines of training"](rng) + "\n" for _ in range(14_000)
        ),
        "a table of integers": "".join(
            NEGATIVES["tables of integers"](rng) + "\n" for _ in range(50_000)
        ),
        "hashes": "".join(NEGATIVES["sha-256 sums"](rng) + "\n" for _ in range(25_000)),
        "prose": "".join(NEGATIVES["prose"](rng) + "\n" for _ in range(25_000)),
        "one letter": "a" * 2_000_000,
        "one digit": "4" * 2_000_000,
    }
    print("\n| text | MB | CPU seconds a MB |\n|---|---|---|")
    for name, text in texts.items():
        start = time.process_time()
        scanner(text)
        size = len(text) / 1e6
        print(f"| {name} | {size:.1f} | {(time.process_time() - start) / size:.2f} |")


def columns(n: int) -> None:
    """False alarms of numeric columns, and what share of a column may be wrong."""
    draw = np.random.default_rng(1)
    nulls: dict[str, Callable[[], np.ndarray]] = {
        "random numbers of 8 to 19 digits": lambda: draw.integers(
            10 ** (d := draw.integers(8, 18)), 10 ** (d + 1), 500
        ),
        "consecutive numbers": lambda: np.arange(3000) + draw.integers(10**8, 10**15),
        "every tenth number": lambda: 10 * np.arange(3000) + draw.integers(10**8, 10**15),
        "seconds and milliseconds since 1970": lambda: (
            draw.integers(10**9, 2 * 10**9, 3000) * draw.choice([1, 1000])
        ),
        "random 64-bit numbers": lambda: draw.integers(0, 2**63 - 1, 3000),
        "five-digit postcode and four": lambda: (
            draw.integers(501, 99950, 3000) * 10_000 + draw.integers(1, 9999, 3000)
        ),
        "few numbers of 16 digits": lambda: draw.integers(
            4 * 10**15, 5 * 10**15, draw.integers(1, 12)
        ),
    }
    print("\n| column of | columns with a finding |\n|---|---|")
    for name, make in nulls.items():
        found = sum(bool(list(scan_numbers(make(), "c"))) for _ in range(n))
        print(f"| {name} | {found} of {n} |")
    rng = random.Random(1)
    cards = [
        int(form.draw(rng))
        for form in POSITIVES
        if (form.kind, form.name) == ("card", "compact")
        for _ in range(200)
    ]
    for share in (1.0, 0.8, 0.6, 0.4):
        values = np.array(
            cards[: int(200 * share)]
            + draw.integers(4 * 10**15, 5 * 10**15, 200 - int(200 * share)).tolist()
        )
        hit = bool(list(scan_numbers(values, "c")))
        print(f"| (cards in {share:.0%} of 200 rows) | {'found' if hit else 'not found'} |")
    for few in (8, 9, 10):
        print(
            f"| (a column of {few} cards) | {'found' if list(scan_numbers(np.array(cards[:few]), 'c')) else 'not found'} |"
        )


def compare(n: int, model: str, score: float) -> None:
    """Presidio side by side, on the same lines in the same run."""
    from pytest_autoresearch.compliance.presidio import Presidio

    ours, our_alarms = measure(scan_text, seed=1, n=n)
    start = time.process_time()
    theirs, their_alarms = measure(Presidio(model, score=score), seed=1, n=n)
    took = time.process_time() - start
    start = time.process_time()
    measure(scan_text, seed=1, n=n)
    ratio = took / (time.process_time() - start)
    plain = {form.kind: form.name for form in reversed(POSITIVES) if not form.hard}
    print(f"\n| {n} of the kind's plainest form | recall here | recall Presidio |\n|---|---|---|")
    for kind in dict.fromkeys(form.kind for form in POSITIVES):
        here, there = ours[kind].forms[plain[kind]][0], theirs[kind].forms[plain[kind]][0]
        print(f"| {kind}, {plain[kind]} | {here / n:.3f} | {there / n:.3f} |")
    print(
        f"\n| kind ({n} of each form) | recall here | recall Presidio | ratio |\n|---|---|---|---|"
    )
    for kind in dict.fromkeys(form.kind for form in POSITIVES):
        (a, there), (b, _) = recall(ours, kind, hard=False), recall(theirs, kind, hard=False)
        print(f"| {kind} | {a / there:.3f} | {b / there:.3f} | {b / a:.2f} |")
    a, b = (sum(x for x, _ in alarms.values()) for alarms in (our_alarms, their_alarms))
    lines = sum(x for _, x in our_alarms.values())
    print(f"| lines with a false alarm | {a} of {lines} | {b} of {lines} | {b / max(a, 1):.0f} |")
    print(f"| CPU time | 1 | | {ratio:.1f} |")


#: Our check, python-stdnum's module, shapes of numbers to draw.
ORACLE: tuple[tuple[Callable[[str], bool], str, str], ...] = (
    (checksums.luhn, "luhn", "#" * 12),
    (checksums.verhoeff, "verhoeff", "#" * 12),
    (checksums.nhs, "gb.nhs", "#" * 10),
    (checksums.steuer_id, "de.idnr", "#" * 11),
    (checksums.nir, "fr.nir", "1##0#" + "#" * 10),
    (checksums.dni, "es.dni", "#" * 8 + "@"),
    (checksums.dni, "es.nie", "Y" + "#" * 7 + "@"),
    (checksums.codice_fiscale, "it.codicefiscale", "@@@@@@##A1#F###@"),
    (checksums.bsn, "nl.bsn", "#" * 9),
    (checksums.pesel, "pl.pesel", "##0#1######"),
    (checksums.hetu, "fi.hetu", "1#0##9-###!"),
    (checksums.aadhaar, "in_.aadhaar", "#" * 12),
    (checksums.cpf, "br.cpf", "#" * 11),
    (checksums.sin, "ca.sin", "#" * 9),
    (checksums.ahv, "ch.ssn", "756" + "#" * 10),
    (checksums.rijksregisternummer, "be.nn", "8#0#1######"),
    (checksums.fodselsnummer, "no.fodselsnummer", "1#0#8######"),
    (checksums.tckn, "tr.tckimlik", "#" * 11),
    (checksums.resident_id, "cn.ric", "11010819#0#01#####"),
    (checksums.iban, "iban", "DE" + "#" * 20),
)


def oracle(n: int) -> None:
    """Agreement with an implementation that is not ours."""
    rng = random.Random(1)
    print(
        "\n| scheme | numbers | valid by python-stdnum | valid only here | valid only there |\n|---|---|---|---|---|"
    )
    letters = {
        "#": string.digits,
        "@": string.ascii_uppercase,
        "!": "0123456789ABCDEFHJKLMNPRSTUVWXY",
    }
    for check, name, pattern in ORACLE:
        theirs = import_module(f"stdnum.{name}").is_valid
        counts = {(a, b): 0 for a in (False, True) for b in (False, True)}
        for _ in range(n):
            number = "".join(rng.choice(letters.get(c, c)) for c in pattern)
            counts[bool(check(number)), bool(theirs(number))] += 1
        valid = counts[True, True] + counts[False, True]
        print(f"| {name} | {n} | {valid} | {counts[True, False]} | {counts[False, True]} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--n", type=int, default=200, help="lines of every form and negative")
    parser.add_argument("--presidio", action="store_true")
    parser.add_argument("--model", default="", help="Presidio's spaCy model")
    parser.add_argument("--score", type=float, default=0.4, help="Presidio's least confidence")
    parser.add_argument("--oracle", action="store_true")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, seed 1")
    if options.oracle:
        oracle(100 * options.n)
        return
    if options.presidio:
        compare(options.n, options.model, options.score)
        return
    scores, alarms = measure(scan_text, seed=1, n=options.n)
    by_kind(scores)
    by_negative(alarms)
    columns(options.n)
    speed(scan_text)


if __name__ == "__main__":
    main()
