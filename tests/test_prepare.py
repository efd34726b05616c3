from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from adult import ROOT, prepare
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.privacy import Privacy
from pytest_autoresearch.settings import Settings
from pytest_autoresearch.task import Task

SPLITS = ("train", "val", "audit", "test")


@pytest.fixture(scope="session")
def rows(data: Path) -> list[tuple[str, ...]]:
    """Six hundred real rows, original columns only."""
    with (data / "raw" / "adult.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.reader(stream))[1:601]
    return [tuple(row[: len(prepare.COLUMNS)]) for row in table]


@pytest.fixture
def source(rows: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small source in the published format, with duplicates, pinned in place of the real one."""
    folder = tmp_path / "source"
    folder.mkdir()
    lines = [", ".join(row) for row in rows]
    (folder / "adult.data").write_text("\n".join([*lines[:400], *lines[:5]]) + "\n\n")
    ending = [f"{line}." for line in [*lines[400:], lines[0]]]
    (folder / "adult.test").write_text("\n".join(["|1x3 Cross validator", *ending]) + "\n\n")
    pins = {name: sha256((folder / name).read_bytes()).hexdigest() for name in prepare.SOURCES}
    monkeypatch.setattr(prepare, "SOURCES", pins)
    return folder


def run_prepare(source: Path, data: Path) -> int:
    return int(prepare.main(["--source", str(source), "--data", str(data)]))


# ---------------------------------------------------------------------------
# The real data
# ---------------------------------------------------------------------------


def test_the_splits_have_the_documented_sizes(data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_bytes())
    assert manifest["splits"] == {"train": 29512, "val": 9676, "audit": 4753, "test": 4849}


def test_no_row_is_in_two_splits(data: Path) -> None:
    hashes = {name: np.load(data / "heldout" / name / "rows.npy") for name in SPLITS}
    for name in SPLITS:
        assert len(np.unique(hashes[name])) == len(hashes[name])
    for one, other in combinations(SPLITS, 2):
        assert not np.isin(hashes[one], hashes[other]).any(), (one, other)


@pytest.mark.parametrize("split", SPLITS)
def test_every_array_of_a_split_has_one_entry_for_each_row(data: Path, split: str) -> None:
    n = json.loads((data / "manifest.json").read_bytes())["splits"][split]
    visible = data / "train" if split == "train" else data / "heldout" / split
    with np.load(visible / "features.npz", allow_pickle=False) as features:
        assert features["numeric"].shape == (n, 5)
        assert features["numeric"].dtype == np.float32
        assert features["categorical"].shape == (n, 6)
        assert features["categorical"].dtype == np.int64
    labels = np.load(visible / "labels.npy", allow_pickle=False)
    assert labels.shape == (n,)
    assert 0.22 < labels.mean() < 0.26
    with np.load(data / "heldout" / split / "cohorts.npz", allow_pickle=False) as cohorts:
        assert set(cohorts["sex"]) == {"Female", "Male"}
        assert set(cohorts["race"]) == {"White", "non-White"}
        assert len(set(cohorts["race5"])) == 5
        assert set(cohorts["age_band"]) == {"17-29", "30-44", "45-59", "60+"}
        assert {cohorts[name].shape for name in cohorts.files} == {(n,)}


def test_the_training_view_holds_no_identifier_and_no_protected_attribute(data: Path) -> None:
    view = {path.name: path.read_bytes() for path in (data / "train").iterdir()}
    assert set(view) == {"features.npz", "labels.npy", "schema.json"}
    schema = json.loads(view["schema.json"])
    assert schema["numeric"] == list(prepare.NUMERIC)
    assert set(schema["categorical"]) == set(prepare.CATEGORICAL)
    columns = {*schema["numeric"], *schema["categorical"]}
    assert not columns & {"sex", "race", "fnlwgt", "income", *prepare.SYNTHETIC}
    with (data / "raw" / "adult.csv").open(newline="", encoding="utf-8") as stream:
        person = next(csv.DictReader(stream))
    for name in (*prepare.SYNTHETIC, "sex", "race"):
        for content in view.values():
            assert person[name].encode() not in content
            assert person[name].encode("utf-32-le") not in content


def test_the_raw_table_gives_every_person_invented_identifiers(data: Path) -> None:
    with (data / "raw" / "adult.csv").open(newline="", encoding="utf-8") as stream:
        people = list(csv.DictReader(stream))
    assert len(people) == 48790
    assert all(person[name] for person in people for name in prepare.SYNTHETIC)
    assert all(person["synthetic_email"].endswith("@example.org") for person in people)
    assert len({person["synthetic_name"] for person in people}) > 20_000


def test_names_and_phones_of_dropped_columns_are_found_anywhere(data: Path) -> None:
    """In another order and without their punctuation, too; and nowhere in what a run can read."""
    privacy = Privacy(Settings(), Task(ROOT, data=str(data)))
    with (data / "raw" / "adult.csv").open(newline="", encoding="utf-8") as stream:
        people = list(csv.DictReader(stream))[:2000]
    for person in people:
        given, _, family = person["synthetic_name"].partition(" ")
        digits = "".join(c for c in person["synthetic_phone"] if c.isdigit())
        for text in (f"{family}, {given}", f"{given}_{family}".lower(), f"row {digits}"):
            assert [f for f in privacy.in_text(text) if f.startswith("known_value: 1")], text
    assert privacy.in_view(data / "train") == []
    for path in ("train.py", "prepare.py", "program.md"):
        assert not [f for f in privacy.in_text((ROOT / path).read_text()) if "known" in f], path


# ---------------------------------------------------------------------------
# Preparing
# ---------------------------------------------------------------------------


def test_the_split_does_not_depend_on_the_order_of_rows(
    rows: list[tuple[str, ...]], tmp_path: Path
) -> None:
    manifests = []
    for name, order in (("forward", rows), ("backward", rows[::-1])):
        (tmp_path / name).mkdir()
        prepare.write_data(order, tmp_path / name)
        manifests.append((tmp_path / name / "manifest.json").read_text())
    assert manifests[0] == manifests[1]


def test_a_row_stays_in_its_split_when_others_are_removed(rows: list[tuple[str, ...]]) -> None:
    whole = {row: prepare.split_of(prepare.row_digest(row)) for row in rows}
    assert {prepare.split_of(prepare.row_digest(rows[0]))} == {whole[rows[0]]}
    assert set(whole.values()) == set(SPLITS)


def test_duplicates_headers_and_full_stops_of_the_source_are_dropped(
    source: Path, rows: list[tuple[str, ...]]
) -> None:
    assert prepare.read_sources(source) == sorted(rows)


def test_two_preparations_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    assert run_prepare(source, tmp_path / "one") == 0
    assert run_prepare(source, tmp_path / "two") == 0
    one, two = ((tmp_path / name / "manifest.json").read_text() for name in ("one", "two"))
    assert one == two


def test_without_the_package_the_splits_are_the_same_and_no_values_are_known(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a plain checkout, or in a run's snapshot."""
    run_prepare(source, tmp_path / "with")
    monkeypatch.setitem(sys.modules, "pytest_autoresearch.compliance.known", None)
    run_prepare(source, tmp_path / "without")
    known, plain = (prepare.file_digests(tmp_path / name) for name in ("with", "without"))
    assert known.keys() - plain.keys() == {"known_values.json"}
    assert plain.items() <= known.items()
    assert prepare.problem_with(tmp_path / "without") == ""


def test_intact_data_is_left_alone(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_prepare(source, tmp_path / "data")
    before = (tmp_path / "data" / "manifest.json").stat()
    assert run_prepare(source, tmp_path / "data") == 0
    assert "up to date" in capsys.readouterr().out
    after = (tmp_path / "data" / "manifest.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest"])
def test_damaged_data_is_made_anew(
    source: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    run_prepare(source, data)
    intact = (data / "manifest.json").read_text()
    labels = data / "heldout" / "val" / "labels.npy"
    if damage == "changed":
        labels.write_bytes(labels.read_bytes()[:-1] + b"\x01\x00")
    elif damage == "missing":
        labels.unlink()
    else:
        (data / "manifest.json").write_text("{")
    capsys.readouterr()
    assert run_prepare(source, data) == 0
    assert ("manifest" if damage == "manifest" else "labels.npy") in capsys.readouterr().out
    assert (data / "manifest.json").read_text() == intact
    assert prepare.problem_with(data) == ""


def test_an_interrupted_preparation_leaves_the_old_data_and_nothing_else(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    run_prepare(source, data)
    (data / "heldout" / "val" / "labels.npy").unlink()
    before = prepare.file_digests(data)

    def interrupt(digests: Sequence[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "synthetic_identifiers", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_prepare(source, data)
    assert prepare.file_digests(data) == before
    assert {path.name for path in tmp_path.iterdir()} == {"source", "data"}


def test_a_file_that_is_not_the_published_one_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (source / "adult.test").open("a") as stream:
        stream.write("40, Private\n")
    assert run_prepare(source, tmp_path / "data") == 1
    message = capsys.readouterr().err
    assert "'adult.test' has sha256" in message
    assert prepare.SOURCES["adult.test"] in message
    assert not (tmp_path / "data").exists()


def test_a_source_without_the_files_says_what_it_wants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_prepare(tmp_path, tmp_path / "data") == 1
    message = capsys.readouterr().err
    assert str(tmp_path / "adult.data") in message
    assert "adult.data and adult.test" in message


@pytest.mark.parametrize("with_data", [True, False])
def test_files_of_others_are_never_overwritten(
    source: Path, tmp_path: Path, with_data: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if with_data:
        run_prepare(source, data)
    (data / "thesis.txt").write_text("three years of work")
    assert run_prepare(source, data) == 1
    assert "--data" in capsys.readouterr().err
    assert (data / "thesis.txt").read_text() == "three years of work"


def test_importing_prepare_loads_no_framework() -> None:
    script = (
        "import sys, prepare; print([name for name in ('torch', 'faker') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# ---------------------------------------------------------------------------
# The artifact
# ---------------------------------------------------------------------------


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(5, 1)
        self.noise = torch.nn.Dropout(0.5)

    def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.noise(self.layer(numeric / 100)).squeeze(1)
        return logits + categorical.sum(1) * 1e-3


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Linear, Path]:
    torch.manual_seed(0)
    model = Linear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_OUT", str(tmp_path_factory.mktemp("out")))
        return model, prepare.save_model(model)


@pytest.mark.parametrize("n", [1, 2, 9676])
def test_the_scorer_gives_what_the_model_gives(
    data: Path, exported: tuple[Linear, Path], n: int
) -> None:
    model, artifact = exported
    with np.load(data / "heldout" / "val" / "features.npz", allow_pickle=False) as arrays:
        features = {name: arrays[name][:n] for name in arrays.files}
    with torch.inference_mode():
        logits = model(*(torch.from_numpy(features[name]) for name in ("numeric", "categorical")))
    predictions = prepare.score(artifact, features)
    assert predictions.dtype == np.float64
    np.testing.assert_array_equal(predictions, torch.sigmoid(logits.double()).numpy())


def test_the_artifact_holds_no_pickle(exported: tuple[Linear, Path]) -> None:
    with zipfile.ZipFile(exported[1]) as archive:
        samples = [m for m in archive.infolist() if "sample_inputs" in m.filename]
        assert [member.file_size for member in samples] == [0]
        # A pickle of protocol 2 or later starts with this byte, torch.save's zip with PK.
        assert not [n for n in archive.namelist() if archive.read(n)[:2] in {b"\x80\x02", b"PK"}]


@pytest.mark.parametrize(
    "member", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/opaque_0"]
)
def test_an_artifact_with_a_pickle_is_refused(
    exported: tuple[Linear, Path], tmp_path: Path, member: str
) -> None:
    hostile = tmp_path / "model.pt2"
    with zipfile.ZipFile(exported[1]) as old, zipfile.ZipFile(hostile, "w") as new:
        for name in old.namelist():
            if not name.endswith(member):
                new.writestr(name, old.read(name))
        new.writestr(f"archive/{member}", b"\x80\x04cos\nsystem\n.")
    with pytest.raises(ValueError, match=member):
        prepare.score(hostile, {})


def test_a_weight_marked_as_pickled_is_refused(
    exported: tuple[Linear, Path], tmp_path: Path
) -> None:
    hostile = tmp_path / "model.pt2"
    with zipfile.ZipFile(exported[1]) as old, zipfile.ZipFile(hostile, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, text.replace(b'"use_pickle": false', b'"use_pickle": true'))
    with pytest.raises(ValueError, match="model_weights_config"):
        prepare.score(hostile, {})


def test_missing_training_data_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_TRAIN", str(tmp_path))
    with pytest.raises(prepare.DataError, match=r"run `python prepare\.py` first"):
        prepare.load_train()


# ---------------------------------------------------------------------------
# Evaluation
# ---------------------------------------------------------------------------


def test_the_metrics_agree_with_a_case_worked_by_hand() -> None:
    metrics = prepare.evaluate(
        np.array([0.8, 0.4, 0.5, 0.1]), np.array([1, 1, 0, 0], dtype=np.int8), {}
    )
    assert next(iter(metrics)) == "val_loss"
    # -(ln 0.8 + ln 0.4 + ln 0.5 + ln 0.9) / 4 = (0.22314 + 0.91629 + 0.69315 + 0.10536) / 4
    assert metrics["val_loss"] == pytest.approx(0.484485, abs=1e-6)
    assert metrics["accuracy"] == 0.5
    assert metrics["auc"] == 0.75
    assert metrics["brier"] == pytest.approx((0.04 + 0.36 + 0.25 + 0.01) / 4)
    assert metrics["calibration_gap"] == pytest.approx(0.05)
    assert metrics["worst_cohort_loss"] == metrics["val_loss"]


def test_a_certain_and_wrong_prediction_costs_a_finite_amount() -> None:
    metrics = prepare.evaluate(np.array([0.0, 1.0]), np.array([1, 0]), {})
    assert metrics["val_loss"] == pytest.approx(-np.log(1e-7))


def test_the_losses_of_the_rows_have_the_metric_as_their_mean() -> None:
    predictions = np.array([0.8, 0.4, 0.5, 0.0], dtype=np.float32)
    labels = np.array([1, 1, 0, 1], dtype=np.int8)
    losses = prepare.losses(predictions, labels)
    assert losses == pytest.approx(-np.log([0.8, 0.4, 0.5, 1e-7]), rel=1e-6)
    assert losses.mean() == prepare.evaluate(predictions, labels, {})["val_loss"]


def test_the_worst_cohort_is_the_worst_of_those_large_enough() -> None:
    predictions = np.array([0.1] * 300 + [0.3] * 300 + [0.9] * 10)
    groups = np.array(["a"] * 300 + ["b"] * 300 + ["tiny"] * 10)
    metrics = prepare.evaluate(predictions, np.zeros(610), {"group": groups})
    assert metrics["worst_cohort_loss"] == pytest.approx(-np.log(0.7))


@given(
    st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=2, max_size=40),
    st.randoms(use_true_random=False),
)
def test_metrics_follow_their_definitions_in_any_order(
    pairs: list[tuple[int, bool]], random: object
) -> None:
    predictions = np.array([tenths / 10 for tenths, _ in pairs])
    labels = np.array([label for _, label in pairs], dtype=np.int8)
    metrics = prepare.evaluate(predictions, labels, {})
    order = sorted(range(len(pairs)), key=lambda _: random.random())  # type: ignore[attr-defined]
    assert prepare.evaluate(predictions[order], labels[order], {}) == pytest.approx(metrics)
    positive, negative = predictions[labels == 1], predictions[labels == 0]
    if len(positive) and len(negative):
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        assert metrics["auc"] == pytest.approx(wins.mean())
    assert 0 <= metrics["val_loss"] <= -np.log(1e-7) + 1e-9
    assert all(type(value) is float for value in metrics.values())


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((2, 1)), "shape"),
        (np.array([0.5, np.nan]), "1 of 2 predictions are not finite"),
        (np.array([0.5, -np.inf]), "not finite"),
        (np.array([0.5, 1.5]), "within"),
        (np.array([-0.1, 0.5]), "within"),
        (np.array([0, 1]), "floats"),
    ],
)
def test_predictions_that_are_no_probabilities_are_refused(
    predictions: np.ndarray[tuple[int, ...], np.dtype[np.float64]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare.evaluate(predictions, np.array([0, 1], dtype=np.int8), {})
