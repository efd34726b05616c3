"""
The fairness gate in whole sessions: a model that is unfair, and one that is less fair than the incumbent.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import Project

RULES = """
[[tool.autoresearch.fairness]]
metric = "demographic_parity_difference"
by = "sex"
at_most = 0.50
worse_by = 0.05
"""


@pytest.fixture(scope="module")
def proxy(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A task in which an input that says nothing about the label gives sex away; its baseline is measured."""
    project = template.copy(tmp_path_factory.mktemp("fairness") / "project")
    project.edit(
        'sex = np.where(draw.random(n) < 0.5, "F", "M")',
        'sex = np.where(x[:, 3] > 0, "F", "M")',
        "prepare.py",
    )
    text = project.read("pyproject.toml")
    project.write("pyproject.toml", text[: text.index("[[tool.autoresearch.fairness]]")] + RULES)
    shutil.rmtree(project.root / "data")
    subprocess.run([sys.executable, "prepare.py"], cwd=project.root, check=True)
    project.commit("sex shows in the data")
    return project.baseline()


def candidate(proxy: Project, root: Path, weight: float) -> Project:
    """A better model that also turns away people of one sex, the more so the larger the weight."""
    project = proxy.copy(root / "project")
    project.edit("STEPS = 60", "STEPS = 120")
    project.edit("    return weights", f"    weights[3] = {weight}\n    return weights")
    return project


def test_an_unfair_model_fails_the_gate_by_name(proxy: Project, tmp_path: Path) -> None:
    project = candidate(proxy, tmp_path, -2.5)

    result = project.autoresearch()

    assert result.returncode == 1, result.output
    assert "SYSTEM HALT: Model failed fairness gate. demographic_parity_difference[sex]=0." in (
        result.stdout
    )
    assert "> threshold=0.500 (95 % interval 0." in result.stdout
    assert project.read("train.py") == proxy.read("train.py")


def test_fairness_that_worsens_within_the_limit_fails_too(proxy: Project, tmp_path: Path) -> None:
    project = candidate(proxy, tmp_path, -0.6)

    result = project.autoresearch()

    assert result.returncode == 1, result.output
    assert "less fair than the incumbent's 0.0" in result.stdout
    assert "> threshold" not in result.stdout
    (line,) = project.cutovers()[-1]["fairness"]
    assert line["passed"] is False
    assert line["value"] < 0.5
    assert line["worsening"] > 0.05


def test_a_model_as_fair_as_before_is_kept(proxy: Project, tmp_path: Path) -> None:
    """And so is the one after it, for which the predictions of the first were kept."""
    project = candidate(proxy, tmp_path, 0.0)
    assert project.autoresearch().returncode == 0
    project.edit("STEPS = 120", "STEPS = 240")

    result = project.autoresearch()

    assert result.returncode == 0, result.output
    *_, before, last = project.cutovers()
    assert last["fairness"][0]["incumbent"] == before["fairness"][0]["value"]
    assert last["fairness"][0]["passed"] is True
    # One run to screen and one to confirm: the incumbent was not trained again.
    assert len(last["runs"]) == 2
    assert len(list((project.root / ".autoresearch" / "main" / "predictions").iterdir())) == 3


def test_predictions_that_were_lost_are_measured_again(proxy: Project, tmp_path: Path) -> None:
    project = candidate(proxy, tmp_path, -0.6)
    shutil.rmtree(project.root / ".autoresearch" / "main" / "predictions")

    result = project.autoresearch()

    assert result.returncode == 1, result.output
    assert "less fair than the incumbent's 0.0" in result.stdout
