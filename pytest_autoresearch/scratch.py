"""
One temporary directory per session, which the next session removes if this one was killed.

Everything temporary lies below it. While the session lives it holds a lock in there, which its death gives
back, however it dies: a directory whose lock nobody holds is a leftover.

What is covered: a session killed at any moment, sessions side by side, leftovers with hostile modes, of
another user's (for root), deeper than a path can say; somebody else's directory in the place of ours.
What is not covered: leftovers of a campaign that is never opened again, and of other users.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from .rundir import fresh, remove

__all__ = ["Scratch", "ScratchError", "sweep", "user_directory"]

SESSION, DEAD = "session-", "dead-"
LOCK = "lock"
LONGEST = 40
"""Bytes of a base's path that leave room for a session, a run and what multiprocessing adds: 107 in all."""


class ScratchError(Exception):
    """There is no place for temporary files; the message says what to do."""


def user_directory() -> Path:
    """
    The user's own directory in the machine's temporary one; made if need be.

    Its name can be foreseen, so somebody else may have made it: it is used only if it is a directory, the
    user's, and closed to others. Root's lets others pass, but not look: programs run as another user there.

    :raises ScratchError: it is not, or cannot be made.
    """
    machine = Path(tempfile.gettempdir())
    user = os.geteuid()
    if len(os.fsencode(machine)) + len(f"/autoresearch-{user}") > LONGEST:
        machine = Path("/tmp")  # noqa: S108
    path = machine / f"autoresearch-{user}"
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise ScratchError(
            f"{str(path)!r} cannot be made ({error.strerror}): set TMPDIR to a directory of your own"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        what = "is a link" if stat.S_ISLNK(found.st_mode) else "is no directory"
    elif found.st_uid != user:
        what = f"belongs to user {found.st_uid}"
    else:
        path.chmod(0o700 if user else 0o711)
        return path
    raise ScratchError(
        f"{str(path)!r} {what}, and temporary files of user {user} go there: somebody made it first. Remove "
        f"it, or set TMPDIR to a directory of your own"
    )


def sweep(base: Path) -> int:
    """Remove what dead sessions left below ``base``; how many directories."""
    with _alone(base):
        for path in _named(base, SESSION):
            if not _held(path):
                # Nobody finds it under its old name, so it can be removed at leisure.
                with suppress(FileNotFoundError):  # its own session removed it meanwhile
                    path.rename(path.with_name(DEAD + secrets.token_hex(8)))
    dead = _named(base, DEAD)
    for path in dead:
        remove(path)
    return len(dead)


class Scratch:
    """
    The temporary directory of this session; use it as a context manager.

    Nothing is made before it is entered. Entering removes what dead sessions left.

    :param base: where session directories lie; the user's directory in the machine's temporary one if None.
    """

    def __init__(self, base: Path | None = None) -> None:
        self._base = base
        self._stack = ExitStack()
        self._paths: list[Path] = []

    def __enter__(self) -> Self:
        """
        Make the directory.

        :raises ScratchError: see :func:`user_directory`.
        """
        with ExitStack() as stack:
            machine = user_directory()
            # A project's own path may leave no room for a socket's; then there are two directories.
            bases = [self._base or machine]
            if len(os.fsencode(bases[0])) > LONGEST:
                bases.append(machine)
            for base in dict.fromkeys((*bases, machine)):
                base.mkdir(parents=True, exist_ok=True)
                sweep(base)
            self._paths = [stack.enter_context(_session(base)) for base in bases]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def path(self) -> Path:
        """The session's directory."""
        if not self._paths:
            raise RuntimeError("the scratch directory is not open: enter it first")
        return self._paths[0]

    def fresh(self, name: str) -> Path:
        """A new, empty directory."""
        return fresh(self.path / f"{name}-{secrets.token_hex(4)}")

    def short(self) -> Path:
        """The same with a path so short that sockets can be made in it."""
        return fresh(self._paths[-1] / secrets.token_hex(4))


@contextmanager
def _session(base: Path) -> Iterator[Path]:
    """A directory that nobody sweeps away while it is held."""
    with _alone(base):
        path = base / (SESSION + secrets.token_hex(6))
        path.mkdir()
        path.chmod(0o711)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield path
        remove(path)
    finally:
        os.close(lock)


@contextmanager
def _alone(base: Path) -> Iterator[None]:
    """No other session makes or judges a directory below ``base`` meanwhile."""
    lock = os.open(base / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _named(base: Path, prefix: str) -> list[Path]:
    return [path for path in base.iterdir() if path.name.startswith(prefix)]


def _held(path: Path) -> bool:
    """Whether a living session holds the lock of a directory."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # its session died before it had one, or it is no session's
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
