"""
The scan for personal data in files: what a training run can see, what it has printed, what it leaves behind.

What is covered: denied column names; every string of the npz, npy, json and text files in a folder, and of an
artifact in whatever format, by the scanners that are given (the patterns of
:mod:`pytest_autoresearch.compliance.patterns` by default, known values, Presidio); columns of numbers whose check
digits are right more often than chance allows (:mod:`.numeric`).
What is not covered: names that nobody has listed, numbers without a check digit, and what a model knows by heart
in its weights. Hence the columns are the first line (drop them, :mod:`.redaction`), scanning the second.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .findings import Finding, Scanner, scan_all
from .known import KnownValues
from .numeric import scan_numbers
from .patterns import scan_text

__all__ = [
    "DENIED_COLUMNS",
    "Finding",
    "check_size",
    "json_strings",
    "limited",
    "scan_columns",
    "scan_directory",
    "scan_npz",
    "scan_text",
]

#: Shell patterns of column names that a training view may not have, whatever the values look like.
DENIED_COLUMNS = (
    "*address*",
    "*birth_date*",
    "*birthdate*",
    "*date_of_birth*",
    "*e_mail*",
    "*email*",
    "*iban*",
    "*name",
    "*national_id*",
    "*passport*",
    "*phone*",
    "dob",
    "note",
    "*_note",
    "ssn",
    "*_ssn",
)

#: Largest file, and largest sum of array sizes in an archive, that a scan opens.
_MAXIMUM_BYTES = 512 * 2**20

#: Findings of one file after which a scan of it stops: the gate has failed, the report stays readable.
_MAXIMUM_FINDINGS = 100

Scanners = Sequence[Scanner]


def scan_columns(
    names: Iterable[str], denied: Sequence[str] = DENIED_COLUMNS
) -> tuple[Finding, ...]:
    """
    Return the column names that match a denied shell pattern, ignoring case and separators.

    ``denied`` may add protected attributes: ``(*DENIED_COLUMNS, "sex", "race")``.
    """
    patterns = [_plain(pattern) for pattern in denied]
    return tuple(
        Finding("column", (0, len(name)), name)
        for name in names
        if any(fnmatchcase(_plain(name), pattern) for pattern in patterns)
    )


def _plain(name: str) -> str:
    return re.sub(r"[^\w*?\[\]]+", "_", name.strip()).casefold()


def scan_npz(path: Path, scanners: Scanners = (scan_text,)) -> tuple[Finding, ...]:
    """
    Scan every string and every column of numbers in the arrays of an npz archive or npy file.

    :raises ValueError: for a file that is no archive of plain arrays (a pickle is code), or one larger than
        512 MiB, packed or unpacked.
    """
    return tuple(limited(_arrays(path, scanners)))


def _arrays(path: Path, scanners: Scanners) -> Iterator[Finding]:
    check_size(path)
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name!r} is not a file of plain arrays: {error}") from error
    if isinstance(loaded, np.ndarray):
        yield from _values(loaded, path.name, scanners)
        return
    with loaded:
        for name in loaded.files:
            where = f"{path.name}:{name}"
            yield from (replace(f, where=where) for f in scan_all(name, scanners))
            try:
                array = loaded[name]
            except (ValueError, zipfile.BadZipFile) as error:
                raise ValueError(
                    f"array {name!r} of {path.name!r} is not a plain array: {error}"
                ) from error
            yield from _values(array, where, scanners)


def check_size(path: Path) -> None:
    """
    Refuse what would not fit into memory, before anything is unpacked.

    :raises ValueError: it holds more than the scan takes.
    """
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = max(size, sum(member.file_size for member in archive.infolist()))
    if size > _MAXIMUM_BYTES:
        raise ValueError(
            f"{path.name!r} holds {size} bytes, the scan takes {_MAXIMUM_BYTES}: split the file"
        )


def _values(array: NDArray[Any], where: str, scanners: Scanners) -> Iterator[Finding]:
    """Scan text and bytes elements by pattern, numbers by column."""
    if array.dtype.names is not None:
        for name in array.dtype.names:
            yield from _values(array[name], f"{where}.{name}", scanners)
    elif array.dtype.kind in "SU":
        for value in np.unique(array):
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            yield from (replace(finding, where=where) for finding in scan_all(text, scanners))
    else:
        known = next((scanner for scanner in scanners if isinstance(scanner, KnownValues)), None)
        yield from scan_numbers(array, where, known)


def scan_directory(
    folder: Path, denied: Sequence[str] = DENIED_COLUMNS, scanners: Scanners = (scan_text,)
) -> tuple[Finding, ...]:
    """
    Scan a training view: every file below ``folder``, and the column names of its ``schema.json``.

    A file of a kind the scanner cannot read, a link or a special file is itself a finding (``unscanned``).

    :raises ValueError: as :func:`scan_npz`, for malformed JSON, or when ``folder`` holds no file at all,
        since a scan of nothing would pass.
    """
    found: list[Finding] = []
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    if not files:
        raise ValueError(f"{str(folder)!r} holds no file to scan: is this the training view?")
    for path in files:
        name = path.relative_to(folder).as_posix()
        found.extend(
            replace(f, where=name + f.where.removeprefix(path.name))
            for f in limited(_file(path, denied, scanners))
        )
    return tuple(found)


def _file(path: Path, denied: Sequence[str], scanners: Scanners) -> Iterator[Finding]:
    yield from scan_all(path.name, scanners)
    if path.is_symlink() or not path.is_file():
        yield Finding("unscanned", (0, 0), "not a regular file")
    elif path.suffix in {".npz", ".npy"}:
        yield from _arrays(path, scanners)
    elif path.suffix == ".json":
        check_size(path)
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path.name!r} is not JSON: {error}") from error
        if path.name == "schema.json":
            yield from scan_columns(_column_names(document), denied)
        for text in json_strings(document):
            yield from scan_all(text, scanners)
    elif path.suffix in {".csv", ".tsv", ".txt", ".md"}:
        check_size(path)
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix in {".csv", ".tsv"}:
            head = text.partition("\n")[0].split("," if path.suffix == ".csv" else "\t")
            yield from scan_columns((name.strip(' \r"') for name in head), denied)
        yield from scan_all(text, scanners)
    else:
        yield Finding("unscanned", (0, 0), f"the scan reads no {path.suffix!r} files")


def _column_names(schema: object) -> Iterator[str]:
    """Column names of a schema: in lists, as keys of vocabularies, as ``name`` of descriptions, as the label."""
    for value in schema.values() if isinstance(schema, dict) else ():
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
        elif isinstance(value, list):
            for item in value:
                name = item.get("name") if isinstance(item, dict) else item
                if isinstance(name, str):
                    yield name


def json_strings(value: object) -> Iterator[str]:
    """Every string of a JSON document, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from json_strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from json_strings(item)


def limited(findings: Iterable[Finding]) -> Iterator[Finding]:
    """As many findings as a report needs."""
    for count, finding in enumerate(findings):
        if count == _MAXIMUM_FINDINGS:
            return
        yield finding
