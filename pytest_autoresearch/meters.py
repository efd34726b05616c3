"""
What the GPU did while a run used it, read from outside the run.

One ``nvidia-smi`` process streams samples into a file, which is read when the run is over. It
was preferred to NVML in this process: it needs no further package, and a driver that hangs or crashes
takes a child down instead of the harness. Without a GPU every figure is None.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from .sandbox import LaunchSpec, SandboxProcess, closed_environment, launch

__all__ = ["GpuMeter", "GpuSample", "device_name", "gpu_available", "gpu_ids", "parse_samples"]

QUERY = "index,memory.used,utilization.gpu"
INTERVAL_MS = 250
"""nvidia-smi averages utilisation over 1/6 to 1 s itself, so sampling faster adds nothing."""
POLL = 0.05
PATIENCE = 15.0
"""Seconds for the first answer: without persistence mode the driver is initialised first."""
SETTLE = 5.0
"""Seconds after a run in which the driver may still be giving its memory back."""
TOLERANCE_MB = 32.0
"""MiB that may be more than before: the driver's own, once it is initialised."""
LONGEST = 7 * 24 * 3600.0
"""Seconds that it samples at most: longer than any run."""
OUTPUT_CAP = 1 << 28
"""Bytes of samples, more than eight GPUs make in that time."""


class GpuSample(NamedTuple):
    """One line of nvidia-smi: one GPU at one moment."""

    gpu: int
    memory_mb: float
    """MiB in use, by whomever."""
    utilization: float | None
    """Share of the last sampling period in which a kernel ran, 0 to 1; None if not reported."""


def parse_samples(text: str) -> list[GpuSample]:
    """
    Samples from ``index, memory.used, utilization.gpu`` lines without header and units.

    A line that is not complete, because the process was ended while it wrote, or that is a message
    of the driver, is no sample.
    """
    samples = []
    for line in text.splitlines(keepends=True):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(QUERY.split(",")) or not line.endswith("\n"):
            continue
        try:
            utilization = None if fields[2].startswith("[") else float(fields[2]) / 100
            samples.append(GpuSample(int(fields[0]), float(fields[1]), utilization))
        except ValueError:
            continue
    return samples


class GpuMeter:
    """
    Context manager around a run: GPU memory and utilisation between entry and exit.

    It looks at the GPUs that CUDA_VISIBLE_DEVICES names, or all. ``enabled=False`` measures nothing
    and starts nothing.

    :param directory: an empty one, for the samples.
    """

    def __init__(
        self, directory: Path, *, enabled: bool = True, command: str = "nvidia-smi"
    ) -> None:
        self._directory = directory
        self._enabled = enabled
        self._command = command
        self._resources = ExitStack()
        self._log: Path | None = None
        self._process: SandboxProcess | None = None
        self.peak_memory_mb: float | None = None
        """MiB at the peak above the level before the run, summed over GPUs; None without a GPU."""
        self.utilization: float | None = None
        """Mean utilisation of the busiest GPU, 0 to 1; None without a GPU or if not reported."""
        self.problem = ""
        """After :meth:`settle`: why a GPU is not known to be empty again, in words; empty if it is."""

    def __enter__(self) -> Self:
        program = _program(self._command) if self._enabled else None
        if program is None:
            return self
        with ExitStack() as stack:
            self._log = self._directory / "samples"
            spec = LaunchSpec(
                argv=(
                    program,
                    *_selection(os.environ),
                    f"--query-gpu={QUERY}",
                    "--format=csv,noheader,nounits",
                    f"--loop-ms={INTERVAL_MS}",
                ),
                cwd=self._directory,
                env=closed_environment(self._directory, threads=1, device="cuda"),
                seconds=LONGEST,
                log=self._log,
                output_cap=OUTPUT_CAP,
            )
            # Under supervision like a run, so that it does not outlive a killed harness either.
            try:
                process = stack.enter_context(launch(spec))
            except OSError:
                self._log = None
                return self
            # The first line is the level before the run, so the run must not start without it.
            give_up = time.monotonic() + PATIENCE
            while not self._samples() and process.poll() is None and time.monotonic() < give_up:
                time.sleep(0.01)
            stack.callback(self._read)
            stack.callback(process.kill)
            self._process = process
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def settle(self) -> None:
        """
        Wait until the GPUs hold no more than before the run, which has ended; sets :attr:`problem`.

        Looks only at samples that are taken from now on.
        """
        seen = len(self._samples())
        if not seen or self._process is None:
            return
        self.problem = "nvidia-smi does not answer any more"
        give_up = time.monotonic() + SETTLE
        while time.monotonic() < give_up:
            ended = self._process.poll() is not None
            samples = self._samples()
            before = {sample.gpu: sample.memory_mb for sample in reversed(samples)}
            now = {sample.gpu: sample.memory_mb for sample in samples[seen:]}
            if now.keys() == before.keys():
                left = max(now[gpu] - before[gpu] for gpu in now)
                if left <= TOLERANCE_MB:
                    self.problem = ""
                    return
                self.problem = f"it holds {left:.0f} MiB more than before"
            if ended:
                return
            time.sleep(POLL)

    def _read(self) -> None:
        memory: dict[int, list[float]] = {}
        utilization: dict[int, list[float]] = {}
        for sample in self._samples():
            memory.setdefault(sample.gpu, []).append(sample.memory_mb)
            if sample.utilization is not None:
                utilization.setdefault(sample.gpu, []).append(sample.utilization)
        if memory:
            self.peak_memory_mb = sum(max(used) - used[0] for used in memory.values())
        if utilization:
            self.utilization = max(sum(shares) / len(shares) for shares in utilization.values())

    def _samples(self) -> list[GpuSample]:
        return [] if self._log is None else parse_samples(self._log.read_text("ascii", "replace"))


def gpu_available(command: str = "nvidia-smi") -> bool:
    """Whether a run on ``cuda`` would find a GPU; asks the driver, imports nothing."""
    return bool(_names(command))


def gpu_ids(command: str = "nvidia-smi") -> list[str]:
    """What identifies the visible GPUs on this machine; one name for all of them without an answer."""
    return _ask("uuid", command) or ["all"]


def device_name(device: str, command: str = "nvidia-smi") -> str:
    """
    The product name of the first visible GPU for ``cuda``, of the processor for ``cpu``.

    ``unknown`` where the machine does not say.
    """
    if device == "cuda":
        return next(iter(_names(command)), "unknown")
    return _processor(Path("/proc/cpuinfo"))


def _processor(cpuinfo: Path) -> str:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    entries = (line.partition(":") for line in text.splitlines())
    return next(
        (value.strip() for key, _, value in entries if key.strip() == "model name"), "unknown"
    )


def _names(command: str) -> list[str]:
    """Product names of the visible GPUs."""
    return _ask("name", command)


def _ask(what: str, command: str) -> list[str]:
    """One answer for each visible GPU; empty without a driver that answers."""
    program = _program(command)
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, *_selection(os.environ), f"--query-gpu={what}", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if answer.returncode:
        return []
    return answer.stdout.decode("utf-8", "replace").splitlines()


def _program(command: str) -> str | None:
    """Path of nvidia-smi; None without it, or when CUDA_VISIBLE_DEVICES hides every GPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return None
    return shutil.which(command)


def _selection(environ: Mapping[str, str]) -> list[str]:
    """The option that restricts nvidia-smi to the GPUs that CUDA would show, which it ignores itself."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    return [] if visible is None else [f"--id={visible}"]
