"""
Whether the repository and the ledgers tell one story: git remembers what a campaign did, in pins and in trailers.

A campaign without ledgers starts anew, with HEAD as its Fixed Harness and its whole budget. So whoever can
delete or shorten the ledgers could have another harness ratified, or units given back. What git remembers is
held against them at every start. Beside the keeps it remembers the heads of both ledgers after every settled
change, in ``refs/autoresearch/TAG/heads``: a verdict that was no keep cannot be cut off either.

What is not covered: somebody who rewrites the ledgers and the repository, pins and all. Against that stands a
copy of the heads outside the project.
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

__all__ = ["remember_heads", "require_continuity"]

_PINS = "refs/autoresearch"
#: Head of restore-source that a keep commit carries, see ``cutover_message``.
_TRAILER = re.compile(r"^Autoresearch-Restore-Source: (-?\d+):", re.MULTILINE)
_HEAD = re.compile(r"^(\S+) (\d{1,15}:[0-9a-f]{64})$", re.MULTILINE)


def remember_heads(repository: Repository, tag: str) -> Remember:
    """
    Keeps the ledgers' heads in the repository, one ``LEDGER SEQ:SHA256`` a line.

    They may lag behind by the changes after which a session was killed; they never lead.
    """

    def remember(heads: Mapping[str, str]) -> None:
        text = "".join(f"{name} {head}\n" for name, head in heads.items())
        with contextlib.suppress(RepositoryError):  # the change itself is settled
            repository.remember(f"{_PINS}/{tag}/heads", text.encode("ascii"))

    return remember


def require_continuity(repository: Repository, journal: Journal, state: State, tag: str) -> None:
    """
    Refuse ledgers that know less than the repository, and refs in the place of the campaign's pins.

    :raises JournalError: naming what was found and the way out.
    """
    pins = repository.pins(_PINS)
    _require_room(pins, tag)
    if state.seq < 0:
        _require_new(repository, pins, tag)
        return
    if state.incumbent is not None:
        _require_keeps_known(repository, journal, state.incumbent.commit, tag)
    _require_heads_known(repository, journal, tag)


def _require_room(pins: list[str], tag: str) -> None:
    """A ref with the name of a directory of pins would keep every verdict from being recorded."""
    top = f"{_PINS}/{tag}"
    for name in pins:
        if name in (_PINS, top, *(f"{top}/{kind}" for kind in ("restore", "candidate", "dropped"))):
            raise JournalError(
                f"the ref {name!r} stands where the pins of campaign {tag!r} must: nothing could be recorded; "
                f"`git update-ref -d {name}` removes it"
            )


def _require_new(repository: Repository, pins: list[str], tag: str) -> None:
    # A baseline that was cut short has pinned HEAD already.
    own = restore_point(tag, repository.head_commit())
    known = [name for name in pins if name.startswith(f"{_PINS}/{tag}/") and name != own]
    if known:
        raise JournalError(
            f"campaign {tag!r} has lost its ledgers: there are none, but the repository holds {len(known)} "
            f"pins of it below '{_PINS}/{tag}'. Put '.autoresearch/{tag}' back from a copy, or start a "
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


def _require_heads_known(repository: Repository, journal: Journal, tag: str) -> None:
    """The heads that the repository remembers must still be rows; the verifier compares older ones, too."""
    name = f"{_PINS}/{tag}/heads"
    blob = repository.ref(name)
    text = repository.read_blob(blob).decode("ascii", "replace") if blob else ""
    remembered = dict(_HEAD.findall(text))
    for ledger, head in journal.heads().items():
        seq, _, sha256 = remembered.get(ledger, "-1:").partition(":")
        last, _, now = head.partition(":")
        if int(seq) > int(last) or (int(seq) == int(last) and sha256 not in ("", now)):
            raise JournalError(
                f"{ledger}.jsonl of campaign {tag!r} ends in row {last}, but {name!r} remembers another end, row "
                f"{seq}: rows were cut off or replaced. Put '.autoresearch/{tag}' back from a copy; or, if those "
                f"rows are nobody's loss, `git update-ref -d {name}` goes on without them; `autoresearch "
                "verify` says more"
            )
