"""
One run per GPU at a time, with real processes; the lock knows no GPU, so any name will do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_autoresearch.gpulock import GpuLock

SESSION = """
import os, sys
from pathlib import Path
from pytest_autoresearch.gpulock import GpuLock
from pytest_autoresearch.sandbox import LaunchSpec, launch
where, program = Path(sys.argv[1]), sys.argv[2]
with GpuLock(["GPU-5f"], directory=where, notify=lambda line: print(line, flush=True)) as held:
    spec = LaunchSpec(
        argv=(sys.executable, "-I", "-S", "-c", program), cwd=where, env={}, seconds=600.0,
        log=where / f"log-{os.getpid()}", held=held if sys.argv[3] == "held" else (),
    )
    with launch(spec) as process:
        print("running", flush=True)
        process.wait()
"""
STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
if os.fork() == 0: os.setsid()
open(f"pid-{os.getpid()}", "w").close()
time.sleep(600)
"""


class Sessions:
    """Starts sessions that want the GPU."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *, held: bool = True, program: str = STUBBORN) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SESSION, str(self.directory), program, "held" if held else ""],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def programs(self) -> list[int]:
        return [int(path.name[4:]) for path in self.directory.glob("pid-*")]


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    made = Sessions(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def eventually(condition: Callable[[], object]) -> bool:
    give_up = time.monotonic() + 30
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True


def free(directory: Path) -> bool:
    """Whether nobody holds the lock."""
    with subprocess.Popen(["flock", "-n", str(directory / "gpu-GPU-5f.lock"), "true"]) as asked:
        return asked.wait() == 0


def test_the_second_session_waits_and_is_told_for_whom(sessions, tmp_path):
    first = sessions.start()
    assert says(first) == "running"
    second = sessions.start(program="")

    told = says(second)

    assert told.startswith(f"GPU GPU-5f is in use by the session with process id {first.pid} in ")
    assert told.endswith(": waiting")
    assert second.poll() is None
    first.send_signal(signal.SIGINT)
    assert says(second) == "running"
    assert second.wait() == 0
    assert free(tmp_path)


def freeze(sessions: Sessions, first: subprocess.Popen[str]) -> int:
    """Stop the supervisor, so that it notices the death of its session only later."""
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    (supervisor,) = map(int, children)
    assert eventually(lambda: len(sessions.programs()) == 2)
    os.kill(supervisor, signal.SIGSTOP)
    return supervisor


@pytest.mark.parametrize("held", [True, False])
def test_a_killed_session_leaves_the_gpu_locked_until_its_run_is_dead(held, sessions, tmp_path):
    """The control is the same lock without the supervisor: free while the run still lives."""
    first = sessions.start(held=held)
    assert says(first) == "running"
    supervisor = freeze(sessions, first)
    try:
        first.kill()
        first.wait()
        alive = [pid for pid in sessions.programs() if Path(f"/proc/{pid}").exists()]
        assert len(alive) == 2

        assert free(tmp_path) is not held
    finally:
        with suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGCONT)
    assert eventually(lambda: free(tmp_path))
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in sessions.programs()))


def test_the_program_cannot_hold_the_lock(sessions, tmp_path):
    first = sessions.start()
    assert says(first) == "running"
    assert eventually(lambda: len(sessions.programs()) == 2)

    for pid in sessions.programs():
        names = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [name for name in names if "lock" in name]


def test_several_gpus_are_locked_together_and_given_back_together(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pytest_autoresearch.gpulock import GpuLock\n"
        "say = lambda line: print(line, flush=True)\n"
        "with GpuLock(['a'], directory=Path(sys.argv[1]), notify=say): pass\n"
    )
    with GpuLock(["b", "a", "a"], directory=tmp_path) as held:
        assert len(held) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu-a.lock", "gpu-b.lock"]
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert says(other).startswith("GPU a is in use by")
    other.communicate()
    assert other.returncode == 0


def test_a_name_that_is_no_file_name_is_made_one(tmp_path):
    with GpuLock(["../../MIG 1:2"], directory=tmp_path) as held:
        assert len(held) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-______MIG_1_2.lock"]


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "gpu-a.lock").symlink_to(tmp_path / "precious")

    with pytest.raises(OSError, match="symbolic links"), GpuLock(["a"], directory=tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "precious"
