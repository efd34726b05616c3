"""
The harness's end of a launch: starts the supervisor, holds its leash, hears what the program used.

There are no threads and no callbacks: the harness asks (:meth:`SandboxProcess.poll`) or waits
(:meth:`SandboxProcess.wait`). Whatever happens to the harness meanwhile, the tree ends with it.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from .bundle import BOOT, packed, supervisor_code
from .leftovers import kill_marked
from .spec import Isolation, LaunchSpec, Usage

__all__ = ["ISOLATED_INTERPRETER", "SandboxProcess", "launch"]

ISOLATED_INTERPRETER = (sys.executable, "-I", "-S", "-E")
"""Neither the environment, nor a site directory, nor the current directory reaches the supervisor."""
TICK = 0.25
"""Seconds between two ticks of a wait."""
START = 30.0
"""Seconds that the supervisor may take to start the program."""
MARK = "AUTORESEARCH_RUN"
"""Variable that marks a run's processes, should the program kill the supervisor."""
WRAPPERS = 4
"""Processes that a level adds to the program's own."""
REPORT_LIMIT = 65536
"""Bytes; a report is far shorter."""


def launch(
    spec: LaunchSpec,
    *,
    interpreter: Sequence[str] = ISOLATED_INTERPRETER,
    patience: float = 10.0,
) -> SandboxProcess:
    """
    Start a program under supervision; use the result as a context manager.

    :param interpreter: command that starts Python for the supervisor.
    :param patience: seconds after the deadline, or after :meth:`SandboxProcess.kill`, in which the
        supervisor must have answered; then it counts as lost and the tree is killed without it.
    :raises OSError: the program cannot be started (missing, not executable), or the log exists.
    """
    return SandboxProcess(spec, interpreter=interpreter, patience=patience)


class SandboxProcess:
    """A supervised program, running from construction on."""

    def __init__(self, spec: LaunchSpec, *, interpreter: Sequence[str], patience: float) -> None:
        self._spec = spec
        self.isolation = spec.isolation
        """The level that the program runs at."""
        self._patience = patience
        self._mark = f"{MARK}={secrets.token_hex(16)}"
        self._usage: Usage | None = None
        self._received = b""
        self._stdin: int | None = None
        self._options: tuple[str, ...] = ()
        with ExitStack() as stack, ExitStack() as given_away:
            # Refuses an existing path, a dangling link included: the log is ours alone.
            log = os.open(spec.log, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            given_away.callback(os.close, log)
            self._channel, theirs = socket.socketpair()
            stack.enter_context(self._channel)
            given_away.enter_context(theirs)
            stdin: int | None = None
            if spec.stdin:
                stdin, self._stdin = os.pipe()
                given_away.callback(os.close, stdin)
                stack.callback(self._close_stdin)
                os.set_blocking(self._stdin, False)
            self._popen = subprocess.Popen(
                [*interpreter, "-c", BOOT],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                pass_fds=spec.held if stdin is None else (*spec.held, stdin),
                start_new_session=True,
                cwd="/",
                # A build of Python may need this to find its own library; the program gets its own.
                env={key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ},
            )
            stack.callback(self._discard_supervisor)
            given_away.close()
            self._began = time.monotonic()
            self._child = self._start(stdin)
            self._give_up_at = self._began + spec.seconds + patience
            self._resources = stack.pop_all()

    def _start(self, stdin: int | None) -> int:
        """Hand over the order; the process id of the program, once it has replaced the fork."""
        spec = self._spec
        self._channel.settimeout(START)
        with suppress(OSError):  # if it is gone already, the order finds out
            self._channel.sendall(supervisor_code())
        # It loads that while its order is made up.
        name, _, value = self._mark.partition("=")
        order = {
            **self._compose(),
            "cwd": str(spec.cwd),
            "env": {**spec.env, name: value},
            "seconds": spec.seconds,
            "output_cap": spec.output_cap,
            "memory_cap_mb": spec.memory_cap_mb,
            "disk_cap_mb": spec.disk_cap_mb,
            "files_cap": spec.files_cap,
            "processes_cap": spec.processes + WRAPPERS,
            "writable": tuple(map(str, spec.writable)),
            "held": spec.held,
            "stdin": stdin,
            "harness": os.getpid(),
        }
        try:
            self._channel.sendall(packed(order))
            event = self._receive(START)
        except OSError:
            event = None
        if event is None:
            raise OSError(
                f"the supervisor of {spec.argv[0]!r} did not start: its last words are in "
                f"{str(spec.log)!r}"
            )
        if event["event"] == "failed":
            self._popen.wait()  # it has nothing left to do
            code = int(event["errno"])
            raise OSError(code, f"cannot start the program: {event['reason']}", spec.argv[0])
        return int(event["pid"])

    def _compose(self) -> dict[str, object]:
        """What the supervisor starts, and what it runs before in the same process."""
        composed: dict[str, object] = {"options": (), "private": (), "user": None}
        if self.isolation is Isolation.NONE:
            return composed | {"argv": self._spec.argv}
        from .kernel import run_user
        from .levels import compose
        from .strong import PRIVATE

        argv, self._options = compose(self._spec)
        if self.isolation is Isolation.STRONG:
            composed["private"] = PRIVATE
        if self.isolation is Isolation.KERNEL:
            composed["user"] = run_user(self._options)
        return composed | {"argv": argv, "options": self._options}

    def _own_status(self, status: int | None) -> int | None:
        """The program's status: bubblewrap and containers report the signal n as 128 + n."""
        wrapped = self.isolation in (Isolation.STRONG, Isolation.CONTAINER)
        if wrapped and status is not None and status - 128 in signal.valid_signals():
            return 128 - status
        return status

    @property
    def elapsed(self) -> float:
        """Seconds since the start, on the harness's clock."""
        return time.monotonic() - self._began

    @property
    def usage(self) -> Usage:
        """What the program used; RuntimeError while it runs."""
        if self._usage is None:
            raise RuntimeError("the program still runs: call wait() or kill() before usage")
        return self._usage

    def poll(self) -> Usage | None:
        """What the program used, or None while it runs."""
        return self._advance(0.0)

    def wait(self, tick: Callable[[float], object] | None = None) -> Usage:
        """
        Wait for the last process of the tree.

        :param tick: called about four times a second with the elapsed seconds.
        """
        while (usage := self._advance(TICK)) is None:
            if tick is not None:
                tick(self.elapsed)
        return usage

    def kill(self) -> Usage:
        """Kill the whole tree, if it still runs, and wait for its end."""
        if self._usage is None:
            with suppress(OSError):  # the supervisor may be gone; waiting finds out
                self._channel.shutdown(socket.SHUT_WR)
            self._give_up_at = min(self._give_up_at, time.monotonic() + self._patience)
        return self.wait()

    def send_line(self, data: bytes) -> bool:
        """
        Write one line to the program's standard input.

        Whether all of it was written: False when the program has ended or closed its input. A program
        that does not read cannot hold the harness for longer than its own deadline.
        """
        if not self._spec.stdin:
            raise ValueError("the program has no standard input: launch it with stdin=True")
        if b"\n" in data:
            raise ValueError(f"a line holds no line break: {data[:80]!r}")
        rest = data + b"\n"
        while self._stdin is not None:
            try:
                rest = rest[os.write(self._stdin, rest) :]
            except BlockingIOError:
                select.select([self._channel], [self._stdin], [], TICK)
            except BrokenPipeError:
                return False
            if not rest:
                return True
            if self.poll() is not None:
                return False
        return False

    def close(self) -> None:
        """Kill what still runs and release everything; idempotent."""
        with self._resources.pop_all():
            if self._usage is None:
                self.kill()
            if self.isolation is Isolation.KERNEL:
                from .kernel import clear_shared_memory

                clear_shared_memory(self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _advance(self, seconds: float) -> Usage | None:
        """Wait up to ``seconds`` for the report; the usage once there is one."""
        if self._usage is None:
            try:
                event = self._receive(seconds)
            except (TimeoutError, BlockingIOError):
                if time.monotonic() > self._give_up_at or self._supervisor_stopped():
                    self._lose()
                return self._usage
            except OSError:
                event = None
            try:
                fields = dict(event or {})
                fields.pop("event")
                usage = Usage(**fields)
                self._usage = replace(usage, returncode=self._own_status(usage.returncode))
            except (KeyError, TypeError):
                self._lose()
        return self._usage

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """
        The next event; None when the supervisor is gone or what it says is no event.

        Raises TimeoutError or BlockingIOError when nothing came.
        """
        self._channel.settimeout(seconds)
        while b"\n" not in self._received:
            piece = self._channel.recv(REPORT_LIMIT)
            self._received += piece
            if not piece or len(self._received) > REPORT_LIMIT:
                return None
        line, _, self._received = self._received.partition(b"\n")
        try:
            event = json.loads(line)
        except ValueError:
            return None
        return event if isinstance(event, dict) else None

    def _supervisor_stopped(self) -> bool:
        """Whether somebody sent the supervisor SIGSTOP, to gain time."""
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self._popen.pid, options) is not None
        except ChildProcessError:
            # It has ended since the channel was empty: what it said last is there now.
            return False

    def _lose(self) -> None:
        """The supervisor is lost: end it and the tree, and account for what is known."""
        self._discard_supervisor()
        seconds = self.elapsed
        killed = kill_marked(self._mark.encode(), self._child)
        self._usage = Usage(
            returncode=None,
            seconds=seconds,
            timed_out=seconds >= self._spec.seconds,
            peak_memory_mb=0.0,
            output_bytes=self._spec.log.lstat().st_size,
            output_truncated=False,
            processes_killed=killed,
            reason_for_kill="supervisor",
        )

    def _discard_supervisor(self) -> None:
        """Collect the supervisor, which ends by itself after its report, or end it."""
        ended = self._popen.poll() is not None
        if not ended and self._usage is not None and hasattr(os, "pidfd_open"):
            # Waiting with a time limit would sleep in steps, for longer than an interpreter takes to end.
            end = os.pidfd_open(self._popen.pid)
            select.select([end], [], [], self._patience)
            os.close(end)
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
