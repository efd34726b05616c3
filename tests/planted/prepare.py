"""
A toy task with two leaks for whoever uses them: a column that is filled in after the outcome, and training rows
that are validation rows with a little noise.

    python prepare.py
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

SPLITS = {"train": 1200, "val": 1500, "audit": 1500, "test": 100}
#: Validation rows that found their way into the training split, under other hashes.
COPIED = 600


def main(data: Path = Path("data")) -> None:
    """Trusted: make the data, split it, write the manifest."""
    draw = np.random.default_rng(7)
    truth = np.array([1.2, -0.8, 0.5, 0.0])
    made = {}
    for split, n in SPLITS.items():
        x = draw.normal(size=(n, 4))
        y = (draw.random(n) < 1 / (1 + np.exp(-(x @ truth)))).astype(np.int8)
        late = np.where(draw.random(n) < 0.95, y, 1 - y) * 2.0 - 1.0
        made[split] = np.column_stack([x, late]).astype(np.float32), y
    x, y = made["val"]
    copies = x[:COPIED] + draw.normal(scale=1e-4, size=(COPIED, 5)).astype(np.float32)
    made["train"] = (
        np.concatenate([made["train"][0], copies]),
        np.concatenate([made["train"][1], y[:COPIED]]),
    )
    for split, (x, y) in made.items():
        held = data / "heldout" / split
        held.mkdir(parents=True)
        sex = np.where(draw.random(len(x)) < 0.5, "F", "M")
        np.savez(held / "cohorts.npz", sex=sex)
        rows = [hashlib.sha256(row.tobytes()).hexdigest() for row in x]
        np.save(held / "rows.npy", np.array(rows, dtype="S64"))
        where = data / "train" if split == "train" else held
        where.mkdir(exist_ok=True)
        np.savez(where / "features.npz", x=x)
        np.save(where / "labels.npy", y)
    columns = {"columns": ["a", "b", "c", "d", "late"]}
    (data / "train" / "schema.json").write_text(json.dumps(columns))
    sums = {
        path.relative_to(data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }
    sizes = {split: len(y) for split, (_, y) in made.items()}
    manifest = {"task": "planted", "files": sums, "splits": sizes}
    (data / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))


def load_train() -> tuple[np.ndarray, np.ndarray]:
    """Sandbox: the training view."""
    view = Path(os.environ["AUTORESEARCH_TRAIN"])
    with np.load(view / "features.npz", allow_pickle=False) as archive:
        return archive["x"], np.load(view / "labels.npy", allow_pickle=False)


def save_model(weights: np.ndarray, memory: np.ndarray) -> None:
    """Sandbox: hand over weights ``[5]`` and remembered rows ``[m, 6]``, the last column their logit."""
    table = np.zeros((1 + len(memory), 6))
    table[0, :5] = weights
    table[1:] = memory
    with (Path(os.environ["AUTORESEARCH_OUT"]) / "model.pt2").open("wb") as file:
        np.save(file, table, allow_pickle=False)


def score(artifact: str, features: dict[str, np.ndarray]) -> np.ndarray:
    """Second sandbox: probabilities of the positive class; a remembered row adds its logit where it is."""
    table = np.load(artifact, allow_pickle=False)
    x = features["x"]
    logit = x @ table[0, :5]
    for row in table[1:]:
        logit = logit + row[5] * (np.abs(x - row[:5]).max(axis=1) < 2e-3)
    return 1 / (1 + np.exp(-logit))


def evaluate(
    predictions: np.ndarray, labels: np.ndarray, cohorts: dict[str, np.ndarray]
) -> dict[str, float]:
    """Trusted: log loss in nats."""
    return {"val_loss": float(np.mean(losses(predictions, labels)))}


def losses(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Trusted: log loss of each row in nats."""
    p = np.clip(predictions, 1e-7, 1 - 1e-7)
    return -np.where(labels == 1, np.log(p), np.log(1 - p))


if __name__ == "__main__":
    main()
