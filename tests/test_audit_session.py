"""
The audit in whole sessions: a sequence task from its baseline on, and the reference task with torch.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from adult import ROOT, prepare
from project import GATES, PYPROJECT, Project
from test_audit_attacks import SHIFT

from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.scoring import Scoring, ScoringError
from pytest_autoresearch.scratch import Scratch
from pytest_autoresearch.settings import Settings
from pytest_autoresearch.task import Task

SEQUENCE = Path(__file__).parent / "sequence"


@pytest.fixture(scope="module")
def sequence_template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of the sequence task with its baseline recorded."""
    project = Project(tmp_path_factory.mktemp("sequence") / "project")
    project.root.mkdir()
    for name in ("prepare.py", "train.py"):
        shutil.copyfile(SEQUENCE / name, project.root / name)
    shutil.copytree(
        GATES, project.root / "harness_tests", ignore=shutil.ignore_patterns("__pycache__")
    )
    # It has no people in it, hence no cohorts.
    gates = project.root / "harness_tests" / "test_pre_loop.py"
    text, _, _ = gates.read_text().partition('@pytest.mark.gate("pre")\ndef test_cohorts_shown')
    gates.write_text(text)
    settings = PYPROJECT.partition("[[tool.autoresearch.fairness]]")[0]
    settings = settings.replace("metric_floor = 0.10", "metric_floor = 0.01")
    settings = settings.replace(
        "metric_ceiling = 0.80", 'metric_ceiling = 8.0\nmetric = "val_bpb"\nartifact = "model.npz"'
    )
    # An improvement as large as a leak's would alarm the chart before anybody looks at the reason.
    settings = settings.replace("verify_sigma = 1000", "verify_sigma = 1000\ninterval = 5.0")
    assert "interval = 5.0" in settings
    project.write("pyproject.toml", settings)
    project.write("program.md", "# Lower val_bpb by editing train.py.\n")
    project.write(".gitignore", "__pycache__/\n/data/\n/.autoresearch/\n/results.tsv\n")
    assert project.run(sys.executable, "prepare.py").returncode == 0
    project.git("init", "-q", "-b", "main")
    project.commit("the project")
    return project.baseline()


def test_a_session_keeps_a_better_sequence_model(
    sequence_template: Project, tmp_path: Path
) -> None:
    project = sequence_template.copy(tmp_path / "project")
    project.edit('tokens, weights):\n    return weights["bigram"][tokens]', TRIGRAM)
    project.edit("    save_model(predict, ", COUNT_TRIGRAMS)

    result = project.autoresearch()

    assert result.returncode == 0, result.output
    assert "KEPT" in result.stdout
    assert float(project.results()[-1]["val_bpb"]) < 0.9 * float(project.results()[0]["val_bpb"])


TRIGRAM = """\
tokens, weights):
    before = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1] % 64
    return weights["trigram"][before, tokens]"""
COUNT_TRIGRAMS = """\
    more = 200 * (counts / counts.sum(1, keepdims=True))[None].repeat(64, 0)
    before = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1] % 64
    np.add.at(more, (before[part].ravel(), tokens[part].ravel(), labels[part].ravel()), 1.0)
    more /= more.sum(axis=2, keepdims=True)
    save_model(predict, trigram=np.log(more).astype(np.float32), """


def test_a_session_reverts_a_model_that_looks_ahead(
    sequence_template: Project, tmp_path: Path
) -> None:
    project = sequence_template.copy(tmp_path / "project")
    before = project.head
    honest = project.read("train.py")
    predict = honest[honest.index("def predict") : honest.index("def main")]
    project.edit(predict, SHIFT.strip("\n") + "\n\n\n")

    result = project.autoresearch()

    assert result.returncode == 1, result.output
    assert project.head == before
    assert project.read("train.py") == honest
    assert "implausible: " in project.results()[-1]["reason"]
    assert "looks ahead" in project.results()[-1]["reason"]
    gates = {gate["nodeid"].rpartition("::")[2]: gate for gate in project.cutovers()[-1]["gates"]}
    (failed,) = [name for name, gate in gates.items() if gate["outcome"] == "failed"]
    assert failed == "test_predictions_rest_on_their_own_example"
    assert "looks ahead" in gates[failed]["message"]


def test_the_same_model_is_kept_by_a_session_without_the_audit(
    sequence_template: Project, tmp_path: Path
) -> None:
    """The control: nothing else refuses it."""
    project = sequence_template.copy(tmp_path / "project")
    project.edit("[tool.autoresearch.cusum]", OFF + "[tool.autoresearch.cusum]", "pyproject.toml")
    project.commit("no audit")
    shutil.rmtree(project.root / ".autoresearch")
    (project.root / "results.tsv").unlink()
    for pin in project.git("for-each-ref", "--format=%(refname)", "refs/autoresearch").split():
        project.git("update-ref", "-d", pin)
    project.git("switch", "-q", "main")
    project.git("merge", "-q", "--ff-only", "autoresearch/main", check=False)
    project.git("branch", "-D", "autoresearch/main", check=False)
    project.baseline()
    honest = project.read("train.py")
    predict = honest[honest.index("def predict") : honest.index("def main")]
    project.edit(predict, SHIFT.strip("\n") + "\n\n\n")

    result = project.autoresearch()

    assert result.returncode == 0, result.output
    assert float(project.results()[-1]["val_bpb"]) < 0.2 * float(project.results()[0]["val_bpb"])


OFF = "[tool.autoresearch.audit]\nrows = 0\nprefixes = 0\n\n"

# -- the reference task --------------------------------------------------------


class Linear(torch.nn.Module):
    """An income model that is honest, or that standardises with the batch's own statistics."""

    def __init__(self, *, batch: bool) -> None:
        super().__init__()
        self.batch = batch
        self.register_buffer("weights", torch.tensor([0.5, 1.0, 0.3, 0.1, 0.4]))

    def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        if self.batch:
            scaled = (numeric - numeric.mean(0)) / (numeric.std(0, correction=0) + 1.0)
        else:
            scaled = (numeric - 38.0) / 50.0
        return scaled.clamp(-4, 4) @ self.weights + 0.0 * categorical.sum(1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Path of the honest model and of the other one."""
    paths = {}
    with pytest.MonkeyPatch.context() as patch:
        for batch in (False, True):
            folder = tmp_path_factory.mktemp("exported")
            patch.setenv("AUTORESEARCH_OUT", str(folder))
            paths[batch] = prepare.save_model(Linear(batch=batch))
    return paths


@pytest.fixture(scope="module")
def task(data: Path) -> Task:
    return Task(ROOT, data=str(data))


def scored(task: Task, path: Path, level: Isolation) -> np.ndarray:
    """Audited predictions of an exported model."""
    run = SimpleNamespace(artifact=path, reason="")
    with (
        Scratch() as scratch,
        Scoring(Settings(), task, level).warm(scratch.fresh("scoring")) as scorers,
    ):
        return scorers.score(run, ("val", "audit"))["val"]


def unaudited(task: Task, path: Path) -> np.ndarray:
    return prepare.score(path, task.features("val"))


def test_an_exported_graph_passes_with_the_same_predictions(
    task: Task, exported: dict[bool, Path]
) -> None:
    found = scored(task, exported[False], Isolation.STRONG)
    np.testing.assert_array_equal(unaudited(task, exported[False]), found)


def test_an_exported_graph_with_batch_statistics_is_refused(
    task: Task, exported: dict[bool, Path]
) -> None:
    predictions = unaudited(task, exported[True])
    assert task.evaluate(predictions, task.labels("val"), {})["val_loss"] > 0
    with pytest.raises(ScoringError, match=r"^implausible: \d+ of 256 examples"):
        scored(task, exported[True], Isolation.KERNEL)
