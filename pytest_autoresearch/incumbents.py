"""
The incumbent example by example: its losses and predictions on the validation split.

The stored ones if the ledger vouches for them, else those of one more run of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .equivalence import surface_digest
from .evaluation import predictions
from .losses import load, store

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from .campaign import Campaign
    from .experiment import Experiment
    from .measuring import Measurement

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["directory", "incumbent_losses", "incumbent_predictions", "store_predictions"]

Kind = Literal["losses", "predictions"]


def directory(campaign: Campaign, kind: Kind) -> Path:
    """Where they are kept, out of the sight of runs and agents."""
    return campaign.directory / kind


def incumbent_losses(experiment: Experiment) -> Array | None:
    """Loss of each example ``[n]``; None where the task gives none."""
    found = _stored(experiment, "losses", experiment.incumbent.losses)
    return _run(experiment).losses if found is None else found


def incumbent_predictions(experiment: Experiment) -> Array | None:
    """Prediction of each example ``[n]``; None where it cannot be run, or is the candidate itself."""
    if experiment.mutation.identical:
        return None
    found = _stored(experiment, "predictions", experiment.incumbent.predictions)
    return _predicted(_run(experiment)) if found is None else found


def store_predictions(experiment: Experiment, measured: Measurement, *, kept: bool) -> str:
    """
    Keep the predictions of what will be the incumbent, where a fairness rule compares with them.

    :param kept: whether the candidate will be it, or the incumbent stays.
    :return: SHA-256 of the file; empty without one.
    """
    campaign = experiment.campaign
    found = _predicted(measured)
    if found is None or not any(rule.worse_by is not None for rule in campaign.settings.fairness):
        return ""
    digest = experiment.candidate.digest if kept else surface_digest(campaign.incumbent_files)
    return store(directory(campaign, "predictions"), digest, found)


def _predicted(measured: Measurement) -> Array | None:
    return None if measured.evaluation is None else predictions(measured.evaluation)


def _stored(experiment: Experiment, kind: Kind, sha256: str) -> Array | None:
    if experiment.baseline:
        return None
    return load(directory(experiment.campaign, kind), experiment.incumbent.digest, sha256)


def _run(experiment: Experiment) -> Measurement:
    if experiment.baseline:
        return experiment.baseline[0]
    experiment.measure_files(experiment.campaign.incumbent_files, 1)
    return experiment.others[-1]
