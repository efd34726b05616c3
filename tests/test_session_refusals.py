"""
What a session needs, what it refuses with a way out, and what it leaves alone when it is not asked.
"""

from __future__ import annotations

import shutil
import sys

import pytest
from observe import BETTER, difference, end, journal, snapshot, start, state, wait_for
from project import LEAN, STOCK, Project

PARTIAL = (
    ("-k", "parsed"),
    ("-m", "not gate"),
    ("--deselect=harness_tests/test_post_loop.py",),
    ("--ignore=harness_tests/test_post_loop.py",),
    ("--ignore-glob=*post*",),
    ("--lf",),
    ("--sw",),
    ("--setup-only",),
    ("--setup-plan",),
    ("--noconftest",),
)


@pytest.fixture(scope="session")
def unused(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A measured project with a better candidate, for sessions that must not judge it."""
    project = template.copy(tmp_path_factory.mktemp("unused") / "project")
    project.edit(', "-p", "no:cacheprovider"', "", "pyproject.toml")
    project.commit("with --lf and --sw")
    project.baseline().edit(*BETTER)
    return project


def refused(project: Project, *arguments: str) -> str:
    """Run a session that must be refused without a trace; what it said."""
    before = snapshot(project.root, ".autoresearch/main/lock")
    result = project.autoresearch(*arguments)
    assert result.returncode == 4, result.output
    assert "Traceback" not in result.output
    assert difference(before, snapshot(project.root, ".autoresearch/main/lock")) == []
    return result.stderr


@pytest.mark.parametrize("options", PARTIAL, ids=" ".join)
def test_an_option_that_hides_gates_is_refused(unused: Project, options: tuple[str, ...]) -> None:
    said = refused(unused, *options)

    assert "a verdict needs every gate" in said
    assert "--autoresearch-dry-run" in said


@pytest.mark.parametrize(
    "options",
    [("-n", "2"), ("-n2",), ("-n", "2", "-p", "no:xdist"), ("--dist=load",)],
    ids=" ".join,
)
def test_distributed_sessions_are_refused_with_a_way_out(
    unused: Project, options: tuple[str, ...]
) -> None:
    said = refused(unused, *options)

    assert "-n is incompatible with --autoresearch" in said
    assert "--autoresearch-rounds N" in said


@pytest.mark.parametrize(
    "options",
    [
        ("--autoresearch-candidate=HEAD",),
        ("--autoresearch-rounds=3",),
        ("--autoresearch-agent=true",),
        ("--autoresearch-dry-run",),
        ("--autoresearch-tag=x",),
        ("--autoresearch-message=x",),
    ],
    ids=" ".join,
)
def test_an_option_without_autoresearch_is_refused(
    unused: Project, options: tuple[str, ...]
) -> None:
    result = unused.pytest(*options, env=LEAN)

    assert result.returncode == 4
    assert options[0].partition("=")[0] in result.stderr
    assert "add --autoresearch" in result.stderr


@pytest.mark.parametrize(
    "option",
    [
        "--help",
        "--version",
        "--markers",
        "--fixtures",
        "--fixtures-per-test",
        "--collect-only",
        "--cache-show",
    ],
)
def test_looking_around_judges_nothing_and_changes_nothing(unused: Project, option: str) -> None:
    own = (".autoresearch/main/lock", ".pytest_cache")
    before = snapshot(unused.root, *own)

    result = unused.autoresearch(option)

    assert difference(before, snapshot(unused.root, *own)) == []
    assert result.returncode == 0, result.output
    assert "REVERTED" not in result.output
    expected = {
        "--help": "--autoresearch-candidate",
        "--markers": "gate(stage)",
        "--fixtures": "training_run",
        "--fixtures-per-test": "training_run",
        "--collect-only": "test_model_is_fair",
    }
    assert expected.get(option, "") in result.output


def test_plain_pytest_skips_the_gates_and_imports_nothing_heavy(unused: Project) -> None:
    heavy = ("numpy", "git", "torch", "tabulate", "msgspec", "pytest_autoresearch.campaign")
    unused.write(
        "tests/test_plain.py",
        "import sys\n\n\ndef test_plain():\n"
        f"    assert [name for name in {heavy!r} if name in sys.modules] == []\n",
    )

    result = unused.pytest("harness_tests", "tests", "-rs")

    assert result.returncode == 0, result.output
    assert f"1 passed, {STOCK} skipped" in result.stdout
    assert "a gate: judges a candidate under --autoresearch" in result.stdout
    shutil.rmtree(unused.root / "tests")


def test_a_detached_head_is_refused(measured: Project) -> None:
    measured.git("checkout", "-q", "--detach")

    said = refused(measured)

    assert "detached" in said
    assert "git switch" in said


def test_another_branch_than_the_campaigns_is_refused(measured: Project) -> None:
    measured.git("switch", "-q", "main")

    said = refused(measured)

    assert "git switch autoresearch/main" in said
    assert "--autoresearch-tag" in said


def test_a_merge_in_progress_is_refused(measured: Project) -> None:
    measured.write(".git/MERGE_HEAD", f"{measured.head}\n")

    assert "merge" in refused(measured)


def test_a_staged_surface_is_refused_or_judged_but_never_lost(measured: Project) -> None:
    measured.edit(*BETTER)
    measured.git("add", "train.py")
    measured.edit("BATCH_SIZE = 64", "BATCH_SIZE = 63")

    result = measured.autoresearch()

    if result.returncode == 4:
        assert "train.py" in result.stderr
        assert "BATCH_SIZE = 63" in measured.read("train.py")
    else:
        assert measured.status == ""


def test_a_repository_without_commits_is_refused(project: Project) -> None:
    shutil.rmtree(project.root / ".git")
    project.git("init", "-q")

    said = project.autoresearch()

    assert said.returncode == 4, said.output
    assert "no commits" in said.stderr
    assert "git commit" in said.stderr


def test_no_git_at_all_is_refused(project: Project) -> None:
    shutil.rmtree(project.root / ".git")

    said = refused(project)

    assert "git init" in said
    assert not (project.root / ".autoresearch").exists()


def test_a_machine_without_git_is_refused(measured: Project) -> None:
    result = measured.run(
        sys.executable, "-m", "pytest", "--autoresearch", env={"PATH": "/nonexistent"}
    )

    assert result.returncode == 4, result.output
    assert "git" in result.stderr
    assert "Traceback" not in result.output


def test_missing_data_is_refused(project: Project) -> None:
    shutil.rmtree(project.root / "data")

    result = project.autoresearch()

    assert result.returncode == 4, result.output
    assert "python prepare.py" in result.stderr


def test_changed_heldout_labels_halt(measured: Project) -> None:
    labels = measured.root / "data" / "heldout" / "val" / "labels.npy"
    content = bytearray(labels.read_bytes())
    content[-1] ^= 1
    labels.write_bytes(content)

    result = measured.autoresearch()

    assert result.returncode == 4, result.output
    assert "heldout/val/labels.npy" in result.stderr


def test_a_missing_surface_file_is_refused_with_a_way_out(measured: Project) -> None:
    (measured.root / "train.py").unlink()

    result = measured.autoresearch()

    assert result.returncode == 4, result.output
    assert "git restore -- train.py" in result.stderr


def test_a_mutation_that_the_budget_cannot_pay_halts(project: Project) -> None:
    project.write(
        "pyproject.toml",
        f"{project.read('pyproject.toml')}\n[tool.autoresearch.budget]\ntotal = 20\n",
    )
    project.commit("a small budget")
    project.edit("def main():\n", "def main():\n    more = 1\n")
    candidate = project.read("train.py")

    result = project.autoresearch()

    assert result.returncode == 4, result.output
    assert "SYSTEM HALT: MUTATION BUDGET EXHAUSTED. Requested 25, remaining 20." in result.stderr
    assert [row.kind for row in state(project).settled] == ["halt"]
    assert project.read("train.py") == candidate


def test_a_second_session_at_the_same_time_is_refused_and_names_the_first(
    measured: Project,
) -> None:
    with journal(measured).lock():
        said = refused(measured)
    assert "another session is at work" in said
    assert "process " in said

    measured.edit("def main():\n", "def main():\n    import time\n    time.sleep(15)\n")
    process = start(measured)
    try:
        runs = measured.root / ".autoresearch" / "main" / "runs"
        wait_for(lambda: len(list(runs.rglob("run.log"))) > 3, "the second session's run")
        result = measured.autoresearch()
    finally:
        end(process)

    assert result.returncode == 4, result.output
    assert f"process {process.pid} on " in result.stderr


def test_a_session_passes_where_every_warning_is_an_error(unused: Project) -> None:
    result = unused.run(
        sys.executable, "-W", "error", "-m", "pytest", "--autoresearch", "--autoresearch-dry-run"
    )

    assert result.returncode == 0, result.output
    assert "WOULD BE KEPT" in result.stdout
    assert "Warning" not in result.output
