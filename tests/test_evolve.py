"""The proposer without a language model: what it changes, what it leaves alone, what it learns."""

from __future__ import annotations

import ast
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.equivalence import fingerprint
from pytest_autoresearch.evolve import propose
from pytest_autoresearch.mutation import classify
from pytest_autoresearch.records import Domain, Trial

properties = settings(deadline=None)

SOURCE = '''\
"""Train a small network — on Adult."""
import os

import torch

SEED = 7
DATA_SEEDS = (1, 2)
LEARNING_RATE = 1e-3  # é: the usual start
NAME = "é"; EPOCHS: int = 12  # passes
HIDDEN = (
    128,  # wide
    64,
)
BATCH_SIZE = 2**10
SHARDS = 1 << 3
WIDTH = 256
DROPOUT = 0.1
ADAM_BETAS = (0.9, 0.999)
SMOOTHING = 0.0
WEIGHT_DECAY = 0.0
WARMUP_STEPS = 0
MAX_STEPS = 10_000
IGNORE = -100
GRADIENT_SCALE = 1.0
USE_AMP = False
WEIGHTS = {"é": 0.5, 2: 3}
MASK = 0xFFFF_FFFF_FFFF_FFFF_FFFF
LIMIT = 1e999
NUMERIC_COLUMNS = (0, 1)
TWICE = 1
TWICE = 2
HOST = os.environ.get("N", 3)


def main():
    rate = 0.5
    return rate * LEARNING_RATE
'''


def constants(source: str) -> dict[str, object]:
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            found[ast.unparse(target)] = node.value
    return {name: eval(ast.unparse(value)) for name, value in found.items() if name != "HOST"}


def draws(source: str, count: int = 100, **keywords: object) -> list[tuple[str, str]]:
    """Proposals from ``count`` generators, each for itself."""
    results = (
        propose(source, tried=(), rng=random.Random(seed), **keywords)  # type: ignore[arg-type]
        for seed in range(count)
    )
    return [result for result in results if result]


def values(line: str, name: str, count: int = 100) -> list[object]:
    return [constants(source)[name] for source, _ in draws(line, count)]


@properties
@given(st.integers(), st.sets(st.sampled_from(["EPOCHS", "LEARNING_RATE", "HIDDEN"])))
def test_every_proposal_is_a_hyperparameter_and_nothing_else_moves(
    seed: int, protected: set[str]
) -> None:
    result = propose(SOURCE, tried=(), rng=random.Random(seed), protected=protected)
    assert result is not None
    source, description = result
    mutation = classify({"train.py": SOURCE.encode()}, {"train.py": source.encode()})
    assert mutation.domains == {Domain.HYPERPARAMETER}
    assert description.removeprefix("escape: ") == mutation.description
    assert 1 <= len(mutation.touched) <= 2
    untouchable = {"SEED", "DATA_SEEDS", "NUMERIC_COLUMNS", "TWICE", "MASK", "LIMIT", "NAME"}
    assert not mutation.touched & (protected | untouchable)
    before, after = SOURCE.splitlines(), source.splitlines()
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert 1 <= len(changed) <= 2
    for old, new in changed:
        assert old.partition("#")[2] == new.partition("#")[2]
    for name, value in constants(source).items():
        old_value = constants(SOURCE)[name]
        assert type(value) is type(old_value)
        assert (value == old_value) is (name not in mutation.touched)
    assert (source, description) == propose(
        SOURCE, tried=(), rng=random.Random(seed), protected=protected
    )


def test_every_constant_gets_its_turn() -> None:
    touched: Counter[str] = Counter()
    for source, _ in draws(SOURCE, 300):
        after = constants(source)
        touched.update(name for name, value in constants(SOURCE).items() if after[name] != value)
    assert set(touched) == {
        "LEARNING_RATE",
        "EPOCHS",
        "HIDDEN",
        "BATCH_SIZE",
        "SHARDS",
        "WIDTH",
        "DROPOUT",
        "ADAM_BETAS",
        "SMOOTHING",
        "WEIGHT_DECAY",
        "WARMUP_STEPS",
        "MAX_STEPS",
        "IGNORE",
        "GRADIENT_SCALE",
        "USE_AMP",
        "WEIGHTS",
    }


def test_usually_one_constant_sometimes_two_and_now_and_then_a_far_jump() -> None:
    results = draws(SOURCE, 300)
    far = [text for _, text in results if text.startswith("escape: ")]
    assert 0.10 < len(far) / len(results) < 0.20
    pairs = [text for _, text in results if text.count(" -> ") == 2]
    assert 0.08 < len(pairs) / len(results) < 0.30


@pytest.mark.parametrize("value", ["1e-3", "3.0", "250.0", "0.5", "1e-30", "4e12"])
def test_a_positive_float_stays_positive_on_its_scale(value: str) -> None:
    start = float(value)
    moved = values(f"RATE = {value}\n", "RATE")
    assert {type(number) for number in moved} == {float}
    ratios = [number / start for number in moved if isinstance(number, float)]
    assert 0.04 < min(ratios) < 0.3
    assert 3 < max(ratios) < 21
    near = [ratio for ratio in ratios if 0.45 <= ratio <= 2.1]
    assert len(near) > 0.75 * len(ratios)


@pytest.mark.parametrize("value", ["5e-324", "1.7e308"])
def test_a_float_at_the_end_of_its_range_stays_finite_and_positive(value: str) -> None:
    for number in values(f"RATE = {value}\n", "RATE"):
        assert isinstance(number, float)
        assert 0 < number < math.inf


@pytest.mark.parametrize("value", [1, 2, 3, 7, 100, 2**52 + 1])
def test_a_positive_whole_number_stays_one(value: int) -> None:
    moved = values(f"LAYERS = {value}\n", "LAYERS")
    assert moved
    for number in moved:
        assert type(number) is int
        assert number >= 1
        assert number != value


def test_a_negative_number_keeps_its_sign() -> None:
    for name, literal in (("A", "-100"), ("B", "-0.5")):
        for number in values(f"{name} = {literal}\n", name):
            assert isinstance(number, int | float)
            assert number < 0


@pytest.mark.parametrize("value", [8, 64, 1024])
def test_a_power_of_two_stays_one(value: int) -> None:
    moved = values(f"WIDTH = {value}\n", "WIDTH")
    assert {value // 2, value * 2} <= set(moved)
    for number in moved:
        assert isinstance(number, int)
        assert number & (number - 1) == 0


def test_an_exponent_moves_and_its_base_stays() -> None:
    assert set(values("A = 2**10\n", "A")) == {2**n for n in (7, 8, 9, 11, 12, 13)}
    assert set(values("A = 1 << 10\n", "A")) == {2**n for n in (7, 8, 9, 11, 12, 13)}
    assert set(values("A = 10**-3\n", "A")) == {10**-n for n in (1, 2, 4, 5, 6)}


@pytest.mark.parametrize("name", ["DROPOUT", "momentum", "ADAM_BETA_2", "MASK_PROB"])
@pytest.mark.parametrize("value", ["0.001", "0.1", "0.5", "0.9", "0.999", "0.999999999"])
def test_a_share_stays_between_zero_and_one(name: str, value: str) -> None:
    moved = values(f"{name} = {value}\n", name)
    assert moved
    for number in moved:
        assert isinstance(number, float)
        assert 0 < number < 1


def test_a_decay_rate_close_to_one_stays_below_it_whatever_its_name() -> None:
    for number in values("DECAY = 0.99\n", "DECAY"):
        assert isinstance(number, float)
        assert 0 < number < 1


def test_a_share_outside_its_range_moves_like_any_float() -> None:
    assert max(float(str(n)) for n in values("SMOOTH_L1_BETA = 2.0\n", "SMOOTH_L1_BETA")) > 3


def test_a_zero_leaves_zero() -> None:
    assert set(values("STEPS = 0\n", "STEPS")) == {1, 2, 3}
    assert all(0.02 <= float(str(n)) <= 0.3 for n in values("DROPOUT = 0.0\n", "DROPOUT"))
    assert all(1e-5 <= float(str(n)) <= 0.1 for n in values("DECAY = 0.0\n", "DECAY"))


def test_a_truth_value_flips() -> None:
    assert set(values("AMP = True\n", "AMP")) == {False}


def test_a_tuple_moves_element_by_element() -> None:
    for source, _ in draws("HIDDEN = (128, 64, 32)\n"):
        moved = constants(source)["HIDDEN"]
        assert isinstance(moved, tuple)
        assert len(moved) == 3
        assert 1 <= sum(a != b for a, b in zip(moved, (128, 64, 32), strict=True)) <= 2


def test_digit_groups_are_kept() -> None:
    assert all("_" in source for source, _ in draws("STEPS = 1_000_000\n", 50))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_are_kept(end: str, bom: str) -> None:
    template = end.join([bom + "RATE = {}", "# \x0c é \u2028", "NAME = 'é'", ""])
    for source, _ in draws(template.replace("{}", "0.5"), 50):
        head, tail = template.split("{}")
        assert source.startswith(head)
        assert source.endswith(tail)
        assert 0 < float(source[len(head) : -len(tail)]) != 0.5


@pytest.mark.parametrize(
    "source",
    [
        "",
        "SEED = 1\nseed = 2\nDATA_SEED2 = 3\n",
        "NAME = 'a'\nNOTHING = None\nBIG = 0xFFFFFFFFFFFFFFFFFFFF\nLIMIT = 1e999\nZ = 1j\n",
        "RATE = f(1)\nOTHER = [1 for _ in ()]\n",
        "RATE = 1\nRATE = 2\n",
        "NUMERIC_COLUMNS = (0, 1)\n",
        "def f():\n    rate = 0.5\n",
        "RATE = 1\ndef\n",
        "RATE = 1 # \ud800\n",
    ],
)
def test_nothing_to_change_gives_no_proposal(source: str) -> None:
    assert propose(source, tried=(), rng=random.Random(0)) is None


def test_a_protected_constant_is_never_touched() -> None:
    assert propose("RATE = 1.0\n", tried=(), rng=random.Random(0), protected=["RATE"]) is None


def test_what_was_tried_is_never_proposed_again_and_then_it_ends() -> None:
    source = "AMP = True\nWIDTH = 8\n"
    rng = random.Random(3)
    tried = {fingerprint({"train.py": source.encode()})}
    while result := propose(source, tried=tried, rng=rng):
        mark = fingerprint({"train.py": result[0].encode()})
        assert mark not in tried
        tried.add(mark)
    # Alone: the flag; widths 1, 2, 4, 16, 32, 64. Together: the flag with 4 or 16.
    assert len(tried) == 1 + 1 + 6 + 2


def test_fingerprints_are_those_of_the_whole_surface() -> None:
    others = {"extra.py": b"x = 1\n"}
    after = {**others, "a.py": b"AMP = False\n"}
    keywords = {"path": "a.py", "others": others}
    for tried, expected in (
        ({fingerprint(after)}, None),
        ({fingerprint({"a.py": b"AMP = False\n"})}, ("AMP = False\n", "AMP True -> False")),
    ):
        result = propose("AMP = True\n", tried=tried, rng=random.Random(0), **keywords)  # type: ignore[arg-type]
        assert expected == (result and (result[0], result[1].removeprefix("escape: ")))


def trial(seq: int, source: str, status: str) -> Trial:
    return Trial(seq, {"train.py": source.encode()}, "", status, None)


def rises(history: list[Trial]) -> float:
    """Share of proposals that raise the learning rate and change nothing else."""
    source = "RATE = 0.02\nLAYERS = 5\nWIDTH = 64\nDECAY = 0.1\n"
    results = [constants(text) for text, _ in draws(source, 200, history=history)]
    base = constants(source)
    alone = [r for r in results if all(r[k] == base[k] for k in ("LAYERS", "WIDTH", "DECAY"))]
    return sum(float(str(r["RATE"])) > 0.02 for r in alone) / len(results)


def test_a_kept_change_is_followed_until_it_fails() -> None:
    start = trial(0, "RATE = 0.01\nLAYERS = 5\n", "keep")
    up = trial(1, "RATE = 0.02\nLAYERS = 5\n", "keep")
    down = trial(1, "RATE = 0.005\nLAYERS = 5\nNEW = 1\n", "keep")
    failed = [trial(seq, "RATE = 0.04\n", "discard") for seq in range(2, 8)]
    plain = rises([])
    assert plain == rises([start]) == rises([start, failed[0]])
    assert rises([start, up]) > plain + 0.25
    assert plain + 0.05 < rises([start, up, *failed[:1]]) < rises([start, up])
    assert rises([start, up, *failed]) < plain + 0.05
    assert rises([start, down]) < plain


def test_a_history_of_broken_or_foreign_files_teaches_nothing() -> None:
    broken = [trial(0, "def\n", "keep"), trial(1, "RATE = 0.02\n", "keep")]
    foreign = [Trial(n, {"b.py": b"RATE = %d\n" % n}, "", "keep", None) for n in range(2)]
    assert rises(broken) == rises(foreign) == rises([])


def test_a_long_description_is_one_line_of_120_characters() -> None:
    source = "".join(f"{'VERY_' * 12}LONG_{n} = ({n}.5,\n  {n}.5)\n" for n in range(1, 4))
    texts = [text for _, text in draws(source, 50)]
    assert max(map(len, texts)) == 120
    assert all(text.isprintable() for text in texts)
