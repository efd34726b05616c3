from __future__ import annotations

import signal
import subprocess
import sys
import time

from project import Project


def test_rounds_establish_the_baseline_and_settle_each_proposal(project: Project) -> None:
    result = project.autoresearch("--autoresearch-rounds", "2")
    assert result.returncode == 0, result.output
    rows = project.results()
    assert rows[0]["description"] == "baseline"
    assert len(rows) == 3
    assert all(row["domain"] == "hyperparameter" for row in rows[1:])
    assert "2 mutations judged" in result.output
    assert "80 of 100 units of budget left; ended because 2 rounds are done" in result.output
    assert (project.root / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert project.status == ""


def test_the_built_in_proposer_never_repeats_itself(measured: Project) -> None:
    for _ in range(2):
        assert measured.autoresearch("--autoresearch-rounds", "1").returncode == 0
    candidates = [row["fingerprint"] for row in measured.cutovers() if "fingerprint" in row]
    assert len(candidates) == len(set(candidates)) == 3


def test_an_agent_command_proposes_by_editing_the_surface(measured: Project) -> None:
    agent = (
        "cat > got-prompt && sed -i 's/STEPS = 60/STEPS = 120/' train.py && echo x > conftest.py"
    )
    result = measured.autoresearch("--autoresearch-rounds", "1", "--autoresearch-agent", agent)
    assert result.returncode == 0, result.output
    assert measured.results()[-1]["status"] == "keep"
    assert "STEPS = 120" in measured.read("train.py")
    # What else the agent left in its directory is dropped.
    assert not (measured.root / "conftest.py").exists()
    assert not (measured.root / "got-prompt").exists()


def test_an_agent_is_told_the_rules_the_history_and_the_budget(
    measured: Project, tmp_path_factory
) -> None:
    kept = tmp_path_factory.mktemp("agent") / "prompt"
    measured.autoresearch(
        "--autoresearch-rounds",
        "1",
        "--autoresearch-agent",
        f"cat > {kept}; sed -i 's/0.05/0.06/' train.py",
    )
    measured.autoresearch("--autoresearch-rounds", "1", "--autoresearch-agent", f"cat > {kept}")
    prompt = kept.read_text()
    assert "Lower val_loss by editing train.py." in prompt
    assert "LEARNING_RATE 0.05 -> 0.06" in prompt
    assert "Budget left: 90 of 100 units." in prompt


def test_an_agent_that_fails_and_changes_nothing_stops_the_rounds(measured: Project) -> None:
    result = measured.autoresearch("--autoresearch-rounds", "3", "--autoresearch-agent", "exit 7")
    assert result.returncode == 1
    assert "'exit 7' ended with status 7 and changed nothing" in result.output
    assert len(measured.results()) == 1


def test_an_agent_that_has_no_idea_ends_the_rounds_in_peace(measured: Project) -> None:
    result = measured.autoresearch("--autoresearch-rounds", "3", "--autoresearch-agent", "true")
    assert result.returncode == 0
    assert "ended because the proposer has nothing new to try" in result.output


def test_an_agent_that_hangs_is_ended_with_its_children(project: Project) -> None:
    project.edit(
        "[tool.autoresearch]\n", "[tool.autoresearch]\nagent.seconds = 1\n", "pyproject.toml"
    )
    project.commit("short agents")
    project.baseline()
    result = project.autoresearch(
        "--autoresearch-rounds", "1", "--autoresearch-agent", "sleep 4242 & sleep 4242"
    )
    assert result.returncode == 1
    assert "changed nothing" in result.output
    assert "sleep 4242" not in subprocess.run(["ps", "ax"], capture_output=True, text=True).stdout


def test_the_rounds_end_when_the_budget_is_exhausted(project: Project) -> None:
    project.edit(
        "[tool.autoresearch.run]",
        "[tool.autoresearch.budget]\ntotal = 12\n\n[tool.autoresearch.run]",
        "pyproject.toml",
    )
    project.commit("a small budget")
    result = project.autoresearch("--autoresearch-rounds", "5")
    assert result.returncode == 0
    assert "the mutation budget is exhausted (2 units left)" in result.output
    assert len(project.results()) == 2


def test_a_round_that_the_budget_cannot_pay_for_halts(project: Project) -> None:
    project.edit(
        "[tool.autoresearch.run]",
        "[tool.autoresearch.budget]\ntotal = 12\n\n[tool.autoresearch.run]",
        "pyproject.toml",
    )
    project.commit("a small budget")
    project.baseline()
    agent = "sed -i 's/^import os/import os\\nimport math/' train.py"
    result = project.autoresearch("--autoresearch-rounds", "5", "--autoresearch-agent", agent)
    assert result.returncode == 4
    assert "SYSTEM HALT: MUTATION BUDGET EXHAUSTED. Requested 25, remaining 12." in result.output
    assert [row["kind"] for row in project.cutovers()][-2:] == ["halt", "stop"]


def test_rounds_refuse_to_work_beside_edits_nobody_has_judged(measured: Project) -> None:
    measured.edit("STEPS = 60", "STEPS = 61")
    result = measured.autoresearch("--autoresearch-rounds", "1")
    assert result.returncode == 4
    assert "edits that no session has judged" in result.output
    assert "STEPS = 61" in measured.read("train.py")


def test_a_user_hook_may_propose(project: Project) -> None:
    project.write(
        "harness_tests/conftest.py",
        "from pytest_autoresearch import Proposal\n\n\n"
        "def pytest_autoresearch_propose(files, number):\n"
        "    source = files['train.py'].replace(b'STEPS = 60', b'STEPS = 120')\n"
        "    return Proposal({'train.py': source}, 'longer') if number == 1 else None\n",
    )
    project.commit("a proposer")
    result = project.autoresearch("--autoresearch-rounds", "1")
    assert result.returncode == 0, result.output
    assert project.results()[-1]["description"].startswith("longer")
    assert project.results()[-1]["status"] == "keep"


def test_ctrl_c_ends_between_states(measured: Project) -> None:
    measured.edit(
        "for step in range(STEPS):", "import time; time.sleep(60)\n    for step in range(STEPS):"
    )
    slow = measured.read("train.py")
    measured.git("checkout", "-q", "train.py")
    measured.write("../slow/train.py", slow)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--autoresearch", "--autoresearch-rounds", "1",
         "--autoresearch-agent", f"cp {measured.root}/../slow/train.py ."],
        cwd=measured.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    runs = measured.root / ".autoresearch/main/runs"
    deadline = time.monotonic() + 60
    before = len(list(runs.iterdir()))
    while len(list(runs.iterdir())) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    import os

    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert "ended because interrupted by the user" in output
    assert len(measured.results()) == 1
    assert measured.status == ""
    assert measured.autoresearch("-q").returncode == 0
