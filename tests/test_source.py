"""
What a mutation's text may look like: hiding places are refused, honest edits pass.
"""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.settings import Source
from pytest_autoresearch.source import objections

ROOT = Path(__file__).parents[1]
BASE = (ROOT / "train.py").read_text()
DRAW = random.Random(5)
WEIGHTS = [round(DRAW.gauss(0, 1), 6) for _ in range(600)]
BLOB = base64.b64encode(DRAW.randbytes(3000)).decode()


def judged(after: str, before: str = BASE, **rules: int) -> tuple[str, ...]:
    return objections(
        {"train.py": before.encode()},
        {"train.py": after.encode("utf-8", "surrogatepass")},
        Source(**rules),
    )


def wrapped(text: str, width: int, mark: str) -> str:
    return "".join(f"{mark}{text[i : i + width]}\n" for i in range(0, len(text), width))


HIDING_PLACES = {
    "a list of weights": (f"WEIGHTS = {WEIGHTS}\n".replace(", ", ",\n"), "a literal of"),
    "weights as a tuple of tuples": (
        "W = (\n"
        + "".join(f"    {tuple(WEIGHTS[i : i + 6])},\n" for i in range(0, 600, 6))
        + ")\n",
        "a literal of",
    ),
    "weights inside a call": (
        "import torch\nW = torch.tensor([\n" + ",\n".join(map(str, WEIGHTS)) + "\n])\n",
        "a literal of",
    ),
    "weights in many short constants": (
        "".join(f"W{i} = {w}\n" for i, w in enumerate(WEIGHTS * 3)),
        "of new literals",
    ),
    "a dictionary of answers": (
        "ANSWERS = {\n" + "".join(f"    {i * 7919}: {i % 2},\n" for i in range(300)) + "}\n",
        "a literal of",
    ),
    "base64 in one string": (f'DATA = "{BLOB}"\n', "encoded data"),
    "base64 in wrapped lines": (
        "DATA = (\n" + "".join(f'    "{BLOB[i : i + 76]}"\n' for i in range(0, 4000, 76)) + ")\n",
        "encoded data",
    ),
    "base64 in comments": (wrapped(BLOB, 90, "# "), "encoded data"),
    "base64 in a docstring": (
        'def f():\n    """\n' + wrapped(BLOB, 80, "    ") + '    """\n',
        "encoded data",
    ),
    "bytes with escapes": (f"DATA = {DRAW.randbytes(3000)!r}\n", "a literal of"),
    "a huge integer": (f"DATA = {int.from_bytes(DRAW.randbytes(1500)):_d}\n", "encoded data"),
    "a huge hexadecimal integer": (f"DATA = 0x{DRAW.randbytes(2000).hex()}\n", "encoded data"),
    "one long line": ("x = 1; " * 100 + "\n", "a new line of"),
    "a whole library": (
        "".join(f"def f{i}(x):\n    return x + y\n" for i in range(4000)),
        "KiB of new",
    ),
    "a right-to-left override": ("NAME = 'a\u202e b'\n", "U+202E RIGHT-TO-LEFT OVERRIDE"),
    "a zero-width space": ("# a\u200bb\n", "U+200B ZERO WIDTH SPACE"),
    "a form feed": ("x = 1\f\n", "U+000C"),
    "an escape sequence": ("# \x1b[2K\n", "U+001B"),
    "a Cyrillic a in a name": ("p\u0430ss_through = 1\n", "look like others"),
    "full-width letters": ("\uff45\uff56\uff41\uff4c('1')\n", "look like others"),
}


@pytest.mark.parametrize("name", HIDING_PLACES)
def test_a_hiding_place_is_refused(name: str) -> None:
    text, words = HIDING_PLACES[name]
    found = judged(BASE + text)
    assert any(words in sentence for sentence in found), found
    assert all(sentence.startswith("train.py") for sentence in found)


@pytest.mark.parametrize("name", HIDING_PLACES)
def test_what_people_have_committed_stands(name: str) -> None:
    text, _ = HIDING_PLACES[name]
    assert judged(BASE + text + "EXTRA = 3\n", before=BASE + text) == ()


HONEST = {
    "nothing": BASE,
    "a constant": BASE + "\nDROPOUT = 0.1\n",
    "another file altogether": (ROOT / "tests/toy/train.py").read_text(),
    "a list of columns": BASE
    + "COLUMNS = [\n"
    + "".join(f'    "column_{i}",\n' for i in range(60))
    + "]\n",
    "prose in another language": BASE + "# Größe und Streuung: 学習率を下げる, меньше шума 👍\n",
    "a ruler": BASE + "# " + "-" * 90 + "\n",
    "a link": BASE
    + "# https://docs.example.org/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html\n",
    "a new model": BASE
    + "".join(
        f"class Block{i}(nn.Module):\n    def forward(self, x):\n"
        f"        return x + torch.relu(self.layer(x)) * {i}.5\n"
        for i in range(40)
    ),
    "carriage returns": BASE.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + BASE,
    "no Python at all": "def (:\n",
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_edit_passes(name: str) -> None:
    assert judged(HONEST[name]) == ()


def test_the_project_history_of_honest_scripts_passes_from_nothing() -> None:
    """The shipped scripts hold no literal, line or name that the rules would refuse in a proposal."""
    assert judged(BASE, before="") == ()


def test_undecodable_bytes_are_refused() -> None:
    found = objections({"train.py": b""}, {"train.py": b"x = '\xff'\n"}, Source())
    assert found == ("train.py is not UTF-8 text (byte 5): save it as UTF-8",)


def test_a_file_that_is_no_python_is_judged_by_its_lines() -> None:
    found = objections({}, {"model.yaml": f"data: {BLOB}\n".encode()}, Source())
    assert any("encoded data" in sentence for sentence in found)


def test_the_limits_are_configurable() -> None:
    text = f"WEIGHTS = {WEIGHTS[:40]}\n".replace(", ", ",\n")
    assert judged(BASE + text) == ()
    assert "source.literal_bytes = 100 allows fewer" in judged(BASE + text, literal_bytes=100)[0]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_it_never_raises(before: bytes, after: bytes) -> None:
    found = objections({"train.py": before}, {"train.py": after}, Source())
    assert all(sentence.isprintable() for sentence in found)
