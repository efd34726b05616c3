"""
What somebody leaves in the working tree beside the surface: the session halts, names the file, and runs none
of it; or it has no effect.

What is covered: files that are there when a session starts, in whatever way pytest or the interpreter would
obey them, and what is exchanged while it runs. Files exchanged right between comparison and import have
their tests in test_pinned.py, git's own machinery in test_vcs.py.
What is not covered, and shown here so that nobody relies on it: what Python and pytest import before any hook,
where the root is on ``sys.path``.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from observe import BETTER, WORSE, difference, last_codes, snapshot, state
from project import LEAN, Project

Edit = Callable[[Project, str], None]
#: With every installed plugin: entry points are what the test is about.
ALL_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "", "PYTEST_PLUGINS": ""}
#: Of the caches that pytest makes of rewritten modules.
TAG = f"{sys.implementation.cache_tag}-pytest-{pytest.__version__}"


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


def entry_point(directory: str) -> Edit:
    """A plugin without an install."""

    def edit(project: Project, evil: str) -> None:
        append("owned.py")(project, evil)
        project.write(f"{directory}/METADATA", "Metadata-Version: 2.1\nName: owned\nVersion: 1\n")
        project.write(f"{directory}/PKG-INFO", "Metadata-Version: 2.1\nName: owned\nVersion: 1\n")
        project.write(f"{directory}/entry_points.txt", "[pytest11]\nowned = owned\n")

    return edit


def undecodable(project: Project, evil: str) -> None:
    (project.root / "harness_tests" / os.fsdecode(b"test_\xff.py")).write_text(evil)


def configured(project: Project, _: str) -> None:
    """An ini file before pyproject.toml's table, which hides it by what it does not say."""
    project.write("pytest.ini", "")


#: What is left behind in one go, as far as it can stand beside the rest, and the files to be named for it.
EDITS: dict[str, tuple[tuple[Edit, str], ...]] = {
    "changed": (
        (append("prepare.py"), "prepare.py"),
        (append("harness_tests/test_pre_loop.py"), "harness_tests/test_pre_loop.py"),
        (removed, "harness_tests/test_post_loop.py"),
        (settings, "pyproject.toml"),
        (excluded, "conftest.py"),
    ),
    "hidden": ((hidden("--skip-worktree"), "prepare.py"),),
    "committed": ((committed, "prepare.py"),),
    "gates emptied": ((emptied, "harness_tests/test_mid_loop.py"),),
    "gates linked": ((linked, "harness_tests"),),
    "added": (
        (append("conftest.py"), "conftest.py"),
        (append("docs/more/conftest.py"), "docs/more/conftest.py"),
        (append("harness_tests/conftest.py"), "harness_tests/conftest.py"),
        (append("harness_tests/CONFTEST.PY"), "harness_tests/CONFTEST.PY"),
        (append("harness_tests/json.py"), "harness_tests/json.py"),
        (nested, "harness_tests/more"),
        (configured, "pytest.ini"),
        (append("numpy/__init__.py"), "numpy/__init__.py"),
        (append("tabulate.py"), "tabulate.py"),
        (append("sitecustomize.py"), "sitecustomize.py"),
        (append("docs/usercustomize.py"), "docs/usercustomize.py"),
        (append("Train.py"), "Train.py"),
        (append("lib/evil.pth"), "lib/evil.pth"),
        (append("prepare/__init__.py"), "prepare/__init__.py"),
        (entry_point("owned-1.dist-info"), "owned-1.dist-info/entry_points.txt"),
        (entry_point("owned.egg-info"), "owned.egg-info/entry_points.txt"),
        (undecodable, "harness_tests/test_"),
    ),
}
#: Ini files that pytest obeys from the root without an option, with a setting that hides every gate.
INI = {
    "pytest.ini": "[pytest]\npython_files = none_*.py\n",
    ".pytest.ini": "[pytest]\npython_files = none_*.py\n",
    "pytest.toml": "[pytest]\npython_files = ['none_*.py']\n",
    ".pytest.toml": "[pytest]\npython_files = ['none_*.py']\n",
    "tox.ini": "[pytest]\npython_files = none_*.py\n",
    "setup.cfg": "[tool:pytest]\npython_files = none_*.py\n",
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_outside_the_surface_halt_before_any_of_them_is_imported(
    measured: Project, tmp_path: Path, name: str
) -> None:
    marker = tmp_path / "imported"
    head = measured.head
    measured.edit(*BETTER)
    for edit, _ in EDITS[name]:
        edit(measured, f"open({str(marker)!r}, 'w').close()\n")
    moved = measured.head
    before = snapshot(measured.root, ".git", ".autoresearch", "results.tsv")

    result = measured.console(env=ALL_PLUGINS if name == "added" else None)

    assert not marker.exists()
    assert result.returncode == 4, result.output
    assert "SYSTEM HALT" in result.stderr
    assert measured.head == moved
    after = snapshot(measured.root, ".git", ".autoresearch", "results.tsv")
    assert difference(before, after) == []
    found = state(measured)
    assert [row.kind for row in found.settled] == ["baseline", "halt"]
    for _, path in EDITS[name]:
        assert re.search(rf"  '{re.escape(path)}.*to undo: ", result.stderr), path
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

    result = measured.console()

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

    measured.pytest("harness_tests", env=LEAN)

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


@pytest.mark.parametrize("name", INI)
def test_control_plain_pytest_obeys_an_ini_file(measured: Project, name: str) -> None:
    if name in ("tox.ini", "setup.cfg"):
        # They come after pyproject.toml, so they only count without its table.
        measured.edit("[tool.pytest]", "[t]", "pyproject.toml")
    measured.write(name, INI[name])
    assert (
        "no tests collected" in measured.pytest("--collect-only", "harness_tests", env=LEAN).stdout
    )


def test_every_ini_file_that_pytest_would_obey_halts(measured: Project) -> None:
    for name, content in INI.items():
        measured.write(name, content)

    result = measured.autoresearch()

    assert result.returncode == 4, result.output
    assert [row.kind for row in state(measured).settled] == ["baseline", "halt"]
    for name in INI:
        assert f"{name!r}: added" in result.stderr


# -- where the root is on sys.path ---------------------------------------------


SHADOWS = ("msgspec.py", "git/__init__.py", "numpy.py", "tabulate.py", "torch/__init__.py")


def test_a_shadow_of_what_the_plugin_imports_never_runs_even_with_python_m(
    measured: Project, tmp_path: Path
) -> None:
    markers = [tmp_path / f"imported{number}" for number in range(len(SHADOWS))]
    for path, marker in zip(SHADOWS, markers, strict=True):
        append(path)(measured, f"open({str(marker)!r}, 'w').close()\n")

    result = measured.autoresearch()

    assert result.returncode == 4, result.output
    for path, marker in zip(SHADOWS, markers, strict=True):
        assert f"{path!r}: added" in result.stderr
        assert not marker.exists()
    # The control: the same working directory, without the guard.
    names = ", ".join(path.partition("/")[0].removesuffix(".py") for path in SHADOWS)
    measured.run(sys.executable, "-c", f"import {names}")
    assert all(marker.exists() for marker in markers)


EARLY: dict[str, Edit] = {
    "pytest": append("pytest.py"),
    "standard library": append("argparse.py"),
    "entry point": entry_point("owned-1.dist-info"),
    "plugin in an ini file": lambda project, evil: (
        append("owned.py")(project, evil),
        project.edit('"-p", "no:cacheprovider"', '"-p", "owned"', "pyproject.toml"),
    )[-1],
}


@pytest.mark.parametrize("name", EARLY)
def test_what_is_imported_before_any_hook_needs_an_import_path_without_the_project(
    measured: Project, tmp_path: Path, name: str
) -> None:
    """The limit of any plugin: ``python -m pytest`` runs it, ``pytest`` and ``python -P`` do not."""
    marker = tmp_path / "imported"
    head = measured.head
    EARLY[name](measured, f"open({str(marker)!r}, 'w').close()\n")
    plugins = ALL_PLUGINS if name == "entry point" else {}

    result = measured.console(env=plugins)

    assert result.returncode == 4, result.output
    assert not marker.exists()
    assert measured.head == head
    measured.autoresearch("--collect-only", env=plugins)
    assert marker.exists()


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control"])
def test_bytecode_in_a_directory_of_somebody_elses_choice_is_not_read(
    measured: Project, tmp_path: Path, guarded: bool
) -> None:
    """``PYTHONPYCACHEPREFIX`` moves every cache to a place that no comparison looks at."""
    marker = tmp_path / "imported"
    gate = measured.root / "harness_tests" / "test_mid_loop.py"
    prefix = tmp_path / "caches"
    cache = prefix / gate.parent.relative_to("/") / f"test_mid_loop.{TAG}.pyc"
    cache.parent.mkdir(parents=True)
    source = gate.read_bytes()
    forged = compile(f"{source.decode()}\nopen({str(marker)!r}, 'w').close()\n", str(gate), "exec")
    header = importlib.util.MAGIC_NUMBER + b"\x03\0\0\0" + importlib.util.source_hash(source)
    cache.write_bytes(header + marshal.dumps(forged))
    arguments = ["--autoresearch"] if guarded else ["harness_tests"]

    result = measured.run(
        *(sys.executable, "-P", "-m", "pytest", "--collect-only", *arguments),
        env={**LEAN, "PYTHONPYCACHEPREFIX": str(prefix)},
    )

    assert result.returncode == 0, result.output
    assert marker.exists() is not guarded


# -- while the session runs ----------------------------------------------------


def writes(path: str, content: str) -> str:
    """A statement of train.py that writes to the project, which level ``none`` does not stop."""
    return f"    open(os.environ['AUTORESEARCH_TRAIN'] + '/../../' + {path!r}, 'w').write({content!r})\n"


@pytest.mark.parametrize(
    "path", ["prepare.py", "conftest.py", "data/train/labels.npy", "data/heldout/val/labels.npy"]
)
def test_what_a_run_changes_beside_it_ends_its_own_keep_on_the_record(
    measured: Project, path: str
) -> None:
    before = measured.head
    start = "def main():\n"
    measured.edit(*BETTER)
    measured.edit(start, start + writes(path, "raise SystemExit\n"))

    result = measured.autoresearch()

    assert result.returncode == 1, result.output
    assert measured.head == before
    assert measured.git("diff", "HEAD", "--", "train.py") == ""
    assert last_codes(measured) == ["halt"]
    *_, verdict, halt = state(measured).settled
    assert verdict.reasons[0].code == "harness-touched"
    assert path in verdict.reasons[0].message
    assert halt.kind == "halt"
    assert path in halt.description
    # Nothing was said about the candidate, and nothing goes on before the file is back.
    assert measured.autoresearch().returncode == 4


def test_without_a_second_look_the_same_candidate_is_good_enough(measured: Project) -> None:
    """The control: the same mutation, without the write, is kept."""
    measured.edit(*BETTER)
    measured.edit("def main():\n", "def main():\n    os.getpid()\n")
    assert measured.autoresearch().returncode == 0


# -- repository and ledgers ----------------------------------------------------


@pytest.mark.parametrize(
    "lock", ["index.lock", "refs/heads/autoresearch/main.lock", "packed-refs.lock"]
)
def test_a_stale_lock_is_named_and_nothing_is_lost_once_it_is_removed(
    measured: Project, lock: str
) -> None:
    """Whatever the lock stands in the way of; where it does not, the session is as any other."""
    before = measured.head
    measured.edit(*BETTER)
    path = measured.root / ".git" / lock
    path.touch()

    result = measured.autoresearch()

    if result.returncode != 0:
        assert result.returncode in (4, 12), result.output
        assert lock in " ".join(result.output.split())
        assert measured.head == before
        path.unlink()
        measured.git("restore", "--staged", "--worktree", "train.py")
        measured.edit(*BETTER)
        measured.edit("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.06")
        result = measured.autoresearch()
        assert result.returncode == 0, result.output
    assert measured.head != before
    assert state(measured).incumbent.commit == measured.head


def test_a_commit_forced_into_the_branch_is_only_read_as_data(measured: Project) -> None:
    """An amended keep: the incumbent is what the ledger says, and the branch goes back to it."""
    measured.edit(*BETTER)
    assert measured.autoresearch().returncode == 0
    kept = measured.head
    measured.edit("STEPS = 120", "STEPS = 10")
    measured.git("commit", "-q", "-a", "--amend", "-m", "the best so far")

    result = measured.autoresearch()

    assert result.returncode == 10, result.output
    assert measured.head == kept
    assert "STEPS = 120" in measured.read("train.py")
    assert state(measured).incumbent.commit == kept


def truncated(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))


def edited(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"autoresearch/main", b"autoresearch/mine", 1))
    assert path.read_bytes() != content


def linked_away(path: Path) -> None:
    path.rename(path.with_suffix(".bak"))
    path.symlink_to(path.with_suffix(".bak").name)


@pytest.mark.parametrize(
    ("ledger", "deed"),
    [
        ("restore-source.jsonl", truncated),
        ("restore-source.jsonl", edited),
        ("restore-source.jsonl", linked_away),
        ("cutover-audit.jsonl", edited),
        ("cutover-audit.jsonl", linked_away),
    ],
)
def test_beside_a_ledger_that_somebody_wrote_to_nothing_is_kept(
    measured: Project, deed: Callable[[Path], None], ledger: str
) -> None:
    """Refused at once, or by the gate on the ledgers, which names the file."""
    deed(measured.root / ".autoresearch" / "main" / ledger)
    measured.edit(*BETTER)
    before = measured.head

    result = measured.autoresearch()

    assert result.returncode in (1, 4), result.output
    assert ledger in result.output
    assert measured.head == before


def test_a_settlement_cut_off_at_its_last_row_is_a_crash_and_is_settled_again(
    measured: Project,
) -> None:
    """No ledger can tell one from the other; nothing is gained, because what is undone stays paid for."""
    measured.edit(*WORSE)
    assert measured.autoresearch().returncode == 10
    truncated(measured.root / ".autoresearch" / "main" / "cutover-audit.jsonl")

    result = measured.autoresearch()

    assert result.returncode == 0, result.output
    assert "recovered: the revert that an earlier session left open" in result.stdout
    assert state(measured).spent == 10


def another_repository(git: Path) -> None:
    """A repository of its own, with a commit, in the place of the one that holds the harness."""
    shutil.rmtree(git)
    project = Project(git.parent)
    project.git("init", "-q", "-b", "autoresearch/main")
    project.commit("mine")


def gitfile(git: Path) -> None:
    """The same repository behind a file, which is what a worktree has: nothing to object to."""
    git.rename(git.parent.parent / "elsewhere.git")
    git.write_text(f"gitdir: {git.parent.parent / 'elsewhere.git'}\n")


def lost_objects(git: Path) -> None:
    """An object directory of somebody else's, by way of alternates."""
    (git / "objects").rename(git.parent.parent / "objects")
    shutil.copytree(git.parent.parent / "objects", git / "objects")
    commit = Project(git.parent).git("rev-parse", "HEAD:prepare.py")
    (git / "objects" / commit[:2] / commit[2:]).unlink()
    (git / "objects" / "info").mkdir(exist_ok=True)
    (git / "objects" / "info" / "alternates").write_text(f"{git.parent.parent / 'objects'}\n")


@pytest.mark.parametrize(
    ("swap", "status"),
    [(another_repository, 4), (gitfile, 0), (lost_objects, 0)],
    ids=["another-repository", "gitfile", "alternates"],
)
def test_a_repository_is_known_by_the_ids_of_its_objects(
    measured: Project, swap: Callable[[Path], None], status: int
) -> None:
    """Where it stands has no say; another one does not hold what the ledger names."""
    measured.edit(*BETTER)
    swap(measured.root / ".git")

    result = measured.autoresearch()

    assert result.returncode == status, result.output
    assert (state(measured).incumbent.commit == measured.head) is (status == 0)


# -- the surface ---------------------------------------------------------------


def as_symlink(path: Path) -> None:
    path.rename(path.with_name("elsewhere.txt"))
    path.symlink_to("elsewhere.txt")


def as_hard_link(path: Path) -> None:
    os.link(path, path.with_name("elsewhere.txt"))


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_submodule(path: Path) -> None:
    path.unlink()
    Project(path.parent).git("init", "-q", "train.py")


@pytest.mark.parametrize(
    "become",
    [as_symlink, as_hard_link, as_pipe, as_directory, as_submodule],
    ids=lambda f: f.__name__.removeprefix("as_"),
)
def test_a_candidate_that_is_no_plain_file_is_refused(
    measured: Project, become: Callable[[Path], None]
) -> None:
    before = measured.head
    measured.edit(*BETTER)
    become(measured.root / "train.py")

    result = measured.autoresearch()

    assert result.returncode == 4, result.output
    assert "train.py" in result.stderr
    assert measured.head == before
