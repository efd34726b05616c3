"""
One training run and its scoring: two fresh child processes, data-only products, meters from outside.

The run sees a snapshot of the surface and prepare.py, and the training view. The scorer sees the artifact
and held-out features. Labels stay here.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifact import UntrustedFileError, read_predictions, read_tail, take_artifact
from .meters import GpuMeter
from .records import RunRequest, RunResult, RunStatus
from .report.tables import escape
from .sandbox import (
    Isolation,
    LaunchSpec,
    SandboxProcess,
    Usage,
    closed_environment,
    gpu_nodes,
    launch,
    python_command,
)

if TYPE_CHECKING:
    import numpy as np

    from .config import Run, Settings
    from .task import Task

__all__ = ["ScoringError", "Trainer"]

Tick = Callable[[float, Path], None]


class ScoringError(Exception):
    """The artifact could not be scored; one sentence that says why."""


class Trainer:
    """Runs and scores candidates of one project."""

    def __init__(self, settings: Settings, task: Task, isolation: Isolation) -> None:
        self._settings = settings
        self._task = task
        self._isolation = isolation
        self._scorer: _Scorer | None = None

    def train(self, request: RunRequest, tick: Tick | None = None) -> RunResult:
        """
        Run the surface's entry file under the compute budget; never raises for a run that fails.

        :param tick: called about four times a second with the elapsed seconds and the log's path.
        """
        run = self._settings.run
        workdir = request.workdir
        snapshot = self._snapshot(workdir / "snapshot", request.files)
        out = _fresh(workdir / "out")
        log = workdir / "run.log"
        scratch = _fresh(workdir / "scratch")
        extra = {
            "AUTORESEARCH_SEED": str(request.seed),
            "AUTORESEARCH_SECONDS": repr(request.seconds),
            "AUTORESEARCH_DEVICE": request.device,
            "AUTORESEARCH_TRAIN": str(self._task.training_view),
            "AUTORESEARCH_OUT": str(out),
        }
        environment = closed_environment(
            scratch, threads=run.threads, device=request.device, extra=extra
        )
        spec = LaunchSpec(
            argv=python_command(self._settings.entry),
            cwd=snapshot,
            env=environment,
            readonly=(snapshot, self._task.training_view),
            writable=(out, scratch),
            seconds=request.seconds,
            output_cap=run.output_kb << 10,
            log=log,
            memory_cap_mb=run.memory_mb,
            isolation=self._isolation,
            devices=gpu_nodes() if request.device == "cuda" else (),
        )
        with GpuMeter(enabled=request.device == "cuda") as gpu, launch(spec) as process:
            usage = process.wait(tick=None if tick is None else lambda seconds: tick(seconds, log))
        return self._result(request, usage, out, log, gpu)

    def _result(
        self, request: RunRequest, usage: Usage, out: Path, log: Path, gpu: GpuMeter
    ) -> RunResult:
        tail = _tail(log)
        status, reason = _ending(usage, request.seconds, tail)
        artifact, digest = None, ""
        if status is RunStatus.FINISHED:
            try:
                artifact, digest = take_artifact(
                    out,
                    self._settings.artifact,
                    request.workdir / self._settings.artifact,
                    cap_bytes=self._settings.run.artifact_mb << 20,
                )
            except UntrustedFileError as error:
                status = RunStatus.NO_ARTIFACT
                last = _last_line(tail)
                said = f"; the run ended with {last[:160]!r}" if last else ""
                reason = f"no artifact: {error}{said}"
        for leftover in ("snapshot", "out", "scratch"):
            _remove(request.workdir / leftover)
        return RunResult(
            status=status,
            reason=escape(reason),
            seed=request.seed,
            seconds=usage.seconds,
            budget_seconds=request.seconds,
            artifact=artifact,
            artifact_sha256=digest,
            returncode=usage.returncode,
            peak_memory_mb=usage.peak_memory_mb,
            device=request.device,
            isolation=self._isolation.value,
            gpu_memory_mb=gpu.peak_memory_mb,
            gpu_utilization=gpu.utilization,
            log_tail=tail,
        )

    @contextmanager
    def warm_scorer(self, workdir: Path, split: str) -> Iterator[None]:
        """Start the scorer of ``split`` now, so that it has imported torch when the training ends."""
        with self._start_scorer(workdir, split) as scorer:
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
        with self._start_scorer(workdir, split) as scorer:
            return scorer.score(result.artifact)

    def _start_scorer(self, workdir: Path, split: str) -> _Scorer:
        # The features are copied to where no label lies beside them.
        directory = _fresh(workdir / "scoring")
        inputs = self._snapshot(directory / "inputs", {})
        for source in (self._task.features_path(split), Path(__file__).with_name("scorer.py")):
            shutil.copyfile(source, inputs / source.name)
        rows = len(self._task.labels(split))
        return _Scorer(self._settings.run, directory, rows=rows, isolation=self._isolation)

    def _snapshot(self, directory: Path, files: Mapping[str, bytes]) -> Path:
        """A fresh directory with the surface files and prepare.py, read-only."""
        _fresh(directory)
        contents = {**files, "prepare.py": self._task.prepare_path.read_bytes()}
        for name, content in contents.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o444)
        return directory


class _Scorer:
    """A scoring process, waiting for an artifact."""

    def __init__(self, run: Run, directory: Path, *, rows: int, isolation: Isolation) -> None:
        self._directory = directory
        # The sandbox is there before the artifact is: it is laid where the scorer already looks.
        self._inbox = _fresh(directory / "inbox")
        self._rows = rows
        self._output = _fresh(directory / "out") / "predictions.npy"
        self._log = directory / "score.log"
        inputs, scratch = directory / "inputs", _fresh(directory / "scratch")
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
        _remove(self._directory)

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
                f"scoring failed: {_last_line(_tail(self._log)) or usage.returncode}"
            )
        try:
            return read_predictions(self._output, self._rows)
        except UntrustedFileError as error:
            raise ScoringError(f"the model's predictions are refused: {error}") from error


def derive_seed(tag: str, seq: int, digest: str, index: int) -> int:
    """
    A training seed in [0, 2**31) that the harness owns: repeatable from the ledger, and nobody's choice.
    """
    key = f"{tag}\0{seq}\0{digest}\0{index}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") & 0x7FFFFFFF


def _ending(usage: Usage, seconds: float, tail: str) -> tuple[RunStatus, str]:
    """How a run ended, in one line that a person accepts."""
    if usage.timed_out:
        return RunStatus.TIMEOUT, f"timeout: still running after its budget of {seconds:g} s"
    if usage.survivors:
        return RunStatus.CRASHED, f"{usage.survivors} processes of the run could not be killed"
    if usage.reason_for_kill:
        return RunStatus.CRASHED, f"killed: {usage.reason_for_kill}"
    if usage.returncode == 0:
        return RunStatus.FINISHED, "finished"
    code = usage.returncode
    what = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
    last = _last_line(tail)
    return RunStatus.CRASHED, f"crash: {what}" + (f": {last[:160]}" if last else "")


def _tail(log: Path, size: int = 8192) -> str:
    """The last lines of a log, escaped: whoever wrote it is not trusted."""
    try:
        text = read_tail(log, size=size).decode("utf-8", errors="replace")
    except UntrustedFileError:
        return ""
    return "\n".join(escape(line) for line in text.replace("\r", "\n").splitlines())


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _fresh(directory: Path) -> Path:
    _remove(directory)
    directory.mkdir(parents=True)
    # At the levels that drop root, another user enters; what it may write is decided by the sandbox.
    directory.chmod(0o755)
    return directory


def _remove(directory: Path) -> None:
    """Delete what a run left, whatever modes it gave its directories."""

    def unlock(function: Callable[[str], object], path: str, error: BaseException) -> None:
        Path(path).parent.chmod(0o700)
        Path(path).chmod(0o700)
        function(path)

    if directory.exists():
        shutil.rmtree(directory, onerror=lambda f, p, e: unlock(f, p, e[1]))
