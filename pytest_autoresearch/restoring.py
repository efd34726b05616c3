"""
What becomes of a campaign whose provenance is broken: back to the last state that verifies, on the record.

A damaged ledger is not mended. Its file is kept aside, whole, and the ledger goes on behind the last change that
holds; the row that says so names the file and its hash. Nothing that was measured since counts, and what it cost
stays spent, as far as the damaged rows still say.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
import shutil
from pathlib import Path

from . import __version__
from .chain import LedgerError
from .continuity import remember_heads
from .equivalence import surface_digest
from .journal import Journal, JournalError
from .ledger import sync_directory, sync_file
from .paperwork import now
from .recovery import recover, restore_point, stock_acts, stock_undo
from .rows import Intent, Restore
from .vcs import Repository
from .verifier import Finding, Report, broken_link, last_verified, verify

__all__ = ["restore"]

_COST = re.compile(rb'"domain":"[a-z]+","cost":([0-9]{1,9}),')


def restore(root: Path, tag: str, actor: str) -> str:
    """
    Go back to the last state that verifies; a sentence that says what was done.

    The branch moves there, the surface files in the work tree become those of that state, and a row is written.
    Killed at any point, the next call finishes it.

    :param actor: who decided it.
    :raises JournalError: when no state verifies, a session is at work, or HEAD is on another branch.
    """
    repository = Repository(root)
    directory = root / ".autoresearch" / tag
    journal = Journal(directory, remember_heads(repository, tag))
    with journal.lock():
        found = verify(root, tag)
        # What every start does first, and after a kill it may be all that is needed.
        with contextlib.suppress(JournalError, LedgerError, OSError, ValueError):
            recover(journal, repository, tag)
            _remember_again(journal, repository, tag)
        report = verify(root, tag)
        broken = broken_link(report, None)
        if broken is None:
            return "the campaign verifies: there is nothing to restore"
        state = last_verified(report)
        if state is None:
            # The row of a torn end may stand where git remembers one that a restore, cut short, gave up.
            report, state = found, last_verified(found)
        if state is None:
            raise JournalError(
                f"no state of campaign {tag!r} verifies ({broken}): put '.autoresearch/{tag}' and the "
                "repository back from a copy, or start a campaign of another name"
            )
        if repository.branch() != report.branch:
            raise JournalError(
                f"HEAD is not on the campaign's branch: `git switch {report.branch}` first"
            )
        if not report.whole:
            _cut_back(journal, report)
        _record(journal, repository, tag, state, reason=str(broken), actor=actor)
    return (
        f"restored: the campaign stands on {state.commit[:12]} again, finding {state.seq}; the next session "
        "measures it anew"
    )


def _remember_again(journal: Journal, repository: Repository, tag: str) -> None:
    """
    Finish a restore that was killed behind its row: git still remembers the heads that it gave up.

    One of them at least is a row of the files that the last row says it set aside; any other heads stay.
    """
    *_, (_, last) = journal.cutovers()
    blob = repository.ref(f"refs/autoresearch/{tag}/heads")
    if not isinstance(last.payload, Restore) or blob is None:
        return
    aside = {
        hashlib.sha256(line).hexdigest()
        for name in last.payload.aside
        for line in (journal.directory / name).read_bytes().splitlines(keepends=True)
    }
    remembered = repository.read_blob(blob).decode("ascii", "replace").splitlines()
    if any(line.rpartition(":")[2] in aside for line in remembered):
        remember_heads(repository, tag)(journal.heads())


def _cut_back(journal: Journal, report: Report) -> None:
    """Keep the ledgers as they are aside, and let them end behind the last change that holds."""
    directory = journal.directory
    numbers = [int(path.name[6:]) for path in directory.glob("aside-[0-9]*")]
    aside = directory / f"aside-{max(numbers, default=0) + 1:04d}"
    aside.mkdir()
    ledgers = [ledger.path for ledger in (journal.source, journal.cutover) if ledger.path.is_file()]
    for path in ledgers:
        shutil.copyfile(path, aside / path.name)
        sync_file(aside / path.name)
    sync_directory(aside)
    for path in ledgers:
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(path.read_bytes()[: report.cut.get(path.stem, 0)])
        sync_file(temporary)
        temporary.replace(path)
        sync_directory(directory)


def _record(
    journal: Journal, repository: Repository, tag: str, state: Finding, *, reason: str, actor: str
) -> None:
    before = journal.state()
    tip = repository.head_commit()
    pin = restore_point(tag, tip)
    repository.pin(pin, tip)
    files = repository.read_surface(state.commit, before.surface)
    entries = repository.surface_entries(state.commit, before.surface)
    known = journal.source.path.read_bytes() + journal.cutover.path.read_bytes()
    found = {
        str(path.relative_to(journal.directory)): path.read_bytes()
        for path in sorted(journal.directory.glob("aside-[0-9]*/*.jsonl"))
        if path.relative_to(journal.directory).as_posix().encode() not in known
    }
    payload = Restore(
        started=now(),
        ended=now(),
        actor=actor,
        harness_tree=state.harness[1],
        data_sha256=state.data,
        versions={"python": platform.python_version(), "pytest-autoresearch": __version__},
        reason=reason[:2000],
        commit_before=tip,
        commit=state.commit,
        restore_seq=state.seq,
        candidate=surface_digest(files),
        surface={path: oid for path, (_, oid) in entries.items()},
        ratified=state.harness[0],
        tree=state.harness[1],
        pinned=state.pinned,
        discarded=tuple(_unknown(repository, tag, known)),
        aside={name: hashlib.sha256(content).hexdigest() for name, content in found.items()},
        cost=_charged(found, known),
    )
    intent = Intent(
        action="rollback",
        branch=before.branch,
        tip=tip,
        tree=repository.tree_of(tip),
        surface=dict(before.surface),
        pin=pin,
        target=state.commit,
    )
    acts, undo = stock_acts(repository), stock_undo(repository)
    journal.transact(intent, payload, acts["rollback"], undo)


def _unknown(repository: Repository, tag: str, known: bytes) -> list[str]:
    """Commits that are pinned as restore points and named by no row that is left."""
    pins = repository.pins(restore_point(tag, "").rstrip("/"))
    commits = [pin.rpartition("/")[2] for pin in pins]
    return [commit for commit in commits if commit.encode("ascii", "replace") not in known]


def _charged(found: dict[str, bytes], known: bytes) -> int:
    """Units that the rows given up had charged, by the ledger that says more; a row set aside twice counts once."""
    kept = set(known.splitlines(keepends=True))
    lost: dict[str, set[bytes]] = {}
    for name, content in found.items():
        rows = {line for line in content.splitlines(keepends=True) if line.endswith(b"\n")}
        lost.setdefault(Path(name).name, set()).update(rows - kept)
    costs = {name: [_COST.search(line) for line in lines] for name, lines in lost.items()}
    return max((sum(int(cost[1]) for cost in each if cost) for each in costs.values()), default=0)
