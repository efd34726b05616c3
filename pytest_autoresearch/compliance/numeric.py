"""
Personal numbers that are stored as numbers: a column of cards, national ids or known values without any text.

One integer says nothing: a tenth of all has a valid Luhn digit. A column does: its distinct values of a scheme's
length are put to the scheme's check digits, and the column is a finding if at least half of them are valid and as
many would be by chance with a probability below 1e-9 (binomial tail, the rate of random digits as the
null). For a column of random digits that is a false alarm in at most about 2e-8 over all schemes.
A US SSN has no check digit. It takes 2,000 distinct values, every one in the ranges that are issued, of which
random numbers with nine digits miss at least 1.1 % (group 00, area 666, serial 0000): 0.989^2000 = 2.5e-10.

What is not covered: fewer than nine distinct values with one check digit, floats that are not integral, shares
below one half, a number in two columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import checksums
from .findings import Finding
from .known import KnownValues

__all__ = ["scan_numbers"]

#: Highest probability that a column of random digits has so many valid check digits.
CHANCE = 1e-9
#: Distinct values that are looked at, drawn with a fixed seed.
SAMPLE = 4000
_LEAST_SSN = 2000

_Check = Callable[[str], bool]


def _new_ssn(number: str) -> bool:
    return number < "900000000" and checksums.ssn(number)


# Kind, scheme, digits, check, and the share of random numbers with so many digits that pass it: 1/10 or 1/11 for
# one check digit, times the share of plausible dates and prefixes where the check looks at them (rounded up).
_SCHEMES: tuple[tuple[str, str, int, _Check, float], ...] = (
    *(("card", "", digits, checksums.issued_card, 0.1) for digits in (13, 14, 15, 16, 18, 19)),
    ("national_id", "uk nhs", 10, checksums.nhs, 0.1),
    ("national_id", "se personnummer", 10, checksums.personnummer, 0.02),
    ("national_id", "se personnummer", 12, checksums.personnummer, 0.02),
    ("national_id", "nl bsn", 9, checksums.bsn, 0.1),
    ("national_id", "ca sin", 9, checksums.sin, 0.1),
    ("national_id", "de steuer-id", 11, checksums.steuer_id, 0.02),
    ("national_id", "pl pesel", 11, checksums.pesel, 0.1),
    ("national_id", "br cpf", 11, checksums.cpf, 0.02),
    ("national_id", "be rijksregisternummer", 11, checksums.rijksregisternummer, 0.03),
    ("national_id", "no fødselsnummer", 11, checksums.fodselsnummer, 0.02),
    ("national_id", "tr tckn", 11, checksums.tckn, 0.02),
    ("national_id", "in aadhaar", 12, checksums.aadhaar, 0.1),
    ("national_id", "ch ahv", 13, checksums.ahv, 0.1),
    ("national_id", "fr nir", 15, checksums.nir, 0.02),
)
_LEAST = 10**7


def scan_numbers(
    array: NDArray[Any], where: str, known: KnownValues | None = None
) -> Iterator[Finding]:
    """Findings in a numeric array: each column of a table ``[n, m]`` by itself, everything else as one."""
    if array.dtype.kind not in "iuf" or not array.size:
        return
    if array.ndim == 2 and 1 < array.shape[1] <= 1000:
        for column in range(array.shape[1]):
            yield from _column(array[:, column], f"{where}[:, {column}]", known)
    else:
        yield from _column(array.ravel(), where, known)


def _column(values: NDArray[Any], where: str, known: KnownValues | None) -> Iterator[Finding]:
    texts = _distinct(values)
    for kind, scheme, digits, check, chance in _SCHEMES:
        # Leading zeros are lost in a number; a card has none.
        least = digits if kind == "card" else digits - 2
        candidates = [t.zfill(digits) for t in texts if least <= len(t) <= digits]
        if kind == "card":
            candidates = [t for t in candidates if checksums.issuer(t)]
        valid = sum(map(check, candidates))
        if (
            2 * valid >= len(candidates)
            and 2 * len(candidates) >= len(texts)
            and _tail(valid, len(candidates), chance) < CHANCE
        ):
            yield Finding(kind, (0, 0), f"{valid} of {len(texts)} distinct values", where, scheme)
            return
    nine = [t.zfill(9) for t in texts if 7 <= len(t) <= 9]
    if len(nine) >= _LEAST_SSN and 2 * len(nine) >= len(texts) and all(map(_new_ssn, nine)):
        said = f"{len(nine)} of {len(texts)} distinct values"
        yield Finding("national_id", (0, 0), said, where, "us ssn")
        return
    remembered = sum(bool(known(text)) for text in texts) if known is not None else 0
    if remembered >= 5 and 2 * remembered >= len(texts):
        said = f"{remembered} of {len(texts)} distinct values"
        yield Finding("known_value", (0, 0), said, where)


def _distinct(values: NDArray[Any]) -> list[str]:
    """Distinct whole numbers that are long enough to be someone's, as decimal digits; at most ``SAMPLE``."""
    if values.dtype.kind == "f":
        # Above 2**53 a float is no exact number any more.
        with np.errstate(invalid="ignore"):
            whole = (values >= _LEAST) & (values < 2**53) & (values == np.floor(values))
        if 2 * whole.sum() < (values >= 1).sum():
            return []
        values = values[whole].astype(np.int64)
    values = values[values >= _LEAST]
    unique = np.unique(values)
    if len(unique) > SAMPLE:
        unique = np.random.default_rng(0).choice(unique, SAMPLE, replace=False)
    return [str(value) for value in unique.tolist()]


def _tail(valid: int, n: int, chance: float) -> float:
    """P(X >= valid) for X ~ Bin(n, chance), bounded by Chernoff: exp(-n KL(valid/n || chance)); 1 below the mean."""
    if not n or valid <= n * chance:
        return 1.0
    share = valid / n
    divergence = share * math.log(share / chance)
    if share < 1:
        divergence += (1 - share) * math.log((1 - share) / (1 - chance))
    return math.exp(-n * divergence)
