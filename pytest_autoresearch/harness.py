"""
The Fixed Harness: everything outside the mutation surface equals the ratified tree, or nothing runs.

Compared is content, read from the work tree as it is, with object ids of the ratified tree: index bits
(skip-worktree, assume-unchanged), filters, permissions and time stamps have no say. Reported besides are
files that the ratified tree does not hold but that would take effect: a conftest, an ini file, a module
beside ratified ones, ...

Compared twice: before anything of the project takes effect, and again before anything is kept. In between,
imports do not depend on the files (:mod:`.pinned`).

What is covered: the project's root and everything below it that a session could import or read.
What is not covered: the interpreter's own site-packages, the inside of submodules, and what the interpreter
or pytest itself loads before any hook runs: ``-p`` in an ini file, and, where the root is on ``sys.path``
(``python -m pytest``, ``PYTHONPATH``), start-up modules, entry points and shadows of pytest's own imports.
Against an adversary who owns the work tree, keep the candidate apart: ``--autoresearch-candidate``.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .artifact import UntrustedFileError, read_untrusted
from .records import FixedHarnessViolation
from .report.tables import escape

__all__ = ["Breach", "breaches", "discard_bytecode", "halt_message", "is_obeyed", "require_intact"]

#: Obeyed by pytest or the interpreter wherever it stands on their way.
_OBEYED = frozenset({"conftest.py", "sitecustomize.py", "usercustomize.py"})
#: Obeyed in the root directory.
_ROOT_INI = frozenset(
    {
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        ".pytest.toml",
        "tox.ini",
        "setup.cfg",
        "pyproject.toml",
    }
)
_IMPORTABLE = (".py", ".pyc", ".pyd", ".so")
#: What a directory holds that is an environment: pytest collects nothing there.
_ENVIRONMENT = frozenset({"pyvenv.cfg", "conda-meta"})
#: What git takes for a repository, on file systems that fold case or shorten names.
_REPOSITORY = frozenset({".git", "git~1"})
_SUBMODULE = "160000"
_ENTRY_POINTS_CAP = 1 << 20
_MAX_FILES = 500_000


@dataclass(frozen=True)
class Breach:
    """One way in which the work tree departs from the ratified harness."""

    path: str
    what: str
    """``changed``, ``deleted or replaced``, ``added``, ..."""
    remedy: str
    """The command, or the words, that undo it."""


def breaches(
    root: Path,
    ratified: Mapping[str, tuple[str, str]],
    *,
    hash_blob: Callable[[bytes], str],
    surface: frozenset[str],
    harness: tuple[str, ...],
    own: tuple[str, ...] = (),
    commit: str = "HEAD",
) -> Iterator[Breach]:
    """
    Compare the work tree with the ratified tree.

    :param ratified: path to (mode, object id) of every blob of the ratified tree.
    :param hash_blob: git's object id of a content.
    :param surface: paths the agent may alter; they are not compared.
    :param harness: directories of gates, in which any foreign file counts.
    :param own: directories that belong to the harness's own run-time state (data, run directory).
    :param commit: the commit that holds the ratified tree, for the way out.
    """
    restore = f"git restore --ignore-skip-worktree-bits --source={commit} -- "
    directories = _directories(ratified)
    # One system call a file and no path objects: this also runs right before a keep.
    top = os.fspath(root)
    linked = {directory for directory in directories if os.path.islink(f"{top}/{directory}")}  # noqa: PTH114
    for path, (mode, oid) in ratified.items():
        if path in surface or mode == _SUBMODULE:
            continue
        behind_link = linked and not linked.isdisjoint(_parents(path))
        found = None if behind_link else _content(f"{top}/{path}", mode)
        if found is None:
            yield Breach(path, "deleted or replaced", restore + shlex.quote(path))
        elif hash_blob(found) != oid:
            yield Breach(path, "changed", restore + shlex.quote(path))
    folded = {path.casefold(): path for path in surface}
    importable = _import_directories(root, ratified)
    submodules = {f"{path}/.git" for path, (mode, _) in ratified.items() if mode == _SUBMODULE}
    for path, is_link in _walk(root, own, directories):
        if path in ratified or path in surface or path in submodules:
            continue
        if path.casefold() in folded:
            what = f"a case variant of {folded[path.casefold()]!r}"
            yield Breach(path, what, f"rm {shlex.quote(path)}")
        elif _takes_effect(path, harness, importable) or _brings_plugin(root, path, is_link):
            yield Breach(path, "added", f"move {shlex.quote(path)} away")


def require_intact(found: Iterator[Breach]) -> None:
    """
    Halt on the first breaches.

    :raises FixedHarnessViolation: naming the files and the way out.
    """
    first = [breach for _, breach in zip(range(20), found, strict=False)]
    if first:
        raise FixedHarnessViolation(halt_message(first))


def halt_message(found: list[Breach]) -> str:
    """The message of a halt: every file, what happened to it, and the way out."""
    lines = [f"  {breach.path!r}: {breach.what}; to undo: {breach.remedy}" for breach in found]
    return (
        f"the Fixed Harness was touched: {found[0].path!r} {found[0].what}.\n"
        + "\n".join(escape(line) for line in lines)
        + "\n  No gate and no candidate was run. If a person meant the change: commit it, then "
        "`autoresearch ratify --reason '...'`."
    )


def discard_bytecode(root: Path, ratified: Mapping[str, tuple[str, str]]) -> None:
    """
    Remove cached bytecode beside ratified modules, so that what is imported is what was compared.

    Python and pytest trust a cache whose header repeats size and time stamp of its source; whoever writes
    the work tree can forge both. Python makes the caches again.

    :raises FixedHarnessViolation: a cache cannot be removed.
    """
    for directory in _import_directories(root, ratified):
        cache = root / directory / "__pycache__"
        if cache.is_symlink() or not cache.is_dir():
            continue
        for path in cache.glob("*.pyc"):
            if path.is_symlink() or path.is_file():
                try:
                    path.unlink()
                except OSError as error:
                    raise FixedHarnessViolation(
                        f"{str(path)!r} may be forged bytecode and cannot be removed "
                        f"({error.strerror}): remove it"
                    ) from error


def is_obeyed(path: str) -> bool:
    """Whether pytest or the interpreter obeys a file by its name, in any case, wherever it stands."""
    directory, _, name = path.casefold().rpartition("/")
    return name in _OBEYED or name.endswith(".pth") or (not directory and name in _ROOT_INI)


def _parents(path: str) -> set[str]:
    """The directories a path lies in, below the root."""
    return {str(parent) for parent in PurePosixPath(path).parents[:-1]}


def _directories(ratified: Mapping[str, tuple[str, str]]) -> set[str]:
    """Every directory of the ratified tree below the root."""
    # Few directories hold many files: resolve each directory once.
    direct = {path.rpartition("/")[0] for path in ratified} - {""}
    return direct.union(*map(_parents, direct))


def _import_directories(root: Path, ratified: Mapping[str, tuple[str, str]]) -> set[str]:
    """
    Directories in which a foreign module could be imported in place of another one: the root (``python -m
    pytest``), those that hold ratified modules or packages, and those on ``sys.path``.
    """
    found = {""}
    for path in ratified:
        directory, _, name = path.rpartition("/")
        if name.endswith(_IMPORTABLE):
            found.add(directory)
            if name.startswith("__init__."):
                found.add(directory.rpartition("/")[0])
    top = root.resolve()
    for entry in sys.path:
        place = Path(entry).resolve()
        if place != top and place.is_relative_to(top):
            found.add(place.relative_to(top).as_posix())
    return found


def _content(path: str, mode: str) -> bytes | None:
    """The bytes behind a ratified path, None when it is not the kind of file that was ratified."""
    try:
        if mode == "120000":
            # As bytes, and not by pathlib, which would tidy the target up.
            return os.readlink(os.fsencode(path))  # noqa: PTH115
        # A pipe in its place is not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _walk(root: Path, own: tuple[str, ...], ratified: set[str]) -> Iterator[tuple[str, bool]]:
    """
    Every file below the root as a POSIX path, and whether it is a symbolic link, without the git directory,
    environments and our own state.

    Ignore rules are not consulted: whoever writes the tree also writes them. Bytecode caches are passed
    over, see :func:`discard_bytecode`.
    """
    top = os.fspath(root)
    skipped = {".git", *(PurePosixPath(path).as_posix() for path in own)}
    if Path(sys.prefix).is_relative_to(root):
        skipped.add(Path(sys.prefix).relative_to(root).as_posix())
    seen = 0
    pending = [""]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(f"{top}/{directory}") as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            continue
        seen += len(entries)
        if seen > _MAX_FILES:
            raise FixedHarnessViolation(
                f"the work tree holds more than {_MAX_FILES} files, too many to check: move data and "
                "environments out of it"
            )
        # An environment holds conftests and repositories by the dozen, of use to nobody but itself. What
        # stands in it at the top is looked at nonetheless: a marker file must not hide a package.
        foreign = directory != "" and directory not in ratified
        closed = foreign and any(entry.name in _ENVIRONMENT for entry in entries)
        prefix = f"{directory}/" if directory else ""
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if path in skipped:
                continue
            if entry.name.casefold() not in _REPOSITORY and entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__" and not closed:
                    pending.append(path)
            else:
                yield path, entry.is_symlink()


def _takes_effect(path: str, harness: tuple[str, ...], importable: set[str]) -> bool:
    """Whether a file that nobody ratified could change what a session does, by its name."""
    directory, _, name = path.rpartition("/")
    folded = name.casefold()
    if is_obeyed(path) or folded in _REPOSITORY or name == "__pycache__":
        return True
    if any(path == top or path.startswith(f"{top}/") for top in harness):
        return True
    # A directory without __init__ is a namespace package, which never wins over a real module.
    package = folded.startswith("__init__.") and directory.rpartition("/")[0] in importable
    return folded.endswith(_IMPORTABLE) and (package or directory in importable)


def _brings_plugin(root: Path, path: str, is_link: bool) -> bool:
    """
    Whether it is a linked package or directory of tests, or metadata beside the sources, which is read when
    the root stands on ``sys.path``: a plugin without an install.
    """
    if path.endswith("entry_points.txt"):
        try:
            return b"pytest11" in read_untrusted(root / path, cap_bytes=_ENTRY_POINTS_CAP)
        except UntrustedFileError:
            return True
    if not is_link:
        return False
    try:
        names = os.listdir(root / path)  # noqa: PTH208 - entries may be undecodable; names are enough
    except OSError:
        return False
    return any(
        name.casefold() in {*_OBEYED, "entry_points.txt"} or name.startswith("__init__.")
        for name in names
    )
