"""
Lock files that the git children of a killed session left.

Git locks a ref or the index by creating ``NAME.lock`` and removes it at its end. When a whole process group is
killed, or the power fails, it stays, and every later git refuses. Whoever holds the journal's lock knows that no
other session is at work; a lock on what belongs to the campaign, with no git process at work here, is a dead one's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["remove_dead_locks"]


def remove_dead_locks(root: Path, git_dir: Path, tag: str, *, unfinished: bool) -> None:
    """
    Remove locks on the campaign's refs, on HEAD and on the index, unless some git is at work in the repository.

    :param unfinished: whether a change was begun and not settled. Without one the locks on HEAD and on the index are
        not ours: an editor may hold them by other means than a git process.

    What cannot be removed is left to :meth:`.gitprocess.GitProcess.attempt`, which waits and then names it.
    """
    found = list(_locks(git_dir, tag, unfinished))
    if found and not _git_at_work(root, git_dir):
        for path in found:
            with contextlib.suppress(OSError):
                path.unlink()


def _locks(git_dir: Path, tag: str, unfinished: bool) -> Iterator[Path]:
    shared = git_dir  # of a linked work tree: the main repository's
    with contextlib.suppress(OSError):
        shared = git_dir / (git_dir / "commondir").read_text().strip()
    single = [shared / "refs" / "heads" / "autoresearch" / f"{tag}.lock"]
    if unfinished:
        single += [git_dir / "index.lock", git_dir / "HEAD.lock"]
    yield from (path for path in single if path.is_file())
    yield from (shared / "refs" / "autoresearch" / tag).rglob("*.lock")


def _git_at_work(root: Path, git_dir: Path) -> bool:
    """Whether a git process works in the repository, or one may: what cannot be seen is taken for one."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if not (process / "comm").read_text().startswith("git"):
                continue
            where = (process / "cwd").readlink()
            environment = (process / "environ").read_bytes().split(b"\0")
        except PermissionError:
            return True
        except OSError:
            continue  # it has ended meanwhile
        here = where.is_relative_to(root) or where.is_relative_to(git_dir)
        if here or b"GIT_DIR=" + os.fsencode(git_dir) in environment:
            return True
    return False
