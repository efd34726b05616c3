"""Cohorts, the harm test and outputs in whole sessions, and the printed interface for people."""

from __future__ import annotations

import argparse

import pytest
from project import Project

from pytest_autoresearch.agents import build_prompt
from pytest_autoresearch.cli import main
from pytest_autoresearch.commands import opened
from pytest_autoresearch.task import Task, TaskError

FASTER = ("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.5")


@pytest.fixture(scope="module")
def asked(measured_template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A measured project whose sessions have asked for every column already."""
    return measured_template.copy(tmp_path_factory.mktemp("asked") / "project")


def cohorts(project: Project, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(project.root)
    return main(["cohorts", *arguments])


def test_the_log_of_the_baseline_session_is_that_of_the_gates(measured_template: Project) -> None:
    log = measured_template.read(".autoresearch/queries.jsonl")
    assert log.count('"kind":"query"') == 2
    assert '"by":["sex"]' in log
    assert '"by":["race"]' in log


def test_a_table_is_printed_and_counts_from_then_on(
    asked: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = asked.read(".autoresearch/queries.jsonl").count('"kind":"query"')
    assert cohorts(asked, monkeypatch, "--by", "sex, race", "--measures", "n") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("sex = ") and ", race = " in line for line in lines)
    after = asked.read(".autoresearch/queries.jsonl").count('"kind":"query"')
    assert after == before + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--by", "row_id"),
            "SYSTEM HALT: Agent attempted individual-level retrieval. RBAC restricts",
        ),
        (("--by", "income"), "'income' is not a cohort column: choose from sex, race"),
        (("--by", "sex", "--measures", "max"), "'max' is not a measure"),
        (
            ("--by", "sex", "--epsilon", "3"),
            "PRIVACY BUDGET EXHAUSTED. Requested epsilon 3, remaining 1.",
        ),
    ],
)
def test_what_is_refused_says_why(
    asked: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert cohorts(asked, monkeypatch, *arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_an_agent_is_told_the_tables_that_people_chose(measured: Project) -> None:
    prompts = []
    for shown in ("[]", '[["sex"], ["sex", "race"]]'):
        text = measured.read("pyproject.toml").partition("\n[tool.autoresearch.cohorts]")[0]
        measured.write("pyproject.toml", f"{text}\n[tool.autoresearch.cohorts]\nshown = {shown}\n")
        commit = measured.commit("what an agent is told")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(measured.root)
            with opened.campaign(argparse.Namespace(tag=None)) as campaign:
                campaign.use_harness(commit)
                prompts.append(build_prompt(campaign, []))
    assert "sex = F" not in prompts[0]
    section = prompts[1][prompts[1].index("## Cohorts") :]
    assert "| sex = F: n " in section
    assert "| sex = F, race = White: n " in section
    assert "positive_rate 0." in section


# -- whole sessions -----------------------------------------------------------------


def test_a_protected_name_costs_no_training(measured: Project) -> None:
    runs = measured.root / ".autoresearch/main/runs"
    before = len(list(runs.iterdir()))
    measured.edit(*FASTER)
    measured.edit(
        "    x, y = load_train()", '    x, y = load_train()\n    setattr(np, "s" + "ex", 1)'
    )
    result = measured.autoresearch()
    assert result.returncode == 1
    assert "what is protected: it mentions 'sex'" in result.output
    assert len(list(runs.iterdir())) == before


def test_without_a_wall_nothing_is_kept_that_claims_one(project: Project) -> None:
    project.edit('writes = "unchecked"\n', "", "pyproject.toml")
    project.commit("a claim")
    result = project.autoresearch()
    assert result.returncode == 1, result.output
    assert (
        "writes = 'none' does not hold: at isolation level 'none' the kernel keeps no file from a run"
        in result.output
    )
    assert "or declare [tool.autoresearch.harm] writes = 'unchecked'" in result.output
    assert not (project.root / ".autoresearch/main/runs").exists()


def test_predictions_by_the_person_are_no_metrics(measured: Project) -> None:
    # The evaluation of a project whose own prepare.py gives decisions away.
    task = Task(measured.root, source=measured.read("prepare.py").encode())
    labels = task.labels("val")
    honest = task.evaluate(labels * 0.5 + 0.25, labels, task.cohorts("val"))
    assert set(honest) == {"val_loss", "accuracy"}
    source = measured.read("prepare.py").replace(
        '"accuracy": float',
        '**{f"person_{i}": p for i, p in enumerate(predictions)}, "accuracy": float',
    )
    task = Task(measured.root, source=source.encode())
    with pytest.raises(
        TaskError, match="there are 1502 metrics, 64 may be: figures of individuals"
    ):
        task.evaluate(labels * 0.5 + 0.25, labels, task.cohorts("val"))


def test_of_a_kept_candidate_only_the_model_is_left_and_only_its_branch_moves(
    measured: Project,
) -> None:
    main_before = measured.git("rev-parse", "main")
    measured.edit(*FASTER)
    measured.edit(
        "    save_model(weights)\n",
        "    save_model(weights)\n"
        '    Path(os.environ["AUTORESEARCH_OUT"], "advice.csv").write_text("person,advice\\n17,deny\\n")\n',
    )
    result = measured.autoresearch()
    assert result.returncode == 0, result.output
    assert measured.git("rev-parse", "main") == main_before
    assert measured.git("rev-parse", "autoresearch/main") != main_before
    harness = measured.root / ".autoresearch"
    left = [path for path in harness.rglob("*") if path.is_file() and "proposals" not in path.parts]
    assert any(path.name == "model.pt2" for path in left)
    assert not [
        path for path in left if path.name == "advice.csv" or b"17,deny\n" in path.read_bytes()
    ]
