"""
Group 7, processes: what a run does to other processes, and what of it outlives its end.

What is covered: T86 to T96 with a control each; T92 also for a harness that an ordinary user started.
What is not covered: T85 (a crash is charged like any run: tests/test_session_attacks.py).
"""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redteam.inside import Deed, Ran, Scene, assert_stopped, assert_works, says

from pytest_autoresearch.sandbox import launcher


def stopped(scene: Scene, ran: Ran) -> bool:
    """The bystander was killed or stopped."""
    if scene.bystander.poll() is not None:
        return True
    return (
        Path(f"/proc/{scene.bystander.pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
    )


def lives_on(scene: Scene, ran: Ran) -> bool:
    """Something of the run is alive after its end; a helper of a moment ago gets a moment."""
    for _ in range(5):
        if not scene.processes():
            return False
        time.sleep(0.1)
    return True


def limits(scene: Scene) -> tuple[object, ...]:
    """What somebody may have changed about the bystander."""
    import resource

    pid = scene.bystander.pid
    return (
        os.getpriority(os.PRIO_PROCESS, pid),
        os.sched_getaffinity(pid),
        os.sched_getscheduler(pid),
        resource.prlimit(pid, resource.RLIMIT_NOFILE),
        Path(f"/proc/{pid}/oom_score_adj").read_text(),
    )


THROTTLES = """
import resource
for action in (
    lambda: resource.prlimit(BYSTANDER, resource.RLIMIT_NOFILE, (7, 7)),
    lambda: os.setpriority(os.PRIO_PROCESS, BYSTANDER, 19),
    lambda: os.sched_setaffinity(BYSTANDER, {max(os.sched_getaffinity(0))}),
    lambda: os.sched_setscheduler(BYSTANDER, os.SCHED_IDLE, os.sched_param(0)),
    lambda: open(f"/proc/{BYSTANDER}/oom_score_adj", "w").write("999"),
):
    attempt(action)
"""
DEEDS = (
    Deed("kills a bystander", ("T86",), "attempt(lambda: os.kill(BYSTANDER, 9))", stopped),
    Deed("stops a bystander", ("T86",), "attempt(lambda: os.kill(BYSTANDER, 19))", stopped),
    Deed("kills a group", ("T86",), "attempt(lambda: os.killpg(BYSTANDER, 9))", stopped),
    Deed(
        "kills by descriptor",
        ("T86",),
        "attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(BYSTANDER), 9))",
        stopped,
    ),
    Deed(
        "reaches its own harness and supervisor",
        ("T86",),
        # Signal 0 asks whether another one would be delivered.
        """
        for pid in (HARNESS, os.getppid()):
            attempt(lambda: (os.kill(pid, 0), print("reached" if pid > 2 else "init")))
        """,
        says("reached"),
    ),
    Deed(
        "traces a bystander",
        ("T87",),
        "attempt(lambda: (call('ptrace', 0x4206, BYSTANDER, None, None), print('traced')))",
        says("traced"),
        root=True,  # elsewhere Yama may forbid it
    ),
    Deed(
        "leaves a daemon",
        ("T88", "T103"),
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.execve("/bin/sleep", ["sleep", "120"], {"WHERE": OUT})
            os._exit(0)
        time.sleep(0.2)
        """,
        lives_on,
    ),
    Deed(
        "relaunches itself for more time",
        ("T96", "T33"),
        """
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)", OUT], start_new_session=True)
        """,
        lives_on,
    ),
    Deed(
        "holds the pipe of its output",
        ("T93",),
        """
        subprocess.Popen(["/bin/sleep", "120"], env={"WHERE": OUT}, start_new_session=True, stdout=1, stderr=2)
        """,
        lives_on,
    ),
    Deed(
        "stops itself and hangs",
        ("T101",),
        """
        for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
        os.fork()
        os.kill(os.getpid(), signal.SIGSTOP)
        """,
        lives_on,
        seconds=1.0,
    ),
    Deed(
        "writes what a login, a scheduler or a CI step will run",
        ("T89",),
        """
        for name in (".profile", ".bashrc", ".config/autostart/x.desktop", ".config/systemd/user/x.service"):
            attempt(lambda: os.makedirs(os.path.dirname(f"{HOME}/{name}"), exist_ok=True))
            attempt(lambda: open(f"{HOME}/{name}", "w").write("evil"))
        attempt(lambda: open(f"{OUTSIDE}/github_env", "a").write("LD_PRELOAD=evil"))
        """,
        lambda scene, ran: [*scene.home.iterdir(), *scene.outside.iterdir()] != [],
    ),
    Deed("throttles a bystander", ("T92",), THROTTLES, lambda scene, ran: limits(scene) != BEFORE),
)
#: What a process that nobody throttled looks like: as this one.
BEFORE: tuple[object, ...] = ()


@pytest.fixture
def ipc(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(sys.modules[__name__], "BEFORE", limits(scene))
    return scene


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_a_run_reaches_no_other_process(deed: Deed, ipc: Scene, level: str) -> None:
    assert_stopped(ipc, deed, level)


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_control_an_unguarded_run_does(deed: Deed, ipc: Scene) -> None:
    assert_works(ipc, deed)


# -- objects of the kernel that outlive a process (T95) --------------------------------------------

SHARED = """
made = {
    "segment": lambda: call("shmget", KEY, 100, FLAGS),
    "semaphore": lambda: call("semget", KEY, 1, FLAGS),
    "messages": lambda: call("msgget", KEY, FLAGS),
    "queue": lambda: call("mq_open", QUEUE, 0o2 | (0o100 if FLAGS else 0), 0o666, None),
    "named": lambda: os.open(f"/dev/shm/sem.{NAME}", os.O_RDWR | (os.O_CREAT if FLAGS else 0), 0o666),
    "key": lambda: KEYS(),
}
KEYS = (
    (lambda: call("syscall", 248, b"user", NAME.encode(), b"x", 1, -4)) if FLAGS
    else (lambda: call("syscall", 250, 10, -4, b"user", NAME.encode(), 0))
)
for name, action in made.items():
    if attempt(action) is not None: print("found", name)
"""


@pytest.fixture
def objects(scene: Scene) -> Iterator[Scene]:
    name = f"redteam-{secrets.token_hex(8)}"
    key = secrets.randbelow(1 << 30) + 1
    scene.names |= {"NAME": name, "KEY": key, "QUEUE": f"/{name}".encode()}
    yield scene
    library = ctypes.CDLL(None)
    for get, control, *count in (
        ("shmget", "shmctl", 0),
        ("semget", "semctl", 0),
        ("msgget", "msgctl"),
    ):
        found = getattr(library, get)(key, *count, 0)
        if found >= 0:
            getattr(library, control)(found, *((0,) if get == "semget" else ()), 0, None)
    library.mq_unlink(f"/{name}".encode())
    library.syscall(250, 9, library.syscall(250, 10, -4, b"user", name.encode(), 0), -4)
    Path("/dev/shm", f"sem.{name}").unlink(missing_ok=True)


LEAVES = Deed(
    "leaves objects of the kernel",
    ("T95",),
    "FLAGS = 0o1666\n" + SHARED,
    says("found"),
    twice="FLAGS = 0\n" + SHARED,
)


def test_no_object_of_the_kernel_reaches_the_next_run(objects: Scene, level: str) -> None:
    assert_stopped(objects, LEAVES, level)


def test_control_an_unguarded_run_leaves_them(objects: Scene) -> None:
    assert_works(objects, LEAVES)


# -- a harness that an ordinary user started (T92) -------------------------------------------------

#: Not for the controls above: as root it would slow the whole machine down.
OF_THE_USER = "attempt(lambda: os.setpriority(os.PRIO_USER, 0, 17))\n"
AS_USER = """
import os, subprocess, sys
from pathlib import Path
from pytest_autoresearch.sandbox import Isolation, LaunchSpec, launch, launcher
directory, package, level, code = Path(sys.argv[1]), *sys.argv[2:]
launcher.reach([str(directory), sys.prefix, sys.base_prefix, package])
launcher.give(str(directory), 65534)
launcher.become(65534)
bystander = subprocess.Popen(["/bin/sleep", "100"])
def state():
    import resource
    pid = bystander.pid
    return (os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid),
        resource.prlimit(pid, resource.RLIMIT_NOFILE), os.sched_getaffinity(pid))
before = state()
spec = LaunchSpec(argv=(sys.executable, "-I", "-S", "-c", f"BYSTANDER = {bystander.pid}\\n" + code), cwd=directory / "cwd",
    env={}, seconds=30.0, log=directory / "log", writable=(directory / "out",), isolation=Isolation(level))
try:
    with launch(spec) as process: process.wait()
    print("unchanged" if state() == before else "changed")
finally:
    bystander.kill()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="turns root into an ordinary user")
@pytest.mark.parametrize("isolation", ["strong", "kernel", "none"])
def test_a_run_of_an_ordinary_user_throttles_no_other_process(
    isolation: str, tmp_path: Path
) -> None:
    """There the run is the same user as its harness at level ``kernel``; level ``none`` is the control."""
    for name in ("cwd", "out"):
        (tmp_path / name).mkdir()
    package = str(Path(launcher.__file__).parents[2])
    prelude = "import os\ndef attempt(action):\n    try: return action()\n    except OSError as error: print(error)\n"
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-c",
            AS_USER,
            str(tmp_path),
            package,
            isolation,
            prelude + THROTTLES + OF_THE_USER,
        ],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": package},
        check=False,
    )

    expected = "changed\n" if isolation == "none" else "unchanged\n"
    assert (done.stdout, done.stderr) == (expected, ""), (tmp_path / "log").read_text()
