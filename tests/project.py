"""
A real project to run sessions in: its own git repository, its own data, real child processes.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOY = Path(__file__).parent / "toy"
GATES = Path(__file__).parents[1] / "harness_tests"

#: How many gates come with the package.
STOCK = sum(path.read_text().count("\ndef test_") for path in GATES.glob("test_*.py"))

#: Environment in which pytest loads this plugin and no other.
LEAN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_autoresearch.plugin"}
PYPROJECT = """\
[tool.pytest]
strict = true
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider"]
filterwarnings = ["error"]

[tool.autoresearch]
# Stories of the session; those of the levels stand in tests of their own.
sandbox = "none"
acknowledge_unsandboxed = true
metric_floor = 0.10
metric_ceiling = 0.80
protected = ["AUTORESEARCH_SEED", "sex"]

[tool.autoresearch.harm]
# No wall, and hooks of the stories' own.
writes = "unchecked"
network = "unchecked"

[tool.autoresearch.leakage]
# One more run of every candidate worth confirming; it has tests of its own.
permutation = false

[tool.autoresearch.run]
seconds = 20

[tool.autoresearch.cusum]
# Candidates that are clearly better keep the stories short; they would all be verified.
verify_sigma = 1000

[tool.autoresearch.keep]
baseline = 3
confirm = 1

[[tool.autoresearch.fairness]]
metric = "equalized_odds_difference"
by = "sex"
at_most = 0.20
"""
#: One scorer for each run instead of two: the audit has tests of its own, and whole sessions with it where a level or
#: a sequence task is the story.
WITHOUT_AUDIT = "\n[tool.autoresearch.audit]\nrows = 0\n"


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class Project:
    """One project directory, and what a user can do with it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: Path) -> Project:
        """Lay out the toy project and commit it; data is made once and left untracked."""
        root.mkdir()
        for name in ("prepare.py", "train.py"):
            shutil.copyfile(TOY / name, root / name)
        shutil.copytree(GATES, root / "harness_tests", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "pyproject.toml").write_text(PYPROJECT + WITHOUT_AUDIT)
        (root / "program.md").write_text("# Lower val_loss by editing train.py.\n")
        (root / ".gitignore").write_text(
            "__pycache__/\n/data/\n/.autoresearch/\n/results.tsv\n/progress.png\n/.pytest_cache/\n"
        )
        project = cls(root)
        subprocess.run([sys.executable, "prepare.py"], cwd=root, check=True)
        project.git("init", "-q", "-b", "main")
        project.commit("the project")
        return project

    def copy(self, root: Path) -> Project:
        """An independent copy, with its repository."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root)

    # -- what a user does ------------------------------------------------------

    def git(self, *arguments: str, check: bool = True) -> str:
        """Run git as a user would and return its output."""
        done = subprocess.run(
            ["git", "-c", "user.name=U", "-c", "user.email=u@example.org", *arguments],
            cwd=self.root,
            check=check,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything that is not ignored."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def edit(self, old: str, new: str, path: str = "train.py") -> None:
        """Replace text that must be there."""
        text = self.read(path)
        assert old in text
        self.write(path, text.replace(old, new))

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def pytest(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        """Run pytest in a child process, as a user does from the project's root."""
        return self.run(sys.executable, "-m", "pytest", *arguments, env=env)

    def autoresearch(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        """
        ``pytest --autoresearch`` with these arguments, without the other plugins that happen to be installed,
        unless the arguments are those of pytest-xdist: loading them takes longer than the session.
        """
        about_plugins = any(argument.startswith(("-n", "--dist", "--tx")) for argument in arguments)
        lean = {} if about_plugins else LEAN
        return self.pytest("--autoresearch", *arguments, env={**lean, **(env or {})})

    def console(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        """
        The same as the console script ``pytest`` does it: the working directory is not importable.
        """
        command = (sys.executable, "-P", "-m", "pytest", "--autoresearch", *arguments)
        return self.run(*command, env={**LEAN, **(env or {})})

    def run(self, *command: str, env: dict[str, str] | None = None) -> Result:
        """Run any command in the project."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "GIT_")) or name.startswith("GIT_CONFIG")
        }
        done = subprocess.run(
            command,
            cwd=self.root,
            check=False,
            capture_output=True,
            text=True,
            env={**environment, **(env or {})},
            timeout=300,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def baseline(self) -> Project:
        """Record the baseline, which must succeed."""
        result = self.autoresearch()
        assert result.returncode == 0, result.output
        return self

    # -- what is left behind ---------------------------------------------------

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    @property
    def status(self) -> str:
        """``git status --porcelain``: empty for a clean tree."""
        return self.git("status", "--porcelain")

    def results(self) -> list[dict[str, str]]:
        """The rows of results.tsv."""
        path = self.root / "results.tsv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    def cutovers(self) -> list[dict[str, Any]]:
        """The cutover-audit rows' payloads, in order."""
        rows = []
        for path in sorted(self.root.glob(".autoresearch/*/cutover-audit.jsonl")):
            for line in path.read_text().splitlines():
                data = json.loads(line)["data"]
                if data["kind"] == "cutover":
                    rows.append(data["payload"])
        return rows
