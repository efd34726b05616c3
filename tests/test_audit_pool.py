"""
Two splits in one pass: their examples are mixed, come apart again, and every prediction lands at its own row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from project import Project
from scoring_bench import OFF, SPLITS, Bench

from pytest_autoresearch import pool as pooling
from pytest_autoresearch import scoring
from pytest_autoresearch.evaluation import evaluate, per_example_losses
from pytest_autoresearch.pool import pool
from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.scoring import Scoring, ScoringError
from pytest_autoresearch.scratch import Scratch
from pytest_autoresearch.sequence import label_log_probabilities
from pytest_autoresearch.task import Task, TaskError


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.sequence(tmp_path_factory.mktemp("sequence") / "task")


@pytest.fixture(scope="module")
def tabular(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.tabular(tmp_path_factory.mktemp("tabular") / "task")


# -- mixing --------------------------------------------------------------------


def test_splits_are_mixed_and_come_apart_again(template: Project) -> None:
    task = Task(template.root)
    given = pool(task, SPLITS)

    assert sorted(np.concatenate(list(given.places.values()))) == list(range(2200))
    apart = given.apart(given.features["x"])
    for split in SPLITS:
        np.testing.assert_array_equal(apart[split], task.features(split)["x"])
        np.testing.assert_array_equal(given.apart(given.labels)[split], task.labels(split))
    # As often as in a random order of 1500 and 700 (955 +- 20) the next example is of the other split.
    of_val = np.isin(np.arange(2200), given.places["val"])
    assert 850 < (of_val[1:] != of_val[:-1]).sum() < 1060
    # Neither split keeps an order of its own.
    assert 0.4 < (np.diff(given.places["val"]) > 0).mean() < 0.6


def test_the_order_is_the_same_every_time_and_another_one_for_other_labels(
    template: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One artifact has one metric, to the last bit; who does not know the labels cannot know the order."""
    task = Task(template.root)
    first, again = pool(task, SPLITS), pool(Task(template.root), SPLITS)
    np.testing.assert_array_equal(first.places["val"], again.places["val"])

    labels = task.labels("audit").copy()
    labels[0] ^= 1
    real = task.labels
    monkeypatch.setattr(task, "labels", lambda split: labels if split == "audit" else real(split))
    assert (pool(task, SPLITS).places["val"] != first.places["val"]).mean() > 0.9


def test_one_split_alone_is_a_pool_too(template: Project) -> None:
    task = Task(template.root)
    given = pool(task, ("audit",))
    assert list(given.places) == ["audit"]
    np.testing.assert_array_equal(
        given.apart(given.features["x"])["audit"], task.features("audit")["x"]
    )


def rewrite(project: Project, name: str, **arrays: np.ndarray) -> None:
    """Replace an archive of the data and enter it in the manifest."""
    path = project.root / "data" / name
    np.savez(path, **arrays)
    manifest = project.root / "data/manifest.json"
    content = json.loads(manifest.read_text())
    content["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: {"x": x.astype(np.float64)}, r"x: float32\[n, 4\]\} and .*x: float64\[n, 4\]\}"),
        (lambda x: {"x": x[:, :3]}, r"x: float32\[n, 4\]\} and .*x: float32\[n, 3\]\}"),
        (lambda x: {"z": x}, r"x: float32\[n, 4\]\} and .*z: float32\[n, 4\]\}"),
        (lambda x: {"x": x, "z": x}, "cannot be scored together"),
        (
            lambda x: {"x": x[1:]},
            r"'x' of the held-out split 'audit' has shape \(699, 4\) for 700 lab",
        ),
        (lambda x: {"x": np.float32(1)}, r"has shape \(\) for 700 labels"),
    ],
    ids=["dtype", "shape", "name", "more", "rows", "scalar"],
)
def test_splits_that_do_not_fit_together_are_the_tasks_error(
    project: Project, change: Callable[[np.ndarray], dict[str, np.ndarray]], sentence: str
) -> None:
    x = Task(project.root).features("audit")["x"]
    rewrite(project, "heldout/audit/features.npz", **change(x))

    with pytest.raises(TaskError, match=sentence):
        pool(Task(project.root), SPLITS)
    assert len(pool(Task(project.root), ("val",)).labels) == 1500


# -- real scorers --------------------------------------------------------------

#: What a row's prediction is follows from the row alone, exactly, wherever it stands.
ECHO = """
def predict(x, weights):
    return 0.25 + 0.5 * (x[:, 0] - np.floor(x[:, 0]))
"""
ECHO_TOKENS = """
def predict(tokens, weights):
    place = np.arange(tokens.shape[1])
    return 4 * np.eye(256, dtype=np.float32)[(tokens * 7 + place) % 256]
"""


@pytest.mark.parametrize("features", [1 << 28, 5_000], ids=["one-piece", "pieces"])
def test_every_prediction_lands_at_its_own_row(
    tabular: Bench, monkeypatch: pytest.MonkeyPatch, features: int
) -> None:
    monkeypatch.setattr(scoring, "FEATURES", features)
    settings, task = tabular.settings(), tabular.task
    with Scratch(tabular.root / "tmp") as scratch:
        run = tabular.trained(settings, scratch, ECHO)
        scored = Scoring(settings, task, Isolation.NONE)
        with scored.warm(scratch.fresh("scoring")) as scorers:
            found = scorers.score(run, SPLITS)

    assert list(found) == list(SPLITS)
    for split in SPLITS:
        x = task.features(split)["x"][:, 0]
        np.testing.assert_array_equal(found[split], 0.25 + 0.5 * (x - np.floor(x)))


def test_every_sequences_log_probabilities_land_at_its_own_row(
    sequence: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PIECE", 1 << 20)
    settings, task = sequence.settings(), sequence.task
    with Scratch(sequence.root / "tmp") as scratch:
        run = sequence.trained(settings, scratch, ECHO_TOKENS)
        scored = Scoring(settings, task, Isolation.NONE)
        with scored.warm(scratch.fresh("scoring")) as scorers:
            found = scorers.score(run, SPLITS)

    space = {"np": np}
    exec(ECHO_TOKENS, space)
    for split in SPLITS:
        logits = space["predict"](task.features(split)["tokens"], {})
        np.testing.assert_array_equal(
            found[split], label_log_probabilities(logits, task.labels(split))
        )
        figures = evaluate(task, settings, found[split], split)
        losses = per_example_losses(figures)
        assert losses is not None
        assert losses.mean() == pytest.approx(figures.metrics["val_bpb"])


#: Rows of val come first and are 1500 where nothing is mixed; a model that knows that may be another one there.
SPLIT_BY_POSITION = """
def predict(x, weights):
    return np.where(np.arange(len(x)) < 1500, 1 / (1 + np.exp(-(x @ weights["w"]))), 0.5)
"""


def test_a_model_that_is_better_on_val_by_position_gains_only_where_nothing_is_mixed(
    tabular: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, task = tabular.settings(OFF), tabular.task

    def gap() -> float:
        with scored.warm(scratch.fresh("scoring")) as scorers:
            found = scorers.score(run, SPLITS)
        val, audit = (evaluate(task, settings, found[s], s).metrics["val_loss"] for s in SPLITS)
        return audit - val

    with Scratch(tabular.root / "tmp") as scratch:
        run = tabular.trained(settings, scratch, SPLIT_BY_POSITION)
        scored = Scoring(settings, task, Isolation.NONE)
        mixed = gap()
        with monkeypatch.context() as patch:
            patch.setattr(pooling, "_order", lambda labels, n: np.arange(n))
            apart = gap()
        audited = Scoring(tabular.settings(), task, Isolation.NONE)
        with (
            audited.warm(scratch.fresh("scoring")) as scorers,
            pytest.raises(ScoringError, match=r"^implausible: \d+ of 256 examples .*another order"),
        ):
            scorers.score(run, SPLITS)

    assert apart > 0.1  # the control
    assert abs(mixed) < 0.05


def test_several_runs_are_warm_at_a_time_and_each_gets_its_own_predictions(
    tabular: Bench,
) -> None:
    settings, task = tabular.settings(), tabular.task
    constant = "def predict(x, weights):\n    return np.full(len(x), {})\n"
    with Scratch(tabular.root / "tmp") as scratch:
        runs = {p: tabular.trained(settings, scratch, constant.format(p)) for p in (0.25, 0.5)}
        scored = Scoring(settings, task, Isolation.NONE)
        with (
            scored.warm(scratch.fresh("scoring")) as one,
            scored.warm(scratch.fresh("scoring")) as other,
            ThreadPoolExecutor(2) as threads,
        ):
            jobs = {
                p: threads.submit(scorers.score, runs[p], SPLITS)
                for p, scorers in zip(runs, (other, one), strict=True)
            }
            found = {p: job.result() for p, job in jobs.items()}

    for p, scores in found.items():
        assert all((scores[split] == p).all() for split in SPLITS)
