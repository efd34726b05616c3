"""
One training run: a fresh child process that sees a snapshot of the surface and prepare.py, and the training
view. Its product is data, its meters are outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .artifact import UntrustedFileError, take_artifact
from .capacity import memory_limit_mb
from .curve import read_curve, thinned
from .gpulock import GpuLock
from .meters import GpuMeter, gpu_ids
from .records import RunRequest, RunResult, RunStatus
from .report.tables import escape
from .rundir import last_line, remove, tail_of, write_readonly
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
from .scratch import Scratch
from .self_reported import PrintedTask
from .wall import Wall

if TYPE_CHECKING:
    from .settings import Run, Settings
    from .task import Task

__all__ = ["Trainer", "derive_seed"]

PRIVATE = Path("/tmp")  # noqa: S108
"""What a run at level ``strong`` has for itself, in memory."""

Tick = Callable[[float, Path], None]


class Trainer:
    """
    Runs candidates of one project.

    :param scratch: the session's; None: each run has one of its own.
    """

    def __init__(
        self, settings: Settings, task: Task, isolation: Isolation, scratch: Scratch | None = None
    ) -> None:
        self._settings = settings
        self._task = task
        self._isolation = isolation
        self._scratch = scratch

    def train(
        self,
        request: RunRequest,
        tick: Tick | None = None,
        notify: Callable[[str], object] | None = None,
    ) -> RunResult:
        """
        Run the surface's entry file under the compute budget; never raises for a run that fails.

        :param tick: called about four times a second with the elapsed seconds and the log's path.
        :param notify: called with one line if the run has to wait for the GPU.
        """
        with ExitStack() as stack:
            scratch = self._scratch or stack.enter_context(Scratch())
            room = scratch.fresh("run")
            stack.callback(remove, room)
            gpu = GpuMeter(scratch.fresh("gpu"), enabled=request.device == "cuda")
            held: tuple[int, ...] = ()
            if request.device == "cuda":
                held = stack.enter_context(GpuLock(gpu_ids(), notify=notify))
            spec = self._spec(request, room, scratch, held)
            with gpu, launch(spec) as process:
                watch = _Watch(request, process, room / "out", spec.log, tick)
                usage = process.wait(watch)
                gpu.settle()
            return self._result(request, usage, watch, gpu)

    def _spec(
        self, request: RunRequest, room: Path, scratch: Scratch, held: tuple[int, ...]
    ) -> LaunchSpec:
        """The launch of one run, whose directories lie in ``room``."""
        run = self._settings.run
        contents = {**request.files, "prepare.py": self._task.prepare_source}
        snapshot = write_readonly(room / "snapshot", contents)
        out, writable = room / "out", room / "scratch"
        for directory in (out, writable):
            directory.mkdir()
        _link_home(writable / "home", self._settings.run.readable)
        strong = self._isolation is Isolation.STRONG
        temporary = PRIVATE if strong else scratch.short()
        extra = {
            "AUTORESEARCH_SEED": str(request.seed),
            "AUTORESEARCH_SECONDS": repr(request.seconds),
            "AUTORESEARCH_DEVICE": request.device,
            "AUTORESEARCH_OUT": str(out),
        }
        readable: tuple[Path, ...]
        if isinstance(self._task, PrintedTask):
            readable = self._task.places
        else:
            readable = (self._task.training_view,)
            extra["AUTORESEARCH_TRAIN"] = str(self._task.training_view)
        return LaunchSpec(
            argv=python_command(self._settings.entry),
            cwd=snapshot,
            env=closed_environment(
                writable,
                threads=run.threads,
                device=request.device,
                extra=extra,
                temporary=temporary,
            ),
            readonly=(snapshot, *readable),
            writable=(out, writable) if strong else (out, writable, temporary),
            seconds=request.seconds + run.warmup_seconds,
            output_cap=run.output_kb << 10,
            log=request.workdir / "run.log",
            memory_cap_mb=memory_limit_mb(run.memory_mb),
            disk_cap_mb=run.disk_mb,
            files_cap=run.files,
            file_cap_mb=run.disk_mb,
            processes=run.processes,
            isolation=self._isolation,
            launcher=Wall.choose(self._settings, self._isolation).launcher,
            devices=gpu_nodes() if request.device == "cuda" else (),
            held=held,
        )

    def _result(self, request: RunRequest, usage: Usage, watch: _Watch, gpu: GpuMeter) -> RunResult:
        tail = tail_of(watch.log)
        status, reason = _ending(usage, request.seconds, self._settings.run, tail)
        if watch.stopped and not usage.survivors:
            status, reason = RunStatus.PRUNED, watch.stopped
        artifact, digest = None, ""
        if status is RunStatus.FINISHED and gpu.problem:
            # What a run leaves there could be read while it is scored.
            status = RunStatus.CRASHED
            reason = f"the GPU is not known to be empty after the run: {gpu.problem}"
        if status is RunStatus.FINISHED and self._settings.mode == "verified":
            try:
                artifact, digest = take_artifact(
                    watch.out,
                    self._settings.artifact,
                    request.workdir / self._settings.artifact,
                    cap_bytes=self._settings.run.artifact_mb << 20,
                )
            except UntrustedFileError as error:
                status = RunStatus.NO_ARTIFACT
                last = last_line(tail)
                said = f"; the run ended with {last[:160]!r}" if last else ""
                reason = f"no artifact: {error}{said}"
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
            log=watch.log,
            curve=thinned(read_curve(watch.out)),
        )


def _link_home(home: Path, readable: Sequence[str]) -> None:
    """Let a run find below its own home what the project finds below the user's."""
    for text in readable:
        inside = text.removeprefix("~/")
        if inside != text:
            link = home / inside.rstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(text).expanduser())


class _Watch:
    """What is looked at while a run goes on; called about four times a second."""

    def __init__(
        self,
        request: RunRequest,
        process: SandboxProcess,
        out: Path,
        log: Path,
        tick: Tick | None,
    ) -> None:
        self._request = request
        self._process = process
        self.out = out
        self.log = log
        self._tick = tick
        self.stopped = ""
        """Why the run was stopped early; empty if it was not."""

    def __call__(self, seconds: float) -> None:
        """
        Look at the run after ``seconds``.

        :raises KeyboardInterrupt: it is no longer wanted; whoever launched it kills it on the way out.
        """
        if self._request.cancelled.is_set():
            raise KeyboardInterrupt
        if self._tick is not None:
            self._tick(seconds, self.log)
        if self._request.hopeless is not None:
            self.stopped = self._request.hopeless(thinned(read_curve(self.out)))
            if self.stopped:
                self._process.kill()


def derive_seed(salt: str, seq: int, digest: str, index: int) -> int:
    """
    A training seed in [0, 2**31) that the harness owns: repeatable from the ledger, and nobody's choice.
    """
    key = f"{salt}\0{seq}\0{digest}\0{index}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") & 0x7FFFFFFF


def _ending(usage: Usage, seconds: float, run: Run, tail: str) -> tuple[RunStatus, str]:
    """How a run ended, in one line that a person accepts."""
    if usage.timed_out:
        allowance = f" and its warm-up allowance of {run.warmup_seconds:g} s"
        return RunStatus.TIMEOUT, (
            f"timeout: still running after its budget of {seconds:g} s"
            + (allowance if run.warmup_seconds else "")
        )
    if usage.survivors:
        return RunStatus.CRASHED, f"{usage.survivors} processes of the run could not be killed"
    if usage.reason_for_kill:
        return RunStatus.CRASHED, f"killed: {_cap(usage.reason_for_kill, run)}"
    if usage.returncode == 0:
        return RunStatus.FINISHED, "finished"
    code = usage.returncode
    what = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
    last = last_line(tail)
    return RunStatus.CRASHED, f"crash: {what}" + (f": {last[:160]}" if last else "")


def _cap(reason: str, run: Run) -> str:
    """What a run had too much of, and the setting that says so."""
    return {
        "memory": f"more than {run.memory_mb} MiB of memory (run.memory_mb)",
        "processes": f"more than {run.processes} processes and threads (run.processes)",
        "disk": f"more than {run.disk_mb} MiB in files (run.disk_mb)",
        "files": f"more than {run.files} files and directories (run.files)",
        "hidden": "files where nobody can count them: directories that stay closed, or nested too deep",
        "supervisor": "it interfered with its supervisor",
        "harness": "the session ended first",
    }.get(reason, reason)
