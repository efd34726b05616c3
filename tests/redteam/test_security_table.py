"""
The table of docs/security.md: every threat once, and every test that it names exists.

What is covered: ids, states, names of tests. What is not covered: whether the words beside them are true.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "security.md"
ROW = re.compile(r"^\| (T\d+) \| (.+?) \| (\w+) \| (.+) \| (.*) \|$", re.MULTILINE)
REFERENCE = re.compile(r"`([\w/]+\.py)::(\w+)`")
ROWS = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Names of the test functions that a file defines at its top."""
    return frozenset(
        node.name
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def test_every_threat_has_one_row_in_order() -> None:
    assert [row[0] for row in ROWS] == [f"T{number:02d}" for number in range(1, 126)]
    assert len(re.findall(r"^\| T\d", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)) == 125


def test_every_state_is_one_that_the_text_explains() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert {row[2] for row in ROWS} <= {"stopped", "bounded", "open"}
    assert all(f"*{state}*:" in text for state in {row[2] for row in ROWS})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_test_that_is_named_exists(row: tuple[str, ...]) -> None:
    name, _, state, _, cell = row
    found = REFERENCE.findall(cell)
    assert found or state == "open", f"{name} is {state} and names no test"
    assert REFERENCE.sub("", cell).strip(" ,") == ""
    for file, function in found:
        assert (TESTS / file).is_file(), f"{name} names {file!r}, which does not exist"
        assert function in functions_of(TESTS / file), f"{name}: no test {function!r} in {file}"


def test_links_of_the_document_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", DOCUMENT.read_text(encoding="utf-8")):
        assert (DOCUMENT.parent / target).exists(), target
