"""The Fixed Harness held against a real work tree: every way in that was thought of, and honest work beside it."""

from __future__ import annotations

import marshal
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from project import LEAN, Project

from pytest_autoresearch import harness
from pytest_autoresearch.harness import (
    Breach,
    breaches,
    discard_bytecode,
    halt_message,
    require_intact,
)
from pytest_autoresearch.records import FixedHarnessViolation
from pytest_autoresearch.vcs import Repository


def found(project: Project, commit: str | None = None) -> dict[str, Breach]:
    repository = Repository(project.root)
    listed = breaches(
        project.root,
        repository.blobs(commit or repository.head_commit()),
        hash_blob=repository.hash_blob,
        surface=frozenset({"train.py"}),
        harness=("harness_tests",),
        own=("data", ".autoresearch"),
        commit=commit or "HEAD",
    )
    return {breach.path: breach for breach in listed}


def link(project: Project, path: str, target: str | Path) -> None:
    (project.root / path).symlink_to(target)


def test_a_fresh_checkout_is_intact(project: Project) -> None:
    assert found(project) == {}


# -- what was ratified and is no longer there ----------------------------------


def test_a_changed_file_is_named_and_its_remedy_works(project: Project) -> None:
    project.write("prepare.py", "def evaluate(*_): return {'val_loss': 0.2}\n")
    breach = found(project)["prepare.py"]
    assert breach.what == "changed"
    subprocess.run(breach.remedy, shell=True, cwd=project.root, check=True)
    assert found(project) == {}


@pytest.mark.parametrize("bit", ["--skip-worktree", "--assume-unchanged"])
def test_an_edit_that_git_status_hides_is_seen_and_its_remedy_works(
    project: Project, bit: str
) -> None:
    project.git("update-index", bit, "prepare.py")
    project.write("prepare.py", project.read("prepare.py") + "\n# hidden\n")
    assert project.status == ""
    breach = found(project)["prepare.py"]
    assert breach.what == "changed"
    subprocess.run(breach.remedy, shell=True, cwd=project.root, check=True)
    assert found(project) == {}


def test_the_remedy_takes_the_ratified_content_and_not_a_commit_of_the_agent(
    project: Project,
) -> None:
    ratified = project.head
    before = project.read("prepare.py")
    project.write("prepare.py", "# mine\n")
    project.commit("innocent words")
    breach = found(project, ratified)["prepare.py"]
    assert breach.what == "changed"
    subprocess.run(breach.remedy, shell=True, cwd=project.root, check=True)
    assert project.read("prepare.py") == before


def test_a_deleted_gate_is_seen(project: Project) -> None:
    (project.root / "harness_tests/test_post_loop.py").unlink()
    assert found(project)["harness_tests/test_post_loop.py"].what == "deleted or replaced"


def test_a_time_stamp_and_a_filter_have_no_say(project: Project) -> None:
    project.write(".git/info/attributes", "*.py ident filter=lie\n")
    project.git("config", "filter.lie.clean", "git cat-file blob HEAD:prepare.py")
    stamp = (project.root / "prepare.py").stat()
    project.edit("Trusted", "TRUSTED", "prepare.py")
    os.utime(project.root / "prepare.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert set(found(project)) == {"prepare.py"}


def replace_by_symlink(path: Path) -> None:
    target = path.with_name("elsewhere.txt")
    path.rename(target)
    path.symlink_to(target.name)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "replace", [replace_by_symlink, replace_by_directory, replace_by_fifo], ids=lambda f: f.__name__
)
def test_a_file_that_became_something_else_is_seen_even_with_the_same_content(
    project: Project, replace: Callable[[Path], None]
) -> None:
    replace(project.root / "program.md")
    assert found(project)["program.md"].what == "deleted or replaced"


def test_a_ratified_symlink_is_held_by_its_target(project: Project) -> None:
    link(project, "README.md", "program.md")
    project.commit("a link")
    assert found(project) == {}
    (project.root / "README.md").unlink()
    link(project, "README.md", "train.py")
    assert found(project)["README.md"].what == "changed"
    (project.root / "README.md").unlink()
    project.write("README.md", "program.md")
    assert found(project)["README.md"].what == "deleted or replaced"


def test_a_directory_replaced_by_a_link_to_its_twin_is_seen(project: Project) -> None:
    project.write("extra/test_more.py", "def test_more(candidate): ...\n")
    project.commit("gates given on the command line")
    twin = project.root.parent / "twin"
    shutil.move(project.root / "extra", twin)
    (twin / "conftest.py").write_text("raise SystemExit('owned')\n")
    link(project, "extra", twin)
    assert found(project)["extra/test_more.py"].what == "deleted or replaced"


def test_a_directory_replaced_by_a_file_is_seen(project: Project) -> None:
    shutil.rmtree(project.root / "harness_tests")
    project.write("harness_tests", "")
    assert "harness_tests/test_pre_loop.py" in found(project)


def test_permissions_are_no_content(project: Project) -> None:
    # git on file systems without an executable bit could never undo such a breach.
    (project.root / "prepare.py").chmod(0o755)
    assert found(project) == {}


def test_the_surface_is_not_compared(project: Project) -> None:
    project.write("train.py", "anything\n")
    assert found(project) == {}
    (project.root / "train.py").unlink()
    assert found(project) == {}


# -- what was never ratified and would take effect -----------------------------


@pytest.mark.parametrize(
    "path",
    [
        "conftest.py",
        "docs/conftest.py",
        "deep/er/conftest.py",
        "notebooks/ConfTest.py",
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        ".pytest.toml",
        "tox.ini",
        "setup.cfg",
        "evil.pth",
        "deep/evil.PTH",
        "sitecustomize.py",
        "deep/usercustomize.py",
        "pytest.py",
        "msgspec.py",
        "torch.pyc",
        "numpy.so",
        "numpy.cpython-311-x86_64-linux-gnu.so",
        "prepare/__init__.py",
        "numpy/__init__.pyc",
        "json/__init__.so",
        "harness_tests/test_extra.py",
        "harness_tests/notes.txt",
        "harness_tests/sub/__init__.py",
        "harness_tests/pyvenv.cfg",
        "Train.py",
        "TRAIN.PY",
    ],
)
def test_a_foreign_file_that_would_take_effect_is_named(project: Project, path: str) -> None:
    project.write(path, "raise SystemExit('owned')\n")
    assert set(found(project)) == {path}


def test_a_case_variant_of_the_surface_is_called_one(project: Project) -> None:
    project.write("Train.py", "")
    assert found(project)["Train.py"].what == "a case variant of 'train.py'"


@pytest.mark.parametrize("ignore", [".git/info/exclude", "notes/.gitignore"])
def test_ignore_rules_hide_nothing(project: Project, ignore: str) -> None:
    project.write(ignore, "*\n")
    project.write("notes/conftest.py", "")
    assert "notes/conftest.py" in found(project)


@pytest.mark.parametrize(
    "path",
    [
        "tools/stats/__init__.py",  # a package wins over stats.py
        "tools/stats.cpython-311-x86_64-linux-gnu.so",  # so does an extension module
        "tools/msgspec.py",  # the directory may stand on sys.path (pythonpath)
        "src/numpy.py",
        "src/numpy/__init__.py",
        "src/package/deeper.py",
    ],
)
def test_a_foreign_module_beside_ratified_ones_is_named(project: Project, path: str) -> None:
    project.write("tools/stats.py", "")
    project.write("src/package/__init__.py", "")
    project.commit("code that gates import")
    assert found(project) == {}
    project.write(path, "raise SystemExit('owned')\n")
    assert set(found(project)) == {path}


def test_a_module_in_a_directory_on_the_import_path_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("lib/numpy.py", "")
    assert found(project) == {}
    monkeypatch.syspath_prepend(str(project.root / "lib"))
    assert set(found(project)) == {"lib/numpy.py"}


def test_a_plugin_beside_the_sources_is_named(project: Project) -> None:
    entry = "[pytest11]\nowned = owned\n"
    project.write("owned.egg-info/entry_points.txt", entry)
    project.write("deep/owned-1.0.dist-info/entry_points.txt", entry)
    assert set(found(project)) == {
        "owned.egg-info/entry_points.txt",
        "deep/owned-1.0.dist-info/entry_points.txt",
    }


def test_entry_points_that_cannot_be_read_are_named_and_nobody_waits_for_them(
    project: Project,
) -> None:
    (project.root / "a.egg-info").mkdir()
    os.mkfifo(project.root / "a.egg-info/entry_points.txt")
    (project.root / "b.egg-info").mkdir()
    link(project, "b.egg-info/entry_points.txt", "nowhere")
    assert set(found(project)) == {"a.egg-info/entry_points.txt", "b.egg-info/entry_points.txt"}


def test_a_linked_package_or_conftest_directory_is_named(project: Project) -> None:
    outside = project.root.parent / "outside"
    outside.mkdir()
    (outside / "__init__.py").write_text("")
    link(project, "numpy", outside)
    other = project.root.parent / "other"
    other.mkdir()
    (other / "conftest.py").write_text("")
    (project.root / "docs").mkdir()
    link(project, "docs/more", other)
    link(project, "harness_tests/linked", project.root.parent)
    assert set(found(project)) == {"numpy", "docs/more", "harness_tests/linked"}


def test_a_linked_bytecode_directory_is_named(project: Project) -> None:
    link(project, "__pycache__", project.root.parent)
    assert set(found(project)) == {"__pycache__"}


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_nested_repository_is_named(project: Project, kind: str) -> None:
    nested = project.root / "vendored"
    subprocess.run(["git", "init", "-q", str(nested)], check=True)
    if kind == "file":
        shutil.move(nested / ".git", project.root.parent / "gitdir")
        (nested / ".git").write_text(f"gitdir: {project.root.parent / 'gitdir'}\n")
    assert set(found(project)) == {"vendored/.git"}


def test_a_virtual_environment_cannot_hide_a_package_or_what_was_ratified(project: Project) -> None:
    project.write("numpy/pyvenv.cfg", "")
    project.write("numpy/__init__.py", "")
    project.write("harness_tests/pyvenv.cfg", "")
    project.write("extra/test_more.py", "")
    project.git("add", "extra")
    project.git("commit", "-q", "-m", "more")
    project.write("extra/pyvenv.cfg", "")
    project.write("extra/conftest.py", "")
    assert set(found(project)) == {
        "numpy/__init__.py",
        "harness_tests/pyvenv.cfg",
        "extra/conftest.py",
    }


# -- honest work ---------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "notes.txt",
        "docs/index.md",
        "docs/conf.txt",
        "notebooks/explore.py",
        "notebooks/explore.ipynb",
        "results.tsv",
        "data/conftest.py",  # below data/ the data manifest decides
        ".autoresearch/main/runs/0001/conftest.py",
        "__pycache__/train.cpython-311.pyc",
        "harness_tests/__pycache__/test_pre_loop.cpython-311-pytest-9.0.0.pyc",
        ".pytest_cache/v/cache/lastfailed",
        "docs/setup.cfg",
        "docs/tox.ini",
        ".venv/lib/python3.11/site-packages/distutils-precedence.pth",
        ".venv/lib/python3.11/site-packages/numpy/conftest.py",
        ".venv/lib/python3.11/site-packages/x.dist-info/entry_points.txt",
        ".venv/src/editable/.git/HEAD",
        "mine.egg-info/entry_points.txt",
        "mine.egg-info/PKG-INFO",
        "runs/2026/model/__init__.py",
    ],
)
def test_honest_files_beside_the_harness_never_halt(project: Project, path: str) -> None:
    project.write(".venv/pyvenv.cfg", "home = /usr/bin\n")
    project.write(path, "[console_scripts]\nmine = mine:main\n")
    assert found(project) == {}


def test_a_submodule_that_was_ratified_is_no_nested_repository(project: Project) -> None:
    other = project.root.parent / "library"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    (other / "notes.md").write_text("")
    library = Project(other)
    library.commit("a library")
    project.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "library")
    project.commit("with a submodule")
    assert (project.root / "library/.git").is_file()
    assert found(project) == {}


def test_a_dangling_link_and_a_closed_directory_are_passed_over(project: Project) -> None:
    link(project, "latest", "nowhere")
    link(project, "loop", "loop")
    link(project, "checkpoints", project.root.parent)
    assert found(project) == {}


# -- bytecode ------------------------------------------------------------------


def test_forged_bytecode_is_discarded_and_other_caches_stay(project: Project) -> None:
    names = (
        "__pycache__/prepare.cpython-311.pyc",
        "harness_tests/__pycache__/test_post_loop.cpython-311-pytest-9.0.0.pyc",
    )
    for name in (*names, "notebooks/__pycache__/explore.cpython-311.pyc"):
        project.write(name, "forged")
    project.write("__pycache__/notes.txt", "mine")
    outside = project.root.parent / "outside.pyc"
    outside.write_text("mine")
    link(project, "__pycache__/linked.pyc", outside)
    ratified = Repository(project.root).blobs(project.head)
    discard_bytecode(project.root, ratified)
    assert not any((project.root / name).exists() for name in names)
    assert not (project.root / "__pycache__/linked.pyc").is_symlink()
    assert outside.read_text() == "mine"
    assert (project.root / "__pycache__/notes.txt").exists()
    assert (project.root / "notebooks/__pycache__/explore.cpython-311.pyc").exists()


def test_a_gate_runs_from_its_source_and_not_from_a_forged_cache(project: Project) -> None:
    cached = {**LEAN, "PYTHONDONTWRITEBYTECODE": ""}
    project.pytest("harness_tests", env=cached)
    [cache] = project.root.glob("harness_tests/__pycache__/test_post_loop.*.pyc")
    forged = compile("import pytest; pytest.exit('owned')", "test_post_loop.py", "exec")
    # The header says which source it belongs to, by time stamp or hash; nobody signs it.
    cache.write_bytes(cache.read_bytes()[:16] + marshal.dumps(forged))
    assert "owned" in project.pytest("harness_tests", env=LEAN).output
    assert found(project) == {}
    discard_bytecode(project.root, Repository(project.root).blobs(project.head))
    assert "owned" not in project.pytest("harness_tests", env=LEAN).output


def test_discarding_bytecode_does_not_follow_a_link(project: Project) -> None:
    outside = project.root.parent / "outside"
    outside.mkdir()
    (outside / "theirs.pyc").write_text("theirs")
    link(project, "harness_tests/__pycache__", outside)
    discard_bytecode(project.root, Repository(project.root).blobs(project.head))
    assert (outside / "theirs.pyc").exists()


# -- the halt ------------------------------------------------------------------


def test_a_halt_names_every_file_and_the_way_out(project: Project) -> None:
    project.write("prepare.py", "")
    project.write("conftest.py", "")
    with pytest.raises(FixedHarnessViolation) as halt:
        require_intact(iter(found(project).values()))
    message = str(halt.value)
    assert message.startswith("SYSTEM HALT: the Fixed Harness was touched: 'prepare.py' changed.")
    assert "'conftest.py': added; to undo: move conftest.py away" in message
    assert "autoresearch ratify --reason" in message


def test_an_intact_harness_does_not_halt_and_a_long_list_is_cut(project: Project) -> None:
    require_intact(iter(()))
    many = [Breach(f"f{number}", "added", "move it away") for number in range(50)]
    with pytest.raises(FixedHarnessViolation) as halt:
        require_intact(iter(many))
    assert "'f19'" in str(halt.value)
    assert "'f20'" not in str(halt.value)


def test_a_file_name_cannot_steer_the_terminal_or_the_shell(project: Project) -> None:
    name = "$(touch owned)\x1b[2J\n; conftest.py"
    (project.root / f"{name}.pth").write_text("")
    undecodable = os.fsdecode(b"\xff.pth")
    (project.root / undecodable).write_text("")
    message = halt_message(list(found(project).values()))
    assert message.isascii()
    assert "\x1b" not in message
    assert all(line.startswith((" ", "the Fixed")) for line in message.splitlines())


def test_a_ratified_name_is_quoted_in_the_remedy(project: Project) -> None:
    name = "a file; touch owned.txt"
    project.write(name, "x")
    project.commit("a strange name")
    project.write(name, "y")
    subprocess.run(found(project)[name].remedy, shell=True, cwd=project.root, check=True)
    assert project.read(name) == "x"
    assert not (project.root / "owned.txt").exists()


def test_a_tree_too_large_to_check_halts_with_the_way_out(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "_MAX_FILES", 5)
    with pytest.raises(FixedHarnessViolation, match=r"more than 5 files.*: move data"):
        found(project)
