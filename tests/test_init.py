"""
``autoresearch init``, and whole sessions of a repository in the upstream layout: prepare.py knows nothing of us.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from project import LEAN, Project, Result

from pytest_autoresearch.adoption import stock_gates

UPSTREAM = Path(__file__).parent / "upstream"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home with upstream's data."""
    home = tmp_path_factory.mktemp("home")
    cache = home / ".cache" / "autoresearch"
    cache.mkdir(parents=True)
    draw = np.random.default_rng(7)
    x = draw.normal(size=(2700, 4))
    y = (draw.random(2700) < 1 / (1 + np.exp(-(x @ [1.2, -0.8, 0.5, 0.0])))).astype(np.int8)
    np.savez(cache / "data.npz", x=x, y=y)
    return home


def fresh(root: Path) -> Project:
    """A repository as upstream's users have it."""
    shutil.copytree(UPSTREAM, root, ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(root)
    project.git("init", "-q", "-b", "main")
    project.commit("as upstream has it")
    return project


def init(project: Project, *arguments: str) -> Result:
    return project.run(sys.executable, "-m", "pytest_autoresearch.cli", "init", *arguments)


def session(project: Project, home: Path, *arguments: str) -> Result:
    return project.autoresearch(
        "--autoresearch-sandbox=none", *arguments, env={"HOME": str(home), **LEAN}
    )


@pytest.fixture(scope="module")
def adopted(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Adopted, with its baseline measured."""
    project = fresh(tmp_path_factory.mktemp("adopted") / "project")
    result = init(project)
    assert result.returncode == 0, result.output
    project.edit(
        'readable = ["~/.cache/autoresearch"]',
        'readable = ["~/.cache/autoresearch"]\n\n[tool.autoresearch.keep]\nbaseline = 3\nconfirm = 1',
        "pyproject.toml",
    )
    project.edit("mode =", "acknowledge_unsandboxed = true\nmode =", "pyproject.toml")
    project.commit("adopted")
    result = session(project, home)
    assert result.returncode == 0, result.output
    return project


def test_init_writes_what_is_missing_and_says_the_steps(tmp_path: Path) -> None:
    project = fresh(tmp_path / "project")
    project.write("pyproject.toml", '[project]\nname = "mine"\n')
    project.write(".gitignore", "__pycache__/\n")

    result = init(project)

    assert result.returncode == 0, result.output
    configuration = project.read("pyproject.toml")
    assert configuration.startswith('[project]\nname = "mine"\n\n[tool.autoresearch]\n')
    assert 'metric = "val_bpb"\nmode = "self-reported"' in configuration
    assert "seconds = 20\nwarmup_seconds = 300" in configuration
    assert 'readable = ["~/.cache/autoresearch"]' in configuration
    assert sorted(path.name for path in (project.root / "harness_tests").iterdir()) == [
        "test_mid_loop.py",
        "test_post_loop.py",
    ]
    assert project.read(".gitignore").startswith("__pycache__/\n/.autoresearch/\n")
    assert "SELF-REPORTED" in result.stdout
    assert "4. in pyproject.toml: mode = 'verified'" in result.stdout
    again = init(project)
    assert again.returncode == 0
    assert "new " not in again.stdout
    assert "changed " not in again.stdout
    assert project.read("pyproject.toml") == configuration


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    project = fresh(tmp_path / "project")
    result = init(project, "--dry-run")
    assert result.returncode == 0
    assert "new     harness_tests/test_mid_loop.py" in result.stdout
    assert project.status == ""


def test_a_prepare_that_can_score_is_adopted_as_verified(template: Project, tmp_path: Path) -> None:
    project = template.copy(tmp_path / "project")
    shutil.rmtree(project.root / "harness_tests")
    project.write("pyproject.toml", "")

    result = init(project)

    assert "SELF-REPORTED" not in result.stdout
    assert "mode" not in project.read("pyproject.toml")
    names = {path.name for path in (project.root / "harness_tests").iterdir()}
    assert names == {path.name for path in stock_gates()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train.py").unlink(), "no train.py in"),
        (lambda root: shutil.rmtree(root / ".git"), "is no git repository"),
        (lambda root: (root / "train.py").write_text("x = 1\n"), "--metric NAME"),
        (
            lambda root: (root / "pyproject.toml").write_text("[tool"),
            "pyproject.toml cannot be read",
        ),
    ],
)
def test_what_cannot_be_adopted_is_said_and_left_alone(spoil, message, tmp_path: Path) -> None:
    project = fresh(tmp_path / "project")
    spoil(project.root)
    before = sorted(project.root.rglob("*"))
    result = init(project)
    assert result.returncode == 1
    assert message in result.stderr
    assert sorted(project.root.rglob("*")) == before


def test_a_printed_metric_is_judged_and_labelled_everywhere(
    adopted: Project, home: Path, tmp_path: Path
) -> None:
    project = adopted.copy(tmp_path / "project")
    project.edit("STEPS = 60", "STEPS = 240")

    result = session(project, home)

    assert result.returncode == 0, result.output
    assert "metric: SELF-REPORTED: val_bpb is what train.py prints" in result.stdout
    assert "KEPT: SELF-REPORTED: STEPS 60 -> 240" in result.stdout
    row = project.cutovers()[-1]
    assert row["metric_source"] == "self-reported"
    assert "Autoresearch-Metric-Source: self-reported" in project.git("log", "-1", "--format=%B")
    with (project.root / "results.tsv").open() as file:
        assert "SELF-REPORTED" in list(csv.DictReader(file, delimiter="\t"))[-1]["description"]


def test_a_run_that_prints_nothing_is_reverted(
    adopted: Project, home: Path, tmp_path: Path
) -> None:
    project = adopted.copy(tmp_path / "project")
    project.edit('print(f"val_bpb: ', 'print(f"val_loss:')
    result = session(project, home)
    assert result.returncode == 1, result.output
    assert "the run printed no line `val_bpb: NUMBER`" in result.stdout
    assert project.read("train.py") == adopted.read("train.py")


def test_data_that_is_not_there_is_said_before_anything_runs(
    adopted: Project, tmp_path: Path
) -> None:
    project = adopted.copy(tmp_path / "project")
    result = session(project, tmp_path)
    assert result.returncode == 4
    assert "run.readable names" in result.output
    assert "prepare the data first" in result.output


def test_a_gate_that_asks_for_the_data_says_what_it_needs(
    adopted: Project, home: Path, tmp_path: Path
) -> None:
    project = adopted.copy(tmp_path / "project")
    project.write(
        "harness_tests/test_pre_loop.py",
        "def test_data(training_view):\n    assert not training_view.findings()\n",
    )
    project.commit("a gate")
    subprocess.run(
        [sys.executable, "-m", "pytest_autoresearch.cli", "ratify", "--reason", "a gate"],
        cwd=project.root,
        check=True,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
    )
    project.edit("STEPS = 60", "STEPS = 240")
    result = session(project, home)
    assert result.returncode == 1, result.output
    assert "mode 'self-reported' knows nothing of the data" in result.stdout
