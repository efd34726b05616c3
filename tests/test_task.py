"""The task's data held against its manifest, and prepare.py imported for what it says."""

from __future__ import annotations

import json
import marshal
import os
import py_compile
import sys
from pathlib import Path

import numpy as np
import pytest
from project import Project

from pytest_autoresearch.records import FixedHarnessViolation
from pytest_autoresearch.task import Task, TaskError, TrainingView


def halt(project: Project, pinned: str | None = None) -> str:
    with pytest.raises(FixedHarnessViolation) as halted:
        Task(project.root).require_intact(pinned)
    return str(halted.value)


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
    with np.load(task.features_path("val")) as features:
        assert len(features["x"]) == 1500
    assert task.training_labels().shape == task.row_hashes("train").shape == (1200,)


def test_pickled_labels_are_refused(project: Project) -> None:
    labels = np.array([{}, {}], dtype=object)
    np.save(project.root / "data/heldout/val/labels.npy", labels, allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Task(project.root).labels("val")


def test_the_training_view_is_clean(project: Project) -> None:
    view = TrainingView(Task(project.root))
    assert view.files == ("features.npz", "labels.npy", "schema.json")
    assert view.findings() == []
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
