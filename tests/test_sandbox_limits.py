"""
Programs that take more than their share of disk, memory and processes, at every level.

Each attack runs twice: without its cap, to show that it works, and with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_autoresearch.rundir import remove
from pytest_autoresearch.sandbox import Isolation, LaunchSpec, Usage, launch
from pytest_autoresearch.sandbox.holdings import Disk
from pytest_autoresearch.sandbox.process import ISOLATED_INTERPRETER

ROOT = os.geteuid() == 0
LEVELS = [Isolation.STRONG, Isolation.KERNEL, Isolation.NONE]
WALLS = LEVELS[:2]
PYTHON = (sys.executable, "-I", "-S")


def everywhere_once(attacks: Iterable[str]) -> list[tuple[str, Isolation]]:
    """All attacks at one level and the first at all: the walk over the files is the same at each."""
    names = list(attacks)
    others = [level for level in LEVELS if level is not Isolation.STRONG]
    return [
        *((name, Isolation.STRONG) for name in names),
        *((names[0], level) for level in others),
    ]


COVERAGE = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("COVERAGE_")]
# An isolated interpreter cannot start the coverage measurement.
INTERPRETER = (
    (str(shutil.which("env")), *COVERAGE, sys.executable) if COVERAGE else ISOLATED_INTERPRETER
)
STAY = "\ntime.sleep(600)\n"
"""An attack that is noticed only at the end would not end."""


@dataclass
class Room:
    """Runs programs that may write to one directory."""

    directory: Path
    runs: int = 0

    def __post_init__(self) -> None:
        self.out = self.directory / "out"
        self.out.mkdir()

    def spec(self, level: Isolation, code: str, **options: object) -> LaunchSpec:
        self.runs += 1
        given = f"import os, sys, time\nos.chdir({str(self.out)!r})\n"
        arguments: dict[str, object] = {
            "argv": (*PYTHON, "-c", given + textwrap.dedent(code)),
            "cwd": self.out,
            "env": {"LANG": "C.UTF-8"},
            "seconds": 60.0,
            "log": self.directory / f"log{self.runs}",
            "writable": (self.out,),
            "isolation": level,
        }
        return LaunchSpec(**(arguments | options))  # type: ignore[arg-type]

    def run(self, level: Isolation, code: str, **options: object) -> tuple[Usage, str]:
        spec = self.spec(level, code, **options)
        with launch(spec, interpreter=INTERPRETER) as process:
            usage = process.wait()
        return usage, spec.log.read_text("utf-8", "replace")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    remove(made.out)


# --- disk ------------------------------------------------------------------------------------------

FILL = {
    # Each takes 40 MiB and about 60 entries.
    "many files": "for n in range(40): open(str(n), 'wb').write(bytes(1 << 20))",
    "many directories": """
        for n in range(40):
            os.makedirs(f"{n}/a"); open(f"{n}/a/b", "wb").write(bytes(1 << 20))
        """,
    "a file without a name": """
        f = open("gone", "wb"); os.unlink("gone")
        f.write(bytes(40 << 20)); f.flush()
        """,
    "a file that never had a name": """
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR)
        for _ in range(40): os.write(fd, bytes(1 << 20))
        """,
    "a closed directory": """
        os.mkdir("closed")
        for n in range(40): open(f"closed/{n}", "wb").write(bytes(1 << 20))
        os.chmod("closed", 0); os.chmod(".", 0)
        """,
    "a directory that can be listed and not entered": """
        os.mkdir("closed")
        for n in range(40): open(f"closed/{n}", "wb").write(bytes(1 << 20))
        os.chmod("closed", 0o444)
        """,
    "a daemon": """
        if os.fork() == 0:
            os.setsid()
            for n in range(40): open(str(n), "wb").write(bytes(1 << 20))
        """,
}


@pytest.mark.parametrize(("attack", "level"), everywhere_once(FILL))
def test_a_run_that_fills_the_disk_is_killed(attack: str, level: Isolation, room: Room) -> None:
    code = textwrap.dedent(FILL[attack])
    usage, log = room.run(level, code + "\ntime.sleep(2)\n", disk_cap_mb=100)
    assert (usage.reason_for_kill, usage.returncode) == ("", 0), log
    assert 39 < usage.peak_disk_mb < 100

    remove(room.out)
    room.out.mkdir()
    usage, log = room.run(level, code + STAY, disk_cap_mb=20)
    assert (usage.reason_for_kill, usage.survivors) == ("disk", 0), log
    assert usage.peak_disk_mb > 20


MANY = {
    "files": "for n in range(900): open(f'{n}', 'w').close()",
    "directories": "for n in range(900): os.mkdir(f'{n}')",
    "links to nowhere": "for n in range(900): os.symlink('nowhere', f'{n}')",
    "pipes": "for n in range(900): os.mkfifo(f'{n}')",
}


@pytest.mark.parametrize(("attack", "level"), everywhere_once(MANY))
def test_a_run_with_too_many_files_is_killed(attack: str, level: Isolation, room: Room) -> None:
    usage, log = room.run(level, MANY[attack], files_cap=2000)
    assert (usage.reason_for_kill, usage.returncode) == ("", 0), log

    remove(room.out)
    room.out.mkdir()
    usage, log = room.run(level, MANY[attack] + STAY, files_cap=500)
    assert (usage.reason_for_kill, usage.survivors) == ("files", 0), log


@pytest.mark.parametrize("level", LEVELS)
def test_a_run_that_ends_before_it_is_looked_at_is_found_out(level: Isolation, room: Room) -> None:
    """It need not end on its own: what counts is that it cannot have ended well."""
    usage, _ = room.run(level, MANY["files"], files_cap=500)

    assert usage.reason_for_kill == "files"


NEST = """
for _ in range({levels}):
    os.mkdir("d" * 50); os.chdir("d" * 50)
"""


@pytest.mark.parametrize("level", LEVELS)
def test_files_cannot_be_hidden_below_what_a_path_can_say(level: Isolation, room: Room) -> None:
    usage, log = room.run(level, NEST.format(levels=100), disk_cap_mb=1000)  # 5,000 bytes
    assert (usage.reason_for_kill, usage.returncode) == ("", 0), log

    remove(room.out)
    room.out.mkdir()
    usage, log = room.run(level, NEST.format(levels=1000) + STAY, disk_cap_mb=1000)
    assert (usage.reason_for_kill, usage.survivors) == ("hidden", 0), log


def test_links_to_one_file_count_its_bytes_once(room: Room) -> None:
    (room.out / "file").write_bytes(bytes(10 << 20))
    for n in range(20):
        os.link(room.out / "file", room.out / str(n))
    disk = Disk([str(room.out)], 50, 1000)

    assert disk.finish() == ""
    assert 10 <= disk.peak / 2**20 < 11


def test_a_directory_that_is_gone_holds_nothing(room: Room, tmp_path: Path) -> None:
    disk = Disk([str(room.out), str(tmp_path / "never")], 50, 10)
    room.out.rmdir()

    assert (disk.step(), disk.finish(), disk.peak) == ("", "", 0)
    room.out.mkdir()


@pytest.mark.skipif(not ROOT, reason="becomes another user")
@pytest.mark.parametrize("mode", [0, 0o444])
def test_a_directory_that_nobody_can_open_is_found_out(mode: int) -> None:
    """A supervisor that is an ordinary user cannot look into what belongs to another one."""
    top = Path(tempfile.mkdtemp(prefix="ar", dir="/tmp"))
    try:
        top.chmod(0o755)
        (top / "foreign").mkdir()
        (top / "foreign" / "file").touch()
        (top / "foreign").chmod(mode)
        pid = os.fork()
        if not pid:
            try:
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                os._exit(Disk([str(top)], 1, 10).finish() != "hidden")
            finally:
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        remove(top)


def test_a_large_tree_is_looked_at_in_slices(room: Room) -> None:
    """Each step ends soon, so that the deadline is kept; in the end all has been counted."""
    for n in range(3000):
        (room.out / str(n)).touch()
    disk = Disk([str(room.out)], None, 2999)
    steps = 0
    while not (reason := disk.step()):
        steps += 1

    assert reason == "files"
    assert steps > 0


# --- memory ----------------------------------------------------------------------------------------

HIDE = {
    "a file of memory that is not mapped": """
        fd = os.memfd_create("x")
        for _ in range(150): os.write(fd, bytes(1 << 20))
        """,
    "a file of memory in another process": """
        if os.fork() == 0:
            fd = os.memfd_create("x")
            for _ in range(150): os.write(fd, bytes(1 << 20))
        """,
}
PRIVATE = {
    "files in /tmp": "for n in range(150): open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))",
    "files in shared memory": """
        for n in range(150): open(f'/dev/shm/{os.getpid()}-{n}', 'wb').write(bytes(1 << 20))
        """,
    "a file without a name in shared memory": """
        name = f'/dev/shm/{os.getpid()}'
        f = open(name, 'wb'); os.unlink(name)
        for n in range(150): f.write(bytes(1 << 20))
        """,
}
BOMBS = [
    *((attack, level) for attack in HIDE for level in LEVELS),
    *((attack, Isolation.STRONG) for attack in PRIVATE),
    *((attack, Isolation.KERNEL) for attack in list(PRIVATE)[1:] if ROOT),
]


@pytest.mark.parametrize(("attack", "level"), BOMBS)
def test_memory_that_belongs_to_no_process_counts(
    attack: str, level: Isolation, room: Room
) -> None:
    code = textwrap.dedent((HIDE | PRIVATE)[attack])
    usage, log = room.run(level, code + "\ntime.sleep(2)\n", memory_cap_mb=1000)
    assert (usage.reason_for_kill, usage.returncode) == ("", 0), log
    assert 150 < usage.peak_memory_mb < 250

    usage, log = room.run(level, code + STAY, memory_cap_mb=120)
    if usage.reason_for_kill != "memory":
        assert "No space left on device" in log  # the file system is no larger than the cap
    assert usage.survivors == 0


def test_a_private_file_system_is_no_larger_than_the_cap(room: Room) -> None:
    code = """
    import errno
    for place in ("/tmp", "/dev/shm"):
        found = os.statvfs(place)
        print(found.f_blocks * found.f_frsize >> 20)
    """
    _, capped = room.run(Isolation.STRONG, code, memory_cap_mb=100)
    _, free = room.run(Isolation.STRONG, code)

    assert (capped.split(), free.split()) == (["100", "100"], ["1024", "4096"])


@pytest.mark.parametrize("level", LEVELS)
def test_memory_that_is_mapped_and_a_file_counts_once(level: Isolation, room: Room) -> None:
    """Tensors that workers share are such memory."""
    code = """
    import mmap
    fd = os.memfd_create("x")
    os.ftruncate(fd, 100 << 20)
    x = mmap.mmap(fd, 100 << 20)
    for at in range(0, len(x), 4096): x[at] = 1
    for _ in range(2):
        if os.fork() == 0:
            sum(x[at] for at in range(0, len(x), 4096))
            break
    time.sleep(2)
    """
    usage, log = room.run(level, code, memory_cap_mb=190)

    assert (usage.reason_for_kill, usage.returncode) == ("", 0), log
    assert 100 < usage.peak_memory_mb < 190


@pytest.mark.skipif(not ROOT, reason="only then there is shared memory at this level")
def test_named_shared_memory_that_is_mapped_counts_once(room: Room) -> None:
    code = """
    import mmap
    f = open(f"/dev/shm/{os.getpid()}", "w+b")
    f.truncate(100 << 20)
    x = mmap.mmap(f.fileno(), 100 << 20)
    for at in range(0, len(x), 4096): x[at] = 1
    os.fork()
    time.sleep(2)
    """
    for level in WALLS:
        usage, log = room.run(level, code, memory_cap_mb=170)
        assert (usage.reason_for_kill, usage.returncode) == ("", 0), log
        assert 100 < usage.peak_memory_mb < 170


# --- processes -------------------------------------------------------------------------------------

BOMB = """
made = 0
try:
    for made in range(120):
        if not os.fork(): time.sleep(600)
    print("unlimited", flush=True)
except BlockingIOError: print("limited", flush=True)
time.sleep(4)
"""


@pytest.mark.parametrize("level", LEVELS)
def test_a_fork_bomb_is_stopped_or_killed(level: Isolation, room: Room) -> None:
    usage, log = room.run(level, BOMB)
    assert "unlimited" in log
    assert usage.peak_processes > 120

    usage, log = room.run(level, BOMB, processes=40)
    if "limited" not in log.split():
        assert usage.reason_for_kill == "processes"
    assert usage.survivors == 0
    if ROOT and level is not Isolation.NONE:
        assert "limited" in log.split()
        assert usage.peak_processes <= 44


@pytest.mark.parametrize("level", LEVELS)
def test_threads_count_as_processes(level: Isolation, room: Room) -> None:
    code = """
    import threading
    for _ in range(60): threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    time.sleep(600)
    """
    usage, log = room.run(level, code, processes=30, seconds=20.0)

    assert usage.reason_for_kill == "processes" or "can't start new thread" in log
    assert usage.survivors == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"disk_cap_mb": 0}, "disk_cap_mb 0 must be above 0"),
        ({"files_cap": -1}, "files_cap -1 must be above 0"),
        ({"processes": 0}, "processes 0 must be at least 1"),
    ],
)
def test_a_cap_that_makes_no_sense_is_refused(
    changes: dict[str, object], words: str, room: Room
) -> None:
    with pytest.raises(ValueError, match=words):
        room.spec(Isolation.NONE, "", **changes)


# --- locks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_a_lock_is_held_for_the_program_and_not_by_it(level: Isolation, room: Room) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    spec = room.spec(
        level, "print(sorted(os.listdir('/proc/self/fd')), flush=True)" + STAY, held=(writer,)
    )
    with launch(spec, interpreter=INTERPRETER) as process:
        while not spec.log.read_bytes():
            assert process.poll() is None
        os.close(writer)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)  # the supervisor has it
        process.kill()
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert spec.log.read_text() == "['0', '1', '2', '3']\n"  # 3 lists


def test_control_an_inherited_descriptor_would_reach_the_program(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    code = "import os; print(len(os.listdir('/proc/self/fd')))"
    done = subprocess.run([*PYTHON, "-c", code], pass_fds=(writer,), capture_output=True)
    os.close(reader)
    os.close(writer)

    assert done.stdout == b"5\n"
