"""
Which candidates are one experiment, and which are two.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.equivalence import fingerprint

BASE = """\
\"\"\"A script.\"\"\"
import random
import torch

RATE = 0.001
WIDTH = 64
SEED = 7


def main():
    \"\"\"Run.\"\"\"
    torch.manual_seed(SEED + 1)
    draw = random.Random(3)
    rows = sample(n=10, random_state=5)
    return WIDTH * rows - 1
"""


def mark(source: str, path: str = "train.py") -> str:
    return fingerprint({path: source.encode()})


SAME = {
    "a comment": ("WIDTH = 64", "WIDTH = 64  # wide"),
    "layout": ("import random\n", "import random\n\n\n"),
    "a docstring": ("A script.", "Another script."),
    "another spelling": ("RATE = 0.001", "RATE = 1e-3"),
    "a hexadecimal spelling": ("WIDTH = 64", "WIDTH = 0x40"),
    "a product": ("WIDTH = 64", "WIDTH = 2 * 32"),
    "a power": ("WIDTH = 64", "WIDTH = 2**6"),
    "nested arithmetic": ("WIDTH = 64", "WIDTH = (100 - 4) * 2 // 3"),
    "a double sign": ("WIDTH = 64", "WIDTH = - -64"),
    "a seed constant": ("SEED = 7", "SEED = 8"),
    "a generator's seed": ("random.Random(3)", "random.Random(1234)"),
    "a keyword": ("random_state=5", "random_state=6"),
    "a seed by arithmetic": ("SEED = 7", "SEED = 3 * 14 - 2"),
}
OTHER = {
    "another number": ("WIDTH = 64", "WIDTH = 65"),
    "a float for an integer": ("WIDTH = 64", "WIDTH = 64.0"),
    "another sign": ("- 1", "+ 1"),
    "a seed from the clock": ("random.Random(3)", "random.Random(clock())"),
    "another name": ("rows - 1", "row - 1"),
    "a removed statement": ("    torch.manual_seed(SEED + 1)\n", ""),
    "a division by zero": ("WIDTH = 64", "WIDTH = 64 / 0"),
    "a bool": ("WIDTH = 64", "WIDTH = True"),
}


@pytest.mark.parametrize("name", SAME)
def test_what_means_the_same_has_one_fingerprint(name: str) -> None:
    old, new = SAME[name]
    assert old in BASE
    assert mark(BASE.replace(old, new)) == mark(BASE)


def test_an_annotated_seed_counts_as_little() -> None:
    annotated = BASE.replace("SEED = 7", "SEED: int = 7")
    assert mark(annotated.replace("int = 7", "int = 8")) == mark(annotated)


@pytest.mark.parametrize("name", OTHER)
def test_what_means_something_else_has_another(name: str) -> None:
    old, new = OTHER[name]
    assert old in BASE
    assert mark(BASE.replace(old, new)) != mark(BASE)


@pytest.mark.parametrize(
    "source",
    [
        "X = 9**9**9**9\n",
        "X = 2.0**5000\n",
        "X = 1 << 9\n",
        "X = (-8) ** 0.5\n",
        "X = " + "-" * 900 + "1\n",
    ],
)
def test_arithmetic_that_is_long_or_no_number_stays_as_it_is(source: str) -> None:
    assert mark(source) == mark(source.replace("X =", "X  ="))
    assert mark(source) != mark(source.replace("X =", "Y ="))


def test_a_script_that_reads_its_docstrings_counts_by_its_bytes() -> None:
    reads = BASE + "print(__doc__)\n"
    assert mark(reads) != mark(reads.replace("A script.", "Another script."))


def test_a_file_that_is_no_python_counts_by_its_bytes() -> None:
    assert mark("width: 64\n", "a.yaml") != mark("width:  64\n", "a.yaml")


@given(st.text(max_size=200))
def test_it_never_raises(source: str) -> None:
    assert len(fingerprint({"train.py": source.encode("utf-8", "surrogatepass")})) == 64


@given(
    st.recursive(
        st.integers(-99, 99).map(str),
        lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*/%"), inner),
        max_leaves=6,
    )
)
def test_folding_agrees_with_python(expression: str) -> None:
    try:
        value = eval(expression)
    except ArithmeticError:
        return
    assert mark(f"X = {expression}\n") == mark(f"X = {value!r}\n")
