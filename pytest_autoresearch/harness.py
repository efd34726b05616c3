"""
The Fixed Harness: everything outside the mutation surface equals the ratified tree, or nothing runs.

Compared is content, read from the work tree as it is, with object ids of the ratified tree: index bits
(skip-worktree, assume-unchanged), filters and time stamps have no say. Reported besides are files that the
ratified tree does not hold but that would take effect: a conftest, an ini file, an importable module, ...

What is covered: the project's root and everything below it that a session could import or read.
What is not covered: the interpreter's own site-packages, and plugins that pytest itself loads before any
hook runs (``-p`` in an ini file). Against an adversary who owns the work tree, keep the candidate apart:
``--autoresearch-candidate``.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .records import FixedHarnessViolation

__all__ = ["Breach", "breaches", "halt_message", "require_intact"]

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
_IMPORTABLE = (".py", ".pyc", ".pyd", ".so", ".pth")
_MAX_FILES = 500_000


@dataclass(frozen=True)
class Breach:
    """One way in which the work tree departs from the ratified harness."""

    path: str
    what: str
    """``changed``, ``deleted``, ``added``, ..."""
    remedy: str


def breaches(
    root: Path,
    ratified: Mapping[str, tuple[str, str]],
    *,
    hash_blob: Callable[[bytes], str],
    surface: frozenset[str],
    harness: tuple[str, ...],
    own: tuple[str, ...] = (),
) -> Iterator[Breach]:
    """
    Compare the work tree with the ratified tree.

    :param ratified: path to (mode, object id) of every blob of the ratified tree.
    :param hash_blob: git's object id of a content.
    :param surface: paths the agent may alter; they are not compared.
    :param harness: directories of gates, in which any foreign file counts.
    :param own: directories that belong to the harness's own run-time state (data, run directory).
    """
    for path, (mode, oid) in ratified.items():
        if path in surface or mode == "160000":
            continue
        found = _content(root / path, mode)
        if found is None:
            yield Breach(path, "deleted or replaced", f"git restore --source=HEAD -- {path}")
        elif hash_blob(found) != oid:
            yield Breach(path, "changed", f"git restore --source=HEAD -- {path}")
    folded = {path.casefold(): path for path in surface}
    for path in _walk(root, own):
        if path in ratified or path in surface:
            continue
        if path.casefold() in folded:
            yield Breach(path, f"a case variant of {folded[path.casefold()]}", f"remove {path}")
        elif _takes_effect(root, path, harness):
            yield Breach(path, "added", f"move {path} away")


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
        + "\n".join(lines)
        + "\n  Nothing was imported or run. If a person meant the change: commit it, then "
        "`autoresearch ratify --reason '...'`."
    )


def _content(path: Path, mode: str) -> bytes | None:
    """The bytes behind a ratified path, None when it is not the kind of file that was ratified."""
    try:
        info = path.lstat()
        if mode == "120000":
            return os.readlink(os.fsencode(path)) if stat.S_ISLNK(info.st_mode) else None
        return path.read_bytes() if stat.S_ISREG(info.st_mode) else None
    except OSError:
        return None


def _walk(root: Path, own: tuple[str, ...]) -> Iterator[str]:
    """
    Every file below the root as a POSIX path, without the git directory, the environment and our own state.

    Ignore rules are not consulted: whoever writes the tree also writes them.
    """
    skipped = {root / ".git", Path(sys.prefix), *(root / path for path in own)}
    seen = 0
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            path = Path(entry.path)
            seen += 1
            if seen > _MAX_FILES:
                raise FixedHarnessViolation(
                    f"the work tree holds more than {_MAX_FILES} files, too many to check: move data and "
                    "environments out of it"
                )
            if path in skipped:
                continue
            relative = path.relative_to(root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                if entry.name == ".git":
                    yield f"{relative}/HEAD"
                elif entry.name != "__pycache__":
                    pending.append(path)
            elif entry.is_symlink() and (path / "__init__.py").exists():
                yield f"{relative}/__init__.py"
            else:
                yield relative


def _takes_effect(root: Path, path: str, harness: tuple[str, ...]) -> bool:
    """Whether a file that nobody ratified could change what a session does."""
    parts = path.split("/")
    name = parts[-1].casefold()
    if name in _OBEYED or name.endswith(".pth") or ".git" in parts:
        return True
    if any(path == top or path.startswith(f"{top}/") for top in harness):
        return True
    if name == "entry_points.txt":
        # Metadata beside the sources is read when the root stands on sys.path: a plugin without an install.
        return "pytest11" in (root / path).read_text(encoding="utf-8", errors="replace")
    # The root may stand on sys.path (`python -m pytest`): a module or package there shadows imports. A
    # directory without __init__ is a namespace package, which never wins over a real module.
    if len(parts) == 1:
        return name in _ROOT_INI or name.endswith(_IMPORTABLE)
    return len(parts) == 2 and name.startswith("__init__.")
