"""
A campaign that is killed at random moments, again and again, and what becomes of it.

    python benchmarks/crashes.py [--kills 2000] [--seed 1] [--directory DIR]

A real SIGKILL each time, to the session or to its whole process group in turn, at a moment drawn from the length of a
change; the next session goes on with the same campaign. At the end its rows, budget, branch, work tree and `verify`
must be those of a campaign that nobody killed.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Kill, check, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", help="where to work (default: the system's temporary one)")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from kills import kill_at_random, processor_seconds, require_whole

    with tempfile.TemporaryDirectory(prefix="crashes-", dir=options.directory) as directory:
        root, start = Path(directory) / "project", time.monotonic()
        tally = kill_at_random(root, options.kills, options.seed)
        changes = require_whole(root)
    print(
        f"{tally.kills} kills, seed {options.seed}: {changes} changes settled, "
        f"{tally.resolutions['finished']} of them finished by recovery, none lost, none doubled; `verify` says PASS. "
        f"{processor_seconds():.0f} s of processor time, {time.monotonic() - start:.0f} s, {platform.machine()}, "
        f"Python {platform.python_version()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
