"""
The last trusted lines before an untrusted program: run in the supervisor's fork, which then becomes it.

They give away what the program must not have, in this order: private parents of what the program may see
(as root), the user id, resources, and at level ``kernel`` the file system, signals, sockets and system
calls. At level ``strong`` they only open the filter; bubblewrap, which comes next, does the rest.

The harness hands this module's compiled code to the supervisor, an isolated interpreter that reaches no
site directory: hence the standard library only, and of that only what the supervisor has loaded already.
A process of its own would cost each run another interpreter start.

Landlock is three system calls with two structures, and their layout is part of the kernel's stable
interface. They are made here and not by a binding, because those that exist are 0.x releases of one year,
take 26 to 34 ms to import and lie in a site directory. What is refused is decided by the kernel, and the
self-test asks the kernel, not this file.
"""

# pathlib is not loaded there.
# ruff: noqa: PTH103, PTH116, PTH120, PTH123

from __future__ import annotations

import os
import resource
import stat
import sys

from .calls import address, call, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FILTER_DESCRIPTOR = 100
"""Where bubblewrap finds the filter; every other descriptor closes on exec."""

CLONE_NEWNS = 0x20000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_SLAVE = 2, 4, 4096, 16384, 1 << 19
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2
SIGKILL = 9
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System call numbers, the same on every architecture."""
RULE_PATH_BENEATH = 1
VERSION_FLAG = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR = (
    1 << bit for bit in range(7)
)
MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV = (
    1 << bit for bit in range(7, 16)
)
EVERY_FILE_RIGHT = (1 << 16) - 1
BOTH_NET_RIGHTS = 3
BOTH_SCOPES = 3
"""Abstract UNIX sockets and signals."""
ON_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
RIGHTS = {
    "read": EXECUTE | READ_FILE | READ_DIR,
    "write": EVERY_FILE_RIGHT & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV),
    "device": READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEV,
    "plain": READ_FILE | WRITE_FILE,
    # Semaphores and shared tensors are made here under a name; listing would show other programs'.
    "shared": READ_FILE | WRITE_FILE | MAKE_REG | REMOVE_FILE | TRUNCATE,
}
"""What a rule ``RIGHT:PATH`` grants."""


def landlock_abi() -> int:
    """The version of Landlock's interface that the kernel offers; 0 for none."""
    try:
        return call("syscall", CREATE_RULESET, None, 0, VERSION_FLAG)
    except OSError:
        return 0  # none, or not Linux


def closed_parent(path: str) -> str:
    """The topmost directory above ``path`` that other users cannot enter; empty if there is none."""
    parts = path.split("/")
    for end in range(1, len(parts)):
        parent = "/".join(parts[:end]) or "/"
        if not os.stat(parent).st_mode & stat.S_IXOTH:
            return parent
    return ""


def outermost(paths: Iterable[str]) -> list[str]:
    """Those of ``paths`` that lie below no other of them."""
    found: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not found or not (path + "/").startswith(found[-1] + "/"):
            found.append(path)
    return found


def reach(paths: Iterable[str]) -> None:
    """
    Let an unprivileged user enter ``paths`` although they lie below private directories.

    In a mount namespace of this process, a fresh directory covers the topmost private parent, and only
    ``paths`` are bound back to where they were: the rest of the private directory is not even there.
    """
    covers: dict[str, list[str]] = {}
    for path in outermost(paths):
        if cover := closed_parent(path):
            covers.setdefault(cover, []).append(path)
    if covers:
        bind_back(covers)


def bind_back(covers: Mapping[str, Sequence[str]]) -> None:  # pragma: no cover (in the fork)
    """Cover each private parent, and bind what lies below it back to where it was."""
    try:
        call("unshare", CLONE_NEWNS)
    except OSError as error:
        cover, hidden = next(iter(covers.items()))
        raise OSError(
            error.errno,
            f"{hidden[0]!r} lies below {cover!r}, which other users cannot enter, and this root may not "
            f"mount: move it elsewhere, or let others pass with: chmod o+x {cover}",
        ) from None

    def mount(source: bytes, target: str, kind: bytes, flags: int, options: bytes) -> None:
        # A mount shared with the host would show there what is mounted here.
        call("mount", source, os.fsencode(target), kind, flags, options)

    mount(b"none", "/", b"", MS_REC | MS_SLAVE, b"")
    for cover, hidden in covers.items():
        # Opened before the cover hides them; after unshare, or they would belong to another namespace.
        opened = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in hidden]
        mount(b"tmpfs", cover, b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=755,size=1m")
        for path, descriptor in opened:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                os.makedirs(path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            mount(b"/proc/self/fd/%d" % descriptor, path, b"", MS_BIND | MS_REC, b"")
            os.close(descriptor)


def give(directory: str, uid: int) -> None:
    """
    Make ``uid`` the owner of a writable directory and of what is in it.

    A file with a second name stays who it belongs to: the other name may be the host's.
    """
    os.chown(directory, uid, uid)
    for _, names, files, descriptor in os.fwalk(directory):
        for name in (*names, *files):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
                os.chown(name, uid, uid, dir_fd=descriptor, follow_symlinks=False)


def become(uid: int) -> None:  # pragma: no cover (in the fork)
    """Turn into an unprivileged user that nothing belongs to."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def limit(name: str, value: int) -> None:  # pragma: no cover (in the fork)
    """A limit that cannot be raised again; an existing lower one stays."""
    kind = getattr(resource, f"RLIMIT_{name}")
    if name == "NPROC" and os.getuid() != 0 and value < 0:
        # The user's other processes count, too: leave room beyond all there are.
        with open("/proc/loadavg", encoding="ascii") as file:
            value = int(file.read().split("/")[1].split()[0]) - value
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def restrict(
    rules: Sequence[str], files: int = EVERY_FILE_RIGHT, tcp: int = BOTH_NET_RIGHTS
) -> None:  # pragma: no cover (in the fork)
    """Landlock: files only by ``rules``, no TCP, no signals and no abstract sockets to others."""
    # struct landlock_ruleset_attr of ABI 6; struct landlock_path_beneath_attr, which is packed.
    attribute = b"".join(number.to_bytes(8, sys.byteorder) for number in (files, tcp, BOTH_SCOPES))
    ruleset = call("syscall", CREATE_RULESET, attribute, len(attribute), 0)
    for rule in rules:
        right, _, path = rule.partition(":")
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        access = RIGHTS[right]
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= ON_A_FILE
        beneath = access.to_bytes(8, sys.byteorder) + descriptor.to_bytes(4, sys.byteorder)
        call("syscall", ADD_RULE, ruleset, RULE_PATH_BENEATH, beneath, 0)
        os.close(descriptor)
    call("syscall", RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def load(content: bytes) -> None:  # pragma: no cover (in the fork)
    """Install a compiled filter in this process and all it becomes or starts."""
    where, kept = address(content)
    # struct sock_fprog
    length = (len(content) // 8).to_bytes(2, sys.byteorder)
    call(
        "prctl",
        PR_SET_SECCOMP,
        SECCOMP_MODE_FILTER,
        length + bytes(6) + where.to_bytes(8, sys.byteorder),
        0,
        0,
    )
    del kept


def prepare(options: Sequence[str]) -> None:  # pragma: no cover (the next step is exec)
    """Do what the options ``name=value`` say; OSError with a sentence if it cannot be done."""
    supervisor = os.getppid()
    given: dict[str, list[str]] = {}
    for option in options:
        name, _, value = option.partition("=")
        given.setdefault(name, []).append(value)
    filter_file = os.open(given["filter"][0], os.O_RDONLY)
    if "uid" in given:
        uid = int(given["uid"][0])
        for directory in given.get("give", ()):
            give(directory, uid)
        reach(given.get("reach", ()))
        become(uid)
    # A change of user clears it; without it, a killed supervisor would leave the program behind.
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != supervisor:
        os._exit(127)
    for name, value in (entry.split(":") for entry in given.get("limit", ())):
        limit(name, int(value))
    if "cwd" in given:
        os.chdir(given["cwd"][0])  # where it was, something may be mounted by now
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        restrict(given.get("rule", ()), tcp=0 if "network" in given else BOTH_NET_RIGHTS)
        load(os.read(filter_file, 1 << 16))
    else:
        if "scope" in given:
            # Abstract sockets belong to the network's namespace, which is the machine's own then.
            call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            restrict((), files=0, tcp=0)
        os.dup2(filter_file, FILTER_DESCRIPTOR)
