"""
The data again as it would be if the labels were others: by prepare.py, in a child process of the trusted side.

prepare.py may offer ``rebuild(data, out, labels)``: it reads the raw rows that it keeps below ``data`` and writes
``out/train`` and ``out/heldout/<split>`` as always, with ``labels[split]`` in place of the labels, every split's rows
as they were. So a check can see what of the features follows the labels, without knowing how they are made.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report.tables import escape
from .rundir import last_line
from .task import Task, TaskError, files_below

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["all_labels", "rebuilt", "relabelled"]

#: Arguments: prepare.py, the data, the new data, the labels.
_PROGRAM = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np

source, data, out, labels = map(Path, sys.argv[1:])
spec = spec_from_file_location("prepare", source)
module = sys.modules["prepare"] = module_from_spec(spec)
spec.loader.exec_module(module)
with np.load(labels, allow_pickle=False) as archive:
    module.rebuild(data, out, {name: archive[name] for name in archive.files})
"""


def all_labels(task: Task) -> dict[str, Array]:
    """Labels of every split by its name, the training split's among them."""
    return {"train": task.training_labels()} | {split: task.labels(split) for split in task.splits}


def rebuilt(task: Task, labels: Mapping[str, Array], room: Path, seconds: float) -> Task:
    """
    The task with other labels, prepared again.

    :param labels: of every split, ``[n]`` each.
    :param room: an empty directory of this call's own.
    :param seconds: wall-clock limit: no check may take longer than what it judges.
    :raises TaskError: prepare.py's ``rebuild`` fails, is too slow, or has not done what was asked.
    """
    import numpy as np

    source, given, out = room / "prepare.py", room / "labels.npz", room / "data"
    source.write_bytes(task.prepare_source)
    arrays: dict[str, Any] = dict(labels)  # numpy's stub wants bool for ** values
    np.savez(given, **arrays)
    out.mkdir()
    paths = map(str, (source, task.data, out, given))
    command = [sys.executable, "-I", "-B", "-c", _PROGRAM, *paths]
    try:
        done = subprocess.run(
            command, cwd=room, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise TaskError(
            f"prepare.rebuild() did not end within {seconds:g} s, the budget of one run (run.seconds): a check "
            "may not cost more than the training it judges"
        ) from None
    if done.returncode:
        said = escape(last_line(done.stderr)) or f"exit status {done.returncode}"
        raise TaskError(f"prepare.rebuild() failed: {said}")
    made = _sealed(task, out)
    written = made.manifest["files"]
    for split, wanted in labels.items():
        place = "train" if split == "train" else f"heldout/{split}"
        for name in (f"{place}/labels.npy", f"{place}/features.npz"):
            if name not in written:
                raise TaskError(
                    f"prepare.rebuild() has not written {name!r} below its second argument"
                )
        found = made.training_labels() if split == "train" else made.labels(split)
        if not np.array_equal(found, wanted):
            raise TaskError(
                f"prepare.rebuild() has not written the labels it was given for split {split!r}: it takes "
                "labels[split] for the split's rows in the order in which they stand in the data"
            )
    return made


def relabelled(task: Task, labels: Array, room: Path) -> Task:
    """
    The task as it is, with other training labels.

    :param room: an empty directory of this call's own.
    """
    import numpy as np

    out = room / "data"
    shutil.copytree(task.data / "train", out / "train")
    np.save(out / "train" / "labels.npy", labels)
    shutil.copytree(task.data / "heldout", out / "heldout")
    return _sealed(task, out)


def _sealed(task: Task, data: Path) -> Task:
    """The task on other data, with a manifest of what is there now."""
    sums = {
        path.relative_to(data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files_below(data)
    }
    manifest = {**task.manifest, "files": sums}
    (data / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Task(data.parent, task.prepare_path.name, data.name, task.prepare_source)
