"""
Surface files in the work tree: read as data, written atomically, touching nothing else.

Every directory on the way is opened without following symbolic links, so that no link can lead a
write out of the project.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from .gitprocess import RepositoryError

__all__ = ["read_file", "write_file"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_file(root: Path, path: str) -> bytes | None:
    """The bytes of a regular file below ``root``; None when there is no such file."""
    try:
        with _parent(root, path, make=False) as directory:
            return _read(directory, PurePosixPath(path).name)
    except OSError:
        return None


def write_file(root: Path, path: str, content: bytes, *, executable: bool) -> None:
    """
    Make ``path`` a regular file with this content, durably and in one step.

    Whatever stands in its place is replaced, a symbolic link instead of the file it points to; a
    directory there is moved aside. Owner and permissions of a file that was there stay. Remains of
    writes that were killed are removed.

    :raises RepositoryError: when it cannot be written.
    """
    try:
        with _parent(root, path, make=True) as directory:
            name = PurePosixPath(path).name
            _sweep(directory, name)
            _write(directory, name, content, executable)
    except OSError as error:
        raise RepositoryError(
            f"{path!r} cannot be written ({error.strerror}): free space or give write access, then "
            "start again"
        ) from error


@contextlib.contextmanager
def _parent(root: Path, path: str, *, make: bool) -> Iterator[int]:
    """A descriptor of the file's directory."""
    descriptor = os.open(root, _DIRECTORY)
    try:
        for part in PurePosixPath(path).parts[:-1]:
            if make:
                _make_directory(descriptor, part)
            inner = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _make_directory(directory: int, name: str) -> None:
    info = _lstat(directory, name)
    if info is not None and not stat.S_ISDIR(info.st_mode):
        _set_aside(directory, name, info)
        info = None
    if info is None:
        os.mkdir(name, dir_fd=directory)
        os.fsync(directory)


def _write(directory: int, name: str, content: bytes, executable: bool) -> None:
    info = _lstat(directory, name)
    old = info if info is not None and stat.S_ISREG(info.st_mode) else None
    if old is not None and _fits(old, executable) and _read(directory, name) == content:
        # Whoever wrote these bytes may not have synced them.
        _sync(directory, name)
        return
    temporary = f".autoresearch-{name}-{secrets.token_hex(4)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # The umask shapes the mode of a file that was not there, as it does for git.
    descriptor = os.open(temporary, flags, 0o777 if executable else 0o666, dir_fd=directory)
    try:
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            owner = old or os.fstat(directory)
            if owner.st_uid != os.geteuid():  # root in a container, on somebody's checkout
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
            if old is not None and _fits(old, executable):
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if info is not None and stat.S_ISDIR(info.st_mode):
            _set_aside(directory, name, info)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


def _fits(info: os.stat_result, executable: bool) -> bool:
    """Whether a file's permissions are those of a file that git would have written."""
    owner = info.st_mode & 0o700
    return owner == (0o700 if executable else 0o600) and info.st_nlink == 1


def _set_aside(directory: int, name: str, info: os.stat_result) -> None:
    """Make room for a file without losing what stands in its place, unless it is a link."""
    if stat.S_ISLNK(info.st_mode):
        os.unlink(name, dir_fd=directory)
        return
    aside = f"{name}.aside-{secrets.token_hex(4)}"
    os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)


def _sweep(directory: int, name: str) -> None:
    for entry in os.listdir(directory):
        if entry.startswith(f".autoresearch-{name}-") and entry.endswith(".tmp"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(entry, dir_fd=directory)


def _lstat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _read(directory: int, name: str) -> bytes | None:
    # O_NONBLOCK: a FIFO in the file's place must not hang the reader.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _sync(directory: int, name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
