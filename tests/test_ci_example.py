"""
The example for continuous integration does what it says: the base judges, the head is data.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from project import Project

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "github-actions.yml"
EVIL = "def pytest_configure():\n    open('owned', 'w').close()\n"


def commands() -> str:
    """The shell lines of the example, continuation lines joined."""
    return EXAMPLE.read_text().replace("\\\n", " ")


@pytest.fixture
def checkout(template: Project, tmp_path: Path) -> Project:
    """What the example checks out: the base, detached, with a pull request's head as objects."""
    author = template.copy(tmp_path / "author")
    author.git("switch", "-q", "-c", "proposal")
    author.edit("STEPS = 60", "STEPS = 120")
    author.write("conftest.py", EVIL)
    author.write("harness_tests/conftest.py", EVIL)
    author.write("pytest.ini", "[pytest]\naddopts = -p evil\n")
    author.write("evil.py", "open('owned', 'w').close()\n")
    author.edit("def evaluate(", "def evaluate(*_):\n    return {}\n\n\ndef old(", "prepare.py")
    head = author.commit("a proposal, and more")
    base = template.copy(tmp_path / "base")
    base.git("checkout", "-q", "--detach")
    found = re.search(r"git fetch (.*) \"https.*\" +\"(.*)\"", commands())
    assert found
    refspec = found[2].replace("refs/pull/${NUMBER}/head", head).replace("${NUMBER}", "7")
    base.git("fetch", *found[1].split(), str(author.root), refspec)
    return base


def judge(project: Project, *more: str) -> list[str]:
    """The example's judging command, as this test runs it."""
    found = re.search(r"^ +(pytest --autoresearch .*)$", commands(), re.MULTILINE)
    assert found
    words = found[1].replace('"', "").replace("${NUMBER}", "7").split()
    return [sys.executable, "-m", *words, *more]


def test_the_base_judges_a_head_that_is_only_data(checkout: Project) -> None:
    result = checkout.run(*judge(checkout), env={"CI": "true"})
    assert result.returncode == 0, result.output
    assert "WOULD BE KEPT: STEPS 60 -> 120" in result.stdout
    assert not (checkout.root / "owned").exists()
    assert checkout.status == ""


def test_checked_out_instead_the_same_head_takes_over(checkout: Project) -> None:
    """The control: what the example warns against."""
    checkout.git("checkout", "-q", "refs/candidates/7")
    checkout.run(sys.executable, "-m", "pytest", "--collect-only")
    assert (checkout.root / "owned").exists()


def test_the_example_gives_the_job_no_more_than_it_needs() -> None:
    text = EXAMPLE.read_text()
    assert "permissions:\n  contents: read\n" in text
    assert "persist-credentials: false" in text
    assert "pull_request.head" not in text
    assert "secrets." not in text
