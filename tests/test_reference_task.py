"""
The reference task, whole: real data, torch, the shipped gates and configuration.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from project import Project

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone of this repository with its data and a recorded baseline."""
    if not (ROOT / "data" / "manifest.json").exists():
        pytest.fail("no data: run `python prepare.py` first, as `make test` does", pytrace=False)
    root = tmp_path_factory.mktemp("reference") / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
    shutil.copytree(ROOT / "data", root / "data")
    project = Project(root)
    for path in (
        "train.py",
        "prepare.py",
        "pyproject.toml",
    ):  # what is about to be committed counts
        shutil.copyfile(ROOT / path, root / path)
    shutil.copytree(
        ROOT / "harness_tests", root / "harness_tests", dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    project.git("switch", "-q", "-C", "main")
    # Two runs are the fewest that show noise; each takes ten seconds, and longer beside other tests.
    settings = project.read("pyproject.toml").replace("seconds = 30", "seconds = 120")
    assert "[tool.autoresearch.keep]" not in settings
    project.write("pyproject.toml", f"{settings}\n[tool.autoresearch.keep]\nbaseline = 2\n")
    project.commit("the work tree under test")
    result = project.autoresearch()
    assert result.returncode == 0, result.output
    return project


def test_the_shipped_baseline_passes_every_gate_with_honest_figures(reference: Project) -> None:
    row = reference.cutovers()[-1]
    assert row["kind"] == "baseline"
    assert [run["status"] for run in row["runs"]] == ["finished"] * 2
    assert len({run["seed"] for run in row["runs"]}) == 2
    assert 0.30 < row["after"]["mean"] < 0.33
    assert 0 < row["after"]["sigma"] < 0.005
    assert row["metrics"]["auc"] > 0.90
    assert all(line["passed"] in (True, None) for line in row["fairness"])
    assert {gate["outcome"] for gate in row["gates"]} == {"passed"}
    assert reference.git("branch", "--show-current") == "autoresearch/main"


def test_a_model_that_asks_for_a_protected_attribute_costs_no_training(reference: Project) -> None:
    runs = len(list((reference.root / ".autoresearch/main/runs").iterdir()))
    honest = reference.read("train.py")
    reference.write(
        "train.py", honest.replace("import prepare", 'import prepare\n\nEXTRA = "sex"', 1)
    )
    assert reference.read("train.py") != honest
    result = reference.autoresearch()
    assert result.returncode == 1
    assert "the mutation touches what is protected: it mentions 'sex'" in result.output
    assert len(list((reference.root / ".autoresearch/main/runs").iterdir())) == runs
    assert reference.read("train.py") == honest
