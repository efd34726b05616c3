from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project
from redteam.inside import Scene, scene_of
from redteam.room import add_policies


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
