"""
Early kill in a campaign: a whole session that stops a run, and the mutations whose curve is not believed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from observe import journal, last_codes, state
from project import Project

from pytest_autoresearch.early_kill import same_loss
from pytest_autoresearch.mutation import classify
from pytest_autoresearch.rows import Verdict


def learn_from(project: Project, proposals: int) -> None:
    """Let the ledgers hold as many more discarded proposals: the worse their curve, the worse their metric."""
    ledgers = journal(project)
    incumbent = ledgers.state().incumbent
    assert incumbent is not None
    assert incumbent.metric is not None
    assert incumbent.sigma is not None
    *_, (_, intent) = ledgers.intents()
    *_, (_, cutover) = ledgers.cutovers()
    verdict = cutover.payload
    assert isinstance(verdict, Verdict)
    curve = next(payload.runs[0].curve for _, row in ledgers.cutovers() if (payload := row.payload))
    for number in range(proposals):
        worse = 3 * number * incumbent.sigma
        metric = incumbent.metric + worse + (-1) ** number * incumbent.sigma / 10
        run = msgspec.structs.replace(
            verdict.runs[0],
            curve=tuple((share, loss + worse) for share, loss in curve),
            metric=metric,
        )
        past = msgspec.structs.replace(
            verdict,
            candidate=f"{number:064x}",
            fingerprint=f"{number:064x}",
            cost=0,
            budget_before=verdict.budget_after,
            runs=(run,),
            metric=metric,
        )
        with ledgers.lock():
            ledgers.transact(
                msgspec.structs.replace(intent, cost=0), past, lambda *_: "", lambda *_: None
            )


def test_a_run_beyond_recovery_is_stopped_and_discarded(project: Project, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    project.edit(
        "    loss = -np.mean",
        f"    if Path({str(slow)!r}).exists():\n        import time; time.sleep(0.03)\n    loss = -np.mean",
    )
    project.commit("a run that takes its time")
    project.baseline()
    slow.touch()
    project.edit("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.0005")
    # Control: without a past the same run goes on to its end.
    first = project.autoresearch()
    assert first.returncode == 10, first.output
    assert last_codes(project) == ["no-gain"]
    learn_from(project, 12)
    project.edit("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.0004")

    result = project.autoresearch()

    assert result.returncode == 10, result.output
    row = project.cutovers()[-1]
    assert [reason["code"] for reason in row["reasons"]] == ["pruned"]
    message = row["reasons"][0]["message"]
    assert message.startswith("stopped at ")
    assert "worth confirming" in message
    assert message in result.stdout
    assert project.results()[-1]["status"] == "discard"
    (run,) = row["runs"]
    assert run["status"] == "pruned"
    assert run["metric"] is None
    assert run["artifact_sha256"] == ""
    assert 0.3 <= run["curve"][-1][0] < 1
    post = {gate["outcome"] for gate in row["gates"] if gate["stage"] == "post"}
    others = {gate["outcome"] for gate in row["gates"] if gate["stage"] != "post"}
    assert (post, others) == ({"skipped"}, {"passed"})
    assert project.status == ""
    assert state(project).spent == 20


BASE = """\
SMOOTHING = 0.0
STEPS = 60
WIDTH = 8


def loss_function(p, y):
    return cross_entropy(p, y, SMOOTHING)


def layer(x):
    return x * WIDTH


def report(share, loss):
    with open("curve.csv", "a") as file:
        print(share, loss, sep=",", file=file)


def train(x, y):
    for step in range(STEPS):
        report(step / STEPS, loss_function(layer(x), y))


def main():
    train(1, 2)
"""


@pytest.mark.parametrize(
    ("old", "new", "believed"),
    [
        ("WIDTH = 8", "WIDTH = 9", True),
        ("STEPS = 60", "STEPS = 61", True),
        ("x * WIDTH", "x + WIDTH", True),
        ("SMOOTHING = 0.0", "SMOOTHING = 0.1", False),
        ("cross_entropy(p,", "2 * cross_entropy(p,", False),
        ("print(share, loss,", "print(share, loss / 2,", False),
        ("loss_function(layer(x), y))", "loss_function(layer(x), y) / 2)", False),
        ("    train(1, 2)", "    train(1, 3)", False),
    ],
)
def test_a_curve_counts_while_nothing_touches_what_it_means(
    old: str, new: str, believed: bool
) -> None:
    after = BASE.replace(old, new)
    assert after != BASE
    files = {"train.py": after.encode()}

    assert same_loss(classify({"train.py": BASE.encode()}, files), files, {}) is believed


def test_of_a_script_only_its_constants_leave_the_curve_what_it_means() -> None:
    script = "RATE = 0.1\nfile = open('curve.csv', 'a')\nprint(RATE, file=file)\n"
    believed = []
    for new in (script.replace("0.1", "0.2"), script.replace("print(RATE", "print(RATE / 2")):
        files = {"train.py": new.encode()}
        believed.append(same_loss(classify({"train.py": script.encode()}, files), files, {}))

    assert believed == [True, False]
