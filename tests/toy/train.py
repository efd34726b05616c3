"""The toy run: stochastic gradient descent on a logistic loss."""

import os

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
    for _ in range(STEPS):
        batch = draw.integers(0, len(x), BATCH_SIZE)
        error = model(x[batch], weights) - y[batch]
        weights -= LEARNING_RATE * features(x[batch]).T @ error / BATCH_SIZE
    return weights


def main():
    draw = np.random.default_rng(int(os.environ["AUTORESEARCH_SEED"]))
    x, y = load_train()
    weights = optimise(x, y, draw)
    save_model(weights)
    print("---")
    print(f"steps: {STEPS}")


if __name__ == "__main__":
    main()
