"""
The ledgers' heads, kept where whoever writes ``.git`` and ``.autoresearch`` cannot: a file, a remote, a command.

After each settled change the heads go to every place that ``[tool.autoresearch.anchors]`` names. The table is
read from the ratified tree, so that an agent can neither switch a place off nor move it. A head stands for all
rows before it: what a place has missed, the next delivery makes up for. So a failure never costs a verdict, it
is one red line; with ``required`` a session refuses to start instead.

What a remote gets is a history, the branch ``autoresearch-heads/TAG``: one commit per settled change, with the
heads and their signature. It only moves forward, so that the remote may refuse force; and it is a branch, because
git (``receive.denyNonFastForwards``) and its hosts protect nothing else.

What is not covered: rows that somebody writes between two sessions and that the next one takes for its own; a
place that the same user can rewrite.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .config import ConfigurationError
from .continuity import PINS, last_row, remember_heads
from .gitprocess import RepositoryError
from .journal import JournalError
from .objects import Objects
from .sandbox.view import SYSTEM
from .settings import Anchors as Table
from .signing import sign
from .transport import Reach, Undelivered, borrowed
from .verifier import BRANCH, HEADS, SIGNATURE

if TYPE_CHECKING:
    from .settings import Settings
    from .vcs import Repository

__all__ = ["Anchors"]

_PLACES = ("file", "remote", "command", "signing_key")


class Anchors:
    """
    Told the heads after each settled change, it keeps them in the repository and in the configured places.

    It raises nothing then, the change is settled: :attr:`problems` says what could not be reached.
    """

    def __init__(self, repository: Repository, tag: str) -> None:
        self._repository = repository
        self._tag = tag
        self._top = f"{PINS}/{tag}"
        self._history = f"refs/heads/{BRANCH}{tag}"
        self._remember = remember_heads(repository, tag)
        self._table = Table()
        self._reach = Reach.choose(self._table.seconds, self._table.env)
        self._file: Path | None = None
        self._key: Path | None = None
        self.problems: dict[str, str] = {}
        """Place to why it does not have the latest heads."""
        self._refused = ""
        """What the remote did not take besides."""

    def use(self, settings: Settings) -> None:
        """
        Take the places from a configuration.

        :raises ConfigurationError: for a file or a key that is not out of an agent's reach.
        """
        table = settings.anchors
        inside = [self._repository.root, self._repository.git_dir]
        shown = [Path(text).expanduser() for text in settings.agent.readable]
        file = None if table.file is None else table.file.replace("{tag}", self._tag)
        self._file = _outside("file", file, inside)
        self._key = _outside(
            "signing_key", table.signing_key, [*inside, *shown, *map(Path, SYSTEM)]
        )
        self._table = table
        self._reach = Reach.choose(table.seconds, table.env)

    def __call__(self, heads: Mapping[str, str]) -> None:
        """Deliver to every place."""
        self._remember(heads)
        self._deliver(_text(heads))

    def open(self, heads: Mapping[str, str]) -> None:
        """
        Before a session: deliver what a place has missed; where they are required, try every one out.

        :raises JournalError: a required place cannot be reached.
        """
        if self._table.required or any(self.behind(heads).values()):
            self._deliver(_text(heads))
        if self._table.required and self.problems:
            place, problem = next(iter(self.problems.items()))
            raise JournalError(
                f"[tool.autoresearch.anchors] {place} is required and cannot be reached: {problem}. Nothing was "
                "trained: correct the cause, or ratify a configuration without required = true"
            )

    def places(self) -> tuple[str, ...]:
        """Names of the configured places."""
        return tuple(name for name in _PLACES if getattr(self._table, name))

    def behind(self, heads: Mapping[str, str]) -> dict[str, int]:
        """Place to the number of rows of cutover-audit that it has not heard of."""
        last, _ = last_row(_text(heads), "cutover-audit")
        known = {
            place: last_row(self._delivered(place), "cutover-audit") for place in self.places()
        }
        return {place: max(0, last - seq) for place, (seq, _) in known.items()}

    def lines(self) -> list[str]:
        """What a person is told after a delivery."""
        return [
            *(
                f"the ledgers' heads did not reach the {place} of [tool.autoresearch.anchors]: {problem}; the "
                "next change makes up for it"
                for place, problem in self.problems.items()
            ),
            *([self._refused] if self._refused else []),
        ]

    def testimony(self) -> tuple[str, str]:
        """All heads that file and remote hold, and which of the two could not be asked, in words."""
        name = "of [tool.autoresearch.anchors] cannot be asked"
        text, problem = self.kept(), ""
        try:
            if self._file is not None and self._delivered("file"):
                self._file.open("rb").close()
        except OSError as error:
            problem = f"the file {name}: {error}"
        try:
            text += self._fetched()
        except Undelivered as error:
            problem = f"the remote {name}: {error}"
        return text, problem

    def kept(self) -> str:
        """What the configured file holds; empty where there is none, or it is out of reach."""
        try:
            return self._file.read_text("ascii", "replace") if self._file is not None else ""
        except OSError:
            return ""

    def _fetched(self) -> str:
        """All heads that the configured remote ever got; empty without one."""
        url, repository = self._table.remote, self._repository
        if url is None:
            return ""
        with borrowed(repository.root, repository.git_dir, {}) as made:
            self._reach.fetch(made, url, self._history)
            there = Objects(made, made)
            commits = there.history(self._history)
            return "".join(
                text.decode("ascii", "replace")
                for text in there.read_blobs(f"{commit}:{HEADS}" for commit in commits).values()
            )

    # -- delivering

    def _deliver(self, text: str) -> None:
        table, signature = self._table, b""
        self.problems, self._refused = {}, ""
        if self._key is not None:
            with self._place("signing_key", text):
                signature = sign(text.encode("ascii"), self._key, self._reach)
                self._extend(text, signature)
        if self._file is not None:
            with self._place("file", text):
                _append(self._file, text)
        if table.remote is not None:
            with self._place("remote", text):
                self._push(table.remote, self._extend(text, signature))
        if table.command:
            with self._place("command", text):
                argv = [word.replace("{tag}", self._tag) for word in table.command]
                self._reach.execute(argv, text.encode("ascii"))

    @contextmanager
    def _place(self, name: str, text: str) -> Iterator[None]:
        """Whatever goes wrong inside is one line; what a place has is noted."""
        try:
            yield
            if self._delivered(name) != text:
                self._repository.remember(f"{self._top}/outside/{name}", text.encode("ascii"))
        except (Undelivered, RepositoryError, OSError) as error:
            self.problems[name] = str(error)

    def _delivered(self, place: str) -> str:
        """The heads that a place had last, as far as this repository knows."""
        blob = self._repository.ref(f"{self._top}/outside/{place}")
        return self._repository.read_blob(blob).decode("ascii", "replace") if blob else ""

    def _extend(self, text: str, signature: bytes) -> str:
        files = {HEADS: text.encode("ascii"), **({SIGNATURE: signature} if signature else {})}
        return self._repository.extend(f"{self._top}/anchors", files, when=int(time.time()))

    def _push(self, url: str, tip: str) -> None:
        repository, branch = self._repository, f"refs/heads/autoresearch/{self._tag}"
        tops = [f"{self._top}/{kind}/" for kind in ("restore", "candidate", "dropped")]
        stands = repository.refs(branch)
        refs = {self._history: tip, **stands}
        for top in tops:
            refs |= repository.refs(top)
        # A rollback moves the branch back; nothing else may ever be overwritten there.
        specs = [self._history, *(f"{top}*" for top in tops), *(f"+{name}" for name in stands)]
        with borrowed(repository.root, repository.git_dir, refs) as made:
            refused = self._reach.push(made, url, [f"{spec}:{spec.lstrip('+')}" for spec in specs])
        if self._history in refused:
            raise Undelivered(
                f"its {self._history!r} is another history {refused[self._history]}: one of the two was rewritten, or "
                "another clone goes on with this campaign; `autoresearch verify` says more"
            )
        for name, reason in refused.items():
            self._refused = f"the remote of [tool.autoresearch.anchors] has the heads, but did not take {name!r} {reason}"


def _text(heads: Mapping[str, str]) -> str:
    return "".join(f"{name} {head}\n" for name, head in heads.items())


def _append(path: Path, text: str) -> None:
    """Add to the end, in one write, on the disk when this returns; nothing where it stands there already."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, len(text), max(0, size - len(text))).decode("ascii", "replace")
        if tail == text:
            return
        # A write that was cut short must not spoil the next line.
        added = (text if not tail or tail.endswith("\n") else f"\n{text}").encode("ascii")
        if os.write(descriptor, added) != len(added):
            raise OSError(f"{str(path)!r} took only a part: is the disk full?")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _outside(key: str, text: str | None, inside: Iterable[Path]) -> Path | None:
    """A configured path that nobody reaches from where an agent works."""
    if text is None:
        return None
    name = f"[tool.autoresearch.anchors] {key} = {text!r}"
    path = Path(text).expanduser()
    if not path.is_absolute() or ".." in path.parts:
        raise ConfigurationError(
            f"{name} breaks the rule: an absolute path without '..', or one that starts with '~'"
        )
    resolved = path.parent.resolve() / path.name, path.resolve()
    for top in inside:
        if any(each.is_relative_to(top.resolve()) for each in resolved):
            raise ConfigurationError(
                f"{name} lies in {str(top)!r}, within an agent's reach: choose a place outside the project, "
                "best on another mount, that no agent is shown"
            )
    return path
