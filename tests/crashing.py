"""
Every state of the disk that a crash can leave: the calls of a whole process tree, seen and steered one by one.

A seccomp filter with a listener (``SECCOMP_RET_USER_NOTIF``, seccomp_unotify(2)) stops a child and all that it
starts, git included, before each call that may change the disk. What lies there at that moment is what a SIGKILL
would leave, so one run of the work gives the images of all kills; a call can be made to fail instead, and the
tree can be killed in earnest. From the same sequence follow the images of a power failure, as in ALICE (Pillai et
al., "All File Systems Are Not Created Equal", OSDI 2014): what was written and not synced is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import platform
import select
import shutil
import signal
import socket
import stat
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from provenance import TAG
from provenance import Campaign as Plain

from pytest_autoresearch import rows
from pytest_autoresearch.campaign import Campaign as Opened
from pytest_autoresearch.continuity import StateMemory, remember_heads
from pytest_autoresearch.journal import Journal, Settlement
from pytest_autoresearch.recovery import recover, stock_acts, stock_undo
from pytest_autoresearch.settlement import record_ratification

__all__ = [
    "Campaign",
    "Crash",
    "Entry",
    "Image",
    "Step",
    "crashes",
    "lay",
    "rehearse",
    "roomy",
    "supported",
    "take",
]

# ---- images


class Entry(NamedTuple):
    """What stands under a name."""

    mode: int
    content: bytes
    """Of a file; a link's target; nothing for a directory."""
    inode: int


Image = dict[str, Entry]
"""Path below the root to what stands there."""


def take(root: Path) -> Image:
    """Everything below a directory."""
    image: Image = {}
    pending = [("", str(root))]
    while pending:
        prefix, directory = pending.pop()
        for found in os.scandir(directory):
            name = prefix + found.name
            info = found.stat(follow_symlinks=False)
            content = b""
            if stat.S_ISDIR(info.st_mode):
                pending.append((f"{name}/", found.path))
            elif stat.S_ISLNK(info.st_mode):
                content = os.fsencode(Path(found.path).readlink())
            elif stat.S_ISREG(info.st_mode):
                with Path(found.path).open("rb", buffering=0) as file:
                    content = file.read()
            image[name] = Entry(info.st_mode, content, info.st_ino)
    return image


def lay(root: Path, image: Image) -> None:
    """Make what is below a directory the image; ``.git`` stays the directory it was."""
    there = take(root)
    for name in sorted(there.keys() - image.keys(), reverse=True):
        path = root / name
        path.rmdir() if stat.S_ISDIR(there[name].mode) else path.unlink()
    for name in sorted(image):
        mode, content, _ = image[name]
        old = there.get(name)
        if old is not None and old[:2] == (mode, content):
            continue
        path = root / name
        if old is not None and stat.S_IFMT(old.mode) != stat.S_IFMT(mode):
            path.rmdir() if stat.S_ISDIR(old.mode) else path.unlink()
            old = None
        if stat.S_ISDIR(mode):
            if old is None:
                path.mkdir()
        elif stat.S_ISLNK(mode):
            path.unlink(missing_ok=True)
            path.symlink_to(os.fsdecode(content))
            continue
        else:
            path.write_bytes(content)
        path.chmod(stat.S_IMODE(mode))


@contextlib.contextmanager
def roomy(otherwise: Path) -> Iterator[Path]:
    """A directory in memory where there is room: what is synced there thousands of times is never read again."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 1 << 28:
        yield otherwise
        return
    with TemporaryDirectory(prefix="autoresearch-", dir=memory) as directory:
        yield Path(directory)


# ---- the listener

_CALLS = {
    "at": ("openat", "mkdirat", "unlinkat", "symlinkat", "fchmodat", "fchownat"),
    "path": ("open", "creat", "mkdir", "rmdir", "unlink", "chmod", "truncate"),
    "two": ("rename", "link", "symlink"),
    "two at": ("renameat", "renameat2", "linkat"),
    "descriptor": (
        *("write", "writev", "pwrite64", "pwritev", "ftruncate", "fallocate", "fchmod", "fchown"),
        *("fsync", "fdatasync", "sendfile"),
    ),
    "out": ("copy_file_range",),
}
"""Where a call names what it changes."""
_WRITES = ("write", "writev", "pwrite64", "pwritev", "sendfile", "copy_file_range")
_SYNCS = ("fsync", "fdatasync")
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000
_CHANGES = os.O_CREAT | os.O_TRUNC
_NOTICE = struct.Struct("=QII iIQ 6Q")
_ANSWER = struct.Struct("=Qqi I")


class Step(NamedTuple):
    """One call below the root that may change the disk, before it happens."""

    number: int
    call: str
    path: str
    """Below the root; of two names the last."""
    pid: int

    def __str__(self) -> str:
        return f"step {self.number}: {self.call} {self.path}"


def _numbers() -> dict[int, tuple[str, str]]:
    """Number of a call to its name and where it names what it changes."""
    import pyseccomp

    found = {}
    for kind, names in _CALLS.items():
        for name in names:
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                number = pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)
                if number >= 0:
                    found[number] = (name, kind)
    return found


def _listen(numbers: Mapping[int, tuple[str, str]]) -> int:
    """Install the filter in this process; the descriptor on which its calls are announced."""

    def statement(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    load, equal, give, masked = 0x20, 0x15, 0x06, 0x45
    program = [statement(load, 0)]
    for number, (name, _) in numbers.items():
        if name in ("open", "openat"):
            flags = 16 + 8 * (2 if name == "openat" else 1)
            program += [
                statement(equal, number, 0, 4),
                statement(load, flags),
                statement(masked, _CHANGES, 0, 1),
                statement(give, _NOTIFY),
                statement(give, _ALLOW),
            ]
        else:
            program += [statement(equal, number, 0, 1), statement(give, _NOTIFY)]
    program.append(statement(give, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(
        struct.pack("@HxxxxxxP", len(program), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "prctl")
    listener = libc.syscall(_SECCOMP[platform.machine()], 1, 8, header)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


class _Tree:
    """A child that does some work under the filter, and everything it starts."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.numbers = _numbers()
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads' locks are not used
            self.pid = os.fork()
        if self.pid == 0:
            status = 1
            with contextlib.suppress(BaseException):
                os.setsid()
                ours.close()
                try:
                    listener = _listen(self.numbers)
                except OSError:
                    os._exit(3)
                socket.send_fds(theirs, [b"x"], [listener])
                os.close(listener)
                theirs.close()
                work()
                status = 0
            os._exit(status)
        theirs.close()
        with ours:
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        self.listener = descriptors[0] if descriptors else -1

    def steps(self, root: Path) -> Iterator[tuple[Step, Callable[[int], None]]]:
        """Each step below the root, with what lets it happen (0) or fail (an errno)."""
        prefix = f"{root}/"
        number = 0
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while True:
            [(_, events)] = poll.poll(60_000) or [(0, 0)]
            assert events, "the child does nothing for a minute"
            if not events & select.POLLIN:
                return  # all have ended
            buffer = bytearray(_NOTICE.size)
            try:
                fcntl.ioctl(self.listener, _RECEIVE, buffer)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue  # killed meanwhile
                raise
            notice, pid, _, call, _, _, *arguments = _NOTICE.unpack(buffer)
            name, kind = self.numbers[call]

            def answer(failure: int = 0, notice: int = notice) -> None:
                flags = 0 if failure else _CONTINUE
                with contextlib.suppress(OSError):  # killed meanwhile
                    fcntl.ioctl(self.listener, _SEND, _ANSWER.pack(notice, 0, -failure, flags))

            path = _named(pid, kind, arguments)
            if path is None or not f"{path}/".startswith(prefix):
                answer()
                continue
            yield Step(number, name, path[len(prefix) :], pid), answer
            number += 1

    def end(self) -> int:
        """Wait status of the child."""
        if self.listener >= 0:
            os.close(self.listener)
        return os.waitpid(self.pid, 0)[1]


def _named(pid: int, kind: str, arguments: list[int]) -> str | None:
    """Absolute path that a call is about; None when the process is gone."""
    try:
        match kind:
            case "descriptor":
                return str(Path(f"/proc/{pid}/fd/{arguments[0]}").readlink()).removesuffix(
                    " (deleted)"
                )
            case "out":
                return str(Path(f"/proc/{pid}/fd/{arguments[2]}").readlink())
            case "at":
                return _joined(pid, arguments[0], arguments[1])
            case "path":
                return _joined(pid, None, arguments[0])
            case "two":
                return _joined(pid, None, arguments[1])
            case _:
                return _joined(pid, arguments[2], arguments[3])
    except OSError:
        return None


def _joined(pid: int, directory: int | None, pointer: int) -> str:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        text = os.pread(memory.fileno(), 4096 - pointer % 4096, pointer)
        if b"\0" not in text:
            text += os.pread(memory.fileno(), 4096, pointer + len(text))
    path = os.fsdecode(text.partition(b"\0")[0])
    here = directory is None or directory & 0xFFFFFFFF == 0xFFFFFF9C  # AT_FDCWD
    link = f"/proc/{pid}/cwd" if here else f"/proc/{pid}/fd/{directory}"
    return os.path.normpath(Path(link).readlink() / path)


def supported() -> str:
    """Why calls cannot be announced here; empty when they can."""
    if platform.machine() not in _SECCOMP:
        return f"no system call numbers for {platform.machine()}"
    try:
        tree = _Tree(lambda: None)
    except ImportError as error:
        return str(error)
    if tree.listener >= 0:
        for _, answer in tree.steps(Path("/nonexistent")):
            answer(0)
    return "" if tree.end() == 0 else "seccomp_unotify(2) is refused here"


# ---- what a crash leaves


@dataclass
class Crash:
    """One image that a crash can leave, and where."""

    where: str
    image: Image = field(repr=False)


def crashes(root: Path, work: Callable[[], object]) -> list[Crash]:
    """
    Do the work once, to its end; every image that a crash on the way leaves, each once.

    *killed*: at each step, and in the middle of each write. *power*: the same moments, what was not synced
    gone, names as they were: file systems keep names in order. *names*: outside ``.git``, whose writer
    relies on that order, a name is there only once its directory was synced.
    """
    tree = _Tree(work)
    disk = _Disk(take(root))
    for step, answer in tree.steps(root):
        disk.step(step, take(root))
        answer(0)
    disk.step(Step(-1, "", "", 0), take(root))
    status = tree.end()
    assert status == 0, f"the work itself failed: {status}"
    return disk.found


class _Disk:
    """What would be left, kept up step by step."""

    def __init__(self, image: Image) -> None:
        self.number = 0
        self.files: dict[int, int] = {}
        image = self._identified(image)
        self.last = image
        self.call = Step(-1, "", "", 0)
        self.synced = {entry.inode: entry.content for entry in image.values()}
        self.names = dict(image)  # durable names, with the inodes they lead to
        self.found: list[Crash] = []
        self.seen: set[int] = set()

    def step(self, step: Step, image: Image) -> None:
        """The next call, and what lies there before it."""
        image = self._identified(image)
        if self.call.call in _WRITES:
            self._half(image)
        there = {entry.inode for entry in image.values()} | {
            entry.inode for entry in self.names.values()
        }
        self.synced = {inode: each for inode, each in self.synced.items() if inode in there}
        if self.call.call in _SYNCS:
            self._sync(self.call.path, self.last)
        self.call, self.last = step, image
        self._add(f"killed, {step}", image)
        self._add(f"power, {step}", {name: self._durable(entry) for name, entry in image.items()})
        self._add(f"names, {step}", self._strict(image))

    def _identified(self, image: Image) -> Image:
        """The image with a number of its own for each file: inodes are used again."""
        inodes = {entry.inode for entry in image.values()}
        self.files = {inode: number for inode, number in self.files.items() if inode in inodes}
        for inode in inodes - self.files.keys():
            self.files[inode] = self.number = self.number + 1
        return {
            name: entry._replace(inode=self.files[entry.inode]) for name, entry in image.items()
        }

    def _sync(self, path: str, image: Image) -> None:
        entry = image.get(path)
        if entry is not None and not stat.S_ISDIR(entry.mode):
            self.synced[entry.inode] = entry.content
            return
        inside = f"{path}/" if path else ""
        for names in (self.names, image):
            for name in list(names):
                if name.startswith(inside) and "/" not in name[len(inside) :]:
                    if names is image:
                        self.names[name] = image[name]
                    else:
                        del names[name]

    def _durable(self, entry: Entry) -> Entry:
        if not stat.S_ISREG(entry.mode):
            return entry
        return entry._replace(content=self.synced.get(entry.inode, b""))

    def _strict(self, image: Image) -> Image:
        inside = {name: each for name, each in image.items() if name.split("/")[0] == ".git"}
        outside = {name: each for name, each in self.names.items() if name.split("/")[0] != ".git"}
        found = {}
        for name in sorted({**inside, **outside}):
            parent = name.rpartition("/")[0]
            if not parent or parent in found:
                found[name] = self._durable(inside.get(name) or outside[name])
        return found

    def _half(self, image: Image) -> None:
        """A write that was cut short in its middle."""
        for name, entry in image.items():
            old = self.last.get(name)
            if old is None or old.inode != entry.inode or old.content == entry.content:
                continue
            pairs = zip(old.content, entry.content, strict=False)
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            middle = (same + len(entry.content)) // 2
            torn = entry.content[:middle] + old.content[middle:]
            self._add(f"torn, {self.call}", {**image, name: entry._replace(content=torn)})

    def _add(self, where: str, image: Image) -> None:
        key = hash(frozenset((name, entry[:2]) for name, entry in image.items()))
        if key not in self.seen:
            self.seen.add(key)
            self.found.append(Crash(where, image))


def rehearse(
    root: Path,
    work: Callable[[], object],
    *,
    fail_at: int | None = None,
    failure: int = 0,
    kill_at: int | None = None,
) -> tuple[int, int]:
    """
    Do the work in a child; number of its steps and its wait status.

    :param fail_at: from this step on the disk fails with ``failure``: ENOSPC for what needs space, any other
        for all that changes something.
    :param kill_at: SIGKILL at this step, to everything that the child has started as well.
    """
    tree = _Tree(work)
    number = -1
    for step, answer in tree.steps(root):
        number = step.number
        if number == kill_at:
            os.killpg(tree.pid, signal.SIGKILL)
            continue  # an answer would let the call happen yet
        frees = step.call in ("unlink", "unlinkat", "rmdir", "rename", "ftruncate", *_SYNCS)
        broken = fail_at is not None and number >= fail_at
        answer(failure if broken and not (frees and failure == errno.ENOSPC) else 0)
    return number + 1, tree.end()


def steps_of(root: Path, work: Callable[[], object]) -> list[Step]:
    """Do the work in a child; its steps below the root."""
    tree, found = _Tree(work), []
    for step, answer in tree.steps(root):
        found.append(step)
        answer(0)
    assert tree.end() == 0
    return found


# ---- what crashes


class Campaign(Plain):
    """One whose surface can be left half changed, and whose session holds the lock all along."""

    surface = ("train.py", "pkg/model.py")
    configuration = ""
    """Of the project, besides its surface."""

    def __init__(self, root: Path, tag: str = TAG) -> None:
        super().__init__(root, tag)
        self.trees = {"": ""}
        self.reopen()

    @classmethod
    def write(cls, root: Path, content: bytes) -> dict[str, bytes]:
        if not (root / "pyproject.toml").exists():
            surface = ", ".join(f'"{path}"' for path in cls.surface)
            text = f"[tool.autoresearch]\nsurface = [{surface}]\n{cls.configuration}"
            (root / "pyproject.toml").write_text(text)
        return super().write(root, content)

    def reopen(self) -> None:
        """Have nothing in memory, as a new process."""
        remember = remember_heads(self.repository, self.tag)
        memory = StateMemory(self.repository, self.tag)
        self.journal = Journal(self.directory, remember, memory)

    def opened(self) -> AbstractContextManager[Opened]:
        """What a session opens, under its lock."""
        options = argparse.Namespace(
            autoresearch_tag=self.tag, autoresearch_dry_run=False, collectonly=False, autoresearch_rounds=None,
            autoresearch_sandbox="none", autoresearch_candidate=None,
        )  # fmt: skip
        return contextlib.closing(Opened(self.root, options))

    def ratify_head(self) -> None:
        """What ``autoresearch ratify`` does, with the lock free before it."""
        with self.opened() as campaign:
            campaign.use_harness(campaign.repository.head_commit())
            record_ratification(campaign, actor="Ada", reason="a stricter gate")

    def transact(self, intent: rows.Intent, payload: rows.Payload) -> Settlement:
        act = stock_acts(self.repository)[intent.action]
        return self.journal.transact(intent, payload, act, stock_undo(self.repository))

    def recover(self) -> Settlement | None:
        return recover(self.journal, self.repository, TAG)

    def count(self) -> int:
        return sum(1 for _ in self.journal.cutovers())

    def state(self) -> object:
        """
        Where the campaign stands, without what may differ between equal ones: row numbers, and commit ids.

        A keep behind a torn row names other heads in its message: its tree is the same.
        """
        state, trees = self.journal.state(), self.trees
        incumbent = state.incumbent
        commits = [row.commit for row in state.settled] + [incumbent.commit if incumbent else ""]
        trees |= {each: self.repository.tree_of(each) for each in commits if each not in trees}
        # What grows is read now: the file that it lies in may be another one soon.
        grown = ("spends", "chart", "chart_seqs", "gaps", "canaries")
        return replace(
            state,
            seq=0,
            **{name: tuple(getattr(state, name)) for name in grown},
            incumbent=incumbent and replace(incumbent, commit=trees[incumbent.commit]),
            settled=tuple(replace(row, row=0, commit=trees[row.commit]) for row in state.settled),
        )
