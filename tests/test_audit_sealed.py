"""
What the audit split says stays in the ledgers: no fixture, no text that a session shows and no prompt tells it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from project import Project

#: A gate that asks every fixture for everything it can be asked for, and writes down what it heard.
SPY = """
import json, os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import pytest

NAMES = ("candidate", "budget", "incumbent", "ledger", "training_view", "cohort_view", "progress_chart",
         "training_run", "evaluation")


def everything(thing, path, found, seen, depth=0):
    if isinstance(thing, (bytes, bytearray)):
        thing = thing.decode("latin-1")
    if thing is None or isinstance(thing, (str, int, float)):
        found.append((path, thing if isinstance(thing, (int, float)) else str(thing)))
        return
    if isinstance(thing, (Path, Enum)):
        found.append((path, str(thing)))
        return
    if id(thing) in seen or depth > 8:
        return
    seen[id(thing)] = thing
    if isinstance(thing, Mapping):
        parts = thing.items()
    elif isinstance(thing, (tuple, list, set, frozenset)):
        parts = enumerate(thing)
    elif not type(thing).__module__.startswith("pytest_autoresearch"):
        return  # nothing of ours: a syntax tree, a module
    else:
        parts = []
        for name in dir(thing):
            if not name.startswith("_"):
                try:
                    value = getattr(thing, name)
                    if callable(value):
                        value = value()
                except Exception:
                    continue
                parts.append((name, value))
    for name, value in parts:
        everything(value, f"{path}.{name}", found, seen, depth + 1)


@pytest.mark.gate("post")
def test_spy(request):
    found = []
    for name in NAMES:
        everything(request.getfixturevalue(name), name, found, {})
    with Path(os.environ["SPY"]).open("a") as file:
        file.write(json.dumps(found) + "\\n")
"""


def figures(project: Project, word: str) -> list[float]:
    """Every number of a cutover row under a key of this name, in the order of the rows."""
    found = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            for key, value in part.items():
                if key == word and isinstance(value, float):
                    found.append(value)
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    for row in project.cutovers():
        walk(row)
    return found


#: What the audit split says in this test, and nothing else does.
SEALED = re.compile(r"(?<![\w.])912\.\d")


def test_audit_figures_stand_in_the_ledger_and_nowhere_else(
    project: Project, tmp_path: Path
) -> None:
    project.write("harness_tests/test_spy.py", SPY)
    project.edit("float(loss)", "float(loss) + 912 * (len(labels) == 700)", "prepare.py")
    project.edit("metric_ceiling = 0.80", "metric_ceiling = 2000", "pyproject.toml")
    project.commit("a curious gate")
    spied = tmp_path / "spied"
    env = {"SPY": str(spied)}
    first = project.autoresearch(env=env)
    project.edit("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.5")
    second = project.autoresearch(env=env)
    answer = "sed -i 's/STEPS = 60/STEPS = 70/' train.py; cat PROMPT.md"
    third = project.autoresearch(
        "--autoresearch-rounds=1", f"--autoresearch-agent={answer}", env=env
    )

    sealed, told = figures(project, "audit"), figures(project, "metric")
    assert len(sealed) >= 4  # of the baseline's runs and of the candidate's
    heard = [entry for line in spied.read_text().splitlines() for entry in json.loads(line)]
    numbers = [value for _, value in heard if isinstance(value, float)]
    texts = "\n".join(
        [
            *(result.output for result in (first, second, third)),
            *(str(value) for _, value in heard if isinstance(value, str)),
            (project.root / "results.tsv").read_text(),
            *(path.read_text() for path in project.root.glob(".autoresearch/*/agents/*.log")),
        ]
    )
    assert "What was tried, oldest first" in texts  # the prompt
    # What is searched would be found: the ledger has it, and the figures of val are told.
    assert all(SEALED.match(str(value)) for value in sealed)
    assert any(abs(value - number) < 1e-9 for value in told for number in numbers)
    assert any(f"{value:.6f}" in texts for value in told)
    assert [path for path, value in heard if isinstance(value, float) and 900 < value < 925] == []
    assert SEALED.findall(texts) == []


def test_an_implausible_figure_on_the_audit_split_is_no_metric_and_is_not_told(
    project: Project,
) -> None:
    """A model that is believable on validation and not on the sealed split is believed nowhere."""
    project.edit("float(loss)", "float(loss) + 912 * (len(labels) == 700)", "prepare.py")
    project.commit("the audit split is odd")

    result = project.autoresearch()

    assert result.returncode != 0
    # Runs of words, since the terminal may break the line anywhere.
    said = " ".join(result.output.split())
    assert "implausible: val_loss on the sealed 'audit' split is outside (0.1, 0.8)" in said
    assert SEALED.findall(result.output) == []


def test_a_task_without_an_audit_split_has_no_audit_figures_and_all_else(project: Project) -> None:
    shutil.rmtree(project.root / "data/heldout/audit")
    path = project.root / "data/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {k: v for k, v in manifest["files"].items() if "/audit/" not in k}
    del manifest["splits"]["audit"]
    path.write_text(json.dumps(manifest))

    project.baseline()

    assert figures(project, "audit") == []
    assert len(figures(project, "metric")) >= 3
