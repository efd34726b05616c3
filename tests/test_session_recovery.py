"""
A session that is killed with nobody left to clean up: the next one finds a whole state.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from crashing import steps_of, supported
from observe import BETTER, WORSE, alive, end, journal, start, state, wait_for
from project import Project

#: Stops the session between the intent and the act, and between the act and its record.
SLEEPY = """\
import os
import time

import pytest


def pause(where):
    if os.environ.get("PAUSE") == where:
        with open(os.environ["NOTE"], "w"):
            pass
        time.sleep(600)


@pytest.hookimpl(wrapper=True)
def pytest_autoresearch_keep():
    pause("before keep")
    kept = yield
    pause("after keep")
    return kept


@pytest.hookimpl(wrapper=True)
def pytest_autoresearch_revert():
    pause("before revert")
    back = yield
    pause("after revert")
    return back


def pytest_autoresearch_record():
    pause("recorded")
"""


@pytest.fixture(scope="session")
def sleepy_template(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = template.copy(tmp_path_factory.mktemp("sleepy") / "project")
    project.write("harness_tests/conftest.py", SLEEPY)
    project.commit("hooks that can wait")
    return project.baseline()


def kill_at(project: Project, note: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a session, wait until it is at a point, and kill it."""
    monkeypatch.setenv("PAUSE", where)
    monkeypatch.setenv("NOTE", str(note))
    process = start(project)
    try:
        wait_for(lambda: note.exists() or process.poll() is not None, where)
        assert process.poll() is None
    finally:
        end(process)
    monkeypatch.delenv("PAUSE")


@pytest.mark.parametrize(
    ("edit", "where", "kept"),
    [
        (BETTER, "before keep", True),
        (BETTER, "after keep", True),
        (WORSE, "before revert", False),
        (BETTER, "recorded", True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_session_killed_while_it_settles_is_finished_by_the_next(
    sleepy_template: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: tuple[str, str],
    where: str,
    kept: bool,
) -> None:
    project = sleepy_template.copy(tmp_path / "project")
    before = project.head
    project.write("notes.txt", "mine\n")
    project.edit(*edit)
    kill_at(project, tmp_path / "note", where, monkeypatch)

    result = project.autoresearch()

    assert result.returncode == 0, result.output
    assert "UNCHANGED" in result.stdout
    assert ("recovered: " in result.stdout) == (where != "recorded")
    found = state(project)
    assert found.spent == 10
    assert found.incumbent is not None
    assert found.incumbent.commit == project.head
    assert (project.head != before) == kept
    assert len(project.git("rev-list", f"{before}..HEAD").split()) == (1 if kept else 0)
    assert ("STEPS = 60" in project.read("train.py")) == (not kept)
    assert project.status == "?? notes.txt"
    assert [row["status"] for row in project.results()] == ["keep", "keep" if kept else "discard"]
    assert list(journal(project).directory.glob("pending/*")) == []


def test_a_session_killed_while_it_trains_has_decided_nothing(
    measured: Project, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    before = measured.head
    measured.edit(
        "def main():\n",
        f"""def main():
    import time
    with open({str(note)!r} + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename({str(note)!r} + ".new", {str(note)!r})
    time.sleep(600)
""",
    )
    candidate = measured.read("train.py")
    process = start(measured)
    try:
        wait_for(lambda: note.exists() or process.poll() is not None, "the run")
        assert process.poll() is None
    finally:
        end(process)

    run = int(note.read_text())
    wait_for(lambda: not alive(run), "the run ends with its session")
    assert measured.head == before
    assert measured.read("train.py") == candidate
    found = state(measured)
    assert found.spent == 0
    assert len(found.settled) == 1

    measured.git("restore", "train.py")
    measured.edit(*WORSE)
    result = measured.autoresearch()

    assert result.returncode == 10, result.output
    assert state(measured).spent == 10


@pytest.mark.skipif(bool(supported()), reason=supported() or "-")
def test_the_model_of_a_keep_is_on_the_disk_before_a_row_names_it(measured: Project) -> None:
    measured.edit(*BETTER)
    steps = steps_of(measured.root / ".autoresearch", measured.autoresearch)
    assert len(state(measured).settled) == 2
    # The baseline's is older.
    models = [step.number for step in steps if step.call == "fsync" and "/runs/" in step.path]
    rows = [step.number for step in steps if "restore-source" in step.path and "write" in step.call]
    assert len(models) == 1
    assert models[0] < rows[0]
