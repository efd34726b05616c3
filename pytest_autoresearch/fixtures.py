"""
The published fixtures. A test that uses one is a gate: it judges the candidate under ``--autoresearch``.

Without the option they skip with a reason, so that the same files live in any suite. Bodies import lazily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from .budget import MutationBudget
    from .charts import ProgressChart
    from .compliance.cohorts import CohortView
    from .data_leakage import DataLeakage
    from .evaluation import Evaluation
    from .harm import HarmTest
    from .leakage_controls import LeakageControls
    from .privacy import Privacy
    from .records import Incumbent, RunResult
    from .session import AutoresearchSession
    from .training_view import TrainingView
    from .views import CandidateView, LedgerView

#: Name under which the session object is registered with the plugin manager.
SESSION = "autoresearch-session"


def _session(request: pytest.FixtureRequest) -> AutoresearchSession:
    session = request.config.pluginmanager.get_plugin(SESSION)
    if session is None:
        pytest.skip("a gate: judges a candidate under --autoresearch")
    return cast("AutoresearchSession", session)


@pytest.fixture(scope="session")
def candidate(request: pytest.FixtureRequest) -> CandidateView:
    """The candidate as data: ``text``, ``tree`` (AST), ``diff``, ``domain``, ``mutation``, ``incumbent_text``."""
    return _session(request).experiment.candidate_view


@pytest.fixture(scope="session")
def budget(request: pytest.FixtureRequest) -> MutationBudget:
    """The mutation budget before this mutation: ``remaining``, ``utilization``, ``ledger``."""
    return _session(request).experiment.budget


@pytest.fixture(scope="session")
def incumbent(request: pytest.FixtureRequest) -> Incumbent:
    """The last kept state: ``commit``, ``metric``, ``sigma``, ``n``."""
    from dataclasses import replace

    # Sealed: what a gate says may reach an agent.
    return replace(_session(request).experiment.incumbent, audit=None, losses="", predictions="")


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest) -> LedgerView:
    """The campaign's two ledgers, read-only: ``rows``, ``problem`` (None when both chains verify)."""
    return _session(request).experiment.ledger


@pytest.fixture(scope="session")
def training_view(request: pytest.FixtureRequest) -> TrainingView:
    """What a run can see of the data, and nothing more: ``directory``, ``row_hashes``, ``overlap(split)``."""
    return _session(request).experiment.training_view


@pytest.fixture(scope="session")
def data_leakage(request: pytest.FixtureRequest) -> DataLeakage:
    """What the data gives away of held-out labels: ``near_duplicates()``, ``columns()``, ``label_flip()``, ..."""
    return _session(request).experiment.data_leakage


@pytest.fixture(scope="session")
def leakage_controls(request: pytest.FixtureRequest) -> LeakageControls:
    """What the model gives away of a leak: ``peeking``, ``shuffled_labels``, ``audit_gap``."""
    return _session(request).experiment.leakage_controls


@pytest.fixture(scope="session")
def cohort_view(request: pytest.FixtureRequest) -> CohortView:
    """Cohort aggregates of the training split, the only view of the data that an agent may ask for."""
    return _session(request).experiment.cohort_view


@pytest.fixture(scope="session")
def harm(request: pytest.FixtureRequest) -> HarmTest:
    """What a wrong candidate could do outside the sandbox: ``properties``, ``problems``, ``problems_of(run, evaluation)``."""
    from .harm import HarmTest

    return HarmTest(_session(request).experiment)


@pytest.fixture(scope="session")
def privacy(request: pytest.FixtureRequest) -> Privacy:
    """The scan for personal data: ``in_view``, ``in_proposal``, ``in_output``, ``in_artifact``, ``in_text``."""
    return _session(request).experiment.privacy


@pytest.fixture(scope="session")
def progress_chart(request: pytest.FixtureRequest) -> ProgressChart:
    """The CUSUM chart on the incumbent's improvements: ``would_alarm(metric)``."""
    return _session(request).experiment.progress_chart


@pytest.fixture(scope="session")
def training_run(request: pytest.FixtureRequest) -> RunResult:
    """The candidate's training run, started on first use. Never raises: a crash is a result."""
    run = _session(request).experiment.training_run
    if run.status == "pruned":
        pytest.skip(f"not run: {run.reason}")
    return run


@pytest.fixture(scope="session")
def evaluation(request: pytest.FixtureRequest) -> Evaluation:
    """The trained model on held-out data: ``metrics``, ``summary``, ``fairness(name, by=...)``."""
    experiment = _session(request).experiment
    result = experiment.evaluation
    if result is None:
        pytest.skip(f"not run: no model to evaluate ({experiment.problem})")
    return result
