"""Personal data planted in sessions: each is stopped at its stage, by its gate, by name; honest sessions pass."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from project import Project

from pytest_autoresearch.compliance.corpus import POSITIVES
from pytest_autoresearch.compliance.known import KnownValues
from pytest_autoresearch.compliance.presidio import PresidioMissing
from pytest_autoresearch.feedback import mask
from pytest_autoresearch.privacy import Privacy, scanners_of
from pytest_autoresearch.settings import Pii, Settings
from pytest_autoresearch.task import Task, TaskError

GATE = "harness_tests/test_privacy.py::test_"
ADDRESS = "jane.doe@example.org"


def plant(project: Project, name: str, content: bytes) -> None:
    """Put a file below the data directory, as prepare.py would: it stands in the manifest."""
    path = project.root / "data" / name
    path.write_bytes(content)
    manifest = project.root / "data" / "manifest.json"
    document = json.loads(manifest.read_bytes())
    document["files"][name] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(document))


def gates(project: Project) -> dict[str, tuple[str, str]]:
    """Outcome and message of the last session's gates on privacy."""
    last = project.cutovers()[-1]["gates"]
    return {
        gate["nodeid"].removeprefix(GATE): (gate["outcome"], gate.get("message", ""))
        for gate in last
        if gate["nodeid"].startswith(GATE)
    }


def test_personal_data_in_a_feature_ends_the_session_before_anything_runs(project: Project) -> None:
    """A column of texts, and a column of numbers that are cards."""
    draw = next(form.draw for form in POSITIVES if (form.kind, form.name) == ("card", "compact"))
    import random

    rng = random.Random(1)
    folder = project.root / "data" / "train"
    np.savez(
        folder / "more.npz",
        who=np.array([ADDRESS, "nobody"]),
        account=np.array([int(draw(rng)) for _ in range(60)]),
    )
    plant(project, "train/more.npz", (folder / "more.npz").read_bytes())
    result = project.autoresearch()
    assert result.returncode == 1, result.output
    said = re.search(r"Error: personal data in the training view: .*", result.output)
    assert said, result.output
    assert "email in more.npz:who: 1, the first at 0" in said[0]
    assert "card in more.npz:account: 1" in said[0]
    assert "jane" not in result.output
    assert not list(project.root.glob(".autoresearch/*/runs/*/run.log"))


def test_personal_data_in_a_description_costs_no_run(measured: Project) -> None:
    before = len(list(measured.root.glob(".autoresearch/*/runs/*")))
    measured.edit("STEPS = 60", "STEPS = 61  # as (212) 555-0164 said")
    result = measured.autoresearch(f"--autoresearch-message=more steps, ask {ADDRESS}")
    assert result.returncode == 1, result.output
    assert (
        "personal data in the proposal: email of the description" in result.output
    ) or "email: 1, the first at 16 of the description" in result.output, result.output
    assert "of the added lines" in result.output
    assert len(list(measured.root.glob(".autoresearch/*/runs/*"))) == before


def test_personal_data_printed_and_in_the_artifact_is_not_kept(measured: Project) -> None:
    """The control: the baseline of the same project passes all four gates."""
    assert {outcome for outcome, _ in gates(measured).values()} == {"passed"}
    assert len(gates(measured)) == 4
    measured.edit("STEPS = 60", "STEPS = 120")
    measured.edit(
        '    print("---")\n',
        '    name = "jane" + ".doe@" + "example.org"\n'
        '    print("---")\n    print("worst row:", name)\n'
        '    with Path(os.environ["AUTORESEARCH_OUT"], "model.pt2").open("ab") as file:\n'
        "        file.write(name.encode())\n",
    )
    result = measured.autoresearch("--autoresearch-message=log the worst row")
    assert result.returncode == 1, result.output
    found = gates(measured)
    assert found["training_view_holds_no_personal_data"][0] == "passed"
    assert found["proposal_holds_no_personal_data"][0] == "passed"
    outcome, message = found["output_holds_no_personal_data"]
    assert outcome == "failed"
    assert "personal data in the run's output: email in line 2: 1, the first at 11" in message
    outcome, message = found["artifact_holds_no_personal_data"]
    assert outcome == "failed"
    assert "personal data in the artifact: email in model.pt2: 1, the first at" in message
    assert "jane" not in json.dumps(measured.cutovers()[-1])
    assert "STEPS = 60" in measured.git("show", "HEAD:train.py")


# --- what scanners a project has -------------------------------------------------------------------------


def test_known_values_are_looked_for_everywhere_once_the_data_has_them(project: Project) -> None:
    task = Task(project.root)
    assert len(scanners_of(Settings(), task)) == 1
    plant(project, "known_values.json", KnownValues.of(["Jane Doe"]).to_json())
    task = Task(project.root)
    privacy = Privacy(Settings(), task)
    assert privacy.in_text("for doe_jane") == ["known_value: 1, the first at 4"]
    assert privacy.in_view(task.training_view) == []
    (project.root / "data/train/notes.txt").write_text("Doe, Jane")
    assert privacy.in_view(task.training_view) == ["known_value in notes.txt: 1, the first at 0"]
    # The same scanners mask what goes back to an agent.
    assert mask("ask Jane Doe", scanners=scanners_of(Settings(), task)) == "ask [known_value]"
    assert mask("ask Jane Doe") == "ask Jane Doe"
    plant(project, "known_values.json", b"{}")
    with pytest.raises(TaskError, match=r"data/known_values.json holds no set of known values"):
        scanners_of(Settings(), Task(project.root))


def test_what_a_person_allows_is_let_through_and_nothing_beside_it(project: Project) -> None:
    task = Task(project.root)
    privacy = Privacy(
        Settings(pii=Pii(allowed=("help@example.org",), denied=("diagnosis*",))), task
    )
    assert privacy.in_text("help@example.org") == []
    assert privacy.in_text("xhelp@example.org") == ["email: 1, the first at 0"]
    schema = project.root / "data/train/schema.json"
    schema.write_text(json.dumps({"columns": ["a", "Diagnosis-1"]}))
    assert privacy.in_view(schema.parent) == ["column in schema.json: 'Diagnosis-1'"]


def test_presidio_is_asked_for_by_name(project: Project) -> None:
    settings = Settings(pii=Pii(presidio=True, presidio_model="no_such_model"))
    with pytest.raises(PresidioMissing):
        scanners_of(settings, Task(project.root))


def test_output_that_cannot_be_read_does_not_pass(project: Project, tmp_path: Path) -> None:
    from pytest_autoresearch.records import RunResult, RunStatus

    privacy = Privacy(Settings(), Task(project.root))
    log = tmp_path / "run.log"
    run = RunResult(RunStatus.CRASHED, "", 0, 1.0, 1.0, None, "", 1, 0.0, "cpu", "none", log=log)
    assert privacy.in_output(run) == ["unscanned: 'run.log' does not exist"]
    log.write_text(f"{ADDRESS}\n" + "x" * 100_000 + "\n")
    assert privacy.in_output(run) == ["email in line 1: 1, the first at 0"]
    assert privacy.in_artifact(run) == []
