"""The toy sequence run: a bigram model, counted on a seeded part of the training text."""

import os

import numpy as np

from prepare import VOCABULARY, load_train, save_model

SMOOTHING = 0.02


def predict(tokens, weights):
    return weights["bigram"][tokens]


def main():
    draw = np.random.default_rng(int(os.environ["AUTORESEARCH_SEED"]))
    tokens, labels = load_train()
    part = draw.permutation(len(tokens))[: len(tokens) * 9 // 10]
    counts = np.full((VOCABULARY, VOCABULARY), SMOOTHING)
    np.add.at(counts, (tokens[part].ravel(), labels[part].ravel()), 1.0)
    save_model(predict, bigram=np.log(counts / counts.sum(1, keepdims=True)).astype(np.float32))


if __name__ == "__main__":
    main()
