"""
The tables of ``[tool.autoresearch]``: every key with its type, its range and its default.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from .gate_settings import Audit, Cohorts, FairnessRule, Harm, Leakage, Pii, Source
from .keys import (
    ADDRESS,
    FILE,
    NAME,
    Count,
    Device,
    Figure,
    Level,
    Mode,
    Preset,
    RelativePath,
    Seconds,
    Table,
    Unit,
    Veto,
)
from .records import Domain

__all__ = [
    "Agent",
    "Anchors",
    "Audit",
    "Budget",
    "Charts",
    "Cohorts",
    "FairnessRule",
    "Feedback",
    "Harm",
    "Keep",
    "Leakage",
    "Pii",
    "Run",
    "Settings",
    "Source",
    "Stop",
]


class Run(Table, frozen=True):
    """The compute budget of one training run, capped from outside."""

    seconds: Seconds = 300.0
    """Wall-clock seconds from process start; the whole process tree is killed at the limit."""
    warmup_seconds: Annotated[float, msgspec.Meta(ge=0.0, le=600.0)] = 0.0
    """Seconds on top of ``seconds`` before the kill, for imports and compilation: the same for every run."""
    score_seconds: Seconds = 120.0
    """The same for scoring."""
    device: Device = "auto"
    threads: Count = 1
    """OMP/MKL threads: one makes CPU runs bitwise repeatable."""
    memory_mb: Count | None = None
    """Resident memory of the whole process tree, MiB; None: 80 % of what the machine has."""
    output_kb: Count = 1024
    """Captured output kept of one run, KiB."""
    artifact_mb: Count = 512
    """Largest artifact accepted, MiB."""
    disk_mb: Count = 8192
    """All files that a run may have at a time, MiB."""
    files: Count = 100_000
    """How many files and directories a run may have at a time."""
    processes: Count = 4096
    """Processes and threads of a run, at most."""
    readable: tuple[str, ...] = ()
    """Mode ``self-reported``: absolute paths (``~`` for the user's home) that a run may read: its data."""
    slots: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Runs of one candidate at a time; one on a GPU and where two runs could meet (``kernel``, ``container``)."""


class Budget(Table, frozen=True):
    """The mutation budget of a campaign, in units."""

    total: Count = 100
    costs: dict[Domain, Annotated[int, msgspec.Meta(ge=0)]] = msgspec.field(default_factory=dict)
    """Overrides of the stock costs per domain."""


class Keep(Table, frozen=True):
    """The keep rule: an improvement must exceed the measured noise."""

    rule: Preset = "default"
    """How sure a keep must be; the keys below override single values of it."""
    alpha: Annotated[float, msgspec.Meta(gt=0.0, lt=0.5)] | None = None
    """One-sided level after the last confirming run."""
    screen: Annotated[float, msgspec.Meta(ge=-5.0, le=5.0)] | None = None
    """Sigma by which the screening run must be better to be confirmed."""
    confirm: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    """Runs on fresh seeds that confirm a candidate, at most."""
    baseline: Annotated[int, msgspec.Meta(ge=2, le=100)] = 4
    """Runs of the baseline, on as many harness seeds."""
    canary: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 8
    """The incumbent is run again every so many proposals; 0: never."""
    audit: Veto = "veto"
    """Whether the sealed audit split may stop a keep, with one bit."""
    familywise: Annotated[float, msgspec.Meta(gt=0.0, lt=0.5)] | None = None
    """Probability of any false keep in the whole campaign; None: each proposal has its own level."""
    early_kill: bool = True
    """Whether a run whose learning curve is beyond recovery is stopped."""


class Charts(Table, frozen=True):
    """The control charts over a campaign."""

    unit: Unit = "log"
    """Of allowance and interval of the progress chart: log improvement, or the metric's own unit."""
    allowance: Annotated[float, msgspec.Meta(ge=0.0, lt=1e9)] = 0.005
    """k of the progress chart: improvement per experiment that is never suspicious (0.5 %)."""
    interval: Annotated[float, msgspec.Meta(gt=0.0, lt=1e9)] = 0.10
    """h of the progress chart: decision interval (10 %)."""
    gap_allowance: Annotated[float, msgspec.Meta(ge=0.0, le=10.0)] = 0.5
    """k of the audit-gap chart, in standard deviations."""
    gap_interval: Annotated[float, msgspec.Meta(gt=0.0, le=100.0)] = 5.0
    """h of the audit-gap chart, in standard deviations."""
    verify_sigma: Annotated[float, msgspec.Meta(gt=0.0)] = 8.0
    """A single kept step above so many sigma of one run is verified."""


class Stop(Table, frozen=True):
    """When a loop of rounds ends by itself."""

    hours: Annotated[float, msgspec.Meta(gt=0.0, le=1e5)] | None = None
    """Wall time of ``--autoresearch-rounds``; a round that began is finished."""
    without_gain: Count | None = None
    """Measured experiments in a row without a keep."""
    target: float | None = None
    """Value of the metric that is good enough."""


class Agent(Table, frozen=True):
    """The room of an agent command."""

    seconds: Seconds = 1800.0
    """Wall-clock seconds for one proposal."""
    network: bool = False
    """Whether the command may use the network, as one that calls a model's API must."""
    readable: tuple[str, ...] = ()
    """Absolute paths (``~`` for the user's home) that it may read besides the system's: its program, its keys."""
    env: tuple[Annotated[str, msgspec.Meta(pattern=NAME)], ...] = ()
    """Names of the environment variables that are passed on to it."""


class Anchors(Table, frozen=True):
    """Places outside the project that are told the ledgers' heads after every change."""

    file: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Absolute path (``~`` for the user's home) of a file they are added to; ``{tag}`` is the campaign's."""
    remote: Annotated[str, msgspec.Meta(pattern=ADDRESS)] | None = None
    """Address of a repository that gets heads, pins and branch; ``autoresearch-heads/TAG`` there may refuse force."""
    command: tuple[str, ...] = ()
    """Program and arguments, started without a shell; the heads are its standard input."""
    signing_key: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Absolute path of the SSH key that signs them: a private one, or a public one that an SSH agent serves."""
    env: tuple[Annotated[str, msgspec.Meta(pattern=NAME)], ...] = ()
    """Environment variables that push, command and signing get besides PATH, HOME and SSH_AUTH_SOCK."""
    seconds: Seconds = 60.0
    """Wall-clock limit of each."""
    required: bool = False
    """Whether a session refuses to start while one of them cannot be reached."""


class Feedback(Table, frozen=True):
    """What comes back to an agent, which it may try to learn held-out labels from."""

    metric: Figure = "rounded"
    """The metric with few digits, only whether it was kept, or nothing."""
    digits: Annotated[int, msgspec.Meta(ge=1, le=6)] = 4
    """Significant digits of a rounded metric."""
    log_lines: Annotated[int, msgspec.Meta(ge=0, le=200)] = 0
    """Last lines of the latest run's output: fenced, escaped, personal data masked."""


class Settings(Table, frozen=True):
    """Everything a person may set; the agent may set nothing."""

    surface: Annotated[tuple[RelativePath, ...], msgspec.Meta(min_length=1)] = ("train.py",)
    """The mutation surface: the files the agent may alter."""
    entry: RelativePath = "train.py"
    """The surface file that a training run executes."""
    harness: Annotated[tuple[RelativePath, ...], msgspec.Meta(min_length=1)] = ("harness_tests",)
    """Where the gates stand."""
    packs: dict[Annotated[str, msgspec.Meta(pattern=NAME)], str] = msgspec.field(
        default_factory=dict
    )
    """Installed packages whose gates count besides, each with the SHA-256 of its files."""
    prepare: RelativePath = "prepare.py"
    program: RelativePath = "program.md"
    data: RelativePath = "data"
    metric: Annotated[str, msgspec.Meta(pattern=NAME)] = "val_loss"
    """Key of ``prepare.evaluate``'s result that is minimised."""
    mode: Mode = "verified"
    """Whether the metric is recomputed from the artifact, or believed as ``train.py`` prints it."""
    metric_floor: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    """A value at or below it is implausible, not excellent; the progress chart needs positive metrics."""
    metric_ceiling: float = math.inf
    artifact: Annotated[str, msgspec.Meta(pattern=FILE)] = "model.pt2"
    sandbox: Level = "strong"
    """Isolation level of runs and scoring; each is tried out at session start and refused if it fails."""
    launcher: tuple[str, ...] = ()
    """Level ``container``: the command that starts one, with placeholders; see the reference."""
    acknowledge_unsandboxed: bool = False
    """Whether level ``none`` may keep under ``CI=true``."""
    protected: tuple[str, ...] = ()
    """Names that a mutation may not touch."""
    protected_values: dict[Annotated[str, msgspec.Meta(pattern=NAME)], str | int | float | bool] = (
        msgspec.field(default_factory=dict)
    )
    """Top-level constants of the surface that keep their value."""
    cohort_minimum: Annotated[int, msgspec.Meta(ge=2)] = 50
    """Smallest cohort whose aggregates are shown."""
    cohorts: Cohorts = Cohorts()
    harm: Harm = Harm()
    sections: dict[Domain, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Name patterns of top-level definitions per domain, replacing the stock ones."""
    run: Run = Run()
    budget: Budget = Budget()
    keep: Keep = Keep()
    cusum: Charts = Charts()
    stop: Stop = Stop()
    agent: Agent = Agent()
    anchors: Anchors = Anchors()
    feedback: Feedback = Feedback()
    pii: Pii = Pii()
    audit: Audit = Audit()
    leakage: Leakage = Leakage()
    source: Source = Source()
    fairness: tuple[FairnessRule, ...] = ()
