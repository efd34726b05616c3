"""
The task as the trusted side knows it: prepare.py's functions and the data it wrote, checked against sums.

The contract with prepare.py: ``data/manifest.json`` lists every file below ``data/`` with its SHA-256;
``data/train/`` is all that a run may see; ``data/heldout/<split>/`` holds ``features.npz``, ``labels.npy``,
``cohorts.npz`` and ``rows.npy`` (one content hash per raw row).

What the trusted side uses is what it has checked: the manifest is read once, and every file is held against
it in memory at the moment of use, not only when a session starts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

from .pinned import PinnedSource
from .records import FixedHarnessViolation

if TYPE_CHECKING:
    import numpy as np

    from .sequence import SequenceTask

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["Task", "TaskError", "files_below"]

_PIECE = 1 << 20


class TaskError(Exception):
    """The task is not ready, or not as it must be; the message says what to run or to change."""


class Task:
    """
    Data and formulas of one project, for the trusted side only.

    :param root: project root.
    :param prepare: path of prepare.py, relative to the root.
    :param data: data directory, relative to the root.
    :param source: ratified content of prepare.py; by default the file is read, once.
    """

    def __init__(
        self,
        root: Path,
        prepare: str = "prepare.py",
        data: str = "data",
        source: bytes | None = None,
    ) -> None:
        self.prepare_path = root / prepare
        self.data = root / data
        self._data_name = data
        self._source = source

    @cached_property
    def manifest_bytes(self) -> bytes:
        """
        The data manifest as it stands in its file, which pins every data file.

        :raises TaskError: no data yet.
        """
        try:
            return (self.data / "manifest.json").read_bytes()
        except FileNotFoundError:
            raise TaskError(
                f"no data at {self._data_name!r}: run `python {self.prepare_path.name}` once first"
            ) from None

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """
        The data manifest.

        :raises TaskError: no data yet, or the manifest is not what prepare.py writes.
        """
        try:
            manifest = json.loads(self.manifest_bytes)
            sums = manifest["files"]
            if not all(isinstance(value, str) for value in sums.values()):
                raise TypeError("file sums must be strings")
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
        """SHA-256 of the manifest."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    def require_intact(self, pinned: str | None = None) -> None:
        """
        Check every data file against the manifest, and the manifest against the campaign's pin.

        :raises FixedHarnessViolation: a file is changed, deleted or added.
        """
        if pinned is not None and self.data_sha256 != pinned:
            raise FixedHarnessViolation(
                f"the data at {self._data_name!r} is not the data that the campaign was started on: restore "
                "it, or start a campaign of its own with --autoresearch-tag"
            )
        self._require_intact("")

    def require_intact_view(self) -> None:
        """
        Check the training view: right before a run, which gets the directory itself, and after it.

        :raises FixedHarnessViolation: a file is changed, deleted or added.
        """
        self._require_intact("train/")

    def _require_intact(self, top: str) -> None:
        present = {path.relative_to(self.data).as_posix() for path in files_below(self.data / top)}
        for name in sorted(present - self._sums.keys() - {"manifest.json"}):
            raise FixedHarnessViolation(
                f"{self._data_name}/{name} is not in the data manifest: remove it"
            )
        for name in self._sums:
            if name.startswith(top):
                self._check(name)

    @property
    def _sums(self) -> Mapping[str, str]:
        sums: Mapping[str, str] = self.manifest["files"]
        return sums

    def _check(self, name: str, copy: BinaryIO | None = None) -> None:
        """
        Hold a file against the manifest, and copy what was held against it.

        :raises FixedHarnessViolation: what was read is not what the manifest names.
        """
        digest = hashlib.sha256()
        try:
            # A link or a pipe in its place is neither followed nor waited for.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.data / name, flags)
            try:
                regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
                while regular and (piece := os.read(descriptor, _PIECE)):
                    digest.update(piece)
                    if copy is not None:
                        copy.write(piece)
            finally:
                os.close(descriptor)
            found = digest.hexdigest() if regular else "of no regular file"
        except FileNotFoundError:
            found = "absent"
        except OSError:
            found = "of no regular file"
        if found != self._sums.get(name):
            raise FixedHarnessViolation(
                f"{self._data_name}/{name} does not match the data manifest (sha256 {found[:18]}, "
                f"expected {self._sums.get(name, 'none')[:12]}): run `python {self.prepare_path.name}` again"
            )

    def read(self, name: str) -> bytes:
        """The content of a file below the data directory, as the manifest names it."""
        return self._read(name).getvalue()

    def _read(self, name: str) -> io.BytesIO:
        """A file of the manifest, whole, with the content that the manifest names."""
        content = io.BytesIO()
        self._check(name, content)
        content.seek(0)
        return content

    @property
    def training_view(self) -> Path:
        """The only directory of data that a run may see."""
        return self.data / "train"

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Names of the held-out splits that a model can be scored on: those with labels."""
        found = (re.fullmatch(r"heldout/([^/]+)/labels\.npy", name) for name in self._sums)
        return tuple(sorted(match[1] for match in found if match))

    def has(self, split: str) -> bool:
        """Whether there are examples to score in a split; a task may do without any but ``val``."""
        return split in self.splits and len(self.labels(split)) > 0

    def features(self, split: str) -> dict[str, Array]:
        """Held-out features of a split by name, ``[n, ...]`` each, without labels."""
        return self._arrays(f"heldout/{split}/features.npz")

    def labels(self, split: str) -> Array:
        """Labels ``[n]`` of a held-out split; no sandbox ever sees them."""
        return self._array(f"heldout/{split}/labels.npy")

    def cohorts(self, split: str) -> dict[str, Array]:
        """Protected attribute to group name per row, ``[n]`` each."""
        return self._arrays(f"heldout/{split}/cohorts.npz")

    def row_hashes(self, split: str) -> Array:
        """One content hash per raw row ``[n]``, all original columns."""
        return self._array(f"heldout/{split}/rows.npy")

    def training_features(self) -> dict[str, Array]:
        """Features of the training split by name, ``[n, ...]`` each."""
        return self._arrays("train/features.npz")

    def training_labels(self) -> Array:
        """Labels ``[n]`` of the training split."""
        return self._array("train/labels.npy")

    def index(self, split: str, name: str) -> Array:
        """
        What tells where the rows of a split belong, ``[n]``: a time, a group.

        :raises TaskError: prepare.py has written no such array.
        """
        path = f"heldout/{split}/index.npz"
        arrays = self._arrays(path) if path in self._sums else {}
        if name not in arrays:
            raise TaskError(
                f"{self._data_name}/{path} has no array {name!r} (it has {sorted(arrays)!r}): prepare.py writes it "
                "for every split, or [tool.autoresearch.leakage] does not name it"
            )
        return arrays[name]

    @property
    def rebuilds(self) -> bool:
        """Whether prepare.py can prepare the data again for other labels."""
        return callable(getattr(self._module, "rebuild", None))

    def _array(self, name: str) -> Array:
        import numpy as np

        array: Array = np.load(self._read(name), allow_pickle=False)
        return array

    def _arrays(self, name: str) -> dict[str, Array]:
        import numpy as np

        with np.load(self._read(name), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    @cached_property
    def prepare_source(self) -> bytes:
        """
        The text of prepare.py, for evaluation, a run's snapshot and the scorer alike.

        :raises TaskError: there is none.
        """
        if self._source is not None:
            return self._source
        if not self.prepare_path.is_file():
            raise TaskError(
                f"no {self.prepare_path.name!r} in the project: it defines evaluate() and score()"
            )
        return self.prepare_path.read_bytes()

    @cached_property
    def _module(self) -> ModuleType:
        """prepare.py, ratified and human-written: no shadowing package and no bytecode has a say."""
        loader = PinnedSource("_autoresearch_prepare", str(self.prepare_path), self.prepare_source)
        module = ModuleType(loader.name)
        module.__file__ = loader.path
        loader.exec_module(module)
        return module

    @cached_property
    def sequence(self) -> SequenceTask | None:
        """
        What prepare.py declares of a sequence task; None when it predicts one probability a row.

        :raises TaskError: the declaration is incomplete.
        """
        from .sequence import SequenceTask

        try:
            return SequenceTask.declared(self._module)
        except ValueError as error:
            raise TaskError(str(error)) from error

    def evaluate(
        self, predictions: Array, labels: Array, cohorts: Mapping[str, Array]
    ) -> dict[str, float]:
        """
        Metrics by prepare.py's ``evaluate``, in the trusted process.

        :raises TaskError: they are no aggregates.
        """
        from .compliance.aggregates import aggregates

        try:
            return aggregates(self._module.evaluate(predictions, labels, cohorts))
        except ValueError as error:
            raise TaskError(f"prepare.evaluate() is refused: {error}") from error

    @property
    def has_losses(self) -> bool:
        """Whether there is a loss of each example."""
        return self.sequence is not None or getattr(self._module, "losses", None) is not None

    def losses(self, predictions: Array, labels: Array) -> Array | None:
        """
        The loss of each example ``[n]`` by prepare.py's ``losses``, in the trusted process; None without one.

        A sequence's is the mean cost of its labels in nats where prepare.py does not say otherwise.

        :raises TaskError: what ``losses`` gives is not one finite number an example.
        """
        from .losses import checked
        from .sequence import mean_cost

        function = getattr(self._module, "losses", None)
        if function is None:
            return None if self.sequence is None else mean_cost(predictions, labels)
        try:
            return checked(function(predictions, labels), len(labels))
        except ValueError as error:
            raise TaskError(str(error)) from error


def files_below(directory: Path) -> Iterator[Path]:
    """Everything below a directory that is no directory itself; links are not followed."""
    for path in directory.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path
