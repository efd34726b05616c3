from __future__ import annotations

import contextlib
import os
import resource
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_autoresearch.vcs import Repository, RepositoryError, commit_message
from pytest_autoresearch.worktree import read_file, write_file

BRANCH = "autoresearch/test"
OLD = b"RATE = 1\r\n\xff\x00no newline"
NEW = b"RATE = 2\r\n\xfe"


def git(root: Path, *arguments: str, stdin: bytes = b"", check: bool = True) -> str:
    """Git as a user runs it, with the repository's own configuration."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "U",
        "GIT_AUTHOR_EMAIL": "u@example.org",
        "GIT_COMMITTER_NAME": "U",
        "GIT_COMMITTER_EMAIL": "u@example.org",
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=root,
        input=stdin,
        capture_output=True,
        check=check,
        env=environment,
    )
    return os.fsdecode(done.stdout).rstrip("\n")


def make_project(root: Path, object_format: str = "sha1") -> Path:
    """A project with two surface files and everything a user may have lying about."""
    (root / "pkg" / "deep").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main", "--template=", f"--object-format={object_format}")
    (root / "train.py").write_bytes(OLD)
    (root / "pkg" / "deep" / "model.py").write_bytes(b"#!/bin/sh\n")
    (root / "pkg" / "deep" / "model.py").chmod(0o755)
    (root / "pkg" / "other.py").write_text("other\n")
    (root / "prepare.py").write_text("fixed\n")
    (root / ".gitignore").write_text("ignored/\n")
    (root / "link").symlink_to("train.py")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "start")
    return root


def litter(root: Path) -> None:
    """Untracked, ignored, modified and staged files of the user."""
    (root / "notes.txt").write_text("mine\n")
    (root / "ignored").mkdir()
    (root / "ignored" / "data.bin").write_bytes(b"\0" * 100)
    (root / "nested").mkdir()
    git(root / "nested", "init", "-q", "--template=")
    (root / "staged.txt").write_text("staged\n")
    git(root, "add", "staged.txt")
    (root / "pkg" / "other.py").write_text("staged change\n")
    git(root, "add", "pkg/other.py")
    (root / "prepare.py").write_text("unstaged change\n")


def snapshot(root: Path, *, without: tuple[str, ...] = ()) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of every file outside .git."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if ".git" not in path.relative_to(root).parts and name not in without:
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                found[name] = (info.st_mode, path.read_bytes())
    return found


def index(root: Path) -> list[str]:
    return git(root, "ls-files", "-v", "--stage").splitlines()


SURFACE = ("train.py", "pkg/deep/model.py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return make_project(tmp_path / "project")


@pytest.fixture
def repository(root: Path) -> Repository:
    made = Repository(root)
    made.create_branch_here(BRANCH)
    return made


def keep(repository: Repository, files: dict[str, bytes]) -> str:
    tip = repository.head_commit()
    return repository.keep(
        files, parent=tip, expected_tip=tip, branch=BRANCH, message="better\n", when=1_700_000_000
    )


# ---- keep and revert


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_keep_is_one_commit_and_a_clean_tree(tmp_path: Path, object_format: str) -> None:
    root = make_project(tmp_path, object_format)
    repository = Repository(root)
    repository.create_branch_here(BRANCH)
    start = repository.head_commit()
    files = {"train.py": NEW, "pkg/deep/model.py": b"#!/bin/bash\n"}
    commit = keep(repository, files)
    assert git(root, "rev-parse", "HEAD", BRANCH, "main").split() == [commit, commit, start]
    assert git(root, "rev-parse", f"{commit}^") == start
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "fsck", "--strict", "--no-dangling") == ""
    assert git(root, "diff", "--name-only", start, commit).split() == list(SURFACE)[::-1]
    assert (root / "train.py").read_bytes() == NEW
    assert stat.S_IMODE((root / "pkg/deep/model.py").stat().st_mode) & 0o111
    assert repository.blobs(commit)["pkg/deep/model.py"][0] == "100755"
    assert repository.read_surface("HEAD", SURFACE) == files
    assert git(root, "log", "-1", "--format=%an|%ae|%cn|%at|%ct|%s") == (
        "autoresearch|autoresearch@localhost|autoresearch|1700000000|1700000000|better"
    )
    assert len(commit) == {"sha1": 40, "sha256": 64}[object_format]


def test_a_commit_depends_on_its_arguments_alone(repository: Repository) -> None:
    tip = repository.head_commit()
    before = snapshot(repository.root), index(repository.root)

    def made(when: int) -> str:
        return repository.prepare_commit(
            {"train.py": NEW}, parent=tip, message="better\n", when=when
        )

    assert made(1) == made(1) != made(2)
    assert repository.head_commit() == tip
    assert (snapshot(repository.root), index(repository.root)) == before


def test_the_tree_equals_the_one_that_git_itself_would_write(repository: Repository) -> None:
    root = repository.root
    commit = keep(repository, {"train.py": NEW, "pkg/deep/model.py": b"x\n"})
    assert repository.tree_of(commit) == git(root, "write-tree")
    tree, blobs = repository.write_surface({"a.py": b"1", "d/e/f.py": b"2"})
    assert repository.blobs(tree) == {
        "a.py": ("100644", blobs["a.py"]),
        "d/e/f.py": ("100644", blobs["d/e/f.py"]),
    }


def test_a_keep_leaves_everything_of_the_user_alone(repository: Repository) -> None:
    root = repository.root
    litter(root)
    before = snapshot(root, without=SURFACE)
    status = git(root, "status", "--porcelain", "--ignored")
    (root / "train.py").write_bytes(NEW)
    commit = keep(repository, {"train.py": NEW})
    assert snapshot(root, without=SURFACE) == before
    assert git(root, "status", "--porcelain", "--ignored") == status
    assert git(root, "diff", "--name-only", "HEAD^", commit) == "train.py"


def test_a_revert_restores_the_surface_byte_for_byte_and_nothing_else(
    repository: Repository,
) -> None:
    root = repository.root
    litter(root)
    before, status = snapshot(root), git(root, "status", "--porcelain", "--ignored")
    (root / "train.py").write_bytes(NEW)
    (root / "pkg/deep/model.py").write_bytes(b"")
    git(root, "add", "train.py")
    repository.restore_surface(repository.head_commit(), SURFACE)
    assert snapshot(root) == before
    assert git(root, "status", "--porcelain", "--ignored") == status


def test_restoring_twice_changes_nothing_more(repository: Repository) -> None:
    root = repository.root
    (root / "train.py").write_bytes(NEW)
    repository.restore_surface("HEAD", SURFACE)
    git(root, "status")  # refreshes the index
    before = (root / "train.py").stat(), (root / ".git" / "index").stat()
    repository.restore_surface("HEAD", SURFACE)
    assert ((root / "train.py").stat(), (root / ".git" / "index").stat()) == before


def test_every_way_to_hide_or_break_a_surface_file_is_undone(
    repository: Repository, tmp_path: Path
) -> None:
    root = repository.root
    clean = snapshot(root)
    target = tmp_path / "outside.py"
    target.write_bytes(b"outside\n")
    path = root / "train.py"

    def symlink() -> None:
        path.unlink()
        path.symlink_to(target)

    def hard_link() -> None:
        path.unlink()
        path.hardlink_to(target)

    def directory() -> None:
        path.unlink()
        path.mkdir()
        (path / "precious.txt").write_text("x")

    def parent_is_a_link() -> None:
        shutil.rmtree(root / "pkg" / "deep")
        (tmp_path / "away").mkdir(exist_ok=True)
        (root / "pkg" / "deep").symlink_to(tmp_path / "away")

    def parent_is_a_file() -> None:
        shutil.rmtree(root / "pkg" / "deep")
        (root / "pkg" / "deep").write_text("file")

    def fifo() -> None:
        path.unlink()
        os.mkfifo(path)

    def hidden(bit: str) -> None:
        git(root, "update-index", bit, "train.py")
        path.write_bytes(NEW)

    def mode() -> None:
        path.chmod(0o000)

    breaks: dict[str, Callable[[], object]] = {
        "deleted": path.unlink,
        "removed from the index": lambda: git(root, "rm", "-q", "train.py"),
        "renamed": lambda: git(root, "mv", "train.py", "moved.py"),
        "symlink": symlink,
        "hard link": hard_link,
        "directory": directory,
        "parent is a link": parent_is_a_link,
        "parent is a file": parent_is_a_file,
        "fifo": fifo,
        "skip-worktree": lambda: hidden("--skip-worktree"),
        "assume-unchanged": lambda: hidden("--assume-unchanged"),
        "intent to add": lambda: (
            git(root, "rm", "-q", "--cached", "train.py") or git(root, "add", "-N", "train.py")
        ),
        "no permissions": mode,
    }
    for name, break_it in breaks.items():
        break_it()
        repository.restore_surface(repository.head_commit(), SURFACE)
        git(root, "rm", "-q", "-f", "--ignore-unmatch", "moved.py")
        aside = list(root.rglob("*.aside-*"))
        assert (len(aside) == 1) == (name in {"directory", "parent is a file"}), name
        if name == "directory":
            assert (aside[0] / "precious.txt").read_text() == "x"
        for each in aside:
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink()
        assert snapshot(root) == clean, name
        assert git(root, "status", "--porcelain") == "", name
        assert all(line.startswith("H ") for line in index(root)), name
        assert target.read_bytes() == b"outside\n"
        assert not (tmp_path / "away" / "model.py").exists()


def test_an_unmerged_entry_of_the_surface_is_settled(repository: Repository) -> None:
    root = repository.root
    oid = git(root, "hash-object", "-w", "--stdin", stdin=b"theirs")
    entries = "".join(f"100644 {oid} {stage}\ttrain.py\n" for stage in (1, 2, 3))
    git(root, "update-index", "--force-remove", "train.py")
    git(root, "update-index", "--index-info", stdin=entries.encode())
    with pytest.raises(RepositoryError, match=r"'train\.py' is unmerged: resolve it"):
        repository.require_settled(SURFACE)
    repository.restore_surface("HEAD", SURFACE)
    repository.require_settled(SURFACE)
    assert git(root, "status", "--porcelain") == ""


def test_permissions_and_owner_of_a_surface_file_stay(repository: Repository) -> None:
    path = repository.root / "train.py"
    path.write_bytes(NEW)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 4321, 4321)
    repository.restore_surface("HEAD", SURFACE)
    info = path.stat()
    assert stat.S_IMODE(info.st_mode) == 0o640
    assert info.st_uid == (4321 if os.geteuid() == 0 else os.geteuid())


def test_remains_of_killed_writes_are_removed(repository: Repository) -> None:
    root = repository.root
    stale = root / "pkg/deep/.autoresearch-model.py-0badcafe.tmp"
    stale.write_text("half")
    mine = root / "pkg/deep/.autoresearch-other.py-0badcafe.tmp"
    mine.write_text("not of this file")
    (root / ".autoresearch-train.py-dir.tmp").mkdir()
    repository.restore_surface("HEAD", SURFACE)
    assert not stale.exists()
    assert mine.exists()
    assert (root / ".autoresearch-train.py-dir.tmp").is_dir()


def test_a_branch_that_moved_is_not_overwritten(repository: Repository) -> None:
    root = repository.root
    tip = repository.head_commit()
    commit = repository.prepare_commit({"train.py": NEW}, parent=tip, message="m", when=1)
    git(root, "commit", "-q", "--allow-empty", "-m", "somebody else")
    moved = repository.head_commit()
    with pytest.raises(RepositoryError, match=rf"stands at {moved[:12]}, but {tip[:12]} was exp"):
        repository.publish(commit, branch=BRANCH, expected_tip=tip, paths=SURFACE)
    assert repository.tip(BRANCH) == moved
    assert (root / "train.py").read_bytes() == OLD


def test_publish_and_withdraw_may_be_done_again(repository: Repository) -> None:
    tip = repository.head_commit()
    commit = repository.prepare_commit({"train.py": NEW}, parent=tip, message="m", when=1)
    for _ in range(2):
        repository.publish(commit, branch=BRANCH, expected_tip=tip, paths=SURFACE)
        assert repository.head_commit() == commit
        assert git(repository.root, "status", "--porcelain") == ""
    for _ in range(2):
        repository.withdraw(commit, branch=BRANCH, tip=tip)
        repository.restore_surface(tip, SURFACE)
        assert repository.head_commit() == tip
        assert git(repository.root, "status", "--porcelain") == ""


def test_nothing_is_published_on_another_branch(repository: Repository) -> None:
    root = repository.root
    tip = repository.head_commit()
    git(root, "switch", "-q", "main")
    for where, command in (("on branch 'main'", None), ("detached", ["switch", "-q", "--detach"])):
        if command:
            git(root, *command)
        with pytest.raises(RepositoryError, match=f"HEAD is {where}, .*`git switch {BRANCH}`"):
            repository.publish(tip, branch=BRANCH, expected_tip=tip, paths=SURFACE)


def test_a_lock_that_stays_is_named_and_not_deleted(repository: Repository) -> None:
    root = repository.root
    (root / "train.py").write_bytes(NEW)
    git(root, "add", "train.py")
    lock = root / ".git" / "index.lock"
    lock.touch()
    with pytest.raises(RepositoryError, match=r"index\.lock' exists: another git command is runn"):
        repository.restore_surface("HEAD", SURFACE)
    assert lock.exists()
    lock.unlink()
    repository.restore_surface("HEAD", SURFACE)
    assert git(root, "status", "--porcelain") == ""


def test_a_lock_that_goes_away_is_waited_for(repository: Repository) -> None:
    root = repository.root
    (root / "train.py").write_bytes(NEW)
    git(root, "add", "train.py")
    lock = root / ".git" / "index.lock"
    lock.touch()
    with subprocess.Popen(["sh", "-c", f"sleep 0.3; rm '{lock}'"]):
        repository.restore_surface("HEAD", SURFACE)
    assert git(root, "status", "--porcelain") == ""


# ---- branch and pins


def test_a_branch_starts_here_without_touching_anything(root: Path) -> None:
    litter(root)
    (root / "train.py").write_bytes(NEW)
    before = snapshot(root), index(root)
    repository = Repository(root)
    for _ in range(2):
        repository.create_branch_here(BRANCH)
        assert repository.require_branch() == BRANCH
    assert (snapshot(root), index(root)) == before
    assert repository.tip("none") is None


def test_a_branch_that_cannot_be_is_refused(repository: Repository) -> None:
    for name in ("-x", "a..b", "a b", ""):
        with pytest.raises(RepositoryError, match="cannot be a branch"):
            repository.create_branch_here(name)
    keep(repository, {"train.py": NEW})
    with pytest.raises(RepositoryError, match=r"branch 'main' exists and stands at .*another tag"):
        repository.create_branch_here("main")
    with pytest.raises(RepositoryError, match="'refs/heads/main/x' cannot be written"):
        repository.create_branch_here("main/x")


def test_a_pin_outlives_garbage_collection_and_never_moves(repository: Repository) -> None:
    tree, blobs = repository.write_surface({"train.py": NEW})
    loose, _ = repository.write_surface({"train.py": b"never pinned"})
    name = "refs/autoresearch/test/candidate/1"
    repository.pin(name, tree)
    repository.pin(name, tree)
    git(repository.root, "gc", "-q", "--prune=now")
    assert repository.read_blob(blobs["train.py"]) == NEW
    assert repository.ref(name) == tree
    assert git(repository.root, "cat-file", "-t", loose, check=False) == ""
    other, _ = repository.write_surface({"train.py": OLD})
    with pytest.raises(RepositoryError, match="somebody moved it"):
        repository.pin(name, other)
    with pytest.raises(RepositoryError, match="pins stand below 'refs/autoresearch/'"):
        repository.pin("refs/heads/main", tree)


# ---- reading


def test_contents_are_read_by_object_id_in_one_go(repository: Repository) -> None:
    contents = [b"", b"a\n", b"\0" * 10, bytes(range(256)) * 300]
    _, blobs = repository.write_surface({f"f{n}.py": each for n, each in enumerate(contents)})
    found = repository.read_blobs([*blobs.values(), *blobs.values()])
    assert [found[oid] for oid in blobs.values()] == contents
    assert repository.read_blobs([]) == {}
    with pytest.raises(RepositoryError, match="is missing, not a blob"):
        repository.read_blobs(["0" * 40])
    with pytest.raises(RepositoryError, match="is tree, not a blob"):
        repository.read_blobs([repository.tree_of("HEAD")])


def test_a_content_is_hashed_as_git_does(repository: Repository) -> None:
    for content in (b"", OLD):
        assert repository.hash_blob(content) == git(
            repository.root, "hash-object", "--stdin", "--no-filters", stdin=content
        )
    assert repository.blobs("HEAD")["link"] == ("120000", repository.hash_blob(b"train.py"))


@pytest.mark.parametrize(
    "revision",
    ["nowhere", "--all", "-h", "", "HEAD:train.py", "a b", "HEAD\n", "HEAD..main", "^HEAD"],
)
def test_what_names_no_commit_is_refused(repository: Repository, revision: str) -> None:
    with pytest.raises(RepositoryError, match="names no commit of this repository"):
        repository.read_surface(revision, SURFACE)


def test_any_way_to_name_a_commit_is_understood(repository: Repository) -> None:
    commit = keep(repository, {"train.py": NEW})
    git(repository.root, "tag", "-a", "v1", "-m", "tag")
    for revision in ("HEAD", "v1", BRANCH, commit[:10], "HEAD^0"):
        assert repository.read_surface(revision, ["train.py"]) == {"train.py": NEW}
    assert repository.read_surface("main", ["train.py"]) == {"train.py": OLD}


def test_a_surface_of_anything_but_tracked_files_is_refused(repository: Repository) -> None:
    root = repository.root
    git(root, "update-index", "--add", "--cacheinfo", f"160000,{repository.head_commit()},sub")
    git(root, "commit", "-q", "-m", "submodule")
    for path, what in {
        "link": "is a symbolic link in commit",
        "sub": "is a submodule in commit",
        "pkg": "is a directory in commit",
        "absent.py": "is not tracked in commit .*`git add absent.py && git commit`",
        ":(top)train.py": "is not tracked",
        "*.py": "is not tracked",
    }.items():
        with pytest.raises(RepositoryError, match=what):
            repository.require_settled([path])
    with pytest.raises(RepositoryError, match="is not tracked"):
        repository.prepare_commit({".git/config": b"x"}, parent="HEAD", message="m", when=1)
    # A submodule elsewhere survives a keep.
    commit = keep(repository, {"train.py": NEW})
    assert repository.blobs(commit)["sub"][0] == "160000"


def test_names_that_are_not_utf8_pass(repository: Repository) -> None:
    root = repository.root
    (root / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    (root / "tab\tand\nline.txt").write_text("x")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "names")
    commit = keep(repository, {"train.py": NEW})
    names = repository.blobs(commit)
    assert os.fsdecode(b"caf\xe9.txt") in names
    assert "tab\tand\nline.txt" in names
    assert git(root, "diff", "--name-only", "HEAD^", "HEAD") == "train.py"


# ---- nothing steers git


def test_hooks_filters_monitors_and_configuration_have_no_effect(
    repository: Repository, tmp_path: Path
) -> None:
    root = repository.root
    marker = tmp_path / "executed"
    script = f"#!/bin/sh\necho $0 >> '{marker}'\ncat\n"
    for hook in (
        "reference-transaction",
        "post-index-change",
        "pre-commit",
        "commit-msg",
        "post-commit",
        "post-checkout",
        "fsmonitor-watchman",
        "pre-auto-gc",
        "post-rewrite",
    ):
        (root / ".git" / "hooks").mkdir(exist_ok=True)
        (root / ".git" / "hooks" / hook).write_text(script)
        (root / ".git" / "hooks" / hook).chmod(0o755)
    program = tmp_path / "program"
    program.write_text(script)
    program.chmod(0o755)
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "attributes").write_text(
        "*.py filter=evil diff=evil ident text eol=crlf working-tree-encoding=UTF-16\n"
        "pkg/other.py filter=e=v.il\n"
    )
    for key in (
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "filter.e=v.il.clean",
        "diff.evil.textconv",
        "diff.external",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "gpg.program",
        "core.askPass",
        "alias.update-ref",
        "uploadpack.packObjectsHook",
    ):
        git(root, "config", key, f"!{program}" if key.startswith("alias") else str(program))
    for key, value in {
        "filter.evil.required": "true",
        "commit.gpgSign": "true",
        "core.autocrlf": "true",
        "core.hooksPath": str(root / ".git" / "hooks"),
        "core.worktree": str(tmp_path),
        "i18n.commitEncoding": "UTF-16",
        "core.useReplaceRefs": "true",
    }.items():
        git(root, "config", key, value)
    repository = Repository(root)
    start = repository.head_commit()
    commit = keep(repository, {"train.py": NEW})
    repository.create_branch_here("another")
    (root / "train.py").write_bytes(b"x")
    repository.restore_surface(start, SURFACE)
    repository.pin("refs/autoresearch/t/1", commit)
    assert not marker.exists(), marker.read_text()
    assert (root / "train.py").read_bytes() == OLD
    assert repository.read_surface(commit, ["train.py"]) == {"train.py": NEW}
    assert b"encoding" not in repository._git.run("cat-file", "commit", commit)


def test_replacement_refs_and_grafts_have_no_effect(repository: Repository) -> None:
    root = repository.root
    tip = repository.head_commit()
    blob = repository.blobs(tip)["train.py"][1]
    evil = git(root, "hash-object", "-w", "--stdin", stdin=b"evil")
    git(root, "replace", blob, evil)
    other = git(root, "commit-tree", git(root, "mktree"), "-m", "empty")
    git(root, "replace", tip, other)
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "grafts").write_text(f"{tip} {other}\n")
    assert repository.read_blob(blob) == OLD
    assert repository.read_blobs([blob]) == {blob: OLD}
    assert repository.read_surface("HEAD", ["train.py"]) == {"train.py": OLD}
    assert repository.tree_of(tip) != repository.tree_of(other)
    commit = keep(repository, {"pkg/deep/model.py": b"x"})
    assert repository.blobs(commit)["train.py"][1] == blob
    (root / "train.py").unlink()
    repository.restore_surface(tip, ["train.py"])
    assert (root / "train.py").read_bytes() == OLD


@pytest.mark.parametrize("kind", ["blob", "tree"])
def test_an_object_that_was_forged_under_its_id_is_refused(
    repository: Repository, kind: str
) -> None:
    """Git checks a commit and its top tree, and hands out whatever stands under any other id."""
    root = repository.root
    tip = repository.head_commit()
    content = git(root, "hash-object", "-w", "--stdin", stdin=b"evil")
    victim, other = git(root, "rev-parse", f"{tip}:pkg/deep/model.py"), content
    if kind == "tree":
        victim = git(root, "rev-parse", f"{tip}:pkg/deep")
        entry = f"100755 blob {content}\tmodel.py\n"
        other = git(root, "mktree", stdin=entry.encode())
    objects = root / ".git" / "objects"
    path = objects / victim[:2] / victim[2:]
    path.unlink()
    shutil.copyfile(objects / other[:2] / other[2:], path)
    # The control: git says nothing.
    listed = git(root, "ls-tree", "-r", tip, "--", "pkg/deep/model.py").split()
    assert git(root, "cat-file", "blob", listed[2]) == "evil"
    with pytest.raises(RepositoryError, match=f"{victim}.* does not have the content") as refusal:
        repository.read_blobs(oid for _, oid in repository.blobs(tip).values())
    assert "work in a fresh clone" in str(refusal.value)


def test_a_missing_object_is_never_fetched(root: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{marker}'\nexit 1\n")
    program.chmod(0o755)
    blob = git(root, "rev-parse", "HEAD:train.py")
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for key, value in {
        "extensions.partialClone": "evil",
        "core.repositoryFormatVersion": "1",
        "remote.evil.url": f"ext::{program}",
        "remote.evil.promisor": "true",
        "remote.evil.uploadpack": str(program),
        "protocol.ext.allow": "always",
        "protocol.file.allow": "always",
    }.items():
        git(root, "config", key, value)
    with pytest.raises(RepositoryError):
        Repository(root).read_surface("HEAD", ["train.py"])
    git(root, "config", "remote.evil.url", str(root))
    with pytest.raises(RepositoryError):
        Repository(root).read_surface("HEAD", ["train.py"])
    assert not marker.exists()


def test_inherited_variables_do_not_reach_git(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    marker = tmp_path / "executed"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    program.chmod(0o755)
    for name, value in {
        "GIT_DIR": str(elsewhere),
        "GIT_WORK_TREE": str(elsewhere),
        "GIT_INDEX_FILE": str(elsewhere / "index"),
        "GIT_OBJECT_DIRECTORY": str(elsewhere),
        "GIT_COMMON_DIR": str(elsewhere),
        "GIT_NAMESPACE": "evil",
        "GIT_EXEC_PATH": str(elsewhere),
        "GIT_CONFIG_PARAMETERS": "'core.bare=true'",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(program),
        "GIT_EXTERNAL_DIFF": str(program),
        "GIT_AUTHOR_NAME": "evil",
        "GIT_COMMITTER_DATE": "1",
        "GIT_TRACE": str(marker),
        "GIT_REPLACE_REF_BASE": "refs/evil/",
        "GIT_LITERAL_PATHSPECS": "0",
        "GIT_DEFAULT_HASH": "sha256",
    }.items():
        monkeypatch.setenv(name, value)
    repository = Repository(root)
    repository.create_branch_here(BRANCH)
    commit = keep(repository, {"train.py": NEW})
    assert list(elsewhere.iterdir()) == []
    assert not marker.exists()
    for name in os.environ:
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    assert git(root, "log", "-1", "--format=%H %an %ct") == f"{commit} autoresearch 1700000000"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_a_repository_of_another_user_is_usable(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        os.chown(path, 4321, 4321, follow_symlinks=False)
    repository = Repository(root)
    repository.create_branch_here(BRANCH)
    keep(repository, {"train.py": NEW})
    assert (root / "train.py").stat().st_uid == 4321


def test_a_linked_worktree_is_a_repository(repository: Repository, tmp_path: Path) -> None:
    git(repository.root, "worktree", "add", "-q", str(tmp_path / "linked"), "main")
    linked = Repository(tmp_path / "linked")
    linked.create_branch_here("autoresearch/linked")
    tip = linked.head_commit()
    commit = linked.keep(
        {"train.py": NEW}, parent=tip, expected_tip=tip, branch="autoresearch/linked",
        message="m", when=1,
    )  # fmt: skip
    assert git(tmp_path / "linked", "status", "--porcelain") == ""
    assert repository.tip("autoresearch/linked") == commit
    assert repository.require_branch() == BRANCH
    assert (repository.root / "train.py").read_bytes() == OLD


def test_a_repository_that_was_swapped_is_not_written_to(repository: Repository) -> None:
    root = repository.root
    shutil.move(root / ".git", root / "real.git")
    with pytest.raises(RepositoryError, match="was replaced while the session ran"):
        repository.write_surface({"train.py": NEW})
    shutil.copytree(root / "real.git", root / ".git", symlinks=True)
    refs = git(root, "for-each-ref")
    with pytest.raises(RepositoryError, match="was replaced while the session ran"):
        repository.pin("refs/autoresearch/t/1", repository.head_commit())
    assert git(root, "for-each-ref") == refs


# ---- opening


def test_no_repository_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="is not a git repository: `git init && git add -A"):
        Repository(tmp_path)
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(RepositoryError, match="is not a usable repository"):
        Repository(tmp_path)


def test_a_repository_without_commits_says_so(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(RepositoryError, match="has no commits: `git add -A && git commit`"):
        Repository(tmp_path)


def test_a_bare_repository_says_so(root: Path, tmp_path: Path) -> None:
    git(root, "clone", "-q", "--bare", ".", str(tmp_path / "bare"))
    with pytest.raises(RepositoryError, match="is a bare repository: work in a clone"):
        Repository(tmp_path / "bare")
    git(root, "config", "core.bare", "true")
    with pytest.raises(RepositoryError, match="is marked as a bare repository"):
        Repository(root)


def test_a_directory_inside_a_repository_is_not_its_top(root: Path) -> None:
    with pytest.raises(RepositoryError, match=r"lies inside the repository .*run from its top"):
        Repository(root / "pkg")


def test_a_detached_head_says_how_to_get_a_branch(root: Path) -> None:
    git(root, "switch", "-q", "--detach")
    repository = Repository(root)
    assert repository.branch() is None
    with pytest.raises(RepositoryError, match=r"HEAD is detached at .*`git switch -c NAME`"):
        repository.require_branch()


@pytest.mark.parametrize("operation", ["merge", "cherry-pick", "revert", "rebase"])
def test_an_operation_in_progress_must_end_first(root: Path, operation: str) -> None:
    git(root, "switch", "-q", "-c", "side")
    (root / "train.py").write_bytes(b"side\n")
    git(root, "commit", "-q", "-am", "side")
    git(root, "switch", "-q", "main")
    (root / "train.py").write_bytes(b"main\n")
    git(root, "commit", "-q", "-am", "main")
    (root / "train.py").write_bytes(b"later\n")
    git(root, "commit", "-q", "-am", "later")
    git(root, operation, "HEAD^" if operation == "revert" else "side", check=False)
    with pytest.raises(RepositoryError, match=f"a {operation} is in progress: `git {operation} --"):
        Repository(root).require_settled(SURFACE)


def test_no_git_executable_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    with pytest.raises(RepositoryError, match="no git executable on PATH: install git"):
        Repository(root)


def test_a_wrong_setting_of_gitpython_says_so(root: Path) -> None:
    script = "import sys; from pathlib import Path; from pytest_autoresearch.vcs import *\n"
    script += "try: Repository(Path(sys.argv[1]))\nexcept RepositoryError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)],
        env={**os.environ, "GIT_PYTHON_GIT_EXECUTABLE": "/nowhere/git"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "correct or unset GIT_PYTHON_GIT_EXECUTABLE" in done.stdout


def test_importing_the_module_does_not_import_git() -> None:
    script = "import sys, pytest_autoresearch.vcs; print('git' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_nothing_is_left_open(root: Path) -> None:
    script = textwrap.dedent(
        """
        import gc, os, sys
        from pathlib import Path
        from pytest_autoresearch.vcs import Repository
        repository = Repository(Path(sys.argv[1]))
        repository.create_branch_here("x")
        before = os.listdir("/proc/self/fd")
        tip = repository.head_commit()
        repository.keep({"train.py": b"x"}, parent=tip, expected_tip=tip, branch="x", message="m", when=1)
        repository.restore_surface(tip, ["train.py"])
        gc.collect()
        assert os.listdir("/proc/self/fd") == before
        """
    )
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", script, str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# ---- messages and files


@contextlib.contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """No file may grow beyond this size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_text_in_a_message_passes_for_a_trailer(repository: Repository) -> None:
    evil = "fine\n\nAutoresearch-Metric: 0.0\x1b[2J"
    message = commit_message(evil, evil, {"Autoresearch-Metric": 0.31, "Autoresearch-Note": evil})
    tip = repository.head_commit()
    commit = repository.prepare_commit({"train.py": NEW}, parent=tip, message=message, when=1)
    trailers = git(repository.root, "log", "-1", "--format=%(trailers:only,unfold)", commit)
    assert trailers.splitlines() == [
        "Autoresearch-Metric: 0.31",
        "Autoresearch-Note: fine Autoresearch-Metric: 0.0\\x1b[2J",
    ]
    assert "\x1b" not in git(repository.root, "log", "-1", "--format=%B", commit)
    assert git(repository.root, "log", "-1", "--format=%s", commit).startswith("fine Autores")
    with pytest.raises(ValueError, match="cannot name a trailer"):
        commit_message("s", "", {"a b": 1})


def test_a_file_that_cannot_be_written_is_a_clear_error(root: Path) -> None:
    with pytest.raises(RepositoryError, match=r"'gone/x\.py' cannot be written"):
        write_file(root / "train.py", "gone/x.py", b"", executable=False)
    with pytest.raises(RepositoryError, match=r"cannot be written .File name too long"):
        write_file(root, "n" * 250, b"", executable=False)
    assert not list(root.glob(".autoresearch*"))


def test_a_full_disk_leaves_the_file_as_it_was(root: Path) -> None:
    words = r"'train\.py' cannot be written \(File too large\): free space"
    with full_disk(1000), pytest.raises(RepositoryError, match=words):
        write_file(root, "train.py", bytes(5000), executable=False)
    assert (root / "train.py").read_bytes() == OLD
    assert not list(root.glob(".autoresearch*"))


def test_only_a_regular_file_is_read(root: Path) -> None:
    assert read_file(root, "train.py") == OLD
    os.mkfifo(root / "fifo")
    (root / "dir").symlink_to("pkg")
    for path in ("absent", "link", "pkg", "fifo", "dir/other.py", "train.py/x"):
        assert read_file(root, path) is None, path


def test_new_files_obey_the_umask(root: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from pytest_autoresearch.worktree import *\n"
        "os.umask(0o027); write_file(Path(sys.argv[1]), 'new.py', b'x', executable=False)\n"
        "write_file(Path(sys.argv[1]), 'run.py', b'x', executable=True)"
    )
    subprocess.run([sys.executable, "-c", script, str(root)], check=True)
    assert stat.S_IMODE((root / "new.py").stat().st_mode) == 0o640
    assert stat.S_IMODE((root / "run.py").stat().st_mode) == 0o750
