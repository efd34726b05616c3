"""
Gates that come with an installed package: pinned by content, owed like any other.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from project import Project, Result

from pytest_autoresearch.packs import content_sha256

GATE = """\
def test_acme_accuracy(evaluation):
    assert evaluation.metrics["accuracy"] > {limit}, "acme wants more"
"""


def pack(root: Path, name: str = "acme_gates", limit: float = 0.5) -> Path:
    directory = root / name
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("")
    (directory / "test_acme.py").write_text(GATE.format(limit=limit))
    return directory


def configured(project: Project, **packs: str) -> None:
    lines = "".join(f'{name} = "{digest}"\n' for name, digest in packs.items())
    project.write(
        "pyproject.toml",
        project.read("pyproject.toml") + f"\n[tool.autoresearch.packs]\n{lines}",
    )
    project.commit("gate packs")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of installed packages."""
    site = tmp_path_factory.mktemp("site")
    pack(site)
    return site


def session(project: Project, site: Path, *arguments: str) -> Result:
    return project.autoresearch(*arguments, env={"PYTHONPATH": str(site)})


@pytest.fixture(scope="module")
def packed(template: Project, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose baseline was judged by a pack's gate as well."""
    project = template.copy(tmp_path_factory.mktemp("packed") / "project")
    configured(project, acme_gates=content_sha256(installed / "acme_gates"))
    result = session(project, installed)
    assert result.returncode == 0, result.output
    return project


def test_a_packs_gate_is_owed_wherever_it_is_installed(
    packed: Project, installed: Path, tmp_path: Path
) -> None:
    assert "test_acme.py::test_acme_accuracy" in packed.cutovers()[0]["pinned"]
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(installed, elsewhere)
    project = packed.copy(tmp_path / "project")
    project.edit("STEPS = 60", "STEPS = 240")

    result = session(project, elsewhere)

    assert result.returncode == 0, result.output
    gates = project.cutovers()[-1]["gates"]
    assert "test_acme.py::test_acme_accuracy" in {gate["nodeid"] for gate in gates}


def test_another_version_of_a_pack_halts_and_so_does_none(
    packed: Project, installed: Path, tmp_path: Path
) -> None:
    other = pack(tmp_path / "site", limit=0.99)
    changed = session(packed.copy(tmp_path / "changed"), tmp_path / "site")
    assert changed.returncode == 4
    assert "SYSTEM HALT: the gate pack 'acme_gates' is not the one that was ratified" in (
        changed.output
    )
    assert f'acme_gates = "{content_sha256(other)}"' in changed.output

    absent = packed.copy(tmp_path / "absent").autoresearch()
    assert absent.returncode == 4
    assert "the gate pack 'acme_gates' is not installed" in absent.output


def test_a_failing_gate_of_a_pack_reverts(template: Project, tmp_path: Path) -> None:
    site = tmp_path / "site"
    digest = content_sha256(pack(site, limit=0.999))
    project = template.copy(tmp_path / "project")
    configured(project, acme_gates=digest)
    result = session(project, site)
    assert result.returncode == 1, result.output
    assert "acme wants more" in result.stdout


def test_two_gates_of_one_name_are_refused(template: Project, tmp_path: Path) -> None:
    site = tmp_path / "site"
    digests = {name: content_sha256(pack(site, name)) for name in ("acme_gates", "beta_gates")}
    project = template.copy(tmp_path / "project")
    configured(project, **digests)
    result = session(project, site)
    assert result.returncode == 4
    assert "two gates are called 'test_acme.py::test_acme_accuracy'" in result.output
