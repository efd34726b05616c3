"""
All planted violations, in the order in which they are tried.
"""

from __future__ import annotations

from . import candidates, data, models, sessions
from .violation import Plant

__all__ = ["PLANTS", "plant_named"]

PLANTS: tuple[Plant, ...] = (
    *candidates.PLANTS,
    *sessions.PLANTS,
    *data.PLANTS,
    *models.PLANTS,
)


def plant_named(name: str) -> Plant:
    """The plant of that name."""
    return next(plant for plant in PLANTS if plant.name == name)
