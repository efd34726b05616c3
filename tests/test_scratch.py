"""
What a session leaves when it is killed: real sessions, real SIGKILLs, then a real next start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from observe import snapshot
from project import Project

from pytest_autoresearch.rundir import fresh, remove
from pytest_autoresearch.sandbox import Isolation, self_test
from pytest_autoresearch.scratch import Scratch, ScratchError, sweep, user_directory

ROOT = os.geteuid() == 0
LEVELS = ["strong", "kernel", "none"]
PATIENCE = 60.0


@pytest.fixture
def machine() -> Iterator[Path]:
    """A temporary directory that stands for the machine's: short, as the machine's is."""
    path = Path(tempfile.mkdtemp(prefix="ar", dir="/tmp"))
    path.chmod(0o755)
    yield path
    remove(path)


@pytest.fixture
def elsewhere(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's temporary directory is that one."""
    monkeypatch.setattr(tempfile, "tempdir", str(machine))
    return machine


def eventually(condition: Callable[[], object]) -> bool:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.002)
    return True


# --- killed sessions -------------------------------------------------------------------------------

SLOW = """
    if weights[0] > 1e4:
        import time
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def slow_template(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A measured project whose scoring takes for ever if the model asks for it."""
    project = template.copy(tmp_path_factory.mktemp("slow") / "project")
    project.edit(
        "    weights = np.load(artifact, allow_pickle=False)\n",
        "    weights = np.load(artifact, allow_pickle=False)\n" + SLOW,
        "prepare.py",
    )
    project.commit("scoring that may take long")
    return project.baseline()


MOMENTS = {
    # What the candidate does, and what there is to see when the moment has come.
    "self-test": ("", "session-*/self-test-*/log"),
    "training": ("import time; time.sleep(600)\n    ", "session-*/run-*/scratch/home"),
    "scoring": ("weights[0] = 1e5\n    ", "session-*/scoring-*/scoring/inbox/model/model.pt2"),
}


def belonging(*places: Path) -> list[str]:
    """Processes that name one of these places, in their command line, environment or directory."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            told = b"".join((process / name).read_bytes() for name in ("cmdline", "environ"))
            told += os.fsencode((process / "cwd").readlink())
        except OSError:
            continue
        if any(os.fsencode(place) in told for place in places):
            found.append(process.name)
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_session_leaves_one_directory_that_the_next_start_removes(
    level: str, slow_template: Project, machine: Path, tmp_path: Path
) -> None:
    if level != "none":
        test = self_test(Isolation(level), directory=fresh(tmp_path / "probe"))
        if test.failures:
            pytest.skip(f"{level} does not hold on this machine: {test.failures[0]}")
    project = slow_template.copy(tmp_path / "project")
    campaign = project.root / ".autoresearch" / "main"
    base = campaign / "tmp"
    # The run's directory and its log are the campaign's; so is what the ledgers keep.
    kept = ("train.py", ".autoresearch", "results.tsv", "progress.png")
    before, places = snapshot(project.root, *kept), directories(campaign)
    original = project.read("train.py")
    command = [sys.executable, "-m", "pytest", "--autoresearch", f"--autoresearch-sandbox={level}"]
    environment = {**os.environ, "TMPDIR": str(machine)}
    for name, (slowly, sign) in MOMENTS.items():
        if name == "self-test" and level == "none":
            continue
        project.write("train.py", original)
        project.edit("    save_model(weights)", f"    {slowly}save_model(weights)")
        session = subprocess.Popen(
            command,
            cwd=project.root,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert eventually(lambda sign=sign: any(base.glob(sign))), name
            if name != "self-test":  # which is over in no time
                assert eventually(lambda: len(belonging(project.root)) > 1), name
        finally:
            session.kill()  # SIGKILL
            session.wait()

        assert eventually(lambda: not belonging(project.root, machine)), name
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(project.root) not in mounts
        assert str(machine) not in mounts
        assert {path.name for path in machine.iterdir()} <= {f"autoresearch-{os.geteuid()}"}
        assert snapshot(project.root, *kept) == before
        assert directories(campaign) <= {*places, "runs", "tmp"}
        for run in (campaign / "runs").iterdir():
            assert {path.name for path in run.iterdir()} <= {"run.log", "model.pt2"}
        assert any(base.glob("session-*"))

    project.write("train.py", original)
    project.edit("STEPS = 60", "STEPS = 61")
    result = project.autoresearch(f"--autoresearch-sandbox={level}", env={"TMPDIR": str(machine)})

    assert "autoresearch" in result.stdout
    assert result.returncode in (0, 10), result.output
    assert [path.name for path in base.iterdir()] == ["lock"]
    assert [path.name for path in (machine / f"autoresearch-{os.geteuid()}").iterdir()] == ["lock"]


def directories(path: Path) -> set[str]:
    return {below.name for below in path.iterdir() if below.is_dir()}


def test_control_a_temporary_directory_of_the_library_outlives_its_killed_process(
    machine: Path,
) -> None:
    code = "import os, tempfile\nwith tempfile.TemporaryDirectory(): os.kill(os.getpid(), 9)\n"
    subprocess.run([sys.executable, "-c", code], env={"TMPDIR": str(machine)})

    assert len(list(machine.iterdir())) == 1
    assert sweep(fresh(machine / "base")) == 0


# --- sessions side by side -------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from pytest_autoresearch.scratch import Scratch
with Scratch(Path(sys.argv[1])) as scratch:
    scratch.fresh("run")
    print(scratch.path, flush=True)
    time.sleep(600)
"""


def holder(base: Path, machine: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a session's directory; and the directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(base)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(machine)},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_only_the_directories_of_dead_sessions_are_swept(tmp_path: Path, elsewhere: Path) -> None:
    base = tmp_path / "tmp"
    living, its = holder(base, elsewhere)
    dead, theirs = holder(base, elsewhere)
    try:
        dead.kill()
        dead.wait()
        with Scratch(base) as mine:
            assert its.is_dir()
            assert not theirs.exists()
            assert mine.path.parent == base
            assert sweep(base) == 0
            assert mine.path.is_dir()
        assert not mine.path.exists()
    finally:
        for process in (living, dead):
            process.kill()
            process.communicate()


def test_a_directory_without_a_lock_or_half_removed_is_swept(tmp_path: Path) -> None:
    (tmp_path / "session-half-made").mkdir()
    (tmp_path / "dead-half-removed" / "deep").mkdir(parents=True)
    (tmp_path / "somebody-else").mkdir()

    assert sweep(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "somebody-else"]


def test_an_error_inside_still_removes_everything(tmp_path: Path, elsewhere: Path) -> None:
    base = tmp_path / ("x" * 60)  # leaves no room for sockets
    with pytest.raises(FileExistsError), Scratch(base) as made:  # noqa: PT012
        place = made.short()
        assert not place.is_relative_to(base)
        place.mkdir()

    for place in (base, elsewhere / f"autoresearch-{os.geteuid()}"):
        assert [path.name for path in place.iterdir()] == ["lock"]


def test_a_short_directory_leaves_room_for_a_socket(tmp_path: Path, elsewhere: Path) -> None:
    for base in (None, tmp_path, tmp_path / ("x" * 120)):
        with Scratch(base) as made:
            name = made.short() / "pymp-12345678" / "listener-12345678"
            assert len(os.fsencode(name)) < 108


def test_a_directory_that_was_never_opened_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="enter it first"):
        _ = Scratch(tmp_path).path
    assert list(tmp_path.iterdir()) == []


# --- the user's directory --------------------------------------------------------------------------


def test_the_users_directory_is_closed_to_others(elsewhere: Path) -> None:
    path = user_directory()

    assert path == user_directory() == elsewhere / f"autoresearch-{os.geteuid()}"
    assert path.stat().st_mode & 0o777 == (0o711 if ROOT else 0o700)
    path.chmod(0o777)
    assert user_directory().stat().st_mode & 0o022 == 0


def make_link(path: Path) -> None:
    (path.parent / "trap").mkdir()
    path.symlink_to(path.parent / "trap")


def make_file(path: Path) -> None:
    path.touch()


def make_foreign(path: Path) -> None:
    path.mkdir()
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (make_link, "is a link"),
        (make_file, "is no directory"),
        pytest.param(
            make_foreign,
            "belongs to user 12345",
            marks=pytest.mark.skipif(not ROOT, reason="only root gives files away"),
        ),
    ],
)
def test_a_directory_that_somebody_else_made_first_is_refused(
    attack: Callable[[Path], None], words: str, elsewhere: Path
) -> None:
    attack(elsewhere / f"autoresearch-{os.geteuid()}")

    with pytest.raises(ScratchError, match=f"{words}.*set TMPDIR"), Scratch(elsewhere / "base"):
        pass
    assert not (elsewhere / "base").exists()


def test_a_session_says_why_it_is_refused(measured: Project, machine: Path) -> None:
    (machine / f"autoresearch-{os.geteuid()}").symlink_to("/tmp")

    result = measured.autoresearch(env={"TMPDIR": str(machine)})

    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "is a link" in result.stderr
    assert "set TMPDIR" in result.stderr


def test_a_machine_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc")

    with pytest.raises(ScratchError, match="cannot be made"):
        user_directory()


def test_a_long_temporary_directory_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(fresh(tmp_path / ("x" * 50))))

    assert user_directory().parent == Path("/tmp")


# --- removing --------------------------------------------------------------------------------------


def deepen(top: Path, levels: int) -> None:
    """Directories in each other, below what a path can say."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d" * 50, dir_fd=here)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def lock_up(top: Path) -> None:
    (top / "closed" / "below").mkdir(parents=True)
    (top / "closed" / "below" / "file").touch()
    for path in (top / "closed" / "below", top / "closed"):
        path.chmod(0)


def link_out(top: Path) -> None:
    (top.parent / "precious").mkdir()
    (top.parent / "precious" / "file").touch()
    (top / "link").symlink_to(top.parent / "precious")
    (top / "dangling").symlink_to("nowhere")


def odd_names(top: Path) -> None:
    for name in (b"line\nbreak", b"\xff\xfe", b" ", b"-rf"):
        Path(os.fsdecode(os.fsencode(top) + b"/" + name)).touch()
    os.mkfifo(top / "pipe")


def disown(top: Path) -> None:
    (top / "theirs").mkdir()
    (top / "theirs" / "file").touch()
    for path in (top / "theirs" / "file", top / "theirs"):
        os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    "leave",
    [
        lambda top: deepen(top, 3000),
        lock_up,
        link_out,
        odd_names,
        pytest.param(
            disown, marks=pytest.mark.skipif(not ROOT, reason="only root gives files away")
        ),
    ],
)
def test_whatever_a_run_leaves_is_removed(leave: Callable[[Path], None], tmp_path: Path) -> None:
    leave(fresh(tmp_path / "left"))

    remove(tmp_path / "left")

    assert not (tmp_path / "left").exists()
    if leave is link_out:
        assert (tmp_path / "precious" / "file").exists()


def test_control_the_library_cannot_remove_what_is_nested_that_deep(tmp_path: Path) -> None:
    deepen(fresh(tmp_path / "left"), 3000)

    with pytest.raises((RecursionError, OSError)):
        shutil.rmtree(tmp_path / "left")
    remove(tmp_path / "left")


@pytest.mark.skipif(not ROOT, reason="becomes another user")
def test_an_ordinary_user_removes_its_closed_directories_too(machine: Path) -> None:
    machine.chmod(0o777)
    code = (
        "import os, sys; from pathlib import Path; os.setresgid(65534, 65534, 65534)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "sys.path[:0] = [sys.argv[2]]\n"
        "from test_scratch import lock_up, deepen\n"
        "from pytest_autoresearch.rundir import remove\n"
        "top = Path(sys.argv[1]) / 'top'; top.mkdir(); lock_up(top); deepen(top, 300)\n"
        "try: os.listdir(top / 'closed'); print('open')\n"
        "except PermissionError: print('closed')\n"
        "remove(top); print(top.exists())\n"
    )
    here = str(Path(__file__).parent)
    preload = f"import sys; sys.path[:0] = [{here!r}]; import test_scratch\n"
    done = subprocess.run(
        [sys.executable, "-c", preload + code, str(machine), here],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.stdout.split() == ["closed", "False"], done.stderr


def test_removing_nothing_is_nothing(tmp_path: Path) -> None:
    remove(tmp_path / "nothing")
    remove(tmp_path / "no" / "parent")
    (tmp_path / "file").touch()
    remove(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path)
    remove(tmp_path / "link")

    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_autoresearch.rundir.PATIENCE", 0.05)
    with pytest.raises(OSError, match=r"Permission|permitted|busy|Read-only"):
        remove(Path("/proc/sys"))
