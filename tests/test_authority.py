"""The authority matrix: every entry is enforced by the code that it names, which is called here for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from project import Project

from pytest_autoresearch.agent_room import AgentError, Shown
from pytest_autoresearch.artifact import take_artifact
from pytest_autoresearch.authority import MATRIX, Actor, Entry, authority_lines, enforcement
from pytest_autoresearch.budget import MutationBudget
from pytest_autoresearch.cli import main
from pytest_autoresearch.compliance.aggregates import aggregates
from pytest_autoresearch.compliance.cohorts import CohortView, QueryRefused
from pytest_autoresearch.config import ConfigurationError, load_settings
from pytest_autoresearch.feedback import public_trials
from pytest_autoresearch.harness import Breach, require_intact
from pytest_autoresearch.protected import protected_problems
from pytest_autoresearch.records import BudgetExhausted, FixedHarnessViolation, Trial
from pytest_autoresearch.settings import Agent, Feedback
from pytest_autoresearch.vcs import Repository


def view() -> CohortView:
    flags = {"flag": ["a"] * 99 + ["b"] * 90 + ["c"], "group": ["ac"] * 99 + ["b"] * 90 + ["ac"]}
    return CohortView(flags, {"positive_rate": [0, 1] * 95})


def see_summaries(_: Path) -> None:
    assert [row.values["n"] for row in view().view("group")] == [100, 90]


def see_trends(_: Path) -> None:
    trial = Trial(1, {}, "a step for jane@example.org", "keep", 0.1234567)
    (told,) = public_trials([trial], [], Feedback())
    assert (told.metric, "jane" in told.description) == (0.1235, False)


def mutate(_: Path) -> None:
    budget = MutationBudget(total_budget=25)
    assert budget.spend("feature", "one").remaining == 5
    with pytest.raises(BudgetExhausted, match="SYSTEM HALT"):
        budget.spend("hyperparameter", "one too many")


def ratify(_: Path) -> None:
    with pytest.raises(FixedHarnessViolation, match="autoresearch ratify"):
        require_intact(iter([Breach("harness_tests/test_a.py", "changed", "git restore")]))


def amend(_: Path) -> None:
    with pytest.raises(ConfigurationError, match="an agent may not alter what judges it"):
        load_settings("[tool.autoresearch]\nsurface = ['train.py', 'pyproject.toml']\n")


def apply(root: Path) -> None:
    Path(root, "repository").mkdir()
    project = Project(root / "repository")
    project.git("init", "-q", "-b", "main")
    project.write("train.py", "A = 1\n")
    first = project.commit("start")
    project.git("switch", "-q", "-c", "autoresearch/main")
    project.write("train.py", "A = 2\n")
    project.git("add", "-A")
    commit = project.git("commit-tree", project.git("write-tree"), "-p", first, "-m", "kept")
    project.git("reset", "-q", "--hard")
    repository = Repository(project.root)
    repository.publish(commit, branch="autoresearch/main", expected_tip=first, paths=("train.py",))
    assert project.git("rev-parse", "autoresearch/main") == commit
    assert project.git("rev-parse", "main") == first


def restore(root: Path) -> None:
    hidden = [root / ".git", root / ".autoresearch", root / "data"]
    for path in hidden:
        path.mkdir()
        with pytest.raises(AgentError, match="may see neither data nor ledgers nor the repository"):
            Shown.choose(Agent(readable=(str(path),)), hidden=hidden, root=root)


def retrieve(_: Path) -> None:
    with pytest.raises(FixedHarnessViolation, match="individual-level retrieval"):
        view().records(17)


def isolate(_: Path) -> None:
    asked = view()
    asked.view("group")
    with pytest.raises(QueryRefused, match="differencing"):
        asked.view("flag")


def decide(_: Path) -> None:
    assert aggregates({"val_loss": np.float32(0.5), "recall_at_5": 1}) == {
        "val_loss": 0.5,
        "recall_at_5": 1.0,
    }
    for given, message in (
        ({"val_loss": 0.5, "approve": np.zeros(3)}, r"'approve' is an array of shape \(3,\)"),
        ({f"person_{i}": 0.5 for i in range(11)}, "11 metrics are called 'person_#'"),
        (
            {f"metric {chr(65 + i // 9)}{'x' * (i % 9)}": 0.5 for i in range(65)},
            "there are 65 metrics",
        ),
        ({"val_loss": 0.5, "decision": "deny"}, "'decision' is str"),
        ([0.5, 0.4], "metrics are list"),
    ):
        with pytest.raises(ValueError, match=message):
            aggregates(given)


def recommend(root: Path) -> None:
    out, kept = root / "out", root / "kept"
    out.mkdir()
    kept.mkdir()
    (out / "model.pt2").write_bytes(b"weights")
    (out / "recommendations.csv").write_text("person,advice\n17,deny\n")
    take_artifact(out, "model.pt2", kept / "model.pt2", cap_bytes=100)
    assert [path.name for path in kept.iterdir()] == ["model.pt2"]


def touch(_: Path) -> None:
    given = {"train.py": b"A = 1\n"}, {"train.py": b"A = 2\nB = sex\n"}
    found = protected_problems(*given, ["sex"], {"A": 1})
    assert found == ("it mentions 'sex'", "A must stay 1, and line 1 makes it 2")


PROBES: dict[str, Callable[[Path], None]] = {
    "see cohort summaries": see_summaries,
    "see aggregate trends": see_trends,
    "mutate the surface within the budget": mutate,
    "ratify the harness": ratify,
    "amend the rules": amend,
    "apply findings": apply,
    "restore an earlier state": restore,
    "retrieve individual records": retrieve,
    "isolate persons by combining answers": isolate,
    "decide about individuals": decide,
    "recommend for specific entities": recommend,
    "touch protected names or values": touch,
}


@pytest.mark.parametrize("entry", MATRIX, ids=lambda entry: entry.action)
def test_every_entry_is_enforced_by_what_it_names(entry: Entry, tmp_path: Path) -> None:
    assert callable(enforcement(entry))
    PROBES[entry.action](tmp_path)


def test_there_is_an_entry_for_each_probe_and_each_actor() -> None:
    assert [entry.action for entry in MATRIX] == list(PROBES)
    assert {entry.actor for entry in MATRIX} == set(Actor)


def test_the_matrix_is_printed_whole_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["status", "--authority"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines() == authority_lines()
    for entry in MATRIX:
        assert entry.action in printed
        assert entry.where in printed
