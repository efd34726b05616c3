"""
The agent command's room, attacked by real commands: at level ``none``, the control, each attack succeeds.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from project import Project

from pytest_autoresearch.agent_room import PROMPT, AgentError, Shown, open_room
from pytest_autoresearch.agents import explain
from pytest_autoresearch.sandbox import Isolation, Usage, launcher, strong
from pytest_autoresearch.settings import Agent, Run
from pytest_autoresearch.wall import Wall

WALLS = [Isolation.STRONG, Isolation.KERNEL]
LEVELS = [Isolation.NONE, *WALLS]
ROOT = os.geteuid() == 0
CANARY = "held-out-canary"
RUN = Run(files=500, disk_mb=64)
BEFORE = {"train.py": b"STEPS = 60\n", "parts/model.py": b"WIDTH = 8\n"}
FIXED = {"program.md": b"# rules\n", "prepare.py": b"SECRET = 0\n", PROMPT: b"the prompt\n"}


@dataclass(frozen=True)
class Answer:
    """What came of a command."""

    usage: Usage
    log: str
    files: dict[str, bytes] | AgentError
    fixed: dict[str, bytes]
    why: str

    @property
    def changed(self) -> bool:
        return self.files != BEFORE


@dataclass
class Machine:
    """A user's machine: a project with data, ledgers and a repository, and a home with a key."""

    directory: Path
    runs: int = 0
    secrets: tuple[Path, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.root, self.home = self.directory / "project", self.directory / "home"
        self.secrets = (
            self.root / "data/heldout/val/labels",
            self.root / ".autoresearch/main/cutover-audit.jsonl",
            self.root / ".git/config",
            self.root / "prepare.py",
            self.home / ".ssh/id_ed25519",
        )
        for path in self.secrets:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{CANARY} {path.name}")

    @property
    def hidden(self) -> list[Path]:
        return [self.root / name for name in ("data", ".autoresearch", ".git")]

    @property
    def rooms(self) -> Path:
        return self.root / ".autoresearch/main/tmp"

    def shown(self, **agent: object) -> Shown:
        settings = Agent(**{"seconds": 60.0, **agent})  # type: ignore[arg-type]
        return Shown.choose(settings, hidden=self.hidden, root=self.root)

    def run(
        self, level: Isolation, command: str, *, prompt: bytes = FIXED[PROMPT], **agent: object
    ) -> Answer:
        self.runs += 1
        log = self.directory / f"agent{self.runs}.log"
        shown, wall = self.shown(**agent), Wall(level)
        with open_room(self.rooms, BEFORE, {**FIXED, PROMPT: prompt}) as room:
            usage = room.run(command, shown, wall, log, RUN)
            files: dict[str, bytes] | AgentError
            try:
                files = room.read()
            except AgentError as error:
                files = error
            fixed = {name: (room.fixed / name).read_bytes() for name in FIXED}
        why = str(explain(command, usage, shown, wall, log))
        return Answer(usage, log.read_text(errors="replace"), files, fixed, why)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(tmp_path / "machine")
    monkeypatch.setenv("HOME", str(made.home))
    yield made
    assert list(made.rooms.iterdir() if made.rooms.exists() else ()) == []


def living(words: str) -> list[int]:
    """Processes whose command line or environment holds ``words``."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            try:
                text = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            except OSError:
                continue
            if words.encode() in text:
                found.append(int(path.name))
    return found


def killed(words: str) -> list[int]:
    """Kill every process that :func:`living` finds; which there were."""
    found = living(words)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


# --- what it may do --------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_an_agent_edits_the_surface_as_editors_do(level, machine):
    answer = machine.run(
        level,
        "sed -i s/60/120/ train.py && python3 -c 'import os;"
        'open("t~", "w").write("WIDTH = 9"); os.replace("t~", "parts/model.py")\'',
    )
    assert answer.usage.returncode == 0, answer.log
    assert answer.files == {"train.py": b"STEPS = 120\n", "parts/model.py": b"WIDTH = 9"}


@pytest.mark.parametrize("level", LEVELS)
def test_an_agent_has_the_prompt_twice_and_a_repository(level, machine):
    answer = machine.run(
        level,
        "cat; cat PROMPT.md program.md; git status --porcelain; echo '# x' >> train.py; git diff; "
        "git commit -qam mine; git log --format=%s; echo $HOME $TMPDIR; touch $HOME/a $TMPDIR/b && echo wrote",
    )
    lines = answer.log.splitlines()
    assert lines[:3] == ["the prompt", "the prompt", "# rules"]
    assert "+# x" in lines
    assert lines[-4:-2] == ["mine", "the incumbent and what is fixed"]
    home, temporary = lines[-2].split()
    assert all(path.startswith(str(machine.rooms)) for path in (home, temporary))
    assert lines[-1] == "wrote"
    # What the agent committed is not looked at; here it is the same.
    assert answer.files == {**BEFORE, "train.py": b"STEPS = 60\n# x\n"}


@pytest.mark.parametrize("level", LEVELS)
def test_only_the_files_count_whatever_was_committed(level, machine):
    answer = machine.run(
        level, "echo worse > train.py; git commit -qam mine; git checkout -q HEAD~1 -- train.py"
    )
    assert (answer.usage.returncode, answer.changed) == (0, False), answer.log


def test_a_prompt_that_nobody_reads_holds_nobody(machine):
    """Larger than any pipe: whoever wrote it to one would wait for a reader."""
    big = b"line of a prompt\n" * 200_000
    for level in LEVELS:
        answer = machine.run(level, "echo X > train.py; exec 0<&-; sleep 0.1", prompt=big)
        assert (answer.usage.returncode, answer.usage.timed_out) == (0, False)
        assert machine.run(level, "wc -c", prompt=big).log.strip() == str(len(big))


# --- what it may not see ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_labels_ledgers_repository_and_keys_are_out_of_sight(level, machine):
    victim = subprocess.Popen(["/bin/sleep", "600"], env={"TOKEN": CANARY}, start_new_session=True)
    try:
        environ = Path(f"/proc/{victim.pid}/environ")
        # Between fork and exec it still has this process's environment.
        assert eventually(lambda: CANARY.encode() in environ.read_bytes())
        paths = [*machine.secrets, environ]
        answer = machine.run(level, "".join(f"cat '{path}'; echo; " for path in paths))
    finally:
        victim.kill()
        victim.wait()
    assert answer.log.count(CANARY) == (len(paths) if level is Isolation.NONE else 0)


@pytest.mark.parametrize("level", WALLS)
def test_a_link_does_not_lead_out_of_the_room(level, machine):
    """The trusted side reads as root or user what the agent could only point at."""
    label = machine.secrets[0]
    answer = machine.run(level, f"cat train.py; rm train.py; ln -s '{label}' train.py")
    assert isinstance(answer.files, AgentError)
    answer = machine.run(level, f"rm -r parts; ln -s '{label.parent}' parts; ls parts/")
    assert isinstance(answer.files, AgentError)
    assert "symlink" in str(answer.files)
    assert label.name not in answer.log.replace(str(label.parent), "")


def test_secrets_of_the_environment_are_passed_on_by_name_only(machine, monkeypatch):
    monkeypatch.setenv("MODEL_API_KEY", CANARY)
    monkeypatch.setenv("CLOUD_TOKEN", CANARY)
    inherited = subprocess.run(["/bin/sh", "-c", "env"], capture_output=True, text=True)
    assert inherited.stdout.count(CANARY) == 2
    for level in LEVELS:
        assert CANARY not in machine.run(level, "env").log
        answer = machine.run(level, "env | sort", env=("MODEL_API_KEY", "ABSENT_KEY"))
        assert f"MODEL_API_KEY={CANARY}" in answer.log
        assert "CLOUD_TOKEN" not in answer.log
        assert "agent.env names ABSENT_KEY, which is not set here" in answer.why
    with pytest.raises(AgentError, match="env: environment variable 'HOME' is set by the harness"):
        machine.run(Isolation.NONE, "true", env=("HOME",))


# --- what it may not write -------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_fixed_files_withstand(level, machine):
    """Links in the worktree lead to them, and replacing a link replaces nothing."""
    answer = machine.run(
        level,
        "chmod u+w ../fixed ../fixed/*; echo evil > prepare.py; rm -f program.md; echo evil > program.md; "
        "echo evil > ../fixed/conftest.py; echo x > conftest.py; echo x > pytest.ini; "
        f"echo evil > '{machine.root}/conftest.py'; echo evil >> '{machine.secrets[1]}'",
    )
    inside = level is not Isolation.NONE
    # An ordinary user at level none can open what the mode 0444 keeps closed, too.
    assert (answer.fixed["prepare.py"] == FIXED["prepare.py"]) is inside
    assert answer.fixed["program.md"] == FIXED["program.md"]
    assert (machine.root / "conftest.py").exists() is not inside
    assert ("evil" in machine.secrets[1].read_text()) is not inside
    assert not answer.changed
    assert not (machine.root / "pytest.ini").exists()


@pytest.mark.parametrize("level", LEVELS)
def test_hooks_and_configuration_that_it_leaves_are_never_run(level, machine):
    mark = machine.directory / "mark"
    trap = f"#!/bin/sh\\nid > {mark}\\n"
    answer = machine.run(
        level,
        f"mkdir .git/hooks; for h in post-commit post-checkout post-index-change reference-transaction; do "
        f"printf '{trap}' > .git/hooks/$h; chmod +x .git/hooks/$h; done; printf '{trap}' > trap; chmod +x trap; "
        "git config core.fsmonitor $PWD/trap; git config diff.external $PWD/trap; "
        "printf '* filter=evil diff=evil' > .gitattributes; git config filter.evil.clean $PWD/trap; "
        "echo STEPS = 61 > train.py",
    )
    assert answer.files == {**BEFORE, "train.py": b"STEPS = 61\n"}
    assert not mark.exists()
    # The control: one git of the trusted side in there, and the agent's program runs.
    control = machine.directory / "control"
    control.mkdir()
    subprocess.run(["git", "init", "-q", control], check=True)
    (control / "trap").write_text(f"#!/bin/sh\nid > {mark}\n")
    (control / "trap").chmod(0o755)
    for arguments in (("config", "core.fsmonitor", str(control / "trap")), ("status",)):
        subprocess.run(["git", *arguments], cwd=control, check=True, capture_output=True)
    assert mark.exists()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("rm train.py && ln -s /etc/hostname train.py", "without following links"),
        ("rm train.py && mkfifo train.py", "is not a regular file"),
        ("rm train.py && mkdir train.py", "is not a regular file"),
        ("rm train.py", "does not exist"),
        ("ln train.py second", "has 2 names"),
        ("rm -r parts; touch parts", "cannot be opened"),
        ("head -c 2000000 /dev/zero > train.py", "more than the 1048576 allowed"),
    ],
)
def test_what_is_no_plain_file_is_refused_without_waiting(command, complaint, level, machine):
    answer = machine.run(level, command)
    assert isinstance(answer.files, AgentError), answer.log
    assert "what the agent left is no candidate: the candidate's surface file" in str(answer.files)
    assert complaint in str(answer.files)


@pytest.mark.parametrize("level", LEVELS)
def test_directories_that_it_closes_and_odd_names_go_with_the_room(level, machine):
    answer = machine.run(
        level,
        "mkdir -p a/b \"$(printf 'line\\nbreak')\" \"$(printf '\\377')\"; touch a/b/c; mkfifo f; "
        "chmod 000 a/b a; echo Y > train.py",
    )
    assert answer.files == {**BEFORE, "train.py": b"Y\n"}, answer.log


# --- what it may not leave behind ------------------------------------------------------------------

DAEMON = "(setsid sh -c 'trap \"\" TERM HUP INT; sleep {0}; sleep {0}' >/dev/null 2>&1 &)"


@pytest.mark.parametrize("level", LEVELS)
def test_a_daemon_dies_with_the_agent(level, machine):
    mark = f"60{os.getpid()}{machine.directory.stat().st_ino}"
    daemon = DAEMON.format(mark)
    subprocess.run(["/bin/sh", "-c", daemon], check=True)
    assert eventually(lambda: living(mark)), "the control: without a supervisor it lives on"
    assert eventually(lambda: not killed(mark))

    answer = machine.run(level, f"{daemon}; sleep 0.3; echo Z > train.py")
    assert answer.changed
    assert answer.usage.survivors == 0
    assert not living(mark)


@pytest.mark.parametrize("level", LEVELS)
def test_an_agent_that_hangs_is_ended_and_its_half_finished_work_read(level, machine):
    mark = f"61{os.getpid()}{machine.directory.stat().st_ino}"
    answer = machine.run(level, f"trap '' TERM; echo half > train.py; sleep {mark}", seconds=1.0)
    assert answer.usage.timed_out
    assert answer.files == {**BEFORE, "train.py": b"half\n"}
    assert not living(mark)
    assert "was ended at its deadline, agent.seconds = 1, and changed nothing" in answer.why


@pytest.mark.parametrize("level", LEVELS)
def test_a_flood_of_output_is_capped_and_never_shown_raw(level, machine):
    answer = machine.run(
        level, "yes | head -c 9000000; printf 'last \\033]52;c;x\\007 words\\n'; exit 3"
    )
    assert len(answer.log) < 300_000
    assert answer.usage.output_bytes > 9_000_000
    assert r"its last words: 'last \x1b]52;c;x\x07 words'" in answer.why
    assert "\x1b" not in answer.why


HARNESS = """
import sys
from pathlib import Path
from pytest_autoresearch.agent_room import Shown, open_room
from pytest_autoresearch.settings import Agent, Run
from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.wall import Wall
directory = Path(sys.argv[1])
shown = Shown.choose(Agent(seconds=300.0), hidden=[], root=directory / "project")
with open_room(directory / "rooms", {"train.py": b""}, {"PROMPT.md": b""}) as room:
    room.run(sys.argv[3], shown, Wall(Isolation(sys.argv[2])), directory / "log", Run())
"""


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_harness_leaves_no_process_of_the_agent(level, tmp_path):
    (tmp_path / "project").mkdir()
    mark = f"62{os.getpid()}{tmp_path.stat().st_ino}"
    command = f"{DAEMON.format(mark)}; sleep {mark}"
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path), level.value, command], start_new_session=True
    )
    mine = {harness.pid}
    assert eventually(lambda: len(set(living(f"sleep\0{mark}")) - mine) >= 2)
    harness.kill()
    harness.wait()
    assert eventually(lambda: not living(mark))
    # What is left lies below the one directory that was handed in.
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("project", "log")] == [
        "rooms"
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_an_agent_that_fills_the_disk_is_ended(level, machine):
    answer = machine.run(level, "for i in $(seq 20000); do : > f$i; done; sleep 600")
    assert answer.usage.reason_for_kill == "files"
    assert "was killed (files)" in answer.why


# --- the network -----------------------------------------------------------------------------------

CALLS = """
import os, socket, sys
def attempt(name, call):
    try:
        call()
        print(name, "ok")
    except OSError as error:
        print(name, "refused")
def abstract():
    socket.socket(socket.AF_UNIX).connect(chr(0) + sys.argv[2])
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", int(sys.argv[4]))))
attempt("name", lambda: socket.getaddrinfo("localhost", 80))
attempt("abstract", abstract)
attempt("signal", lambda: os.kill(int(sys.argv[3]), 0))
attempt("pair", socket.socketpair)
attempt("audit", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9))
"""


@pytest.fixture
def call(machine: Machine) -> Iterator[Callable[..., dict[str, str]]]:
    """Run the calls at a level; what became of each, and whether the datagram was heard outside."""
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        abstract.bind(f"\0{machine.directory}")
        abstract.listen()

        def run(level: Isolation, *, network: bool) -> dict[str, str]:
            code = machine.directory / "calls.py"
            code.write_text(CALLS)
            arguments = (tcp.getsockname()[1], machine.directory, os.getpid(), udp.getsockname()[1])
            answer = machine.run(
                level,
                f"'{sys.executable}' -I -S '{code}' {' '.join(map(str, arguments))}",
                network=network,
                readable=(str(code),),
            )
            assert answer.usage.returncode == 0, answer.log
            found = dict(line.split() for line in answer.log.splitlines())
            try:
                udp.recv(1)
            except BlockingIOError:
                found["udp"] = "refused"
            return found

        yield run


REACHED = {"tcp": "ok", "udp": "ok", "name": "ok", "abstract": "ok", "signal": "ok", "pair": "ok"}


def test_the_network_is_off_unless_it_is_asked_for(call):
    control = call(Isolation.NONE, network=False)
    assert control.items() >= REACHED.items()
    for level in WALLS:
        found = call(level, network=False)
        refused = [
            name for name in ("tcp", "udp", "abstract", "signal") if found[name] == "refused"
        ]
        assert len(refused) == 4, (level, found)
        on = call(level, network=True)
        assert [on[name] for name in ("tcp", "udp", "name", "pair")] == ["ok"] * 4, (level, on)
        # The wall stays for everything else.
        assert [on[name] for name in ("abstract", "signal", "audit")] == ["refused"] * 3, (
            level,
            on,
        )


def test_abstract_sockets_stay_away_on_kernels_that_cannot_scope_them(call, monkeypatch):
    """The control: in the machine's network namespace they are reached, unless something is done."""
    real = strong.options
    monkeypatch.setattr(strong, "options", lambda spec: [o for o in real(spec) if o != "scope="])
    assert call(Isolation.STRONG, network=True)["abstract"] == "ok"

    monkeypatch.setattr(strong, "options", real)
    monkeypatch.setattr(strong, "landlock_abi", lambda: 5)
    found = call(Isolation.STRONG, network=True)
    assert [found[name] for name in ("tcp", "name", "pair")] == ["ok"] * 3
    assert found["abstract"] == "refused"


# --- what a person shows it ------------------------------------------------------------------------


@pytest.fixture
def tool(machine: Machine) -> Path:
    """A program of the user's own, on the user's path, as installers leave it: a link to it."""
    program = machine.home / ".local/share/tool/1.0/tool"
    link = machine.home / ".local/bin/tool"
    for path in (program, link):
        path.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho TOOL RAN; echo STEPS = 99 > train.py\n")
    program.chmod(0o755)
    link.symlink_to(program)
    return link


@pytest.mark.parametrize("level", WALLS)
def test_a_program_is_found_once_its_directories_are_readable(level, machine, tool, monkeypatch):
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    answer = machine.run(level, "tool -p 'do it'")
    assert not answer.changed
    assert answer.usage.returncode == 127
    assert "ended with status 127 and changed nothing; its last words: " in answer.why
    assert "tool: not found" in answer.why
    places = f"add '{tool.parent}', '{tool.resolve().parent}' to agent.readable"
    assert places in answer.why
    assert "set agent.network = true" in answer.why
    assert "in agent.env" in answer.why

    readable = ("~/.local/bin", "~/.local/share/tool")
    answer = machine.run(level, "tool; cat ~/.ssh/id_ed25519", readable=readable)
    assert "TOOL RAN" in answer.log
    assert CANARY not in answer.log
    assert answer.files == {**BEFORE, "train.py": b"STEPS = 99\n"}
    assert places not in answer.why


@pytest.mark.parametrize("level", WALLS)
def test_a_program_that_the_system_has_is_not_asked_for(level, machine, tool, monkeypatch):
    (tool.parent / "sed").symlink_to(tool)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    answer = machine.run(level, "sed --no-such-option")
    assert "agent.readable: add" in answer.why
    assert str(tool.parent) not in answer.why


@pytest.mark.parametrize("level", WALLS)
def test_what_is_readable_is_not_writable(level, machine, tool):
    (machine.home / "one").write_text("a single file")
    answer = machine.run(
        level,
        f"echo evil >> '{tool.resolve()}'; rm -f '{tool}'; cat '{machine.home}/one'; echo",
        readable=("~/.local/bin", "~/.local/share", "~/one"),
    )
    assert "evil" not in tool.resolve().read_text()
    assert tool.is_symlink()
    assert answer.log.splitlines()[-1] == "a single file"


@pytest.mark.parametrize(
    ("readable", "complaint"),
    [
        ("{root}", "would show '{root}/data'"),
        ("{root}/data/heldout", "would show '{root}/data'"),
        ("{root}/.autoresearch/main", "would show '{root}/.autoresearch'"),
        ("{root}/.git", "would show '{root}/.git'"),
        ("{directory}/link", "would show '{root}/data'"),
        ("/", "would show '{root}/data'"),
        ("~", "would show all of '{home}'"),
        ("bin", "write an absolute path"),
        ("/usr/../etc", "write an absolute path"),
        ("~/nothing", "which does not exist"),
        ("/proc/1", "cannot be shown"),
    ],
)
def test_no_setting_shows_what_must_stay_hidden(readable, complaint, machine):
    names = {"root": machine.root, "directory": machine.directory, "home": machine.home}
    (machine.directory / "link").symlink_to(machine.root / "data")
    with pytest.raises(AgentError) as caught:
        machine.shown(readable=(readable.format(**names),))
    assert complaint.format(**names) in str(caught.value)


def test_the_project_is_not_readable_as_a_whole_even_without_secrets(machine):
    with pytest.raises(AgentError, match="would show all of"):
        Shown.choose(Agent(readable=(str(machine.root),)), hidden=[], root=machine.root)


def test_a_machine_without_the_shell_or_the_level_is_an_agent_error(machine, monkeypatch):
    monkeypatch.setattr(strong, "bubblewrap", no_bubblewrap)
    with pytest.raises(AgentError, match="cannot be started: bubblewrap is not installed"):
        machine.run(Isolation.STRONG, "true")


def no_bubblewrap() -> str:
    raise strong.InstallationError("bubblewrap is not installed")


@pytest.mark.parametrize("level", WALLS)
@pytest.mark.skipif(not ROOT, reason="only root runs the agent as another user")
def test_a_readable_directory_that_is_closed_to_others_is_named(level, machine):
    closed = machine.home / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(AgentError, match=r"cannot be started: .* chmod -R o\+rX"):
        machine.run(level, "true", readable=("~/closed",))


AS_USER = """
import os, sys
from pathlib import Path
from pytest_autoresearch.sandbox import launcher
directory = Path(sys.argv[1])
launcher.reach([str(directory), sys.prefix, sys.base_prefix, sys.argv[2]])
launcher.give(str(directory), 65534)
launcher.become(65534)
os.environ["HOME"] = str(directory)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[3], *sys.argv[4:]])
"""
USER = """
import os, socket, sys
from pathlib import Path
from pytest_autoresearch.agent_room import Shown, open_room
from pytest_autoresearch.settings import Agent, Run
from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.wall import Wall
directory = Path(sys.argv[1])
bus = socket.socket(socket.AF_UNIX)
os.chdir(directory)
bus.bind("bus")
bus.listen()
tcp = socket.create_server(("127.0.0.1", 0))
(directory / "tools").mkdir()
(directory / "tools" / "bus").hardlink_to("bus")
for level in ("none", "strong", "kernel"):
    code = (
        "import os, socket\\n"
        f"for f in (lambda: socket.create_connection(('127.0.0.1', {tcp.getsockname()[1]})),"
        f"          lambda: socket.socket(socket.AF_UNIX).connect('{directory}/tools/bus'),"
        f"          lambda: os.kill({os.getpid()}, 0), lambda: open('{directory}/key').read(),"
        f"          lambda: open('train.py', 'w').write('new'), lambda: open('prepare.py', 'a')):\\n"
        "    try: f(); print('ok', end=' ')\\n"
        "    except OSError as error: print('no', end=' ')\\n"
    )
    shown = Shown.choose(
        Agent(seconds=60.0, network=True, readable=(str(directory / "tools"),)),
        hidden=[],
        root=directory / "project",
    )
    with open_room(directory / "rooms", {"train.py": b""}, {"PROMPT.md": b"", "prepare.py": b""}) as room:
        usage = room.run(f'"{sys.executable}" -c "{code}"', shown, Wall(Isolation(level)), directory / level, Run())
        print(level, (directory / level).read_text().strip(), room.read()["train.py"].decode())
"""


# --- sessions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["strong", "kernel"])
def test_what_an_agent_changes_behind_a_wall_is_kept(level, measured: Project):
    """The rounds, from the prompt to the commit; what else it leaves has no effect."""
    agent = (
        "pwd; grep -q 'Lower val_loss' PROMPT.md && sed -i 's/STEPS = 60/STEPS = 120/' train.py && "
        "rm prepare.py && echo 'raise SystemExit' > prepare.py && cp prepare.py conftest.py; "
        "git add -A && git commit -qm mine"
    )
    result = measured.autoresearch(
        f"--autoresearch-sandbox={level}",
        "--autoresearch-rounds=1",
        f"--autoresearch-agent={agent}",
    )
    assert result.returncode == 0, result.output
    assert measured.results()[-1]["status"] == "keep"
    assert f"agent: isolation {level} (self-test passed), without network" in result.output
    assert "STEPS = 120" in measured.read("train.py")
    assert measured.status == ""
    assert measured.git("log", "-1", "--format=%s") != "mine"
    assert room_of(measured).name == "work"
    assert not room_of(measured).parent.exists()


def room_of(project: Project) -> Path:
    """Where the first agent worked, as it printed."""
    return Path((project.root / ".autoresearch/main/agents/000000.log").read_text().split("\n")[0])


@pytest.mark.parametrize("level", ["strong", "kernel"])
def test_a_killed_session_leaves_no_agent_and_the_next_one_no_room(level, measured: Project):
    mark = f"63{os.getpid()}{measured.root.stat().st_ino}"
    arguments = [f"--autoresearch-sandbox={level}", "--autoresearch-rounds=1"]
    command = [sys.executable, "-m", "pytest", "--autoresearch", *arguments]
    session = subprocess.Popen(
        [*command, f"--autoresearch-agent=pwd; echo evil > train.py; sleep {mark}"],
        cwd=measured.root,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert eventually(lambda: living(f"sleep\0{mark}"))
    session.kill()
    session.wait()
    assert eventually(lambda: not living(mark))
    assert measured.status == ""
    assert (room_of(measured) / "train.py").read_text() == "evil\n"
    result = measured.autoresearch(*arguments, "--autoresearch-agent=true")
    assert result.returncode == 0, result.output
    assert not room_of(measured).parent.exists()


@pytest.mark.parametrize("level", ["none", "strong", "kernel"])
def test_an_agent_of_a_session_reaches_neither_labels_nor_ledger_nor_git(level, measured: Project):
    paths = [
        "data/heldout/val/labels.npy",
        ".autoresearch/main/cutover-audit.jsonl",
        ".git/HEAD",
        "train.py",
    ]
    looks = "; ".join(
        f"head -c 1 '{measured.root}/{path}' >/dev/null && echo read" for path in paths
    )
    result = measured.autoresearch(
        f"--autoresearch-sandbox={level}",
        "--autoresearch-rounds=1",
        f"--autoresearch-agent={looks}; true",
    )
    assert result.returncode == 0, result.output
    log = (measured.root / ".autoresearch/main/agents/000000.log").read_text()
    assert log.splitlines().count("read") == (len(paths) if level == "none" else 0)
    assert ("UNSANDBOXED" in result.output) is (level == "none")


def test_a_setting_that_shows_the_data_stops_the_rounds(project: Project):
    project.edit(
        "[tool.autoresearch]\n",
        f"[tool.autoresearch]\nagent.readable = ['{project.root}/data']\n",
        "pyproject.toml",
    )
    project.commit("careless")
    project.baseline()
    result = project.autoresearch("--autoresearch-rounds=1", "--autoresearch-agent=true")
    assert result.returncode == 1
    assert "an agent may see neither data nor ledgers nor the repository" in result.output


# --- an ordinary user ------------------------------------------------------------------------------


@pytest.mark.skipif(not ROOT, reason="turns root into an ordinary user")
def test_the_room_holds_for_an_ordinary_user_too(tmp_path):
    """The agent's processes are that user's own, and still reach nothing that the room does not show."""
    short = Path("/tmp") / f"autoresearch-test-{os.getpid()}-{tmp_path.stat().st_ino}"
    short.mkdir(mode=0o700)
    try:
        (short / "project").mkdir()
        (short / "key").write_text(CANARY)
        package = Path(launcher.__file__).parents[2]
        answer = subprocess.run(
            [sys.executable, "-c", AS_USER, str(short), str(package), USER, str(short)],
            capture_output=True,
            text=True,
            cwd="/",
            env={"PYTHONPATH": str(package), "PATH": "/usr/bin:/bin"},
        )
    finally:
        shutil.rmtree(short)
    assert (answer.returncode, answer.stderr) == (0, "")
    # TCP, a socket in a directory that was made readable, a signal, a key, the surface, a fixed file.
    assert answer.stdout.splitlines() == [
        "none ok ok ok ok ok no new",  # mode 0444 stops an honest mistake only
        "strong ok ok no no ok no new",
        "kernel ok no no no ok no new",
    ]
