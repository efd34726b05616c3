"""
Whether an isolation level really holds here: a probe runs inside, its outcomes are compared.

No version is asked and nothing is believed: the probe attacks a snapshot, held-out data, listeners and
the harness itself, which all exist, and each attempt must end in the error the level promises.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from tempfile import TemporaryDirectory

from . import probe
from .bundle import code_of
from .process import ISOLATED_INTERPRETER, SandboxProcess, launch
from .remedies import remedy
from .spec import Isolation, LaunchSpec

__all__ = ["REQUIRED", "SelfTest", "SelfTestError", "self_test"]

SECONDS = 20.0
"""In which the probe must have ended; it takes some hundredths of one."""
POLL = 0.001
FILTERED = frozenset({"EPERM"})
HOLDS = {
    "open descriptors": frozenset({"0,1,2"}),
    "effective capabilities": frozenset({"0"}),
    "no new privileges": frozenset({"1"}),
    "system call filter": frozenset({"2"}),
    "user id inside": frozenset({"not 0"}),
    "kernel's user id": frozenset({"not 0"}),
    "write to the output": frozenset({"ok"}),
    "datagrams heard outside": frozenset({"0"}),
    "daemon before the kill": frozenset({"alive"}),
    "daemon after the kill": frozenset({"dead"}),
    "environment": frozenset({""}),
    "mount": FILTERED,
    "new user namespace": FILTERED,
}
"""What every level promises."""
REFUSED = frozenset({"EROFS", "EACCES"})
NO_NETWORK = frozenset({"ECONNREFUSED", "ENETUNREACH"})
REQUIRED: Mapping[Isolation, Mapping[str, frozenset[str]]] = {
    Isolation.STRONG: HOLDS
    | {
        "write to the snapshot": frozenset({"EROFS"}),
        "new file in the snapshot": frozenset({"EROFS"}),
        "new file in the root directory": frozenset({"EROFS"}),
        "write to /proc/sys": REFUSED,
        "connect by TCP": NO_NETWORK,
        "connect to an abstract socket": NO_NETWORK,
        "connect to a socket file": frozenset({"ENOENT"}),
        "socket to the hypervisor": FILTERED,
        "signal the harness": frozenset({"ESRCH"}),
        "trace the harness": FILTERED,
        "memory of the harness": frozenset({"ENOENT"}),
        "read": frozenset({"ENOENT"}),
    },
    Isolation.KERNEL: HOLDS
    | {
        "write to the snapshot": frozenset({"EACCES"}),
        "new file in the snapshot": frozenset({"EACCES"}),
        "new file in the root directory": REFUSED,
        "write to /proc/sys": REFUSED,
        "connect by TCP": FILTERED,
        "send by UDP": FILTERED,
        "connect to an abstract socket": FILTERED,
        # As another user, because its directory is private or not there; as the same one, by the filter.
        "connect to a socket file": frozenset({"EACCES", "ENOENT", "EPERM"}),
        "socket to the hypervisor": FILTERED,
        "signal the harness": FILTERED,
        "trace the harness": FILTERED,
        "memory of the harness": frozenset({"EACCES"}),
        # ENOENT: it lies below a private directory, which is covered when the user changes.
        "read": frozenset({"EACCES", "ENOENT"}),
    },
    Isolation.CONTAINER: HOLDS
    | {
        "write to the snapshot": REFUSED,
        "new file in the snapshot": REFUSED,
        "new file in the root directory": REFUSED,
        "write to /proc/sys": REFUSED,
        "connect by TCP": NO_NETWORK | FILTERED,
        "connect to an abstract socket": NO_NETWORK | FILTERED,
        "connect to a socket file": frozenset({"EACCES", "ENOENT", "EPERM"}),
        "signal the harness": frozenset({"ESRCH", "EPERM"}),
        "trace the harness": frozenset({"ESRCH", "EPERM"}),
        "memory of the harness": frozenset({"ENOENT", "EACCES"}),
        "read": frozenset({"ENOENT", "EACCES"}),
    },
}
"""For each level and attempt, the outcomes that it may have; ``read`` stands for all held-out data."""
SET_BY_LAUNCHERS = {
    False: ("AUTORESEARCH_RUN", "PWD", "LC_CTYPE"),
    True: ("AUTORESEARCH_RUN", "PWD", "LC_CTYPE", "PATH", "HOME", "HOSTNAME", "TERM", "container"),
}
"""Variables that a program may find beyond those it is given; inside containers, and else."""
PYTHON = (sys.executable, "-I", "-S")


class SelfTestError(RuntimeError):
    """An isolation level does not hold; the message names the attempt, its outcome and the remedy."""


@dataclass(frozen=True)
class SelfTest:
    """What the probe found at one level."""

    level: Isolation
    """The level that was tried."""
    outcomes: Mapping[str, str] = field(repr=False)
    """Each attempt and how it ended: an error's name, ``ok``, or a value."""
    failures: tuple[str, ...]
    """One line for each attempt that did not end as it must; empty if the level holds."""
    seconds: float
    """How long it took."""

    def require(self) -> SelfTest:
        """Itself, if the level holds; else SelfTestError with the first failure and its remedy."""
        if self.failures:
            raise SelfTestError(
                f"isolation {self.level.value!r} does not hold here: {self.failures[0]}\n"
                f"{remedy(self.level, self.failures[0])}"
            )
        return self


def self_test(
    level: Isolation,
    *,
    directory: Path,
    hidden: Sequence[Path] = (),
    launcher: tuple[str, ...] = (),
    devices: tuple[Path, ...] = (),
    interpreter: Sequence[str] = ISOLATED_INTERPRETER,
) -> SelfTest:
    """
    Run the probe at ``level``, in a temporary directory below ``directory``, where runs are to take place.

    :param hidden: what no program may read: held-out data, ledgers, the repository.
    :param launcher: the container's, see :class:`LaunchSpec`.
    :param interpreter: as for :func:`launch`.
    :returns: also for a level that cannot be had here at all; see :meth:`SelfTest.require`.
    """
    began = time.monotonic()
    with TemporaryDirectory(prefix="self-test-", dir=directory) as name, ExitStack() as stack:
        try:
            room = Room(Path(name), hidden, stack)
            spec = room.spec(level, launcher, devices)
            with launch(spec, interpreter=interpreter) as process:
                outcomes, failure = room.observe(process)
        except OSError as error:
            outcomes, failure = {}, error.strerror or str(error)
    failures = (failure,) if failure else tuple(_mismatches(level, outcomes))
    return SelfTest(level, outcomes, failures, time.monotonic() - began)


def _mismatches(level: Isolation, outcomes: Mapping[str, str]) -> Iterator[str]:
    """A line for each outcome that is not as the level promises, and for each missing one."""
    for name, accepted in REQUIRED.get(level, {}).items():
        # One line for each hidden path.
        found = {k: v for k, v in outcomes.items() if k == name or k.startswith(f"{name} /")}
        for key, outcome in (found or {name: "missing"}).items():
            if outcome not in accepted:
                wanted = " or ".join(sorted(accepted)) or "empty"
                yield f"{key}: {outcome}, must be {wanted}"


class Room:
    """A snapshot, held-out data and listeners for the probe to attack."""

    def __init__(self, directory: Path, hidden: Sequence[Path], stack: ExitStack) -> None:
        directory = directory.resolve()
        self._snapshot, self._out = directory / "snapshot", directory / "out"
        self._log = directory / "log"
        held_out = directory / "held-out"
        # Open to every user, so that what refuses is the sandbox and not the file's mode.
        directory.chmod(0o755)
        for made in (self._snapshot, self._out, held_out):
            made.mkdir()
            made.chmod(0o777)
        for file in (self._snapshot / "train.py", held_out / "labels"):
            file.write_text("")
            file.chmod(0o666)
        self._abstract = f"autoresearch-{secrets.token_hex(8)}"
        self._socket = held_out / "s"
        self._hidden = (held_out / "labels", *hidden)
        self._udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind(("127.0.0.1", 0))
        self._udp.setblocking(False)
        self._tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        # By way of a descriptor: the path may be longer than a socket's address.
        parent = os.open(held_out, os.O_PATH)
        stack.callback(os.close, parent)
        for address in ("\0" + self._abstract, f"/proc/self/fd/{parent}/s"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()

    def spec(
        self, level: Isolation, launcher: tuple[str, ...], devices: tuple[Path, ...]
    ) -> LaunchSpec:
        """The probe's launch at ``level``."""
        environment = {"LANG": "C.UTF-8"}
        known = [*environment, *SET_BY_LAUNCHERS[level is Isolation.CONTAINER]]
        given = {
            "harness": os.getpid(),
            "started": probe.started(os.getpid()),
            "snapshot": self._snapshot,
            "out": self._out,
            "env": ",".join(known),
            "tcp": self._tcp.getsockname()[1],
            "udp": self._udp.getsockname()[1],
            "abstract": self._abstract,
            "socket": self._socket,
            "hidden": "\n".join(map(str, self._hidden)),
        }
        if level is Isolation.CONTAINER:
            # Its interpreter may be another one.
            program = ["-c", Path(probe.__file__).read_text("utf-8")]
        else:
            # As bytecode: it would take longer to compile than to run.
            compiled = self._snapshot / "probe.pyc"
            compiled.write_bytes(MAGIC_NUMBER + bytes(12) + marshal.dumps(code_of("probe")))
            program = [str(compiled)]
        return LaunchSpec(
            argv=(*PYTHON, *program, *(f"{key}={value}" for key, value in given.items())),
            cwd=self._snapshot,
            env=environment,
            seconds=SECONDS,
            log=self._log,
            writable=(self._out,),
            readonly=(self._snapshot,),
            isolation=level,
            launcher=launcher,
            devices=devices,
        )

    def observe(self, process: SandboxProcess) -> tuple[dict[str, str], str]:
        """The probe's outcomes and those seen from outside; or why there are none."""
        while not (said := self._log.read_bytes()).endswith(b"ready\n"):
            if process.poll() is not None:
                lines = self._log.read_text("utf-8", "replace").strip().splitlines()
                return {}, (lines[-1] if lines else "the probe ended without a word")
            time.sleep(POLL)
        lines = said.decode("utf-8", "replace").splitlines()[:-1]
        outcomes = dict(line.split("\t", 1) for line in lines if "\t" in line)
        outcomes["daemon before the kill"] = self._daemon()
        process.kill()
        outcomes["daemon after the kill"] = self._daemon()
        owner = (self._out / "owner").lstat().st_uid
        outcomes["kernel's user id"] = "0" if owner == 0 else "not 0"
        outcomes["datagrams heard outside"] = self._heard()
        return outcomes, ""

    def _daemon(self) -> str:
        """Whether the probe's daemon lives: it holds a lock, which dies with it alone."""
        with (self._out / "lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return "alive"
            return "dead"

    def _heard(self) -> str:
        try:
            self._udp.recv(16)
        except BlockingIOError:
            return "0"
        return "1"
