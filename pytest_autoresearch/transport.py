"""
Programs and git transports that reach outside: in an environment of their own, with a deadline, killed whole.

The repository's own configuration could name a program to run or another address, and whoever can write ``.git``
writes it. So nothing is pushed from the project's repository: an empty one borrows its objects, and is told the
refs. The user's configuration and the system's hold, since credentials are there.

The environment is ``PATH``, ``HOME``, ``SSH_AUTH_SOCK`` and what the configuration names: a place outside gets the
keys that it needs, not every secret of the session.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .gitprocess import GitProcess, escaped

__all__ = ["Reach", "Undelivered", "borrowed"]

_PASSED = ("PATH", "HOME", "SSH_AUTH_SOCK")
_GIT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
# Just the refs that are named, whatever the user configured for pushes of their own.
_PUSH = (
    "push",
    "--porcelain",
    "--no-verify",
    "--no-signed",
    "--no-follow-tags",
    "--no-recurse-submodules",
)
_FETCH = ("fetch", "-q", "--no-tags", "--no-recurse-submodules")
_SHOWN = 300
"""Characters of a complaint that are passed on."""


class Undelivered(Exception):
    """A place outside could not be reached; the message is one line."""


@dataclass(frozen=True)
class Reach:
    """How far a program that reaches outside may go."""

    seconds: float
    """Wall-clock limit of one program."""
    variables: Mapping[str, str]
    """Its environment."""

    @classmethod
    def choose(cls, seconds: float, names: Iterable[str]) -> Reach:
        """With the variables of these names besides the usual ones."""
        passed = (*_PASSED, *names)
        return cls(seconds, {name: os.environ[name] for name in passed if name in os.environ})

    def execute(
        self,
        argv: Iterable[str],
        stdin: bytes = b"",
        *,
        accepted: tuple[int, ...] = (0,),
        variables: Mapping[str, str] | None = None,
    ) -> bytes:
        """
        What a program prints, run without a shell and without a terminal.

        :param accepted: exit statuses that are no failure.
        :param variables: further ones of its environment.
        :raises Undelivered: it cannot be started, fails, or takes too long.
        """
        command = list(argv)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
            given.write(stdin)
            given.seek(0)
            try:
                # A session of its own: no terminal to ask at, no Ctrl-C halfway, and one group to kill.
                process = subprocess.Popen(
                    command,
                    stdin=given,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**self.variables, **(variables or {})},
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise Undelivered(f"{command[0]!r} cannot be started: {error}") from error
            try:
                status = process.wait(self.seconds)
            except subprocess.TimeoutExpired:
                raise Undelivered(
                    f"{command[0]!r} did not end within {self.seconds:g} s and was killed"
                ) from None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            said = output.read()
        if status not in accepted:
            words = escaped(said.decode("utf-8", "replace"))[:_SHOWN] or "without a word"
            raise Undelivered(f"{command[0]!r} ended with status {status}: {words}")
        return said

    def push(self, repository: Path, url: str, refspecs: Iterable[str]) -> dict[str, str]:
        """
        Push to an address; ref on the other side to why it was refused, empty when all were taken.

        :raises Undelivered: the other side was not reached.
        """
        said = self.execute(
            ["git", f"--git-dir={repository}", *_PUSH, "--", url, *refspecs],
            accepted=(0, 1),  # 1: some refs were refused
            variables=_GIT,
        )
        lines = (line.split("\t") for line in said.decode("utf-8", "replace").splitlines())
        return {
            words[1].rpartition(":")[2]: escaped(words[2])
            for words in lines
            if words[0] == "!" and len(words) == 3
        }

    def fetch(self, repository: Path, url: str, name: str) -> None:
        """
        Bring one ref of an address into an empty repository.

        :raises Undelivered: the other side was not reached, or has no such ref.
        """
        self.execute(
            [
                "git",
                f"--git-dir={repository}",
                *_FETCH,
                "--",
                url,
                f"{name}:{name}",
            ],
            variables=_GIT,
        )


@contextmanager
def borrowed(root: Path, git_dir: Path, refs: Mapping[str, str]) -> Iterator[Path]:
    """An empty repository that reads the objects of another one and has the given refs."""
    git = GitProcess(root, git_dir)
    objects = git.text("rev-parse", "--path-format=absolute", "--git-path", "objects")
    form = git.text("rev-parse", "--show-object-format")
    with tempfile.TemporaryDirectory(prefix="autoresearch-push-") as directory:
        made = Path(directory)
        GitProcess(made, made).run("init", "-q", "--template=", f"--object-format={form}")
        (made / "objects" / "info").mkdir(exist_ok=True)
        (made / "objects" / "info" / "alternates").write_text(f"{objects}\n")
        lines = [f"{oid} {name}\n" for name, oid in sorted(refs.items())]
        (made / "packed-refs").write_text("".join(lines))
        yield made
