"""Data and evaluation in the upstream layout, below the user's home; nothing here knows of a harness."""

import os

import numpy as np

TIME_BUDGET = 20
CACHE_DIR = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")  # noqa: PTH111, PTH118 -- as upstream has it

data = np.load(os.path.join(CACHE_DIR, "data.npz"))  # noqa: PTH118 -- as upstream has it


def make_batches(steps, draw):
    for _ in range(steps):
        rows = draw.integers(0, 1200, 64)
        yield data["x"][rows], data["y"][rows]


def evaluate_bpb(weights):
    x, y = data["x"][1200:], data["y"][1200:]
    p = np.clip(1 / (1 + np.exp(-(x @ weights))), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.log2(np.where(y == 1, p, 1 - p))))
