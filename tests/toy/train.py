"""The toy run: stochastic gradient descent on a logistic loss."""

import os
from pathlib import Path

import numpy as np

from prepare import load_train, save_model

LEARNING_RATE = 0.05
STEPS = 60
BATCH_SIZE = 64


def features(x):
    return x


def model(x, weights):
    return 1 / (1 + np.exp(-(features(x) @ weights)))


def optimise(x, y, draw):
    weights = np.zeros(x.shape[1])
    for step in range(STEPS):
        batch = draw.integers(0, len(x), BATCH_SIZE)
        error = model(x[batch], weights) - y[batch]
        weights -= LEARNING_RATE * features(x[batch]).T @ error / BATCH_SIZE
        report((step + 1) / STEPS, x, y, weights)
    return weights


def report(share, x, y, weights):
    p = np.clip(model(x, weights), 1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(y == 1, np.log(p), np.log(1 - p)))
    with Path(os.environ["AUTORESEARCH_OUT"], "curve.csv").open("a") as file:
        file.write(f"{share:.6f},{loss:.6f}\n")


def main():
    draw = np.random.default_rng(int(os.environ["AUTORESEARCH_SEED"]))
    x, y = load_train()
    weights = optimise(x, y, draw)
    save_model(weights)
    print("---")
    print(f"steps: {STEPS}")


if __name__ == "__main__":
    main()
