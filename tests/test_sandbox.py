"""
Programs that try to outlive, outgrow or outwit their supervision, as real processes.

Each attack is a real program. The controls run some of them without supervision, to show that they work.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.sandbox import (
    Isolation,
    LaunchSpec,
    SandboxProcess,
    Usage,
    capture,
    closed_environment,
    launch,
    proc,
    python_command,
)
from pytest_autoresearch.sandbox.bundle import BOOT
from pytest_autoresearch.sandbox.environment import driver_directories
from pytest_autoresearch.sandbox.process import ISOLATED_INTERPRETER

FOREVER = 600
"""Seconds; an attack that is not stopped would sleep that long."""
PYTHON = (sys.executable, "-I", "-S")
# An isolated interpreter cannot start the coverage measurement; then the supervisor runs in a plain one.
COVERAGE = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("COVERAGE_")]
INTERPRETER = (
    (str(shutil.which("env")), *COVERAGE, sys.executable) if COVERAGE else ISOLATED_INTERPRETER
)


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    usage: Usage
    log: bytes
    out: Path

    def pids(self) -> list[int]:
        """The processes that the program wrote down."""
        return noted(self.out)


class Room:
    """Makes launch specifications for programs given as source text."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.out = directory / "out"
        (self.out / "pids").mkdir(parents=True)
        self._logs = 0

    def spec(self, code: str, **options: object) -> LaunchSpec:
        self._logs += 1
        given = {
            "argv": (*PYTHON, "-c", PRELUDE + textwrap.dedent(code)),
            "cwd": self.out,
            "env": {"LANG": "C.UTF-8"},
            "seconds": 30.0,
            "log": self.directory / f"log{self._logs}",
            "writable": (self.out,),
        }
        return LaunchSpec(**(given | options))  # type: ignore[arg-type]

    def launch(self, code: str, *, patience: float = 10.0, **options: object) -> SandboxProcess:
        return launch(self.spec(code, **options), interpreter=INTERPRETER, patience=patience)

    def run(self, code: str, **options: object) -> Outcome:
        spec = self.spec(code, **options)
        with launch(spec, interpreter=INTERPRETER) as process:
            usage = process.wait()
        return Outcome(usage, spec.log.read_bytes(), self.out)

    def bare(self, code: str, **options: object) -> subprocess.Popen[bytes]:
        """The control: the same program without supervision."""
        spec = self.spec(code)
        return subprocess.Popen(spec.argv, cwd=spec.cwd, start_new_session=True, **options)  # type: ignore[call-overload]


PRELUDE = """
import os, signal, sys, time
def note(): open(f"pids/{os.getpid()}", "w").close()
"""

DAEMON = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        note()
        for fd in range(3): os.close(fd)
        time.sleep({FOREVER})
    os._exit(0)
os.wait()
while not os.listdir("pids"): time.sleep(0.01)
"""

PIPE_HOLDER = f"""
if os.fork() == 0:
    note()
    time.sleep({FOREVER})
print("done")
"""


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def alive(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return proc.Process(pid, stat).alive


def noted(out: Path) -> list[int]:
    """The processes that a program wrote down."""
    return [int(path.name) for path in (out / "pids").iterdir()]


def descriptors() -> list[str]:
    """What this process holds open."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether something becomes true, given ample time."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.01)
    return False


# --- an honest program -----------------------------------------------------------------------------


def test_an_honest_program_is_left_alone_and_accounted_for(room):
    outcome = room.run("x = bytearray(64 << 20); print('trained'); print('!', file=sys.stderr)")

    usage = outcome.usage
    assert usage == Usage(
        returncode=0,
        seconds=usage.seconds,
        timed_out=False,
        peak_memory_mb=usage.peak_memory_mb,
        output_bytes=10,
        output_truncated=False,
        processes_killed=0,
        reason_for_kill="",
        survivors=0,
        peak_processes=1,
        peak_disk_mb=usage.peak_disk_mb,
    )
    assert sorted(outcome.log.split()) == [b"!", b"trained"]
    assert 0 < usage.seconds < 30
    assert usage.peak_memory_mb > 64


@pytest.mark.parametrize(
    ("ending", "returncode"),
    [("sys.exit(7)", 7), ("os._exit(0)", 0), ("os.abort()", -6), ("os.kill(os.getpid(), 9)", -9)],
)
def test_the_exit_status_is_the_programs(ending, returncode, room):
    usage = room.run(ending).usage

    assert (usage.returncode, usage.reason_for_kill) == (returncode, "")


def test_nothing_of_the_environment_is_inherited(room, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "held-out")
    code = "print(sorted(os.environ))"
    with room.bare(code, stdout=subprocess.PIPE) as control:
        assert b"SECRET_TOKEN" in control.communicate()[0]

    assert room.run(code).log == b"['AUTORESEARCH_RUN', 'LANG']\n"


def test_no_descriptor_is_inherited(room, tmp_path):
    code = "print(sorted(int(name) for name in os.listdir('/proc/self/fd')))"
    with (tmp_path / "ledger").open("w") as ledger:
        os.set_inheritable(ledger.fileno(), True)
        with room.bare(code, stdout=subprocess.PIPE, close_fds=False) as control:
            assert str(ledger.fileno()) in control.communicate()[0].decode()

        # 3 is the listing itself.
        assert room.run(code).log == b"[0, 1, 2, 3]\n"
        assert room.run(code, stdin=True).log == b"[0, 1, 2, 3]\n"


def test_standard_input_is_empty_and_there_is_no_terminal(room):
    code = """
    assert sys.stdin.read() == ""
    assert os.getsid(0) == os.getpid()
    try: os.open("/dev/tty", os.O_RDWR)
    except OSError: print("none")
    """
    assert room.run(code).log == b"none\n"


def test_signals_are_neither_ignored_nor_blocked_in_the_program(room):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        outcome = room.run("", argv=("/bin/cat", "/proc/self/status"))
    finally:
        signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})

    status = dict(line.split(":\t") for line in outcome.log.decode().splitlines())
    # The C library keeps signals 32 and 33 to itself; what it was started with stays as it is.
    reserved = 0b11 << 31
    assert {int(status[key], 16) & ~reserved for key in ("SigIgn", "SigBlk", "SigCgt")} == {0}


def test_the_program_leaves_no_core_file_and_dies_before_the_harness_for_lack_of_memory(room):
    code = """
    import resource
    print(resource.getrlimit(resource.RLIMIT_CORE), open("/proc/self/oom_score_adj").read())
    """
    assert room.run(code).log.split(b") ") == [b"(0, 0", b"1000\n\n"]


def test_a_path_that_is_not_utf8_reaches_the_program(room):
    directory = Path(os.fsdecode(bytes(room.out) + b"/\xff\xfe"))
    directory.mkdir()

    outcome = room.run("print(os.listdir(sys.argv[1]) + [os.getcwdb()[-2:]])", cwd=directory)

    assert outcome.usage.returncode == 1  # no argument
    argv = (*PYTHON, "-c", "import os, sys; print(os.fsencode(sys.argv[1])[-2:])", str(directory))
    assert room.run("", argv=argv).log == b"b'\\xff\\xfe'\n"


# --- the deadline ----------------------------------------------------------------------------------

STUBBORN = {
    "sleeps": f"time.sleep({FOREVER})",
    "computes": "while True: pass",
    "ignores every signal": f"""
        for number in signal.valid_signals() - {{9, 19}}: signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep({FOREVER})
        """,
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "stops its group": "os.killpg(0, signal.SIGSTOP)",
    "closes its output": f"os.close(1); os.close(2); time.sleep({FOREVER})",
    "waits for a child": f"os.fork() or time.sleep({FOREVER}); os.wait()",
}


@pytest.mark.parametrize("habit", STUBBORN)
def test_a_program_that_does_not_end_is_killed_at_the_deadline(habit, room):
    usage = room.run("note()\n" + textwrap.dedent(STUBBORN[habit]), seconds=0.6).usage

    assert (usage.timed_out, usage.reason_for_kill) == (True, "deadline")
    assert usage.returncode == -9
    assert usage.seconds >= 0.6
    assert usage.processes_killed == (2 if habit == "waits for a child" else 1)


# --- the process tree ------------------------------------------------------------------------------


def test_control_a_daemon_outlives_a_bare_run(room):
    with room.bare(DAEMON) as control:
        control.wait()
    (pid,) = noted(room.out)

    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_daemon_dies_with_the_run(room):
    outcome = room.run(DAEMON)

    assert outcome.usage.returncode == 0
    assert (outcome.usage.reason_for_kill, outcome.usage.processes_killed) == ("", 1)
    assert not any(alive(pid) for pid in outcome.pids())


def test_an_honest_program_may_leave_a_helper_behind(room):
    code = """
    from multiprocessing import shared_memory
    block = shared_memory.SharedMemory(create=True, size=10)
    block.close()
    block.unlink()
    """
    usage = room.run(code).usage

    assert (usage.returncode, usage.reason_for_kill) == (0, "")


def test_control_a_pipe_holder_keeps_a_bare_reader_waiting(room):
    with room.bare(PIPE_HOLDER, stdout=subprocess.PIPE) as control:
        with pytest.raises(subprocess.TimeoutExpired):
            control.communicate(timeout=0.5)
        os.killpg(control.pid, signal.SIGKILL)


def test_a_pipe_holder_keeps_nobody_waiting(room):
    outcome = room.run(PIPE_HOLDER)

    assert outcome.log == b"done\n"
    assert (outcome.usage.reason_for_kill, outcome.usage.processes_killed) == ("", 1)
    assert not any(alive(pid) for pid in outcome.pids())


def test_a_pipe_holder_outside_the_tree_keeps_nobody_waiting(room):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(room.out / "accomplice"))
        listener.listen()
        code = """
        import socket
        with socket.socket(socket.AF_UNIX) as accomplice:
            accomplice.connect("accomplice")
            socket.send_fds(accomplice, [b"x"], [1])
            accomplice.recv(1)
        """
        with room.launch(code) as process:
            connection, _ = listener.accept()
            with connection:
                _, (held,), _, _ = socket.recv_fds(connection, 1, 1)
                connection.send(b"x")
            try:
                usage = process.wait()
            finally:
                os.close(held)

    assert (usage.returncode, usage.reason_for_kill) == (0, "")


RUNAWAYS = {
    "a chain of forks, each ending at once": """
        while True:
            if os.fork(): os._exit(0)
        """,
    "the same in ever new sessions": """
        while True:
            if os.fork(): os._exit(0)
            os.setsid()
        """,
    "two guardians, each starting the other anew": """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        def guard(other):
            note()
            while True:
                try: os.kill(other, 0)
                except ProcessLookupError:
                    mine = os.getpid()
                    other = os.fork()
                    if other == 0:
                        os.setsid()
                        guard(mine)
        mine = os.getpid()
        other = os.fork()
        if other == 0:
            os.setsid()
            guard(mine)
        guard(other)
        """,
    "a fork bomb of a hundred": f"""
        for _ in range(100):
            if os.fork() == 0:
                if os.getpid() % 3 == 0: os.setsid()
                note()
                if os.fork() == 0: note()
                time.sleep({FOREVER})
        time.sleep({FOREVER})
        """,
    "a name that imitates the kernel's table": f"""
        if os.fork() == 0:
            open("/proc/self/comm", "w").write("a) S 1 1 1 (b")
            note()
            time.sleep({FOREVER})
        """,
}


@pytest.mark.parametrize("runaway", RUNAWAYS)
def test_no_runaway_outlives_the_run(runaway, room):
    outcome = room.run(RUNAWAYS[runaway], seconds=1.0)

    assert outcome.usage.survivors == 0
    assert outcome.usage.processes_killed > 0
    assert not any(alive(pid) for pid in outcome.pids())
    assert not [p for p in proc.scan() if p.alive and lives_in(p.pid, room.out)]


def lives_in(pid: int, directory: Path) -> bool:
    """Whether a process works in a directory: the runaways never change theirs."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory
    except OSError:
        return False


def test_a_process_that_is_gone_or_cannot_be_read_does_not_end_the_supervision():
    (mine,) = (p for p in proc.scan() if p.pid == os.getpid())
    stat = Path("/proc/self/stat").read_bytes()
    gone = proc.Process(999_999_999, stat)

    assert gone.memory(proportional=True)[0] == gone.resident > 0
    assert mine.memory(proportional=True)[0] < mine.memory(proportional=False)[0] * 1.1
    assert proc.scan("/nonexistent") == []
    proc.signal_groups({999_999_999}, signal.SIGKILL)


# --- memory ----------------------------------------------------------------------------------------

HOGS = {
    "one process": f"x = bytearray(200 << 20); time.sleep({FOREVER})",
    "several processes, each below the cap": f"""
        for _ in range(3): os.fork()
        x = bytearray(40 << 20)
        time.sleep({FOREVER})
        """,
    "a daemon": f"""
        if os.fork() == 0:
            os.setsid()
            x = bytearray(200 << 20)
        time.sleep({FOREVER})
        """,
    "a process that looks like a zombie": f"""
        import ctypes, threading
        ready = threading.Event()
        def hog():
            ready.wait()
            x = bytearray(200 << 20)
            time.sleep({FOREVER})
        threading.Thread(target=hog).start()
        ready.set()
        ctypes.CDLL(None).pthread_exit(None)
        """,
    "shared anonymous memory": f"""
        import mmap
        x = mmap.mmap(-1, 200 << 20)
        for at in range(0, len(x), 4096): x[at] = 1
        time.sleep({FOREVER})
        """,
}


@pytest.mark.parametrize("hog", HOGS)
def test_a_tree_above_its_memory_cap_is_killed(hog, room):
    usage = room.run(HOGS[hog], memory_cap_mb=150).usage

    assert (usage.reason_for_kill, usage.timed_out) == ("memory", False)
    assert usage.peak_memory_mb > 150


def test_memory_shared_by_workers_counts_once(room):
    code = """
    x = bytearray(80 << 20)
    workers = []
    for _ in range(4):
        worker = os.fork()
        if worker == 0:
            time.sleep(1)
            os._exit(0)
        workers.append(worker)
    for worker in workers: os.waitpid(worker, 0)
    """
    usage = room.run(code, memory_cap_mb=200).usage

    assert (usage.returncode, usage.reason_for_kill) == (0, "")
    assert 80 < usage.peak_memory_mb < 200


# --- output ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", ["x" * 65536, "line\n" * 10000], ids=["one line", "lines"])
def test_a_flood_of_output_stays_below_its_cap(piece, room):
    code = f"""
    print("first words")
    try:
        while True: sys.stdout.write({piece!r})
    except BrokenPipeError: pass
    """
    outcome = room.run(code, seconds=0.8, output_cap=1 << 18)

    assert outcome.usage.reason_for_kill == "deadline"
    assert outcome.usage.output_truncated
    assert outcome.usage.output_bytes > 1 << 18
    assert len(outcome.log) < (1 << 18) + 100
    assert outcome.log.startswith(b"first words\n")


def test_the_last_words_after_a_flood_are_kept(room):
    code = "print('x' * (1 << 20)); print('last words')"
    outcome = room.run(code, output_cap=1 << 17)

    left_out = outcome.usage.output_bytes - (1 << 17)
    assert outcome.log.endswith(b"x\nlast words\n")
    assert b"\n[... %d bytes left out ...]\n" % left_out in outcome.log


def test_a_killed_programs_last_words_are_kept(room):
    outcome = room.run(f"print('last words', flush=True); time.sleep({FOREVER})", seconds=0.6)

    assert outcome.log == b"last words\n"


@given(
    cap=st.integers(2, 400),
    pieces=st.lists(st.binary(max_size=200)),
    flush=st.lists(st.booleans()),
)
def test_the_log_holds_the_head_and_the_tail_of_any_output(cap, pieces, flush, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    log = capture.CappedLog(descriptor, cap)
    for number, piece in enumerate(pieces):
        log.write(piece)
        if number < len(flush) and flush[number]:
            log.flush()
    log.flush()
    os.close(descriptor)

    output, content = b"".join(pieces), path.read_bytes()
    assert log.total == len(output)
    if len(output) <= cap:
        assert content == output
    else:
        tail = cap // 2
        gap = b"\n[... %d bytes left out ...]\n" % (len(output) - cap)
        assert content == output[: cap - tail] + gap + output[-tail:]


def test_a_full_disk_does_not_end_the_supervision(tmp_path):
    with Path("/dev/full").open("wb", buffering=0) as full:
        log = capture.CappedLog(full.fileno(), 100)
        log.write(b"x" * 1000)
        log.flush()

    assert log.total == 1000


# --- attacks on the supervisor ---------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_program_that_silences_its_supervisor_is_lost_and_killed(number, room):
    code = f"""
    keeper = os.getppid()
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            note()
            time.sleep({FOREVER})
    note()
    while len(os.listdir("pids")) < 3: time.sleep(0.01)
    os.kill(keeper, {int(number)})
    time.sleep({FOREVER})
    """
    outcome = room.run(code)

    usage = outcome.usage
    assert (usage.returncode, usage.reason_for_kill, usage.timed_out) == (None, "supervisor", False)
    assert usage.processes_killed >= 2
    assert len(outcome.pids()) == 3
    assert not any(alive(pid) for pid in outcome.pids())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_program_that_ends_its_supervisor_ends_itself(number, room):
    usage = room.run(f"os.kill(os.getppid(), {int(number)}); time.sleep({FOREVER})").usage

    assert (usage.returncode, usage.reason_for_kill) == (-9, "signal")


def test_no_report_can_be_forged_through_the_supervisors_descriptors(room):
    code = """
    try: os.open(f"/proc/{os.getppid()}/fd/0", os.O_RDWR)
    except OSError as error: print(error.strerror)
    """
    assert room.run(code).log == b"No such device or address\n"


def impostor(event: str) -> tuple[str, ...]:
    """A supervisor that starts nothing, says ``event`` and then nothing more."""
    code = (
        "import os, time\n"
        "os.read(0, 1 << 20)\n"
        'os.write(0, b\'{"event": "started", "pid": 999999999}\\n\')\n'
        f"os.write(0, {event!r}.encode())\n"
        f"time.sleep({FOREVER})\n"
    )
    return (*PYTHON, "-c", code)


def test_a_supervisor_that_does_not_answer_in_time_is_lost(room):
    with launch(room.spec("", seconds=0.2), interpreter=impostor(""), patience=0.2) as process:
        usage = process.wait()

    assert (usage.reason_for_kill, usage.timed_out) == ("supervisor", True)


@pytest.mark.parametrize(
    "report",
    [
        "not json\n",
        "[]\n",
        "{}\n",
        '{"event": "ended"}\n',
        '{"event": "ended", "returncode": 0, "unknown": 1}\n',
        "x" * 70000,
    ],
)
def test_a_report_that_is_none_means_a_lost_supervisor(report, room):
    with launch(room.spec(""), interpreter=impostor(report), patience=0.5) as process:
        assert process.wait().reason_for_kill == "supervisor"


# --- the harness's end -----------------------------------------------------------------------------

HARNESS = """
import os, sys
from pathlib import Path
from pytest_autoresearch.sandbox import LaunchSpec, launch
out = Path(sys.argv[1])
code = sys.argv[2]
spec = LaunchSpec(
    argv=(sys.executable, "-I", "-S", "-c", code), cwd=out, env={}, seconds=600, log=out.parent / "log"
)
with launch(spec) as process:
    if sys.argv[3] == "fork" and os.fork() == 0:
        import time
        time.sleep(600)
    print(os.getpid(), flush=True)
    process.wait()
"""

FAMILY = f"""
import signal
def tell(*_): open("interrupted", "w").close()
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM): signal.signal(number, tell)
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        break
note()
while True: time.sleep({FOREVER})
"""


@pytest.fixture
def harness(room: Room) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a harness process of its own whose run has three processes in three sessions."""
    started: list[subprocess.Popen[bytes]] = []

    def start(manner: str = "plain") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", HARNESS, str(room.out), PRELUDE + FAMILY, manner],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert eventually(lambda: len(noted(room.out)) == 3)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_supervisor_whose_harness_died_before_it_got_its_order_ends():
    answer = subprocess.run([*INTERPRETER, "-c", BOOT], input=b"{", capture_output=True)

    assert (answer.returncode, answer.stdout) == (1, b"")
    assert b"the harness is gone" in answer.stderr


@pytest.mark.parametrize("manner", ["plain", "fork"])
def test_a_killed_harness_takes_the_tree_with_it(manner, harness, room):
    process = harness(manner)
    pids = noted(room.out)

    os.kill(process.pid, signal.SIGKILL)

    assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_ctrl_c_reaches_the_harness_alone_and_ends_in_a_clean_kill(harness, room):
    process = harness()
    pids = noted(room.out)
    assert process.stdout is not None
    process.stdout.readline()

    os.killpg(process.pid, signal.SIGINT)  # what the terminal does
    _, errors = process.communicate()

    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
    assert not any(alive(pid) for pid in pids)
    assert not (room.out / "interrupted").exists()


class TickError(Exception):
    pass


def test_an_error_in_the_tick_ends_the_run(room):
    def tick(seconds: float) -> None:
        raise TickError

    process = room.launch(f"note(); time.sleep({FOREVER})")
    with pytest.raises(TickError), process:
        process.wait(tick=tick)

    assert (process.usage.returncode, process.usage.reason_for_kill) == (-9, "harness")


def test_the_tick_hears_how_long_it_has_been(room):
    ticks: list[float] = []
    with room.launch("time.sleep(1)") as process:
        usage = process.wait(tick=ticks.append)

    assert ticks
    assert ticks == sorted(ticks)
    assert usage.returncode == 0


def test_a_running_program_can_be_polled_and_killed_once_and_again(room):
    with room.launch(f"time.sleep({FOREVER})") as process:
        assert process.poll() is None
        with pytest.raises(RuntimeError, match="still runs"):
            _ = process.usage
        usage = process.kill()

        assert usage.reason_for_kill == "harness"
        assert process.kill() is process.wait() is process.poll() is process.usage is usage
    process.close()
    assert process.isolation is Isolation.NONE


def test_killing_what_has_ended_changes_nothing(room):
    with room.launch("") as process:
        assert process.wait().reason_for_kill == ""
        assert process.kill().reason_for_kill == ""


def test_killing_after_the_supervisor_died_finds_out(room):
    code = f"os.kill(os.getppid(), 9); time.sleep({FOREVER})"
    with room.launch(code) as process:
        time.sleep(0.2)
        assert process.kill().reason_for_kill == "supervisor"


def test_no_descriptor_of_the_harness_leaks(room):
    room.run("")
    before = descriptors()

    room.run("", stdin=True)
    room.run(f"time.sleep({FOREVER})", seconds=0.2)
    with pytest.raises(FileNotFoundError):
        room.run("", argv=("/nonexistent/program",), stdin=True)
    with pytest.raises(OSError, match="did not start"):
        launch(room.spec("", stdin=True), interpreter=("/bin/false",))

    assert descriptors() == before


# --- standard input --------------------------------------------------------------------------------


def test_a_waiting_program_gets_its_line(room):
    spec = room.spec("print(sys.stdin.readline().upper())", stdin=True)
    with launch(spec, interpreter=INTERPRETER) as process:
        assert process.send_line("modèle.pt2".encode())
        assert process.wait().returncode == 0

    assert spec.log.read_text("utf-8") == "MODÈLE.PT2\n\n"


@pytest.mark.parametrize(
    "code",
    [f"time.sleep({FOREVER})", f"os.close(0); time.sleep({FOREVER})", ""],
    ids=["never reads", "closes its input", "has ended"],
)
def test_a_program_that_does_not_take_its_line_cannot_hold_the_harness(code, room):
    with room.launch(code, stdin=True, seconds=0.8) as process:
        assert not process.send_line(b"x" * (1 << 20))
        process.wait()
        assert not process.send_line(b"again")


def test_a_line_needs_a_pipe_and_is_one_line(room):
    with room.launch("") as process, pytest.raises(ValueError, match="stdin=True"):
        process.send_line(b"model")
    with room.launch("", stdin=True) as process, pytest.raises(ValueError, match="no line break"):
        process.send_line(b"a\nb")
    assert not process.send_line(b"after the end")


# --- starting --------------------------------------------------------------------------------------


def test_a_program_that_cannot_be_started_is_an_error(room):
    data = room.directory / "data"
    data.write_text("not a program")
    with pytest.raises(FileNotFoundError, match="cannot start the program"):
        room.run("", argv=("/nonexistent/program",))
    with pytest.raises(PermissionError, match="data"):
        room.run("", argv=(str(data),))


def test_a_log_that_exists_is_not_overwritten(room):
    (room.directory / "mine").write_text("precious")
    (room.directory / "link").symlink_to(room.directory / "elsewhere")
    for name in ("mine", "link"):
        with pytest.raises(FileExistsError):
            room.run("", log=room.directory / name)

    assert (room.directory / "mine").read_text() == "precious"
    assert not (room.directory / "elsewhere").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"argv": ()}, "absolute path of a program"),
        ({"argv": ("python", "train.py")}, "absolute path of a program"),
        ({"env": {"A=B": "1"}}, "'A=B' cannot be passed on"),
        ({"env": {"": "1"}}, "'' cannot be passed on"),
        ({"env": {"A": "\0"}}, "'A' cannot be passed on"),
        ({"seconds": 0}, "seconds 0 must be a finite number above 0"),
        ({"seconds": float("inf")}, "seconds inf"),
        ({"seconds": float("nan")}, "seconds nan"),
        ({"output_cap": 100}, "output_cap 100 must be at least 4096"),
        ({"memory_cap_mb": 0}, "memory_cap_mb 0 must be above 0"),
        ({"cwd": Path("here")}, "'here' must be absolute"),
        ({"cwd": Path("/nonexistent")}, "'/nonexistent' is not a directory"),
        ({"readonly": (Path("/nonexistent"),)}, "'/nonexistent' is not a directory"),
    ],
)
def test_a_launch_that_makes_no_sense_is_refused(changes, sentence, room):
    with pytest.raises(ValueError, match=sentence):
        room.spec("", **changes)


def test_what_the_program_must_not_change_lies_outside_its_writable_directories(room):
    inside = room.out / "snapshot"
    inside.mkdir()
    with pytest.raises(ValueError, match="inside a writable directory"):
        room.spec("", readonly=(inside,))
    with pytest.raises(ValueError, match="inside a writable directory"):
        room.spec("", log=room.out / "log")


def test_a_specification_cannot_be_changed_afterwards(room):
    environment = {"A": "1"}
    spec = room.spec("", env=environment)
    environment["A"] = "2"

    assert spec.env == {"A": "1"}
    with pytest.raises(TypeError):
        spec.env["A"] = "3"  # type: ignore[index]


# --- the environment -------------------------------------------------------------------------------


def test_every_directory_of_the_environment_lies_below_the_writable_one(tmp_path):
    environment = closed_environment(tmp_path, threads=2, environ={"HOME": "/root"})

    places = {key: value for key, value in environment.items() if value.startswith("/")}
    assert places.pop("PATH") == os.defpath
    assert all(Path(place).is_relative_to(tmp_path) for place in places.values())
    assert {"HOME", "TMPDIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"} <= places.keys()
    assert all(Path(environment[key]).is_dir() for key in ("HOME", "TMPDIR", "XDG_CACHE_HOME"))
    assert environment["OMP_NUM_THREADS"] == "2"


def test_a_run_on_the_processor_is_shown_no_gpu(tmp_path):
    source = {"CUDA_VISIBLE_DEVICES": "3", "LD_LIBRARY_PATH": str(tmp_path)}
    (tmp_path / "libcuda.so.1").touch()

    environment = closed_environment(tmp_path, threads=1, environ=source)

    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert "LD_LIBRARY_PATH" not in environment


def test_a_run_on_a_gpu_gets_the_driver_and_the_choice_of_devices_only(tmp_path):
    (tmp_path / "libcuda.so.1").touch()
    toolkit = tmp_path / "toolkit"
    toolkit.mkdir()
    source = {
        "CUDA_VISIBLE_DEVICES": "3",
        "LD_LIBRARY_PATH": f"{toolkit}::relative:{tmp_path}",
        "LD_PRELOAD": "/tmp/evil.so",
        "CUDA_LAUNCH_BLOCKING": "1",
    }
    plain = closed_environment(tmp_path, threads=1, environ={})

    environment = closed_environment(tmp_path, threads=1, device="cuda", environ=source)

    added = {key: value for key, value in environment.items() if plain.get(key) != value}
    assert added["CUDA_VISIBLE_DEVICES"] == "3"
    assert added["LD_LIBRARY_PATH"].split(":")[0] == str(tmp_path)
    assert added.keys() == {"CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"}
    assert str(toolkit) not in driver_directories(source)


def test_a_gpu_run_without_choice_or_driver_directory_sees_the_systems_own(tmp_path):
    environment = closed_environment(tmp_path, threads=1, device="cuda", environ={})

    assert "CUDA_VISIBLE_DEVICES" not in environment


def test_an_extra_variable_is_added_but_replaces_none(tmp_path):
    extra = {"AUTORESEARCH_SEED": "1"}
    assert closed_environment(tmp_path, threads=1, extra=extra)["AUTORESEARCH_SEED"] == "1"

    with pytest.raises(ValueError, match="'PATH' is set by the harness"):
        closed_environment(tmp_path, threads=1, extra={"PATH": "/evil"})
    with pytest.raises(ValueError, match="threads 0"):
        closed_environment(tmp_path, threads=0)


def test_a_script_finds_its_neighbour_and_leaves_nothing_beside_it(room):
    snapshot = room.directory / "snapshot"
    snapshot.mkdir()
    (snapshot / "prepare.py").write_text("SPLIT = 'train'")
    (snapshot / "train.py").write_text(
        "import prepare, site, sys, tempfile\n"
        "print(prepare.SPLIT, site.ENABLE_USER_SITE, tempfile.gettempdir())"
    )
    environment = closed_environment(room.out, threads=1)

    outcome = room.run(
        "",
        argv=python_command("train.py"),
        cwd=snapshot,
        env=environment,
        readonly=(snapshot,),
    )

    assert outcome.log.decode() == f"train False {room.out / 'tmp'}\n"
    assert sorted(path.name for path in snapshot.iterdir()) == ["prepare.py", "train.py"]
