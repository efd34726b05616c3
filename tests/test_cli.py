from __future__ import annotations

import sys
from pathlib import Path

from project import Project, Result

AUTORESEARCH = str(Path(sys.executable).with_name("autoresearch"))


def cli(project: Project, *arguments: str) -> Result:
    return project.run(AUTORESEARCH, *arguments)


def test_status_before_anything_says_what_to_run(project: Project) -> None:
    result = cli(project, "status")
    assert result.returncode == 0, result.output
    assert "not measured yet" in result.stdout
    assert "Nothing yet: run `pytest --autoresearch`." in result.stdout


def test_status_shows_incumbent_budget_breaches_and_halts(measured: Project) -> None:
    measured.write("prepare.py", measured.read("prepare.py") + "\n# kinder\n")
    assert measured.autoresearch().returncode == 4
    result = cli(measured, "status")
    assert "100 of 100 units left" in result.stdout
    assert "'prepare.py': changed" in result.stdout
    assert "1 experiments, 1 halts" in result.stdout
    assert "SYSTEM HALT" in result.stdout


def test_verify_passes_an_honest_ledger_and_blocks_an_altered_one(measured: Project) -> None:
    assert cli(measured, "verify").stdout.splitlines()[-1].startswith("PASS: complete chain")
    path = measured.root / ".autoresearch/main/cutover-audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"status":"keep"', b'"status":"kept"'))
    result = cli(measured, "verify")
    assert result.returncode == 1
    assert "cutover-audit.jsonl" in result.output


def test_report_rebuilds_the_projections_from_the_ledger(measured: Project) -> None:
    before = measured.read("results.tsv")
    (measured.root / "results.tsv").unlink()
    result = cli(measured, "report")
    assert result.returncode == 0, result.output
    assert measured.read("results.tsv") == before
    assert (measured.root / "progress.png").exists()


def test_ratify_pins_a_harness_that_a_person_committed(measured: Project) -> None:
    measured.edit("at_most = 0.20", "at_most = 0.19", "pyproject.toml")
    assert measured.autoresearch().returncode == 4
    commit = measured.commit("a stricter threshold")
    assert measured.autoresearch().returncode == 4
    assert cli(measured, "ratify").returncode == 2
    result = cli(measured, "ratify", "--reason", "the board decided")
    assert result.returncode == 0, result.output
    row = measured.cutovers()[-1]
    assert (row["kind"], row["reason"], row["commit"]) == ("ratify", "the board decided", commit)
    again = measured.autoresearch()
    assert again.returncode == 0, again.output
    assert "not measured yet" in again.output
    assert cli(measured, "verify").returncode == 0


def test_ratify_refuses_a_work_tree_that_is_not_committed(measured: Project) -> None:
    measured.edit("at_most = 0.20", "at_most = 0.19", "pyproject.toml")
    result = cli(measured, "ratify", "--reason", "in a hurry")
    assert result.returncode == 1
    assert "'pyproject.toml'" in result.output


def test_ratify_does_not_smuggle_a_candidate_in(measured: Project) -> None:
    measured.edit("STEPS = 60", "STEPS = 1000")
    measured.commit("not judged")
    result = cli(measured, "ratify", "--reason", "trust me")
    assert result.returncode == 1
    assert "edits that no session has judged" in result.output
    measured.edit("STEPS = 1000", "STEPS = 60")
    result = cli(measured, "ratify", "--reason", "look, it is gone")
    assert result.returncode == 1
    assert "changes the surface as well" in result.output


def test_outside_a_repository_the_way_out_is_named(project: Project, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    result = Project(tmp_path / "elsewhere").run(AUTORESEARCH, "status")
    assert result.returncode == 1
    assert "git init" in result.output


def test_doctor_tells_what_holds_on_this_machine_outside_any_project(tmp_path: Path) -> None:
    result = Project(tmp_path).run(AUTORESEARCH, "doctor")
    assert result.returncode == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("strong: ")
    assert any(line.startswith("kernel: ") for line in lines)
