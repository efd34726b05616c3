"""
Sessions at the isolation levels that the kernel enforces: the same verdicts, and no reach.

The control is the same attack at level ``none``, where it succeeds.
"""

from __future__ import annotations

import json
from pathlib import Path

from container import as_ordinary_user, container
from observe import BETTER, state
from project import WITHOUT_AUDIT, Project

THIEF = """
    import os as _os
    for path in ({labels!r}, {ledger!r}, {git!r}):
        try:
            print("read", path, len(open(path, "rb").read()))
        except OSError as error:
            print("refused", type(error).__name__)
    try:
        open({marker!r}, "w").write("x")
    except OSError as error:
        print("refused to write", type(error).__name__)
"""


def stolen(project: Project, level: str) -> tuple[str, bool]:
    """Run a candidate that looks around; its log, and whether it left a mark outside."""
    marker = project.root / "docs-marker"
    project.edit(
        '    draw = np.random.default_rng(int(os.environ["AUTORESEARCH_SEED"]))\n',
        '    draw = np.random.default_rng(int(os.environ["AUTORESEARCH_SEED"]))\n'
        + THIEF.format(
            labels=str(project.root / "data/heldout/val/labels.npy"),
            ledger=str(project.root / ".autoresearch/main/cutover-audit.jsonl"),
            git=str(project.root / ".git/HEAD"),
            marker=str(marker),
        ),
    )
    result = project.autoresearch(f"--autoresearch-sandbox={level}")
    assert result.returncode in (0, 10), result.output  # it trains as before: luck may keep it
    logs = sorted(project.root.glob(".autoresearch/main/runs/*/run.log"))
    left = marker.exists()
    marker.unlink(missing_ok=True)
    return logs[-1].read_text(), left


def test_an_honest_candidate_is_kept_with_the_same_metric(
    measured: Project, tmp_path, level
) -> None:
    plain = measured.copy(tmp_path / "plain")
    for project, chosen in ((measured, level), (plain, "none")):
        project.edit("STEPS = 60", "STEPS = 120")
        result = project.autoresearch(f"--autoresearch-sandbox={chosen}")
        assert result.returncode == 0, result.output
    row, control = measured.cutovers()[-1], plain.cutovers()[-1]
    assert [run["metric"] for run in row["runs"]] == [run["metric"] for run in control["runs"]]
    assert {run["isolation"] for run in row["runs"]} == {level}
    assert (
        f"isolation: {level} (self-test passed)"
        in measured.autoresearch(f"--autoresearch-sandbox={level}", "--autoresearch-dry-run").stdout
    )
    assert f"Autoresearch-Isolation: {level}" in measured.git("log", "-1", "--format=%B")


def test_a_run_reaches_neither_labels_nor_ledger_nor_git(measured: Project, level: str) -> None:
    log, left = stolen(measured, level)
    assert "read " not in log
    assert log.count("refused") >= 3  # at strong, what it writes goes to a private file system
    assert not left


def test_without_a_sandbox_the_same_run_reaches_all_of_it(measured: Project) -> None:
    log, left = stolen(measured, "none")
    assert log.count("read ") == 3
    assert left


def test_the_configuration_chooses_the_level(project: Project, level: str) -> None:
    project.edit('sandbox = "none"\n', f'sandbox = "{level}"\n', "pyproject.toml")
    project.edit(WITHOUT_AUDIT, "", "pyproject.toml")
    project.commit("a wall")
    result = project.autoresearch()
    assert result.returncode == 0, result.output
    assert {run["isolation"] for run in project.cutovers()[-1]["runs"]} == {level}


def test_a_bubblewrap_on_the_users_path_is_not_trusted(measured: Project, tmp_path, level) -> None:
    """It would be the easiest wall to take away; the system's own is used."""
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = tools / "bwrap"
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/used\nexit 1\n")
    fake.chmod(0o755)
    result = measured.autoresearch(
        f"--autoresearch-sandbox={level}", env={"PATH": f"{tools}:/usr/bin:/bin"}
    )
    assert result.returncode == 0, result.output
    assert not (tmp_path / "used").exists()


def test_an_honest_candidate_is_kept_in_a_container_of_the_users_own(
    project: Project, tmp_path: Path
) -> None:
    """
    From the baseline on, by an ordinary user. This container has no user of its own, so that root's would be root's
    processes, which the self-test refuses: see tests/test_selftest.py.
    """
    command = container(tmp_path, whole=True)
    project.edit(
        'sandbox = "none"\n',
        f'sandbox = "container"\nlauncher = {json.dumps(command)}\n',
        "pyproject.toml",
    )
    project.edit(WITHOUT_AUDIT, "", "pyproject.toml")
    project.commit("a container")
    baseline = as_ordinary_user(project)
    assert baseline.returncode == 0, baseline.output
    project.edit(*BETTER)

    result = as_ordinary_user(project)

    assert result.returncode == 0, result.output
    assert "isolation: container (self-test passed)" in result.stdout
    runs = [run for row in project.cutovers() for run in row["runs"]]
    assert {run["isolation"] for run in runs} == {"container"}
    assert "STEPS = 120" in project.git("-c", "safe.directory=*", "show", "HEAD:train.py")
    assert state(project).settled[-1].status == "keep"
