"""
The hooks a conftest or plugin may implement to take part in a session.

Every hook has the first argument ``config`` (drop the arguments you do not need). Hooks marked *first
result* ask until somebody answers: return ``None`` for "no opinion", and the stock implementation, which
runs last, answers. A ``wrapper=True`` implementation sees and may replace the answer of all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .records import (
        Candidate,
        Event,
        Evidence,
        GateResult,
        Mutation,
        Proposal,
        RunRequest,
        RunResult,
        Trial,
        Verdict,
    )


@pytest.hookspec(firstresult=True)
def pytest_autoresearch_propose(
    config: pytest.Config,
    files: Mapping[str, bytes],
    history: Sequence[Trial],
    number: int,
) -> Proposal | None:
    """
    Propose the next mutation; called in the parent of ``--autoresearch-rounds``, once a round (first result).

    ``files`` is the incumbent's surface, ``history`` every settled proposal, oldest first, ``number`` counts them. Return whole
    files. When nobody answers, the campaign ends: nothing left to try::

        def pytest_autoresearch_propose(files, history):
            source = files["train.py"].replace(b"EPOCHS = 8", b"EPOCHS = 9")
            return Proposal({"train.py": source}, "one more epoch")
    """


@pytest.hookspec(firstresult=True)
def pytest_autoresearch_classify(
    config: pytest.Config, before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> Mutation | None:
    """
    Say what a candidate changes and what it costs, before any gate runs (first result).

    The sources are data: parse them if you like, never import or execute them::

        @pytest.hookimpl(wrapper=True)
        def pytest_autoresearch_classify(before, after):
            mutation = yield
            return dataclasses.replace(mutation, cost=mutation.cost * 2)  # a cautious month
    """


@pytest.hookspec(firstresult=True)
def pytest_autoresearch_execute(config: pytest.Config, request: RunRequest) -> RunResult | None:
    """
    Run one training (first result): locally by default, through a scheduler if you implement it.

    Must never raise for a run that fails: a crash is a result with ``status`` other than ``FINISHED``.
    Called in the main thread, but with ``run.slots`` above 1 in threads, one for each run that goes on at the
    same time; there ``request.cancelled`` is set on Ctrl-C, and the run should end then. ``request.hopeless``, if
    there is one, may be asked with the learning curve so far, and stops the run with what it answers.
    The artifact must lie outside the reach of the run when you return::

        def pytest_autoresearch_execute(config, request):
            return my_cluster.srun(request) if request.device == "cuda" else None
    """


@pytest.hookspec(firstresult=True)
def pytest_autoresearch_verdict(config: pytest.Config, evidence: Evidence) -> Verdict | None:
    """
    Decide on the candidate once every gate has ended (first result).

    ``evidence.measure()`` runs the candidate once more on a fresh harness seed and returns the metric;
    ``evidence.watch`` holds what the control charts have seen, ``evidence.kept`` the states to go back to. A
    ``KEEP`` without the exact set of passed gates is turned into a ``REVERT``, whoever asked for it::

        @pytest.hookimpl(wrapper=True)
        def pytest_autoresearch_verdict(evidence):
            verdict = yield
            return veto(verdict) if evidence.mutation.cost > 20 else verdict
    """


@pytest.hookspec(firstresult=True)
def pytest_autoresearch_keep(
    config: pytest.Config, candidate: Candidate, commit: str
) -> str | None:
    """
    Make the candidate the incumbent and return the object id of its commit (first result).

    ``commit`` is written already, but no branch and no file knows it. Called between the two ledger rows of
    the transaction: an exception is caught, journalled and rolled back, and the session ends with status 12.
    After a crash the transaction is finished without asking this hook again::

        @pytest.hookimpl(wrapper=True)
        def pytest_autoresearch_keep(candidate, commit):
            kept = yield
            notify(f"kept {kept[:7]}")
            return kept
    """


@pytest.hookspec(firstresult=True)
def pytest_autoresearch_revert(config: pytest.Config, candidate: Candidate) -> str | None:
    """
    Put the incumbent's surface back and return the object id of its commit (first result).

    Only the surface files are written, nothing else in the work tree is touched. A rollback behind several
    keeps, after an alarm, does not ask this hook; ``record`` and ``escalate`` tell of it::

        @pytest.hookimpl(wrapper=True)
        def pytest_autoresearch_revert(candidate):
            archive(candidate.files)
            return (yield)
    """


def pytest_autoresearch_gates_finished(config: pytest.Config, gates: Sequence[GateResult]) -> None:
    """
    Every gate has its outcome; the verdict has not fallen (called for everyone)::

        def pytest_autoresearch_gates_finished(gates):
            dashboard.post([(gate.nodeid, gate.outcome) for gate in gates])
    """


def pytest_autoresearch_record(config: pytest.Config, event: Event) -> None:
    """
    Something has been written to the ledgers (called for everyone), for trackers and chat::

        def pytest_autoresearch_record(event):
            mlflow.log_dict(dict(event.data), f"{event.kind}.json")
    """


def pytest_autoresearch_escalate(config: pytest.Config, verdict: Verdict) -> None:
    """
    A control chart has alarmed, or keep or revert has failed (called for everyone)::

        def pytest_autoresearch_escalate(verdict):
            page_somebody(verdict.reasons[0].message)
    """
