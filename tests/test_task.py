"""The task's data held against its manifest, and prepare.py imported for what it says."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import py_compile
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from project import Project

from pytest_autoresearch.records import FixedHarnessViolation
from pytest_autoresearch.task import Task, TaskError
from pytest_autoresearch.training_view import TrainingView


def halt(project: Project, pinned: str | None = None) -> str:
    with pytest.raises(FixedHarnessViolation) as halted:
        Task(project.root).require_intact(pinned)
    return str(halted.value)


def enter(project: Project, path: Path) -> None:
    """Give a file's present sum to the manifest."""
    manifest = project.root / "data/manifest.json"
    content = json.loads(manifest.read_text())
    name = path.relative_to(project.root / "data").as_posix()
    content["files"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))


def test_data_as_prepared_is_intact(project: Project) -> None:
    task = Task(project.root)
    task.require_intact()
    task.require_intact(Task(project.root).data_sha256)
    assert task.name == "toy"


def test_a_changed_file_is_named(project: Project) -> None:
    path = project.root / "data/heldout/val/labels.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    message = halt(project)
    assert message.startswith("SYSTEM HALT: data/heldout/val/labels.npy does not match the data")
    assert "`python prepare.py` again" in message


def test_an_added_file_is_named(project: Project) -> None:
    project.write("data/train/labels_of_val.npy", "")
    assert "data/train/labels_of_val.npy is not in the data manifest: remove it" in halt(project)


@pytest.mark.parametrize("target", ["../heldout/val", "../heldout/val/labels.npy", "nowhere"])
def test_an_added_symlink_is_named_whatever_it_points_to(project: Project, target: str) -> None:
    (project.root / "data/train/more").symlink_to(target)
    assert "data/train/more is not in the data manifest" in halt(project)


def test_a_missing_file_is_named(project: Project) -> None:
    (project.root / "data/train/labels.npy").unlink()
    assert "data/train/labels.npy does not match the data manifest (sha256 absent" in halt(project)


def test_a_file_replaced_by_a_link_to_its_twin_is_named(project: Project) -> None:
    path = project.root / "data/train/labels.npy"
    twin = project.root.parent / "twin.npy"
    path.rename(twin)
    path.symlink_to(twin)
    assert "data/train/labels.npy does not match the data manifest (sha256 of no regular file" in (
        halt(project)
    )


def test_a_directory_replaced_by_a_link_is_named(project: Project) -> None:
    path = project.root / "data/train"
    twin = project.root.parent / "twin"
    path.rename(twin)
    path.symlink_to(twin)
    assert "data/train" in halt(project)


def test_nobody_waits_for_a_pipe_in_place_of_a_file(project: Project) -> None:
    path = project.root / "data/train/labels.npy"
    path.unlink()
    os.mkfifo(path)
    assert "data/train/labels.npy does not match the data manifest (sha256 of no regular file" in (
        halt(project)
    )


def test_data_of_another_campaign_is_refused_even_when_it_is_consistent(project: Project) -> None:
    pinned = Task(project.root).data_sha256
    path = project.root / "data/manifest.json"
    path.write_text(path.read_text() + "\n")
    Task(project.root).require_intact()
    message = halt(project, pinned)
    assert "is not the data that the campaign was started on" in message
    assert "--autoresearch-tag" in message


def test_no_data_says_what_to_run(project: Project) -> None:
    (project.root / "data/manifest.json").unlink()
    with pytest.raises(TaskError, match=r"no data at 'data': run `python prepare\.py` once first"):
        Task(project.root).require_intact()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"files": []}', '{"files": {"a": 1}}', '"x"', "\udc00", '{"files": null}'],
)
def test_a_manifest_that_is_none_says_what_to_run(project: Project, text: str) -> None:
    path = project.root / "data/manifest.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(
        TaskError, match=r"is not a data manifest .*: run `python prepare\.py` again"
    ):
        _ = Task(project.root).manifest


def test_a_task_without_a_name_is_called_after_its_project(project: Project) -> None:
    path = project.root / "data/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["task"]
    path.write_text(json.dumps(manifest))
    assert Task(project.root).name == "project"


# -- what stands in it ---------------------------------------------------------


def test_labels_cohorts_and_features_of_a_split_belong_together(project: Project) -> None:
    task = Task(project.root)
    labels, cohorts = task.labels("val"), task.cohorts("val")
    assert labels.shape == (1500,)
    assert {name: groups.shape for name, groups in cohorts.items()} == {
        "sex": (1500,),
        "race": (1500,),
    }
    assert task.features("val")["x"].shape == (1500, 4)
    assert task.training_labels().shape == task.row_hashes("train").shape == (1200,)


def test_a_split_is_there_if_it_has_labels_and_is_not_empty(project: Project) -> None:
    task = Task(project.root)
    assert task.splits == ("audit", "test", "val")
    assert task.has("audit")
    assert not task.has("train")
    assert not task.has("held")

    path = project.root / "data/heldout/audit/labels.npy"
    np.save(path, np.zeros(0, dtype=np.int8))
    enter(project, path)
    assert not Task(project.root).has("audit")
    assert Task(project.root).has("val")

    manifest = project.root / "data/manifest.json"
    content = json.loads(manifest.read_text())
    content["files"] = {k: v for k, v in content["files"].items() if "/audit/" not in k}
    manifest.write_text(json.dumps(content))
    assert Task(project.root).splits == ("test", "val")
    assert not Task(project.root).has("audit")


def test_pickled_labels_are_refused(project: Project) -> None:
    """Even where the manifest names them: a person may have made a mistake."""
    path = project.root / "data/heldout/val/labels.npy"
    np.save(path, np.array([{}, {}], dtype=object), allow_pickle=True)
    enter(project, path)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Task(project.root).labels("val")


READERS: dict[str, Callable[[Task], object]] = {
    "heldout/val/labels.npy": lambda task: task.labels("val"),
    "heldout/val/cohorts.npz": lambda task: task.cohorts("val"),
    "heldout/val/features.npz": lambda task: task.features("val"),
    "heldout/train/rows.npy": lambda task: task.row_hashes("train"),
    "train/labels.npy": lambda task: task.training_labels(),
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_exchanged_after_the_check_is_not_what_is_used(project: Project, name: str) -> None:
    """Not its content, which NumPy alone would have taken, and not what a link leads to."""
    task = Task(project.root)
    task.require_intact()
    READERS[name](task)
    path = project.root / "data" / name
    if name.endswith(".npy"):
        before = np.load(path)
        np.save(path, before[::-1])
        assert len(np.load(path)) == len(before)
    else:
        with np.load(path) as archive:
            arrays = {key: archive[key][::-1] for key in archive.files}
        np.savez(path, **arrays)
    with pytest.raises(FixedHarnessViolation, match=rf"data/{name} does not match the data manif"):
        READERS[name](task)
    twin = project.root.parent / "twin"
    path.rename(twin)
    path.symlink_to(twin)
    with pytest.raises(FixedHarnessViolation, match=r"sha256 of no regular file"):
        READERS[name](task)
    path.unlink()
    with pytest.raises(FixedHarnessViolation, match=r"sha256 absent"):
        READERS[name](task)


def test_a_manifest_exchanged_after_the_check_is_not_what_is_used(project: Project) -> None:
    task = Task(project.root)
    task.require_intact()
    path = project.root / "data/heldout/val/labels.npy"
    np.save(path, np.load(path)[::-1])
    enter(project, path)
    Task(project.root).require_intact()
    with pytest.raises(FixedHarnessViolation, match="does not match the data manifest"):
        task.labels("val")
    assert task.data_sha256 != Task(project.root).data_sha256


def test_the_training_view_alone_is_checked_around_a_run(project: Project) -> None:
    task = Task(project.root)
    task.require_intact_view()
    project.write("data/heldout/val/labels.npy", "not of this check")
    task.require_intact_view()
    schema = project.read("data/train/schema.json")
    project.write("data/train/schema.json", "{}")
    with pytest.raises(FixedHarnessViolation, match=r"data/train/schema\.json does not match"):
        task.require_intact_view()
    project.write("data/train/schema.json", schema)
    project.write("data/train/hint.npy", "")
    with pytest.raises(FixedHarnessViolation, match=r"data/train/hint\.npy is not in the data"):
        task.require_intact_view()


def test_the_training_view_is_clean(project: Project) -> None:
    view = TrainingView(Task(project.root))
    assert view.files == ("features.npz", "labels.npy", "schema.json")
    assert view.heldout_splits() == ("audit", "test", "val")
    assert [view.overlap(split) for split in view.heldout_splits()] == [0, 0, 0]
    assert view.labels_reachable() == ()


def test_heldout_files_are_found_in_the_view_by_content_or_as_links(project: Project) -> None:
    labels = (project.root / "data/heldout/val/labels.npy").read_bytes()
    (project.root / "data/train/innocent.bin").write_bytes(labels)
    (project.root / "data/train/linked.npy").symlink_to("labels.npy")
    (project.root / "data/train/dangling").symlink_to("nowhere")
    (project.root / "data/train/heldout").symlink_to("../heldout")
    view = TrainingView(Task(project.root))
    assert view.labels_reachable() == ("dangling", "heldout", "innocent.bin", "linked.npy")


# -- prepare.py ----------------------------------------------------------------


def test_the_formula_is_the_one_of_prepare(project: Project) -> None:
    task = Task(project.root)
    labels = np.array([0, 1, 1, 0])
    metrics = task.evaluate(np.array([0.5, 0.5, 0.5, 0.5]), labels, {})
    assert metrics == {"val_loss": pytest.approx(np.log(2)), "accuracy": 0.5}
    assert all(type(value) is float for value in metrics.values())


def test_a_package_does_not_shadow_prepare(project: Project) -> None:
    project.write("prepare/__init__.py", "raise SystemExit('owned')")
    assert Task(project.root).evaluate(np.array([0.5]), np.array([1]), {})["accuracy"] == 0.0


def test_prepare_is_what_was_ratified_for_the_formula_and_for_the_sandboxes(
    project: Project,
) -> None:
    source = (project.root / "prepare.py").read_bytes()
    project.write("prepare.py", "def evaluate(*_): return {'val_loss': 0.11}\n")
    task = Task(project.root, source=source)
    metrics = task.evaluate(np.array([0.5]), np.array([1]), {})
    assert metrics["val_loss"] == pytest.approx(np.log(2))
    assert task.prepare_source == source
    # The control: without it, the file as it stands.
    assert Task(project.root).evaluate(np.array([0.5]), np.array([1]), {}) == {"val_loss": 0.11}


def test_prepare_is_read_once(project: Project) -> None:
    task = Task(project.root)
    source = task.prepare_source
    project.write("prepare.py", "def evaluate(*_): return {'val_loss': 0.11}\n")
    metrics = task.evaluate(np.array([0.5]), np.array([1]), {})
    assert metrics["val_loss"] == pytest.approx(np.log(2))
    assert task.prepare_source == source


def test_forged_bytecode_of_prepare_is_not_run(project: Project) -> None:
    source = project.root / "prepare.py"
    cache = Path(str(py_compile.compile(str(source), doraise=True)))
    forged = compile("def evaluate(*_): return {'val_loss': 0.11}", "prepare.py", "exec")
    cache.write_bytes(cache.read_bytes()[:16] + marshal.dumps(forged))
    metrics = Task(project.root).evaluate(np.array([0.5]), np.array([1]), {})
    assert metrics["val_loss"] == pytest.approx(np.log(2))


def test_no_bytecode_of_prepare_is_left_behind(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    Task(project.root).evaluate(np.array([0.5]), np.array([1]), {})
    assert not (project.root / "__pycache__").exists()


def test_without_prepare_the_error_says_what_it_is_for(project: Project) -> None:
    (project.root / "prepare.py").unlink()
    with pytest.raises(TaskError, match=r"no 'prepare\.py' in the project: it defines evaluate"):
        Task(project.root).evaluate(np.array([0.5]), np.array([1]), {})
