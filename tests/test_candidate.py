"""The candidate as data: from a work tree, a directory or a revision, whatever stands there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from project import Project

from pytest_autoresearch.candidate import (
    SOURCE_CAP,
    CandidateError,
    make_candidate,
    read_candidate,
    read_directory,
)
from pytest_autoresearch.equivalence import surface_digest
from pytest_autoresearch.records import Candidate
from pytest_autoresearch.vcs import Repository

SURFACE = ("train.py",)


def read(
    project: Project, given: str | None = None, surface: tuple[str, ...] = SURFACE
) -> Candidate:
    return read_candidate(project.root, surface, Repository(project.root), given)


def refusal(project: Project, given: str | None = None, surface: tuple[str, ...] = SURFACE) -> str:
    with pytest.raises(CandidateError) as refused:
        read(project, given, surface)
    return str(refused.value)


def test_the_working_tree_is_read_as_it_is_and_never_run(project: Project) -> None:
    text = b"raise SystemExit('imported')\r\n\xff\x00"
    (project.root / "train.py").write_bytes(text)
    candidate = read(project)
    assert dict(candidate.files) == {"train.py": text}
    assert candidate.origin == "working tree"
    assert candidate.digest == surface_digest({"train.py": text})


def test_only_the_surface_of_a_directory_is_read(project: Project, tmp_path: Path) -> None:
    proposal = tmp_path / "proposal"
    (proposal / "harness_tests").mkdir(parents=True)
    (proposal / "train.py").write_text("new\n")
    (proposal / "conftest.py").write_text("raise SystemExit\n")
    candidate = read(project, str(proposal))
    assert dict(candidate.files) == {"train.py": b"new\n"}
    assert candidate.origin == f"directory {str(proposal)!r}"


@pytest.mark.parametrize("name", ["agent/idea", "v1", "HEAD"])
def test_a_revision_is_read_from_the_object_database(project: Project, name: str) -> None:
    project.git("switch", "-q", "-c", "agent/idea")
    project.write("train.py", "theirs\n")
    project.commit("an idea")
    project.git("tag", "v1")
    project.write("train.py", "uncommitted\n")
    project.write(".git/info/attributes", "*.py ident eol=crlf\n")
    candidate = read(project, name)
    assert dict(candidate.files) == {"train.py": b"theirs\n"}
    assert candidate.origin == f"revision {name!r}"


def test_the_files_of_a_candidate_cannot_be_changed_afterwards() -> None:
    files = {"train.py": b"1"}
    candidate = make_candidate(files, "a test")
    files["train.py"] = b"2"
    assert candidate.files["train.py"] == b"1"
    with pytest.raises(TypeError):
        candidate.files["train.py"] = b"3"  # type: ignore[index]


def test_a_missing_surface_file_is_named_with_the_way_out(project: Project) -> None:
    (project.root / "train.py").unlink()
    message = refusal(project)
    assert "'train.py' cannot be read: 'train.py' does not exist" in message
    assert "`git restore -- train.py`" in message


def test_a_symlink_is_not_followed(project: Project) -> None:
    secret = project.root.parent / "secret"
    secret.write_text("secret")
    (project.root / "train.py").unlink()
    (project.root / "train.py").symlink_to(secret)
    assert "without following links" in refusal(project)


def test_a_hard_link_is_refused(project: Project) -> None:
    os.link(project.root / "train.py", project.root.parent / "other-name")
    assert "has 2 names" in refusal(project)


def test_a_directory_in_place_of_a_surface_file_is_refused(project: Project) -> None:
    (project.root / "train.py").unlink()
    (project.root / "train.py").mkdir()
    assert "not a regular file" in refusal(project)


def test_nobody_waits_for_a_pipe(project: Project) -> None:
    (project.root / "train.py").unlink()
    os.mkfifo(project.root / "train.py")
    assert "not a regular file" in refusal(project)


def test_a_surface_file_that_nobody_can_review_is_refused(project: Project) -> None:
    with (project.root / "train.py").open("wb") as file:
        file.truncate(SOURCE_CAP + 1)
    assert f"more than the {SOURCE_CAP} allowed" in refusal(project)
    with (project.root / "train.py").open("wb") as file:
        file.truncate(SOURCE_CAP)
    assert len(read(project).files["train.py"]) == SOURCE_CAP


def test_a_revision_has_the_same_limit_of_size(project: Project) -> None:
    project.write("train.py", "#" * (SOURCE_CAP + 1))
    project.commit("too much")
    assert f"more than the {SOURCE_CAP} allowed" in refusal(project, "HEAD")


@pytest.mark.parametrize("given", ["", "nowhere", "--help", "--all", "-q", "HEAD:train.py", "a\0b"])
def test_what_is_neither_directory_nor_revision_is_refused(project: Project, given: str) -> None:
    message = refusal(project, given)
    assert f"--autoresearch-candidate {given!r} is neither a directory nor a readable" in message


def test_a_revision_without_the_surface_is_refused(project: Project) -> None:
    project.git("rm", "-q", "--cached", "train.py")
    project.git("commit", "-q", "-m", "gone")
    assert "'train.py' is not tracked" in refusal(project, "HEAD")


def test_a_revision_with_a_symlink_on_the_surface_is_refused(project: Project) -> None:
    (project.root / "train.py").unlink()
    (project.root / "train.py").symlink_to("prepare.py")
    project.commit("a link")
    assert "'train.py' is a symbolic link" in refusal(project, "HEAD")


def test_a_surface_file_behind_a_linked_directory_is_refused(
    project: Project, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "model").mkdir(parents=True)
    (outside / "model/net.py").write_text("secret")
    (project.root / "src").symlink_to(outside)
    message = refusal(project, surface=("src/model/net.py",))
    assert message == "the candidate's 'src/model/net.py' lies behind the symlink 'src'"


def test_a_linked_candidate_directory_is_what_the_user_named(tmp_path: Path) -> None:
    (tmp_path / "real/src").mkdir(parents=True)
    (tmp_path / "real/src/train.py").write_text("x")
    (tmp_path / "latest").symlink_to(tmp_path / "real")
    assert read_directory(tmp_path / "latest", ("src/train.py",)) == {"src/train.py": b"x"}
