"""
Scoring: fresh sandboxes that see the artifact and held-out features. Labels stay here.

Two scorers wait while a run trains. The first scores every example. Only when its process is gone does the
second get the artifact and its part of the examples: nothing that the first may have left somewhere is there
any more. See :mod:`pytest_autoresearch.audit` for what the second is for.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifact import UntrustedFileError, read_logits, read_predictions
from .audit import draw, secret_generator
from .capacity import memory_limit_mb
from .pool import pool
from .rundir import fresh, last_line, remove, tail_of, write_readonly
from .sandbox import Isolation, LaunchSpec, SandboxProcess, closed_environment, launch
from .sequence import label_log_probabilities
from .task import TaskError
from .wall import Wall

if TYPE_CHECKING:
    import numpy as np

    from .records import RunResult
    from .sequence import SequenceTask
    from .settings import Settings
    from .task import Task

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["PeekingError", "Scorers", "Scoring", "ScoringError"]

PIECE = 64 << 20
"""Bytes of logits that a sequence task's scorer writes at a time."""
FEATURES = 256 << 20
"""Bytes of features that a scorer's model gets at a time."""
POLL = 0.002
"""Seconds between two looks for a piece."""


class ScoringError(Exception):
    """The artifact could not be scored, or its predictions are not believed; one sentence that says why."""


class PeekingError(ScoringError):
    """The scoring audit: predictions that owe something to other examples or to what comes later."""


class Scoring:
    """Scores artifacts of one project; holds nothing of a run, so that several may be scored at a time."""

    def __init__(self, settings: Settings, task: Task, isolation: Isolation) -> None:
        self._settings = settings
        self._task = task
        self._isolation = isolation

    @contextmanager
    def warm(self, workdir: Path, *, patience: float = 0.0) -> Iterator[Scorers]:
        """
        Start the scorers of one run now, so that they have imported torch when its training ends.

        :param workdir: a directory of this run's own, in which no other is scored at the same time.
        :param patience: seconds that they may have to wait besides the training: for other runs' scoring.
        """
        with ExitStack() as stack:
            scorers = tuple(
                stack.enter_context(scorer) for scorer in self._start(workdir, patience)
            )
            scorers[0].get_ready()
            yield Scorers(self._settings, self._task, scorers)

    def _start(self, workdir: Path, patience: float) -> Iterator[_Scorer]:
        audit = self._settings.audit
        audited = audit.rows or (audit.prefixes and self._task.sequence is not None)
        for name in ("scoring", "audit") if audited else ("scoring",):
            directory = fresh(workdir / name)
            prepare = self._task.prepare_source
            yield _Scorer(self._settings, directory, prepare, self._isolation, patience)


class Scorers:
    """The scorers of one run, waiting for its artifact; they score it once."""

    def __init__(self, settings: Settings, task: Task, scorers: tuple[_Scorer, ...]) -> None:
        self._settings = settings
        self._task = task
        self._scorers = scorers

    def score(self, result: RunResult, splits: tuple[str, ...]) -> Mapping[str, Array]:
        """
        Predictions of a run's artifact on the held-out features of each split, audited.

        Probabilities ``[n]``, or log-probabilities ``[n, T]`` of the labels of a sequence task. The examples
        of all splits are scored, and audited, together and mixed: see :mod:`pytest_autoresearch.pool`.

        :raises ScoringError: no artifact, a scorer failed, what it wrote are no predictions, or they owe
            something to other examples or to tokens that come later.
        :raises TaskError: the held-out data is not as prepare.py declares it, or differs between splits.
        """
        if result.artifact is None:
            raise ScoringError(result.reason)
        sequence = self._task.sequence
        given = pool(self._task, splits)
        features, labels = given.features, given.labels
        if sequence is not None:
            try:
                sequence.check(features, labels)
            except ValueError as error:
                raise TaskError(f"the held-out data is not as declared: {error}") from error
        first, *second = self._scorers
        for scorer in second:
            scorer.get_ready()
        predictions = first.score(result.artifact, features, labels, sequence)
        audit = self._settings.audit
        check = draw(features, labels, audit, sequence, secret_generator())
        if check is not None:
            again = second[0].score(result.artifact, check.features, labels[check.source], sequence)
            if problem := check.problem(predictions, again, audit.tolerance):
                raise PeekingError(problem)
        return given.apart(predictions)


class _Scorer:
    """A scoring process, waiting for an artifact."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        prepare: bytes,
        isolation: Isolation,
        patience: float,
    ) -> None:
        run = settings.run
        self._directory = directory
        self._seconds = run.score_seconds
        # The sandbox is there before the artifact is: it is laid where the scorer already looks.
        self._inbox = fresh(directory / "inbox")
        self._output = fresh(directory / "out") / "predictions.npy"
        self._log = directory / "score.log"
        program = Path(__file__).with_name("scorer.py")
        inputs = write_readonly(
            directory / "inputs", {"prepare.py": prepare, program.name: program.read_bytes()}
        )
        scratch = fresh(directory / "scratch")
        self._process: SandboxProcess = launch(
            LaunchSpec(
                argv=(
                    sys.executable,
                    "-I",
                    "-B",
                    str(inputs / program.name),
                    str(inputs),
                    str(self._output),
                ),
                cwd=scratch,
                env=closed_environment(scratch, threads=run.threads),
                readonly=(inputs, self._inbox),
                writable=(self._output.parent, scratch),
                # It waits first: for the training, and the second scorer for the first one.
                seconds=patience + run.warmup_seconds + run.seconds + 2 * run.score_seconds,
                output_cap=64 << 10,
                log=self._log,
                memory_cap_mb=memory_limit_mb(run.memory_mb),
                disk_cap_mb=run.disk_mb,
                files_cap=run.files,
                file_cap_mb=run.disk_mb,
                processes=run.processes,
                stdin=True,
                isolation=isolation,
                launcher=Wall.choose(settings, isolation).launcher,
            )
        )

    def __enter__(self) -> _Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        remove(self._directory)

    def get_ready(self) -> None:
        """Let it import what it needs now, if it has not yet."""
        self._process.send_line(b"get ready")

    def score(
        self,
        artifact: Path,
        features: Mapping[str, Array],
        labels: Array,
        sequence: SequenceTask | None,
    ) -> Array:
        """Hand over artifact and features and read the predictions as hostile data; the process ends."""
        import numpy as np

        deadline = time.monotonic() + self._seconds
        n = len(labels)
        step = max(1, FEATURES * n // max(1, sum(array.nbytes for array in features.values())))
        if sequence is not None:
            step = max(1, min(step, PIECE // (labels.shape[1] * sequence.vocabulary * 4)))
        self._deliver(artifact, features, step)
        pieces = []
        for start in range(0, n, step):
            wanted = labels[start : start + step]
            self._await_piece(deadline, last=start + step >= n)
            try:
                if sequence is None:
                    pieces.append(read_predictions(self._output, len(wanted)))
                else:
                    shape = (*wanted.shape, sequence.vocabulary)
                    logits = read_logits(self._output, shape)
                    pieces.append(label_log_probabilities(logits, wanted))
                # A file, since it was just read; unless it is being exchanged.
                self._output.unlink()
            except (UntrustedFileError, OSError) as error:
                raise ScoringError(f"the model's predictions are refused: {error}") from error
            self._process.send_line(b"next")
        self._end()
        return np.concatenate(pieces)

    def _deliver(self, artifact: Path, features: Mapping[str, Array], step: int) -> None:
        import numpy as np

        model = fresh(self._inbox / "model") / artifact.name
        shutil.copyfile(artifact, model)
        arrays = self._inbox / "features.npz"
        given: dict[str, Any] = dict(features)  # numpy's stub wants bool for ** values
        np.savez(arrays, **given)
        # Scored by another user where the harness is root.
        for path in (model, arrays):
            path.chmod(0o444)
        for line in (str(model), str(arrays), str(step)):
            self._process.send_line(line.encode())

    def _await_piece(self, deadline: float, *, last: bool) -> None:
        """Wait for the next piece, or for the end of the process after the last one."""
        while (usage := self._process.poll()) is None and time.monotonic() <= deadline:
            if not last and self._output.exists():
                return
            time.sleep(POLL)
        if usage is None or usage.timed_out:
            raise ScoringError("scoring did not end in its time budget")
        if usage.returncode != 0 or not last:
            said = last_line(tail_of(self._log))
            raise ScoringError(
                f"scoring failed: {said or usage.reason_for_kill or usage.returncode}"
            )

    def _end(self) -> None:
        """Kill what is left of the process and of what it left behind outside its directory."""
        self._process.kill()
        self._process.close()
