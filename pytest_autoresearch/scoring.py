"""
Scoring: a second, fresh sandbox that sees the artifact and held-out features. Labels stay here.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifact import UntrustedFileError, read_predictions
from .rundir import fresh, last_line, remove, tail_of, write_readonly
from .sandbox import Isolation, LaunchSpec, SandboxProcess, closed_environment, launch

if TYPE_CHECKING:
    import numpy as np

    from .config import Run, Settings
    from .records import RunResult
    from .task import Task

__all__ = ["Scoring", "ScoringError"]


class ScoringError(Exception):
    """The artifact could not be scored; one sentence that says why."""


class Scoring:
    """Scores artifacts of one project."""

    def __init__(self, settings: Settings, task: Task, isolation: Isolation) -> None:
        self._settings = settings
        self._task = task
        self._isolation = isolation
        self._scorer: _Scorer | None = None

    @contextmanager
    def warm(self, workdir: Path, split: str) -> Iterator[None]:
        """Start the scorer of ``split`` now, so that it has imported torch when the training ends."""
        with self._start(workdir, split) as scorer:
            self._scorer = scorer
            try:
                yield
            finally:
                self._scorer = None

    def score(self, result: RunResult, workdir: Path, split: str) -> np.ndarray[Any, Any]:
        """
        Predictions ``[n]`` in [0, 1] of a run's artifact on the held-out features of ``split``.

        :raises ScoringError: no artifact, the scorer failed, or what it wrote are no predictions.
        """
        if result.artifact is None:
            raise ScoringError(result.reason)
        if self._scorer is not None:
            return self._scorer.score(result.artifact)
        with self._start(workdir, split) as scorer:
            return scorer.score(result.artifact)

    def _start(self, workdir: Path, split: str) -> _Scorer:
        # The features are copied to where no label lies beside them.
        directory = fresh(workdir / "scoring")
        inputs = write_readonly(directory / "inputs", {"prepare.py": self._task.prepare_source})
        for source in (self._task.features_path(split), Path(__file__).with_name("scorer.py")):
            shutil.copyfile(source, inputs / source.name)
        rows = len(self._task.labels(split))
        return _Scorer(self._settings.run, directory, rows=rows, isolation=self._isolation)


class _Scorer:
    """A scoring process, waiting for an artifact."""

    def __init__(self, run: Run, directory: Path, *, rows: int, isolation: Isolation) -> None:
        self._directory = directory
        # The sandbox is there before the artifact is: it is laid where the scorer already looks.
        self._inbox = fresh(directory / "inbox")
        self._rows = rows
        self._output = fresh(directory / "out") / "predictions.npy"
        self._log = directory / "score.log"
        inputs, scratch = directory / "inputs", fresh(directory / "scratch")
        self._process: SandboxProcess = launch(
            LaunchSpec(
                argv=(
                    sys.executable,
                    "-I",
                    "-B",
                    str(inputs / "scorer.py"),
                    str(inputs),
                    str(self._output),
                ),
                cwd=scratch,
                env=closed_environment(scratch, threads=run.threads),
                readonly=(inputs, self._inbox),
                writable=(self._output.parent, scratch),
                # It waits for the training first; its own work is bounded by score_seconds.
                seconds=run.seconds + run.score_seconds,
                output_cap=64 << 10,
                log=self._log,
                stdin=True,
                isolation=isolation,
            )
        )

    def __enter__(self) -> _Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.close()
        remove(self._directory)

    def score(self, artifact: Path) -> np.ndarray[Any, Any]:
        """Hand over the artifact and read back the predictions as hostile data."""
        delivered = self._inbox / artifact.name
        shutil.copyfile(artifact, delivered)
        self._process.send_line(str(delivered).encode())
        usage = self._process.wait()
        if usage.timed_out:
            raise ScoringError("scoring did not end in its time budget")
        if usage.returncode != 0:
            raise ScoringError(
                f"scoring failed: {last_line(tail_of(self._log)) or usage.returncode}"
            )
        try:
            return read_predictions(self._output, self._rows)
        except UntrustedFileError as error:
            raise ScoringError(f"the model's predictions are refused: {error}") from error
