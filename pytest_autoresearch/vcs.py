"""
Keep and revert in git: never a checkout, a clean or a hard reset.

A keep moves the branch by compare-and-swap, and in the work tree and the index nothing but surface
files is written. Untracked, ignored and staged files of the user are not touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .gitprocess import GitProcess, RepositoryError, escaped
from .objects import Objects, commit_message
from .worktree import write_file

__all__ = ["Repository", "RepositoryError", "commit_message"]

_IN_PROGRESS = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
}


class Repository(Objects):
    """
    The repository whose top is ``root``: its branch, its work tree, and its objects.

    Every call is its own git child: nothing stays open, an instance needs no closing.

    :raises RepositoryError: no git, no repository at ``root``, a bare one, one without commits.
    """

    def __init__(self, root: Path) -> None:
        root = root.resolve()
        entry = root / ".git"
        _require_repository(root, entry)
        git = GitProcess(root, entry)
        try:
            git_dir = Path(git.text("rev-parse", "--absolute-git-dir"))
        except RepositoryError as error:
            raise RepositoryError(f"{str(entry)!r} is not a usable repository: {error}") from error
        if entry.is_dir() and git.attempt("config", "--bool", "core.bare")[1] == b"true\n":
            raise RepositoryError(
                f"{str(root)!r} is marked as a bare repository: `git config core.bare false`, or work "
                "in a clone"
            )
        super().__init__(root, git_dir)
        self._zero = "0" * len(self.hash_blob(b""))
        if self.ref("HEAD") is None:
            raise RepositoryError(
                f"the repository {str(root)!r} has no commits: `git add -A && git commit`, so that "
                "there is a state to go back to"
            )

    def head_commit(self) -> str:
        """Commit of HEAD."""
        return self._git.text("rev-parse", "--verify", "HEAD^{commit}")

    def branch(self) -> str | None:
        """Name of the branch that HEAD is on; None when HEAD is detached."""
        status, output, _ = self._git.attempt("symbolic-ref", "-q", "HEAD")
        name = os.fsdecode(output).strip()
        return name.removeprefix("refs/heads/") if status == 0 else None

    def tip(self, branch: str) -> str | None:
        """Commit at the branch's end; None without such a branch."""
        return self.ref(f"refs/heads/{branch}")

    def ref(self, name: str) -> str | None:
        """Object id behind a full ref name; None when there is no such ref."""
        status, output, _ = self._git.attempt(
            "rev-parse", "--verify", "-q", "--end-of-options", name
        )
        return output.decode("ascii").strip() if status == 0 else None

    def present(self, names: Sequence[str]) -> list[str]:
        """Those of some full ref names that exist, however many refs there are."""
        check = ("cat-file", "--batch-check=%(objectname)")
        found = self._git.text(*check, stdin="".join(f"{name}\n" for name in names).encode())
        answers = zip(names, found.splitlines(), strict=True)
        return [name for name, answer in answers if not answer.endswith(" missing")]

    def pins(self, prefix: str) -> list[str]:
        """Full names of the refs at and below a prefix."""
        return list(self.refs(prefix))

    def refs(self, prefix: str) -> dict[str, str]:
        """Full name to object id of the refs at and below a prefix."""
        text = self._git.text("for-each-ref", "--format=%(refname) %(objectname)", prefix)
        entries = (line.rpartition(" ") for line in text.splitlines())
        return {name: oid for name, _, oid in entries}

    def messages_since(self, commit: str, most: int = 200) -> list[tuple[str, str]]:
        """Id and message of the commits of HEAD that ``commit`` does not have, the newest first."""
        text = self._git.text("log", f"-{most}", "--format=%H%n%B%x00", f"{commit}..HEAD")
        entries = (
            entry.strip("\n").partition("\n") for entry in text.split("\0") if entry.strip("\n")
        )
        return [(oid, message) for oid, _, message in entries]

    def require_branch(self) -> str:
        """
        The current branch.

        :raises RepositoryError: when HEAD is detached.
        """
        branch = self.branch()
        if branch is None:
            raise RepositoryError(
                f"HEAD is detached at {self.head_commit()[:12]}: `git switch -c NAME` gives the work a "
                "branch to be kept on"
            )
        return branch

    def require_settled(self, surface: Iterable[str]) -> None:
        """
        Refuse a repository in the middle of something, or a surface that is not tracked.

        :raises RepositoryError: naming what to finish first.
        """
        for name, operation in _IN_PROGRESS.items():
            if (self.git_dir / name).exists():
                raise RepositoryError(
                    f"a {operation} is in progress: `git {operation} --continue` or "
                    f"`git {operation} --abort` first"
                )
        unmerged = self._git.run("ls-files", "-u", "-z")
        if unmerged:
            path = os.fsdecode(unmerged.split(b"\0")[0].partition(b"\t")[2])
            raise RepositoryError(f"{path!r} is unmerged: resolve it and `git add` it first")
        self.surface_entries(self.head_commit(), surface)

    def create_branch_here(self, name: str) -> None:
        """
        Put HEAD on branch ``name`` at the current commit; work tree and index stay as they are.

        :raises RepositoryError: for an impossible name, or a branch that stands elsewhere.
        """
        ref = f"refs/heads/{name}"
        if self._git.attempt("check-ref-format", ref)[0] != 0 or name.startswith("-"):
            raise RepositoryError(f"{name!r} cannot be a branch: see `git check-ref-format`")
        head, tip = self.head_commit(), self.tip(name)
        if tip is None:
            self._swap(ref, head, self._zero, "autoresearch: start")
        elif tip != head:
            raise RepositoryError(
                f"branch {name!r} exists and stands at {tip[:12]}, not at HEAD: `git switch {name}` to go "
                "on with it, or choose another tag"
            )
        if self.branch() != name:
            # Not by `git symbolic-ref`, which does not sync: without power an empty HEAD is left.
            write_file(self.git_dir, "HEAD", f"ref: {ref}\n".encode(), executable=False)
            self._require_on(name)

    def pin(self, name: str, oid: str) -> None:
        """
        Keep an object and all it reaches from being collected, as ref ``name``; pins never move.

        :raises RepositoryError: when the pin exists and holds another object.
        """
        if not name.startswith("refs/autoresearch/"):
            raise RepositoryError(
                f"{name!r} cannot be a pin: pins stand below 'refs/autoresearch/'"
            )
        self._swap(name, oid, self._zero, "autoresearch: pin")

    def remember(self, name: str, content: bytes) -> None:
        """
        Keep a content as the blob behind ref ``name``, whatever stood there before.

        :raises RepositoryError: when the ref cannot be written.
        """
        self._git.run("update-ref", "--no-deref", name, self._write_blob(content))

    def extend(self, name: str, files: Mapping[str, bytes], *, when: int) -> str:
        """
        Add a commit of just these files to the history behind ref ``name``, unless its last one has them; its id.

        :raises RepositoryError: when the ref cannot be written.
        """
        tree, _ = self.write_surface(files)
        before = self.ref(name)
        if before is not None and self.tree_of(before) == tree:
            return before
        commit = self._commit(tree, before, f"{name}\n", when)
        self._swap(name, commit, before or self._zero, "autoresearch: extend")
        return commit

    def publish(self, commit: str, *, branch: str, expected_tip: str, paths: Iterable[str]) -> None:
        """
        Move ``branch`` from ``expected_tip`` to ``commit``, then bring the surface files in line.

        Doing it again, after any interruption, ends in the same state.

        :raises RepositoryError: when the branch has moved, or HEAD is not on it.
        """
        self._require_on(branch)
        self._swap(f"refs/heads/{branch}", commit, expected_tip, "autoresearch: keep")
        self.restore_surface(commit, paths)

    def withdraw(self, commit: str, *, branch: str, tip: str) -> None:
        """
        Move ``branch`` back from ``commit`` to ``tip``; nothing happens when it is already there.

        :raises RepositoryError: when the branch stands at neither, or HEAD is not on it.
        """
        self._require_on(branch)
        self._swap(f"refs/heads/{branch}", tip, commit, "autoresearch: roll back")

    def keep(
        self,
        files: Mapping[str, bytes],
        *,
        parent: str,
        expected_tip: str,
        branch: str,
        message: str,
        when: int,
    ) -> str:
        """Prepare and publish in one: the commit that now holds the surface."""
        commit = self.prepare_commit(files, parent=parent, message=message, when=when)
        self.publish(commit, branch=branch, expected_tip=expected_tip, paths=files)
        return commit

    def restore_surface(self, commit: str, paths: Iterable[str]) -> None:
        """
        Make surface files in the work tree and the index those of ``commit``, and nothing else.

        A skip-worktree or assume-unchanged bit, which would hide an edit, is cleared on the way.
        """
        entries = self.surface_entries(commit, paths)
        contents = self.read_blobs(oid for _, oid in entries.values())
        for path, (mode, oid) in entries.items():
            write_file(self.root, path, contents[oid], executable=mode == "100755")
        listed = self._git.run("ls-files", "-v", "--stage", "-z", "--", *entries)
        there = set(listed.split(b"\0"))
        stale = {
            path: f"{mode},{oid},{path}"
            for path, (mode, oid) in entries.items()
            if f"H {mode} {oid} 0\t".encode("ascii") + os.fsencode(path) not in there
        }
        if stale:
            arguments = [part for entry in stale.values() for part in ("--cacheinfo", entry)]
            self._git.run(
                "update-index", "--add", "--replace", *arguments, variables=self._without_filters()
            )

    def _without_filters(self) -> dict[str, str]:
        """
        Variables that switch every configured filter program off.

        Writing the index makes git compare files that changed within the last second with their entries,
        through their clean filters.
        """
        listed = self._git.attempt("config", "-z", "--name-only", "--get-regexp", r"^filter\.")[1]
        drivers = {os.fsdecode(key).rpartition(".")[0] for key in listed.split(b"\0")[:-1]}
        settings = [
            (f"{driver}.{key}", value)
            for driver in sorted(drivers)
            for key, value in (("clean", ""), ("process", ""), ("required", "false"))
        ]
        variables = {"GIT_CONFIG_COUNT": str(len(settings))}
        for number, (key, value) in enumerate(settings):
            variables[f"GIT_CONFIG_KEY_{number}"] = key
            variables[f"GIT_CONFIG_VALUE_{number}"] = value
        return variables

    def _swap(self, ref: str, new: str, old: str, message: str) -> None:
        """Move a ref from ``old`` to ``new``; content when it is at ``new`` already."""
        self._require_same_repository()
        status, _, complaint = self._git.attempt("update-ref", "-m", message, ref, new, old)
        if status == 0:
            return
        # Also when the dead session's own git child was faster than this recovery.
        now = self.ref(ref)
        if now == new:
            return
        if now == (None if old == self._zero else old):
            raise RepositoryError(f"{ref!r} cannot be written: {escaped(complaint)}")
        raise RepositoryError(
            f"{ref!r} stands at {(now or 'nothing')[:12]}, but {old[:12]} was expected: somebody moved it "
            "meanwhile. Nothing was overwritten; look at `git log` and move it back or start a new tag"
        )

    def _require_on(self, branch: str) -> None:
        current = self.branch()
        if current != branch:
            where = f"on branch {current!r}" if current else "detached"
            raise RepositoryError(
                f"HEAD is {where}, but the campaign's branch is {branch!r}: `git switch {branch}`"
            )


def _require_repository(root: Path, entry: Path) -> None:
    if entry.exists():
        return
    if (root / "HEAD").is_file() and (root / "objects").is_dir():
        raise RepositoryError(f"{str(root)!r} is a bare repository: work in a clone of it")
    for parent in root.parents:
        if (parent / ".git").exists():
            raise RepositoryError(
                f"{str(root)!r} lies inside the repository {str(parent)!r}: run from its top, or give the "
                "project a repository of its own with `git init`"
            )
    raise RepositoryError(
        f"{str(root)!r} is not a git repository: `git init && git add -A && git commit`, so that there "
        "is a state to go back to"
    )
