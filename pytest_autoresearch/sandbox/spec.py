"""
What a sandboxed program is given and what it used: the two records on either side of a launch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

__all__ = ["Isolation", "LaunchSpec", "Usage"]

SMALLEST_OUTPUT_CAP = 4096
"""Bytes; below this a log could not hold one traceback."""


class Isolation(StrEnum):
    """How far a program is kept from the rest of the machine."""

    STRONG = "strong"
    """Namespaces of its own: other files, processes and networks are not there at all."""
    KERNEL = "kernel"
    """Landlock and a system call filter: they are there, and the kernel refuses them."""
    CONTAINER = "container"
    """A launcher that the user supplies; what it keeps away is tested, not known."""
    NONE = "none"
    """A supervised process with a closed environment; the kernel enforces nothing."""


@dataclass(frozen=True)
class LaunchSpec:
    """
    One program to run.

    At isolation level ``none`` the directories are checked but not enforced: the program runs with
    the rights of the user who started the harness. At every other level they are all it sees, besides
    the system's programs and libraries and the interpreter's own directories. A harness that is root
    gives the writable directories to another user for the run.
    """

    argv: tuple[str, ...]
    """Program and arguments; the program by absolute path, since no search path is trusted."""
    cwd: Path
    """Working directory, absolute; the program may read it."""
    env: Mapping[str, str] = field(repr=False)
    """The complete environment: nothing is inherited. See :func:`closed_environment`."""
    seconds: float
    """Deadline on the monotonic clock, measured outside the program, from its start."""
    log: Path
    """Where standard output and standard error go; created, so it must not exist yet."""
    writable: tuple[Path, ...] = ()
    """Directories that the program may write to, absolute."""
    readonly: tuple[Path, ...] = ()
    """Directories and files that the program may read, absolute."""
    output_cap: int = 16 * 2**20
    """Bytes of output kept, the last 64 KiB among them; the rest is drained and counted."""
    memory_cap_mb: float | None = None
    """MiB resident in the whole process tree above which it is killed; None for no limit."""
    disk_cap_mb: float | None = None
    """MiB in files of the writable directories above which it is killed; None for no limit."""
    files_cap: int | None = None
    """The same for the number of files, directories and links."""
    processes: int = 4096
    """Processes and threads at a time; the kernel refuses more, and where it does not, all are killed."""
    stdin: bool = False
    """Standard input is a pipe fed by :meth:`SandboxProcess.send_line`; else it is empty."""
    isolation: Isolation = Isolation.NONE
    """How far the program is kept from the rest of the machine."""
    launcher: tuple[str, ...] = ()
    """
    Level ``container``: the command that starts the container. An argument that holds ``{readonly}``,
    ``{writable}``, ``{env}`` (``NAME=VALUE``) or ``{device}`` is repeated for each; ``{cwd}`` is the
    working directory.
    """
    devices: tuple[Path, ...] = ()
    """Device nodes, or directories of them, that the program may use: the GPU's."""
    file_cap_mb: int = 8192
    """MiB that one file of the program may reach; not enforced at level ``none``."""
    held: tuple[int, ...] = ()
    """Descriptors of locks that the supervisor keeps until the tree is dead; the program gets none."""
    network: bool = False
    """
    Whether the program may use the network: the machine's own, so its local services as well. Level ``none``
    never refuses it; at level ``container`` the launcher decides.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))
        if not self.argv or not Path(self.argv[0]).is_absolute():
            raise ValueError(f"argv {self.argv!r} must start with the absolute path of a program")
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(
                    f"environment variable {name!r} cannot be passed on: a name is not empty and "
                    f"holds no '=', and neither name nor value holds a NUL"
                )
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"seconds {self.seconds!r} must be a finite number above 0")
        if self.output_cap < SMALLEST_OUTPUT_CAP:
            raise ValueError(
                f"output_cap {self.output_cap!r} must be at least {SMALLEST_OUTPUT_CAP} bytes"
            )
        if self.memory_cap_mb is not None and not self.memory_cap_mb > 0:
            raise ValueError(f"memory_cap_mb {self.memory_cap_mb!r} must be above 0, or None")
        for name, cap in (("disk_cap_mb", self.disk_cap_mb), ("files_cap", self.files_cap)):
            if cap is not None and not cap > 0:
                raise ValueError(f"{name} {cap!r} must be above 0, or None")
        if self.processes < 1:
            raise ValueError(f"processes {self.processes!r} must be at least 1")
        if bool(self.launcher) != (self.isolation is Isolation.CONTAINER):
            raise ValueError(
                f"launcher {self.launcher!r} does not go with isolation {self.isolation.value!r}: a "
                f"container needs one, and no other level takes one"
            )
        if self.launcher and not Path(self.launcher[0]).is_absolute():
            raise ValueError(
                f"launcher {self.launcher!r} must start with the absolute path of a program"
            )
        self._check_directories()

    def _check_directories(self) -> None:
        for path in (self.cwd, self.log, *self.writable, *self.readonly):
            if not path.is_absolute():
                raise ValueError(
                    f"path {str(path)!r} must be absolute: a run has its own directory"
                )
        for directory in (self.cwd, *self.writable):
            if not directory.is_dir():
                raise ValueError(
                    f"{str(directory)!r} is not a directory: make it before the launch"
                )
        for path in self.readonly:
            if not path.exists():
                raise ValueError(
                    f"{str(path)!r} is not a directory, nor a file: make it before the launch"
                )
        writable = [path.resolve() for path in self.writable]
        for inner in (*self.readonly, self.log):
            if any(inner.resolve().is_relative_to(outer) for outer in writable):
                raise ValueError(
                    f"{str(inner)!r} lies inside a writable directory, where the program could "
                    f"replace it: move it outside"
                )


@dataclass(frozen=True)
class Usage:
    """What one program used, measured from outside."""

    returncode: int | None
    """Exit status of the program, negative for a signal; None when nobody could collect it."""
    seconds: float
    """Monotonic seconds from the program's start to the end of its last process."""
    timed_out: bool
    """The program was still running, or had only just stopped, when the deadline had passed."""
    peak_memory_mb: float
    """Highest resident memory of the process tree, MiB, shared pages once; 0 if never measured."""
    output_bytes: int
    """Bytes written to standard output and standard error."""
    output_truncated: bool
    """Some of them are not in the log."""
    processes_killed: int
    """
    Processes that were alive when the tree was killed, also after the program ended by itself.

    Honest programs leave some: a resource tracker of multiprocessing ends a moment after its parent.
    """
    reason_for_kill: str
    """
    Why the program was cut short: empty if it ended by itself, else ``deadline``, ``memory``,
    ``processes`` (too many), ``disk`` (too much in files), ``files`` (too many of them), ``hidden`` (files
    where nobody can count them; these three also if it had ended by itself), ``harness`` (killed by the
    harness, or the harness is gone), ``signal`` (the supervisor was told to end) or ``supervisor`` (the supervisor was stopped or killed, which only the program could
    have done).
    """
    survivors: int = 0
    """Processes that could not be killed; anything but 0 is a machine in trouble."""
    peak_processes: int = 0
    """Most processes and threads of the tree at any look, the sandbox's own included."""
    peak_disk_mb: float = 0.0
    """Most that any look found in the files of the writable directories, MiB."""
