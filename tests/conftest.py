from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from adult import ROOT, prepare
from project import Project

from pytest_autoresearch.sandbox import Isolation, self_test

# One thread each: a pool of threads takes longer to start than anything here to multiply, in every process that
# imports numpy, and pytest-xdist has filled the cores already.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A shell without job control ignores Ctrl-C for what it starts in the background, and so would every session here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Files whose child sessions are traced by coverage. Tracing takes half as long again, and the sessions of the
#: other files run the same lines.
COUNTED = (
    "test_loop.py",
    "test_session.py",
    "test_session_hooks.py",
    "test_session_recovery.py",
)


@pytest.fixture(autouse=True)
def uncounted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave coverage out of the child processes of all other files."""
    if request.path.name not in COUNTED:
        for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
            monkeypatch.delenv(name, raising=False)


#: Where this is set, a level that does not hold on the machine is a failure, and nothing is skipped.
REQUIRED = "AUTORESEARCH_REQUIRE_LEVELS"


@pytest.fixture(scope="session", params=["strong", "kernel"])
def level(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A level that the self-test finds to hold on this machine."""
    test = self_test(Isolation(request.param), directory=tmp_path_factory.mktemp("self-test"))
    if test.failures:
        message = f"{request.param} does not hold on this machine: {test.failures[0]}"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(message)
        pytest.skip(message)
    return str(request.param)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project, committed, without a campaign."""
    return Project.create(tmp_path_factory.mktemp("template") / "project")


@pytest.fixture(scope="session")
def measured_template(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project with its baseline recorded."""
    return template.copy(tmp_path_factory.mktemp("measured") / "project").baseline()


@pytest.fixture
def project(template: Project, tmp_path: Path) -> Project:
    """A fresh copy of the toy project."""
    return template.copy(tmp_path / "project")


@pytest.fixture
def measured(measured_template: Project, tmp_path: Path) -> Project:
    """A fresh copy of the toy project with its baseline recorded."""
    return measured_template.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real data: the project's own when it is intact, else prepared once for this session."""
    folder = ROOT / "data"
    if prepare.problem_with(folder):
        folder = tmp_path_factory.mktemp("adult") / "data"
        assert prepare.main(["--data", str(folder)]) == 0
    return folder
