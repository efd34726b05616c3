"""
Leakage checks on the reference task: false alarms of honest splits and runs, and figures of planted leaks.

    python benchmarks/leakage.py              # everything: up to half an hour on a busy core
    python benchmarks/leakage.py splits       # or some parts: splits, runs, leaks, datasets

*Splits*: UCI Adult is split at random again and again (60/20/10/10), and the checks on the data look at each split.
*Runs*: on each of these splits the shipped train.py is trained on its labels and on shuffled ones, in this process;
EPOCHS is 2 instead of 8, and a few runs with 8 show what that changes. *Leaks*: what each check says of planted ones.
*Data sets*: the column check on data sets that scikit-learn carries. Seeded: another run gives the same figures.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from pytest_autoresearch.compliance.column_strength import differences, strengths, suspicious
from pytest_autoresearch.compliance.label_flip import changed_columns, flipped
from pytest_autoresearch.compliance.near_duplicates import near_duplicates
from pytest_autoresearch.compliance.permutation import Worth, worth
from pytest_autoresearch.settings import Leakage

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import prepare  # noqa: E402 - of the reference task

SHARES = {"train": 0.6, "val": 0.2, "audit": 0.1, "test": 0.1}
SPLITS, RUNS, FULL_RUNS = 200, 60, 10
EPOCHS = 2
RULES = Leakage()
ERRORS = 5.0  # of near-duplicates and columns, as in the harness
CHANCE = 5.0  # spreads of chance, as in the harness

Array = NDArray[Any]
Split = tuple[dict[str, Array], Array]


class World(NamedTuple):
    """A split of the data, and how its features follow from labels."""

    splits: dict[str, Split]
    rows: dict[str, Array]
    """Indices of each split's rows in the whole data."""


# ---------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------


def whole() -> Split:
    """Features and labels of all rows, over all splits of the shipped data."""
    parts = []
    for split in SHARES:
        folder = ROOT / "data" / ("train" if split == "train" else f"heldout/{split}")
        with np.load(folder / "features.npz") as archive:
            features = {name: archive[name] for name in archive.files}
        parts.append((features, np.load(folder / "labels.npy")))
    features = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
    return features, np.concatenate([labels for _, labels in parts])


def at_random(data: Split, seed: int) -> World:
    """The data split at random."""
    features, labels = data
    order = np.random.default_rng(seed).permutation(len(labels))
    ends = np.cumsum([round(share * len(labels)) for share in SHARES.values()])[:-1]
    rows = dict(zip(SHARES, np.split(order, ends), strict=True))
    splits = {
        name: ({key: array[part] for key, array in features.items()}, labels[part])
        for name, part in rows.items()
    }
    return World(splits, rows)


def more(world: World, columns: Mapping[str, Array]) -> World:
    """A world with one more number of each row."""
    splits = {}
    for name, (features, labels) in world.splits.items():
        column = columns[name].astype(np.float32)[:, None]
        numeric = np.concatenate([features["numeric"], column], axis=1)
        splits[name] = ({**features, "numeric": numeric}, labels)
    return World(splits, world.rows)


# ---------------------------------------------------------------------------
# Statistics of one world
# ---------------------------------------------------------------------------


def data_figures(world: World) -> dict[str, float]:
    """The largest figures of the checks on the data."""
    train, found = world.splits["train"], {}
    counted = [
        duplicates
        for split in ("val", "audit", "test")
        for duplicates in near_duplicates(train[0], world.splits[split][0])
    ]
    found["near-duplicates: excess"] = max(d.excess for d in counted)
    found["near-duplicates: errors"] = max(d.errors for d in counted)
    found["near-duplicates: alarm"] = float(
        any(d.excess > RULES.near_duplicates and d.errors > ERRORS for d in counted)
    )
    found["column: explained"] = strengths(*train)[0].explained
    strong = [c for name in ("train", "val") for c in suspicious(*world.splits[name], RULES.column)]
    found["column: alarm"] = float(bool(strong))
    uneven = max(
        difference.errors
        for split in ("audit", "test")
        for pair in (("val", split), (split, "val"))
        for difference in differences(train, *(world.splits[name] for name in pair))
    )
    found["column between splits: errors"] = uneven
    found["column between splits: alarm"] = float(uneven > ERRORS)
    return found


def loaded(epochs: int) -> ModuleType:
    """The shipped train.py with another number of epochs."""
    source = (ROOT / "train.py").read_text(encoding="utf-8")
    assert "\nEPOCHS = 8\n" in source
    module = ModuleType("train")
    exec(
        compile(source.replace("\nEPOCHS = 8\n", f"\nEPOCHS = {epochs}\n"), "train.py", "exec"),
        module.__dict__,
    )
    module.__dict__["print"] = lambda *_, **__: None
    return module


def trained(world: World, labels: Array, seed: int, epochs: int) -> dict[str, Array]:
    """Predictions on validation and audit split of the shipped model."""
    module = loaded(epochs)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    features = world.splits["train"][0]
    sizes = tuple(int(size) for size in 1 + max_codes(world))
    view = prepare.TrainingView(features["numeric"], features["categorical"], labels, sizes)
    model = module.Model(module.Features(view))
    with torch.no_grad():
        inputs = model.features(*tensors(features))
    module.train(model, inputs, torch.from_numpy(labels).float(), time.monotonic() + 1e6)
    model.eval()
    with torch.no_grad():
        return {
            split: torch.sigmoid(model(*tensors(world.splits[split][0])).double()).numpy()
            for split in ("val", "audit")
        }


def max_codes(world: World) -> Array:
    """The largest code of each categorical column."""
    return np.max([x["categorical"].max(axis=0) for x, _ in world.splits.values()], axis=0)


def tensors(features: Mapping[str, Array]) -> Iterator[torch.Tensor]:
    for name in ("numeric", "categorical"):
        yield torch.from_numpy(features[name])


def gained(p: Array, labels: Array, seed: int) -> Worth:
    return worth(lambda q: float(prepare.losses(q, labels).mean()), p, np.random.default_rng(seed))


def run_figures(
    world: World, control: World, shuffled: Array, seed: int, epochs: int
) -> dict[str, float]:
    """
    The figures of the checks on a model.

    :param control: the world prepared again for shuffled training labels.
    """
    found = trained(world, world.splits["train"][1], seed, epochs)
    losses = {split: prepare.losses(p, world.splits[split][1]) for split, p in found.items()}
    error = np.sqrt(sum(x.var(ddof=1) / len(x) for x in losses.values()))
    labels = world.splits["val"][1]
    real = gained(found["val"], labels, seed)
    again = trained(control, shuffled, seed + 1, epochs)["val"]
    chance = gained(again, labels, seed)
    share = abs(chance.gain) / real.gain
    return {
        "val AUC": prepare.area_under_roc(found["val"], labels == 1),
        "audit AUC": prepare.area_under_roc(found["audit"], world.splits["audit"][1] == 1),
        "gap: errors": float((losses["audit"].mean() - losses["val"].mean()) / error),
        "shuffled: AUC": prepare.area_under_roc(again, labels == 1),
        "shuffled: share": share,
        "shuffled: spreads": chance.errors,
        "shuffled: alarm": float(share > RULES.permuted_gain and abs(chance.errors) > CHANCE),
    }


# ---------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------


def summary(title: str, rows: list[dict[str, float]], thresholds: Mapping[str, object]) -> None:
    """Print mean, standard deviation and extremes of every figure; of alarms their number."""
    lines: list[list[object]] = []
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        if name.endswith("alarm"):
            lines.append([name, f"{int(values.sum())} of {len(values)}", "", "", "", ""])
        else:
            figures = (values.mean(), values.std(ddof=1), values.min(), values.max())
            lines.append([name, *(f"{x:.4g}" for x in figures), thresholds.get(name, "")])
    print(f"\n{title}\n")
    print(
        tabulate(
            lines,
            headers=("figure", "mean", "sd", "min", "max", "threshold"),
            tablefmt="github",
            disable_numparse=True,
        )
    )


THRESHOLDS = {
    "near-duplicates: excess": RULES.near_duplicates,
    "near-duplicates: errors": ERRORS,
    "column: explained": RULES.column,
    "column between splits: errors": ERRORS,
    "gap: errors": RULES.gap_errors,
    "shuffled: share": RULES.permuted_gain,
    "shuffled: spreads": CHANCE,
}


def splits_part(data: Split) -> None:
    """False alarms of the checks on the data."""
    rows = [data_figures(at_random(data, seed)) for seed in range(SPLITS)]
    summary(f"{SPLITS} honest splits", rows, THRESHOLDS)


def runs_part(data: Split) -> None:
    """False alarms of the checks on a model."""
    for epochs, n in ((EPOCHS, RUNS), (8, FULL_RUNS)):
        rows = []
        for seed in range(n):
            world = at_random(data, seed)
            shuffled = np.random.default_rng(10_000 + seed).permutation(world.splits["train"][1])
            rows.append(run_figures(world, world, shuffled, seed, epochs))
        summary(f"{n} honest runs with EPOCHS = {epochs}", rows, THRESHOLDS)


def encoded(
    world: World, keys: Array, over: tuple[str, ...], labels: Mapping[str, Array], prior: float
) -> World:
    """
    A world with one more number: the mean label of a row's category over some splits.

    :param keys: category of each row of the whole data.
    """
    code = np.unique(keys, return_inverse=True)[1]
    known = np.concatenate([world.rows[split] for split in over])
    y = np.concatenate([labels[split] for split in over])
    size = int(code.max()) + 1
    ones = np.bincount(code[known], weights=y, minlength=size)
    count = np.bincount(code[known], minlength=size)
    mean = np.where(count, (ones + prior * y.mean()) / np.maximum(count + prior, 1), y.mean())
    return more(world, {split: mean[code[rows]] for split, rows in world.rows.items()})


def leaks_part(data: Split) -> None:
    """What each check says of planted leaks."""
    world = at_random(data, 0)
    labels = {split: y for split, (_, y) in world.splits.items()}
    rng = np.random.default_rng(0)
    features = data[0]
    # Combinations of most columns: two thirds of them occur once.
    whole_row = np.concatenate([features["numeric"], features["categorical"]], axis=1)
    fine = np.unique(whole_row[:, [0, 4, 5, 7, 8, 9, 10]], axis=0, return_inverse=True)[1].ravel()
    # An identifier of small groups: each occurs about three times.
    groups = rng.integers(0, len(data[1]) // 3, size=len(data[1]))

    def noisy(right: float) -> dict[str, Array]:
        return {s: np.where(rng.random(len(y)) < right, y, 1 - y) for s, y in labels.items()}

    def copies(n: int, jitter: float) -> World:
        train, val = world.splits["train"], world.splits["val"]
        chosen = {name: array[:n].copy() for name, array in val[0].items()}
        chosen["numeric"][:, 4] += jitter
        joined = {name: np.concatenate([train[0][name], chosen[name]]) for name in train[0]}
        y = np.concatenate([train[1], val[1][:n]])
        return World({**world.splits, "train": (joined, y)}, world.rows)

    def constant(planted: World) -> Any:
        return lambda _: planted

    def encoding(keys: Array, over: tuple[str, ...], prior: float) -> Any:
        return lambda given: encoded(world, keys, over, given, prior)

    everything = tuple(SHARES)
    planted = {
        "none": constant(world),
        "the label as a column": constant(more(world, labels)),
        "the label, right in 95 of 100": constant(more(world, noisy(0.95))),
        "the label, right in 90 of 100": constant(more(world, noisy(0.90))),
        "mean label of nearly equal rows, over train and val": encoding(
            fine, ("train", "val"), 0.0
        ),
        "mean label of nearly equal rows, over all rows": encoding(fine, everything, 0.0),
        "mean label of groups of three, over all rows, smoothed": encoding(
            groups, everything, 30.0
        ),
        "mean label of groups of three, over train only, smoothed": encoding(
            groups, ("train",), 30.0
        ),
        "1000 validation rows copied": constant(copies(1000, 0.0)),
        "1000 validation rows copied, 0.02 hours added": constant(copies(1000, 0.02)),
        "300 validation rows copied, 0.02 hours added": constant(copies(300, 0.02)),
    }
    lines = []
    for name, build in planted.items():
        leaked = build(labels)
        train_labels = leaked.splits["train"][1]
        shuffled = rng.permutation(train_labels)
        moved = {**labels, "train": shuffled}
        control = build(moved) if len(shuffled) == len(labels["train"]) else leaked
        other = build({s: y if s == "train" else flipped(y) for s, y in labels.items()})
        changed = sum(
            1
            for split in SHARES
            for _ in changed_columns(leaked.splits[split][0], other.splits[split][0])
        )
        found = data_figures(leaked)
        found |= run_figures(leaked, control, shuffled, 0, EPOCHS)
        caught = [
            *(["near-duplicates"] if found["near-duplicates: alarm"] else []),
            *(
                ["column"]
                if found["column: alarm"] or found["column between splits: alarm"]
                else []
            ),
            *(["label flip"] if changed else []),
            *(["gap"] if found["gap: errors"] > RULES.gap_errors else []),
            *(["shuffled labels"] if found["shuffled: alarm"] else []),
        ]
        lines.append(
            [
                name,
                f"{found['near-duplicates: errors']:.1f}",
                f"{found['column: explained']:.2f}",
                f"{found['column between splits: errors']:.1f}",
                changed,
                f"{found['val AUC']:.3f}",
                f"{found['audit AUC']:.3f}",
                f"{found['gap: errors']:.1f}",
                f"{found['shuffled: AUC']:.3f}",
                f"{found['shuffled: share']:.2f}",
                ", ".join(caught) or "none",
            ]
        )
    headers = ("leak", "near-duplicates: errors", "best column", "between splits: errors", "columns that follow the flip", "val AUC", "audit AUC", "gap: errors", "shuffled AUC", "shuffled share", "caught by")  # fmt: skip
    print("\nPlanted leaks\n")
    print(tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True))


def datasets_part(data: Split) -> None:
    """Strength of single columns in data sets for teaching."""
    from sklearn import datasets

    lines = []
    for name in ("breast_cancer", "wine", "iris", "digits", "diabetes"):
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        best = strengths({"x": x}, y)[0]
        alone = [c for c in strengths({"x": x}, y) if c.explained >= RULES.column]
        strong = suspicious({"x": x}, y, RULES.column)
        lines.append([name, len(y), f"{best.explained:.2f}", len(alone), len(strong)])
    best = strengths(*data)[0]
    lines.append(
        [
            "UCI Adult",
            len(data[1]),
            f"{best.explained:.2f}",
            0,
            len(suspicious(*data, RULES.column)),
        ]
    )
    print("\nHonest columns\n")
    headers = ("data", "rows", "best column explains", f"columns above {RULES.column:g}", "refused")
    print(tabulate(lines, headers=headers, tablefmt="github"))


PARTS = {"splits": splits_part, "runs": runs_part, "leaks": leaks_part, "datasets": datasets_part}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description="False alarms and power of the leakage checks.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no part {unknown.pop()!r}: one of {', '.join(PARTS)}")
    data = whole()
    for name in options.parts or PARTS:
        started = time.monotonic()
        PARTS[name](data)
        print(f"\n({name}: {time.monotonic() - started:.0f} s)", flush=True)
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
