"""
The room of an agent command: a worktree of its own, behind the same wall as a run.

``work`` is writable and holds the surface files; ``fixed`` is read-only and holds the rules, ``prepare.py`` and
the prompt, to which ``work`` has links. Editors leave temporary files and rename them, so the whole of ``work``
is open, and only the surface files are ever read from it. It is a small git repository, so that an agent can
look at its difference and commit; the harness makes its one commit before the agent starts and runs no git
there afterwards, since a hook or a configuration that the agent left would run with the user's rights. An
agent's own commit is not looked at: what counts is what stands in the files when the command has ended.

What is covered from level ``kernel`` on: held-out data, ledgers, the project, the home, other processes, every
variable that is not passed on, and the network unless it is switched on. What is not covered: what the
command does with a network that it was given, to whatever it was told or has read; level ``none``, at which
only environment, deadline, output and the end of every process are seen to.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .candidate import CandidateError, read_directory
from .capacity import memory_limit_mb
from .gitprocess import GitProcess, RepositoryError
from .rundir import remove
from .sandbox import Isolation, LaunchSpec, Usage, closed_environment, launch
from .sandbox.view import SYSTEM, interpreter_directories

if TYPE_CHECKING:
    from .settings import Agent, Run
    from .wall import Wall

__all__ = ["PROMPT", "AgentError", "Room", "Shown", "open_room"]

PROMPT = "PROMPT.md"
#: A shell in the shell, because the prompt is its standard input: a file neither fills up nor waits.
_WITH_PROMPT = 'exec /bin/sh -c "$1" <"$2"'
_SEARCH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
#: Where the sandbox has its own; the machine's would show other processes and devices.
_KERNEL = ("/proc", "/sys", "/dev")
_OUTPUT_CAP = 256 << 10
_CONFIGURATION = """\
[user]
	name = agent
	email = agent@localhost
[gc]
	auto = 0
"""
_IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "autoresearch"),
        ("EMAIL", "autoresearch@localhost"),
        ("DATE", "@0 +0000"),
    )
}


class AgentError(Exception):
    """The agent gave nothing usable; the message says what to look at."""


@dataclass(frozen=True)
class Shown:
    """What an agent command is shown besides its room, from ``[tool.autoresearch.agent]``."""

    seconds: float
    network: bool
    paths: tuple[Path, ...]
    """``agent.readable``, each as it is written and as it resolves."""
    variables: Mapping[str, str]
    absent: tuple[str, ...]
    """Names in ``agent.env`` that are not set."""

    @classmethod
    def choose(cls, agent: Agent, *, hidden: Sequence[Path], root: Path) -> Shown:
        """
        Resolve the configuration against this machine.

        :param hidden: what no setting may show, nor anything inside it: data, ledgers, repository.
        :param root: the project, which may not be shown as a whole.
        :raises AgentError: a path is relative or missing, or would show what must stay hidden.
        """
        paths: list[Path] = []
        for text in agent.readable:
            paths += _checked(text, hidden=[path.resolve() for path in hidden], root=root.resolve())
        variables = {name: os.environ[name] for name in agent.env if name in os.environ}
        absent = tuple(name for name in agent.env if name not in os.environ)
        return cls(agent.seconds, agent.network, tuple(dict.fromkeys(paths)), variables, absent)

    def __str__(self) -> str:
        network = "with the network" if self.network else "without network"
        also = f", {len(self.paths)} readable paths" if self.paths else ""
        passed = f", variables {' '.join(self.variables)}" if self.variables else ""
        return network + also + passed

    def search_path(self, level: Isolation) -> str:
        """``PATH``: the user's entries as far as they can be seen, then what is readable, then the system's."""
        own = [entry for entry in os.environ.get("PATH", "").split(":") if entry.startswith("/")]
        entries = [entry for entry in own if self.sees(Path(entry), level)]
        entries += [str(path) for path in self.paths if path.is_dir()]
        return ":".join(dict.fromkeys((*entries, *_SEARCH)))

    def sees(self, path: Path, level: Isolation) -> bool:
        """Whether a path of this machine is visible at a level; the image of a container is not known."""
        if level in (Isolation.NONE, Isolation.CONTAINER):
            return level is Isolation.NONE
        tops = [*SYSTEM, *interpreter_directories(), *map(str, self.paths)]
        return any(path.is_relative_to(top) for top in tops)


def _checked(text: str, *, hidden: Sequence[Path], root: Path) -> tuple[Path, Path]:
    """One entry of ``agent.readable``, as written and resolved."""
    name = f"[tool.autoresearch.agent] readable names {text!r}"
    try:
        path = Path(text).expanduser()
        home = Path.home().resolve()
    except RuntimeError as error:
        raise AgentError(f"{name}, but no home is known here: write it out") from error
    if not path.is_absolute() or ".." in path.parts:
        raise AgentError(
            f"{name}: write an absolute path without '..', or one that starts with '~'"
        )
    if not path.exists():
        raise AgentError(f"{name}, which does not exist: correct it, or take it out")
    resolved = path.resolve()
    for secret in hidden:
        if secret.is_relative_to(resolved) or resolved.is_relative_to(secret):
            raise AgentError(
                f"{name}, which would show {str(secret)!r}: an agent may see neither data nor ledgers nor "
                "the repository; name what it needs, and nothing above"
            )
    for whole in (root, home):
        if whole.is_relative_to(resolved):
            raise AgentError(
                f"{name}, which would show all of {str(whole)!r}: name the directories that it needs"
            )
    if any(resolved.is_relative_to(top) for top in _KERNEL):
        raise AgentError(f"{name}: /proc, /sys and /dev of the machine cannot be shown")
    return path, resolved


@dataclass(frozen=True)
class Room:
    """A laid-out room."""

    directory: Path
    surface: tuple[str, ...]
    """Paths of the surface files below ``work``."""

    @property
    def work(self) -> Path:
        """The worktree, which the agent may write to."""
        return self.directory / "work"

    @property
    def fixed(self) -> Path:
        """The files that it may only read."""
        return self.directory / "fixed"

    def run(self, command: str, shown: Shown, wall: Wall, log: Path, run: Run) -> Usage:
        """
        Run the command to its end or its deadline; nothing of it is alive afterwards.

        :param log: where its output goes; must not exist.
        :param run: the limits of a training run, of which those on files and processes hold here as well.
        :raises AgentError: it cannot be started.
        """
        scratch = self.directory / "scratch"
        scratch.mkdir(mode=0o755)
        try:
            closed = closed_environment(scratch, threads=1, extra=shown.variables)
        except ValueError as error:
            raise AgentError(f"[tool.autoresearch.agent] env: {error}") from error
        try:
            spec = LaunchSpec(
                argv=("/bin/sh", "-c", _WITH_PROMPT, "sh", command, str(self.fixed / PROMPT)),
                cwd=self.work,
                env=closed
                | {
                    "PATH": shown.search_path(wall.level),
                    "GIT_CEILING_DIRECTORIES": str(self.directory),
                    # Where it cannot be read, git gives up instead of going on without.
                    "GIT_CONFIG_NOSYSTEM": "1",
                },
                seconds=shown.seconds,
                log=log,
                writable=(self.work, scratch),
                readonly=(self.fixed, *shown.paths),
                output_cap=_OUTPUT_CAP,
                memory_cap_mb=memory_limit_mb(run.memory_mb),
                disk_cap_mb=run.disk_mb,
                files_cap=run.files,
                processes=run.processes,
                isolation=wall.level,
                launcher=wall.launcher,
                network=shown.network,
            )
            with launch(spec) as process:
                usage = process.wait()
        except (OSError, ValueError) as error:
            raise AgentError(f"the agent command {command!r} cannot be started: {error}") from error
        if usage.survivors:
            raise AgentError(
                f"{usage.survivors} processes of the agent command {command!r} could not be killed: this "
                "machine is in trouble, restart it"
            )
        return usage

    def read(self) -> dict[str, bytes]:
        """
        The surface files as the agent left them, read as hostile data.

        :raises AgentError: one of them is gone, a link, a device, or larger than source text.
        """
        try:
            return read_directory(self.work, self.surface)
        except (CandidateError, OSError) as error:
            raise AgentError(f"what the agent left is no candidate: {error}") from error


@contextmanager
def open_room(
    parent: Path, surface: Mapping[str, bytes], fixed: Mapping[str, bytes]
) -> Iterator[Room]:
    """
    Lay out a room below ``parent``, and remove it with all that is in it.

    :param surface: path to content of the files that the agent may edit.
    :param fixed: path to content of those it may read, the prompt among them.
    :raises AgentError: its repository could not be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="agent-", dir=parent))
    try:
        # The levels that drop root enter it as another user; the sandbox decides what that one may do.
        directory.chmod(0o755)
        room = Room(directory, tuple(surface))
        for top, files, mode in ((room.work, surface, 0o644), (room.fixed, fixed, 0o444)):
            for name, content in files.items():
                path = top / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(mode)
        for name in fixed.keys() - surface.keys():
            link = room.work / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(room.fixed / name, link.parent))
        _commit(room.work)
        yield room
    finally:
        remove(directory)


def _commit(work: Path) -> None:
    """A repository with one commit, made before anybody else can write there."""
    try:
        git = GitProcess(work, work / ".git")
        git.run("init", "-q", "--template=", "--initial-branch=agent")
        with (work / ".git" / "config").open("a", encoding="utf-8") as file:
            file.write(_CONFIGURATION)
        git.run("add", "--all", "--force", ".")
        tree = git.text("write-tree")
        made = git.run(
            "commit-tree", tree, stdin=b"the incumbent and what is fixed\n", variables=_IDENTITY
        )
        git.run("update-ref", "HEAD", made.decode("ascii").strip())
    except RepositoryError as error:
        raise AgentError(f"the agent's worktree cannot be made: {error}") from error
