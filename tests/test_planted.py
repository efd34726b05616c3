"""
Planted worlds, end to end: whole campaigns with a proposer that knows where the leaks are.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import pytest
from observe import state
from project import PYPROJECT, Project
from test_gain import OPEN, judge, kept, states
from test_verdicts import draws

from pytest_autoresearch.charts import GapChart, seed_gaps
from pytest_autoresearch.records import Decision, Watch
from pytest_autoresearch.settings import Charts

PLANTED = Path(__file__).parent / "planted"
GATE = "def test_it_ran(training_run):\n    assert not training_run.crashed, training_run.reason\n"
#: Proposals by number of what is settled (the baseline is the first): a constant, and by how much it grows.
PROPOSER = """\
import re

from pytest_autoresearch import Proposal

PLAN = {plan!r}


def pytest_autoresearch_propose(files, number):
    name, more = PLAN[number - 1]
    grown = lambda found: f"{{name}} = {{int(found[1]) + more}}"
    source = re.sub(rf"\\b{{name}} = (\\d+)", grown, files["train.py"].decode())
    return Proposal({{"train.py": source.encode()}}, f"idea {{number}}")
"""


def campaign(
    root: Path, plan: list[list[tuple[str, str]]], settings: str, gate: str = GATE
) -> Project:
    """A project with the leaks, a baseline and a proposer with a plan."""
    project = Project(root)
    shutil.copytree(PLANTED, root, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "harness_tests").mkdir()
    (root / "harness_tests" / "test_gate.py").write_text(gate)
    (root / "harness_tests" / "conftest.py").write_text(PROPOSER.format(plan=plan))
    text = PYPROJECT.partition("[tool.autoresearch.cusum]")[0].replace("0.10", "0.001") + settings
    (root / "pyproject.toml").write_text(text)
    (root / "program.md").write_text("# Lower val_loss.\n")
    (root / ".gitignore").write_text(
        "__pycache__/\n/data/\n/.autoresearch/\n/results.tsv\n/*.png\n"
    )
    assert project.run("python3", "prepare.py").returncode == 0
    project.git("init", "-q", "-b", "main")
    project.commit("the project")
    return project.baseline()


def test_a_label_leak_through_a_feature_is_traced_reverted_and_forgotten_by_the_chart(
    tmp_path: Path,
) -> None:
    plan = [("STEPS", -8), ("COLUMNS", 1), ("STEPS", 60)]
    settings = "[tool.autoresearch.keep]\nbaseline = 4\n[tool.autoresearch.budget]\ntotal = 1000\n"
    project = campaign(tmp_path / "project", plan, settings)
    result = project.autoresearch("--autoresearch-rounds=3")
    assert result.returncode == 0, result.output

    found = state(project)
    assert [(row.status, row.decision) for row in found.settled[1:]] == [
        ("discard", Decision.REVERT),
        ("quarantine", Decision.REVERT),
        ("keep", Decision.KEEP),
    ]
    leak = found.settled[2]
    story = [reason.message for reason in leak.reasons]
    assert [reason.code for reason in leak.reasons] == [
        "cusum-alarm", "mutation-trace", "verification", "quarantine",
    ]  # fmt: skip
    assert "this candidate (idea 2)" in story[1]
    # The column is filled in after the outcome in every split: only its own power gives it away.
    assert "leans on input column 'x[:, 4]', which alone does better" in story[2]
    assert "COLUMNS = 4" in project.read("train.py")
    assert found.incumbent is not None
    assert found.incumbent.commit == project.head == found.settled[3].commit
    # The sum starts afresh after an alarm: the last keep's step is all there is, and that was verified, too.
    assert len(found.chart) == 1
    assert found.stopped == "3 rounds are done"
    assert project.cutovers()[-1]["kind"] == "stop"
    assert "luck alone would explain at most" in result.output


def test_memorised_validation_rows_are_found_by_the_chart_of_the_audit_gap(tmp_path: Path) -> None:
    """In small steps, without the veto that would stop the first of them: back to that one all the same."""
    honest, leaking = [("STEPS", more) for more in (30, 40, 60, 80)], [("MEMORY", 60)] * 4
    settings = (
        '[tool.autoresearch.keep]\nbaseline = 4\naudit = "off"\n'
        "[tool.autoresearch.cusum]\nverify_sigma = 1000\ninterval = 1\n"
        "[tool.autoresearch.budget]\ntotal = 1000\n"
    )
    project = campaign(tmp_path / "project", [*honest, *leaking], settings)
    result = project.autoresearch("--autoresearch-rounds=8")

    found = state(project)
    rows = found.settled[1:]
    assert all(row.decision is Decision.KEEP for row in rows[:4]), result.output
    alarmed = next(row for row in rows if any(r.code == "cusum-alarm" for r in row.reasons))
    assert "audit gap" in alarmed.reasons[0].message
    assert [row.status for row in rows[4 : alarmed.seq]] == ["quarantine"] * (alarmed.seq - 4)
    assert "traced to" in alarmed.reasons[-1].message
    assert "(idea 5)" in alarmed.reasons[-1].message
    assert "(mutation 4) stands" in alarmed.reasons[-1].message
    log = project.git("log", "--format=%H")
    assert found.settled[4].commit == project.head
    assert not {row.commit for row in found.settled[5:]} & set(log.split()) - {project.head}
    assert "MEMORY = 0" in project.read("train.py")
    # What was quarantined is not measured again for a luckier draw.
    assert [row.reasons[0].code for row in rows[alarmed.seq :]] == ["already-judged"] * (
        8 - alarmed.seq
    )
    # The sum starts afresh; what the baseline's seeds and the honest gaps have taught stays.
    assert [(gap.seq, gap.kept) for gap in found.gaps] == [
        (seq, False) for seq in (0, 0, 1, 2, 3, 4)
    ]


def alarms_at(learned: tuple[float, ...], gaps: list[float]) -> int | None:
    """The first of the kept candidates with these gaps at which the audit-gap chart alarms."""
    n = len(learned)
    watch = Watch(gaps=learned, gaps_kept=(False,) * n, gap_seqs=(0,) * n)
    chart = GapChart(watch, Charts(), scale=0.3)
    return next((n for n, gap in enumerate(gaps, 1) if chart.add(gap, kept=True, seq=n)), None)


def test_a_leak_early_in_a_campaign_is_not_taken_for_the_process() -> None:
    """One leak of six standard deviations after another, after four honest keeps or from the start."""
    honest, leaks = [0.0002, -0.0003, 0.0004, -0.0001], [0.002] * 8
    runs = [(0.3252, 0.3449), (0.3258, 0.3450), (0.3249, 0.3447), (0.3255, 0.3452)]
    learned = seed_gaps(runs)
    assert (len(learned), sum(learned)) == (2, 0)
    assert statistics.stdev(learned) == pytest.approx(statistics.stdev(b - a for a, b in runs))
    assert alarms_at(learned, [*honest, *leaks]) == 7
    assert alarms_at(learned, leaks) == 6
    # The control: without the baseline's seeds the leak itself is all that the chart knows.
    assert alarms_at((), leaks) is None
    # Scatter of the same size is none.
    assert alarms_at(learned, [0.0005, -0.0004, 0.0006, -0.0006, 0.0004, -0.0005] * 20) is None


@pytest.mark.parametrize(
    "runs",
    [[(0.3, 0.4)] * 4, [(0.3, 0.4), (0.31, None)], [(0.3, None)] * 3, [(0.3, 0.4)], []],
    ids=["no noise", "a run without audit", "no audit", "one run", "none"],
)
def test_seeds_that_say_nothing_about_gaps_teach_nothing(
    runs: list[tuple[float | None, float | None]],
) -> None:
    assert seed_gaps(runs) == ()


@pytest.mark.parametrize(
    ("followed", "restored"), [(0.0, 4), (0.015, None)], ids=["leak", "control"]
)
def test_honest_progress_does_not_cover_for_a_leak_behind_it(
    followed: float, restored: int | None
) -> None:
    """
    Over all suspects together, the audit split follows more than half of the way: of the last step it does nothing.

    :param followed: how much of the last step's 0.015 the audit split does follow, when it is verified.
    """
    quiet = (0.0005, -0.0004, 0.0001, 0.0003, -0.0002, 0.0002, -0.0003, 0.0004, 0.0, -0.0001)
    watch = Watch(
        gaps=(*quiet, 0.0006, 0.0006),
        gaps_kept=(*(False,) * 10, True, True),
        gap_seqs=(*(0,) * 10, 1, 4),
        horizon=100,
    )
    history = tuple(kept(seq, at, sigma=0.005) for seq, at in ((0, 0.5), (1, 0.49), (4, 0.48)))
    audits = [0.485] * 2 + [0.485 - followed] * 3
    verdict = judge(
        OPEN,
        incumbent=history[-1].incumbent,
        metric=0.465,
        watch=watch,
        kept=history,
        seq=11,
        rerun=states(s4=[(0.48, 0.485)] * 3),
        **draws([0.4645, 0.4655, 0.465, 0.465, 0.4651], audits),
    )
    assert verdict.alarm is not None
    assert (verdict.alarm.chart, verdict.alarm.suspects) == ("gap", (1, 4, 11))
    over_all = verdict.alarm.verified[0]
    assert over_all.audit_gain is not None
    assert over_all.gain is not None
    assert over_all.audit_gain > 0.5 * over_all.gain
    assert verdict.alarm.culprit == (None if restored is None else 11)
    if restored is not None:
        assert verdict.alarm.restore.seq == restored
