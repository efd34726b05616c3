"""
``autoresearch doctor``: what holds on this machine, and whether the project's gates can fail.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from . import opened

if TYPE_CHECKING:
    from ..trials.bench import Finding

HELP = "which isolation levels hold on this machine; with --gates: whether this project's gates can fail"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which of the two."""
    opened.tag_argument(parser)
    parser.add_argument(
        "--gates",
        action="store_true",
        help="plant violations in a clone of this project: each must make its gate fail, and the incumbent, "
        "trained once, must pass them all",
    )


def run(options: argparse.Namespace) -> int:
    """Try every level, or every gate, out."""
    return _gates(options) if options.gates else _levels()


def _levels() -> int:
    from ..sandbox.survey import explain, survey

    with TemporaryDirectory(prefix="autoresearch-doctor-") as directory:
        found = survey(Path(directory))
    for line in explain(found):
        print(line)
    return 0


def _gates(options: argparse.Namespace) -> int:
    from ..trials.bench import Bench, findings

    with (
        opened.campaign(options) as campaign,
        TemporaryDirectory(prefix="autoresearch-gates-") as room,
    ):
        bench = Bench(campaign, Path(room))
        control = bench.control()
        if control.skipped:
            print(f"the incumbent cannot be judged at all: {control.skipped}")
            return 1
        trials = []
        for trial in bench.trials():
            trials.append(trial)
            print(f"{_word(trial):<12} {trial.plant.name if trial.plant else ''}", flush=True)
        found = findings(control, trials)
    print()
    for each in found:
        print(_line(each))
    wrong = [each for each in found if each.wrong]
    unshown = [each for each in found if not each.wrong and not each.failed_on]
    print(
        f"\n{len(found)} gates: {len(found) - len(wrong) - len(unshown)} pass the incumbent and stop what they "
        f"are for, {len(unshown)} pass it and were not seen to fail, {len(wrong)} are wrong"
    )
    return 1 if wrong else 0


def _word(trial: object) -> str:
    from ..trials.bench import Trial

    assert isinstance(trial, Trial)
    if trial.skipped:
        return "not tried"
    assert trial.plant is not None
    failed = {node.rpartition("::")[2].partition("[")[0] for node in trial.failed()}
    return "stopped" if failed.issuperset(trial.plant.gates) else "NOT STOPPED"


def _line(found: Finding) -> str:
    if not found.passes:
        return f"WRONG      {found.gate}: fails on the incumbent: {found.message}"
    if found.missed:
        return f"WRONG      {found.gate}: passes {', '.join(map(repr, found.missed))}"
    if not found.failed_on:
        return f"not shown  {found.gate}: {found.not_tried}"
    return f"ok         {found.gate}"
