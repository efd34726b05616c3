"""
Imports from the project are served out of the ratified tree: what is executed is the pinned content.

The comparison of the work tree (:mod:`.harness`) happens once; a process that an agent left behind may swap
a file between it and an import, or forge a bytecode cache. So no file below the root is ever read for an
import: a finder placed before all others lets them find a module and then executes the ratified blob.

What is covered: conftests, gates and whatever they import from the project, in every import mode, with
pytest's assertion rewriting; shadow modules and packages, compiled and zipped modules; the settings that
pytest read before any hook ran.
What is not covered: a gate that opens a file by its path (``open``, ``runpy``, or
``importlib.util.spec_from_file_location`` with the stock loader): the comparison before a keep answers for
those. Modules that were imported before the finder stood: pytest's own plugins, ``-p`` and, where the root
is on ``sys.path``, whatever shadows them.
"""

from __future__ import annotations

import ast
import linecache
import os
import posixpath
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Self

from .harness import is_obeyed
from .records import FixedHarnessViolation
from .report.tables import escape

if TYPE_CHECKING:
    import pytest
    from _pytest.assertion.rewrite import AssertionRewritingHook

    from .campaign import Campaign

__all__ = ["PinnedImports", "PinnedSource", "pin_imports", "require_ratified_settings"]

_LEGAL = "commit it and `autoresearch ratify --reason '...'`, or move it away"


class PinnedSource(SourceFileLoader):
    """
    Executes given bytes under a file's name: neither the file nor a bytecode cache is read or written.

    :param hook: pytest's import hook, when it wants the module's assertions rewritten.
    """

    def __init__(
        self, name: str, path: str, content: bytes, hook: AssertionRewritingHook | None = None
    ) -> None:
        super().__init__(name, path)
        self._content = content
        self._hook = hook

    def get_data(self, path: str) -> bytes:
        """The pinned bytes for the module itself; a resource beside it is read by its path."""
        return self._content if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        """Compile the pinned bytes, and let tracebacks show their lines."""
        tree = ast.parse(self._content, filename=self.path)
        if self._hook is not None:
            from _pytest.assertion.rewrite import rewrite_asserts

            rewrite_asserts(tree, self._content, self.path, self._hook.config)
            # As the hook does, so that naming the plugin again does not warn of a missed rewrite.
            self._hook._rewritten_names[fullname] = Path(self.path)
        code: CodeType = compile(tree, self.path, "exec", dont_inherit=True)
        lines = decode_source(self._content).splitlines(keepends=True)
        # Without a time stamp an entry stays, whatever becomes of the file.
        linecache.cache[self.path] = (len(self._content), None, lines, self.path)
        return code


class PinnedImports(MetaPathFinder):
    """
    Stands before every other finder while a campaign is open.

    :param root: the project's root.
    :param contents: path to bytes of every ratified Python file, and of files that the user named.
    :param links: path to target of every ratified symbolic link.
    :param surface: paths the agent may alter, which no trusted process imports.
    """

    def __init__(
        self,
        root: Path,
        contents: Mapping[str, bytes],
        *,
        links: Mapping[str, str],
        surface: Iterable[str],
    ) -> None:
        self.contents = contents
        self._links = links
        self._directories = {
            str(above) for path in contents for above in PurePosixPath(path).parents
        }
        self._surface = frozenset(surface)
        self._roots = tuple(
            dict.fromkeys(f"{top}{os.sep}" for top in (str(root), os.path.realpath(root)))
        )
        # An environment inside the project belongs to the interpreter; a project inside the environment
        # (/usr/src/app) belongs to nobody else.
        prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
        self._environment = tuple(
            f"{place}{os.sep}" for place in prefixes if place.startswith(self._roots)
        )
        self._real: dict[str, str] = {}

    def __enter__(self) -> Self:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """
        What the other finders find; if it lies in the project, its ratified content.

        :raises FixedHarnessViolation: for a module of the project that cannot be pinned, or the surface.
        """
        spec = self._found_by_others(name, path, target)
        if spec is None:
            return self._found_by_nobody(name, path)
        if spec.origin is None or not spec.has_location:
            self._refuse_foreign_namespace(name, spec)
            return spec
        place = self._below(spec.origin)
        return spec if place is None else self._pinned(name, spec, place)

    def _found_by_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self:
                spec: ModuleSpec | None = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None

    def _found_by_nobody(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """
        A gate whose file name holds a dot, which pytest imports under a name with ``_`` in its place; or
        the surface, asked for where the root is not on ``sys.path``.
        """
        last = name.rpartition(".")[2]
        if path is None:
            if f"{name}.py" in self._surface:
                raise ModuleNotFoundError(_surface_message(f"{name}.py"), name=name)
            return None
        for directory in path:
            place = self._below(directory)
            for candidate in () if place is None else self.contents:
                file = PurePosixPath(candidate)
                dotted = "." in file.stem and file.stem.replace(".", "_") == last
                if dotted and str(file.parent) == place:
                    origin = os.path.join(directory, file.name)  # noqa: PTH118 - finders speak str
                    return self._spec(name, origin, self.contents[candidate])
        return None

    def _pinned(self, name: str, spec: ModuleSpec, place: str) -> ModuleSpec:
        from _pytest.assertion.rewrite import AssertionRewritingHook

        assert spec.origin is not None
        if place in self._surface:
            raise FixedHarnessViolation(_surface_message(place))
        hook = spec.loader if isinstance(spec.loader, AssertionRewritingHook) else None
        if hook is None and not isinstance(spec.loader, SourceFileLoader):
            raise FixedHarnessViolation(
                f"{escape(place)!r} was to be imported as {name!r}: only Python source is executed from the "
                "project, because nothing else can be held against the ratified tree; install it into the "
                "environment, or move it away"
            )
        content = self.contents.get(place)
        if content is None:
            raise FixedHarnessViolation(
                f"{escape(place)!r} was to be imported as {name!r}, and the ratified tree does not hold it: "
                f"{_LEGAL}"
            )
        return self._spec(name, spec.origin, content, hook, spec.submodule_search_locations)

    @staticmethod
    def _spec(
        name: str,
        origin: str,
        content: bytes,
        hook: AssertionRewritingHook | None = None,
        locations: list[str] | None = None,
    ) -> ModuleSpec:
        loader = PinnedSource(name, origin, content, hook)
        spec = spec_from_file_location(
            name, origin, loader=loader, submodule_search_locations=locations
        )
        assert spec is not None
        return spec

    def _refuse_foreign_namespace(self, name: str, spec: ModuleSpec) -> None:
        """Treat a directory that nobody ratified, such as one of logs, as the no package that it is."""
        if spec.loader is not None or not spec.submodule_search_locations:
            return
        places = [self._below(location) for location in spec.submodule_search_locations]
        if all(place is not None and place not in self._directories for place in places):
            raise ModuleNotFoundError(
                f"No module named {name!r}: {escape(str(places[0]))!r} is a directory that the ratified "
                f"tree does not hold; to import from it, {_LEGAL}",
                name=name,
            )

    def _below(self, path: str) -> str | None:
        """The place below the root, as a POSIX path; None for what lies elsewhere or in the environment."""
        lexical = os.path.abspath(path)  # noqa: PTH100 - links are looked at below
        for place in (lexical, self._resolved(lexical)):
            if place.startswith(self._environment):
                return None
            for root in self._roots:
                if f"{place}{os.sep}".startswith(root):
                    return self._behind_links(place[len(root) :].replace(os.sep, "/") or ".")
        return None

    def _behind_links(self, place: str) -> str:
        """The place that ratified symbolic links lead to; those in the work tree have no say."""
        for _ in range(len(self._links)):
            path = PurePosixPath(place)
            link = next((p for p in (path, *path.parents) if str(p) in self._links), None)
            if link is None:
                break
            target = link.parent / self._links[str(link)] / path.relative_to(link)
            place = posixpath.normpath(str(target))
        return place

    def _resolved(self, path: str) -> str:
        """The real path; that of a directory is remembered, as a thousand modules share a few."""
        if os.path.islink(path):  # noqa: PTH114 - as hot as an import
            return os.path.realpath(path)
        directory, name = os.path.split(path)
        if directory not in self._real:
            self._real[directory] = os.path.realpath(directory)
        return os.path.join(self._real[directory], name)  # noqa: PTH118


def pin_imports(campaign: Campaign, config: pytest.Config) -> PinnedImports:
    """
    The finder for a campaign whose work tree has just been compared.

    :raises FixedHarnessViolation: the settings in effect are not the ratified ones.
    """
    ratified, repository = campaign.ratified, campaign.repository
    links = {path: oid for path, (mode, oid) in ratified.items() if mode == "120000"}
    files = {
        path: oid
        for path, (mode, oid) in ratified.items()
        if mode.startswith("100") and (path.endswith(".py") or is_obeyed(path))
    }
    blobs = repository.read_blobs([*files.values(), *links.values()])
    contents = {path: blobs[oid] for path, oid in files.items()}
    require_ratified_settings(config, contents)
    named = _named_files(config, campaign.options.file_or_dir)
    return PinnedImports(
        campaign.root,
        {**named, **contents},
        links={path: os.fsdecode(blobs[oid]) for path, oid in links.items()},
        surface=campaign.settings.surface,
    )


def _named_files(config: pytest.Config, arguments: Iterable[str]) -> dict[str, bytes]:
    """Files that the user names one by one may be of any origin; what counts is their content now."""
    named = {}
    for argument in arguments:
        path = config.invocation_params.dir / argument.partition("::")[0]
        if path.suffix == ".py" and path.is_relative_to(config.rootpath) and path.is_file():
            named[path.relative_to(config.rootpath).as_posix()] = path.read_bytes()
    return named


def require_ratified_settings(config: pytest.Config, contents: Mapping[str, bytes]) -> None:
    """
    Hold the settings in effect against the ratified ini file: pytest read its own before any hook ran.

    :param contents: path to bytes of the ratified ini files.
    :raises FixedHarnessViolation: another file was obeyed, or the same one with another content.
    """
    from _pytest.config.findpaths import load_config_dict_from_file

    if config.inipath is None or not config.inipath.is_relative_to(config.rootpath):
        return
    name = config.inipath.relative_to(config.rootpath).as_posix()
    expected = {}
    if name in contents:
        # Read by pytest's own parser, which takes files.
        with TemporaryDirectory(prefix="autoresearch-") as directory:
            file = Path(directory) / config.inipath.name
            file.write_bytes(contents[name])
            expected = load_config_dict_from_file(file) or {}
    effective = config._inicfg
    for key in sorted(effective.keys() | expected.keys()):
        found = effective.get(key)
        # `-o` replaces a setting by the word of whoever started the session.
        if found is not None and found.origin == "override":
            continue
        if found != expected.get(key):
            raise FixedHarnessViolation(
                f"pytest has read the setting {escape(key)!r} in {name!r} with another value than the "
                f"ratified file gives it: somebody exchanged {name!r} while the session started; end what "
                "still writes to the work tree, then start again"
            )


def _surface_message(path: str) -> str:
    return (
        f"{path!r} is the mutation surface, and a candidate is data: no trusted process imports it; let the "
        "gate use the `candidate` fixture (text, tree, diff), or `training_run` and `evaluation` for what "
        "it does"
    )
