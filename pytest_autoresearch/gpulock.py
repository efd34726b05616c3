"""
One run per GPU at a time, across sessions and projects of one user.

A lock on a file per GPU, which the run's supervisor holds as well as the session: a session that is killed
leaves the GPU locked exactly as long as a process of its run lives.

What is not covered: runs of other users, and programs that do not ask.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from .scratch import user_directory

__all__ = ["GpuLock"]

POLL = 0.1
"""Seconds between two tries."""
SHOWN = 512
"""Bytes of what a holder says about itself."""


class GpuLock:
    """
    Context manager that waits until no other run uses ``gpus``, and gives the descriptors to hold on to.

    :param gpus: what identifies them on this machine: UUIDs.
    :param directory: where the locks lie; by default the user's directory in the machine's temporary one.
    :param notify: called once with a sentence that says who uses a GPU that has to be waited for.
    """

    def __init__(
        self,
        gpus: Sequence[str],
        *,
        directory: Path | None = None,
        notify: Callable[[str], object] | None = None,
    ) -> None:
        # In one order for all, so that no two wait for each other.
        self._gpus = sorted(set(gpus))
        self._directory = directory
        self._notify = notify
        self._stack = ExitStack()

    def __enter__(self) -> tuple[int, ...]:
        """
        Wait for the GPUs, as long as it takes.

        :raises ScratchError: there is no place for the locks.
        """
        with ExitStack() as stack:
            directory = user_directory() if self._directory is None else self._directory
            held = tuple(self._acquire(directory, gpu, stack) for gpu in self._gpus)
            self._stack = stack.pop_all()
        return held

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _acquire(self, directory: Path, gpu: str, stack: ExitStack) -> int:
        path = directory / f"gpu-{re.sub('[^A-Za-z0-9-]', '_', gpu)}.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        # Closed, not unlocked: the supervisor's copy goes on holding it if it still lives.
        stack.callback(os.close, lock)
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if self._notify is not None and not told:
                    holder = os.pread(lock, SHOWN, 0).decode("utf-8", errors="replace")
                    self._notify(f"GPU {gpu} is in use by {holder or 'another session'}: waiting")
                told = True
                time.sleep(POLL)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"the session with process id {os.getpid()} in {Path.cwd()}".encode(), 0)
        return lock
