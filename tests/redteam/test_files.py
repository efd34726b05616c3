"""
Group 5, the file system: what a run may change, follow, poison or leave behind.

What is covered: T64 to T73 and T76, each with the same attack in an unguarded run as its control.
What is not covered: remounting (T74) and ``/proc/sys`` (T75), see tests/test_sandbox_levels.py and the self-test;
files that a person's own session leaves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import site
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from redteam.inside import LABELS, Deed, Scene, assert_stopped, assert_works

from pytest_autoresearch.sandbox import launcher

PLACES = """
places = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock", HOME, HOME + "/.cache", os.path.expanduser("~"),
    os.path.expanduser("~/.cache"), os.path.expanduser("~/.nv"), os.getcwd(), OUT, os.path.dirname(OUT), ROOT]
places += [value for name, value in os.environ.items() if name.endswith(("_DIR", "_HOME", "_PATH", "TMPDIR"))]
paths = sorted({f"{place}/{NAME}" for place in places})
"""

DEEDS = (
    Deed(
        "edits prepare.py",
        ("T64",),
        """
        for path in ("prepare.py", ROOT + "/prepare.py", "/proc/self/cwd/prepare.py"):
            attempt(lambda: os.chmod(path, 0o666))
            attempt(lambda: open(path, "a").write("# evil"))
        """,
        lambda scene, ran: "evil" in scene.project.read("prepare.py"),
    ),
    Deed(
        "swaps prepare.py and puts it back with its times",
        ("T65",),
        """
        path = ROOT + "/prepare.py"
        def swap():
            before, times = open(path).read(), os.stat(path)
            open(path, "w").write(f"open({OUTSIDE + '/evaluated'!r}, 'w').write('evil')")
            subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {ROOT!r}); import prepare"])
            open(path, "w").write(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        attempt(swap)
        """,
        lambda scene, ran: (scene.outside / "evaluated").exists(),
    ),
    Deed(
        "renames prepare.py away",
        ("T64", "T67"),
        """attempt(lambda: os.rename(ROOT + "/prepare.py", ROOT + "/gone"))""",
        lambda scene, ran: not (scene.project.root / "prepare.py").exists(),
    ),
    Deed(
        "goes around by links and descriptors",
        ("T67",),
        f"""
        held = ROOT + "/{LABELS}"
        attempt(lambda: os.link(held, OUT + "/hard"))
        attempt(lambda: os.symlink(held, OUT + "/soft"))
        directory = attempt(lambda: os.open(ROOT + "/data/heldout", os.O_PATH))
        for path in (OUT + "/hard", OUT + "/soft", f"/proc/self/fd/{{directory}}/val/labels.npy", "data/../{LABELS}",
                     os.environ["AUTORESEARCH_TRAIN"] + "/../heldout/val/labels.npy"):
            found = attempt(lambda: hashlib.sha256(open(path, "rb").read()).hexdigest())
            print("labels", found)
        """,
        lambda scene, ran: sha256(scene.labels) in ran.log,
    ),
    Deed(
        "appends to the ledger",
        ("T72",),
        """
        for path in (ROOT + "/.autoresearch/main/cutover-audit.jsonl", ROOT + "/results.tsv"):
            attempt(lambda: open(path, "a").write("forged"))
        """,
        lambda scene, ran: "forged" in (scene.project.root / "results.tsv").read_text(),
    ),
    Deed(
        "shadows prepare by a package",
        ("T73",),
        """
        for place in (ROOT, "."):
            attempt(lambda: os.mkdir(place + "/prepare"))
            attempt(lambda: open(place + "/prepare/__init__.py", "w").write("evil"))
        """,
        lambda scene, ran: (scene.project.root / "prepare/__init__.py").exists(),
    ),
    Deed(
        "writes a git hook and a conftest",
        ("T51", "T37"),
        """
        attempt(lambda: open(ROOT + "/.git/hooks/post-commit", "w").write("evil"))
        attempt(lambda: open(ROOT + "/harness_tests/conftest.py", "w").write("evil"))
        """,
        lambda scene, ran: any(
            (scene.project.root / path).exists()
            for path in (".git/hooks/post-commit", "harness_tests/conftest.py")
        ),
    ),
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def files(scene: Scene) -> Scene:
    """A scene with ledgers to forge."""
    ledgers = scene.project.root / ".autoresearch/main"
    ledgers.mkdir(parents=True)
    for path in (ledgers / "cutover-audit.jsonl", scene.project.root / "results.tsv"):
        path.write_text("rows\n")
        path.chmod(0o666)
    for directory in (ledgers.parent, ledgers):
        directory.chmod(0o777)
    return scene


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_a_run_changes_nothing_outside_its_output(deed: Deed, files: Scene, level: str) -> None:
    assert_stopped(files, deed, level)


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_control_an_unguarded_run_does(deed: Deed, files: Scene) -> None:
    assert_works(files, deed)


# -- artifacts that are not what they seem (T66) --------------------------------------------------

#: Kinds of artifact: the code that leaves it, and what becomes of a reader that simply opens it.
ARTIFACTS = {
    "a symbolic link to the labels": "attempt(lambda: os.symlink(ROOT + '/data/heldout/val/labels.npy', ARTIFACT))",
    "a symbolic link to a file of the harness's user": "attempt(lambda: os.symlink(OUTSIDE + '/private', ARTIFACT))",
    "a hard link to the labels": "attempt(lambda: os.link(ROOT + '/data/heldout/val/labels.npy', ARTIFACT))",
    "a link to its own end": "attempt(lambda: os.symlink('model.pt2', ARTIFACT))",
    "a FIFO": "os.mkfifo(ARTIFACT)",
    "a socket": "os.chdir(OUT); socket.socket(socket.AF_UNIX).bind('model.pt2')",
    "a directory": "os.mkdir(ARTIFACT)",
}
_ARTIFACT = 'ARTIFACT = OUT + "/model.pt2"\n'


def naively_copied(out: Path, archive: Path) -> bool:
    """Whether a copy of the artifact ends well, and is only a copy of what the run made."""
    program = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
    command = [sys.executable, "-c", program, str(out / "model.pt2"), str(archive)]
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, timeout=3, check=False)
        return done.returncode == 0 and not stat.S_ISLNK((out / "model.pt2").lstat().st_mode)
    return False


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_an_artifact_that_is_no_plain_file_is_refused(kind: str, scene: Scene, level: str) -> None:
    (scene.outside / "private").write_text(scene.canary)

    ran = scene.guarded(_ARTIFACT + ARTIFACTS[kind], level)

    assert ran.result is not None
    assert ran.result.artifact is None
    assert ran.result.status == "no-artifact"
    assert not (ran.out / "model.pt2").exists()
    kept = b"".join(path.read_bytes() for path in ran.out.rglob("*") if path.is_file())
    assert scene.labels not in kept
    assert scene.canary.encode() not in kept


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_control_a_copy_follows_it_hangs_or_fails(kind: str, scene: Scene) -> None:
    (scene.outside / "private").write_text(scene.canary)

    ran = scene.bare(_ARTIFACT + ARTIFACTS[kind])

    archive = scene.place / "archive"
    copied = naively_copied(ran.out, archive)
    stolen = archive.exists() and archive.read_bytes() in (scene.labels, scene.canary.encode())
    assert stolen or not copied


# -- state that outlives a run (T68, T69, T70, T76) -----------------------------------------------


def test_nothing_reaches_the_next_run(scene: Scene, level: str) -> None:
    name = f"redteam-{secrets.token_hex(8)}"
    scene.names["NAME"] = name
    # What "succeeds" inside is nowhere outside: an overlay or a private file system, gone with the run.
    deed = Deed(
        "hands over a file in any cache",
        ("T68", "T69", "T76"),
        PLACES + "os.umask(0)\nfor path in paths: attempt(lambda: open(path, 'w').write('state'))",
        lambda _, ran: "found" in ran.log,
        twice=PLACES + "for path in paths: print('found' if os.path.exists(path) else 'absent')",
    )
    ran = assert_stopped(scene, deed, level)
    assert "absent" in ran.log
    host = [Path(place) / name for place in ("/tmp", "/var/tmp", "/dev/shm", scene.home)]
    assert not [path for path in host if path.exists()]


def test_control_an_unguarded_run_hands_over_state(scene: Scene) -> None:
    name = f"redteam-{secrets.token_hex(8)}"
    scene.names["NAME"] = name
    try:
        scene.bare(PLACES + "for path in paths: attempt(lambda: open(path, 'w').write('state'))")
        ran = scene.bare(
            PLACES + "for path in paths: print('found' if os.path.exists(path) else '', path)"
        )
        assert {f"found {place}/{name}" for place in ("/tmp", "/dev/shm", scene.home)} <= set(
            ran.log.splitlines()
        )
    finally:
        for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock"):
            Path(place, name).unlink(missing_ok=True)


def installs(name: str) -> Deed:
    """Put a file where the interpreter looks for packages."""
    directories = [*site.getsitepackages(), str(Path(os.__file__).parent), sys.prefix]
    paths = [f"{directory}/{name}" for directory in directories]
    return Deed(
        "installs a package",
        ("T70", "T114", "T42"),
        f"for path in {paths!r}: attempt(lambda: open(path, 'w').write('evil'))",
        lambda scene, ran: any(Path(path).exists() for path in paths),
        root=True,
    )


@pytest.mark.parametrize("where", ["product", "control"])
def test_the_environment_cannot_be_added_to(where: str, scene: Scene, level: str) -> None:
    # A name that nothing imports and no .pth: harmless to whoever shares this interpreter.
    deed = installs(f"redteam_{secrets.token_hex(8)}.txt")
    try:
        if where == "product":
            assert_stopped(scene, deed, level)
        else:
            assert_works(scene, deed)
    finally:
        for place in (*site.getsitepackages(), str(Path(os.__file__).parent), sys.prefix):
            for path in Path(place).glob("redteam_*.txt"):
                if path.name in deed.code:
                    path.unlink()


# -- leftovers that resist (T71) ------------------------------------------------------------------

ODD = """
os.chdir(OUT)
for name in (b"new\\nline", b"\\xff\\xfe", b"-rf", b"a" * 255, b" ", b"\\x1b[2J"):
    os.mkdir(name)
    open(name + b"/" + name, "w").close()
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
os.symlink("/", "root")
os.symlink(ROOT, "project")
"""
DEEP = """
os.chdir(OUT)
for _ in range(1300):
    os.mkdir("d" * 100)
    os.chdir("d" * 100)
open("bottom", "w").close()
"""
CLOSED = """
os.makedirs(OUT + "/closed/inner")
open(OUT + "/closed/inner/file", "w").close()
os.chmod(OUT + "/closed/inner", 0)
os.chmod(OUT + "/closed", 0)
os.umask(0o777)
os.mkdir(OUT + "/shut")
"""


@pytest.mark.parametrize("leaves", [ODD, DEEP, CLOSED], ids=["odd-names", "deep", "closed"])
def test_whatever_a_run_leaves_is_removed(leaves: str, scene: Scene, level: str) -> None:
    before = {path.name for path in scene.project.root.iterdir()}

    ran = scene.guarded(leaves, level)

    assert ran.result is not None
    assert ran.result.artifact is None
    assert ran.result.returncode == 0 or "count" in ran.result.reason, ran.result.reason
    assert {path.name for path in ran.out.iterdir()} == {"run.log"}
    assert {path.name for path in scene.project.root.iterdir()} == before


def test_control_a_plain_removal_does_not_get_to_the_bottom(scene: Scene) -> None:
    ran = scene.bare(DEEP)
    assert ran.log == ""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(ran.out, ignore_errors=True)
    assert ran.out.exists()


AS_USER = """
import shutil, sys
from pathlib import Path
from pytest_autoresearch.rundir import remove
from pytest_autoresearch.sandbox import launcher
directory = Path(sys.argv[1])
launcher.reach([str(directory), sys.prefix, sys.base_prefix, sys.argv[2]])
launcher.give(str(directory), 65534)
launcher.become(65534)
for name in ("control", "product"):
    made = directory / name
    (made / "closed" / "inner").mkdir(parents=True)
    (made / "closed" / "inner" / "file").touch()
    (made / "closed" / "inner").chmod(0)
    (made / "closed").chmod(0)
shutil.rmtree(directory / "control", ignore_errors=True)
remove(directory / "product")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="turns root into an ordinary user")
def test_an_ordinary_user_removes_closed_directories_too(tmp_path: Path) -> None:
    """Root may enter any directory, so that only another user sees this leftover resist."""
    package = str(Path(launcher.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-B", "-c", AS_USER, str(tmp_path), package],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": package},
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "control").exists(), "the control removes it: the attack is a dud"
    assert not (tmp_path / "product").exists()
