"""
Gate packs: gates that come with an installed package, for projects that share an organization's rules.

``[tool.autoresearch.packs]`` names each with the SHA-256 of its files. The ratified configuration pins them by that, as
the ratified tree pins the gates in it: another version is another harness, which a person ratifies.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from .records import FixedHarnessViolation

__all__ = ["content_sha256", "pack_directories"]


def pack_directories(packs: Mapping[str, str]) -> tuple[Path, ...]:
    """
    Where the packs lie, each held against its pin.

    :param packs: package name to SHA-256 of its files, as :func:`content_sha256`.
    :raises FixedHarnessViolation: one is not installed, or not the one that was ratified.
    """
    found = []
    for name, pinned in sorted(packs.items()):
        directory = _directory(name)
        digest = content_sha256(directory)
        if digest != pinned:
            raise FixedHarnessViolation(
                f"the gate pack {name!r} is not the one that was ratified: its files have SHA-256 {digest}, "
                f"[tool.autoresearch.packs] names {pinned or 'nothing'!r}. Install the version that was, or read "
                f'the new one, write {name} = "{digest}", commit and `autoresearch ratify`'
            )
        found.append(directory)
    return tuple(found)


def content_sha256(directory: Path) -> str:
    """
    SHA-256 over every file below a directory but bytecode: for each, sorted, its path and its content.

    As :func:`.equivalence.surface_digest` has it: ``LENGTH:PATH`` and ``LENGTH:CONTENT``, lengths in bytes.
    """
    from .equivalence import surface_digest

    return surface_digest(
        {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    )


def _directory(name: str) -> Path:
    spec = find_spec(name)  # of a top-level package: nothing of it is imported
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise FixedHarnessViolation(
            f"the gate pack {name!r} is not installed, and a verdict needs its gates: `pip install` the package "
            "that brings it"
        )
    return Path(places[0]).resolve()
