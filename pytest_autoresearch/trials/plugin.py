"""
The pytest plugin of one trial: plants its violation between collection and the first gate, and writes what came of it.

Loaded by :mod:`.bench` alone, in a dry run on a clone.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from ..records import RunResult
    from ..session import AutoresearchSession
    from .plants import Plant

#: Environment: name of the plant (empty for the control), and where the outcome goes.
PLANT, OUTCOME = "AUTORESEARCH_TRIAL_PLANT", "AUTORESEARCH_TRIAL_OUTCOME"


def _session(config: pytest.Config) -> AutoresearchSession:
    from ..fixtures import SESSION

    found = config.pluginmanager.get_plugin(SESSION)
    return cast("AutoresearchSession", found)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Plant it; what does not apply here ends the session with the reason."""
    from .plants import NotApplicable, plant_named

    name = os.environ[PLANT]
    if not name:
        return
    ours = _session(session.config)
    ours.experiment.answer = (
        None  # a candidate that means the same as another is looked at all the same
    )
    try:
        _plant(plant_named(name), ours)
    except NotApplicable as reason:
        Path(os.environ[OUTCOME]).write_text(json.dumps({"not applicable": str(reason)}))
        pytest.exit(str(reason), returncode=0)


def _plant(plant: Plant, ours: AutoresearchSession) -> None:
    experiment, campaign = ours.experiment, ours.campaign
    if plant.data is not None:
        from ..data_leakage import DataLeakage
        from ..task import Task
        from .plants import manifest_anew

        copy = campaign.scratch.fresh("planted") / "data"
        shutil.copytree(campaign.task.data, copy)
        plant.data(copy, campaign.task, campaign.settings)
        manifest_anew(copy)
        campaign.task = Task(
            campaign.root, campaign.settings.prepare, str(copy), campaign.task.prepare_source
        )
        # The ledger vouches for the data as it was.
        experiment.__dict__["data_leakage"] = DataLeakage(
            campaign.task, campaign.settings, campaign.scratch, known=False
        )
    if plant.session is not None:
        plant.session(experiment)
    _stand_in(plant, ours)


def _stand_in(plant: Plant, ours: AutoresearchSession) -> None:
    """Nothing is trained for a plant: a run that finished, with a plausible metric, or the planted one."""
    from ..measuring import Measurement
    from .plants import Model, evaluated

    experiment, campaign = ours.experiment, ours.campaign
    room = campaign.scratch.fresh("stand-in")
    settings = campaign.settings
    low, high = settings.metric_floor, min(settings.metric_ceiling, settings.metric_floor + 1)
    model = Model(run=_finished(ours), metric=(low + high) / 2)
    if plant.model is not None:
        model = plant.model(model, campaign.task, settings, room)
    evaluation = None if model.run.crashed else evaluated(model, campaign.task, settings)
    experiment.runs = [
        Measurement(
            model.run,
            model.metric,
            model.problem,
            gap=model.gap,
            peeks=model.peeks,
            evaluation=evaluation,
        )
    ]
    experiment.__dict__["training_run"] = model.run
    experiment.__dict__["evaluation"] = evaluation


def _finished(ours: AutoresearchSession) -> RunResult:
    from ..records import RunResult, RunStatus

    return RunResult(
        status=RunStatus.FINISHED,
        reason="finished",
        seed=0,
        seconds=1.0,
        budget_seconds=ours.campaign.settings.run.seconds,
        artifact=None,
        artifact_sha256="",
        returncode=0,
        peak_memory_mb=1.0,
        device="cpu",
        isolation=ours.campaign.wall.level.value,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_autoresearch_verdict(config: pytest.Config, evidence: object) -> object:
    """No seed is run for a verdict that nobody wants."""
    from ..records import Decision, Reason, Verdict

    return Verdict(Decision.REVERT, (Reason("trial", "a trial of the gates"),), "discard", 10)


def pytest_autoresearch_gates_finished(config: pytest.Config, gates: object) -> None:
    """Write the outcome of every gate."""
    from ..records import GateResult

    assert isinstance(gates, tuple | list)
    told = {
        gate.nodeid: [gate.outcome.value, gate.message]
        for gate in gates
        if isinstance(gate, GateResult)
    }
    Path(os.environ[OUTCOME]).write_text(json.dumps(told))
