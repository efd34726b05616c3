"""
How much memory a run may have where nobody has said: most of what this machine, or this container, has.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["memory_limit_mb"]

SHARE = 0.8
"""The rest is the harness's and the machine's own."""
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Of a control group, version 2 and version 1."""


def memory_limit_mb(configured: int | None, groups: Path = Path("/sys/fs/cgroup")) -> float:
    """
    MiB of resident memory that a run may have: as configured, else 80 % of what there is.

    :param groups: where control groups are mounted.
    """
    if configured is not None:
        return configured
    present = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for directory in (groups, *_own_groups(groups)):
        for name in _LIMITS:
            try:
                text = (directory / name).read_text("ascii").strip()
            except OSError:
                continue
            if text.isdigit():  # "max" is no limit
                present.append(int(text))
    return SHARE * min(present) / 2**20


def _own_groups(groups: Path) -> list[Path]:
    """The directory of this process's control group, and those above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text("ascii", errors="replace").splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    path = groups / own
    return [path, *path.parents][: len(Path(own).parts) + 1] if own else []
