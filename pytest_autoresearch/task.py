"""
The task as the trusted side knows it: prepare.py's functions and the data it wrote, checked against sums.

The contract with prepare.py: ``data/manifest.json`` lists every file below ``data/`` with its SHA-256;
``data/train/`` is all that a run may see; ``data/heldout/<split>/`` holds ``features.npz``, ``labels.npy``,
``cohorts.npz`` and ``rows.npy`` (one content hash per raw row).
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import json
import stat
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from .records import FixedHarnessViolation

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["Task", "TaskError"]


class TaskError(Exception):
    """The task is not ready; the message says what to run."""


class Task:
    """
    Data and formulas of one project, for the trusted side only.

    :param root: project root.
    :param prepare: path of prepare.py, relative to the root.
    :param data: data directory, relative to the root.
    """

    def __init__(self, root: Path, prepare: str = "prepare.py", data: str = "data") -> None:
        self.prepare_path = root / prepare
        self.data = root / data
        self._data_name = data

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """
        The data manifest.

        :raises TaskError: no data yet, or the manifest is not what prepare.py writes.
        """
        path = self.data / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            sums = manifest["files"]
            if not all(isinstance(value, str) for value in sums.values()):
                raise TypeError("file sums must be strings")
        except FileNotFoundError:
            raise TaskError(
                f"no data at {self._data_name!r}: run `python {self.prepare_path.name}` once first"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TaskError(
                f"{self._data_name}/manifest.json is not a data manifest ({error}): "
                f"run `python {self.prepare_path.name}` again"
            ) from error
        return dict(manifest)

    @property
    def name(self) -> str:
        """The task's name, as prepare.py gave it."""
        return str(self.manifest.get("task", self.data.parent.name))

    @cached_property
    def data_sha256(self) -> str:
        """SHA-256 of the manifest, which pins every data file."""
        return hashlib.sha256((self.data / "manifest.json").read_bytes()).hexdigest()

    def require_intact(self, pinned: str | None = None) -> None:
        """
        Check every data file against the manifest, and the manifest against the campaign's pin.

        :raises FixedHarnessViolation: a file is changed, deleted or added.
        """
        sums: Mapping[str, str] = self.manifest["files"]
        if pinned is not None and self.data_sha256 != pinned:
            raise FixedHarnessViolation(
                f"the data at {self._data_name!r} is not the data that the campaign was started on: restore "
                "it, or start a campaign of its own with --autoresearch-tag"
            )
        present = {path.relative_to(self.data).as_posix() for path in _files(self.data)}
        for name in sorted(present - sums.keys() - {"manifest.json"}):
            raise FixedHarnessViolation(
                f"{self._data_name}/{name} is not in the data manifest: remove it"
            )
        for name, expected in sums.items():
            path = self.data / name
            try:
                # A link or a pipe in its place is neither followed nor waited for.
                regular = stat.S_ISREG(path.lstat().st_mode)
                found = _sha256(path) if regular else "of no regular file"
            except OSError:
                found = "absent"
            if found != expected:
                raise FixedHarnessViolation(
                    f"{self._data_name}/{name} does not match the data manifest (sha256 {found[:18]}, "
                    f"expected {expected[:12]}): run `python {self.prepare_path.name}` again"
                )

    @property
    def training_view(self) -> Path:
        """The only directory of data that a run may see."""
        return self.data / "train"

    def features_path(self, split: str) -> Path:
        """Held-out features of a split, without labels."""
        return self.data / "heldout" / split / "features.npz"

    def labels(self, split: str) -> Array:
        """Labels ``[n]`` of a held-out split; no sandbox ever sees them."""
        import numpy as np

        labels: Array = np.load(self.data / "heldout" / split / "labels.npy", allow_pickle=False)
        return labels

    def cohorts(self, split: str) -> dict[str, Array]:
        """Protected attribute to group name per row, ``[n]`` each."""
        import numpy as np

        with np.load(self.data / "heldout" / split / "cohorts.npz", allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def row_hashes(self, split: str) -> Array:
        """One content hash per raw row ``[n]``, all original columns."""
        import numpy as np

        rows: Array = np.load(self.data / "heldout" / split / "rows.npy", allow_pickle=False)
        return rows

    def training_labels(self) -> Array:
        """Labels ``[n]`` of the training split."""
        import numpy as np

        labels: Array = np.load(self.training_view / "labels.npy", allow_pickle=False)
        return labels

    @property
    def prepare_source(self) -> bytes:
        """The text of prepare.py, as a run's snapshot and the scorer get it."""
        return self.prepare_path.read_bytes()

    @cached_property
    def _module(self) -> ModuleType:
        """prepare.py, ratified and human-written, imported by file: a shadowing package has no say."""
        if not self.prepare_path.is_file():
            raise TaskError(
                f"no {self.prepare_path.name!r} in the project: it defines evaluate() and score()"
            )
        loader = _SourceOnly("_autoresearch_prepare", str(self.prepare_path))
        module = ModuleType(loader.name)
        module.__file__ = loader.path
        loader.exec_module(module)
        return module

    def evaluate(
        self, predictions: Array, labels: Array, cohorts: Mapping[str, Array]
    ) -> dict[str, float]:
        """Metrics by prepare.py's ``evaluate``, in the trusted process."""
        metrics = self._module.evaluate(predictions, labels, cohorts)
        return {str(name): float(value) for name, value in metrics.items()}


class _SourceOnly(importlib.machinery.SourceFileLoader):
    """Imports without the bytecode cache, which whoever writes the work tree can forge."""

    def path_stats(self, path: str) -> NoReturn:
        """Raise, as for a source whose age is unknown: no cache is read or written then."""
        raise OSError(f"no bytecode for {path!r}")


class TrainingView:
    """
    What a run can see of the data, for gates that judge it.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.directory = task.training_view

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files a run can open, relative to ``directory``."""
        found = _files(self.directory)
        return tuple(sorted(path.relative_to(self.directory).as_posix() for path in found))

    def findings(self) -> list[str]:
        """Personal data found in column names or values, masked; empty when the view is clean."""
        from .compliance.pii import scan_directory

        return [str(finding) for finding in scan_directory(self.directory)]

    def overlap(self, split: str) -> int:
        """Training rows that equal a row of a held-out split, over all raw columns."""
        from .compliance.leakage import overlap

        return overlap(self._task.row_hashes("train"), self._task.row_hashes(split))

    def heldout_splits(self) -> tuple[str, ...]:
        """The splits that no run may see."""
        return tuple(sorted(set(self._task.manifest["splits"]) - {"train"}))

    def labels_reachable(self) -> tuple[str, ...]:
        """Held-out files inside the training view, by content, and what is no file: must be empty."""
        sums: Mapping[str, str] = self._task.manifest["files"]
        held = {digest for name, digest in sums.items() if name.startswith("heldout/")}
        reachable = []
        for name in self.files:
            path = self.directory / name
            if path.is_symlink() or not path.is_file() or _sha256(path) in held:
                reachable.append(name)
        return tuple(reachable)


def _files(directory: Path) -> Iterator[Path]:
    """Everything below a directory that is no directory itself; links are not followed."""
    for path in directory.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
