"""
Git's object database: contents in and out by object id, trees and commits built without an index.

Contents pass as they are: no filter, no end-of-line conversion, no checkout.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .gitprocess import GitProcess, RepositoryError, escaped

__all__ = ["Objects", "commit_message"]

_REGULAR = ("100644", "100755")
_TREE = "040000"
_KINDS = {"120000": "a symbolic link", "160000": "a submodule", "040000": "a directory"}


class Objects:
    """
    The objects of one repository.

    :param git_dir: its absolute path; writing is refused once something else stands there.
    """

    def __init__(self, root: Path, git_dir: Path) -> None:
        self.root = root
        self.git_dir = git_dir
        self._git = GitProcess(root, git_dir)
        self._identity = self._identify()
        self.object_format = self._git.text("rev-parse", "--show-object-format")
        """``sha1`` or ``sha256``."""

    def tree_of(self, commit: str) -> str:
        """Tree of a commit."""
        return self._git.text("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")

    def history(self, name: str) -> list[str]:
        """Commits behind a ref, newest first, by first parents."""
        return self._git.text("rev-list", "--first-parent", "--end-of-options", name).splitlines()

    def resolve(self, revision: str) -> str:
        """
        Commit that a revision given by a user names.

        :raises RepositoryError: when it names none.
        """
        if not revision.startswith("-") and revision.isprintable():
            arguments = ("rev-parse", "--verify", "-q", "--end-of-options")
            status, output, _ = self._git.attempt(*arguments, f"{revision}^{{commit}}")
            commit = output.decode("ascii").strip()
            if status == 0 and re.fullmatch("[0-9a-f]+", commit):
                return commit
        raise RepositoryError(
            f"{revision!r} names no commit of this repository: give a branch, a tag or a commit id"
        )

    def blobs(self, tree: str) -> dict[str, tuple[str, str]]:
        """
        Path to (mode, object id) of everything in a tree or commit; a submodule has mode 160000.

        Every object from the given id down to the last directory is held against its id.

        :raises RepositoryError: for an object that is missing or forged.
        """
        oid = tree
        if not re.fullmatch("[0-9a-f]{40,64}", oid):
            oid = self._git.text("rev-parse", "--verify", "--end-of-options", tree)
        listed = self._list("-r", "-t", "--full-tree", oid)
        trees = {found for mode, found in listed.values() if mode == _TREE}
        objects = self._read({oid, f"{oid}^{{tree}}", *trees})
        kind, content = objects[oid]
        if kind == "commit":
            oid = content.split(b"\n", 1)[0].removeprefix(b"tree ").decode("ascii")
        found: dict[str, tuple[str, str]] = {}
        pending = [("", oid)]
        while pending:
            directory, oid = pending.pop()
            if objects.get(oid, ("", b""))[0] != "tree":
                raise RepositoryError(_forged(oid))
            for name, mode, entry in _entries(objects[oid][1], len(oid) // 2):
                path = f"{directory}{name}"
                if mode == _TREE:
                    pending.append((f"{path}/", entry))
                else:
                    found[path] = (mode, entry)
        return dict(sorted(found.items(), key=lambda item: os.fsencode(item[0])))

    def read_blob(self, oid: str) -> bytes:
        """Content by object id."""
        return self.read_blobs([oid])[oid]

    def read_blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        """
        Contents of many blobs by object id, in one child.

        :raises RepositoryError: for an object that is missing, no blob, or forged.
        """
        contents = {}
        for oid, (kind, content) in self._read(oids).items():
            if kind != "blob":
                raise RepositoryError(
                    f"object {oid!r} is {kind}, not a blob: the history is damaged"
                )
            contents[oid] = content
        return contents

    def _read(self, oids: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """Object id to kind and content; ``missing`` is a kind."""
        request = "".join(f"{oid}\n" for oid in dict.fromkeys(oids)).encode("ascii")
        output = self._git.run("cat-file", "--batch", "--buffer", stdin=request)
        objects = {}
        start = 0
        while start < len(output):
            end = output.index(b"\n", start)
            oid, kind, *size = output[start:end].decode("ascii").split(" ")
            start = end + 1 + (int(size[0]) if size else -1)
            content = output[end + 1 : start]
            # Git itself does not look: whoever can write .git may put other content under an id.
            if size and self._hash(kind, content) != oid:
                raise RepositoryError(_forged(oid))
            objects[oid] = (kind, content)
            start += 1
        return objects

    def read_surface(self, revision: str, paths: Iterable[str]) -> dict[str, bytes]:
        """
        Surface files of a revision, by object id.

        :raises RepositoryError: when the revision or a regular file of that name is missing.
        """
        entries = self.surface_entries(self.resolve(revision), paths)
        contents = self.read_blobs(oid for _, oid in entries.values())
        return {path: contents[oid] for path, (_, oid) in entries.items()}

    def surface_entries(self, commit: str, paths: Iterable[str]) -> dict[str, tuple[str, str]]:
        """
        Path to (mode, blob id) of surface files in a commit.

        :raises RepositoryError: for one that is absent, a symbolic link, a submodule or a directory.
        """
        names = list(paths)
        found = self._list("--full-tree", commit, "--", *names)
        for path in names:
            mode = found.get(path, ("", ""))[0]
            if mode in _REGULAR:
                continue
            if mode:
                raise RepositoryError(
                    f"surface file {path!r} is {_KINDS[mode]} in commit {commit[:12]}: the surface "
                    "consists of regular files; commit one in its place"
                )
            raise RepositoryError(
                f"surface file {path!r} is not tracked in commit {commit[:12]}: "
                f"`git add {path} && git commit`"
            )
        return {path: found[path] for path in names}

    def hash_blob(self, content: bytes) -> str:
        """Git's object id of a content; nothing is written."""
        return self._hash("blob", content)

    def _hash(self, kind: str, content: bytes) -> str:
        header = f"{kind} {len(content)}\0".encode("ascii")
        return hashlib.new(self.object_format, header + content).hexdigest()

    def write_surface(self, files: Mapping[str, bytes]) -> tuple[str, dict[str, str]]:
        """Write contents as blobs: (a tree that holds just them, path to blob id)."""
        blobs = {path: self._write_blob(content) for path, content in files.items()}
        return self._graft(None, {path: ("100644", oid) for path, oid in blobs.items()}), blobs

    def prepare_commit(
        self, files: Mapping[str, bytes], *, parent: str, message: str, when: int
    ) -> str:
        """
        Write the commit that replaces surface files of ``parent``; no ref, index or file changes.

        The same arguments give the same commit id.

        :param when: seconds since the epoch, of author and committer.
        """
        entries = self.surface_entries(parent, files)
        leaves = {path: (entries[path][0], self._write_blob(files[path])) for path in files}
        return self._commit(self._graft(self.tree_of(parent), leaves), parent, message, when)

    def _commit(self, tree: str, parent: str | None, message: str, when: int) -> str:
        variables = {
            f"GIT_{role}_{name}": value
            for role in ("AUTHOR", "COMMITTER")
            for name, value in (
                ("NAME", "autoresearch"),
                ("EMAIL", "autoresearch@localhost"),
                ("DATE", f"@{when} +0000"),
            )
        }
        parents = ("-p", parent) if parent else ()
        arguments = ("commit-tree", tree, *parents, "-F", "-")
        output = self._git.run(*arguments, stdin=message.encode(), variables=variables)
        return output.decode("ascii").strip()

    def _list(self, *arguments: str) -> dict[str, tuple[str, str]]:
        entries = {}
        for line in self._git.run("ls-tree", "-z", *arguments).split(b"\0")[:-1]:
            attributes, _, path = line.partition(b"\t")
            mode, _, oid = attributes.decode("ascii").split(" ")
            entries[os.fsdecode(path)] = (mode, oid)
        return entries

    def _write_blob(self, content: bytes) -> str:
        return self._write("blob", content)

    def _write(self, kind: str, content: bytes) -> str:
        self._require_same_repository()
        arguments = ("hash-object", "-w", "--stdin", "--literally", "-t", kind)
        return self._git.text(*arguments, stdin=content)

    def _graft(self, tree: str | None, leaves: Mapping[str, tuple[str, str]]) -> str:
        """
        The tree ``tree`` with ``leaves`` (path to mode and blob id) put in.

        One object per directory on the way: no index, and the cost does not grow with the project. Not by
        ``mktree``, which reads no configuration and so does not sync what it writes.
        """
        entries = self._list(tree) if tree else {}
        inner: dict[str, dict[str, tuple[str, str]]] = {}
        for path, leaf in leaves.items():
            name, _, rest = path.partition("/")
            if rest:
                inner.setdefault(name, {})[rest] = leaf
            else:
                entries[name] = leaf
        for name, below in inner.items():
            subtree = entries[name][1] if name in entries else None
            entries[name] = (_TREE, self._graft(subtree, below))
        content = b"".join(
            f"{mode.lstrip('0')} ".encode("ascii") + name + b"\0" + bytes.fromhex(oid)
            for name, mode, oid in sorted(
                ((os.fsencode(name), *entry) for name, entry in entries.items()),
                key=lambda entry: entry[0] + (b"/" if entry[1] == _TREE else b""),
            )
        )
        return self._write("tree", content)

    def _identify(self) -> tuple[int, int]:
        info = self.git_dir.stat()
        return info.st_dev, info.st_ino

    def _require_same_repository(self) -> None:
        try:
            same = self._identify() == self._identity
        except OSError:
            same = False
        if not same:
            raise RepositoryError(
                f"{str(self.git_dir)!r} was replaced while the session ran: nothing is written to it; "
                "put the repository back"
            )


def _entries(content: bytes, width: int) -> Iterator[tuple[str, str, str]]:
    """Name, mode and object id of each entry of a tree object."""
    start = 0
    while start < len(content):
        end = content.index(b"\0", start)
        mode, _, name = content[start:end].partition(b" ")
        start = end + 1 + width
        yield os.fsdecode(name), mode.decode("ascii").zfill(6), content[end + 1 : start].hex()


def _forged(oid: str) -> str:
    return (
        f"object {oid!r} does not have the content that its id stands for: the repository was tampered "
        "with or is damaged (`git fsck`); work in a fresh clone"
    )


def commit_message(subject: str, body: str, trailers: Mapping[str, object]) -> str:
    """
    A commit message; no text in it can pass for a trailer or steer a terminal.

    :param trailers: name, as ``Autoresearch-Metric``, to value.
    """
    paragraphs = [escaped(subject)]
    # Indented lines are never read as trailers.
    paragraphs += ["\n".join(f"  {escaped(line)}" for line in body.splitlines())] if body else []
    lines = []
    for name, value in trailers.items():
        if not re.fullmatch("[A-Za-z][A-Za-z0-9-]*", name):
            raise ValueError(f"{name!r} cannot name a trailer: letters, digits and hyphens")
        lines.append(f"{name}: {escaped(str(value))}")
    return "\n\n".join([*paragraphs, "\n".join(lines)]) + "\n"
