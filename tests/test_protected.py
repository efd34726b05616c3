"""Protected names and values: every planted way to touch one is found in the text, honest changes beside it pass."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pytest_autoresearch.equivalence import fingerprint
from pytest_autoresearch.evolve import propose
from pytest_autoresearch.fixed_values import value_problems
from pytest_autoresearch.folding import Constants, constants_of, fold
from pytest_autoresearch.protected import protected_problems, protected_touched
from pytest_autoresearch.syntax import parse_source

BASE = '''\
"""A small run."""

import importlib
import os

import numpy as np
import task
from prepare import load_train

SEED_SOURCE = "AUTORESEARCH_SEED"
LEARNING_LIMIT = 1
RATE = 0.05
PARTS = ("s", "ex")
ACTIVATION = "relu"


def features(x):
    return x


def main(args, names):
    draw = np.random.default_rng(int(os.environ[SEED_SOURCE]))
    x, y = load_train()
    scale = getattr(np, "sqrt")(len(x))
    return features(x) * scale * min(RATE, LEARNING_LIMIT)
'''
NAMES = ("sex", "AUTORESEARCH_SEED")


def planted(line: str, place: str = "    x, y = load_train()\n") -> dict[str, bytes]:
    """The run with more lines in its main function, or at the top."""
    indent = "    " if place.startswith(" ") else ""
    lines = "".join(f"{indent}{each}\n" for each in line.split("\n"))
    assert place in BASE
    return {"train.py": BASE.replace(place, place + lines).encode()}


def problems(after: dict[str, bytes]) -> str:
    return "; ".join(protected_problems({"train.py": BASE.encode()}, after, NAMES, {}))


NAMED = {
    "assignment": "sex = x[:, 3]",
    "attribute": "y = task.sex",
    "setattr": 'setattr(args, "s" + "ex", 1)',
    "setattr by constants": "setattr(args, PARTS[0] + PARTS[1], 1)",
    "subscript": 'y = args["sex"]',
    "import": "from task import sex as s",
    "import of a module": "import sex as other",
    "import from a module": "from task.sex import anything",
    "attribute of an alias": "import task as t\ny = t.sex",
    "globals": 'globals()["sex"] = 1',
    "vars": 'y = vars(task)["se" "x"]',
    "dict": 'y = task.__dict__["sex"]',
    "exec": 'exec("y = task.sex")',
    "eval": "y = eval('task' + '.' + 'sex')",
    "getattr": 'y = getattr(task, "xes"[::-1])',
    "walrus": "y = (sex := x[:, 3])",
    "delete": "del task.sex",
    "augmented": "task.sex += 1",
    "match capture": "match args:\n    case [sex, *_]:\n        y = 1",
    "match star": "match args:\n    case [_, *sex]:\n        y = 1",
    "match mapping": 'match args:\n    case {"a": 1, **sex}:\n        y = 1',
    "comprehension": "y = [sex for sex in x]",
    "loop": "for sex in x:\n    pass",
    "decorator": "@task.sex\ndef inner():\n    pass",
    "global": "global sex",
    "keyword": "features(sex=x)",
    "argument": "inner = lambda sex: 1",
    "f-string": "y = getattr(task, f\"s{'ex'}\")",
    "percent": 'y = getattr(task, "%s%s" % ("se", "x"))',
    "format": 'y = getattr(task, "{}{}".format("se", "x"))',
    "bytes": 'y = getattr(task, b"sex".decode())',
    "hex": 'y = getattr(task, bytes.fromhex("736578").decode())',
    "bytes of numbers": "y = getattr(task, bytes([115, 101, 120]).decode())",
    "chr": "y = getattr(task, chr(115) + chr(101) + chr(120))",
    "join": 'y = args["".join(["s", "e", "x"])]',
    "join of chr": 'y = args["".join(chr(c) for c in (115, 101, 120))]',
    "join of map": 'y = args["".join(map(chr, [115, 101, 120]))]',
    "shifted": 'y = args["".join(chr(ord(c) - 1) for c in "tfy")]',
    "replace": 'y = args["s_x".replace("_", "e")]',
    "case": 'y = args["SEX".lower()]',
    "reversed": 'y = args["".join(reversed("xes"))]',
    "class": "class sex:\n    pass",
    "except": "try:\n    pass\nexcept ValueError as sex:\n    pass",
    "annotation": "y: sex = 1",
    "seed": 'os.environ["AUTORESEARCH_" + "SEED"] = "7"',
}


@pytest.mark.parametrize("line", NAMED.values(), ids=NAMED)
def test_a_planted_name_is_found_and_named(line: str) -> None:
    found = problems(planted(line))
    name = "AUTORESEARCH_SEED" if "SEED" in line else "sex"
    assert f"it mentions '{name}'" in found


REACHING = {
    "getattr": (
        "y = getattr(task, names[0])",
        "getattr() with a name that is known at run time only",
    ),
    "setattr": ("setattr(task, names[0], 1)", "setattr() with a name"),
    "unpacked": ("y = getattr(*args)", "getattr() with a name"),
    "alias": ("get = getattr\ny = get(task, names[0])", "getattr as a value"),
    "mapped": ("y = list(map(getattr, args, names))", "getattr as a value"),
    "globals": ("y = globals()[names[0]]", "globals() as a whole"),
    "namespace": ("g = vars(task)\ny = g[names[0]]", "vars() as a whole"),
    "dict": ("y = task.__dict__[names[0]]", "__dict__, which reaches every name"),
    "exec": ("exec(names[0])", "exec() with a name"),
    "import": ("y = importlib.import_module(names[0])", "import_module() with a name"),
    "dunder import": ("y = __import__(names[0])", "__import__() with a name"),
    "getter": (
        "import operator\ny = operator.attrgetter(names[0])(task)",
        "attrgetter() with a name",
    ),
    "renamed": (
        "from operator import attrgetter as a\ny = a(names[0])(task)",
        "attrgetter under another",
    ),
    "builtins": (
        "import builtins as b\ny = b.getattr(task, names[0])",
        "builtins under another name",
    ),
    "star": ("from task import *", "a star import from task"),
    "getattribute": (
        "y = object.__getattribute__(task, names[0])",
        "__getattribute__, which reaches",
    ),
}


@pytest.mark.parametrize(("line", "message"), REACHING.values(), ids=REACHING)
def test_a_new_way_to_reach_any_name_is_refused(line: str, message: str) -> None:
    place = "import task\n" if "*" in line and "import" in line else "    x, y = load_train()\n"
    found = problems(planted(line, place))
    assert message in found
    assert "(line " in found


def test_where_nothing_is_protected_names_may_be_dynamic() -> None:
    after = planted("y = getattr(task, names[0])")
    assert protected_problems({"train.py": BASE.encode()}, after, (), {}) == ()


HONEST = {
    "nothing": "",
    "a constant": ("RATE = 0.05", "RATE = 0.1"),
    "a known attribute": ('getattr(np, "sqrt")', 'getattr(np, "log1p")'),
    "an attribute of a constant": ('getattr(np, "sqrt")', "getattr(np, ACTIVATION)"),
    "a longer word": ("    x, y = load_train()", "    sextant = 1\n    x, y = load_train()"),
    "a sentence": (
        "    x, y = load_train()",
        '    print("sex is protected")\n    x, y = load_train()',
    ),
    "a part": ("    x, y = load_train()", '    print("s" + str(y))\n    x, y = load_train()'),
    "a comment": ("    x, y = load_train()", "    x, y = load_train()  # not sex"),
    "methods": (
        "return features(x)",
        "x.eval(); np.compile(x); x.vars = 1\n    return features(x)",
    ),
    "an unchanged dynamic name": ("return x\n", "return x**2\n"),
    "use of a fixed value": ("min(RATE, LEARNING_LIMIT)", "min(RATE, 2 * LEARNING_LIMIT)"),
}


@pytest.mark.parametrize("change", HONEST.values(), ids=HONEST)
def test_honest_changes_near_them_pass(change: str | tuple[str, str]) -> None:
    before = BASE + "\n\ndef known(names):\n    return getattr(task, names[0])\n"
    after = before.replace(*change) if isinstance(change, tuple) else before
    assert (after == before) is (change == "")
    values = {"LEARNING_LIMIT": 1, "SEED_SOURCE": "AUTORESEARCH_SEED"}
    given = {"train.py": before.encode()}, {"train.py": after.encode()}
    assert protected_problems(*given, NAMES, values) == ()


def test_the_shipped_train_and_honest_mutations_of_it_pass() -> None:
    shipped = (Path(__file__).parents[1] / "train.py").read_text()
    names = ("sex", "race", "AUTORESEARCH_SEED", "AUTORESEARCH_SECONDS", "manual_seed")
    for old, new in (
        ("EPOCHS = 8", "EPOCHS = 12"),
        ("nn.ReLU()", "nn.GELU()"),
        ("nn.ReLU()", 'getattr(nn, "SiLU")()'),
        ("loss.backward()", "loss.backward()\n            model.eval()\n            model.train()"),
        ("torch.log1p(numeric[:, 2:4])", "torch.asinh(numeric[:, 2:4])"),
        ("(1 - done)", "(1 - done) ** 2"),
        ("torch.optim.AdamW(", "torch.optim.NAdam("),
    ):
        assert old in shipped
        given = {"train.py": shipped.encode()}, {"train.py": shipped.replace(old, new).encode()}
        assert protected_problems(*given, names, {"EPOCHS": 8} if "EPOCHS" not in old else {}) == ()


def test_what_the_built_in_proposer_brings_in_raises_no_alarm() -> None:
    shipped = (Path(__file__).parents[1] / "train.py").read_bytes()
    names = ("sex", "race", "AUTORESEARCH_SEED", "AUTORESEARCH_SECONDS", "manual_seed")
    tried = {fingerprint({"train.py": shipped})}
    for number in range(20):
        found = propose(
            shipped.decode(),
            path="train.py",
            others={},
            tried=tried,
            rng=random.Random(number),
            protected=names,
            history=[],
        )
        assert found is not None
        after = {"train.py": found[0].encode()}
        tried.add(fingerprint(after))
        assert protected_problems({"train.py": shipped}, after, names, {}) == ()


# -- values ---------------------------------------------------------------------


VALUES = {
    "another value": ("LEARNING_LIMIT = 1\n", "LEARNING_LIMIT = 2\n", "line 11 makes it 2"),
    "another type": ("LEARNING_LIMIT = 1\n", "LEARNING_LIMIT = True\n", "line 11 makes it True"),
    "computed": ("LEARNING_LIMIT = 1\n", "LEARNING_LIMIT = 3 - 1\n", "makes it 2"),
    "unknown": ("LEARNING_LIMIT = 1\n", "LEARNING_LIMIT = len(os.environ)\n", "binds it otherwise"),
    "gone": ("LEARNING_LIMIT = 1\n", "", "it is gone"),
    "twice": ("RATE = 0.05\n", "RATE = 0.05\nLEARNING_LIMIT = 9\n", "it is bound 2 times"),
    "in a function": ("    x, y", "    LEARNING_LIMIT = 9\n    x, y", "binds it otherwise"),
    "global": ("    x, y", "    global LEARNING_LIMIT\n    x, y", "binds it otherwise"),
    "augmented": ("RATE = 0.05\n", "RATE = 0.05\nLEARNING_LIMIT += 1\n", "binds it otherwise"),
    "unpacked": ("RATE = 0.05\n", "RATE, LEARNING_LIMIT = 0.05, 9\n", "binds it otherwise"),
    "walrus": ("    x, y", "    (LEARNING_LIMIT := 9)\n    x, y", "binds it otherwise"),
    "deleted": ("    x, y", "    del LEARNING_LIMIT\n    x, y", "binds it otherwise"),
    "import": ("    x, y", "    from task import rate as LEARNING_LIMIT\n    x, y", "binds it otherwise"),
    "argument": ("main(args, names)", "main(args, names, LEARNING_LIMIT=9)", "binds it otherwise"),
    "loop": ("    x, y", "    for LEARNING_LIMIT in (9,): pass\n    x, y", "binds it otherwise"),
    "match": ("    x, y", "    match 9:\n        case LEARNING_LIMIT: pass\n    x, y", "binds it otherwise"),
    "conditional": ("LEARNING_LIMIT = 1\n", "if RATE:\n    LEARNING_LIMIT = 1\n", "binds it otherwise"),
    "setattr": ("    x, y", '    setattr(task, "LEARNING_" + "LIMIT", 9)\n    x, y', "in a string"),
    "attribute": ("    x, y", "    task.LEARNING_LIMIT = 9\n    x, y", "as an attribute"),
    "globals": ("    x, y", '    globals()["LEARNING_LIMIT"] = 9\n    x, y', "in a string"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), VALUES.values(), ids=VALUES)
def test_a_fixed_value_given_otherwise_is_named(old: str, new: str, message: str) -> None:
    assert old in BASE
    after = {"train.py": BASE.replace(old, new, 1).encode()}
    (first, *more) = protected_problems(
        {"train.py": BASE.encode()}, after, (), {"LEARNING_LIMIT": 1}
    )
    assert first.startswith("LEARNING_LIMIT must stay 1")
    assert message in "; ".join([first, *more])


def test_a_fixed_value_may_be_spelt_otherwise_and_annotated() -> None:
    for spelling in (
        "LEARNING_LIMIT = 0x1\n",
        "LEARNING_LIMIT: int = 1  # one\n",
        "LEARNING_LIMIT = 2 - 1\n",
    ):
        after = {"train.py": BASE.replace("LEARNING_LIMIT = 1\n", spelling).encode()}
        assert list(value_problems({}, constants_of(after), "LEARNING_LIMIT", 1)) == []


# -- working out constants --------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "'a' * 10**9",
        "[0] * 1001",
        "''.join(str(i) for i in [0] * 1000 for j in [0] * 1000)",
        "'{:>1000000000}'.format('a')",
        "'%1000000000d' % 1",
        "'%*d' % (1000000000, 1)",
        "bytes(1000000000)",
        "('a' * 1000).replace('', 'b' * 1000).replace('', 'c' * 1000)",
        "open('/etc/passwd')",
        "unknown + 'a'",
        "1 / 0",
        "'a'.__class__",
        "'+'.join('" + "a" * 501 + "')",
    ],
)
def test_what_is_large_unknown_or_wrong_is_no_constant(expression: str) -> None:
    tree = parse_source(expression.encode())
    assert fold(tree.body[0].value, Constants(tree)) is None  # type: ignore[attr-defined]


def test_only_names_that_are_bound_once_at_the_top_are_constants() -> None:
    tree = parse_source(b"A = 's'\nB = A + 'ex'\nC = 1\nC = 2\nD = f()\nE = 'x'\ndef g(E): pass\n")
    assert Constants(tree).known == {"A": "s", "B": "sex"}


def test_a_long_hostile_sum_is_read_in_bounded_steps() -> None:
    text = "y = " + "+".join(["'s'"] * 5000) + "\n"
    assert protected_touched({"train.py": b""}, {"train.py": text.encode()}, ["sex"]) == ()
