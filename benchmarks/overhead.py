"""
What the plugin costs: unused against absent, a whole session against a bare training run, and the sandbox.

    python benchmarks/overhead.py

The sandbox costs its self-test at session start, what launches cost, and what a training loop loses inside.
Both sides of each ratio alternate within one run, so that a busy machine slows both. Medians. Takes some
three minutes.
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

from pytest_autoresearch.sandbox import (
    Isolation,
    LaunchSpec,
    closed_environment,
    launch,
    python_command,
    self_test,
)

ROOT = Path(__file__).resolve().parents[1]
WALLS = (Isolation.STRONG, Isolation.KERNEL)
LOOP = """
import os, time
import torch
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
optimiser = torch.optim.SGD(model.parameters(), 0.01)
x, y = torch.randn(256, 64), torch.randn(256, 1)
def step():
    optimiser.zero_grad()
    ((model(x) - y) ** 2).mean().backward()
    optimiser.step()
for _ in range(200): step()
steps, began = 0, time.perf_counter()
while time.perf_counter() - began < 2.5:
    step()
    steps += 1
print(steps / (time.perf_counter() - began))
"""


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


def holding() -> list[Isolation]:
    """The levels that hold on this machine."""
    with tempfile.TemporaryDirectory() as name:
        return [level for level in WALLS if not self_test(level, directory=Path(name)).failures]


def self_tests(levels: list[Isolation], repeats: int) -> tuple[list[list[object]], list[float]]:
    """The attack on the sandbox at session start, in a process that has made one before; and the medians."""
    taken: dict[Isolation, list[float]] = {level: [] for level in levels}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(repeats):
            for level in levels:
                taken[level].append(self_test(level, directory=Path(name)).require().seconds)
    medians = [statistics.median(taken[level]) for level in levels]
    rows: list[list[object]] = [
        [f"self-test, {level.value}", f"{1000 * median:.0f} ms", "", ""]
        for level, median in zip(levels, medians, strict=True)
    ]
    return rows, medians


def sandboxed_sessions(
    levels: list[Isolation], self_test_medians: list[float], repeats: int
) -> list[list[object]]:
    """Dry runs of the toy project, whose training takes no time to speak of, at each level against none."""
    sys.path.insert(0, str(ROOT / "tests"))
    from project import Project

    taken: dict[Isolation, list[float]] = {level: [] for level in (Isolation.NONE, *levels)}
    with tempfile.TemporaryDirectory() as name:
        project = Project.create(Path(name) / "project").baseline()
        pytest = [sys.executable, "-P", "-m", "pytest", "-q", "--autoresearch"]
        for _ in range(repeats):
            for level, times in taken.items():
                command = [*pytest, "--autoresearch-dry-run", f"--autoresearch-sandbox={level}"]
                times.append(seconds(command, project.root, expected=(0, 10)))
    none = statistics.median(taken[Isolation.NONE])
    rows: list[list[object]] = []
    for level, median in zip(levels, self_test_medians, strict=True):
        inside = statistics.median(taken[level])
        rows.append(
            [
                f"session, {level.value} / none",
                f"{inside:.2f} s",
                f"{none:.2f} s",
                f"{inside / none:.3f}",
            ]
        )
        added = 1000 * (inside - none - median)
        rows.append(
            [f"session, {level.value}: added beyond its self-test", f"{added:.0f} ms", "", ""]
        )
    return rows


def throughput(levels: list[Isolation], repeats: int) -> list[list[object]]:
    """Optimizer steps per second of a small network, in the sandbox against a bare process."""
    found: dict[Isolation | None, list[float]] = {level: [] for level in (None, *levels)}
    with tempfile.TemporaryDirectory() as name:
        for n in range(repeats):
            for level, rates in found.items():
                directory = Path(name) / f"{n}-{level}"
                directory.mkdir()
                environment = closed_environment(directory, threads=1)
                command = python_command("-c", LOOP)
                if level is None:
                    done = subprocess.run(
                        command, cwd=directory, env=environment, capture_output=True, check=True
                    )
                    rates.append(float(done.stdout))
                    continue
                log = Path(name) / f"{n}-{level}.log"
                spec = LaunchSpec(
                    argv=command,
                    cwd=directory,
                    env=environment,
                    seconds=120,
                    log=log,
                    writable=(directory,),
                    memory_cap_mb=8192,
                    disk_cap_mb=1024,
                    files_cap=10_000,
                    isolation=level,
                )
                with launch(spec) as process:
                    process.wait()
                rates.append(float(log.read_text()))
    bare = statistics.median(found[None])
    return [
        [
            f"training throughput, {level.value} / bare",
            f"{statistics.median(found[level]):.0f} /s",
            f"{bare:.0f} /s",
            f"{statistics.median(found[level]) / bare:.3f}",
        ]
        for level in levels
    ]


def main() -> None:
    """Print the table and the machine it was measured on."""
    os.environ["OMP_NUM_THREADS"] = "1"
    levels = holding()
    tests, medians = self_tests(levels, repeats=30)
    rows = [
        unused(repeats=15),
        session(repeats=5),
        *tests,
        *sandboxed_sessions(levels, medians, repeats=8),
        *throughput(levels, repeats=5),
    ]
    print(tabulate(rows, headers=["what", "with", "against", "ratio"], disable_numparse=True))
    print(
        f"\n{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}; medians, both sides alternating in one run"
    )


if __name__ == "__main__":
    main()
