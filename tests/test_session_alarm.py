"""An improbable jump that is honest: verified in the same session, admitted again, and told as a story."""

from __future__ import annotations

from observe import journal, state
from project import Project


def test_a_large_honest_gain_is_verified_and_admitted_again(project: Project) -> None:
    project.edit("STEPS = 60", "STEPS = 8")
    project.commit("a poor start")
    project.baseline()
    project.edit("STEPS = 8", "STEPS = 120")

    result = project.autoresearch()

    assert result.returncode == 0, result.output
    (row,) = [cutover.payload for _, cutover in journal(project).cutovers()][-1:]
    assert [reason.code for reason in row.reasons] == [
        "gain", "cusum-alarm", "mutation-trace", "verification", "re-admitted",
    ]  # fmt: skip
    assert "implausible progress" in row.reasons[1].message
    assert row.reasons[3].message.count("holds on") == 2
    # Screening run, the confirming one or ones, and three that verify: all fresh seeds.
    assert len({run.seed for run in row.runs}) == len(row.runs) >= 5
    assert row.alarm.culprit is None
    found = state(project)
    assert found.incumbent is not None
    assert found.incumbent.commit == project.head
    # The reference rests on every fresh run, and the sum starts afresh.
    assert found.incumbent.n == len(row.runs) - 1
    assert found.chart == ()
    assert "re-admitted: every suspect holds" in result.stdout
