"""
Mode ``self-reported``: the metric is what train.py prints, for a project whose prepare.py knows nothing of us.

The way in for a repository in the upstream layout, and a step on the way to mode ``verified``. What is covered:
integrity of the harness, classification, budget, gates on the text, the sandbox, the compute budget, seeds, the keep
rule, charts and ledgers. What is not: the figure itself. The program that is judged prints it, on data of its own
choice, so nothing here can tell a better model from a better liar; every row, header and commit says so.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .task import Task, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .settings import Settings

__all__ = ["LABEL", "PrintedTask", "labelled", "printed_metric", "trust_lines"]

#: What descriptions, headers and commits say.
LABEL = "SELF-REPORTED"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|[-+]?inf"


def printed_metric(log: str, settings: Settings) -> tuple[float | None, str]:
    """
    The last ``name: value`` line of a run's output, and why there is none.

    :param log: the end of the output, escaped: untrusted text.
    """
    name = settings.metric
    found = re.findall(rf"(?m)^{re.escape(name)}:\s*({_NUMBER})\s*$", log)
    if not found:
        return None, f"the run printed no line `{name}: NUMBER`"
    value = float(found[-1])
    if not math.isfinite(value):
        return None, f"{name} = {value!r} is not finite"
    if not settings.metric_floor < value < settings.metric_ceiling:
        limits = f"({settings.metric_floor:g}, {settings.metric_ceiling:g})"
        return None, f"implausible: {name} = {value:.6g} is outside {limits}"
    return value, ""


def labelled(description: str, settings: Settings) -> str:
    """A description that says where the metric comes from, unless it is recomputed."""
    return description if settings.mode == "verified" else f"{LABEL}: {description}"


def trust_lines(settings: Settings) -> Iterator[str]:
    """What header and status say of the metric; nothing where it is recomputed."""
    if settings.mode == "self-reported":
        yield (
            f"metric: {LABEL}: {settings.metric} is what train.py prints; nothing recomputes it "
            "(`autoresearch init` says how to reach mode 'verified')"
        )


class PrintedTask(Task):
    """A task of which only the places are known that its runs read."""

    def __init__(self, root: Path, settings: Settings, source: bytes | None) -> None:
        super().__init__(root, settings.prepare, settings.data, source)
        self._readable = settings.run.readable

    @property
    def manifest_bytes(self) -> bytes:
        """What is pinned instead of data: where it lies."""
        return "\n".join(self._readable).encode()

    @property
    def manifest(self) -> Mapping[str, Any]:
        """No file is known."""
        return {"files": {}, "splits": {}, "task": self.data.parent.name}

    @property
    def data_sha256(self) -> str:
        """SHA-256 of the places."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    def require_intact(self, pinned: str | None = None) -> None:
        """
        Check that the places are there and those of the campaign; nobody knows what should lie in them.

        :raises TaskError: one is missing.
        """
        missing = [str(path) for path in self.places if not path.exists()]
        if missing:
            raise TaskError(
                f"run.readable names {missing[0]!r}, which is not there: prepare the data first (upstream: "
                f"`python {self.prepare_path.name}`)"
            )

    def require_intact_view(self) -> None:
        """Nothing is known of the data."""

    @property
    def places(self) -> tuple[Path, ...]:
        """Where runs may read, besides their snapshot."""
        return tuple(Path(text).expanduser() for text in self._readable)

    @property
    def sequence(self) -> None:
        """prepare.py is not imported: it is upstream's, and imports whatever it needs to train."""
        return

    @property
    def rebuilds(self) -> bool:
        """Nothing is known of prepare.py."""
        return False

    @property
    def has_losses(self) -> bool:
        """There are no predictions."""
        return False

    @property
    def training_view(self) -> Path:
        """:raises TaskError: there is none to look at."""
        raise TaskError(
            "mode 'self-reported' knows nothing of the data: a gate that asks for it needs mode 'verified'; "
            "`autoresearch init` says which steps lead there"
        )

    def cohorts(self, split: str) -> dict[str, Any]:
        """Nobody knows of any."""
        return {}
