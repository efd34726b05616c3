"""
Several runs at a time: each in a thread, their scorers and everything else in the main thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .measuring import Ended, Measurement, Runner
    from .records import RunRequest
    from .report.terminal import RunProgress
    from .scoring import Scorers

__all__ = ["Slots"]

TICK = 0.25
"""Seconds between two looks at the terminal while runs go on in threads."""
PATIENCE = 15.0
"""Seconds in which cancelled runs must have ended; a hook that does not listen is left to its thread."""


class Slots:
    """Several runs at a time: each in a thread, their scorers and everything else here."""

    def __init__(
        self, runner: Runner, requests: list[RunRequest], slots: int, progress: RunProgress
    ) -> None:
        self._runner = runner
        self._requests = requests
        self._slots = slots
        self._progress = progress
        self._waiting = deque(range(len(requests)))
        self._threads: dict[int, threading.Thread] = {}
        self._scorers: dict[int, tuple[Scorers, ExitStack]] = {}
        self._ended: SimpleQueue[tuple[int, Ended | BaseException]] = SimpleQueue()

    def measure(self, keep_evaluation: bool, stop_at_failure: bool) -> list[Measurement]:
        """All runs' figures, in the order of the requests."""
        measured: dict[int, Measurement] = {}
        with ExitStack() as stack:
            try:
                while self._waiting or self._threads:
                    self._fill(stack)
                    index, ended = self._await_one()
                    self._threads.pop(index).join()
                    if isinstance(ended, BaseException):
                        raise ended
                    self._fill(stack)  # its slot is free while it is scored
                    scorers, closing = self._scorers.pop(index)
                    with closing:
                        measured[index] = self._runner.judge(ended, scorers, keep_evaluation)
                    if stop_at_failure and measured[index].metric is None:
                        self._waiting.clear()
            except BaseException:
                self._cancel()
                raise
        return [measured[index] for index in sorted(measured)]

    def _fill(self, stack: ExitStack) -> None:
        while self._waiting and len(self._threads) < self._slots:
            self._start(self._waiting.popleft(), stack)

    def _start(self, index: int, stack: ExitStack) -> None:
        closing = stack.enter_context(ExitStack())
        scorers = closing.enter_context(self._runner.warm(self._slots))
        self._scorers[index] = (scorers, closing)
        thread = threading.Thread(
            target=self._work, args=(index,), name=f"autoresearch-run-{index}", daemon=True
        )
        self._threads[index] = thread
        thread.start()

    def _work(self, index: int) -> None:
        """In a thread: one run. Whatever is raised is raised again where the session waits."""
        try:
            self._ended.put((index, self._runner.execute(self._requests[index])))
        except BaseException as error:
            self._ended.put((index, error))

    def _await_one(self) -> tuple[int, Ended | BaseException]:
        while True:
            try:
                return self._ended.get(timeout=TICK)
            except Empty:
                self._progress.draw()

    def _cancel(self) -> None:
        """End every run that still goes on."""
        for index in self._threads:
            self._requests[index].cancelled.set()
        give_up = time.monotonic() + PATIENCE
        for thread in self._threads.values():
            thread.join(max(0.0, give_up - time.monotonic()))
