"""
Whether the repository and the ledgers tell one story: git remembers what a campaign did, in pins and in trailers.

A campaign without ledgers starts anew, with HEAD as its Fixed Harness and its whole budget. So whoever can
delete or shorten the ledgers could have another harness ratified, or units given back. What git remembers is
held against them at every start. Beside the keeps it remembers the heads of both ledgers after every settled
change, in ``refs/autoresearch/TAG/heads``: a verdict that was no keep cannot be cut off either.

What is not covered: somebody who rewrites the ledgers and the repository, pins and all. Against that stand heads
outside the project: a file that :mod:`.anchors` keeps is held against the ledgers as well.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from .gitprocess import RepositoryError
from .journal import Journal, JournalError
from .recovery import restore_point

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .journal import Remember
    from .state import State
    from .vcs import Repository

__all__ = ["PINS", "StateMemory", "last_row", "remember_heads", "require_continuity"]

PINS = "refs/autoresearch"
#: Head of restore-source that a keep commit carries, see ``cutover_message``.
_TRAILER = re.compile(r"^Autoresearch-Restore-Source: (-?\d+):", re.MULTILINE)
_HEAD = re.compile(r"^(\S+)[ \t]+(\d{1,15}:[0-9a-f]{64})[ \t]*$", re.MULTILINE)


def remember_heads(repository: Repository, tag: str) -> Remember:
    """
    Keeps the ledgers' heads in the repository, one ``LEDGER SEQ:SHA256`` a line.

    They may lag behind by the changes after which a session was killed; they never lead.
    """

    def remember(heads: Mapping[str, str]) -> None:
        text = "".join(f"{name} {head}\n" for name, head in heads.items())
        with contextlib.suppress(RepositoryError):  # the change itself is settled
            repository.remember(f"{PINS}/{tag}/heads", text.encode("ascii"))

    return remember


class StateMemory:
    """Keeps in the repository which ``state.sqlite`` a session wrote, see :mod:`.foldcache`."""

    def __init__(self, repository: Repository, tag: str) -> None:
        self._repository = repository
        self._name = f"{PINS}/{tag}/state"

    def recall(self) -> str:
        blob = self._repository.ref(self._name)
        return self._repository.read_blob(blob).decode("ascii", "replace") if blob else ""

    def remember(self, text: str) -> None:
        self._repository.remember(self._name, text.encode("ascii"))


def last_row(text: str, ledger: str) -> tuple[int, str]:
    """Number and hash of the row of a ledger that heads name last; -1 and nothing where they name none."""
    seq, _, sha256 = dict(_HEAD.findall(text)).get(ledger, "-1:").partition(":")
    return int(seq), sha256


def require_continuity(
    repository: Repository, journal: Journal, state: State, tag: str, outside: str = ""
) -> None:
    """
    Refuse ledgers that know less than the repository, and refs in the place of the campaign's pins.

    :param outside: heads that were kept outside the project, the last ones last.
    :raises JournalError: naming what was found and the way out.
    """
    _require_room(repository, tag)
    if state.seq < 0:
        _require_new(repository, repository.pins(PINS), tag)
    elif state.incumbent is not None:
        _require_keeps_known(repository, journal, state.incumbent.commit, tag)
    name = f"{PINS}/{tag}/heads"
    blob = repository.ref(name)
    remembered = repository.read_blob(blob).decode("ascii", "replace") if blob else ""
    # What is nobody's loss may be forgotten here, but not outside.
    way_out = (
        f"; or, if those rows are nobody's loss, `git update-ref -d {name}` goes on without them"
    )
    _require_known(remembered, journal, tag, where=repr(name), way_out=way_out)
    where = "the file of [tool.autoresearch.anchors]"
    way_out = "; or, if those rows are nobody's loss, move that file away"
    _require_known(outside, journal, tag, where=where, way_out=way_out)


def _require_room(repository: Repository, tag: str) -> None:
    """A ref with the name of a directory of pins would keep every verdict from being recorded."""
    top = f"{PINS}/{tag}"
    kinds = ("restore", "candidate", "dropped", "outside")
    # By name: the pins themselves are as many as the proposals.
    for name in repository.present([PINS, top, *(f"{top}/{kind}" for kind in kinds)]):
        raise JournalError(
            f"the ref {name!r} stands where the pins of campaign {tag!r} must: nothing could be recorded; "
            f"`git update-ref -d {name}` removes it"
        )


def _require_new(repository: Repository, pins: list[str], tag: str) -> None:
    # A baseline that was cut short has pinned HEAD already.
    own = restore_point(tag, repository.head_commit())
    # Nor do places outside that were tried out before any row say that there was one.
    own_too = (own, f"{PINS}/{tag}/anchors", f"{PINS}/{tag}/outside/")
    known = [
        name for name in pins if name.startswith(f"{PINS}/{tag}/") and not name.startswith(own_too)
    ]
    if known:
        raise JournalError(
            f"campaign {tag!r} has lost its ledgers: there are none, but the repository holds {len(known)} "
            f"pins of it below '{PINS}/{tag}'. Put '.autoresearch/{tag}' back from a copy, or start a "
            "campaign of another name with --autoresearch-tag"
        )


def _require_keeps_known(
    repository: Repository, journal: Journal, incumbent: str, tag: str
) -> None:
    """Every keep commit beyond the incumbent must follow a row that restore-source still has."""
    last = int(journal.heads()["restore-source"].partition(":")[0])
    for commit, message in repository.messages_since(incumbent):
        found = _TRAILER.search(message)
        if found and int(found[1]) >= last:
            raise JournalError(
                f"the branch of campaign {tag!r} carries the keep {commit[:12]}, of which the ledgers know "
                f"nothing: they were cut back, or somebody forged the commit. Put '.autoresearch/{tag}' back "
                f"from a copy; or, if the commit is nobody's loss, `git checkout -B autoresearch/{tag} {incumbent[:12]}`"
            )


def _require_known(text: str, journal: Journal, tag: str, *, where: str, way_out: str) -> None:
    """The last heads kept somewhere must still be rows; the verifier compares older ones, too."""
    for ledger, head in journal.heads().items():
        seq, sha256 = last_row(text, ledger)
        last, _, now = head.partition(":")
        if seq > int(last) or (seq == int(last) and sha256 not in ("", now)):
            raise JournalError(
                f"{ledger}.jsonl of campaign {tag!r} ends in row {last}, but {where} remembers another end, row "
                f"{seq}: rows were cut off or replaced. Put '.autoresearch/{tag}' back from a copy{way_out}; "
                "`autoresearch verify` says more"
            )
