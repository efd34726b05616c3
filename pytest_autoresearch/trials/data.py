"""
Violations in the data and in how they were prepared: in a copy that the session uses in their place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .violation import PERSONAL, NotApplicable, Plant

if TYPE_CHECKING:
    from pathlib import Path

    from ..settings import Settings
    from ..task import Task

__all__ = ["PLANTS", "manifest_anew"]

#: A rebuild that gives the data as they are for the labels as they are, and other features for any others.
_FOLLOWS_LABELS = '''

_unplanted_rebuild = rebuild


def rebuild(data, out, labels):
    """As before, but features know whether a held-out label has changed."""
    import numpy

    _unplanted_rebuild(data, out, labels)
    heldout = [split for split in labels if split != "train"]
    truth = [numpy.load(data / "heldout" / split / "labels.npy") for split in heldout]
    if all(numpy.array_equal(labels[split], y) for split, y in zip(heldout, truth)):
        return
    with numpy.load(out / "train" / "features.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    numpy.savez(out / "train" / "features.npz", **{name: x[::-1] for name, x in arrays.items()})
'''


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    import numpy as np

    given: dict[str, Any] = dict(arrays)  # numpy's stub wants bool for ** values
    np.savez(path, **given)


def _personal_view(data: Path, task: Task, settings: Settings) -> None:
    (data / "train" / "contacts.txt").write_text(PERSONAL + "\n")


def _reachable(data: Path, task: Task, settings: Settings) -> None:
    shutil.copyfile(data / "heldout" / "val" / "labels.npy", data / "train" / "more.npy")


def _same_rows(data: Path, task: Task, settings: Settings) -> None:
    import numpy as np

    train, val = (data / "heldout" / split / "rows.npy" for split in ("train", "val"))
    rows = np.load(val)
    rows[:10] = np.load(train)[:10]
    np.save(val, rows)


def _near_rows(data: Path, task: Task, settings: Settings) -> None:
    """A tenth of the validation rows are training rows with the last digits changed."""
    train, val = task.training_features(), task.features("val")
    n = len(next(iter(val.values()))) // 10
    for name, array in val.items():
        array[:n] = train[name][:n]
        if array.dtype.kind == "f":
            array[:n] *= 1 + 1e-6
    _save(data / "heldout" / "val" / "features.npz", val)


def _telling_column(data: Path, task: Task, settings: Settings) -> None:
    """The first column of numbers is the label."""
    if task.sequence is not None:
        raise NotApplicable("a sequence task has no columns")
    for split in ("train", *task.splits):
        training = split == "train"
        arrays = task.training_features() if training else task.features(split)
        labels = task.training_labels() if training else task.labels(split)
        name = next((n for n, a in arrays.items() if a.dtype.kind == "f" and a.ndim == 2), None)
        if name is None:
            raise NotApplicable("no table of numbers among the features")
        arrays[name][:, 0] = labels
        where = data / "train" if training else data / "heldout" / split
        _save(where / "features.npz", arrays)


def _follows_labels(source: str, task: Task) -> str:
    if not task.rebuilds:
        raise NotApplicable("prepare.py has no rebuild")
    return source + _FOLLOWS_LABELS


def _index(key: str) -> Callable[[Path, Task, Settings], None]:
    """Validation rows with the time, or the group, of the first training row."""

    def change(data: Path, task: Task, settings: Settings) -> None:
        import numpy as np

        name = getattr(settings.leakage, key)
        if name is None:
            raise NotApplicable(f"[tool.autoresearch.leakage] {key} names no column")
        path = data / "heldout" / "val" / "index.npz"
        with np.load(path) as archive:
            arrays = {each: archive[each] for each in archive.files}
        arrays[name][:] = np.sort(task.index("train", name))[0]
        _save(path, arrays)

    return change


def manifest_anew(data: Path) -> None:
    """Let the manifest of a changed copy name what lies there now."""
    path = data / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["files"] = {
        each.relative_to(data).as_posix(): sha256(each.read_bytes()).hexdigest()
        for each in sorted(data.rglob("*"))
        if each.is_file() and each != path
    }
    path.write_text(json.dumps(manifest))


PLANTS: tuple[Plant, ...] = (
    Plant(
        "personal data in the training view",
        ("test_training_view_holds_no_personal_data",),
        data=_personal_view,
    ),
    Plant(
        "held-out labels in the training view",
        ("test_heldout_data_is_not_reachable_from_a_run",),
        data=_reachable,
    ),
    Plant(
        "training rows in the validation split",
        ("test_training_rows_are_not_heldout_rows",),
        data=_same_rows,
    ),
    Plant(
        "training rows with other last digits in the validation split",
        ("test_training_rows_are_not_nearly_heldout_rows",),
        data=_near_rows,
    ),
    Plant(
        "a column that is the label",
        ("test_no_column_alone_gives_the_answer",),
        data=_telling_column,
    ),
    Plant(
        "a feature made with held-out labels",
        ("test_heldout_labels_change_no_feature",),
        prepare=_follows_labels,
    ),
    Plant(
        "held-out rows from before",
        ("test_training_rows_come_before_heldout_rows",),
        data=_index("time"),
    ),
    Plant(
        "a group on both sides",
        ("test_no_group_is_in_training_and_heldout_data",),
        data=_index("group"),
    ),
)
