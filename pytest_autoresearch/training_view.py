"""
The training view for gates: what a run can see of the data, and that nothing held out is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from .task import Task, files_below

__all__ = ["TrainingView"]


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
        found = files_below(self.directory)
        return tuple(sorted(path.relative_to(self.directory).as_posix() for path in found))

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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
