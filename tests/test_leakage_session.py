"""Leaks planted in data and in models: each is stopped at its stage, by its gate, with a message that names the cause."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from adult import ROOT, prepare
from project import GATES, Project
from test_planted import campaign

from pytest_autoresearch.commands import opened
from pytest_autoresearch.data_leakage import DataLeakage, vouched_for
from pytest_autoresearch.rebuild import rebuilt, relabelled
from pytest_autoresearch.scratch import Scratch
from pytest_autoresearch.settings import Leakage, Run, Settings
from pytest_autoresearch.task import Task, TaskError

# -- the reference task ----------------------------------------------------------


def asked(task: Task, scratch: Scratch, **rules: object) -> DataLeakage:
    return DataLeakage(task, Settings(leakage=Leakage(**rules)), scratch, known=False)


def prepared(data: Path, room: Path, *edits: tuple[str, str]) -> Task:
    """A sixth of the reference task as an edited prepare.py makes it, raw rows included."""
    source = (ROOT / "prepare.py").read_text()
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    header, *lines = (data / "raw/adult.csv").read_text().splitlines()
    sample, out = room / "sample", room / "made"
    (sample / "raw").mkdir(parents=True)
    out.mkdir()
    (sample / "raw/adult.csv").write_text("\n".join([header, *lines[::6]]))
    (sample / "manifest.json").write_text('{"files": {}}')
    rows = [tuple(row[:15]) for row in csv.reader(lines[::6])]
    members = prepare.members_of((prepare.row_digest(row), row) for row in rows)
    labels = {
        split: np.array([row[-1] == ">50K" for _, row in pairs], dtype=np.int8)
        for split, pairs in members.items()
    }
    made = rebuilt(Task(ROOT, data=str(sample), source=source.encode()), labels, out, 120)
    (made.data / "raw").symlink_to(sample / "raw")
    return made


def numbers(**expressions: str) -> tuple[tuple[str, str], ...]:
    """Edits of prepare.py that give every row more numbers, by expressions of ``row``."""
    names = "".join(f', "{name}"' for name in expressions)
    columns = "".join(
        f"    columns[{name!r}] = tuple(str({text}) for row in rows)\n"
        for name, text in expressions.items()
    )
    return (
        ('"hours_per_week")\nCATEGORICAL', f'"hours_per_week"{names})\nCATEGORICAL'),
        ("    numeric = np.array([columns", f"{columns}    numeric = np.array([columns"),
    )


#: Means of labels: by survey weight over train and validation; by age and occupation over all rows, drawn to the overall
#: rate; and by occupation over the training split, which is how it is done.
ENCODINGS = (
    (
        "def features_of(\n",
        """\
MEANS = {}


def remember(members, name, keys, splits, prior):
    for row in [row for split in splits for _, row in members[split]]:
        key = name, *(row[place] for place in keys)
        ones, n = MEANS.get(key, (0.24 * prior, prior))
        MEANS[key] = ones + (row[-1] == ">50K"), n + 1


def encoded(row, name, *keys):
    ones, n = MEANS.get((name, *(row[place] for place in keys)), (0.24, 1))
    return ones / n


def features_of(
""",
    ),
    (
        '    train = [row for _, row in members["train"]]\n',
        """\
    remember(members, "known", [2], ("train", "val"), 0)
    remember(members, "smooth", [0, 6], tuple(members), 50)
    remember(members, "fair", [6], ("train",), 10)
    train = [row for _, row in members["train"]]
""",
    ),
    *numbers(
        known="encoded(row, 'known', 2)",
        smooth="encoded(row, 'smooth', 0, 6)",
        fair="encoded(row, 'fair', 6)",
    ),
)


def test_the_shipped_data_pass_every_check(data: Path) -> None:
    with Scratch() as scratch:
        leakage = asked(Task(ROOT, data=str(data)), scratch)
        assert leakage.near_duplicates() == leakage.columns() == leakage.label_flip() == ()
        assert leakage.later_rows() == leakage.shared_groups() == ()
    assert leakage.unchecked == ("time order (leakage.time)", "groups (leakage.group)")


def test_target_encodings_follow_the_flip_of_heldout_labels(data: Path, tmp_path: Path) -> None:
    """One has an effect that its column shows, one has none to see; the one over the training split is honest."""
    made = prepared(data, tmp_path, *ENCODINGS)
    with Scratch() as scratch:
        leakage = asked(made, scratch)
        flip, columns = leakage.label_flip(), leakage.columns()
        assert leakage.near_duplicates() == ()
    assert {re.match(r"column '(\w+)' of", line)[1] for line in flip} == {"known", "smooth"}  # type: ignore[index]
    told = re.search(
        r"column 'known' of 'val' changes with .* \((\d+) of (\d+) rows\)", "".join(flip)
    )
    assert told, flip
    assert int(told[1]) > 0.5 * int(told[2])
    assert any("'known' says more about the labels of 'val' than of 'audit'" in c for c in columns)
    assert not [line for line in columns if "'known'" not in line]


def test_validation_rows_with_a_little_noise_in_the_training_split_are_counted(data: Path) -> None:
    plain = Task(ROOT, data=str(data))
    heldout, train = plain.features("val"), plain.training_features()
    copies = {name: array[:1000].copy() for name, array in heldout.items()}
    copies["numeric"][:, 4] += 0.02
    joined = {name: np.concatenate([train[name], copies[name]]) for name in train}
    plain.training_features = lambda: joined  # type: ignore[method-assign]
    with Scratch() as scratch:
        (found, *_) = asked(plain, scratch).near_duplicates()
    assert "rows of 'val'" in found
    assert "are training rows but for a little noise" in found
    assert "at most 1.0% more" in found


# -- a preparation that does not do what was asked ---------------------------------


@pytest.mark.parametrize(
    ("body", "seconds", "message"),
    [
        ("raise RuntimeError('no raw rows')", 60, "failed: RuntimeError: no raw rows"),
        (
            "import shutil; shutil.copytree(data, out, dirs_exist_ok=True)",
            60,
            "has not written the labels",
        ),
        ("import time; time.sleep(60)", 0.5, "did not end within 0.5 s, the budget of one run"),
        ("pass", 60, "has not written 'train/labels.npy'"),
    ],
    ids=["raises", "ignores the labels", "is slow", "writes nothing"],
)
def test_a_rebuild_that_cannot_be_believed_is_no_pass(
    template: Project, tmp_path: Path, body: str, seconds: float, message: str
) -> None:
    project = template.copy(tmp_path / "project")
    source = project.read("prepare.py") + f"\n\ndef rebuild(data, out, labels):\n    {body}\n"
    task = Task(project.root, source=source.encode())
    settings = Settings(run=Run(seconds=seconds))
    with Scratch() as scratch, pytest.raises(TaskError, match=re.escape(message)):
        DataLeakage(task, settings, scratch, known=False).label_flip()


def test_a_rebuild_that_draws_anew_each_time_is_told_from_a_leak(
    template: Project, tmp_path: Path
) -> None:
    project = template.copy(tmp_path / "project")
    noisy = REBUILD.replace(
        "    for split,", "    noise = np.random.default_rng().normal()\n    for split,"
    )
    source = project.read("prepare.py") + noisy.replace('x=found["x"]', 'x=found["x"] + noise')
    task = Task(project.root, source=source.encode())
    with Scratch() as scratch:
        (found,) = asked(task, scratch).label_flip()
    assert "other features for the same labels" in found


def test_a_task_that_cannot_be_rebuilt_gets_shuffled_training_labels_and_nothing_else(
    template: Project, tmp_path: Path
) -> None:
    task = Task(template.root)
    labels = task.training_labels()[::-1].copy()
    made = relabelled(task, labels, tmp_path)
    np.testing.assert_array_equal(made.training_labels(), labels)
    made.require_intact()
    before = {k: v for k, v in task.manifest["files"].items() if k != "train/labels.npy"}
    assert before.items() <= made.manifest["files"].items()


# -- whole sessions ------------------------------------------------------------------

#: The toy's data again: its features know nothing of labels.
REBUILD = '''

def rebuild(data, out, labels):
    """Trusted: the same rows with other labels."""
    for split, y in labels.items():
        held = data / "heldout" / split
        made = out / "heldout" / split
        made.mkdir(parents=True, exist_ok=True)
        where = "train" if split == "train" else f"heldout/{split}"
        (out / where).mkdir(exist_ok=True)
        for name in ("cohorts.npz", "rows.npy", "index.npz"):
            if (held / name).exists():
                (made / name).write_bytes((held / name).read_bytes())
        with np.load(data / where / "features.npz") as found:
            np.savez(out / where / "features.npz", x=found["x"])
        np.save(out / where / "labels.npy", y)
'''
INDEX = '        np.savez(held / "cohorts.npz", sex=sex, race=race)\n'


def project_with(template: Project, root: Path, *edits: tuple[str, str], rebuild: str) -> Project:
    """The toy project with other data, and groups and times declared."""
    project = template.copy(root)
    for old, new in edits:
        project.edit(old, new, "prepare.py")
    project.edit(
        '\n\nif __name__ == "__main__":', f'{rebuild}\n\nif __name__ == "__main__":', "prepare.py"
    )
    project.edit(
        "permutation = false",
        'permutation = true\ntime = "day"\ngroup = "person"',
        "pyproject.toml",
    )
    project.edit("baseline = 3", "baseline = 2", "pyproject.toml")
    for path in sorted((root / "data").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / "data").rmdir()
    assert project.run("python3", "prepare.py").returncode == 0
    project.commit("other data")
    return project


def messages(project: Project, outcome: str) -> dict[str, str]:
    """Message by name of the gates with this outcome in the last row."""
    gates = project.cutovers()[-1]["gates"]
    found = [gate for gate in gates if gate["outcome"] == outcome]
    return {gate["nodeid"].rpartition("::")[2]: gate["message"] for gate in found}


def runs(project: Project) -> int:
    """How many runs there have been."""
    return len(list(project.root.glob(".autoresearch/main/runs/*")))


def test_leaks_in_the_data_are_refused_before_any_training(
    template: Project, tmp_path: Path
) -> None:
    """All at once: each gate speaks for itself."""
    leaked = (
        (
            "        sex = np.where",
            "        x = np.column_stack([x, np.where(draw.random(n) < 0.97, y, 1 - y)]).astype(np.float32)\n"
            "        sex = np.where",
        ),
        (INDEX, INDEX + '        np.savez(held / "index.npz", day=np.arange(n), person=np.arange(n) // 2)\n'),
        (
            '    (data / "train" / "schema.json").write_text(json.dumps({"columns": ["a", "b", "c", "d"]}))\n',
            '    with np.load(data / "heldout/val/features.npz") as val, np.load(data / "train/features.npz") as train:\n'
            '        both = np.concatenate([val["x"][:200] + np.float32(1e-4), train["x"][200:]])\n'
            '    np.savez(data / "train/features.npz", x=both)\n'
            '    (data / "train" / "schema.json").write_text(json.dumps({"x": ["a", "b", "c", "d", "paid"]}))\n',
        ),
    )  # fmt: skip
    follows = REBUILD.replace(
        'x=found["x"]',
        'x=found["x"] + np.float32(np.mean(labels["val"] != np.load(data / "heldout/val/labels.npy")))',
    )
    project = project_with(template, tmp_path / "project", *leaked, rebuild=follows)

    result = project.autoresearch()

    assert result.returncode == 1, result.output
    assert runs(project) == 0
    failed = messages(project, "failed")
    patterns = {
        "test_training_rows_are_not_nearly_heldout_rows": r"200 of 1500 rows of 'val' \(13\.3%\) are training rows but for a little noise, where a split at random gives 0\.0%",
        "test_no_column_alone_gives_the_answer": r"column 'paid' alone explains 6\d% of the labels of 'train' \(threshold 50%\)",
        "test_heldout_labels_change_no_feature": r"column 'a' of 'train' changes with held-out labels \(1200 of 1200 rows\)",
        "test_training_rows_come_before_heldout_rows": r"1199 of 1200 training rows \(99\.9%\) are later than the first row of 'audit' by 'day'",
        "test_no_group_is_in_training_and_heldout_data": r"350 values of 'person' stand in the training split and in 'audit' \(700 of its 700 rows\)",
    }
    assert failed.keys() == patterns.keys()
    for name, pattern in patterns.items():
        assert re.match(pattern, failed[name]), failed[name]


@pytest.fixture(scope="module")
def honest(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with everything declared and nothing leaking; it counts how often its data is prepared again."""
    root = tmp_path_factory.mktemp("honest") / "project"
    index = (
        INDEX,
        INDEX + '        first = {"train": 0}.get(split, len(split) * 10_000)\n'
        '        np.savez(held / "index.npz", day=np.arange(first, first + n), person=np.arange(first, first + n))\n',
    )
    counted = (
        REBUILD
        + f'    with open({str(root.parent / "count")!r}, "a") as file:\n        file.write(".")\n'
    )
    return project_with(template, root, index, rebuild=counted).baseline()


def rebuilds(project: Project) -> int:
    return len((project.root.parent / "count").read_text())


def test_honest_data_pass_and_are_not_asked_again_until_the_harness_changes(
    honest: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered is the ledger's rows; the baseline prepares the data for a flip, and for shuffled labels."""
    project = honest.copy(tmp_path / "project")
    row = project.cutovers()[0]
    assert {gate["outcome"] for gate in row["gates"]} == {"passed"}
    assert len(row["runs"]) == 2
    assert runs(project) == 2 + 1
    before = rebuilds(honest)
    assert before >= 2
    source = project.read("train.py")

    project.edit("LEARNING_RATE = 0.05", 'LEARNING_RATE = 0.05\nEXTRA = "sex"')
    assert project.autoresearch().returncode == 1
    assert messages(project, "failed").keys() == {"test_protected_parameters_are_untouched"}
    assert (rebuilds(honest), runs(project)) == (before, 3)

    assert project.read("train.py") == source
    monkeypatch.chdir(project.root)
    options = argparse.Namespace(tag=None)
    with opened.campaign(options) as found:
        assert vouched_for(found)
    project.edit("confirm = 1", "confirm = 2", "pyproject.toml")
    project.commit("another harness")
    ratified = project.run(
        sys.executable, "-m", "pytest_autoresearch.cli", "ratify", "--reason", "x"
    )
    assert ratified.returncode == 0, ratified.output
    with opened.campaign(options) as found:
        assert not vouched_for(found)


def test_a_model_that_needs_no_labels_is_refused_after_one_more_run(
    honest: Project, tmp_path: Path
) -> None:
    """Its weights come from elsewhere; nothing else refuses it."""
    project = honest.copy(tmp_path / "project")
    project.edit("weights = optimise(x, y, draw)", "weights = np.array([1.2, -0.8, 0.5, 0.0])")
    before = runs(project)

    result = project.autoresearch()

    assert result.returncode == 1, result.output
    assert runs(project) == before + 2
    assert "leakage: not checked: scoring audit (audit.rows)\n" in result.stdout
    failed = messages(project, "failed")
    assert failed.keys() == {"test_shuffled_labels_teach_nothing"}
    (message,) = failed.values()
    told = re.match(
        r"trained on shuffled labels it still gains (\d+)% of what it gains over chance .* at most 10%",
        message,
    )
    assert told, message
    assert 80 < int(told[1]) < 120
    assert "audit" not in message


def test_a_model_that_has_seen_validation_rows_is_refused_without_a_figure_of_the_audit_split(
    tmp_path: Path,
) -> None:
    """The only gate here; the sealed figure stays sealed."""
    stock = (GATES / "test_leakage.py").read_text()
    start = stock.index("def test_validation_is_no_better")
    gate = stock[start : stock.index("\n\n\n", start)]
    project = campaign(tmp_path / "project", [], "[tool.autoresearch.keep]\nbaseline = 2\n", gate)
    project.edit("MEMORY = 0", "MEMORY = 600")
    project.edit("2.0, -2.0", "5.0, -5.0")
    result = project.autoresearch()
    assert result.returncode == 1, result.output
    (message,) = messages(project, "failed").values()
    assert message.startswith(
        "better on validation than on the sealed audit split by more than 6 standard errors"
    )
    assert not re.search(r"\d\.\d", message)
