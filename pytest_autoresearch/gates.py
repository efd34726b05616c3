"""
Which gates a session owes, at which stage each runs, and what became of it.

The owed set is structural: every test function that the ratified gate files define, plus whatever the
baseline session collected. A gate that no option, plugin or rename can hide is the base of a true verdict.
"""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from .records import GateResult, Outcome, Stage

__all__ = ["GateBook", "defined_gates", "stage_of"]

_POST = frozenset({"training_run", "evaluation", "leakage_controls"})
_MID = frozenset({"candidate", "budget", "incumbent", "ledger"})
_ORDER = {Stage.PRE: 0, Stage.MID: 1, Stage.POST: 2}
#: Worse outcomes win when a gate reports more than once (reruns, teardown).
_SEVERITY = {
    Outcome.PASSED: 0,
    Outcome.XPASSED: 1,
    Outcome.SKIPPED: 2,
    Outcome.XFAILED: 3,
    Outcome.ERROR: 4,
    Outcome.FAILED: 5,
}


def stage_of(item: pytest.Item) -> Stage:
    """
    The stage of a gate: its ``gate`` marker, else inferred from the fixtures it reaches.

    :raises pytest.UsageError: the marker names no stage.
    """
    marker = item.get_closest_marker("gate")
    if marker is not None and (marker.args or marker.kwargs):
        given = marker.args[0] if marker.args else marker.kwargs.get("stage")
        try:
            return Stage(str(given))
        except ValueError:
            raise pytest.UsageError(
                f"{item.nodeid}: gate({given!r}) is no stage: use 'pre', 'mid' or 'post'"
            ) from None
    names = set(getattr(item, "fixturenames", ()))
    if names & _POST:
        return Stage.POST
    return Stage.MID if names & _MID else Stage.PRE


def defined_gates(
    root: Path,
    harness: Sequence[str],
    files: Iterable[str],
    patterns: Sequence[str],
    contents: Mapping[str, bytes] = MappingProxyType({}),
) -> dict[str, str]:
    """
    Test functions that the ratified gate files define, by their syntax: node id to file.

    :param files: paths of the ratified tree.
    :param patterns: pytest's ``python_files``.
    :param contents: ratified content by path, which counts instead of the file.
    """
    found: dict[str, str] = {}
    for path in sorted(files):
        inside = any(path == top or path.startswith(f"{top}/") for top in harness)
        if not inside or not any(_matches(path, pattern) for pattern in patterns):
            continue
        try:
            source = contents[path] if path in contents else (root / path).read_bytes()
            tree = ast.parse(source, filename=path)
        except (SyntaxError, ValueError):
            # Nothing will be collected from it, and pytest says why: it is owed as a whole.
            found[path] = path
            continue
        for name in _test_names(tree.body):
            found[f"{path}::{name}"] = path
    return found


def _matches(path: str, pattern: str) -> bool:
    """As pytest matches ``python_files``: a pattern with a slash is held against the whole path."""
    if "/" in pattern:
        return fnmatch.fnmatch(f"/{path}", f"*/{pattern}")
    return fnmatch.fnmatch(path.rpartition("/")[2], pattern)


def _without_parameters(nodeid: str) -> str:
    """The test function behind a node id, whatever brackets file name and parameters hold."""
    path, separator, name = nodeid.partition("::")
    return path + separator + name.partition("[")[0]


def _test_names(body: Sequence[ast.stmt]) -> Iterable[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test"
        ):
            yield node.name
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for name in _test_names(node.body):
                yield f"{node.name}::{name}"


class GateBook:
    """
    The outcomes of one session, against the set of gates it owes.

    :param owed: node ids without parameters that must appear (:func:`defined_gates`).
    :param pinned: full node ids that the baseline session collected; empty before it.
    """

    def __init__(self, owed: Mapping[str, str], pinned: Iterable[str]) -> None:
        self._owed = owed
        self._pinned = frozenset(pinned)
        self._results: dict[str, GateResult] = {}
        self._stages: dict[str, Stage] = {}
        self._places: dict[str, Path] = {}
        self._called: set[str] = set()
        self.failed_stage: Stage | None = None

    def collected(self, items: Sequence[pytest.Item]) -> None:
        """
        Register what was collected, before any option or plugin removes something.

        :raises pytest.UsageError: two gates of different files have one node id, so that one would be dropped.
        """
        for item in items:
            other = self._places.setdefault(item.nodeid, item.path)
            if other != item.path:
                raise pytest.UsageError(
                    f"two gates are called {item.nodeid!r}, in {str(other)!r} and in {str(item.path)!r}: node ids "
                    "of gate packs begin at the package; rename one of the files"
                )
            self._stages[item.nodeid] = stage_of(item)

    def order(self, items: list[pytest.Item]) -> None:
        """Sort by stage, stable within one, and drop repeated collections of one gate."""
        unique = {item.nodeid: item for item in items}
        items[:] = sorted(unique.values(), key=lambda item: _ORDER[self.stage(item.nodeid)])

    def stage(self, nodeid: str) -> Stage:
        """The stage of a collected gate."""
        return self._stages.get(nodeid, Stage.PRE)

    def blocked_by(self, nodeid: str) -> Stage | None:
        """The failed stage that keeps this gate from running, if any."""
        failed = self.failed_stage
        return failed if failed and _ORDER[self.stage(nodeid)] > _ORDER[failed] else None

    def report(self, report: pytest.TestReport, message: str) -> None:
        """Take in one phase of a gate; the worst phase counts."""
        outcome = _outcome(report)
        if report.when == "call":
            self._called.add(report.nodeid)
        stage = self.stage(report.nodeid)
        if outcome in (Outcome.FAILED, Outcome.ERROR) and (
            self.failed_stage is None or _ORDER[stage] < _ORDER[self.failed_stage]
        ):
            self.failed_stage = stage
        before = self._results.get(report.nodeid)
        seconds = report.duration + (before.seconds if before else 0.0)
        if before and _SEVERITY[before.outcome] >= _SEVERITY[outcome]:
            outcome, message = before.outcome, before.message
        self._results[report.nodeid] = GateResult(report.nodeid, stage, outcome, message, seconds)

    def results(self) -> tuple[GateResult, ...]:
        """Every gate that was owed or collected, in stage order."""
        found = dict(self._results)
        for nodeid, stage in self._stages.items():
            if nodeid not in found:
                found[nodeid] = GateResult(
                    nodeid, stage, Outcome.DESELECTED, "collected but not run"
                )
            elif found[nodeid].outcome is Outcome.PASSED and nodeid not in self._called:
                found[nodeid] = GateResult(
                    nodeid, stage, Outcome.MISSING, "set up, but its test never ran"
                )
        bare = {_without_parameters(nodeid) for nodeid in self._stages}
        for nodeid in self._owed:
            if nodeid not in bare:
                found[nodeid] = GateResult(nodeid, Stage.PRE, Outcome.MISSING, "never collected")
        for nodeid in self._pinned - self._stages.keys():
            if nodeid not in found:
                found[nodeid] = GateResult(
                    nodeid, Stage.PRE, Outcome.MISSING, "the baseline session had it"
                )
        return tuple(sorted(found.values(), key=lambda gate: _ORDER[gate.stage]))

    def complete(self) -> bool:
        """Whether there are gates and exactly all of them passed."""
        results = self.results()
        return bool(results) and all(gate.outcome is Outcome.PASSED for gate in results)


def _outcome(report: pytest.TestReport) -> Outcome:
    if hasattr(report, "wasxfail"):
        return Outcome.XFAILED if report.skipped else Outcome.XPASSED
    if report.passed:
        return Outcome.PASSED
    if report.skipped:
        return Outcome.SKIPPED
    return Outcome.FAILED if report.when == "call" else Outcome.ERROR
