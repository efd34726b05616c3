"""
Whole sessions on a real project: what is kept, what is reverted, and what nobody may touch.
"""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

from observe import BETTER, WORSE, difference, last_codes, snapshot, state
from project import LEAN, STOCK, Project


def test_the_first_session_measures_the_baseline_on_a_branch_of_its_own(project: Project) -> None:
    before, train = project.head, project.read("train.py")

    result = project.autoresearch()

    assert result.returncode == 0, result.output
    assert project.git("branch", "--show-current") == "autoresearch/main"
    assert project.head == before == project.git("rev-parse", "main")
    assert project.read("train.py") == train
    assert project.status == ""
    (row,) = project.results()
    assert (row["commit"], row["status"], row["cost"]) == (before, "keep", "0")
    found = state(project)
    assert found.incumbent is not None
    assert found.incumbent.commit == before
    assert found.incumbent.n == 3
    assert found.spent == 0
    assert len(found.gates) == STOCK


def test_a_better_candidate_becomes_one_commit_and_the_incumbent(measured: Project) -> None:
    before = measured.head
    measured.edit(*BETTER)
    candidate = measured.read("train.py")

    result = measured.autoresearch()

    assert result.returncode == 0, result.output
    assert "KEPT: STEPS 60 -> 120" in result.stdout
    # git
    assert measured.git("rev-list", f"{before}..HEAD").split() == [measured.head]
    assert measured.git("rev-parse", "HEAD^") == before
    assert measured.git("diff", "--name-only", before, "HEAD") == "train.py"
    assert measured.status == ""
    assert measured.read("train.py") == candidate
    # trailers
    found = state(measured)
    assert found.incumbent is not None
    trailers = dict(
        line.split(": ", 1)
        for line in measured.git("log", "-1", "--format=%(trailers:only,unfold)").splitlines()
    )
    assert float(trailers["Autoresearch-Metric"].removeprefix("val_loss=")) == round(
        found.incumbent.metric or 0.0, 6
    )
    assert trailers["Autoresearch-Domain"] == "hyperparameter"
    assert trailers["Autoresearch-Cost"] == "10"
    assert trailers["Autoresearch-Budget-Left"] == "90"
    for name in ("Restore-Source", "Cutover-Audit"):
        assert re.fullmatch(r"\d+:[0-9a-f]{64}", trailers[f"Autoresearch-{name}"])
    # ledgers and reports
    assert found.incumbent.commit == measured.head
    assert found.spent == 10
    header = measured.read("results.tsv").splitlines()[0].split("\t")
    assert header[:5] == ["commit", "val_loss", "memory_gb", "status", "description"]
    row = measured.results()[-1]
    assert (row["commit"], row["status"], row["domain"], row["cost"]) == (
        measured.head,
        "keep",
        "hyperparameter",
        "10",
    )
    assert row["description"] == "STEPS 60 -> 120"
    assert [kind["decision"] for kind in measured.cutovers()[1:]] == ["keep"]


def test_a_worse_candidate_is_reverted_and_the_users_own_files_are_left_alone(
    measured: Project,
) -> None:
    measured.write("notes.txt", "untracked\n")
    measured.write("staged.txt", "staged\n")
    measured.git("add", "staged.txt")
    measured.write("staged.txt", "staged, then edited\n")
    measured.write("progress.png", "ignored\n")
    measured.write("scratch/deep/file.csv", "1,2\n")
    (measured.root / "link").symlink_to("/nowhere")
    commit, branches = measured.head, measured.git("branch", "-a")
    index, status = measured.git("ls-files", "-s"), measured.status
    before = snapshot(measured.root, ".git", ".autoresearch", "results.tsv")
    measured.edit(*WORSE)

    result = measured.autoresearch()

    assert result.returncode == 10, result.output
    assert "REVERTED: STEPS 60 -> 10" in result.stdout
    after = snapshot(measured.root, ".git", ".autoresearch", "results.tsv")
    assert difference(before, after) == []
    assert measured.head == commit
    assert measured.git("branch", "-a") == branches
    assert measured.git("ls-files", "-s") == index
    assert measured.status == status
    row = measured.results()[-1]
    assert (row["commit"], row["status"], row["cost"]) == (commit, "discard", "10")
    assert last_codes(measured) == ["no-gain"]
    found = state(measured)
    assert found.spent == 10
    assert found.incumbent is not None
    assert found.incumbent.commit == commit


def test_an_agents_own_commits_are_data_and_leave_no_trace_when_reverted(measured: Project) -> None:
    before = measured.head
    measured.edit(*WORSE)
    mine = measured.commit("an improvement, believe me")

    result = measured.autoresearch()

    assert result.returncode == 10, result.output
    assert measured.head == before
    assert measured.status == ""
    assert "STEPS = 60" in measured.read("train.py")
    assert mine not in measured.git("rev-list", "--branches")


def test_an_agents_own_better_commit_is_kept_as_the_harness_commit(measured: Project) -> None:
    before = measured.head
    measured.edit(*BETTER)
    mine = measured.commit("an improvement, believe me")

    result = measured.autoresearch()

    assert result.returncode == 0, result.output
    assert measured.git("rev-list", f"{before}..HEAD").split() == [measured.head]
    assert measured.head != mine
    assert "Autoresearch-Metric" in measured.git("log", "-1", "--format=%B")
    assert measured.status == ""


def test_the_incumbent_as_it_is_stays_and_costs_nothing(measured: Project) -> None:
    commit = measured.head

    result = measured.autoresearch("-p", "no:cacheprovider", "-p", "no:randomly")

    assert result.returncode == 0, result.output
    assert "UNCHANGED" in result.stdout
    assert measured.head == commit
    assert state(measured).spent == 0
    assert [row["status"] for row in measured.results()] == ["keep"]


def test_a_dry_run_decides_and_changes_nothing(measured: Project) -> None:
    measured.edit(*BETTER)
    before = snapshot(measured.root)

    result = measured.autoresearch("--autoresearch-dry-run")

    assert result.returncode == 0, result.output
    assert "WOULD BE KEPT: STEPS 60 -> 120" in result.stdout
    assert difference(before, snapshot(measured.root)) == []


def test_a_dry_run_before_any_baseline_changes_nothing(project: Project) -> None:
    project.edit(*WORSE)
    before = snapshot(project.root)

    result = project.autoresearch("--autoresearch-dry-run")

    assert "WOULD BE REVERTED" in result.stdout
    assert result.returncode == 10, result.output
    assert difference(before, snapshot(project.root)) == []


def test_a_candidate_in_a_directory_is_judged_and_nothing_else_there_is_read(
    measured: Project, tmp_path: Path
) -> None:
    elsewhere, marker = tmp_path / "candidate", tmp_path / "imported"
    elsewhere.mkdir()
    (elsewhere / "train.py").write_text(measured.read("train.py").replace(*BETTER))
    evil = f"open({str(marker)!r}, 'w').close()\n"
    for name in ("conftest.py", "prepare.py", "sitecustomize.py"):
        (elsewhere / name).write_text(evil)
    (elsewhere / "pyproject.toml").write_text("[tool.autoresearch]\nmetric_floor = -1.0\n")

    result = measured.autoresearch(f"--autoresearch-candidate={elsewhere}")

    assert result.returncode == 0, result.output
    assert "STEPS = 120" in measured.read("train.py")
    assert measured.status == ""
    assert measured.git("diff", "--name-only", "HEAD^", "HEAD") == "train.py"
    assert not marker.exists()


def test_a_candidates_own_clone_never_becomes_the_harness(
    measured: Project, tmp_path: Path
) -> None:
    """pytest itself takes a value after a blank for a test path, and looks for its root there."""
    clone, marker = measured.copy(tmp_path / "clone"), tmp_path / "imported"
    shutil.rmtree(clone.root / ".autoresearch")
    for path in (clone.root / "harness_tests").glob("test_*.py"):
        path.unlink()
    clone.write("conftest.py", f"open({str(marker)!r}, 'w').close()\n")
    clone.write("harness_tests/test_all.py", "def test_all(evaluation):\n    pass\n")
    clone.edit(*WORSE)
    clone.commit("gates that pass")
    control = clone.pytest("harness_tests", env=LEAN)
    assert control.returncode == 0, control.output
    assert marker.exists()
    marker.unlink()

    result = measured.autoresearch("--autoresearch-candidate", str(clone.root))

    assert not marker.exists(), result.output
    assert result.returncode in (4, 10), result.output
    assert not (clone.root / ".autoresearch").exists()
    if result.returncode == 4:
        assert f"--autoresearch-candidate={clone.root}" in result.stderr


def test_a_candidate_in_a_revision_is_judged_beside_a_clean_surface_only(measured: Project) -> None:
    commit = measured.head
    measured.git("switch", "-q", "-c", "idea")
    measured.edit(*WORSE)
    idea = measured.commit("an idea")
    measured.git("switch", "-q", "autoresearch/main")
    measured.edit("BATCH_SIZE = 64", "BATCH_SIZE = 65")

    refused = measured.autoresearch("--autoresearch-candidate", "idea")

    assert refused.returncode == 4, refused.output
    assert "edits that no session has judged" in refused.stderr
    assert "BATCH_SIZE = 65" in measured.read("train.py")

    measured.git("restore", "train.py")
    judged = measured.autoresearch("--autoresearch-candidate", "idea")

    assert judged.returncode == 10, judged.output
    assert "candidate: revision 'idea'" in judged.stdout
    assert measured.head == commit
    assert measured.git("rev-parse", "idea") == idea
    assert measured.status == ""


def test_junit_xml_carries_the_verdict_and_its_figures(measured: Project, tmp_path: Path) -> None:
    measured.edit(*WORSE)

    result = measured.autoresearch(f"--junitxml={tmp_path / 'report.xml'}", "-p", "no:terminal")

    assert result.returncode == 10, result.output
    suite = ET.parse(tmp_path / "report.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("tests") == str(STOCK)
    properties = {item.get("name"): item.get("value") or "" for item in suite.iter("property")}
    assert properties["autoresearch_verdict"] == "revert"
    assert float(properties["autoresearch_metric"]) > float(properties["autoresearch_incumbent"])
    assert properties["autoresearch_cost"] == "10"
    assert properties["autoresearch_budget_left"] == "90"
    assert float(properties["autoresearch_fairness_equalized_odds_difference_sex"]) <= 0.2
    assert "no-gain" in properties["autoresearch_reasons"]
