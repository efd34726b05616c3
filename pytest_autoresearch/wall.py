"""
Which wall stands between this session's runs and the machine: chosen by a person, tried out before it is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .sandbox import Isolation, self_test

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["Wall"]


@dataclass(frozen=True)
class Wall:
    """An isolation level, and the command that starts a container at that level."""

    level: Isolation
    launcher: tuple[str, ...] = ()

    @classmethod
    def choose(cls, settings: Settings, option: str | None) -> Wall:
        """The level of ``--autoresearch-sandbox``, else the configured one; never another one silently."""
        level = Isolation(option or settings.sandbox)
        return cls(level, settings.launcher if level is Isolation.CONTAINER else ())

    def __str__(self) -> str:
        if self.level is Isolation.NONE:
            return f"{self.level.value} (UNSANDBOXED)"
        return f"{self.level.value} (self-test passed)"

    @property
    def label(self) -> str:
        """The level as the ledgers name it."""
        return "UNSANDBOXED" if self.level is Isolation.NONE else self.level.value

    def require_allowed(self, settings: Settings) -> None:
        """
        Refuse a level at which a session could not keep anything.

        :raises pytest.UsageError: a container without a launcher; no wall in an unattended job whose
            configuration does not acknowledge it.
        """
        if self.level is Isolation.CONTAINER and not self.launcher:
            raise pytest.UsageError(
                "--autoresearch-sandbox=container needs [tool.autoresearch] launcher = [...]: the command "
                "that starts yours"
            )
        unattended = os.environ.get("CI", "").lower() not in ("", "0", "false")
        if self.level is Isolation.NONE and unattended and not settings.acknowledge_unsandboxed:
            raise pytest.UsageError(
                "isolation level 'none' keeps nothing under CI: a run could read and write whatever this "
                "job can. Choose --autoresearch-sandbox=strong or kernel (`autoresearch doctor` tells which "
                "works here), judge with --autoresearch-dry-run, or ratify a configuration with "
                "acknowledge_unsandboxed = true"
            )

    def require_holds(
        self, directory: Path, *, hidden: Sequence[Path], devices: tuple[Path, ...]
    ) -> None:
        """
        Run the probe in the sandbox as composed: version strings prove nothing.

        :param directory: below which runs take place.
        :param hidden: what no run may read.
        :raises SelfTestError: the level does not hold here; the failing line and the remedy.
        """
        if self.level is not Isolation.NONE:
            self_test(
                self.level,
                directory=directory,
                hidden=hidden,
                devices=devices,
                launcher=self.launcher,
            ).require()
