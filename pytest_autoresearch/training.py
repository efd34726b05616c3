"""
One training run: a fresh child process that sees a snapshot of the surface and prepare.py, and the training
view. Its product is data, its meters are outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .artifact import UntrustedFileError, take_artifact
from .meters import GpuMeter
from .records import RunRequest, RunResult, RunStatus
from .report.tables import escape
from .rundir import fresh, last_line, remove, tail_of, write_readonly
from .sandbox import (
    Isolation,
    LaunchSpec,
    Usage,
    closed_environment,
    gpu_nodes,
    launch,
    python_command,
)

if TYPE_CHECKING:
    from .config import Settings
    from .task import Task

__all__ = ["Trainer", "derive_seed"]

Tick = Callable[[float, Path], None]


class Trainer:
    """Runs candidates of one project."""

    def __init__(self, settings: Settings, task: Task, isolation: Isolation) -> None:
        self._settings = settings
        self._task = task
        self._isolation = isolation

    def train(self, request: RunRequest, tick: Tick | None = None) -> RunResult:
        """
        Run the surface's entry file under the compute budget; never raises for a run that fails.

        :param tick: called about four times a second with the elapsed seconds and the log's path.
        """
        run = self._settings.run
        workdir = request.workdir
        contents = {**request.files, "prepare.py": self._task.prepare_source}
        snapshot = write_readonly(workdir / "snapshot", contents)
        out = fresh(workdir / "out")
        log = workdir / "run.log"
        scratch = fresh(workdir / "scratch")
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
        tail = tail_of(log)
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
                last = last_line(tail)
                said = f"; the run ended with {last[:160]!r}" if last else ""
                reason = f"no artifact: {error}{said}"
        for leftover in ("snapshot", "out", "scratch"):
            remove(request.workdir / leftover)
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
    last = last_line(tail)
    return RunStatus.CRASHED, f"crash: {what}" + (f": {last[:160]}" if last else "")
