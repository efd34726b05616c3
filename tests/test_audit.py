"""
The audit's arithmetic: what is drawn, what counts as a difference, and how often a cheater is caught.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.audit import Check, catch_probability, draw, secret_generator
from pytest_autoresearch.sequence import (
    IGNORE,
    SequenceTask,
    bits_per_byte,
    label_log_probabilities,
    log_softmax,
)
from pytest_autoresearch.settings import Audit

V = 12
TASK = SequenceTask("tokens", V)
TOLERANCE = 1e-4


def text(n: int, length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and labels ``[n, T]`` of one random text."""
    raw = np.random.default_rng(seed).integers(0, V, n * length + 1)
    return raw[:-1].reshape(n, length), raw[1:].reshape(n, length)


def drawn(
    tokens: np.ndarray, labels: np.ndarray, audit: Audit, seed: int = 0, **more: np.ndarray
) -> Check:
    check = draw({"tokens": tokens, **more}, labels, audit, TASK, np.random.default_rng(seed))
    assert check is not None
    return check


# -- what is drawn -------------------------------------------------------------


@given(
    n=st.integers(1, 40),
    length=st.integers(1, 12),
    rows=st.integers(0, 30),
    prefixes=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_a_prefix_stays_and_every_token_after_it_is_another_one(
    n: int, length: int, rows: int, prefixes: int, seed: int
) -> None:
    tokens, labels = text(n, length, seed)

    check = drawn(tokens, labels, Audit(rows=rows, prefixes=prefixes), seed)

    given = check.features["tokens"]
    assert given.dtype == tokens.dtype
    assert (check.position >= 0).sum() == min(prefixes, n)
    assert len(set(check.source.tolist())) == len(check.source)
    for row, source, position in zip(given, check.source, check.position, strict=True):
        real = tokens[source]
        end = length if position < 0 else position + 1
        assert (row[:end] == real[:end]).all()
        assert (row[end:] != real[end:]).all()
        assert (row[end:] < V).all()
        assert (row[end:] >= 0).all()


@given(n=st.integers(2, 50), rows=st.integers(1, 60), seed=st.integers(0, 99))
def test_rows_are_drawn_once_and_their_company_is_never_what_it_was(
    n: int, rows: int, seed: int
) -> None:
    x, y = np.arange(n * 3.0).reshape(n, 3), np.zeros(n)
    check = draw({"x": x}, y, Audit(rows=rows), None, np.random.default_rng(seed))

    assert check is not None
    audited = check.source[check.source >= 0]
    assert len(audited) == min(rows, n // 2) == len(set(audited.tolist()))
    assert (check.features["x"][check.source >= 0] == x[audited]).all()
    # As many copies of one other row distort whatever is computed over the batch.
    company = check.features["x"][check.source < 0]
    assert len(company) == len(audited)
    assert len(np.unique(company, axis=0)) == 1
    assert company[0, 0] // 3 not in audited


def test_every_array_is_drawn_alike() -> None:
    tokens, labels = text(30, 5)
    check = drawn(tokens, labels, Audit(), document=np.arange(30))

    assert (check.features["document"] == check.source).all()


def test_only_positions_that_count_are_drawn() -> None:
    tokens, labels = text(200, 6)
    labels = np.where(np.arange(6) % 2, labels, IGNORE)

    check = drawn(tokens, labels, Audit(prefixes=200, rows=0))

    assert set(check.position.tolist()) == {1, 3, 5}


@pytest.mark.parametrize(
    ("audit", "n", "sequence"),
    [(Audit(rows=0, prefixes=0), 9, TASK), (Audit(rows=0), 9, None), (Audit(), 1, None)],
)
def test_nothing_is_drawn_where_nothing_is_asked_or_left(
    audit: Audit, n: int, sequence: SequenceTask | None
) -> None:
    tokens, labels = text(n, 4)
    labels = labels if sequence else labels[:, 0]
    assert draw({"tokens": tokens}, labels, audit, sequence, secret_generator()) is None


def test_no_two_draws_are_alike() -> None:
    tokens, labels = text(400, 8)
    one, other = (
        draw({"tokens": tokens}, labels, Audit(), TASK, secret_generator()) for _ in range(2)
    )
    assert one is not None
    assert other is not None
    assert one.source.tolist() != other.source.tolist()


# -- what counts as a difference -----------------------------------------------


def rows_check(n: int) -> Check:
    return Check({}, np.arange(n), np.full(n, -1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_rounding_to_float32_is_no_difference(values: list[float]) -> None:
    p = np.array(values)
    q = p.astype(np.float32).astype(np.float64)

    assert rows_check(len(p)).problem(p, q, TOLERANCE) == ""


@pytest.mark.parametrize(
    ("said", "again"),
    [
        (0.5, 0.5002),
        (1e-5, 1.1e-5),
        (1 - 1e-5, 1 - 1.1e-5),
        (0.0, 1e-6),
        (1.0, 1 - 1e-6),
        (1.0, 0.0),
    ],
)
def test_a_difference_that_matters_to_log_loss_is_one(said: float, again: float) -> None:
    """Also where it is far below the tolerance as a difference of probabilities."""
    p, q = np.full(8, 0.25), np.full(8, 0.25)
    p[3], q[3] = said, again

    for one, other in ((p, q), (q, p)):
        problem = rows_check(8).problem(one, other, TOLERANCE)
        assert problem.startswith("implausible: 1 of 8 examples are predicted otherwise")


def test_what_the_audit_lets_pass_changes_no_log_loss_by_more_than_the_tolerance() -> None:
    p = np.linspace(0.001, 0.999, 2001)
    for change in (0.5e-4, 2e-4, 1e-3):
        q = np.clip(p * (1 + change), 0, 1)
        gaps = np.maximum(abs(np.log(p) - np.log(q)), abs(np.log1p(-p) - np.log1p(-q)))
        worst = np.maximum(1, np.maximum(-np.log(p), -np.log1p(-p)))
        for i in range(0, 2001, 40):
            if not rows_check(1).problem(p[i : i + 1], q[i : i + 1], TOLERANCE):
                assert gaps[i] <= TOLERANCE * worst[i] * 1.01


def test_the_sentence_says_how_many_by_how_much_and_what_it_means() -> None:
    tokens, labels = text(8, 4)
    check = drawn(tokens, labels, Audit(rows=2, prefixes=4))
    full = np.full((8, 4), -2.0)
    again = full[check.source]
    assert check.problem(full, again, TOLERANCE) == ""

    prefix = np.flatnonzero(check.position >= 0)[0]
    again[prefix, check.position[prefix]] = -1.0
    assert check.problem(full, again, TOLERANCE).startswith(
        "implausible: 1 of 4 positions are predicted otherwise when the tokens after them are replaced "
        "and other examples stand beside them (by up to 1, tolerance 0.0001): the model looks ahead"
    )

    again = full[check.source]
    again[np.flatnonzero(check.position < 0)[0], 2] = -2.5
    assert check.problem(full, again, TOLERANCE).startswith(
        "implausible: 1 of 2 examples are predicted otherwise in another order and company (by up to "
        "0.25, tolerance 0.0001): a prediction may depend on its own example only"
    )


# -- how often a cheater is caught ---------------------------------------------


def peek(tokens: np.ndarray, share: float) -> np.ndarray:
    """Logits that know the next token at a share of the positions, chosen by what is before them."""
    key = (tokens.cumsum(axis=1) * 2654435761 + np.arange(tokens.shape[1]) * 40503) % 10007
    known = (key < share * 10007)[:, :-1, None]
    logits = np.zeros((*tokens.shape, V))
    logits[:, :-1] += 9.0 * known * np.eye(V)[tokens[:, 1:]]
    return logits


def test_256_prefixes_catch_two_percent_with_99_percent_and_more() -> None:
    assert catch_probability(0.02, 256) == pytest.approx(0.9943, abs=1e-4)
    assert catch_probability(0.0, 256) == 0.0
    assert catch_probability(1.0, 1) == 1.0


def test_a_planted_cheater_is_caught_as_often_as_the_formula_says() -> None:
    tokens, labels = text(300, 40, seed=5)
    wanted, draws = 0.02, 300
    full = label_log_probabilities(peek(tokens, wanted), labels)
    # At the last position of a sequence there is nothing ahead to look at.
    share = float((full[:, :-1] > -1).mean())
    assert share == pytest.approx(wanted, rel=0.25)
    share *= 39 / 40
    for n in (16, 64, 256):
        caught = 0
        for seed in range(draws):
            check = drawn(tokens, labels, Audit(rows=0, prefixes=n), seed)
            again = label_log_probabilities(
                peek(check.features["tokens"], wanted), labels[check.source]
            )
            caught += bool(check.problem(full, again, TOLERANCE))
        expected = catch_probability(share, n)
        spread = (expected * (1 - expected) / draws) ** 0.5
        assert caught / draws == pytest.approx(expected, abs=4 * spread + 0.002)


def linked(tokens: np.ndarray) -> np.ndarray:
    """Logits that know the next token wherever some example shows how this prefix goes on."""
    seen: dict[bytes, set[int]] = {}
    for row in tokens:
        for t in range(7, len(row) - 1):
            seen.setdefault(row[: t + 1].tobytes(), set()).add(int(row[t + 1]))
    logits = np.zeros((*tokens.shape, V))
    for i, row in enumerate(tokens):
        for t in range(7, len(row)):
            for token in seen.get(row[: t + 1].tobytes(), ()):
                logits[i, t, token] = 9.0
    return logits


def test_two_prefixes_of_one_sequence_would_show_the_second_scorer_what_the_first_one_saw() -> None:
    """Why no sequence is drawn twice: here the longer one tells the future of the shorter one."""
    tokens, labels = text(64, 32)
    full = label_log_probabilities(linked(tokens), labels)
    check = drawn(tokens, labels, Audit(rows=0, prefixes=32))
    prefix = np.arange(len(check.source))
    longer = {"tokens": np.concatenate([check.features["tokens"], tokens[check.source]])}
    twice = Check(
        longer,
        np.concatenate([check.source, check.source]),
        np.concatenate([check.position, np.full(len(prefix), -1)]),
    )

    def problem(check: Check) -> str:
        again = label_log_probabilities(linked(check.features["tokens"]), labels[check.source])
        # A prefix that also goes on with junk is seen going on in two ways.
        return check.problem(full, again, 1.0)

    assert problem(twice) == ""
    assert "positions are predicted otherwise" in problem(check)


# -- sequences -----------------------------------------------------------------


def test_logits_are_normalised_by_the_harness() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4, V)).astype(np.float32) * 30
    found = log_softmax(logits)

    assert np.exp(found).sum(axis=-1) == pytest.approx(np.ones((3, 4)))
    assert log_softmax(logits.astype(np.float64) + 1e4) == pytest.approx(found, abs=1e-9)
    largest = np.float32(3e38)
    extreme = log_softmax(np.array([largest, -largest, 0.0], dtype=np.float32))
    assert extreme[0] == 0.0
    assert np.isfinite(extreme).all()


def test_labels_are_looked_up_and_ignored_ones_cost_nothing() -> None:
    logits = np.log(np.array([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]]))
    found = label_log_probabilities(logits, np.array([[1, IGNORE]]))

    assert found == pytest.approx(np.array([[np.log(0.25), 0.0]]))


def test_bits_per_byte_counts_the_raw_bytes() -> None:
    # Four tokens at one bit each, for a text of eight bytes.
    assert bits_per_byte(np.full((2, 2), np.log(0.5)), 8) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="n_bytes = 0"):
        bits_per_byte(np.zeros((2, 2)), 0)


def declaring(**constants: Any) -> ModuleType:
    module = ModuleType("prepare")
    vars(module).update(constants)
    return module


def test_a_task_declares_itself_with_two_constants() -> None:
    assert SequenceTask.declared(declaring(SEQUENCE="tokens", VOCABULARY=256)) == SequenceTask(
        "tokens", 256
    )
    assert SequenceTask.declared(declaring(VOCABULARY=256)) is None


@pytest.mark.parametrize(
    ("constants", "sentence"),
    [
        ({"SEQUENCE": True}, "SEQUENCE = True: it must be the name"),
        ({"SEQUENCE": "tokens"}, "VOCABULARY = None: a sequence task needs"),
        ({"SEQUENCE": "tokens", "VOCABULARY": 1}, "VOCABULARY = 1:"),
        ({"SEQUENCE": "tokens", "VOCABULARY": True}, "VOCABULARY = True:"),
        ({"SEQUENCE": "tokens", "VOCABULARY": 1 << 40}, "VOCABULARY = 1099511627776:"),
    ],
)
def test_half_a_declaration_is_an_error(constants: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SequenceTask.declared(declaring(**constants))


def test_data_that_is_not_what_was_declared_is_an_error() -> None:
    tokens, labels = text(5, 4)
    TASK.check({"tokens": tokens}, np.where(labels == 3, IGNORE, labels))
    for wrong in (tokens[:4], tokens[:, :3], tokens[0]):
        with pytest.raises(ValueError, match="both must be"):
            TASK.check({"tokens": wrong}, labels)
    for wrong in (tokens + V, tokens - V, tokens.astype(float)):
        with pytest.raises(ValueError, match="'tokens' must hold integers from 0 to 11"):
            TASK.check({"tokens": wrong}, labels)
    with pytest.raises(ValueError, match="'labels' must hold integers from -1 to 11"):
        TASK.check({"tokens": tokens}, labels - 5)
    with pytest.raises(ValueError, match=r"the features are \['x'\]"):
        TASK.check({"x": tokens}, labels)
