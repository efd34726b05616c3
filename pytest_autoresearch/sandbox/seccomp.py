"""
The system call filters: what no honest training program calls, refused before the kernel acts on it.

The rules are compiled by libseccomp once, ahead of time, and shipped as the few hundred bytes the kernel
loads, one file for each architecture and profile: the launcher is an isolated interpreter that reaches no
site directory, and importing the binding would cost each session 27 to 44 ms. A test compiles them anew
with the installed libseccomp and compares every decision. ``python -m pytest_autoresearch.sandbox.seccomp``
writes them.

What is covered: other processes' memory, mounts and namespaces, keyrings, BPF, io_uring (which would go
around this filter), modules, clocks, unusual socket families (AF_VSOCK belongs to no namespace). Profile
``kernel`` has no namespaces to rely on, so it also refuses every socket but AF_UNIX and the System V and
POSIX objects that outlive a run, and turns changes of mode, owner and times into nothing, because
Landlock does not see them. ``kernel-unconnected`` refuses ``connect`` on top, for a program that runs as
the user: before ABI 9 Landlock does not see sockets in the file system, the user's own bus among them.
``strong-network`` and ``kernel-network`` allow Internet sockets and, to look up routes and addresses, one
netlink protocol. Their ``-unixless`` variants are for a program whose UNIX sockets would lead to somebody
else's (the user's, or those in the machine's network namespace): it can make connected pairs, and no other.
What is not covered: 32-bit programs, which are killed; on aarch64 extended attributes set by the calls
463, 466 and 469, which the libseccomp of 2022 has no name for there.
"""

from __future__ import annotations

import errno
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["ARCHITECTURES", "FILTERS", "PROFILES", "compile_filter", "filter_path"]

FILTERS = Path(__file__).with_name("filters")
ARCHITECTURES = ("x86_64", "aarch64")
PROFILES = (
    "strong",
    "strong-network",
    "strong-network-unixless",
    "kernel",
    "kernel-unconnected",
    "kernel-network",
    "kernel-network-unixless",
)

REFUSED = (
    # mounts and namespaces
    *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig"),
    *("fsmount", "fspick", "mount_setattr", "unshare", "setns", "quotactl", "quotactl_fd"),
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise"),
    # the kernel's larger surfaces
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter"),
    *("io_uring_register", "add_key", "request_key", "keyctl", "fanotify_init", "lookup_dcookie"),
    *("name_to_handle_at", "open_by_handle_at", "nfsservctl", "vmsplice"),
    # the machine
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("swapon", "swapoff", "acct", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    *("syslog", "vhangup", "sethostname", "setdomainname", "iopl", "ioperm", "modify_ldt"),
)
UNNAMED = (467,)
"""open_tree_attr: newer than the names of libseccomp 2.5, known by its number."""
NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put characters into somebody's terminal."""
OF_OTHERS = {
    **dict.fromkeys(("prlimit64", "sched_setaffinity", "sched_setscheduler"), 0),
    **dict.fromkeys(("sched_setparam", "sched_setattr"), 0),
    **dict.fromkeys(("setpriority", "ioprio_set"), 1),
}
"""Calls that change limits and priorities of any process of the user, and which argument names it."""
WHOLE_USERS = {"setpriority": 0, "ioprio_set": 1}
"""Those that name groups and users, too, and the first argument that means one process."""
OUTLIVING = ("shmget", "semget", "msgget", "mq_open", "mq_unlink")
ATTRIBUTES = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat"),
)
EXTENDED = (*("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),)
EXTENDED_UNNAMED = (463, 466, 469)
"""setxattrat, removexattrat and file_setattr."""
SET_FLAGS = (0x40086602, 0x401C5820)
"""FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR."""
UNIX, NETLINK = 1, 16
"""Socket families; 2 and 10 are the Internet's."""
NEWER = {"fchmodat2": 452}
"""Numbers of calls that libseccomp 2.5 cannot name; since Linux 5.1 they are the same everywhere."""


def filter_path(profile: str, architecture: str | None = None) -> Path:
    """The compiled filter; ValueError for an architecture that none is shipped for."""
    name = architecture or platform.machine()
    if name not in ARCHITECTURES:
        raise ValueError(
            f"no system call filter for {name!r}, only for {', '.join(ARCHITECTURES)}: "
            f"use isolation 'container' on this machine"
        )
    return FILTERS / f"{name}-{profile}.bpf"


def compile_filter(profile: str, architecture: str) -> bytes:
    """
    The filter as libseccomp compiles it; needs the binding ``pyseccomp`` and the library.

    Whatever is not refused is allowed; a foreign architecture kills the process.
    """
    import tempfile

    import pyseccomp

    made = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    native = architecture == platform.machine()
    if not native:
        made.add_arch(getattr(pyseccomp.Arch, architecture.upper()))
        made.remove_arch(pyseccomp.Arch.NATIVE)
    for action, call, *condition in _rules(profile, native=native, library=pyseccomp):
        made.add_rule(action, call, *condition)
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def _rules(profile: str, *, native: bool, library: Any) -> Iterator[tuple[Any, ...]]:
    """Action, system call and condition of each rule."""
    refuse, nothing = library.ERRNO(errno.EPERM), library.ERRNO(0)
    unsupported = library.ERRNO(errno.EOPNOTSUPP)
    for call in (*REFUSED, *(UNNAMED if native else ())):
        yield refuse, call
    # Its flags lie in memory, where a filter cannot look; the C library falls back to clone.
    yield library.ERRNO(errno.ENOSYS), "clone3"
    for bit in range(64):
        if NAMESPACES >> bit & 1:
            yield refuse, "clone", library.Arg(0, library.MASKED_EQ, 1 << bit, 1 << bit)
    # Only the lower half of the argument reaches the driver.
    namespaces = profile.startswith("strong")
    requests = TERMINAL_INPUT if namespaces else TERMINAL_INPUT + SET_FLAGS
    for request in requests:
        yield refuse, "ioctl", library.Arg(1, library.MASKED_EQ, 0xFFFFFFFF, request)
    yield from _sockets(profile, refuse, library)
    if namespaces:
        return
    for call in OUTLIVING:
        yield refuse, call
    # Landlock does not see them, and without root the harness is the same user; 0 is the caller itself.
    for call, position in OF_OTHERS.items():
        yield refuse, call, library.Arg(position, library.NE, 0)
    for call, kind in WHOLE_USERS.items():
        yield refuse, call, library.Arg(0, library.NE, kind)
    for call in ATTRIBUTES:
        # Python's forkserver and the GNU linker change the modes of their own files: nothing happens,
        # and they go on.
        yield nothing, NEWER.get(call, call)
    for call in (*EXTENDED, *(EXTENDED_UNNAMED if native else ())):
        yield unsupported, call
    if profile == "kernel-unconnected":
        yield refuse, "connect"


def _sockets(profile: str, refuse: Any, library: Any) -> Iterator[tuple[Any, ...]]:
    """Which families of sockets a profile leaves."""
    network = "-network" in profile
    allowed = {UNIX, 2, 10, NETLINK} if network or profile == "strong" else {UNIX}
    if profile.endswith("-unixless"):
        allowed.remove(UNIX)
        # One that is not connected for good could be pointed at another address.
        for kind in set(range(16)) - {1, 5}:
            yield refuse, "socketpair", library.Arg(1, library.MASKED_EQ, 0xF, kind)
    if network:
        yield (
            refuse,
            "socket",
            library.Arg(0, library.MASKED_EQ, 0xFFFFFFFF, NETLINK),
            library.Arg(2, library.GT, 0),
        )
    highest = max(allowed)
    for family in sorted(set(range(highest)) - allowed):
        yield refuse, "socket", library.Arg(0, library.MASKED_EQ, 0xFFFFFFFF, family)
    yield refuse, "socket", library.Arg(0, library.GT, highest)


def main() -> None:
    """Compile and write every filter; an architecture's own machine knows the most calls."""
    FILTERS.mkdir(exist_ok=True)
    for architecture in ARCHITECTURES:
        for profile in PROFILES:
            content = compile_filter(profile, architecture)
            filter_path(profile, architecture).write_bytes(content)
            sys.stdout.write(f"{architecture} {profile}: {len(content)} bytes\n")


if __name__ == "__main__":
    main()
