"""
Ways to end a session with fewer gates than it owes, other than by an option: none of them keeps.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from observe import BETTER, state
from project import Project

THIEF = """\
import pytest

HIDDEN = "test_model_is_fair"


def pytest_collection_modifyitems(config, items):
    if MODE == "deselect":
        gone = [item for item in items if HIDDEN in item.name]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]
    if MODE == "clear":
        items.clear()
    if MODE == "skip":
        for item in items:
            item.add_marker(pytest.mark.skip)


def pytest_ignore_collect(collection_path):
    if MODE == "ignore" and "post" in collection_path.name:
        return True


def pytest_pycollect_makeitem(name):
    if MODE == "uncollect" and name == HIDDEN:
        return []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    if MODE == "swallow" and HIDDEN in item.name:
        return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop():
    if MODE == "loop":
        return True


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if MODE == "exit" and HIDDEN in pyfuncitem.name:
        pytest.exit("enough", returncode=0)
"""


def judged_but_not_kept(project: Project, *arguments: str, **env: str) -> str:
    """Judge a better candidate with hidden gates; what the session said."""
    before = project.head
    project.edit(*BETTER)

    result = project.autoresearch(*arguments, env=env)

    assert "INTERNALERROR" not in result.output
    assert "\nKEPT" not in result.output
    assert "WOULD BE KEPT" not in result.output
    assert project.head == before
    assert state(project).settled[-1].status != "keep" or len(state(project).settled) == 1
    incumbent = state(project).incumbent
    assert incumbent is not None
    assert incumbent.commit == before
    return f"{result.output}\nstatus {result.returncode}"


@pytest.mark.parametrize(
    "mode", ["deselect", "clear", "skip", "ignore", "uncollect", "swallow", "loop", "exit"]
)
def test_a_plugin_that_hides_gates_never_gets_a_keep(
    measured: Project, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "thief.py").write_text(f"MODE = {mode!r}\n{THIEF}")

    said = judged_but_not_kept(
        measured, "-p", "thief", PYTHONPATH=str(tmp_path / "plugins"), PYTHONDONTWRITEBYTECODE="1"
    )

    if mode == "exit":
        return  # interrupted: no verdict, and no candidate lost
    if mode in ("deselect", "ignore", "uncollect", "swallow"):
        assert said.endswith("status 1")
        assert "harness_tests/test_post_loop.py::test_model_is_fair" in said
    assert "status 0" not in said


def test_the_same_plugin_hides_a_gate_from_plain_pytest(measured: Project, tmp_path: Path) -> None:
    """The control."""
    (tmp_path / "thief.py").write_text(f"MODE = 'deselect'\n{THIEF}")

    result = measured.pytest("harness_tests", "-p", "thief", env={"PYTHONPATH": str(tmp_path)})

    assert result.returncode == 0, result.output
    assert "1 deselected" in result.stdout


@pytest.mark.parametrize(
    "option",
    [
        "python_files=test_pre_loop.py",
        "python_functions=test_training*",
        "addopts=-k parsed",
        "usefixtures=missing",
    ],
)
def test_an_overridden_setting_that_hides_gates_never_gets_a_keep(
    measured: Project, option: str
) -> None:
    said = judged_but_not_kept(measured, "-o", option)

    assert not said.endswith(("status 0", "status 10"))


def test_options_in_the_environment_that_hide_gates_are_refused(measured: Project) -> None:
    said = judged_but_not_kept(measured, PYTEST_ADDOPTS="-k parsed")

    assert said.endswith("status 4")
    assert "-k is incompatible with --autoresearch" in said


def test_stopping_at_the_first_failure_judges_what_has_failed(measured: Project) -> None:
    measured.edit("import os\n", "import os\nAUTORESEARCH_SEED = 1\n")

    said = judged_but_not_kept(measured, "-x")

    assert said.endswith("status 1")
    assert "test_protected_parameters_are_untouched" in measured.results()[-1]["reason"]
    assert measured.status == ""


@pytest.mark.parametrize("gates", ["none", "an empty file"])
def test_an_empty_harness_measures_no_baseline_and_keeps_nothing(
    project: Project, gates: str
) -> None:
    for path in (project.root / "harness_tests").glob("test_*.py"):
        path.unlink()
    project.write("harness_tests/.gitkeep" if gates == "none" else "harness_tests/test_all.py", "")
    before = project.commit("no gates")

    for edit in ((), BETTER):
        if edit:
            project.edit(*edit)
        result = project.autoresearch()

        assert result.returncode not in (0, 10), result.output
        assert "\nKEPT" not in result.output
        assert project.head == before
    assert state(project).incumbent is None


def test_a_first_session_with_a_skipped_gate_is_no_baseline_and_can_be_mended(
    project: Project,
) -> None:
    project.write(
        "harness_tests/test_later.py",
        "import pytest\n\n\n@pytest.mark.skip(reason='later')\n@pytest.mark.gate\n"
        "def test_later():\n    pass\n",
    )
    project.commit("a gate for later")

    result = project.autoresearch()

    assert result.returncode == 1, result.output
    assert "test_later skipped: later" in result.output
    assert "KEPT" not in result.output

    (project.root / "harness_tests" / "test_later.py").unlink()
    mended = project.commit("no gate for later")
    result = project.autoresearch()

    assert result.returncode == 0, result.output
    incumbent = state(project).incumbent
    assert incumbent is not None
    assert (incumbent.commit, incumbent.n) == (mended, 3)
