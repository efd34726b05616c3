"""
Two runs at a time: what one knows reaches the other only where they could meet, and there they do not go on together.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_autoresearch.config import load_settings
from pytest_autoresearch.measuring import Runner
from pytest_autoresearch.rundir import fresh, tail_of
from pytest_autoresearch.sandbox import Isolation, LaunchSpec, closed_environment, launch

#: Puts a word into its own name and into shared memory, and stays.
TELLS = """
import ctypes, os, time
ctypes.CDLL(None).prctl(15, b"held-out", 0, 0, 0)
try:
    with open("/dev/shm/autoresearch-neighbour", "w") as file:
        file.write("held-out")
    os.chmod("/dev/shm/autoresearch-neighbour", 0o666)
except OSError:
    pass
print("TOLD", flush=True)
time.sleep(60)
"""
LISTENS = """
import glob
found = set()
for path in [*glob.glob("/proc/[0-9]*/comm"), "/dev/shm/autoresearch-neighbour"]:
    try:
        found.add(open(path).read().strip())
    except OSError:
        pass
print("HEARD" if "held-out" in found else "SILENCE", flush=True)
"""


def heard(level: Isolation, directory: Path) -> bool:
    """Whether a second run at the level finds what a first one left for it."""

    def start(name: str, code: str):  # type: ignore[no-untyped-def]
        work = fresh(directory / name)
        work.chmod(0o777)
        log = directory / f"{name}.log"
        spec = LaunchSpec(
            argv=(sys.executable, "-I", "-c", code),
            cwd=work,
            env=closed_environment(work, threads=1),
            writable=(work,),
            seconds=60,
            log=log,
            isolation=level,
        )
        return launch(spec), log

    first, log = start("first", TELLS)
    with first:
        deadline = time.monotonic() + 30
        while "TOLD" not in (tail_of(log) if log.exists() else "") and time.monotonic() < deadline:
            time.sleep(0.02)
        second, log = start("second", LISTENS)
        with second:
            second.wait()
            said = tail_of(log)
        first.kill()
    assert "HEARD" in said or "SILENCE" in said, said
    return "HEARD" in said


def slots(level: Isolation, device: str = "cpu") -> int:
    settings = load_settings("[tool.autoresearch.run]\nslots = 4\n")
    campaign = SimpleNamespace(wall=SimpleNamespace(level=level), device=device, settings=settings)
    return Runner(None, campaign, "salt").slots  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["strong", "kernel"], indirect=True)
def test_runs_go_on_together_only_where_they_cannot_meet(level: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    isolation = Isolation(level)
    assert not (heard(isolation, tmp_path) and slots(isolation) > 1)


def test_control_without_a_wall_two_runs_at_a_time_do_meet(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert heard(Isolation.NONE, tmp_path)
    assert slots(Isolation.KERNEL) == slots(Isolation.CONTAINER) == 1
    assert slots(Isolation.STRONG) == 4
    assert slots(Isolation.STRONG, device="cuda") == 1
