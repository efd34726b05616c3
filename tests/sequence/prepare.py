"""
The toy sequence task of the test suite: the next byte of invented sentences.

    python prepare.py

Its artifact carries code, and ``score`` runs it: the worst case of a scorer, which the audit must bear.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

SEQUENCE = "tokens"
VOCABULARY = 256
LENGTH = 48
SPLITS = {"train": 1000, "val": 300, "audit": 100, "test": 100}


def corpus(split: str, n: int) -> bytes:
    """Sentences of ``n`` bytes; a part of the words occurs in this split only."""
    draw = random.Random(split)
    shared = random.Random("shared")

    def word(source: random.Random) -> str:
        return "".join(source.choice("bdfgklmnprst") + source.choice("aeiou") for _ in range(3))

    words = [word(shared) for _ in range(60)] + [word(draw) for _ in range(20)]
    text = ""
    while len(text) < n:
        text += " ".join(draw.choice(words) for _ in range(draw.randint(3, 8))) + ". "
    return text[:n].encode("ascii")


def main(data: Path = Path("data")) -> None:
    """Trusted: make the text, cut it into sequences, write the manifest."""
    for split, n in SPLITS.items():
        raw = np.frombuffer(corpus(split, n * LENGTH + 1), dtype=np.uint8).astype(np.int64)
        tokens, labels = raw[:-1].reshape(n, LENGTH), raw[1:].reshape(n, LENGTH)
        held = data / "heldout" / split
        held.mkdir(parents=True)
        np.savez(held / "cohorts.npz")
        rows = [hashlib.sha256(row.tobytes()).hexdigest() for row in tokens]
        np.save(held / "rows.npy", np.array(rows, dtype="S64"))
        where = data / "train" if split == "train" else held
        where.mkdir(exist_ok=True)
        np.savez(where / "features.npz", tokens=tokens)
        np.save(where / "labels.npy", labels)
    sums = {
        path.relative_to(data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }
    manifest = {"task": "toy-sequence", "files": sums, "splits": SPLITS}
    (data / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))


def load_train() -> tuple[np.ndarray, np.ndarray]:
    """Sandbox: tokens and labels, ``[n, T]`` each."""
    view = Path(os.environ["AUTORESEARCH_TRAIN"])
    with np.load(view / "features.npz", allow_pickle=False) as archive:
        return archive["tokens"], np.load(view / "labels.npy", allow_pickle=False)


def save_model(predict: Callable[..., np.ndarray], **weights: np.ndarray) -> None:
    """Sandbox: hand over the weights and the source of ``predict(tokens, weights) -> logits``."""
    program = np.frombuffer(inspect.getsource(predict).encode(), dtype=np.uint8)
    with (Path(os.environ["AUTORESEARCH_OUT"]) / "model.npz").open("wb") as file:
        np.savez(file, program=program, **weights)


def score(artifact: str, features: dict[str, np.ndarray]) -> np.ndarray:
    """Second sandbox: logits ``[n, T, VOCABULARY]``."""
    with np.load(artifact, allow_pickle=False) as archive:
        weights = {name: archive[name] for name in archive.files}
    space = {"np": np}
    exec(weights.pop("program").tobytes().decode(), space)
    return space["predict"](features["tokens"], weights)


def evaluate(
    predictions: np.ndarray, labels: np.ndarray, cohorts: dict[str, np.ndarray]
) -> dict[str, float]:
    """Trusted: bits per byte, from the log-probabilities of the labels."""
    from pytest_autoresearch.sequence import bits_per_byte

    return {"val_bpb": bits_per_byte(predictions, labels.size)}


def losses(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Trusted: bits per byte of each sequence, whose labels are bytes."""
    return -predictions.mean(axis=1) / np.log(2)


if __name__ == "__main__":
    main()
