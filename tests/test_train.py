from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from adult import ROOT, prepare
from numpy.typing import NDArray


def run_train(
    data: Path, out: Path, *, epochs: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a copy of train.py as the harness does, with another number of epochs if given."""
    snapshot = out.parent / f"{out.name}-snapshot"
    snapshot.mkdir()
    out.mkdir()
    shutil.copy(ROOT / "prepare.py", snapshot)
    text = (ROOT / "train.py").read_text(encoding="utf-8")
    if epochs is not None:
        text, count = re.subn(r"(?m)^EPOCHS = \d+$", f"EPOCHS = {epochs}", text)
        assert count == 1
    (snapshot / "train.py").write_text(text, encoding="utf-8")
    settings = {"AUTORESEARCH_TRAIN": str(data / "train"), "AUTORESEARCH_OUT": str(out)}
    return subprocess.run(
        [sys.executable, "-W", "error", "train.py"],
        cwd=snapshot,
        env={**os.environ, **settings, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def summary_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"(?m)^(\w+): +(.+)$", done.stdout.split("---\n")[1]))


def predict(data: Path, artifact: Path) -> NDArray[np.float64]:
    with np.load(data / "heldout" / "val" / "features.npz", allow_pickle=False) as arrays:
        predictions: NDArray[np.float64] = prepare.score(artifact, dict(arrays))
    return predictions


@pytest.fixture(scope="session")
def baseline(
    data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The shipped train.py, trained once; its output and its artifact."""
    out = tmp_path_factory.mktemp("baseline") / "out"
    return run_train(data, out, AUTORESEARCH_SEED="1"), out / "model.pt2"


def test_the_shipped_file_trains_silently_and_sums_up(
    baseline: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, artifact = baseline
    summary = summary_of(done)
    assert done.stderr == ""
    assert summary["model"] == str(artifact)
    assert 0.28 < float(summary["train_loss"]) < 0.33
    assert set(summary) >= {"training_seconds", "total_seconds", "num_steps", "num_params"}


def test_the_shipped_model_is_good_and_meets_the_fairness_limits(
    data: Path, baseline: tuple[subprocess.CompletedProcess[str], Path]
) -> None:
    heldout = data / "heldout" / "val"
    labels = np.load(heldout / "labels.npy", allow_pickle=False)
    with np.load(heldout / "cohorts.npz", allow_pickle=False) as arrays:
        cohorts = dict(arrays)
    predictions = predict(data, baseline[1])
    metrics = prepare.evaluate(predictions, labels, cohorts)
    assert 0.311 < metrics["val_loss"] < 0.319
    assert 0.905 < metrics["auc"] < 0.914
    for attribute, limit in (("sex", 0.12), ("race", 0.20)):
        rates = [
            [
                float(
                    (predictions[(cohorts[attribute] == group) & (labels == label)] >= 0.5).mean()
                )
                for group in np.unique(cohorts[attribute])
            ]
            for label in (0, 1)
        ]
        assert max(max(rate) - min(rate) for rate in rates) <= limit, attribute


def test_the_seed_decides_every_bit_of_the_predictions(data: Path, tmp_path: Path) -> None:
    predictions = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        summary_of(run_train(data, tmp_path / name, epochs=1, AUTORESEARCH_SEED=seed))
        predictions.append(predict(data, tmp_path / name / "model.pt2"))
    np.testing.assert_array_equal(predictions[0], predictions[1])
    assert (predictions[0] != predictions[2]).any()


def test_training_stops_by_itself_and_still_delivers(data: Path, tmp_path: Path) -> None:
    done = run_train(data, tmp_path / "out", epochs=100_000, AUTORESEARCH_SECONDS="6")
    assert int(summary_of(done)["num_steps"]) < 100_000
    assert (tmp_path / "out" / "model.pt2").stat().st_size > 0


def test_training_without_data_says_what_to_run(data: Path, tmp_path: Path) -> None:
    done = run_train(data, tmp_path / "out", AUTORESEARCH_TRAIN=str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "run `python prepare.py` first" in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_the_tunable_constants_are_plain_literals() -> None:
    module = ast.parse((ROOT / "train.py").read_text(encoding="utf-8"))
    literals = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and not any(isinstance(part, ast.Call) for part in ast.walk(node.value))
    }
    tunable = {"EPOCHS", "BATCH_SIZE", "LEARNING_RATE", "WEIGHT_DECAY", "HIDDEN", "DROPOUT"}
    assert set(literals) == tunable


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_model_trained_on_a_gpu_is_scored_on_the_cpu(data: Path, tmp_path: Path) -> None:
    summary_of(run_train(data, tmp_path / "out", epochs=1, AUTORESEARCH_DEVICE="cuda"))
    assert 0 < predict(data, tmp_path / "out" / "model.pt2").mean() < 1
