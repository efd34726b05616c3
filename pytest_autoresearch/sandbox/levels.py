"""
How the supervised command line is wrapped at each level, and which levels hold on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from . import kernel, strong
from .spec import Isolation, LaunchSpec

__all__ = ["Composition", "compose", "expand"]


class Composition(NamedTuple):
    """What the supervisor does for a program."""

    argv: tuple[str, ...]
    """The command line that it starts: the program's own, or one that wraps it."""
    options: tuple[str, ...] = ()
    """What the launcher does before; empty where it is not needed."""


def compose(spec: LaunchSpec) -> Composition:
    """
    How ``spec`` is started at its level.

    :raises OSError: the level cannot be had here, with the reason and the way out.
    """
    if spec.isolation is Isolation.STRONG:
        return Composition(tuple(strong.bubblewrap_arguments(spec)), tuple(strong.options(spec)))
    if spec.isolation is Isolation.KERNEL:
        return Composition(spec.argv, tuple(kernel.options(spec)))
    if spec.isolation is Isolation.CONTAINER:
        return Composition((*expand(spec), *spec.argv))
    return Composition(spec.argv)


def expand(spec: LaunchSpec) -> Iterator[str]:
    """The user's container launcher with its placeholders filled in."""
    several = {
        "{readonly}": [str(path) for path in dict.fromkeys((*spec.readonly, spec.cwd))],
        "{writable}": [str(path) for path in spec.writable],
        "{env}": [f"{name}={value}" for name, value in spec.env.items()],
        "{device}": [str(path) for path in spec.devices],
    }
    for argument in spec.launcher:
        found = next((name for name in several if name in argument), None)
        if found:
            yield from (argument.replace(found, value) for value in several[found])
        else:
            yield argument.replace("{cwd}", str(spec.cwd))
