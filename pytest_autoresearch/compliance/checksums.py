"""
Check digits: what tells an account, card or national number from other digits of the same length.

Every function takes the compact number (no separators, upper case, of the shape that its pattern in
:mod:`.national` or :mod:`.patterns` has found) and says whether its check digits, and where the number holds
one its date, are right. A scheme with one decimal check digit lets a tenth of random numbers through, one with
mod 97 a hundredth; docs/privacy.md says what that means for false alarms.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

__all__ = [
    "aadhaar",
    "ahv",
    "bsn",
    "codice_fiscale",
    "cpf",
    "dni",
    "fodselsnummer",
    "hetu",
    "iban",
    "issued_card",
    "issuer",
    "luhn",
    "nhs",
    "nino",
    "nir",
    "personnummer",
    "pesel",
    "resident_id",
    "rijksregisternummer",
    "sin",
    "ssn",
    "steuer_id",
    "tckn",
    "verhoeff",
]


def _weighted(number: str, weights: Sequence[int]) -> int:
    """Sum of digit times weight over as many digits as there are weights."""
    return sum(int(c) * weight for c, weight in zip(number, weights, strict=False))


def _date(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True


# -- schemes that several numbers share ----------------------------------------


def luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B: double every second digit from the right."""
    digits = [int(c) for c in reversed(number)]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


# Dihedral group D5 and Verhoeff's permutation (J. Verhoeff, Error Detecting Decimal Codes, 1969).
_D5 = "0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 8765932104 9876543210"
_PERMUTATION = (
    "0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258"
)


def verhoeff(number: str) -> bool:
    """Verhoeff's code over the dihedral group D5."""
    check = 0
    for place, c in enumerate(reversed(number)):
        check = int(_D5[11 * check + int(_PERMUTATION[11 * (place % 8) + int(c)])])
    return check == 0


# -- accounts and cards --------------------------------------------------------

# Registered lengths (SWIFT IBAN registry), by country.
_IBAN_LENGTHS = {
    code: int(length)
    for code, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 "
        "EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 "
        "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 "
        "NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 "
        "SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30",
    )
}


def iban(number: str) -> bool:
    """ISO 13616: length by country, ISO 7064 mod 97-10."""
    if _IBAN_LENGTHS.get(number[:2]) != len(number):
        return False
    return int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1


# Leading digits and lengths that Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay and Maestro
# issue (ISO/IEC 7812 issuer ranges as the networks publish them).
_CARD = re.compile(
    r"4(\d{12}|\d{15}|\d{18})|(5[1-5]|2(22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720))\d{12,14}"
    r"|3[47]\d{13}|3(0[0-5]|[68]\d)\d{11}|(6011|65\d\d|64[4-9]\d|62\d\d)\d{12}|35\d{14}"
    r"|(2131|1800)\d{11}|(5018|5020|5038|5893|6304|6759|676[123])\d{12}"
)


def issuer(number: str) -> bool:
    """Whether a card network issues numbers that begin like this and are as long."""
    found = _CARD.fullmatch(number)
    # Mastercard's alternatives take different parts of the prefix: sixteen digits in all.
    mastercard = number[0] in "25" and number[:4] not in ("2131", "5018", "5020", "5038", "5893")
    return found is not None and (not mastercard or len(number) == 16)


def issued_card(number: str) -> bool:
    """An issuer range, its length, and the check digit of ISO/IEC 7812."""
    return issuer(number) and luhn(number)


# -- national numbers ----------------------------------------------------------


def ssn(number: str) -> bool:
    """US SSN (SSA, randomised since 2011) or ITIN (IRS): no check digit, ranges that are never issued."""
    area, group, serial = number[:3], int(number[3:5]), number[5:]
    if area in ("000", "666") or serial == "0000":
        return False
    if area >= "900":
        return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99
    return group != 0


def nino(number: str) -> bool:
    """UK National Insurance number (HMRC NIM39110): prefixes that are not used."""
    prefix = number[:2]
    barred = {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"}
    return prefix not in barred and prefix[0] not in "DFIQUV" and prefix[1] not in "DFIOQUV"


def nhs(number: str) -> bool:
    """UK NHS number (NHS Data Dictionary): weights 10 to 2, mod 11; 10 is never issued."""
    check = 11 - _weighted(number, range(10, 1, -1)) % 11
    return check != 10 and check % 11 == int(number[9])


def steuer_id(number: str) -> bool:
    """German Identifikationsnummer (section 139b AO): one digit two or three times, ISO 7064 mod 11,10."""
    counts = sorted(number[:10].count(c) for c in set(number[:10]))
    if number[0] == "0" or counts[-1] not in (2, 3) or (len(counts) > 1 and counts[-2] > 1):
        return False
    product = 10
    for c in number[:10]:
        total = (int(c) + product) % 10 or 10
        product = 2 * total % 11
    return (11 - product) % 10 == int(number[10])


def nir(number: str) -> bool:
    """French NIR (INSEE): sex, month, and a key of 97 minus the number mod 97; Corsica counts as 19 and 18."""
    month = int(number[3:5])
    if number[0] not in "123478" or not (1 <= month <= 12 or 20 <= month <= 42 or month >= 50):
        return False
    plain = number[:13].replace("2A", "19").replace("2B", "18")
    return plain.isdigit() and 97 - int(plain) % 97 == int(number[13:])


def dni(number: str) -> bool:
    """Spanish DNI, or NIE with X, Y, Z for 0, 1, 2 (Ministerio del Interior): a letter for the number mod 23."""
    plain = int(number[:-1].translate(str.maketrans("XYZ", "012")))
    return plain != 0 and "TRWAGMYFPDXBNJZSQVHLCKE"[plain % 23] == number[-1]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        2 * [1, 0, 5, 7, 9, 13, 15, 17, 19, 21] + [2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23],
        strict=True,
    )
)  # fmt: skip


def codice_fiscale(number: str) -> bool:
    """Italian codice fiscale (D.M. 12 March 1974, art. 7): a letter for the sum of tabled values mod 26."""
    odd = sum(_ODD[c] for c in number[:15:2])
    even = sum(int(c) if c.isdigit() else ord(c) - ord("A") for c in number[1:15:2])
    return chr(ord("A") + (odd + even) % 26) == number[15]


def bsn(number: str) -> bool:
    """Dutch burgerservicenummer (elfproef): weights 9 to 2 and -1, mod 11."""
    return int(number) > 0 and _weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pesel(number: str) -> bool:
    """Polish PESEL (Act of 24 September 2010): birth date with the century in the month, weights 1 3 7 9."""
    century, month = divmod(int(number[2:4]), 20)
    year = (1900, 2000, 2100, 2200, 1800)[century] + int(number[:2])
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
    return _date(year, month, int(number[4:6])) and _weighted(number, weights) % 10 == 0


def personnummer(number: str) -> bool:
    """Swedish personnummer, or samordningsnummer with 60 on the day (Skatteverket SKV 704): date and Luhn."""
    short = number[-10:]
    day = int(short[4:6])
    year = int(number[:4]) if len(number) == 12 else 2000 + int(short[:2])
    return _date(year, int(short[2:4]), day - 60 if day > 60 else day) and luhn(short)


def hetu(number: str) -> bool:
    """Finnish henkilötunnus (Digital and Population Data Services Agency): date, and a character mod 31."""
    digits = number[:6] + number[7:10]
    century = 1900 if number[6] in "-YXWVU" else 1800 if number[6] == "+" else 2000
    date = _date(century + int(number[4:6]), int(number[2:4]), int(number[:2]))
    return date and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] == number[10]


def aadhaar(number: str) -> bool:
    """Indian Aadhaar (UIDAI): twelve digits, the first at least 2, Verhoeff."""
    return number[0] not in "01" and verhoeff(number)


def cpf(number: str) -> bool:
    """Brazilian CPF (Receita Federal): two check digits mod 11; not one digit eleven times."""
    first = _weighted(number, range(10, 1, -1)) * 10 % 11 % 10
    second = _weighted(number, range(11, 1, -1)) * 10 % 11 % 10
    return len(set(number)) > 1 and number[9:] == f"{first}{second}"


def sin(number: str) -> bool:
    """Canadian SIN: Luhn; 0 and 8 do not begin a person's number."""
    return number[0] not in "08" and luhn(number)


def ahv(number: str) -> bool:
    """Swiss AHV number (since 2008): 756 and the check digit of EAN-13."""
    return number.startswith("756") and _weighted(number, (1, 3) * 6 + (1,)) % 10 == 0


def rijksregisternummer(number: str) -> bool:
    """Belgian national number: birth date, 97 minus the number mod 97; from 2000 with a 2 before it."""
    month, day = int(number[2:4]), int(number[4:6])
    if month > 12 or day > 31:
        return False
    return any(97 - int(prefix + number[:9]) % 97 == int(number[9:]) for prefix in ("", "2"))


def fodselsnummer(number: str) -> bool:
    """Norwegian fødselsnummer, or D-number with 40 on the day (Skatteetaten): date and two digits mod 11."""
    day = int(number[:2])
    date = _date(2000 + int(number[4:6]), int(number[2:4]), day - 40 if day > 40 else day)
    first = _weighted(number, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    return date and first == 0 and _weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def tckn(number: str) -> bool:
    """Turkish identity number (NVI): tenth digit from odd and even sums, eleventh the sum of ten, mod 10."""
    digits = [int(c) for c in number]
    tenth = (7 * sum(digits[:9:2]) - sum(digits[1:8:2])) % 10
    return digits[0] != 0 and tenth == digits[9] and sum(digits[:10]) % 10 == digits[10]


def resident_id(number: str) -> bool:
    """Chinese resident identity number (GB 11643-1999): birth date, ISO 7064 mod 11-2."""
    date = _date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    total = _weighted(number[:17], [2**place % 11 for place in range(17, 0, -1)])
    return date and "10X98765432"[total % 11] == number[17]
