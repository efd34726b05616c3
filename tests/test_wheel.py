"""
The installed wheel in a fresh directory: a team's own tests beside a gate, with and without ``--autoresearch``.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from project import GATES, PYPROJECT, WITHOUT_AUDIT, Project, Result
from test_init import UPSTREAM

ROOT = Path(__file__).parents[1]
#: Of train.py it knows nothing: with the option a candidate is data, and no trusted process imports it.
TEST = """\
from prepare import SPLITS


def test_most_rows_are_seen():
    assert SPLITS["val"] > SPLITS["audit"]
"""
GATE = """\
def test_limits(evaluation):
    assert evaluation.metrics["accuracy"] > {limit}, "the team wants more"
"""


class Installed(Project):
    """A project whose commands are those of a virtual environment with the wheel in it."""

    bin: Path

    def command(self, *arguments: str) -> Result:
        """Run the environment's Python, from which the working directory cannot be imported, as console scripts do."""
        return self.run(str(self.bin / "python"), "-P", "-m", *arguments)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout with what is installed."""
    pytest.importorskip("hatchling", reason="the wheel's build backend is not installed here")
    out = tmp_path_factory.mktemp("wheel")
    script = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, str(out)], cwd=ROOT, check=True)
    (found,) = out.glob("pytest_autoresearch-*.whl")
    return found


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Scripts of an environment in which the wheel is installed, and no checkout can be imported.

    Its other packages are those of this environment, by links to all but what belongs to this project.
    """
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(root)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "autoresearch" not in entry.name and entry.suffix != ".pth":
            (site / entry.name).symlink_to(entry)
    install = [sys.executable, "-m", "pip", "--python", str(root / "bin" / "python"), "install"]
    install += ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    return root / "bin"


@pytest.fixture(scope="module")
def team(
    installation: Path, template: Project, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """A team's directory: an ordinary test, a gate, and no trace of this checkout."""
    root = tmp_path_factory.mktemp("team") / "project"
    template.copy(root)
    project = Installed(root)
    project.bin = installation
    for path in (root / "harness_tests").iterdir():
        path.unlink()
    project.write("tests/test_data.py", TEST)
    project.write("harness_tests/test_limits.py", GATE.format(limit=0.5))
    settings = PYPROJECT.replace("addopts = [", 'pythonpath = ["."]\naddopts = [')
    project.write(
        "pyproject.toml", settings.replace("baseline = 3", "baseline = 2") + WITHOUT_AUDIT
    )
    project.commit("a team's own suite")
    return project


def test_the_wheel_holds_the_package_and_the_stock_gates_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {Path(name).name for name in names if "/stock_gates/test_" in name}
    assert inside == {path.name for path in GATES.glob("test_*.py")}
    assert "pytest_autoresearch/py.typed" in names
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"pytest_autoresearch"}
    assert not [name for name in names if "__pycache__" in name]


def test_the_installed_package_is_the_wheels(team: Installed) -> None:
    code = "import pytest_autoresearch as p; print(p.__file__)"
    found = team.run(str(team.bin / "python"), "-P", "-c", code).stdout.strip()
    assert found.startswith(str(team.bin.parent))


def test_without_the_option_ordinary_tests_run_and_gates_skip(team: Installed) -> None:
    result = team.command("pytest", "-q", "-rs")
    assert result.returncode == 0, result.output
    assert "1 passed, 1 skipped" in result.stdout
    assert "a gate: judges a candidate under --autoresearch" in result.stdout


def test_with_the_option_the_gate_judges_beside_the_tests_that_are_named(team: Installed) -> None:
    """One command evaluates train.py as it stands, and changes nothing."""
    before = team.status, team.head
    result = team.command("pytest", "tests", "--autoresearch", "--autoresearch-dry-run")
    assert result.returncode == 0, result.output
    assert "2 passed" in result.stdout
    assert "val_loss: 0." in result.stdout
    assert (team.status, team.head) == before
    assert not (team.root / ".autoresearch").exists()


def test_in_ci_a_branch_is_judged_by_the_gates_of_the_base(team: Installed, tmp_path: Path) -> None:
    """By those alone where no tests are named; the branch has lowered the limit for itself."""
    team.copy(tmp_path / "project")
    project = Installed(tmp_path / "project")
    project.bin = team.bin
    project.git("switch", "-q", "-c", "pr-17")
    project.edit("LEARNING_RATE = 0.05", "LEARNING_RATE = 0.06")
    project.write("harness_tests/test_limits.py", GATE.format(limit=0.0))
    project.commit("a proposal that lowers the limit, too")
    project.git("switch", "-q", "main")
    project.write("harness_tests/test_limits.py", GATE.format(limit=0.999))
    project.commit("the base wants more than there is")

    judge = ("--autoresearch", "--autoresearch-dry-run", "--autoresearch-candidate=pr-17")
    result = project.command("pytest", *judge)

    assert result.returncode == 1, result.output
    assert "the team wants more" in result.stdout
    assert "1 failed" in result.stdout
    assert "WOULD BE REVERTED: LEARNING_RATE 0.05 -> 0.06" in result.stdout


def test_init_lays_the_stock_gates_out_in_a_fresh_directory(
    installation: Path, tmp_path: Path
) -> None:
    project = Installed(tmp_path)
    project.bin = installation
    for path in UPSTREAM.glob("*.py"):
        project.write(path.name, path.read_text())
    project.git("init", "-q", "-b", "main")
    project.commit("as upstream has it")
    result = project.run(str(installation / "autoresearch"), "init")
    assert result.returncode == 0, result.output
    for name in ("test_mid_loop.py", "test_post_loop.py"):
        assert "def test_" in project.read(f"harness_tests/{name}")
