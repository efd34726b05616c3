"""
A project whose harness has a conftest and gates of its own; the environment chooses what they do.
"""

from __future__ import annotations

from pathlib import Path

from observe import state
from project import Project

CONFTEST = """\
import dataclasses
import os

import pytest

from pytest_autoresearch.records import Decision, Reason, RunResult, RunStatus, Verdict

ON = set(os.environ.get("HOOKS", "").split())
CALLS = os.environ.get("CALLS", os.devnull)


def note(*words):
    with open(CALLS, "a") as file:
        print(*words, file=file)


@pytest.hookimpl(wrapper=True)
def pytest_autoresearch_classify(before, after):
    mutation = yield
    note("classify", sorted(before) == sorted(after))
    if "classify-raises" in ON:
        raise RuntimeError("the price list is gone")
    return dataclasses.replace(mutation, cost=mutation.cost * 2) if "classify" in ON else mutation


def pytest_autoresearch_execute(request):
    note("execute", request.seconds)
    if "execute-raises" in ON:
        raise RuntimeError("the cluster is down")
    if "execute" in ON:
        return RunResult(
            status=RunStatus.CRASHED, reason="no node was free", seed=request.seed, seconds=0.0,
            budget_seconds=request.seconds, artifact=None, artifact_sha256="", returncode=None,
            peak_memory_mb=0.0, device="cpu", isolation="none",
        )


@pytest.hookimpl(wrapper=True)
def pytest_autoresearch_verdict(evidence):
    verdict = yield
    note("verdict", evidence.complete)
    reasons = (Reason("house-rule", "not on a Friday"), *verdict.reasons)
    if "veto" in ON:
        return Verdict(Decision.REVERT, reasons, "discard", 10)
    if "ask-keep" in ON:
        return Verdict(Decision.KEEP, reasons, "keep", 0)
    if "escalate" in ON:
        return Verdict(Decision.ESCALATE, reasons, "escalate", 11)
    if "verdict-raises" in ON:
        raise RuntimeError("no opinion at all")
    return verdict


@pytest.hookimpl(wrapper=True)
def pytest_autoresearch_keep(candidate, commit):
    kept = yield
    note("keep", kept == commit)
    if "keep-raises" in ON:
        raise RuntimeError("the registry is down")
    return "0" * 40 if "keep-lies" in ON else kept


@pytest.hookimpl(wrapper=True)
def pytest_autoresearch_revert(candidate):
    back = yield
    note("revert", len(back))
    if "revert-raises" in ON:
        raise RuntimeError("the archive is down")
    return back


def pytest_autoresearch_gates_finished(gates):
    note("gates_finished", len(gates))
    if "info-raises" in ON:
        raise RuntimeError("dashboard\\x1b[2J")


def pytest_autoresearch_record(event):
    note("record", event.kind, event.data["resolution"])


def pytest_autoresearch_escalate(verdict):
    note("escalate", verdict.reasons[0].code)
"""

GATE = """\
import os

import pytest

GATE = os.environ.get("GATE", "")


@pytest.mark.gate("mid")
def test_the_house(request):
    if GATE == "skip":
        pytest.skip("not today")
    if GATE == "xfail":
        pytest.xfail("known")
    if GATE == "xpass":
        request.node.add_marker(pytest.mark.xfail(strict=False))
    assert GATE != "fail"


@pytest.fixture
def house():
    yield
    assert GATE != "teardown"


@pytest.mark.gate("post")
def test_the_garden(house, training_run):
    assert GATE != "post", training_run
"""


class House:
    """A session with some hooks switched on, and what they saw."""

    def __init__(self, project: Project, calls: Path) -> None:
        self.project = project
        self.before = project.head
        self.calls = calls

    def judge(self, edit: tuple[str, str], *arguments: str, hooks: str = "", gate: str = "") -> str:
        """Judge an edit; the output, with the exit status as last word."""
        self.project.edit(*edit)
        result = self.project.autoresearch(
            *arguments, env={"HOOKS": hooks, "GATE": gate, "CALLS": str(self.calls)}
        )
        return f"{result.output}\nstatus {result.returncode}"

    def seen(self) -> list[str]:
        return self.calls.read_text().splitlines()

    def assert_reverted(self) -> None:
        assert self.project.head == self.before
        assert self.project.status == ""
        assert "STEPS = 60" in self.project.read("train.py")
        incumbent = state(self.project).incumbent
        assert incumbent is not None
        assert incumbent.commit == self.before
