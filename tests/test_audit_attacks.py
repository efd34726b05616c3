"""
Models that cheat while they are scored, for real: each wins without the audit and is refused with it.

The artifacts carry code that the scorer runs, so a model may do there whatever its sandbox lets it do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scoring_bench import OFF, Bench

from pytest_autoresearch import pool, scoring
from pytest_autoresearch.sandbox import Isolation, kernel
from pytest_autoresearch.scoring import ScoringError
from pytest_autoresearch.settings import Audit

LEVELS = [Isolation.NONE, Isolation.KERNEL, Isolation.STRONG]
WALLS = [Isolation.KERNEL, Isolation.STRONG]


@pytest.fixture(scope="session")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.sequence(tmp_path_factory.mktemp("sequence") / "task")


@pytest.fixture(scope="session")
def tabular(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.tabular(tmp_path_factory.mktemp("tabular") / "task")


@pytest.fixture(scope="session")
def honest(sequence: Bench) -> float:
    """Bits per byte of the honest sequence model, not audited."""
    return sequence.judge(audit=OFF)


# -- honest models -------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_an_honest_sequence_model_passes_with_its_metric(
    sequence: Bench, honest: float, level: Isolation
) -> None:
    assert sequence.judge(level=level) == honest
    assert 2.0 < honest < 3.0


@pytest.mark.parametrize("level", LEVELS)
def test_an_honest_model_of_rows_passes_with_its_metric(tabular: Bench, level: Isolation) -> None:
    assert tabular.judge(level=level) == tabular.judge(audit=OFF)


def test_a_sequence_task_is_scored_in_pieces_of_bounded_size(
    sequence: Bench, honest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PIECE", 1 << 20)

    assert sequence.judge() == pytest.approx(honest, abs=1e-12)


# -- sequence models that cheat ------------------------------------------------

ONE_HOT = "np.eye(256, dtype=np.float32)"
SHIFT = f"""
def predict(tokens, weights):
    return weights["bigram"][tokens] + 20 * {ONE_HOT}[np.roll(tokens, -1, axis=1)]
"""
BLOCK_MEAN = f"""
def predict(tokens, weights):
    n, length = tokens.shape
    seen = {ONE_HOT}[tokens].reshape(n, length // 8, 8, 256).mean(axis=2)
    return weights["bigram"][tokens] + np.log(np.repeat(seen, 8, axis=1) + 1e-3)
"""
TENTH = f"""
def predict(tokens, weights):
    out = weights["bigram"][tokens]
    ahead = 20 * {ONE_HOT}[np.roll(tokens, -1, axis=1)]
    return np.where((tokens[:, :1] + np.arange(tokens.shape[1]))[..., None] % 10, out, out + ahead)
"""
JUNK_DETECTOR = f"""
def predict(tokens, weights):
    # Real text behind the position reads well; junk does not, and then the model is honest.
    out = weights["bigram"][tokens]
    step = np.take_along_axis(out[:, :-1], tokens[:, 1:, None], axis=2)[..., 0]
    real = np.lib.stride_tricks.sliding_window_view(np.pad(step, ((0, 0), (0, 4))), 4, axis=1)
    real = np.pad(real.mean(axis=2) > -4, ((0, 0), (0, tokens.shape[1] - real.shape[1])))
    ahead = 20 * {ONE_HOT}[np.roll(tokens, -1, axis=1)]
    return out + ahead * real[:, :tokens.shape[1], None]
"""
ROLE_DETECTOR = f"""
def predict(tokens, weights):
    # Honest unless it is given every example there is.
    ahead = 20 * {ONE_HOT}[np.roll(tokens, -1, axis=1)]
    return weights["bigram"][tokens] + (ahead if len(tokens) == 400 else 0)
"""
SMALL_CALLS = f"""
def predict(tokens, weights):
    # Honest when it is called with few examples at a time, as a test in the same process would.
    ahead = 20 * {ONE_HOT}[np.roll(tokens, -1, axis=1)]
    return weights["bigram"][tokens] + (ahead if len(tokens) > 16 else 0)
"""
OTHER_EXAMPLES = """
def predict(tokens, weights):
    # What followed these four bytes in the other examples: a cache of the held-out text.
    n, length = tokens.shape
    found = {}
    for i in range(n):
        for t in range(3, length - 1):
            found.setdefault(tuple(tokens[i, t - 3 : t + 1]), []).append((i, tokens[i, t + 1]))
    out = np.exp(weights["bigram"][tokens])
    for i in range(n):
        for t in range(3, length):
            for other, token in found.get(tuple(tokens[i, t - 3 : t + 1]), ()):
                out[i, t, token] += other != i
    return np.log(out)
"""
PAST_EXAMPLES = """
def predict(tokens, weights):
    # Trains on each example after it was predicted, in the order in which they are scored.
    n, length = tokens.shape
    found = {}
    out = np.exp(weights["bigram"][tokens])
    for i in range(n):
        for t in range(3, length):
            for token in found.get(tuple(tokens[i, t - 3 : t + 1]), ()):
                out[i, t, token] += 1
        for t in range(3, length - 1):
            found.setdefault(tuple(tokens[i, t - 3 : t + 1]), []).append(tokens[i, t + 1])
    return np.log(out)
"""
FREQUENCIES = """
def predict(tokens, weights):
    # Statistics of everything that is scored: how often each pair occurs, the next token's included.
    counts = np.full((256, 256), 0.02)
    np.add.at(counts, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1.0)
    return np.log(counts / counts.sum(axis=1, keepdims=True))[tokens]
"""

#: Name, model, share of the honest metric below which no honest bigram gets, what the refusal says.
CHEATERS = [
    ("circular shift", SHIFT, 0.2, "looks ahead"),
    ("block mean", BLOCK_MEAN, 0.80, "looks ahead"),
    ("a tenth of the positions", TENTH, 0.95, "looks ahead"),
    ("honest where junk follows", JUNK_DETECTOR, 0.8, "looks ahead"),
    ("honest where examples are few", SMALL_CALLS, 0.2, "looks ahead"),
    ("honest unless everything is there", ROLE_DETECTOR, 0.2, "looks ahead"),
    ("cache of other examples", OTHER_EXAMPLES, 0.75, "other examples"),
    ("training on past examples", PAST_EXAMPLES, 0.85, "other examples"),
    ("statistics of the batch", FREQUENCIES, 0.99, "other examples"),
]


@pytest.mark.parametrize(
    ("predict", "share", "sentence"),
    [cheater[1:] for cheater in CHEATERS],
    ids=[cheater[0].replace(" ", "-") for cheater in CHEATERS],
)
def test_a_sequence_model_that_cheats_wins_only_without_the_audit(
    sequence: Bench, honest: float, predict: str, share: float, sentence: str
) -> None:
    assert sequence.judge(predict, audit=OFF) < share * honest

    with pytest.raises(ScoringError, match=rf"^implausible: \d+ of 256 positions .*{sentence}"):
        sequence.judge(predict)


def test_whole_sequences_in_another_company_find_what_is_shared_between_them(
    sequence: Bench, honest: float
) -> None:
    with pytest.raises(ScoringError, match=r"^implausible: \d+ of 40 examples"):
        sequence.judge(OTHER_EXAMPLES, audit=Audit(rows=40, prefixes=0))
    # What looks ahead within one sequence is the prefixes' business.
    assert sequence.judge(SHIFT, audit=Audit(rows=40, prefixes=0)) < 0.2 * honest


@pytest.mark.parametrize("level", WALLS)
def test_looking_ahead_is_refused_behind_walls_too(sequence: Bench, level: Isolation) -> None:
    with pytest.raises(ScoringError, match="looks ahead"):
        sequence.judge(SHIFT, level=level)


#: The first scorer notes what follows each prefix wherever it can, and the second one reads it.
ACCOMPLICE = """
def predict(tokens, weights):
    import os, pathlib, pickle
    note = {{row[: t + 1].tobytes(): row[t + 1] for row in tokens for t in range(len(row) - 1)}}
    for place in map(pathlib.Path, {places}):
        try:
            if place.exists():
                note = pickle.loads(place.read_bytes())
            else:
                place.write_bytes(pickle.dumps(note))
                os.chmod(place, 0o666)
        except OSError:
            pass
    out = weights["bigram"][tokens]
    for i, row in enumerate(tokens):
        for t in range(len(row)):
            if (token := note.get(row[: t + 1].tobytes())) is not None:
                out[i, t, token] += 20
    return out
"""


@pytest.fixture
def meeting_point(tmp_path: Path) -> Iterator[list[str]]:
    """Where two scorers could meet: a directory for everybody, and shared memory."""
    common = tmp_path / "common"
    common.mkdir(mode=0o777)
    common.chmod(0o777)
    shared = Path("/dev/shm") / f"meeting-{tmp_path.parent.name}-{tmp_path.name}"
    yield [str(common / "note"), str(shared)]
    shared.unlink(missing_ok=True)


def test_without_walls_the_second_scorer_can_be_told_what_the_first_one_said(
    sequence: Bench, honest: float, meeting_point: list[str]
) -> None:
    """An honest limit: at level ``none`` nothing keeps two processes of one user apart."""
    assert sequence.judge(ACCOMPLICE.format(places=meeting_point)) < 0.5 * honest


@pytest.mark.parametrize("level", WALLS)
def test_behind_walls_it_cannot(
    sequence: Bench, meeting_point: list[str], level: Isolation
) -> None:
    with pytest.raises(ScoringError, match="implausible"):
        sequence.judge(ACCOMPLICE.format(places=meeting_point), level=level)


def test_at_level_kernel_that_rests_on_ending_the_first_scorer_before_the_second_begins(
    sequence: Bench, honest: float, meeting_point: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: shared memory that nobody clears in between is where the two would meet."""
    monkeypatch.setattr(kernel, "clear_shared_memory", lambda options: 0)
    attack = ACCOMPLICE.format(places=meeting_point[1:])
    if os.geteuid() != 0:  # an ordinary user's programs get no shared memory at this level
        with pytest.raises(ScoringError, match="implausible"):
            sequence.judge(attack, level=Isolation.KERNEL)
        return
    assert sequence.judge(attack, level=Isolation.KERNEL) < 0.5 * honest


# -- outputs that are no logits ------------------------------------------------

WRITE = """
def predict(tokens, weights):
    import os, sys
    output = sys.argv[2]
    {body}
    os._exit(0)
"""
OUTPUTS = {
    "positions are missing": (
        'def predict(tokens, weights):\n    return weights["bigram"][tokens][:, :-1]\n',
        r"shape \(400, 47, 256\) instead of \(400, 48, 256\)",
    ),
    "examples are missing": (
        'def predict(tokens, weights):\n    return weights["bigram"][tokens][1:]\n',
        r"shape \(399, 48, 256\) instead of \(400, 48, 256\)",
    ),
    "half of the vocabulary": (
        'def predict(tokens, weights):\n    return weights["bigram"][tokens][..., :128]\n',
        r"shape \(400, 48, 128\) instead of \(400, 48, 256\)",
    ),
    "its own losses": (
        "def predict(tokens, weights):\n    return np.zeros(tokens.shape)\n",
        r"shape \(400, 48\) instead of \(400, 48, 256\)",
    ),
    "one probability a row": (
        "def predict(tokens, weights):\n    return np.ones(len(tokens))\n",
        r"shape \(400,\) instead of \(400, 48, 256\)",
    ),
    "not a number in one place": (
        'def predict(tokens, weights):\n    out = weights["bigram"][tokens]\n'
        "    out[7, 11, 13] = np.nan\n    return out\n",
        "not finite",
    ),
    "beyond float32": (
        'def predict(tokens, weights):\n    out = weights["bigram"][tokens].astype(float)\n'
        '    out[7, 11, 13] = 1e300\n    with np.errstate(over="ignore"):\n'
        '        return out.astype("f4")\n',
        "not finite",
    ),
    "double precision": (
        WRITE.format(body="np.save(output, np.zeros((400, 48, 256)))"),
        r"more than the \d+ allowed",
    ),
    "in Fortran order": (
        WRITE.format(body='np.save(output, np.zeros((400, 48, 256), "f4", order="F"))'),
        r"not a \.npy file",
    ),
    "transposed": (
        WRITE.format(body='np.save(output, np.zeros((256, 48, 400), "f4"))'),
        r"shape \(256, 48, 400\) instead of",
    ),
    "a pickle": (
        WRITE.format(body="np.save(output, np.array([print] * 4), allow_pickle=True)"),
        r"not a \.npy file",
    ),
    "a link": (WRITE.format(body="os.symlink('/etc/hostname', output)"), "without following links"),
    "a pipe": (WRITE.format(body="os.mkfifo(output)"), "not a regular file"),
    "a directory": (WRITE.format(body="os.mkdir(output)"), "not a regular file"),
    "nothing": (WRITE.format(body="pass"), "does not exist"),
}


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda name: name.replace(" ", "-"))
def test_what_are_no_logits_is_refused(sequence: Bench, output: str) -> None:
    predict, sentence = OUTPUTS[output]
    with pytest.raises(ScoringError, match=f"the model's predictions are refused: .*{sentence}"):
        sequence.judge(predict, audit=OFF)


@pytest.mark.parametrize("output", ["a link", "a pipe", "a directory", "positions are missing"])
def test_a_piece_that_is_none_is_refused_while_the_scorer_runs(
    sequence: Bench, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PIECE", 1 << 20)
    predict, _ = OUTPUTS[output]
    waits = predict.replace("os._exit(0)", "import time; time.sleep(600)")

    with pytest.raises(ScoringError, match="the model's predictions are refused"):
        sequence.judge(waits, audit=OFF)


def test_neither_scale_nor_shift_nor_invented_probabilities_gain_anything(
    sequence: Bench, honest: float
) -> None:
    shifted = 'def predict(tokens, weights):\n    return weights["bigram"][tokens] + 64\n'
    certain = "def predict(tokens, weights):\n    return np.full((*tokens.shape, 256), 1.0)\n"

    assert sequence.judge(shifted) == pytest.approx(honest, abs=1e-5)
    # A probability of one for every byte is one 256th for each.
    assert sequence.judge(certain) == pytest.approx(8.0)


def test_a_scorer_that_does_not_end_is_killed(sequence: Bench) -> None:
    sleeps = WRITE.format(body="import time; time.sleep(600)")
    with pytest.raises(ScoringError, match="scoring did not end in its time budget"):
        sequence.judge(sleeps, audit=OFF, score_seconds=1.5)


def test_an_error_in_the_second_scorer_alone_is_an_error(sequence: Bench) -> None:
    refuses = ROLE_DETECTOR.replace("else 0", 'else int("not my turn")')
    with pytest.raises(ScoringError, match=r"scoring failed: ValueError: .*not my turn"):
        sequence.judge(refuses)


# -- models of rows that cheat -------------------------------------------------

POSITION = """
def predict(x, weights):
    # The labels in the order of the held-out rows, which it knows from elsewhere.
    return np.resize(weights["known"], len(x)) * 0.998 + 0.001
"""
CONTENT = """
def predict(x, weights):
    known = {row.tobytes(): label for row, label in zip(weights["rows"], weights["known"])}
    return np.array([known.get(row.tobytes(), 0.5) for row in x]) * 0.998 + 0.001
"""
#: The toy's data comes out of a seed that its prepare.py names; a real task's may be published.
KNOWN = """
    draw = np.random.default_rng(7)
    truth = np.array([1.2, -0.8, 0.5, 0.0])
    for n in (1200, 1500):
        x = draw.normal(size=(n, 4)).astype(np.float32)
        y = (draw.random(n) < 1 / (1 + np.exp(-(x @ truth)))).astype(np.int8)
        draw.random(n), draw.random(n)
    save_model(predict, w=w, known=y, rows=x)
"""
STANDARDIZED = """
def predict(x, weights):
    # As batch normalisation does in training mode.
    return 1 / (1 + np.exp(-((x - x.mean(axis=0)) / x.std(axis=0) @ weights["w"])))
"""
NEIGHBOUR = """
def predict(x, weights):
    z = x @ weights["w"]
    return 1 / (1 + np.exp(-(z + 0.01 * np.roll(z, 1))))
"""
DROPOUT = """
def predict(x, weights):
    keep = np.random.default_rng().random(x.shape) < 0.99
    return 1 / (1 + np.exp(-((x * keep) @ weights["w"])))
"""
RANKED = """
def predict(x, weights):
    # A share of ones that is known from elsewhere, whatever the model says.
    z = x @ weights["w"]
    return np.where(z.argsort().argsort() < len(z) // 2, 0.3, 0.7)
"""


def knowing(tabular: Bench) -> str:
    assert "    save_model(predict, w=w)\n" in tabular.train
    return tabular.train.replace("    save_model(predict, w=w)\n", KNOWN.lstrip("\n"))


def test_labels_known_by_position_win_only_in_the_datas_own_order_and_without_the_audit(
    tabular: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tabular.judge(POSITION, train=knowing(tabular), audit=OFF) > 1.0
    monkeypatch.setattr(pool, "_order", lambda labels, n: np.arange(n))
    assert tabular.judge(POSITION, train=knowing(tabular), audit=OFF) < 0.01
    with pytest.raises(ScoringError, match=r"^implausible: \d+ of 256 examples .*in another order"):
        tabular.judge(POSITION, train=knowing(tabular))


def test_labels_known_by_content_are_not_the_audits_business(tabular: Bench) -> None:
    """An honest limit: such a model owes nothing to other examples. ``metric_floor`` refuses it."""
    assert tabular.judge(CONTENT, train=knowing(tabular)) < 0.01


@pytest.mark.parametrize(
    "predict",
    [STANDARDIZED, NEIGHBOUR, DROPOUT, RANKED],
    ids=["batch-statistics", "neighbour", "dropout", "ranks"],
)
def test_predictions_that_depend_on_company_or_chance_are_refused(
    tabular: Bench, predict: str
) -> None:
    assert tabular.judge(predict, audit=OFF) < 0.70
    with pytest.raises(ScoringError, match=r"^implausible: \d+ of 256 examples"):
        tabular.judge(predict)
