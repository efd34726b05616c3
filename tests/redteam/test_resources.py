"""
Group 8, resources: bombs, small ones, since a machine that is shared has to stand the controls.

What is covered: T97 to T101 with caps of a few megabytes; each cap is the product's own setting.
What is not covered: T102 (a GPU), T103 (nothing of a run is alive when it is scored: tests/redteam/test_ipc.py).
"""

from __future__ import annotations

import pytest
from redteam.inside import Deed, Scene, assert_stopped, assert_works, says

MIB = 1 << 20
#: What the memory bombs hold, and what they may.
BOMB, CAP = 120, 70
HOLDS = f"""
piece = os.urandom(4096) * 256
def hold(write):
    for _ in range({BOMB}):
        if attempt(lambda: write(piece)) is None: return
    time.sleep(WAIT)
    print("held")
"""
DISK = HOLDS.replace(str(BOMB), "30")
MEMORY = (("memory_mb", CAP),)

DEEDS = (
    Deed(
        "forks",
        ("T97",),
        """
        made = 0
        for _ in range(150):
            child = attempt(os.fork)
            if child == 0: time.sleep(600)
            made += child is not None
        time.sleep(0.1)
        print("unlimited" if made == 150 else made)
        """,
        says("unlimited"),
        limits=(("processes", 40),),
    ),
    Deed(
        "starts threads",
        ("T97",),
        """
        import threading
        def start():
            try: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            except RuntimeError: return 0
            return 1
        made = sum(start() for _ in range(150))
        time.sleep(0.1)
        print("unlimited" if made == 150 else made)
        """,
        says("unlimited"),
        limits=(("processes", 40),),
    ),
    Deed(
        "holds memory of its own",
        ("T98",),
        HOLDS + "all = []; hold(lambda p: all.append(p[1:]) or 1)",
        says("held"),
        limits=MEMORY,
    ),
    Deed(
        "holds shared anonymous memory in several processes",
        ("T98",),
        HOLDS
        + f"""
import mmap
room = mmap.mmap(-1, {BOMB} << 20)
os.fork()
hold(room.write)
""",
        says("held"),
        limits=MEMORY,
    ),
    Deed(
        "holds a file without a name",
        ("T98",),
        HOLDS + "fd = os.memfd_create('bomb'); hold(lambda p: os.write(fd, p))",
        says("held"),
        limits=MEMORY,
    ),
    Deed(
        "fills shared memory",
        ("T98",),
        HOLDS
        + "path = f'/dev/shm/redteam-{os.getpid()}'; file = attempt(lambda: open(path, 'wb', 0))\n"
        + "if file: os.unlink(path); hold(file.write)",
        says("held"),
        limits=MEMORY,
    ),
    Deed(
        "fills a temporary file system",
        ("T98",),
        HOLDS
        + "path = f'/tmp/redteam-{os.getpid()}'; file = attempt(lambda: open(path, 'wb', 0))\n"
        + "if file: os.unlink(path); hold(file.write)",
        says("held"),
        limits=MEMORY,
    ),
    Deed(
        "fills a pipe of pipes",
        ("T98",),
        # Buffers of the kernel count for nobody: bounded by the number of descriptors.
        HOLDS
        + "import fcntl\nends = []\ndef pipe(p):\n r, w = os.pipe(); ends.append((r, w)); fcntl.fcntl(w, 1031, 1 << 20)\n return os.write(w, p)\nhold(pipe)",
        says("held"),
        root=True,
        limits=MEMORY,
    ),
    Deed(
        "fills the disk with one file",
        ("T99",),
        "file = open(OUT + '/big', 'wb', 0)\n" + DISK + "hold(file.write)",
        says("held"),
        limits=(("disk_mb", 10),),
    ),
    Deed(
        "fills the disk with many files",
        ("T99",),
        DISK
        + "import itertools\nnumbers = itertools.count()\nhold(lambda p: open(f'{OUT}/{next(numbers)}', 'wb').write(p))",
        says("held"),
        limits=(("disk_mb", 10),),
    ),
    Deed(
        "fills the disk with a file that has no name any more",
        ("T99",),
        "file = open(OUT + '/big', 'wb', 0); os.unlink(OUT + '/big')\n" + DISK + "hold(file.write)",
        says("held"),
        limits=(("disk_mb", 10),),
    ),
    Deed(
        "uses up the inodes",
        ("T99",),
        """
        for number in range(500): os.mkdir(f"{OUT}/{number}")
        time.sleep(WAIT)
        print("held")
        """,
        says("held"),
        limits=(("files", 100),),
    ),
    Deed(
        "hides its files where no path is long enough",
        ("T99", "T71"),
        # 60 levels of 100 characters: longer than PATH_MAX, so that a meter by path does not get there.
        """
        os.chdir(OUT)
        for _ in range(60): os.mkdir("d" * 100); os.chdir("d" * 100)
        for number in range(30): open(str(number), "wb").write(bytes(1 << 20))
        time.sleep(WAIT)
        print("held")
        """,
        says("held"),
        limits=(("disk_mb", 10),),
    ),
)


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_a_bomb_stops_at_the_configured_limit(deed: Deed, scene: Scene, level: str) -> None:
    ran = assert_stopped(scene, deed, level)
    assert ran.result is not None
    assert not (ran.out / "out").exists()


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_control_an_unguarded_bomb_goes_off(deed: Deed, scene: Scene) -> None:
    assert_works(scene, deed)


FLOOD = """
piece = b"\\x1b[2J" + b"x" * 65536
for _ in range(160): os.write(1, piece)
os.write(1, b"the last word")
"""


def test_a_flood_of_output_stops_at_its_cap(scene: Scene, level: str) -> None:
    """T100: one endless line; its end, which says why a run ended, is kept."""
    ran = scene.guarded(FLOOD, level, output_kb=64)
    log = ran.out / "run.log"
    assert log.stat().st_size < 100 << 10
    assert ran.log.endswith("the last word")
    assert "\x1b" not in ran.log


def test_control_an_unguarded_flood_is_all_there(scene: Scene) -> None:
    scene.bare(FLOOD)
    assert (scene.place / "naive.log").stat().st_size > 160 * 65536


def test_honest_limits_leave_an_honest_run_alone(scene: Scene, level: str) -> None:
    """The caps of these tests, except those that a Python with numpy does not fit in."""
    ran = scene.guarded("", level, goes_on=True, memory_mb=400, disk_mb=10, files=100, processes=40)
    assert ran.result is not None
    assert ran.result.status == "finished", ran.result.reason


def test_the_harness_stays_usable_after_a_bomb(scene: Scene, level: str) -> None:
    """What a killed run held is given back: the next run gets it."""
    scene.guarded(DEEDS[2].code, level, memory_mb=CAP)
    ran = scene.guarded("", level, goes_on=True)
    assert ran.result is not None
    assert ran.result.status == "finished", ran.result.reason
    assert scene.score(ran, level) == ""
    assert (ran.out / "model.pt2").exists()
