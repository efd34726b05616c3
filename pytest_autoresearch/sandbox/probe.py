"""
Tries from inside a sandbox what no program there may do, and says how each attempt ended.

Run as ``python -I -S -c SOURCE NAME=VALUE...`` with the standard library only. Each line of its output is
``name<TAB>outcome``: the name of an error number, ``ok`` if the attempt succeeded, or a value. It
changes nothing where it succeeds: what it makes it removes, what it mounts it unmounts. After the line
``ready`` it waits to be killed, and so does a daemon it left, which holds a lock while it lives.
"""

# pathlib and contextlib would add to the self-test's time.
# ruff: noqa: PTH108, PTH123, PTH208

from __future__ import annotations

# The public modules would import enum and selectors and build dozens of types: a third of the self-test's time.
import _ctypes
import _socket
import errno
import fcntl
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Simple = _ctypes._SimpleCData[Any]
else:
    Simple = _ctypes._SimpleCData

PTRACE_SEIZE = 0x4206
CLONE_NEWUSER = 0x10000000
AF_VSOCK = 40


def attempt(action: Callable[[], object]) -> str:
    """The name of the error that ``action`` ends in, or ``ok``."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def create(path: str) -> None:
    """Make a file and remove it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)


def look(path: str) -> None:
    """Open a file or a directory to read."""
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def change(path: str) -> None:
    """Open a file to write, without writing."""
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def connect(family: int, address: object) -> None:  # pragma: no cover (inside)
    """Connect to a listener."""
    connection = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        connection.settimeout(2)
        connection.connect(address)  # type: ignore[arg-type]
    finally:
        connection.close()


def connect_file(path: str) -> None:  # pragma: no cover (inside the sandbox)
    """Connect to a socket by its name alone: its path may be longer than a socket's address."""
    here = os.open(".", os.O_PATH)
    try:
        os.chdir(os.path.dirname(path))  # noqa: PTH120
        connect(_socket.AF_UNIX, os.path.basename(path))  # noqa: PTH119
    finally:
        os.fchdir(here)
        os.close(here)


def tell(port: int, message: bytes) -> None:  # pragma: no cover (inside)
    """Send a datagram, as several programs would."""
    sender = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        sender.sendto(message, ("127.0.0.1", port))
    finally:
        sender.close()


class _Int(Simple):
    _type_ = "i"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Int


def system(name: str, *arguments: object) -> None:
    """A call of the C library; OSError as Python's own calls raise it."""
    itself: Any = None  # it is linked into the interpreter
    if _Function(_ctypes.dlsym(_ctypes.dlopen(itself, 0), name))(*arguments) < 0:
        raise OSError(_ctypes.get_errno(), name)


def mount(target: str) -> None:  # pragma: no cover (inside)
    """Mount, and unmount what was mounted."""
    system("mount", b"none", os.fsencode(target), b"tmpfs", 0, None)
    system("umount2", os.fsencode(target), 0)


def leave_namespace() -> None:  # pragma: no cover (inside)
    """Make a user namespace, in a child, since there would be no way back."""
    child = os.fork()
    if not child:
        outcome = 255
        try:
            outcome = errno_of(lambda: system("unshare", CLONE_NEWUSER))
        finally:
            os._exit(outcome)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, "unshare")


def errno_of(action: Callable[[], object]) -> int:
    """The error number that ``action`` ends in, or 0."""
    try:
        action()
    except OSError as error:
        return error.errno or 255
    return 0


def trace(pid: int) -> None:
    """Attach to a process without stopping it; it is detached when this one ends."""
    system("ptrace", PTRACE_SEIZE, pid, None, None)


def started(pid: int) -> str:
    """When the process that bears ``pid`` here was started, in clock ticks since boot."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return ""


def status(*names: str) -> dict[str, str]:
    """Lines of ``/proc/self/status``."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {name: lines.get(name, "missing") for name in names}


def descriptors() -> str:  # pragma: no cover (inside)
    """The open descriptors, without the one that lists them."""
    names = sorted(os.listdir("/proc/self/fd"), key=int)
    return ",".join(name for name in names if is_open(int(name)))


def is_open(descriptor: int) -> bool:
    """Whether a descriptor is open."""
    return not errno_of(lambda: os.fstat(descriptor))


def leave_daemon(lock: str) -> None:  # pragma: no cover (inside)
    """A process of another session whose parent is gone; it holds ``lock`` while it lives."""
    reader, writer = os.pipe()
    if not os.fork():
        os.setsid()
        if not os.fork():
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(writer, b"x")
            time.sleep(600)
        os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)


def main(arguments: list[str]) -> None:  # pragma: no cover (inside)
    """Try everything, in a fixed order, then wait."""
    given = dict(argument.split("=", 1) for argument in arguments)
    harness, snapshot, out = int(given["harness"]), given["snapshot"], given["out"]
    # In a process namespace the harness's number may be somebody else's.
    here = started(harness)
    stranger = bool(here) and here != given["started"]
    own = status("CapEff", "NoNewPrivs", "Seccomp", "Uid")
    outcomes = {
        "open descriptors": descriptors(),
        "effective capabilities": own["CapEff"].lstrip("0") or "0",
        "no new privileges": own["NoNewPrivs"],
        "system call filter": own["Seccomp"],
        "user id inside": "0" if own["Uid"].split()[0] == "0" else "not 0",
        "environment": ",".join(sorted(os.environ.keys() - set(given["env"].split(",")))),
        "write to the snapshot": attempt(lambda: change(f"{snapshot}/train.py")),
        "new file in the snapshot": attempt(lambda: create(f"{snapshot}/autoresearch-probe")),
        "new file in the root directory": attempt(lambda: create("/autoresearch-probe")),
        "write to /proc/sys": attempt(lambda: change("/proc/sys/kernel/core_pattern")),
        "write to the output": attempt(lambda: os.close(os.open(f"{out}/owner", os.O_CREAT))),
        "connect by TCP": attempt(
            lambda: connect(_socket.AF_INET, ("127.0.0.1", int(given["tcp"])))
        ),
        "send by UDP": attempt(lambda: tell(int(given["udp"]), b"probe")),
        "connect to an abstract socket": attempt(
            lambda: connect(_socket.AF_UNIX, "\0" + given["abstract"])
        ),
        "connect to a socket file": attempt(lambda: connect_file(given["socket"])),
        "socket to the hypervisor": attempt(lambda: _socket.socket(AF_VSOCK).close()),
        "signal the harness": "ESRCH" if stranger else attempt(lambda: os.kill(harness, 0)),
        "trace the harness": attempt(lambda: trace(harness)),
        "memory of the harness": "ENOENT"
        if stranger
        else attempt(lambda: look(f"/proc/{harness}/mem")),
        "mount": attempt(lambda: mount(out)),
        "new user namespace": attempt(leave_namespace),
    }
    for path in given["hidden"].split("\n"):
        outcomes[f"read {path}"] = attempt(lambda path=path: look(path))  # type: ignore[misc]
    leave_daemon(f"{out}/lock")
    sys.stdout.write("".join(f"{name}\t{value}\n" for name, value in outcomes.items()) + "ready\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":  # pragma: no cover (inside)
    main(sys.argv[1:])
