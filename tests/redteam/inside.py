"""
Attacks from inside one training run: the real trainer and sandbox, without the session around them.

What is covered: what a hostile ``train.py`` reaches while it runs, at a tenth of a session's cost. The control is
the same file as the naive loop runs it: in the work tree, with the caller's environment and rights.
What is not covered: verdicts and texts, for which a whole session is run (see ``room.py``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from project import Project

from pytest_autoresearch.config import load_settings
from pytest_autoresearch.records import RunRequest, RunResult
from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.scoring import Scoring, ScoringError
from pytest_autoresearch.settings import Settings
from pytest_autoresearch.task import Task
from pytest_autoresearch.training import Trainer

#: Where held-out data lies, relative to the project.
LABELS = "data/heldout/val/labels.npy"
#: Seconds of a run that is meant to end by itself.
SECONDS = 30

_PRELUDE = """\
import ctypes, hashlib, os, signal, socket, subprocess, sys, time
C = ctypes.CDLL(None, use_errno=True)
C.syscall.restype = ctypes.c_long
OUT = os.environ["AUTORESEARCH_OUT"]


def call(name, *arguments):
    found = getattr(C, name)(*arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return found


def attempt(action):
    try:
        return action()
    except (OSError, AttributeError, ImportError) as error:
        print("refused:", type(error).__name__, error)


"""


@dataclass
class Ran:
    """What one run left to see."""

    log: str
    """Its output, escaped by the product, raw for the control."""
    out: Path
    """Where its artifact was taken from (control), or was copied to (product)."""
    result: RunResult | None = None
    """The product's account; None for the control."""


@dataclass
class Scene:
    """A project that anybody may write to by its permissions, a bystander, and a directory for canaries."""

    project: Project
    place: Path
    canary: str = field(default_factory=lambda: f"canary-{secrets.token_hex(8)}")
    names: dict[str, object] = field(default_factory=dict)
    """More names for the attack's code."""
    runs: int = 0

    def __post_init__(self) -> None:
        self.outside, self.home = self.place / "outside", self.place / "home"
        for made in (self.outside, self.home):
            made.mkdir()
            made.chmod(0o777)
        for path in (self.project.root, *self.project.root.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        self.settings: Settings = load_settings(self.project.read("pyproject.toml"))
        self.task = Task(self.project.root)
        with (self.project.root / LABELS).open("rb") as labels:
            # As an evaluator might be: beside held-out data, with it open, and with a secret in its environment.
            self.bystander = subprocess.Popen(
                ["/bin/sleep", "600"],
                cwd=self.project.root / "data/heldout",
                env={"SECRET": self.canary},
                stdin=labels,
                start_new_session=True,
            )

    def close(self) -> None:
        self.bystander.kill()
        self.bystander.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def labels(self) -> bytes:
        """The held-out labels' file."""
        return (self.project.root / LABELS).read_bytes()

    @property
    def held(self) -> tuple[bytes, ...]:
        """Every held-out file of the split that is told and of the one that is sealed."""
        top = self.project.root / "data/heldout"
        names = ("labels.npy", "features.npz")
        return tuple(
            (top / split / name).read_bytes() for split in ("val", "audit") for name in names
        )

    def source(self, code: str, *, goes_on: bool = False, wait: float = 20.0) -> bytes:
        """
        A train.py that runs ``code`` first; without ``goes_on`` it ends there.

        :param wait: seconds that the attack gives a meter to notice it, as ``WAIT``.
        """
        names = {
            "ROOT": str(self.project.root),
            "OUTSIDE": str(self.outside),
            "HOME": str(self.home),
            "CANARY": self.canary,
            "BYSTANDER": self.bystander.pid,
            "HARNESS": os.getpid(),
            "WAIT": wait,
            **self.names,
        }
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        text = _PRELUDE + given + textwrap.dedent(code).strip("\n") + "\n"
        rest = self.project.read("train.py") if goes_on else "sys.stdout.flush()\nos._exit(0)\n"
        return (text + rest).encode()

    def bare(self, code: str, *, goes_on: bool = False, seconds: float = SECONDS) -> Ran:
        """The control: run train.py in the work tree."""
        out = self.place / "naive-out"
        out.mkdir(exist_ok=True)
        (self.project.root / "train.py").write_bytes(self.source(code, goes_on=goes_on, wait=0.1))
        log = self.place / "naive.log"
        environment = {
            **os.environ,
            "HOME": str(self.home),
            "SECRET": self.canary,
            "AUTORESEARCH_SEED": "1",
            "AUTORESEARCH_SECONDS": "20",
            "AUTORESEARCH_DEVICE": "cpu",
            "AUTORESEARCH_TRAIN": str(self.project.root / "data/train"),
            "AUTORESEARCH_OUT": str(out),
        }
        with log.open("wb") as sink, contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [sys.executable, "train.py"],
                cwd=self.project.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                check=False,
                close_fds=False,
                timeout=seconds,
            )
        with log.open("rb") as written:  # a flood is read to its first MiB only
            return Ran(written.read(1 << 20).decode(errors="replace"), out)

    def guarded(
        self,
        code: str,
        level: str,
        *,
        goes_on: bool = False,
        seconds: float = SECONDS,
        **limits: int,
    ) -> Ran:
        """
        The product: the same file through the trainer, at an isolation level.

        :param limits: settings of ``[tool.autoresearch.run]`` that differ.
        """
        self.runs += 1
        workdir = self.place / f"run{self.runs}"
        workdir.mkdir()
        settings = self.limited(**limits)
        request = RunRequest(
            files={"train.py": self.source(code, goes_on=goes_on)},
            seed=1,
            seconds=seconds,
            workdir=workdir,
        )
        result = Trainer(settings, self.task, Isolation(level)).train(request)
        return Ran(result.log_tail, workdir, result)

    def limited(self, **limits: int) -> Settings:
        """The project's settings with other limits."""
        run = msgspec.structs.replace(self.settings.run, **limits)
        return msgspec.structs.replace(self.settings, run=run)

    def score(self, ran: Ran, level: str, **limits: int) -> str:
        """Score a guarded run's artifact: what went wrong, or nothing."""
        assert ran.result is not None
        scoring = Scoring(self.limited(**limits), self.task, Isolation(level))
        try:
            with scoring.warm(ran.out) as scorers:
                scorers.score(ran.result, ("val", "audit"))
        except ScoringError as error:
            return str(error)
        return ""

    def processes(self) -> list[int]:
        """Live processes of this scene but the bystander: its path stands in their command line or environment."""
        needle, found = str(self.place).encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in (os.getpid(), self.bystander.pid):
                with contextlib.suppress(OSError):
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                    if state not in "ZX" and needle in text:
                        found.append(int(entry.name))
        return found


@dataclass(frozen=True)
class Deed:
    """What train.py does, and how its success shows."""

    name: str
    threats: tuple[str, ...]
    """Ids of the threat catalogue in docs/security.md."""
    code: str
    succeeded: Callable[[Scene, Ran], bool]
    """Whether it worked, by effects only; the same for control and product."""
    root: bool = False
    """The control needs root."""
    goes_on: bool = False
    """The training itself goes on afterwards."""
    seconds: float = SECONDS
    limits: tuple[tuple[str, int], ...] = ()
    """Settings of ``[tool.autoresearch.run]`` that differ for the product."""
    twice: str = ""
    """Code of a second run, whose output counts."""

    def __str__(self) -> str:
        return f"{'-'.join(self.threats)}-{self.name.replace(' ', '-')}"


def assert_works(scene: Scene, deed: Deed) -> None:
    """The control: without a guard the deed has its effect."""
    if deed.root and os.geteuid() != 0:
        pytest.skip("the control needs root")
    ran = scene.bare(deed.code, goes_on=deed.goes_on, seconds=min(deed.seconds, 5))
    if deed.twice:
        ran = scene.bare(deed.twice)
    assert deed.succeeded(scene, ran), f"the attack is a dud: {ran.log}"


def assert_stopped(scene: Scene, deed: Deed, level: str) -> Ran:
    """The product: the same deed has none, and nothing of the run lives on."""
    ran = scene.guarded(
        deed.code, level, goes_on=deed.goes_on, seconds=deed.seconds, **dict(deed.limits)
    )
    if deed.twice:
        ran = scene.guarded(deed.twice, level)
    assert not deed.succeeded(scene, ran), ran.log
    assert scene.processes() == []
    return ran


def says(text: str) -> Callable[[Scene, Ran], bool]:
    """The run's output holds ``text``; ``{canary}`` is filled in."""
    return lambda scene, ran: text.replace("{canary}", scene.canary) in ran.log


@contextlib.contextmanager
def scene_of(template: Project, place: Path) -> Iterator[Scene]:
    """A scene in ``place``, removed whatever is left in it."""
    place.chmod(0o755)
    scene = Scene(template.copy(place / "project"), place)
    try:
        yield scene
    finally:
        scene.close()
        # The product's own tool is under test here.
        subprocess.run(["/bin/chmod", "-R", "u+rwx", str(place)], check=False, capture_output=True)
        subprocess.run(["/bin/rm", "-rf", str(place)], check=False, capture_output=True)
