"""
Git children in a closed environment: nothing that a run or an agent left behind steers them.

Inherited variables do not pass (``env -i``), neither do the system's and the user's configuration;
hooks, the file system monitor, replacement refs, grafts and transports are off, whatever the
repository's own configuration says. Only plumbing is run: no alias, pager, filter, diff or signing
program can come in.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["GitProcess", "RepositoryError", "escaped"]

_CONFIGURATION = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.useReplaceRefs=false",
    # Git leaves durability to the file system unless told otherwise.
    "core.fsync=all",
    "core.fsyncMethod=fsync",
    # A lock is waited for in one place, and named when it stays: see GitProcess.attempt.
    "core.filesRefLockTimeout=0",
    "core.packedRefsTimeout=0",
    "commit.gpgSign=false",
    "i18n.commitEncoding=UTF-8",
    "advice.graftFileDeprecated=false",
    "protocol.allow=never",
)
_ENVIRONMENT = {
    "LC_ALL": "C",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_NO_LAZY_FETCH": "1",
    # Stronger than protocol.allow, which the repository's protocol.<name>.allow would override.
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
}
_LOCKED = re.compile(r"Unable to create '([^']+\.lock)': File exists")
_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)


class RepositoryError(Exception):
    """The repository is not in a state to work with; the message says why and what to do."""


class GitProcess:
    """
    Runs git on one repository.

    :param git_dir: given to git explicitly: it neither searches for a repository nor refuses one that
        belongs to another user, as the checkouts of CI containers often do.
    :raises RepositoryError: without a git executable.
    """

    def __init__(self, root: Path, git_dir: Path) -> None:
        executable = shutil.which("git")
        if executable is None:
            raise RepositoryError(
                "no git executable on PATH: install git, which holds the restore points"
            )
        try:
            import git
        except ImportError as error:
            raise RepositoryError(
                f"GitPython cannot start git ({str(error).splitlines()[0]}): correct or unset "
                "GIT_PYTHON_GIT_EXECUTABLE"
            ) from error
        self._git = git.Git(root)
        self._command = [executable]
        for setting in _CONFIGURATION:
            self._command += ["-c", setting]
        self._environment = {
            "PATH": os.environ["PATH"],
            "GIT_DIR": str(git_dir),
            "GIT_WORK_TREE": str(root),
            **_ENVIRONMENT,
        }

    def run(
        self, *arguments: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> bytes:
        """
        Standard output of ``git ARGUMENTS``.

        :raises RepositoryError: when git exits with another status than 0.
        """
        status, output, complaint = self.attempt(*arguments, stdin=stdin, variables=variables)
        if status != 0:
            raise RepositoryError(f"git {arguments[0]} failed: {escaped(complaint)}")
        return output

    def text(self, *arguments: str, stdin: bytes = b"") -> str:
        """Standard output as one stripped text."""
        return os.fsdecode(self.run(*arguments, stdin=stdin)).strip()

    def attempt(
        self, *arguments: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, str]:
        """
        Exit status, standard output and complaint; a lock held by another git is waited for.

        :raises RepositoryError: when the lock stays.
        """
        for wait in (*_WAITS, None):
            status, output, complaint = self._once(arguments, stdin, variables or {})
            locked = _LOCKED.search(complaint)
            if status == 0 or locked is None:
                return status, output, complaint
            if wait is not None:
                time.sleep(wait)
        assert locked is not None
        raise RepositoryError(
            f"{escaped(locked[1])!r} exists: another git command is running, or one died. Wait for it, "
            "or remove that file once no git process uses the repository; then start again"
        )

    def _once(
        self, arguments: tuple[str, ...], stdin: bytes, variables: Mapping[str, str]
    ) -> tuple[int, bytes, str]:
        # GitPython adds to the inherited environment and cannot take away from it: `env -i` does.
        environment = [
            f"{name}={value}" for name, value in {**self._environment, **variables}.items()
        ]
        with tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            status, output, complaint = self._git.execute(
                ["/usr/bin/env", "-i", *environment, *self._command, *arguments],
                istream=file,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
            )
        assert isinstance(output, bytes)
        return status, output, complaint


def escaped(text: str) -> str:
    """One printable line of a text that others had a hand in."""
    return " ".join(text.split()).encode("unicode_escape").decode("ascii")
