"""What a mutation touches: domains, prices, descriptions, and input that means harm."""

from __future__ import annotations

import ast
import hashlib
import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.budget import COSTS
from pytest_autoresearch.equivalence import fingerprint, surface_digest
from pytest_autoresearch.mutation import (
    classify,
    diff,
    parse_source,
    protected_touched,
)
from pytest_autoresearch.records import Domain, Mutation, ParameterChange

properties = settings(deadline=None)

BASE = '''\
"""Train a small network."""

from __future__ import annotations

import os

import torch

# ---- constants ----
SEED = int(os.environ.get("AUTORESEARCH_SEED", "0"))
LEARNING_RATE = 1e-3
EPOCHS: int = 8
HIDDEN = (128, 64)
BATCH_SIZE = 2**10
WEIGHT_DECAY = 0.0
FLAG = True
STEPS = 1
ACTIVATION = "relu"
NUMERIC_COLUMNS = ("age", "hours")


def build_features(table):
    """Columns to inputs."""
    return table[list(NUMERIC_COLUMNS)]


class Model(torch.nn.Module):
    """A multilayer perceptron."""

    def forward(self, x):
        return torch.relu(x)


def val_loss(predictions, labels):
    return ((predictions - labels) ** 2).mean()


def make_optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)


def main():
    torch.manual_seed(SEED)
    model = Model()
    make_optimizer(model)


if __name__ == "__main__":
    main()
'''


def surface(text: str | bytes, path: str = "train.py") -> dict[str, bytes]:
    return {path: text.encode() if isinstance(text, str) else text}


def edit(*replacements: tuple[str, str]) -> str:
    text = BASE
    for old, new in replacements:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def judge(after: str | bytes, before: str | bytes = BASE) -> Mutation:
    return classify(surface(before), surface(after))


@pytest.mark.parametrize(
    "after",
    [
        BASE + "# a note \u26a0\ufe0f\n",
        BASE.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + BASE.encode(),
        "# -*- coding: utf-8 -*-\n" + BASE,
        "# vim: set fileencoding=UTF8 :\n" + BASE,
        edit(('"""Columns to inputs."""', '"""Something else."""')),
        edit(('"""Train a small network."""\n', "")),
        edit(("EPOCHS: int = 8\n", 'EPOCHS: int = 8\n"""Passes over the data."""\n')),
        edit(("LEARNING_RATE = 1e-3", "LEARNING_RATE = (\n    0.001  # as ever\n)")),
        edit(("2**10", "2 ** 0xA")),
        edit(('"relu"', "'r\\x65lu'")),
        edit(('"relu"', 'u"relu"')),
        edit(("    main()\n", "    main()  # go\n")),
        edit(("    torch.manual_seed(SEED)", "    torch.manual_seed(SEED);")),
    ],
    ids=range(14),
)
def test_text_that_means_the_same_is_a_hypothesis(after: str | bytes) -> None:
    mutation = judge(after)
    assert mutation.domains == {Domain.HYPOTHESIS}
    assert (mutation.cost, mutation.identical, mutation.touched) == (5, False, frozenset())
    assert mutation.diff
    assert fingerprint(surface(after)) == fingerprint(surface(BASE))


def test_identical_bytes_cost_nothing() -> None:
    mutation = judge(BASE)
    assert mutation.identical
    assert (mutation.domain, mutation.cost, mutation.diff) == (Domain.HYPOTHESIS, 0, "")
    assert mutation.description == "no change"


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("= 1e-3", "= 3e-3", ParameterChange("LEARNING_RATE", "1e-3", "3e-3")),
        ("= 8", "= 10", ParameterChange("EPOCHS", "8", "10")),
        ("(128, 64)", "(128, 64, 32)", ParameterChange("HIDDEN", "(128, 64)", "(128, 64, 32)")),
        ("2**10", "2**11", ParameterChange("BATCH_SIZE", "2**10", "2**11")),
        ("= 0.0", "= -0.0", ParameterChange("WEIGHT_DECAY", "0.0", "-0.0")),
        ("= 0.0", "= 0", ParameterChange("WEIGHT_DECAY", "0.0", "0")),
        ("= 0.0", "= 1e999 - 1e999", ParameterChange("WEIGHT_DECAY", "0.0", "1e999 - 1e999")),
        ("= 0.0", "= {'a': [1, {2}]}", ParameterChange("WEIGHT_DECAY", "0.0", "{'a': [1, {2}]}")),
        ("STEPS = 1", "STEPS = True", ParameterChange("STEPS", "1", "True")),
        ("STEPS = 1", "STEPS = 1.0", ParameterChange("STEPS", "1", "1.0")),
        ("FLAG = True", "FLAG = None", ParameterChange("FLAG", "True", "None")),
        ('"relu"', '"gelu"', ParameterChange("ACTIVATION", '"relu"', '"gelu"')),
        ("STEPS = 1", "STEPS = 0x" + "f" * 900, None),
    ],
)
def test_a_changed_literal_is_a_hyperparameter(
    old: str, new: str, change: ParameterChange | None
) -> None:
    mutation = judge(edit((old, new)))
    assert mutation.domains == {Domain.HYPERPARAMETER}
    assert mutation.cost == 10
    assert mutation.touched == {mutation.parameters[0].name}
    if change:
        assert mutation.parameters == (change,)


@pytest.mark.parametrize(
    ("old", "new", "domain"),
    [
        ('("age", "hours")', '("age",)', Domain.FEATURE),
        ("    return table[list(", "    return 2 * table[list(", Domain.FEATURE),
        ("build_features(table)", "build_features(table, log=False)", Domain.FEATURE),
        ("** 2).mean()", "** 2).sum()", Domain.METRIC),
        ("torch.optim.AdamW(", "torch.optim.SGD(", Domain.HYPERPARAMETER),
        ("torch.relu(x)", "torch.tanh(x)", Domain.ARCHITECTURE),
        ("    model = Model()", "    model = Model().eval()", Domain.ARCHITECTURE),
    ],
)
def test_changed_code_takes_the_domain_of_its_definition(
    old: str, new: str, domain: Domain
) -> None:
    mutation = judge(edit((old, new)))
    assert mutation.domains == {domain}
    assert mutation.cost == COSTS[domain]


ARCHITECTURE: dict[str, str | bytes] = {
    "new import": edit(("import torch\n", "import torch\nimport math\n")),
    "star import": edit(("import torch\n", "import torch\nfrom math import *\n")),
    "removed import": edit(("import os\n", "")),
    "renamed constant": edit(("FLAG = True", "FLAGS = True")),
    "renamed function": edit(("def val_loss", "def loss")),
    "function into class": edit(("def val_loss(predictions, labels)", "class val_loss")),
    "function into coroutine": edit(("def val_loss", "async def val_loss")),
    "constant into call": edit(("= 1e-3", "= float('1e-3')")),
    "call into constant": edit(('int(os.environ.get("AUTORESEARCH_SEED", "0"))', "7")),
    "constant into name": edit(("STEPS = 1", "STEPS = EPOCHS")),
    "constant into walrus": edit(("STEPS = 1", "STEPS = (x := 1)")),
    "constant into comprehension": edit(("STEPS = 1", "STEPS = [1 for _ in '']")),
    "constant into f-string": edit(('"relu"', 'f"relu"')),
    "constant into lambda": edit(("STEPS = 1", "STEPS = lambda: 1")),
    "constant into condition": edit(("STEPS = 1", "STEPS = 1 if FLAG else 2")),
    "annotation that runs": edit(("EPOCHS: int", "EPOCHS: print()")),
    "annotation added": edit(("STEPS = 1", "STEPS: int = 1")),
    "value removed": edit(("EPOCHS: int = 8", "EPOCHS: int")),
    "chained targets": edit(("STEPS = 1", "STEPS = FLAG = 1")),
    "augmented": BASE + "STEPS += 1\n",
    "shadowed constant": edit(("\n\nif __name__", "\n\nLEARNING_RATE = 0.5\n\nif __name__")),
    "shadowed function": BASE + "def val_loss(p, y):\n    return 0\n",
    "conditional definition": BASE + "if FLAG:\n    def val_loss(p, y):\n        return 0\n",
    "deleted name": BASE + "del STEPS\n",
    "reordered constants": edit(("FLAG = True\nSTEPS = 1\n", "STEPS = 1\nFLAG = True\n")),
    "new constant": edit(("STEPS = 1", "STEPS = 1\nWARMUP = 2")),
    "main guard": edit(('if __name__ == "__main__"', "if True")),
    "main guard body": BASE + "    main()\n",
    "decorator": edit(("def val_loss", "@torch.no_grad()\ndef val_loss")),
    "base class": edit(("class Model(torch.nn.Module)", "class Model(torch.nn.Sequential)")),
    "metaclass": edit(("(torch.nn.Module)", "(torch.nn.Module, metaclass=M)")),
    "global in a metric": edit(
        ("    return ((pred", "    global LEARNING_RATE\n    LEARNING_RATE = 1\n    return ((pred")
    ),
    "import in a metric": edit(("    return ((pred", "    import gc\n    return ((pred")),
    "exec in a metric": edit(("    return ((pred", "    exec('x = 1')\n    return ((pred")),
    "dunder in a metric": edit(
        ("    return ((pred", "    val_loss.__globals__['STEPS'] = 2\n    return ((pred")
    ),
    "import_module in a metric": edit(
        ("    return ((pred", "    importlib.import_module('gc')\n    return ((pred")
    ),
    "future import": edit(("from __future__ import annotations\n", "")),
    "type alias": BASE + "Rate: TypeAlias = float\n",
    "data in a literal": edit(("STEPS = 1", f"STEPS = {tuple(range(400))}")),
    "bidirectional override": edit(("# ---- constants ----", "# \u202e constants")),
    "zero width space": edit(('"relu"', '"re\u200blu"')),
    "escape sequence": edit(("# ---- constants ----", "# \x1b[8m constants")),
    "form feed": edit(("# ---- constants ----", "# \x0c constants")),
    "old Macintosh line ends": BASE.replace("\n", "\r"),
    "lone carriage return": edit(("# ---- constants ----", "# constants\r# more")),
    "not UTF-8": BASE.encode() + b"# \xff\n",
    "UTF-7 cookie": b"# coding: utf-7\n" + BASE.encode(),
    "latin-1 cookie after a carriage return": b"\r# coding: latin-1\n" + BASE.encode(),
    "rot13 cookie": b"# -*- coding: rot13 -*-\n" + BASE.encode(),
    "NUL": BASE.encode() + b"\0",
    "second BOM": b"\xef\xbb\xbf\xef\xbb\xbf" + BASE.encode(),
    "syntax": BASE + "def\n",
    "indentation": BASE + " x = 1\n",
    "deep parentheses": BASE + "x = " + "(" * 500 + ")" * 500,
    "deep operators": BASE + "x = " + "-" * 50_000 + "1",
    "deep sum": BASE + "x = " + "+".join("1" * 20_000),
    "deep attributes": BASE + "x" + ".y" * 20_000,
    "deep blocks": BASE + "".join(" " * n + "if x:\n" for n in range(120)),
    "huge decimal": edit(("STEPS = 1", "STEPS = " + "9" * 5_000)),
    "huge hexadecimal": edit(("STEPS = 1", "STEPS = 0x" + "f" * 5_000)),
    "huge file": BASE + "x\n" * 200_000,
    "empty": b"",
}


@pytest.mark.parametrize("after", ARCHITECTURE.values(), ids=ARCHITECTURE.keys())
def test_what_is_unknown_costs_as_much_as_architecture(after: str | bytes) -> None:
    mutation = judge(after)
    assert mutation.domain is Domain.ARCHITECTURE
    assert mutation.cost == 25
    assert mutation.description.startswith(("architecture: ", "STEPS ", "ACTIVATION "))
    assert mutation.description.isprintable()
    assert len(mutation.description) <= 120


@pytest.mark.parametrize("key", ["not UTF-8", "NUL", "syntax", "UTF-7 cookie", "deep operators"])
def test_a_file_that_does_not_parse_says_why(key: str) -> None:
    mutation = judge(ARCHITECTURE[key])
    assert mutation.syntax_error.startswith("train.py: ")
    assert mutation.syntax_error.isprintable()
    assert mutation.description == "architecture: train.py does not parse"


def test_a_repaired_file_is_unknown_too() -> None:
    mutation = judge(BASE, before="def\n")
    assert mutation.domain is Domain.ARCHITECTURE
    assert mutation.syntax_error == ""
    assert mutation.description == "architecture: train.py did not parse before"


def test_a_hidden_character_that_was_there_before_costs_nothing_extra() -> None:
    before = edit(("# ---- constants ----", "# caf\u00e9 \u200d"))
    assert judge(before + "# more\n", before).domain is Domain.HYPOTHESIS


def test_a_dunder_constant_is_no_hyperparameter() -> None:
    assert judge("__name__ = 'b'\n", "__name__ = 'a'\n").domain is Domain.ARCHITECTURE


@pytest.mark.parametrize("runner", ["exec(CODE)", "eval(CODE)", "__import__(CODE)"])
def test_a_string_that_may_be_run_is_code(runner: str) -> None:
    before = f"CODE = 'x'\nRATE = 1\n{runner}\n"
    assert judge(before.replace("'x'", "'y'"), before).domain is Domain.ARCHITECTURE
    assert judge(before.replace("= 1", "= 2"), before).domain is Domain.HYPERPARAMETER
    harmless = before.replace(runner, "model.eval()")
    assert judge(harmless.replace("'x'", "'y'"), harmless).domain is Domain.HYPERPARAMETER


def test_docstrings_of_a_file_that_reads_them_are_code() -> None:
    before = '"""1"""\nimport os\nos.system(__doc__)\n'
    after = before.replace("1", "2")
    assert judge(after, before).domain is Domain.ARCHITECTURE
    assert fingerprint(surface(after)) != fingerprint(surface(before))
    body = "def val_loss():\n    '''1'''\n    return val_loss.__doc__\n"
    assert judge(body.replace("1", "2"), body).domain is Domain.METRIC


def test_the_dearest_of_several_domains_decides() -> None:
    mutation = judge(
        edit(
            ("= 1e-3", "= 3e-3"),
            ("** 2).mean()", "** 2).sum()"),
            ('("age", "hours")', '("age",)'),
        )
    )
    assert mutation.domains == {Domain.HYPERPARAMETER, Domain.METRIC, Domain.FEATURE}
    assert (mutation.domain, mutation.cost) == (Domain.FEATURE, 20)
    assert mutation.touched == {"LEARNING_RATE", "val_loss", "NUMERIC_COLUMNS"}


def test_costs_decide_what_is_dearest_and_risk_breaks_a_tie() -> None:
    after = surface(edit(("= 1e-3", "= 3e-3"), ("** 2).mean()", "** 2).sum()")))
    assert classify(surface(BASE), after).domain is Domain.METRIC
    costs = {**COSTS, Domain.HYPERPARAMETER: 40}
    mutation = classify(surface(BASE), after, costs=costs)
    assert (mutation.domain, mutation.cost) == (Domain.HYPERPARAMETER, 40)


def test_sections_are_configurable_and_a_missing_one_matches_nothing() -> None:
    after = surface(edit(("** 2).mean()", "** 2).sum()")))
    sections = {Domain.FEATURE: ["VAL_*"]}
    assert classify(surface(BASE), after, sections=sections).domain is Domain.FEATURE
    assert classify(surface(BASE), after, sections={}).domain is Domain.ARCHITECTURE


@pytest.mark.parametrize(
    ("before", "after", "description"),
    [
        ({}, {"train.py": b"x = 1\n"}, "architecture: new file train.py"),
        ({"train.py": b"x = 1\n"}, {}, "architecture: removed file train.py"),
        ({"a.yaml": b"x: 1\n"}, {"a.yaml": b"x: 2\n"}, "architecture: changed file a.yaml"),
        ({"a.py": b""}, {"b.py": b""}, "architecture: removed file a.py, new file b.py"),
        ({}, {"\x1b.py": b""}, r"architecture: new file \x1b.py"),
    ],
)
def test_files_that_come_and_go_are_unknown(
    before: dict[str, bytes], after: dict[str, bytes], description: str
) -> None:
    mutation = classify(before, after)
    assert (mutation.domain, mutation.description) == (Domain.ARCHITECTURE, description)


def test_a_new_file_that_does_not_parse_says_why() -> None:
    assert classify({}, surface("def\n")).syntax_error == "train.py: line 1: invalid syntax"


@pytest.mark.parametrize(
    ("after", "description"),
    [
        (
            edit(("= 1e-3", "= 3e-3"), ("= 8", "= 10")),
            "LEARNING_RATE 1e-3 -> 3e-3; EPOCHS 8 -> 10",
        ),
        (
            edit(
                ("torch.relu(x)", "torch.tanh(x)"), ("import torch\n", "import torch\nimport a\n")
            ),
            "architecture: new import a, class Model",
        ),
        (
            edit(("= 8", "= 9"), ("** 2).mean()", "** 2).sum()")),
            "EPOCHS 8 -> 9; metric: def val_loss",
        ),
        (edit(("FLAG = True\n", "")), "architecture: removed FLAG"),
        (BASE + "# x\n", "comments, docstrings or layout"),
        (
            edit(("HIDDEN = (128, 64)", f"HIDDEN = {(9,) * 30}")),
            "HIDDEN (128, 64) -> (9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, ...",
        ),
    ],
)
def test_the_description_reads_like_a_log_line(after: str, description: str) -> None:
    assert judge(after).description == description


def test_a_given_description_is_cut_to_one_printable_line() -> None:
    given_text = "first\n::set-env name=X::\x1b[2J\t" + "long " * 100
    mutation = classify(surface(BASE), surface(BASE + "#\n"), description=given_text)
    assert mutation.description.startswith(r"first \x3a:set-env name=X::\x1b[2J long")
    assert mutation.description.endswith("...")
    assert mutation.description.isprintable()
    assert len(mutation.description) == 120
    assert classify({}, {}, description="again").description == "again"


def test_removed_and_new_constants_are_parameters_with_one_side() -> None:
    mutation = judge(edit(("FLAG = True", "WARMUP = 2")))
    assert mutation.parameters == (
        ParameterChange("FLAG", "True", ""),
        ParameterChange("WARMUP", "", "2"),
    )
    assert mutation.touched == {"FLAG", "WARMUP"}


def test_the_difference_is_unified_and_names_the_file() -> None:
    assert diff(surface("a\nb\n"), surface("a\nc\n")) == (
        "--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    )


def test_the_difference_shows_new_and_removed_files_and_missing_line_ends() -> None:
    assert diff({"old": b"x\n"}, {"new": b"y"}) == (
        "--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+y\n\\ No newline at end of file\n"
        "--- a/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    )


def test_the_difference_escapes_what_a_reader_would_not_see() -> None:
    hidden = "a\x1b[8m\u202e\x85 caf\u00e9 \u2192\r\n".encode() + b"\xff\n"
    shown = diff({}, surface(hidden)).splitlines()
    assert shown[3:] == [r"+a\x1b[8m\u202e\x85 café →\r", r"+\xff"]


@pytest.mark.parametrize("size", [40, 3_000])
def test_line_numbers_of_the_difference_are_those_of_the_file(size: int) -> None:
    old = [f"line {number}\n" for number in range(20_000)]
    new = [*old[:100], *(f"new {number}\n" for number in range(size)), *old[100 + size :]]
    text = diff(surface("".join(old)), surface("".join(new)))
    assert f"@@ -{98 if size == 40 else 101},{46 if size == 40 else size} +" in text
    lines = text.splitlines()[3:]
    assert [line[1:] for line in lines if line[0] == "-"] == [x[:-1] for x in old[100 : 100 + size]]
    assert sum(line[0] == "+" for line in lines) == size


def test_a_shuffled_file_gets_a_difference_in_bounded_work() -> None:
    lines = [f"{number % 500}\n" for number in range(100_000)]
    shuffled = random.Random(0).sample(lines, len(lines))
    text = diff(surface("".join(lines)), surface("".join(shuffled)))
    assert text.count("@@ ") == 1


def test_the_digest_depends_on_every_byte_and_on_the_borders() -> None:
    digests = {
        surface_digest(files)
        for files in (
            {},
            {"a": b"bc"},
            {"ab": b"c"},
            {"a": b"bc", "d": b""},
            {"a": b"", "d": b"bc"},
            {"a": b"bc\n"},
            {"\udcff": b""},
        )
    }
    assert len(digests) == 7
    assert surface_digest({"b": b"2", "a": b"1"}) == surface_digest({"a": b"1", "b": b"2"})
    # The format is stored in ledgers: it may not drift.
    expected = hashlib.sha256(b"1:a" + b"2:bc").hexdigest()
    assert surface_digest({"a": b"bc"}) == expected


def test_the_fingerprint_keeps_apart_what_is_equal_only_to_python() -> None:
    values = ["1", "1.0", "True", "-1", "'1'", "b'1'", "1j", "None", "...", "(1,)", "[1]", "0.0"]
    values += ["-0.0", "1e999", "''", "f'1'", "{1}", "{1: 1}", "0x" + "f" * 5_000]
    assert len({fingerprint(surface(f"x = {value}\n")) for value in values}) == len(values)


def test_the_fingerprint_of_what_does_not_parse_is_that_of_its_bytes() -> None:
    assert fingerprint(surface("def\n")) != fingerprint(surface("def \n"))
    assert fingerprint(surface("a: 1\n", "c.yaml")) != fingerprint(surface("a:  1\n", "c.yaml"))
    assert fingerprint(surface("x = 1\n")) != fingerprint(surface("x = 1\n", "other.py"))


@pytest.mark.parametrize(
    "after",
    [
        edit(("    torch.manual_seed(SEED)", "    torch.manual_seed(SEED + 1)")),
        edit(('os.environ.get("AUTORESEARCH_SEED", "0")', '"3"')),
        edit(("    torch.manual_seed(SEED)\n", "")),
        edit(("    model = Model()", '    setattr(os, "SEED", 1)\n    model = Model()')),
        edit(("    model = Model()", '    globals()["SE" + "ED"] = 1\n    model = Model()')),
        edit(("    model = Model()", "    globals()[f\"SE{'ED'}\"] = 1\n    model = Model()")),
        edit(("    model = Model()", '    x = b"SE" b"ED"\n    model = Model()')),
        edit(("    model = Model()", "    model = Model(SEED=1)")),
        edit(("    model = Model()", "    model = Model(); model.SEED = 1")),
        edit(("import os\n", "import os\nimport numpy as SEED\n")),
        edit(("import os\n", "import os\nimport numpy.SEED as n\n")),
        edit(("import os\n", "import os\nfrom numpy import SEED as n\n")),
        edit(("def main():", "def main(SEED=1):")),
        edit(("    make_optimizer(model)", "    make_optimizer(model)\n    global SEED")),
        BASE + "try:\n    x\nexcept ValueError as SEED:\n    pass\n",
        BASE + "match 1:\n    case SEED:\n        pass\n",
        BASE + "SEED = 1\n",
        edit(("LEARNING_RATE = 1e-3", "LEARNING_RATE = SEED * 1e-5")),
    ],
    ids=range(18),
)
def test_a_protected_name_in_a_changed_statement_is_found(after: str) -> None:
    names = ["SEED", "LABELS", "AUTORESEARCH_SEED"]
    assert "SEED" in protected_touched(surface(BASE), surface(after), names)


@pytest.mark.parametrize(
    "after",
    [
        BASE,
        BASE + "# SEED\n",
        edit(("    make_optimizer(model)", "    make_optimizer(model).zero_grad()")),
        edit(('"""Columns to inputs."""', '"""SEED"""')),
        edit(("    model = Model()", '    print("SEED is fixed")\n    model = Model()')),
        edit(("    model = Model()", '    print("SE" + model)\n    model = Model()')),
        edit(("    model = Model()", "    print(f'SE{model}ED', SEEDS)\n    model = Model()")),
        edit(("    torch.manual_seed(SEED)", "    torch.manual_seed(\n        SEED\n    )")),
        edit(("SEED = int", "\n\nSEED = int")),
    ],
    ids=range(9),
)
def test_a_protected_name_in_an_unchanged_statement_is_not_reported(after: str) -> None:
    assert protected_touched(surface(BASE), surface(after), ["SEED"]) == ()


def test_protected_names_are_found_by_line_where_there_is_no_tree() -> None:
    before = {"a.yaml": b"SEED: 1\nrate: 2\n", "b.py": b"x = 1\n"}
    names = ("SEED", "RATE", "x")
    assert protected_touched(before, {**before, "a.yaml": b"SEED: 1\nrate: 3\n"}, names) == ()
    assert protected_touched(before, {**before, "a.yaml": b"SEED: 2\nrate: 2\n"}, names) == (
        "SEED",
    )
    after = {"a.yaml": b"SEEDS: 1\nRATE: 2\n", "b.py": b"def x(\n"}
    assert protected_touched(before, after, names) == ("RATE", "SEED", "x")


def test_a_new_file_touches_every_protected_name_it_holds() -> None:
    assert protected_touched({}, surface(BASE), ["SEED", "sex", "torch"]) == ("SEED", "torch")


def test_warnings_in_the_candidate_are_neither_shown_nor_raised() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge("x = '\\d'\n", "x = '\\e'\n").domain is Domain.HYPERPARAMETER


def test_nothing_of_the_candidate_is_executed(capsys: pytest.CaptureFixture[str]) -> None:
    after = surface("print('ran')\nX = 10**10**10\n")
    assert classify({"train.py": b"X = 1\n"}, after).domain is Domain.ARCHITECTURE
    fingerprint(after)
    protected_touched({}, after, ["X"])
    assert capsys.readouterr().out == ""


def test_an_error_names_the_line() -> None:
    with pytest.raises(ValueError, match="line 2: "):
        parse_source(b"x = 1\ndef\n")
    with pytest.raises(ValueError, match="declares the encoding 'utf-7': use utf-8"):
        parse_source(b"#!/bin/sh\n# coding: utf-7\n")


fragments = st.sampled_from(
    [
        "X = 1\n",
        "X = 'a'\n",
        "Y: int = 2\n",
        "def loss(a):\n    return a\n",
        "class Model:\n    pass\n",
        "import os\n",
        "if X:\n    Y = 3\n",
        "# note\n",
        '"""doc"""\n',
        "def\n",
        "\ufeff",
    ]
)
sources = st.one_of(
    st.binary(max_size=60),
    st.lists(fragments, max_size=8).map(lambda parts: "".join(parts).encode()),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
surfaces = st.dictionaries(st.sampled_from(["train.py", "a.py", "b.yaml"]), sources, max_size=3)


@properties
@given(surfaces, surfaces)
def test_any_bytes_are_classified(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    mutation = classify(before, after)
    assert mutation.identical == (before == after) == (mutation.diff == "")
    assert mutation.domain in mutation.domains
    if before != after:
        assert mutation.cost == max(COSTS[domain] for domain in mutation.domains)
        assert (mutation.domains == {Domain.HYPOTHESIS}) <= (
            fingerprint(before) == fingerprint(after)
        )
    assert mutation.description.isprintable()
    assert 0 < len(mutation.description) <= 120
    assert set(protected_touched(before, after, ["X", "Y"])) <= {"X", "Y"}


@properties
@given(st.data())
def test_comments_and_layout_never_change_the_fingerprint(data: st.DataObject) -> None:
    lines = BASE.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("import os"))
    notes = st.text(st.characters(exclude_categories=("C", "M", "Z")), max_size=20)
    for _ in range(data.draw(st.integers(1, 5))):
        row = data.draw(st.integers(first, len(lines)))
        lines.insert(row, data.draw(st.sampled_from(["", "   ", "\t"])) + f"#{data.draw(notes)}")
    row = data.draw(st.integers(0, len(lines) - 1))
    lines[row] += data.draw(st.sampled_from(["  ", "\t", " # end"]))
    after = "\n".join(lines) + data.draw(st.sampled_from(["", "\n", "\n\n"]))
    ast.parse(after)
    assert fingerprint(surface(after)) == fingerprint(surface(BASE))
    assert judge(after).domain is Domain.HYPOTHESIS
