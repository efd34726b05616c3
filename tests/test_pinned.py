"""
What is executed from the project is the ratified content, whatever becomes of the files after the comparison.

The daemon that an agent left behind is a plugin here, so that it wins its race every time: it touches files
only, right after the work tree was found intact and right before pytest imports the first conftest.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import linecache
import marshal
import os
import py_compile
import shutil
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from observe import state
from project import LEAN, STOCK, Project, Result

from pytest_autoresearch.pinned import PinnedImports
from pytest_autoresearch.records import FixedHarnessViolation

DAEMON = """\
import json
import os
import shutil
from pathlib import Path

def exchange(what):
    for path, content in what.items():
        path = Path(path)
        if path.is_file():
            path.unlink()
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes.fromhex(content))

exchange(json.loads(os.environ.get("AT_START", "{}")))

def pytest_load_initial_conftests():
    exchange(json.loads(os.environ.get("AFTER_THE_CHECK", "{}")))
"""
MODES = ("importlib", "prepend", "append")


class Race:
    """A project, and somebody who writes to it at a moment of his choice."""

    def __init__(self, project: Project, directory: Path) -> None:
        self.project = project
        self.marker = directory / "evil-ran"
        self.tools = directory / "tools"
        self.tools.mkdir()
        (self.tools / "daemon.py").write_text(DAEMON)
        self.after: dict[str, str | None] = {}
        self.at_start: dict[str, str | None] = {}

    @property
    def evil(self) -> str:
        """Python that tells on itself."""
        return f"open({str(self.marker)!r}, 'w').close()\n"

    def swap(self, path: str, content: str | bytes | None = None) -> None:
        """After the comparison, this content stands there; by default the present one with a payload."""
        if content is None:
            content = f"{self.project.read(path)}\n{self.evil}"
        data = content.encode() if isinstance(content, str) else content
        self.after[str(self.project.root / path)] = data.hex()

    def run(self, *arguments: str, path: str = "") -> Result:
        """pytest with the daemon at work."""
        return self.project.run(
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-p",
            "daemon",
            *arguments,
            env={
                **LEAN,
                "PYTHONPATH": f"{self.tools}{path and os.pathsep + path}",
                "AFTER_THE_CHECK": json.dumps(self.after),
                "AT_START": json.dumps(self.at_start),
            },
        )

    def collect(self, *arguments: str, path: str = "") -> Result:
        """A session that imports everything and runs nothing."""
        return self.run("--autoresearch", "--collect-only", *arguments, path=path)


@pytest.fixture
def race(project: Project, tmp_path: Path) -> Race:
    """A project with a conftest above its gates."""
    project.write("conftest.py", "")
    project.commit("with a conftest")
    return Race(project, tmp_path)


# -- the race ------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "path", ["conftest.py", "harness_tests/conftest.py", "harness_tests/test_mid_loop.py"]
)
def test_a_file_exchanged_after_the_comparison_is_not_what_runs(
    race: Race, path: str, mode: str
) -> None:
    if path == "harness_tests/conftest.py":
        race.project.git("mv", "conftest.py", path)
        race.project.commit("another place for it")
    race.swap(path)

    result = race.collect(f"--import-mode={mode}")

    assert result.returncode == 0, result.output
    assert f"{STOCK} tests collected" in result.stdout
    assert not race.marker.exists()
    assert race.evil in race.project.read(path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", ["conftest.py", "harness_tests/test_mid_loop.py"])
def test_without_the_guard_the_exchanged_file_does_run(race: Race, path: str, mode: str) -> None:
    race.swap(path)

    race.run("--collect-only", f"--import-mode={mode}", "harness_tests")

    assert race.marker.exists()


def poisoned(project: Project, path: str, code: str, tag: str) -> tuple[str, bytes]:
    """A bytecode cache that claims to belong to its source: unchecked, or by the source's own hash."""
    source = project.root / path
    cache = Path(importlib.util.cache_from_source(str(source)))
    header = py_compile.compile(
        str(source),
        cfile=str(project.root.parent / "header.pyc"),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    assert header is not None
    start = Path(header).read_bytes()[:16]
    if tag:
        start = start[:4] + b"\x03\x00\x00\x00" + start[8:]
    name = cache.with_name(cache.name.replace(".pyc", f"{tag}.pyc"))
    forged = start + marshal.dumps(compile(code, str(source), "exec"))
    return name.relative_to(project.root).as_posix(), forged


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control"])
@pytest.mark.parametrize("target", ["gate", "helper"])
def test_bytecode_forged_after_the_comparison_is_not_what_runs(
    race: Race, target: str, guarded: bool
) -> None:
    race.project.write("harness_tests/rules.py", "LIMIT = 3\n")
    race.project.write(
        "harness_tests/test_more.py",
        "import rules\n\ndef test_limit(candidate):\n    assert rules.LIMIT == 3\n",
    )
    race.project.commit("a helper")
    tag = f"-pytest-{pytest.__version__}" if target == "gate" else ""
    path = f"harness_tests/{'test_more' if target == 'gate' else 'rules'}.py"
    race.swap(*poisoned(race.project, path, f"LIMIT = 3\n{race.evil}", tag))

    options = ("--import-mode=prepend", "--collect-only")
    if guarded:
        result = race.run("--autoresearch", *options)
        assert f"{STOCK + 1} tests collected" in result.stdout, result.output
    else:
        race.run(*options, "harness_tests")

    assert race.marker.exists() is not guarded


def test_gates_keep_their_messages_and_tracebacks_their_lines(race: Race) -> None:
    """Assertions are rewritten in gates, conftests and the plugins they name."""
    race.project.write("shared/__init__.py", "")
    race.project.write(
        "shared/rules.py",
        "def require_small(value):\n    assert value <= 0.1\n",
    )
    race.project.write("conftest.py", "pytest_plugins = ['shared.rules']\n")
    race.project.write(
        "harness_tests/test_pre_loop.py",
        "from shared.rules import require_small\n\n\n"
        "def test_here(training_view):\n    value = 0.131\n    assert value <= 0.1\n\n\n"
        "def test_there(training_view):\n    require_small(0.131)\n",
    )
    race.project.commit("a plugin")
    race.swap("harness_tests/test_pre_loop.py", "# nothing to see here\n" * 20)
    race.swap("shared/rules.py", "# nothing to see here\n" * 20)

    result = race.run(
        "--autoresearch", "--autoresearch-dry-run", "-vv", path=str(race.project.root)
    )

    assert result.returncode == 1, result.output
    shown = result.stdout.partition("= autoresearch =")[0]
    assert shown.count("E       assert 0.131 <= 0.1\n") == 2
    assert shown.count(">       assert value <= 0.1\n") == 2
    assert ">       require_small(0.131)\n" in shown
    assert "nothing to see" not in result.stdout
    assert "harness_tests/test_pre_loop.py:6: AssertionError" in result.stdout
    assert "shared/rules.py:2: AssertionError" in result.stdout


def test_settings_that_were_there_for_a_moment_only_halt_on_the_record(
    measured: Project, tmp_path: Path
) -> None:
    """pytest reads them before any hook; the file is whole again when it is compared."""
    race = Race(measured, tmp_path)
    path = measured.root / "pyproject.toml"
    ratified = path.read_bytes()
    measured.edit("strict = true", 'strict = true\npython_files = ["none_*.py"]', "pyproject.toml")
    race.at_start[str(path)] = ratified.hex()

    result = race.run("--autoresearch")

    assert result.returncode == 4, result.output
    assert path.read_bytes() == ratified
    assert "the setting 'python_files' in 'pyproject.toml' with another value" in result.stderr
    assert [row.kind for row in state(measured).settled] == ["baseline", "halt"]
    # The control: the same moment under plain pytest.
    measured.edit("strict = true", 'strict = true\npython_files = ["none_*.py"]', "pyproject.toml")
    assert "no tests collected" in race.run("--collect-only", "harness_tests").stdout
    # A setting overridden by hand, and the same file without the exchange, are as ever.
    race.at_start.clear()
    assert race.collect("-o", "console_output_style=classic").returncode == 0


def test_an_ini_file_that_was_there_for_a_moment_only_halts(race: Race) -> None:
    race.project.write("pytest.ini", "[pytest]\npython_files = none_*.py\n")
    race.at_start[str(race.project.root / "pytest.ini")] = None

    result = race.run("--autoresearch")

    assert result.returncode == 4, result.output
    assert "the setting 'python_files' in 'pytest.ini'" in result.stderr
    assert not (race.project.root / "pytest.ini").exists()


# -- what the ratified tree does not hold --------------------------------------


def test_a_module_that_nobody_ratified_is_refused_by_name(race: Race) -> None:
    """Also one that a gate imports inside its body, long after collection."""
    race.project.write(
        "harness_tests/test_pre_loop.py",
        "def test_late(training_view):\n    import tabulate\n",
    )
    race.project.commit("a late import")
    race.swap("tabulate.py", race.evil)

    result = race.run("--autoresearch", "--autoresearch-dry-run", path=str(race.project.root))

    assert result.returncode == 1, result.output
    assert not race.marker.exists()
    assert "'tabulate.py' was to be imported as 'tabulate'" in result.stdout
    assert "move it away" in result.stdout


def test_a_gate_that_appears_after_the_comparison_never_runs(race: Race) -> None:
    race.swap("harness_tests/test_extra.py", race.evil + "def test_extra(): pass\n")

    result = race.run("--autoresearch")

    assert result.returncode == 2, result.output
    assert "'harness_tests/test_extra.py' was to be imported" in result.stdout
    assert not race.marker.exists()


def test_a_gate_that_disappears_after_the_comparison_is_owed_all_the_same(race: Race) -> None:
    path = race.project.root / "harness_tests/test_pre_loop.py"
    race.after[str(path)] = None

    result = race.run("--autoresearch")

    assert not path.exists()
    assert result.returncode == 1, result.output
    assert (
        "harness_tests/test_pre_loop.py::test_training_rows_are_not_heldout_rows" in result.stdout
    )
    assert "KEPT" not in result.stdout


def test_a_conftest_that_appears_after_the_comparison_never_runs(race: Race) -> None:
    (race.project.root / "conftest.py").unlink()
    race.project.commit("no conftest")
    race.swap("conftest.py", race.evil)

    result = race.run("--autoresearch")

    assert result.returncode == 4, result.output
    assert "'conftest.py' was to be imported" in result.output
    assert not race.marker.exists()


def test_a_gate_cannot_import_the_surface(race: Race) -> None:
    race.project.write(
        "harness_tests/test_pre_loop.py",
        "import pytest\n\n\n@pytest.mark.gate('pre')\ndef test_late():\n    import train\n",
    )
    race.project.write("train.py", race.evil + race.project.read("train.py"))
    race.project.commit("a gate that runs the candidate")

    path = str(race.project.root)
    result = race.run("--autoresearch", "--autoresearch-dry-run", path=path)

    assert result.returncode == 1, result.output
    assert "'train.py' is the mutation surface" in result.stdout
    assert "use the `candidate` fixture" in result.stdout
    assert not race.marker.exists()

    # The control: nothing else keeps the interpreter from it.
    assert race.project.run(sys.executable, "-c", "import train").returncode == 0
    assert race.marker.exists()


def test_a_gate_in_a_file_of_the_users_own_runs_as_it_was_when_named(race: Race) -> None:
    race.project.write("checks/test_mine.py", "def test_mine(candidate): pass\n")
    race.swap("checks/test_mine.py")
    race.swap("checks/test_other.py", race.evil)

    result = race.collect("checks/test_mine.py::test_mine")

    assert result.returncode == 0, result.output
    assert f"{STOCK + 1} tests collected" in result.stdout
    assert race.collect("checks").returncode != 0
    assert not race.marker.exists()


def test_a_gate_with_a_dot_in_its_file_name_is_pinned_too(race: Race) -> None:
    race.project.write("harness_tests/test_v1.2.py", "def test_dotted(candidate): pass\n")
    race.project.commit("a dot")
    race.swap("harness_tests/test_v1.2.py")

    result = race.collect()

    assert f"{STOCK + 1} tests collected" in result.stdout, result.output
    assert not race.marker.exists()


def test_plain_pytest_has_no_such_finder(race: Race) -> None:
    race.project.write(
        "harness_tests/test_pre_loop.py",
        "import sys\n\ndef test_free():\n"
        "    assert 'pytest_autoresearch.pinned' not in sys.modules\n",
    )
    result = race.run("harness_tests/test_pre_loop.py")
    assert result.returncode == 0, result.output


# -- the finder ----------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on sys.path whose modules are forgotten afterwards."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))
    before = set(sys.modules)
    yield root
    for name in set(sys.modules) - before:
        del sys.modules[name]
    linecache.clearcache()


def finder(root: Path, *paths: str, links: dict[str, str] | None = None) -> PinnedImports:
    """The finder whose ratified contents are the files as they stand."""
    contents = {path: (root / path).read_bytes() for path in paths}
    return PinnedImports(root, contents, links=links or {}, surface=["pin_surface.py"])


def test_modules_and_packages_are_executed_from_memory(root: Path) -> None:
    (root / "pin_package" / "deep").mkdir(parents=True)
    (root / "pin_package" / "__init__.py").write_text("VALUE = 1\n")
    (root / "pin_package" / "part.py").write_text(
        "# -*- coding: latin-1 -*-\nVALUE = 'é'\n", "latin-1"
    )
    (root / "pin_package" / "deep" / "leaf.py").write_text("VALUE = 3\ndef fail():\n    1 / 0\n")
    with finder(root, "pin_package/__init__.py", "pin_package/part.py", "pin_package/deep/leaf.py"):
        for path in root.rglob("*.py"):
            path.write_text("raise SystemExit('owned')\n" * 5)
        package = importlib.import_module("pin_package")
        part = importlib.import_module("pin_package.part")
        leaf = importlib.import_module("pin_package.deep.leaf")
    assert (package.VALUE, part.VALUE, leaf.VALUE) == (1, "é", 3)
    assert package.__path__ == [str(root / "pin_package")]
    assert leaf.__file__ == str(root / "pin_package/deep/leaf.py")
    assert leaf.__spec__.loader.get_source("pin_package.deep.leaf").startswith("VALUE = 3")
    assert not list(root.rglob("*.pyc"))
    with pytest.raises(ZeroDivisionError) as error:
        leaf.fail()
    assert traceback.extract_tb(error.value.__traceback__)[-1].line == "1 / 0"


def test_the_finder_leaves_no_trace_once_closed(root: Path) -> None:
    before = list(sys.meta_path)
    (root / "pin_free.py").write_text("VALUE = 2\n")
    guard = finder(root)
    with guard:
        assert sys.meta_path == [guard, *before]
        with pytest.raises(FixedHarnessViolation, match=r"'pin_free\.py' was to be imported"):
            importlib.import_module("pin_free")
    assert sys.meta_path == before
    assert importlib.import_module("pin_free").VALUE == 2


def test_a_module_elsewhere_is_left_to_whoever_finds_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "root-with-a-longer-name"
    elsewhere.mkdir()
    (elsewhere / "pin_elsewhere.py").write_text("VALUE = 4\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    with finder(root):
        assert importlib.import_module("pin_elsewhere").VALUE == 4
        assert importlib.util.find_spec("pin_nowhere") is None
        # What stands further down on sys.path and would never be imported harms nobody.
        (root / "pin_elsewhere.py").write_text("raise SystemExit('owned')\n")
        del sys.modules["pin_elsewhere"]
        assert importlib.import_module("pin_elsewhere").VALUE == 4


def test_an_environment_inside_the_project_is_the_interpreters(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = root / ".venv" / "lib"
    library.mkdir(parents=True)
    (library / "pin_installed.py").write_text("VALUE = 5\n")
    monkeypatch.syspath_prepend(str(library))
    with finder(root), pytest.raises(FixedHarnessViolation):
        importlib.import_module("pin_installed")
    monkeypatch.setattr(sys, "prefix", str(root / ".venv"))
    with finder(root):
        assert importlib.import_module("pin_installed").VALUE == 5


def test_a_project_inside_the_environment_is_no_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /usr/src/app is below /usr."""
    (root / "pin_app.py").write_text("")
    monkeypatch.setattr(sys, "prefix", str(root.parent))
    with finder(root), pytest.raises(FixedHarnessViolation):
        importlib.import_module("pin_app")


def test_a_link_from_outside_leads_to_the_project_all_the_same(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of links to sources, as some tools install a project in development."""
    (root / "source").mkdir()
    (root / "source" / "pin_linked.py").write_text("VALUE = 6\n")
    outside = tmp_path / "outside"
    outside.symlink_to(root / "source")
    site = tmp_path / "site"
    site.mkdir()
    (site / "pin_single.py").symlink_to(root / "source" / "pin_linked.py")
    monkeypatch.syspath_prepend(str(outside))
    monkeypatch.syspath_prepend(str(site))
    with finder(root, "source/pin_linked.py"):
        (root / "source" / "pin_linked.py").write_text("VALUE = 'owned'\n")
        assert importlib.import_module("pin_linked").VALUE == 6
        assert importlib.import_module("pin_single").VALUE == 6


def test_ratified_links_are_followed_as_they_were_ratified(root: Path) -> None:
    (root / "libs").mkdir()
    (root / "libs" / "pin_real.py").write_text("VALUE = 7\n")
    (root / "pin_alias.py").symlink_to("libs/pin_real.py")
    (root / "pin_dir").symlink_to("libs")
    links = {"pin_alias.py": "libs/pin_real.py", "pin_dir": "libs", "loop": "loop"}
    with finder(root, "libs/pin_real.py", links=links):
        (root / "evil.py").write_text("VALUE = 'owned'\n")
        (root / "pin_alias.py").unlink()
        (root / "pin_alias.py").symlink_to("evil.py")
        assert importlib.import_module("pin_alias").VALUE == 7
        assert importlib.import_module("pin_dir.pin_real").VALUE == 7


def compiled(path: Path) -> None:
    py_compile.compile(str(path), cfile=str(path.with_suffix(".pyc")), doraise=True)
    path.unlink()


def extension(path: Path) -> None:
    import msgspec._core

    shutil.copyfile(msgspec._core.__file__, path.with_suffix(".so"))
    path.unlink()


@pytest.mark.parametrize("make", [compiled, extension], ids=lambda make: make.__name__)
def test_only_source_is_executed_from_the_project(root: Path, make: Callable[[Path], None]) -> None:
    path = root / "pin_binary.py"
    path.write_text("VALUE = 8\n")
    make(path)
    (found,) = root.iterdir()
    with finder(root, found.name), pytest.raises(FixedHarnessViolation) as halt:
        importlib.import_module("pin_binary")
    assert f"{found.name!r} was to be imported as 'pin_binary': only Python source" in str(
        halt.value
    )


def test_a_zipped_module_of_the_project_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(root / "lib.zip", "w") as archive:
        archive.writestr("pin_zipped.py", "VALUE = 'owned'\n")
    monkeypatch.syspath_prepend(str(root / "lib.zip"))
    with finder(root), pytest.raises(FixedHarnessViolation, match=r"lib\.zip/pin_zipped\.py"):
        importlib.import_module("pin_zipped")


def test_a_directory_that_nobody_ratified_is_no_package(root: Path) -> None:
    """An optional dependency stays absent, as if its logs did not lie there."""
    (root / "pin_logs").mkdir()
    (root / "pin_space").mkdir()
    (root / "pin_space" / "part.py").write_text("VALUE = 9\n")
    with finder(root, "pin_space/part.py"):
        with pytest.raises(
            ModuleNotFoundError, match="'pin_logs' is a directory that the ratified"
        ):
            importlib.import_module("pin_logs")
        assert importlib.import_module("pin_space.part").VALUE == 9
    assert importlib.import_module("pin_logs").__path__ is not None


def test_the_surface_is_refused_in_words_that_name_the_fixture(root: Path) -> None:
    (root / "pin_surface.py").write_text("VALUE = 'owned'\n")
    with finder(root):
        with pytest.raises(FixedHarnessViolation, match="use the `candidate` fixture"):
            importlib.import_module("pin_surface")
        (root / "pin_surface.py").unlink()
        importlib.invalidate_caches()
        with pytest.raises(ModuleNotFoundError, match="use the `candidate` fixture"):
            importlib.import_module("pin_surface")


def test_a_name_in_a_message_cannot_steer_a_terminal(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = root / "\x1b[2Jevil"
    directory.mkdir()
    (directory / "pin_escape.py").write_text("")
    monkeypatch.syspath_prepend(str(directory))
    with finder(root), pytest.raises(FixedHarnessViolation) as halt:
        importlib.import_module("pin_escape")
    assert "\x1b" not in str(halt.value)


def test_a_finder_of_an_editable_install_is_held_to_the_same(root: Path) -> None:
    """It knows the place by itself and asks no sys.path."""
    (root / "src").mkdir()
    (root / "src" / "pin_editable.py").write_text("VALUE = 10\n")

    class Editable:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "pin_editable":
                return importlib.util.spec_from_file_location(
                    name, root / "src" / "pin_editable.py"
                )
            return None

    sys.meta_path.append(Editable)
    try:
        with finder(root, "src/pin_editable.py"):
            (root / "src" / "pin_editable.py").write_text("VALUE = 'owned'\n")
            assert importlib.import_module("pin_editable").VALUE == 10
    finally:
        sys.meta_path.remove(Editable)


def test_a_blob_that_was_forged_in_the_object_database_is_refused(
    project: Project, tmp_path: Path
) -> None:
    """Git hands out whatever stands under an id."""
    import zlib

    race = Race(project, tmp_path)
    oid = project.git("rev-parse", "HEAD:harness_tests/test_mid_loop.py")
    evil = race.evil.encode()
    loose = project.root / ".git" / "objects" / oid[:2] / oid[2:]
    loose.chmod(0o644)
    loose.write_bytes(zlib.compress(b"blob %d\0" % len(evil) + evil))
    shown = subprocess.run(
        ["git", "cat-file", "blob", oid], cwd=project.root, capture_output=True, check=True
    )
    assert shown.stdout == evil

    result = project.autoresearch()

    assert result.returncode == 4, result.output
    assert "does not have the content that its id stands for" in result.stderr
    assert not race.marker.exists()
