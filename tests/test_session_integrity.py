"""
Edits outside the mutation surface: the session halts, names the file, and runs none of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from observe import BETTER, WORSE, difference, snapshot, state
from project import Project

Edit = Callable[[Project, str], None]


def append(path: str) -> Edit:
    return lambda project, evil: project.write(
        path, (project.read(path) if (project.root / path).exists() else "") + evil
    )


def hidden(flag: str) -> Edit:
    """An edit of prepare.py that ``git status`` does not show."""

    def edit(project: Project, evil: str) -> None:
        append("prepare.py")(project, evil)
        project.git("update-index", flag, "prepare.py")
        assert "prepare.py" not in project.status

    return edit


def excluded(project: Project, evil: str) -> None:
    """A conftest that git ignores by a file which is not part of any tree."""
    append("conftest.py")(project, evil)
    project.write(".git/info/exclude", "conftest.py\n")
    assert "conftest" not in project.status


def nested(project: Project, evil: str) -> None:
    """A gate hidden in a repository of its own."""
    project.write("harness_tests/more/test_more.py", f"{evil}def test_more():\n    pass\n")
    project.run("git", "init", "-q", "harness_tests/more")


def linked(project: Project, evil: str) -> None:
    """A gate's directory replaced by a link to a copy with an edit."""
    (project.root / "harness_tests").rename(project.root / "elsewhere")
    (project.root / "harness_tests").symlink_to("elsewhere")
    append("elsewhere/test_mid_loop.py")(project, evil)


def committed(project: Project, evil: str) -> None:
    append("prepare.py")(project, evil)
    project.commit("prepare better")


def settings(project: Project, _: str) -> None:
    project.edit("at_most = 0.20", "at_most = 0.90", "pyproject.toml")


def removed(project: Project, _: str) -> None:
    (project.root / "harness_tests" / "test_post_loop.py").unlink()


def emptied(project: Project, _: str) -> None:
    for path in (project.root / "harness_tests").glob("*.py"):
        path.write_text("")


EDITS: dict[str, tuple[Edit, str]] = {
    "prepare": (append("prepare.py"), "prepare.py"),
    "skip-worktree": (hidden("--skip-worktree"), "prepare.py"),
    "assume-unchanged": (hidden("--assume-unchanged"), "prepare.py"),
    "committed": (committed, "prepare.py"),
    "conftest": (append("conftest.py"), "conftest.py"),
    "conftest-excluded": (excluded, "conftest.py"),
    "conftest-in-harness": (append("harness_tests/conftest.py"), "harness_tests/conftest.py"),
    "gate-edited": (append("harness_tests/test_post_loop.py"), "harness_tests/test_post_loop.py"),
    "gate-removed": (removed, "harness_tests/test_post_loop.py"),
    "gates-emptied": (emptied, "harness_tests/test_mid_loop.py"),
    "gates-linked": (linked, "harness_tests"),
    "gate-in-nested-repository": (nested, "harness_tests/more"),
    "settings": (settings, "pyproject.toml"),
    "ini": (append("pytest.ini"), "pytest.ini"),
    "shadow": (append("numpy/__init__.py"), "numpy/__init__.py"),
    "module": (append("tabulate.py"), "tabulate.py"),
    "startup": (append("sitecustomize.py"), "sitecustomize.py"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_outside_the_surface_halts_before_any_of_it_is_imported(
    measured: Project, tmp_path: Path, name: str
) -> None:
    edit, path = EDITS[name]
    marker = tmp_path / "imported"
    head = measured.head
    measured.edit(*BETTER)
    edit(measured, "" if name == "ini" else f"open({str(marker)!r}, 'w').close()\n")
    moved = measured.head
    before = snapshot(measured.root, ".git", ".autoresearch", "results.tsv")

    # As the console script does it: the working directory is not importable.
    result = measured.run(sys.executable, "-P", "-m", "pytest", "--autoresearch")

    assert not marker.exists()
    assert result.returncode == 4, result.output
    assert path in result.stderr
    assert "SYSTEM HALT" in result.stderr
    assert "git restore" in result.stderr or "move " in result.stderr
    assert measured.head == moved
    after = snapshot(measured.root, ".git", ".autoresearch", "results.tsv")
    assert difference(before, after) == []
    found = state(measured)
    assert [row.kind for row in found.settled] == ["baseline", "halt"]
    assert path in found.settled[-1].description
    assert found.spent == 0
    assert found.incumbent is not None
    assert found.incumbent.commit == head


def test_a_plugin_named_in_an_edited_configuration_ends_the_session_before_it_judges(
    measured: Project, tmp_path: Path
) -> None:
    """pytest loads ``-p`` before any hook of ours: it cannot be found, and that is the end."""
    marker = tmp_path / "imported"
    measured.edit(*BETTER)
    measured.edit('"-p", "no:cacheprovider"', '"-p", "evil_plugin"', "pyproject.toml")
    append("evil_plugin.py")(measured, f"open({str(marker)!r}, 'w').close()\n")
    head = measured.head

    result = measured.run(sys.executable, "-P", "-m", "pytest", "--autoresearch")

    assert result.returncode == 4, result.output
    assert not marker.exists()
    assert measured.head == head
    assert len(state(measured).settled) == 1


def test_the_conftest_of_an_agent_does_run_without_the_guard(
    measured: Project, tmp_path: Path
) -> None:
    """The control: the same file under plain pytest."""
    marker = tmp_path / "imported"
    append("conftest.py")(measured, f"open({str(marker)!r}, 'w').close()\n")
    append("harness_tests/test_mid_loop.py")(
        measured, f"open({str(marker)!r} + '2', 'w').close()\n"
    )

    measured.pytest("harness_tests")

    assert marker.exists()
    assert marker.with_name("imported2").exists()


def test_a_halted_project_works_again_once_the_edit_is_undone(
    measured: Project, tmp_path: Path
) -> None:
    append("prepare.py")(measured, "# more\n")
    measured.edit(*WORSE)
    assert measured.autoresearch().returncode == 4

    measured.git("restore", "--source=HEAD", "--", "prepare.py")
    result = measured.autoresearch()

    assert result.returncode == 10, result.output
    assert [row.kind for row in state(measured).settled] == ["baseline", "halt", "verdict"]


def test_a_breach_before_any_baseline_halts_too(project: Project, tmp_path: Path) -> None:
    marker = tmp_path / "imported"
    append("conftest.py")(project, f"open({str(marker)!r}, 'w').close()\n")

    result = project.autoresearch()

    assert result.returncode == 4, result.output
    assert "conftest.py" in result.stderr
    assert not marker.exists()
    assert project.results() == []
