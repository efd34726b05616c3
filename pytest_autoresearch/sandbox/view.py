"""
What a sandboxed program sees besides its own directories: the system, the interpreter, the GPU.

An allow-list: whatever is not named here or in the :class:`LaunchSpec` is not there. In particular no
home, no ``/run`` with its sockets, no ``/sys``, and of ``/etc`` only what the dynamic linker and the
compiler read.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .environment import driver_directories
from .spec import LaunchSpec

__all__ = [
    "fresh_user",
    "gpu_nodes",
    "interpreter_directories",
    "limits",
    "network_files",
    "readable",
    "system_files",
]

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Links into /usr on most systems."""
CONFIGURATION = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
)
NETWORK = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
)
"""How names become addresses, and which certificates are trusted."""
FIRST_USER = 1 << 30
"""Above what systems, containers and directories of users hand out."""
NOBODY = 65534
OPEN_FILES = 8192
ADDRESS_SPACE_ROOM = 8 << 30
"""Bytes of address space beyond twice the memory cap: libraries reserve more than they use."""


def system_files() -> tuple[list[tuple[str, str]], list[str]]:
    """The system's links ``(path, target)`` and the paths of its directories and files."""
    links, paths = [], []
    for name in SYSTEM:
        if Path(name).is_symlink():
            links.append((name, str(Path(name).readlink())))
        elif Path(name).is_dir():
            paths.append(name)
    paths += [name for name in CONFIGURATION if Path(name).exists()]
    return links, paths


def network_files(spec: LaunchSpec) -> list[str]:
    """What a program needs to find and trust servers, where each is and where a link to it leads."""
    there = [path for path in NETWORK if spec.network and Path(path).exists()]
    return list(dict.fromkeys((*there, *map(os.path.realpath, there))))


def interpreter_directories() -> list[str]:
    """Where the running interpreter, its library and its packages lie."""
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    return list(dict.fromkeys(os.path.realpath(prefix) for prefix in prefixes)) + [
        prefix for prefix in dict.fromkeys(prefixes) if prefix != os.path.realpath(prefix)
    ]


def readable(spec: LaunchSpec) -> list[str]:
    """Everything that the program may read beyond the system's."""
    wanted = [*interpreter_directories(), *map(str, spec.readonly)]
    if not any(spec.cwd.is_relative_to(path) for path in (*spec.readonly, *spec.writable)):
        wanted.append(str(spec.cwd))
    if spec.devices:
        wanted += [*driver_directories(spec.env), "/sys"]
    return [path for path in dict.fromkeys(wanted) if not _below(path, ("/usr",))]


def gpu_nodes(directory: Path = Path("/dev")) -> tuple[Path, ...]:
    """The device nodes of every GPU here: NVIDIA's, and the render nodes of the others."""
    patterns = ("nvidia*", "dri", "kfd", "dxg")
    return tuple(sorted(node for pattern in patterns for node in directory.glob(pattern)))


def fresh_user(uid_map: str | None = None) -> int:
    """
    A user id that owns nothing: a random high one, or nobody's where few are mapped.

    Two programs at a time are then two users, so that neither can signal or trace the other.

    :param uid_map: content of ``/proc/self/uid_map``, which is read by default.
    :raises PermissionError: this namespace knows no other user than root.
    """
    text = Path("/proc/self/uid_map").read_text("ascii") if uid_map is None else uid_map
    for line in text.splitlines():
        first, _, count = map(int, line.split())
        if first <= FIRST_USER and first + count >= 2 * FIRST_USER:
            return FIRST_USER + secrets.randbelow(FIRST_USER)
    for line in text.splitlines():
        first, _, count = map(int, line.split())
        if first <= NOBODY < first + count:
            return NOBODY
    raise PermissionError(
        "this user namespace maps no user but root: start the harness as an ordinary user"
    )


def limits(spec: LaunchSpec) -> list[str]:
    """
    The launcher's options for resource limits.

    There is none on the address space where a GPU is passed through: its driver reserves far more
    than any memory. A negative number of processes counts from those that run already, since an
    ordinary user's other processes count, too.
    """
    chosen = {
        "CORE": 0,
        "NOFILE": OPEN_FILES,
        "FSIZE": spec.file_cap_mb << 20,
        "NPROC": spec.processes if os.geteuid() == 0 else -spec.processes,
    }
    if spec.memory_cap_mb is not None and not spec.devices:
        chosen["AS"] = 2 * int(spec.memory_cap_mb * 2**20) + ADDRESS_SPACE_ROOM
    return [f"limit={name}:{value}" for name, value in chosen.items()]


def _below(path: str, parents: Iterable[str]) -> bool:
    return any(Path(path).is_relative_to(parent) for parent in parents)


def handover(spec: LaunchSpec, seen: Sequence[str]) -> list[str]:
    """
    The launcher's options for a harness that is root: another user, who can enter what it may see.

    :raises PermissionError: a directory is closed to other users.
    """
    if os.geteuid() != 0:
        return []
    for path in (*seen, str(spec.cwd)):
        needed = 0o005 if Path(path).is_dir() else 0o004
        if (
            not _below(path, map(str, spec.writable))
            and Path(path).stat().st_mode & needed != needed
        ):
            raise PermissionError(
                f"the program runs as another user than root, who cannot read {path!r}: "
                f"chmod -R o+rX {path}"
            )
    writable = [str(path) for path in spec.writable]
    return [
        f"uid={fresh_user()}",
        *(f"give={path}" for path in writable),
        *(f"reach={path}" for path in (*seen, *writable)),
    ]
