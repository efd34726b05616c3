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
    from ..trials.bench import Trial

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
            print(_trial_line(trial), flush=True)
        found = findings(control, trials)
    print()
    for each in found:
        print(f"{each.word:<9}  {each.gate}{each.reason and ': '}{each.reason}")
    print(f"\n{_summary([each.word for each in found])}")
    return 1 if any(each.word == "WRONG" for each in found) else 0


def _trial_line(trial: Trial) -> str:
    assert trial.plant is not None
    if trial.skipped:
        return f"not tried    {trial.plant.name}: {trial.skipped}"
    return f"{'stopped' if trial.stopped else 'NOT STOPPED':<11}  {trial.plant.name}"


def _summary(words: list[str]) -> str:
    return (
        f"{len(words)} gates: {words.count('ok')} pass the incumbent and were seen to fail, "
        f"{words.count('not tried')} could not be tried, {words.count('not shown')} were not seen to fail, "
        f"{words.count('WRONG')} are wrong"
    )
