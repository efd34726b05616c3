"""
What the plugin costs: unused against absent, and a whole session against a bare training run.

    python benchmarks/overhead.py

Both sides of each ratio alternate within one run, so that a busy machine slows both. Medians.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]


def seconds(command: list[str], cwd: Path, expected: tuple[int, ...] = (0,)) -> float:
    """Wall seconds of one command, from spawn to exit."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    elapsed = time.perf_counter() - started
    if done.returncode not in expected:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return elapsed


def unused(repeats: int) -> list[object]:
    """A suite of one trivial test, with the plugin installed but not asked for, and without it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_one.py").write_text("def test_one():\n    assert True\n")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        with_it, without = [], []
        for _ in range(repeats):
            with_it.append(seconds(pytest, directory))
            without.append(seconds([*pytest, "-p", "no:autoresearch"], directory))
    a, b = statistics.median(with_it), statistics.median(without)
    return ["plugin unused / absent", f"{a:.3f} s", f"{b:.3f} s", f"{a / b:.3f}"]


def session(repeats: int) -> list[object]:
    """A whole dry-run session of the unchanged project against ``python train.py``."""
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        shutil.copytree(ROOT / "data", clone / "data")
        pytest = [sys.executable, "-P", "-m", "pytest", "-q", "--autoresearch"]
        if subprocess.run(["git", "symbolic-ref", "-q", "HEAD"], cwd=clone, check=False).returncode:
            subprocess.run(["git", "switch", "-q", "-c", "main"], cwd=clone, check=True)
        seconds(pytest, clone)  # the baseline, so that the next sessions train once
        whole, bare = [], []
        for _ in range(repeats):
            whole.append(seconds(pytest, clone))
            bare.append(seconds([sys.executable, "train.py"], clone))
    a, b = statistics.median(whole), statistics.median(bare)
    return ["whole session / bare train.py", f"{a:.2f} s", f"{b:.2f} s", f"{a / b:.2f}"]


def main() -> None:
    """Print the table and the machine it was measured on."""
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = [unused(repeats=15), session(repeats=5)]
    print(tabulate(rows, headers=["what", "with", "against", "ratio"], disable_numparse=True))
    print(
        f"\n{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}; medians, both sides alternating in one run"
    )


if __name__ == "__main__":
    main()
