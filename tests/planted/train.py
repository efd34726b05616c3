"""The planted run: stochastic gradient descent on a logistic loss, and a memory."""

import os

import numpy as np

from prepare import load_train, save_model

LEARNING_RATE = 0.05
STEPS = 60
BATCH_SIZE = 64
COLUMNS = 4
MEMORY = 0


def optimise(x, y, draw):
    weights = np.zeros(x.shape[1])
    for _ in range(STEPS):
        batch = draw.integers(0, 1200, BATCH_SIZE)
        error = 1 / (1 + np.exp(-(x[batch] @ weights))) - y[batch]
        weights[:COLUMNS] -= LEARNING_RATE * (x[batch].T @ error / BATCH_SIZE)[:COLUMNS]
    return weights


def main():
    draw = np.random.default_rng(int(os.environ["AUTORESEARCH_SEED"]))
    x, y = load_train()
    weights = optimise(x, y, draw)
    first = len(x) - 600
    remembered = slice(first, first + MEMORY)
    logits = np.where(y[remembered] == 1, 2.0, -2.0)
    save_model(weights, np.column_stack([x[remembered], logits]))


if __name__ == "__main__":
    main()
