from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project
from redteam.inside import Scene, scene_of
from redteam.room import add_policies

from pytest_autoresearch.sandbox import Isolation, self_test

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
def target_template(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project with one gate more, baseline recorded once for all attacks."""
    project = template.copy(tmp_path_factory.mktemp("target") / "project")
    project.edit("seconds = 20", "seconds = 8", "pyproject.toml")
    project.write(".gitignore", project.read(".gitignore") + "/run.log\n")
    add_policies(project)
    project.commit("a policy")
    return project.baseline()


@pytest.fixture
def target(target_template: Project) -> Iterator[Project]:
    """
    A project to attack, with a directory beside it that anybody may write to.

    It does not lie below pytest's own private directory: permissions of files must stop nothing here that the
    sandbox has to stop.
    """
    place = Path(tempfile.mkdtemp(prefix="redteam-"))
    place.chmod(0o755)
    (place / "outside").mkdir()
    (place / "outside").chmod(0o777)
    yield target_template.copy(place / "project")
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def scene(template: Project) -> Iterator[Scene]:
    """A project for attacks from inside one training run."""
    with scene_of(template, Path(tempfile.mkdtemp(prefix="redteam-"))) as made:
        yield made
