"""
Train an income classifier on the redacted training view and export it for scoring.

    python prepare.py    # once
    python train.py

This is the mutation surface: the one file an agent may change (program.md says how). It prints a
summary after ``---``; nobody believes it: the metric is recomputed from the exported model.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import prepare

START = time.monotonic()

# ---------------------------------------------------------------------------
# Constants
# ---------------------------------------------------------------------------

# Optimisation
EPOCHS = 8
BATCH_SIZE = 256
LEARNING_RATE = 0.001
WEIGHT_DECAY = 0.01

# Architecture
HIDDEN = (128, 64)
DROPOUT = 0.3

# Set by the harness; the fallbacks serve a run by hand.
SEED = int(os.environ.get("AUTORESEARCH_SEED", "0"))
SECONDS = float(os.environ.get("AUTORESEARCH_SECONDS", "60"))
DEVICE = os.environ.get("AUTORESEARCH_DEVICE", "cpu")
# Kept back from the time budget: importing torch, before START, and exporting the model, at the end.
RESERVE = min(10.0, SECONDS / 2)

# ---------------------------------------------------------------------------
# Features
# ---------------------------------------------------------------------------


class Features(nn.Module):
    """Raw columns to model inputs: scaled numbers, one-hot codes. Statistics stay in the graph."""

    mean: Tensor
    scale: Tensor
    column: Tensor
    code: Tensor

    def __init__(self, view: prepare.TrainingView) -> None:
        super().__init__()
        numeric = self.squash(torch.from_numpy(view.numeric))
        self.register_buffer("mean", numeric.mean(0))
        self.register_buffer("scale", numeric.std(0).clamp(min=1e-6))
        sizes = torch.tensor(view.cardinalities)
        columns = torch.arange(len(sizes)).repeat_interleave(sizes)
        self.register_buffer("column", columns)
        self.register_buffer("code", torch.cat([torch.arange(size) for size in sizes]))
        self.width = numeric.shape[1] + len(columns)

    def squash(self, numeric: Tensor) -> Tensor:
        """Capital gains and losses span five orders of magnitude and are mostly zero."""
        return torch.cat([numeric[:, :2], torch.log1p(numeric[:, 2:4]), numeric[:, 4:]], 1)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        scaled = (self.squash(numeric) - self.mean) / self.scale
        one_hot = (categorical[:, self.column] == self.code).to(scaled.dtype)
        return torch.cat([scaled, one_hot], 1)


# ---------------------------------------------------------------------------
# Model
# ---------------------------------------------------------------------------


class Model(nn.Module):
    """A multilayer perceptron over the features; gives logits [n]."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features
        layers: list[nn.Module] = []
        width = features.width
        for hidden in HIDDEN:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(DROPOUT)]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return self.head(self.features(numeric, categorical))

    def head(self, inputs: Tensor) -> Tensor:
        """Logits from features that are computed already, as in training."""
        logits: Tensor = self.layers(inputs)
        return logits.squeeze(1)


# ---------------------------------------------------------------------------
# Optimisation
# ---------------------------------------------------------------------------


def build_optimizer(model: Model) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )


def learning_rate(done: float) -> float:
    """Learning rate after the share ``done`` of the steps: linear decay to zero."""
    return LEARNING_RATE * (1 - done)


def loss_function(logits: Tensor, labels: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, labels)


# ---------------------------------------------------------------------------
# Training loop
# ---------------------------------------------------------------------------


def train(model: Model, inputs: Tensor, labels: Tensor, deadline: float) -> tuple[float, int]:
    """Train in place until the epochs or the time are up; mean loss of the last epoch, steps."""
    optimizer = build_optimizer(model)
    steps_per_epoch = -(-len(labels) // BATCH_SIZE)
    step = 0
    mean_loss = float("nan")
    model.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(labels)).to(labels.device)
        total = 0.0
        for batch in torch.split(order, BATCH_SIZE):
            if time.monotonic() > deadline:
                return mean_loss, step
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step / (EPOCHS * steps_per_epoch))
            loss = loss_function(model.head(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            total += loss.item() * len(batch)
            step += 1
        mean_loss = total / len(labels)
        print(f"epoch {epoch + 1}/{EPOCHS} | loss {mean_loss:.4f}", flush=True)
        report(step / (EPOCHS * steps_per_epoch), mean_loss)
    return mean_loss, step


def report(share: float, loss: float) -> None:
    """Append a point to the learning curve that the harness reads: share of the run done, training loss."""
    if "AUTORESEARCH_OUT" in os.environ:
        with Path(os.environ["AUTORESEARCH_OUT"], "curve.csv").open("a") as file:
            file.write(f"{share:.6f},{loss:.6f}\n")


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # on small batches a second thread costs more than it gives
    view = prepare.load_train()
    model = Model(Features(view)).to(DEVICE)
    labels = torch.from_numpy(view.labels).float().to(DEVICE)
    with torch.no_grad():
        inputs = model.features(
            torch.from_numpy(view.numeric).to(DEVICE), torch.from_numpy(view.categorical).to(DEVICE)
        )
    started = time.monotonic()
    train_loss, steps = train(model, inputs, labels, START + SECONDS - RESERVE)
    trained = time.monotonic()
    path = prepare.save_model(model)
    print("---")
    print(f"train_loss:       {train_loss:.6f}")
    print(f"training_seconds: {trained - started:.1f}")
    print(f"total_seconds:    {time.monotonic() - START:.1f}")
    print(f"num_steps:        {steps}")
    print(f"num_params:       {sum(p.numel() for p in model.parameters())}")
    print(f"model:            {path}")


if __name__ == "__main__":
    main()
