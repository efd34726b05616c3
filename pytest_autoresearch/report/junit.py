"""
The session's figures as suite properties of ``--junitxml``, for CI systems that read nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# pytest's own fixture of that purpose is only reachable from a test; plugins take the object by its key.
from _pytest.junitxml import xml_key

from ..evaluation import reported_fairness
from .tables import escape

if TYPE_CHECKING:
    from ..session import AutoresearchSession

__all__ = ["record_junit"]


def record_junit(session: AutoresearchSession) -> None:
    """Add ``autoresearch_*`` properties to the XML report, where one is written."""
    xml = session.config.stash.get(xml_key, None)
    settlement = session.settlement
    if xml is None or settlement is None:
        return
    experiment = session.experiment
    evaluation = experiment.evaluation if experiment.runs else None
    figures: dict[str, object] = {
        "verdict": settlement.verdict.decision.value,
        "reasons": "; ".join(f"{r.code}: {r.message}" for r in settlement.verdict.reasons),
        "metric": settlement.metric,
        "incumbent": experiment.incumbent.metric,
        "incumbent_commit": settlement.commit,
        "domain": experiment.mutation.domain.value,
        "cost": settlement.cost,
        "budget_left": settlement.remaining,
        "isolation": str(session.campaign.wall),
    }
    for line in reported_fairness(evaluation):
        figures[f"fairness_{line.metric}_{line.by}"] = line.value
    for name, value in figures.items():
        if value is not None:
            xml.add_global_property(f"autoresearch_{name}", escape(str(value)))
