"""
The candidate is data: bytes of the mutation surface, read from a work tree, a directory or a revision.

Nothing else that stands there is looked at, and nothing is ever imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .artifact import UntrustedFileError, read_untrusted
from .equivalence import surface_digest
from .records import Candidate

if TYPE_CHECKING:
    from .vcs import Repository

__all__ = ["CandidateError", "make_candidate", "read_candidate", "read_directory"]

#: A surface file is source text that a person can review.
SOURCE_CAP = 1 << 20


class CandidateError(Exception):
    """The candidate cannot be read; the message names the file and the way out."""


def make_candidate(files: Mapping[str, bytes], origin: str) -> Candidate:
    """The candidate that consists of these surface files."""
    return Candidate(files, origin, surface_digest(files))


def read_candidate(
    root: Path, surface: tuple[str, ...], repository: Repository, given: str | None
) -> Candidate:
    """
    Read the surface files of the work tree (``given`` is None), of a directory, or of a git revision.

    :raises CandidateError: a surface file is absent, no plain file, or larger than 1 MiB; or ``given`` is
        neither a directory nor a revision.
    """
    if given is None:
        return make_candidate(read_directory(root, surface), "working tree")
    directory = Path(given)
    if given and directory.is_dir():
        return make_candidate(read_directory(directory, surface), f"directory {given!r}")
    from .vcs import RepositoryError

    try:
        files = repository.read_surface(given, surface)
    except RepositoryError as error:
        raise CandidateError(
            f"--autoresearch-candidate {given!r} is neither a directory nor a readable revision: {error}"
        ) from error
    for path, content in files.items():
        if len(content) > SOURCE_CAP:
            raise CandidateError(
                f"the candidate's surface file {path!r} holds {len(content)} bytes in {given!r}, more than "
                f"the {SOURCE_CAP} allowed: a candidate is source text"
            )
    return make_candidate(files, f"revision {given!r}")


def read_directory(directory: Path, surface: tuple[str, ...]) -> dict[str, bytes]:
    """
    Read the surface files below a directory that somebody else has written.

    :raises CandidateError: see :func:`read_candidate`.
    """
    files = {}
    for path in surface:
        # A symlinked directory on the way would let the surface reach outside.
        for parent in PurePosixPath(path).parents[:-1]:
            if (directory / parent).is_symlink():
                raise CandidateError(
                    f"the candidate's {path!r} lies behind the symlink {str(parent)!r}"
                )
        try:
            files[path] = read_untrusted(directory / path, cap_bytes=SOURCE_CAP)
        except UntrustedFileError as error:
            raise CandidateError(
                f"the candidate's surface file {path!r} cannot be read: {error}; a candidate is plain text "
                f"files (`git restore -- {path}` brings the last kept one back)"
            ) from error
    return files
