"""
Level ``kernel``: Landlock and a system call filter, where namespaces are not to be had.

For containers and CI runners. Files by allow-list, no network, no signals and no memory of others, no
new privileges. The whole tree is killed by the supervisor, to which every orphan returns.

What is not covered, unlike at ``strong``: the program sees that other processes exist, and their command
lines; sockets in the file system that every user may connect to, before Landlock's ABI 9. A harness that is
not root runs the program as its own user, whose session's sockets and shared memory it would reach: there
it can neither connect nor share memory, so data is loaded in the training process (``num_workers=0``).

With :attr:`LaunchSpec.network` Internet sockets are not refused: reachable are the same addresses as without
a sandbox, local services included. Signals, memory and abstract sockets of others stay refused, and a harness
that is not root still leaves its program no UNIX socket, so none of the session's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .launcher import landlock_abi
from .seccomp import filter_path
from .spec import LaunchSpec
from .strong import InstallationError
from .view import FIRST_USER, handover, limits, network_files, readable, system_files

__all__ = ["LEAST_ABI", "check_abi", "clear_shared_memory", "options", "rules", "run_user"]

SHARED_MEMORY = "/dev/shm"  # noqa: S108

LEAST_ABI = 6
"""The first that keeps signals and abstract sockets inside; Linux 6.12."""
MISSING = {
    0: "Landlock altogether: it needs Linux 6.12 with 'landlock' among the LSMs, and a container "
    "runtime that lets its system calls through",
    1: "linking between directories (ABI 2)",
    2: "truncation (ABI 3)",
    3: "TCP (ABI 4)",
    4: "ioctl on devices (ABI 5)",
    5: "signals and abstract sockets (ABI 6)",
}
"""The first right that is missing at each ABI below the least."""
PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def check_abi(abi: int | None = None) -> None:
    """InstallationError naming the missing right, if the kernel's Landlock is too old."""
    version = landlock_abi() if abi is None else abi
    if version < LEAST_ABI:
        raise InstallationError(
            f"Landlock ABI {version} does not cover {MISSING[version]}: use a kernel from 6.12 on, or "
            f"isolation 'strong' or 'container'"
        )


def rules(spec: LaunchSpec) -> list[str]:
    """What the program may do to which files, as the launcher's options; nothing else is allowed."""
    _, paths = system_files()
    # Another user's run cannot open what it did not make there, and what it leaves is removed.
    shared = [SHARED_MEMORY] if os.geteuid() == 0 and Path(SHARED_MEMORY).is_dir() else []
    return [
        *(f"rule=read:{path}" for path in (*paths, "/proc", *readable(spec), *network_files(spec))),
        *(f"rule=write:{path}" for path in spec.writable),
        *(f"rule=plain:{path}" for path in PLAIN_DEVICES if Path(path).exists()),
        *(f"rule=device:{path}" for path in spec.devices),
        *(f"rule=shared:{path}" for path in shared),
    ]


def options(spec: LaunchSpec) -> list[str]:
    """What the launcher does before the program."""
    check_abi()
    # The program's own user reaches the sockets of that user's session.
    own_user = os.geteuid() == 0
    if spec.network:
        profile = "kernel-network" if own_user else "kernel-network-unixless"
    else:
        profile = "kernel" if own_user else "kernel-unconnected"
    return [
        *handover(spec, readable(spec)),
        *limits(spec),
        f"filter={filter_path(profile)}",
        *(("network=",) if spec.network else ()),
        f"cwd={spec.cwd}",
        *rules(spec),
    ]


def run_user(options: Sequence[str]) -> int | None:
    """The user that only this run has; None if it shares one with others."""
    user = next((int(word[4:]) for word in options if word.startswith("uid=")), None)
    return None if user is None or user < FIRST_USER else user


def clear_shared_memory(options: Sequence[str]) -> int:
    """Remove what the user of a run that has ended left in shared memory; how many files."""
    user = run_user(options)
    if user is None:
        return 0
    left = [path for path in Path(SHARED_MEMORY).iterdir() if path.lstat().st_uid == user]
    for path in left:
        path.unlink()
    return len(left)
