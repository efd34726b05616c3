"""
The process between the harness and an untrusted program.

An isolated interpreter (``python -I -S -c BOOT``) with the standard library only. What it runs comes from
the harness over a private socket, see :mod:`.bundle`, so that nothing an agent left in a site directory or
beside the harness takes effect in it. It gives the program its own session, drains its output, keeps the
deadline and the caps, and ends with the whole process tree dead.

Descriptors: 0 is a socket to the harness (code and order come in, events go out, and its end is the
leash: when the harness cuts it or dies, the tree dies), 1 is the log, 2 the log again. It is a socket
because, unlike a pipe, it cannot be opened through ``/proc/PID/fd``. Others are locks that the harness
holds and that must not be given back before the tree is dead, even if the harness dies.

What is covered: daemons that forked twice and changed their session, stopped processes, processes
that ignore every signal they can, fork races, pipe holders, floods, a killed harness; memory, disk and
process count above their caps.
What is not covered: a program with the same rights can kill the supervisor itself (the harness
notices) and read the memory of other processes; that takes a namespace. Without ``/proc`` and
``prctl`` (not Linux) the memory is not measured and only the program's process group is killed.
"""

# pathlib, contextlib and typing would add a third to the start of every run.
# ruff: noqa: PTH123, SIM105

from __future__ import annotations

import marshal
import os
import resource
import select
import sys
import time

from .calls import prctl
from .capture import TAIL, CappedLog
from .footprint import Footprint
from .holdings import Disk
from .proc import Process, descendants, scan, signal_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from typing import Any, NoReturn
else:
    # The public module adds enumerations, and json regular expressions: together as much again as
    # starting the interpreter, in each run.
    import _signal as signal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

TICK = 0.1
"""Seconds between two looks at the process tree, at least."""
DUTY = 0.02
"""Share of a processor that looking may take: on a machine with many processes it looks less often."""
PATIENCE = 5.0
"""Seconds after which a process that does not die from SIGKILL is reported instead of awaited."""
MOMENT = 0.005
"""Seconds between two rounds of killing."""
PIECE = 4096
"""Bytes that a pipe takes in one piece."""
MIB = 2**20


def become(
    order: Mapping[str, Any], stdin: int, output: int, supervisor: int
) -> NoReturn:  # pragma: no cover
    """In the forked child: turn into the program, taking any record of these lines along."""
    os.setsid()  # no terminal, and Ctrl-C in the harness's terminal is not for the program
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(127)  # it died before the line above could see it
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)  # ignored signals would stay ignored
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # should memory run out, the kernel takes the run, not the harness
    except OSError:
        pass
    os.chdir(order["cwd"])
    if order["options"]:
        from .launcher import prepare

        prepare(order["options"])
    for target, source in enumerate((stdin, output, output)):
        os.dup2(source, target)
    # Every other descriptor of this process closes on exec.
    os.execve(order["argv"][0], order["argv"], order["env"])  # noqa: S606 (a shell is not wanted)


class Supervisor:
    """One program from its start to the end of its last process."""

    def __init__(self, order: Mapping[str, Any], channel: int, log: int) -> None:
        self._order = order
        self._channel = channel
        self._log = CappedLog(log, order["output_cap"])
        self._pid = os.getpid()
        self._child = 0
        self._output = -1
        self._wakeup = -1
        self._began = 0.0
        self._status: int | None = None
        self._footprint = Footprint(self._pid, order["private"], order["user"])
        self._disk = Disk(order["writable"], order["disk_cap_mb"], order["files_cap"])
        self._killed: set[int] = set()
        self._reason = ""
        self._timed_out = False

    def start(self) -> None:
        """Start the program; OSError if it cannot be."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the tree become ours, never init's
        self._wakeup, wakeup_write = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self._output, output_write = os.pipe()
        os.set_blocking(self._output, False)
        failure, failure_write = os.pipe()
        stdin = self._order["stdin"]
        if stdin is None:
            stdin = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(stdin, False)
        self._began = time.monotonic()
        self._child = os.fork()
        if not self._child:  # pragma: no cover
            try:
                become(self._order, stdin, output_write, self._pid)
            except OSError as error:
                words = error.strerror or str(error)
                os.write(failure_write, f"{error.errno or 0} {words}".encode()[:PIECE])
            finally:
                os._exit(127)
        for descriptor in (output_write, failure_write, stdin):
            os.close(descriptor)
        answer = os.read(failure, PIECE)  # empty once the program has replaced the fork
        os.close(failure)
        if answer:
            os.waitpid(self._child, 0)
            errno, _, words = answer.decode(errors="replace").partition(" ")
            raise OSError(int(errno), words)

    def supervise(self) -> dict[str, Any]:
        """Wait for the end of the program, or bring it about; the account of what it used."""
        poll = select.poll()
        for descriptor in (self._channel, self._output, self._wakeup):
            poll.register(descriptor, select.POLLIN)
        deadline = self._began + self._order["seconds"]
        look = self._began + TICK
        while self._status is None and not self._reason:
            now = time.monotonic()
            if now >= deadline:
                self._reason = "deadline"
                break
            if now >= look:
                look = self._look()
            for descriptor, _ in poll.poll(max(0.0, min(deadline, look) - now) * 1000 + 1):
                if descriptor == self._output:
                    if not self._drain(1):
                        poll.unregister(self._output)
                elif descriptor == self._channel:
                    self._reason = "harness"
                else:
                    self._hear()
        self._timed_out = time.monotonic() >= deadline and self._reason in ("", "deadline")
        survivors = self._kill_tree()
        seconds = time.monotonic() - self._began
        # A program may have filled the disk and ended between two looks.
        self._reason = self._reason or self._disk.finish()
        # Whatever is left in the pipe, and no more: somebody outside the tree may hold it open.
        self._drain(64)
        self._log.flush()
        status = self._status
        return {
            "event": "ended",
            "returncode": None if status is None else os.waitstatus_to_exitcode(status),
            "seconds": seconds,
            "timed_out": self._timed_out,
            "peak_memory_mb": self._footprint.peak / MIB,
            "peak_processes": self._footprint.peak_tasks,
            "peak_disk_mb": self._disk.peak / MIB,
            "output_bytes": self._log.total,
            "output_truncated": self._log.left_out > 0,
            "processes_killed": len(self._killed),
            "reason_for_kill": self._reason,
            "survivors": survivors,
        }

    def _look(self) -> float:
        """Measure the tree, refresh the log, see whether the harness lives; when to look next."""
        began = time.thread_time()
        cap = self._order["memory_cap_mb"]
        used = self._footprint.look()
        if cap is not None and used > cap * MIB:
            # A share read before a neighbour's end and one read after it add up to too much: look twice.
            used = min(used, self._footprint.look())
            if used > cap * MIB:
                self._reason = "memory"
        self._footprint.peak = max(self._footprint.peak, used)
        if self._footprint.tasks > self._order["processes_cap"]:
            self._reason = "processes"
        # The leash can be held open by a fork of the harness; its death still shows here.
        if os.getppid() != self._order["harness"]:
            self._reason = "harness"
        self._log.flush()
        spent = time.thread_time() - began
        # Looking at the disk is bounded by itself.
        self._reason = self._reason or self._disk.step(self._footprint.unnamed)
        return time.monotonic() + max(TICK, spent / DUTY)

    def _drain(self, pieces: int) -> bool:
        """Take up to ``pieces`` pieces of output; False at the end of the output."""
        for _ in range(pieces):
            try:
                data = os.read(self._output, TAIL)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._log.write(data)
        return True

    def _hear(self) -> None:
        """Act on the signals that arrived."""
        numbers = self._clear_wakeup()
        if any(number != signal.SIGCHLD for number in numbers):
            self._reason = "signal"
        self._reap()

    def _clear_wakeup(self) -> bytes:
        try:
            return os.read(self._wakeup, PIECE)
        except BlockingIOError:
            return b""

    def _reap(self) -> bool:
        """Collect everything that has ended; True when no child of any kind is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if not pid:
                return False
            if pid == self._child:
                self._status = status
                # Linux counts KiB. It sees peaks between two looks, of this one process.
                if sys.platform == "linux":
                    self._footprint.peak = max(self._footprint.peak, usage.ru_maxrss * 1024)

    def _kill_tree(self) -> int:
        """
        Kill until nothing is left, and return how many processes withstood.

        Every orphan becomes a child of the subreaper, so "no child left" means that the tree is
        empty, without a race. Stopping comes before killing: a stopped process can neither fork nor
        start its killed neighbour anew.
        """
        give_up = time.monotonic() + PATIENCE
        while not self._reap():
            stopped: set[int] = set()
            tree: list[Process] = []
            for _ in range(4):
                tree = descendants(scan(), (self._pid,))
                fresh = {process.group for process in tree} - stopped
                signal_groups(fresh, signal.SIGSTOP)
                stopped |= fresh
                if not fresh:
                    break
            alive = {process.pid for process in tree if process.alive}
            self._killed |= alive
            signal_groups(stopped or {self._child}, signal.SIGKILL)
            if time.monotonic() > give_up:
                return len(alive)
            # What has been killed dies soon; looking at every process again takes longer.
            moment = time.monotonic() + MOMENT
            while not self._reap() and (left := moment - time.monotonic()) > 0:
                select.select([self._wakeup], [], [], left)
                self._clear_wakeup()
        return 0


def send(channel: int, event: Mapping[str, Any]) -> None:
    """One line of JSON to the harness, if it is still there; of text, numbers and truth values."""
    words = {None: "null", True: "true", False: "false"}
    pairs = []
    for name, value in event.items():
        quoted = repr(value)
        if isinstance(value, str):
            plain = (c if c.isprintable() and c not in '"\\' else "?" for c in value)
            quoted = '"' + "".join(plain) + '"'
        # 0 and 1 are equal to False and True, but no truth values.
        word = words[value] if value is None or isinstance(value, bool) else quoted
        pairs.append(f'"{name}": {word}')
    try:
        os.write(channel, ("{" + ", ".join(pairs) + "}\n").encode())
    except OSError:
        pass


def receive(channel: int) -> dict[str, Any]:
    """The order of the harness, whose interpreter this is: its length in hexadecimal digits, and itself."""
    data = bytearray()
    size = 16
    while len(data) < size:
        piece = os.read(channel, size - len(data))
        if not piece:
            raise SystemExit("no order: the harness is gone")
        data += piece
        if size == len(data) == 16:
            size += int(data, 16)
    order: dict[str, Any] = marshal.loads(data[16:])  # noqa: S302
    return order


def main(channel: int = 0, log: int = 1) -> None:
    """Serve one program."""
    order = receive(channel)
    for descriptor in order["held"]:
        os.set_inheritable(descriptor, False)
    supervisor = Supervisor(order, channel, log)
    try:
        supervisor.start()
    except OSError as error:
        send(channel, {"event": "failed", "errno": error.errno, "reason": error.strerror})
        return
    send(channel, {"event": "started", "pid": supervisor._child})
    send(channel, supervisor.supervise())
