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
    from ..task import Task
    from .violation import Plant

#: Environment: name of the plant (empty for the control), and where the outcome goes.
PLANT, OUTCOME = "AUTORESEARCH_TRIAL_PLANT", "AUTORESEARCH_TRIAL_OUTCOME"
#: Key of an outcome that is none.
NOT_APPLICABLE = "not applicable"


def _session(config: pytest.Config) -> AutoresearchSession:
    from ..fixtures import SESSION

    found = config.pluginmanager.get_plugin(SESSION)
    return cast("AutoresearchSession", found)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Plant it; what does not apply here ends the session with the reason."""
    from ..task import TaskError
    from .plants import plant_named
    from .violation import NotApplicable

    ours = _session(session.config)
    # A candidate that means the same as another is looked at all the same.
    ours.experiment.answer = None
    name = os.environ[PLANT]
    # The control asks what the data give away, whatever the ledger says; the plants need not ask it of the same data.
    _use_data(ours, ours.campaign.task, known=bool(name))
    if not name:
        return
    try:
        _plant(plant_named(name), ours)
    except NotApplicable as found:
        reason = str(found)
    except (TaskError, OSError, LookupError) as error:
        # Data in another shape, or a mode without any.
        reason = f"it cannot be planted here: {error or type(error).__name__}"
    else:
        return
    Path(os.environ[OUTCOME]).write_text(json.dumps({NOT_APPLICABLE: reason}))
    pytest.exit(reason, returncode=0)


def _use_data(ours: AutoresearchSession, task: Task, *, known: bool) -> None:
    """Have the session use these data, and ask them anew unless it is known what they give away."""
    from ..data_leakage import DataLeakage

    campaign = ours.campaign
    campaign.task = task
    ours.experiment.__dict__["data_leakage"] = DataLeakage(
        task, campaign.settings, campaign.scratch, known=known
    )


def _plant(plant: Plant, ours: AutoresearchSession) -> None:
    if plant.data is not None or plant.prepare is not None:
        _use_data(ours, _planted_task(plant, ours), known=False)
    if plant.session is not None:
        plant.session(ours.experiment)
    _stand_in(plant, ours)


def _planted_task(plant: Plant, ours: AutoresearchSession) -> Task:
    """The task on a copy of its data, with the violation in it."""
    from ..task import Task
    from .data import manifest_anew

    campaign = ours.campaign
    task, settings, source = campaign.task, campaign.settings, campaign.task.prepare_source
    copy = campaign.scratch.fresh("planted") / "data"
    shutil.copytree(task.data, copy)
    if plant.data is not None:
        plant.data(copy, task, settings)
    if plant.prepare is not None:
        source = plant.prepare(source.decode(), task).encode()
    manifest_anew(copy)
    return Task(campaign.root, settings.prepare, str(copy), source)


def _stand_in(plant: Plant, ours: AutoresearchSession) -> None:
    """Nothing is trained for a plant: a run that finished, with a plausible metric, or the planted one."""
    from ..measuring import Measurement
    from .models import evaluated
    from .violation import Model

    experiment, campaign = ours.experiment, ours.campaign
    room = campaign.scratch.fresh("stand-in")
    settings = campaign.settings
    low, high = settings.metric_floor, min(settings.metric_ceiling, settings.metric_floor + 1)
    model = Model(run=_finished(ours), metric=(low + high) / 2)
    if plant.model is not None:
        model = plant.model(model, campaign.task, settings, room)
    # Without held-out data there is nothing to evaluate.
    without = model.run.crashed or settings.mode == "self-reported"
    evaluation = None if without else evaluated(model, campaign.task, settings)
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
