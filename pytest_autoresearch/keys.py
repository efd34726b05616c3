"""
Types of the configuration's keys: ranges, choices and patterns, and what every table is.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=1e9)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Device = Literal["auto", "cpu", "cuda"]
Level = Literal["strong", "kernel", "container", "none"]
Figure = Literal["rounded", "bit", "none"]
Preset = Literal["strict", "balanced", "default"]
Veto = Literal["veto", "off"]
Unit = Literal["log", "raw"]
Told = Literal["aggregates", "unchecked"]
Nothing = Literal["none", "unchecked"]
FairnessMetric = Literal[
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "equal_opportunity_difference",
    "equal_opportunity_ratio",
    "error_rate",
    "error_rate_difference",
    "log_loss",
    "log_loss_difference",
    "calibration_gap",
]
Sureness = Literal["estimate", "interval"]
Small = Literal["list", "pool"]
Mode = Literal["verified", "self-reported"]
# One spelling per file, as git has it: no empty, '.' or '..' step.
PATH = r"^(?!.*(^|/)\.{0,2}(/|$))[^\x00-\x1f\\:]+$"
NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
FILE = r"^[A-Za-z0-9_.-]+$"
# A name would be looked up in .git/config, which is not ratified; `ext::` and `--upload-pack` would run programs.
ADDRESS = r"^(/|https://|ssh://|git://|file:///|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:)\S+$"
RelativePath = Annotated[str, msgspec.Meta(pattern=PATH)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration: unknown keys are refused."""
