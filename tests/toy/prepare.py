"""
The toy task of the test suite: logistic regression on synthetic people, small enough for a session a second.

    python prepare.py
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

SPLITS = {"train": 1200, "val": 1500, "audit": 700, "test": 700}


def main(data: Path = Path("data")) -> None:
    """Trusted: make the data, split it, write the manifest."""
    draw = np.random.default_rng(7)
    truth = np.array([1.2, -0.8, 0.5, 0.0])
    for split, n in SPLITS.items():
        x = draw.normal(size=(n, 4)).astype(np.float32)
        y = (draw.random(n) < 1 / (1 + np.exp(-(x @ truth)))).astype(np.int8)
        sex = np.where(draw.random(n) < 0.5, "F", "M")
        race = np.where(draw.random(n) < 0.6, "White", "non-White")
        held = data / "heldout" / split
        held.mkdir(parents=True)
        np.savez(held / "cohorts.npz", sex=sex, race=race)
        rows = [hashlib.sha256(row.tobytes()).hexdigest() for row in x]
        np.save(held / "rows.npy", np.array(rows, dtype="S64"))
        where = data / "train" if split == "train" else held
        where.mkdir(exist_ok=True)
        np.savez(where / "features.npz", x=x)
        np.save(where / "labels.npy", y)
    (data / "train" / "schema.json").write_text(json.dumps({"columns": ["a", "b", "c", "d"]}))
    sums = {
        path.relative_to(data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }
    manifest = {"task": "toy", "files": sums, "splits": SPLITS}
    (data / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))


def load_train() -> tuple[np.ndarray, np.ndarray]:
    """Sandbox: the training view."""
    view = Path(os.environ["AUTORESEARCH_TRAIN"])
    with np.load(view / "features.npz", allow_pickle=False) as archive:
        return archive["x"], np.load(view / "labels.npy", allow_pickle=False)


def save_model(weights: np.ndarray) -> None:
    """Sandbox: hand the weights over."""
    with (Path(os.environ["AUTORESEARCH_OUT"]) / "model.pt2").open("wb") as file:
        np.save(file, weights.astype(np.float64), allow_pickle=False)


def score(artifact: str, features: dict[str, np.ndarray]) -> np.ndarray:
    """Second sandbox: probabilities of the positive class."""
    weights = np.load(artifact, allow_pickle=False)
    return 1 / (1 + np.exp(-(features["x"] @ weights)))


def evaluate(
    predictions: np.ndarray, labels: np.ndarray, cohorts: dict[str, np.ndarray]
) -> dict[str, float]:
    """Trusted: log loss in nats and accuracy."""
    loss = np.mean(losses(predictions, labels))
    return {"val_loss": float(loss), "accuracy": float(np.mean((predictions > 0.5) == labels))}


def losses(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Trusted: log loss of each row in nats."""
    p = np.clip(predictions, 1e-7, 1 - 1e-7)
    return -np.where(labels == 1, np.log(p), np.log(1 - p))


if __name__ == "__main__":
    main()
