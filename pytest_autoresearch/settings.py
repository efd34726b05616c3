"""
The tables of ``[tool.autoresearch]``: every key with its type, its range and its default.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from .records import Domain

__all__ = [
    "ADDRESS",
    "FILE",
    "NAME",
    "PATH",
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
    costs: dict[Domain, Annotated[int, msgspec.Meta(ge=0)]] = {}
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


class FairnessRule(Table, frozen=True):
    """One line of the fairness table: gated when it has a limit, else only reported."""

    metric: FairnessMetric
    by: str | tuple[str, ...]
    """Protected attribute; several: the cohorts of their intersection."""
    at_most: Share | None = None
    at_least: Share | None = None
    worse_by: Share | None = None
    """By how much a candidate may be less fair than the incumbent, beyond noise, in the metric's unit."""
    sure: Sureness = "estimate"
    """What must meet ``at_most`` or ``at_least``: the figure, or its whole 95 % interval."""
    small: Small = "list"
    """Cohorts too small to gate: only listed, or put together into one."""
    threshold: Share = 0.5
    """Score from which a row is selected."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """The protected attributes, one at least."""
        return (self.by,) if isinstance(self.by, str) else self.by

    @property
    def label(self) -> str:
        """The attributes as messages and rows have them."""
        return "&".join(self.attributes)


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


class Pii(Table, frozen=True):
    """What the scan for personal data looks for besides its own patterns."""

    denied: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] = ()
    """Shell patterns of further column names that a training view may not have, such as ``"diagnosis*"``."""
    allowed: tuple[Annotated[str, msgspec.Meta(min_length=6)], ...] = ()
    """Exact values that are let through, such as a support address."""
    presidio: bool = False
    """Whether Presidio looks, too (extra ``[presidio]``)."""
    presidio_model: str = ""
    """Its spaCy model, which finds names; empty: patterns only."""


class Audit(Table, frozen=True):
    """Scoring again in a fresh process, against models that look at other examples or ahead."""

    rows: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 256
    """Examples that are scored again, in another order and company; 0: none."""
    prefixes: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 256
    """Of a sequence task: random prefixes that are scored again, with another continuation."""
    tolerance: Annotated[float, msgspec.Meta(gt=0.0, le=0.1)] = 1e-4
    """Largest difference in log-probability that rounding explains: nats, relative beyond one nat."""


class Source(Table, frozen=True):
    """What a mutation's text may look like: something that a person can review."""

    added_kb: Count = 64
    """KiB of lines that one mutation may add."""
    literal_bytes: Count = 2048
    """Bytes of one new literal, in the source's spelling."""
    line_length: Count = 400
    """Characters of one new line."""


class Cohorts(Table, frozen=True):
    """What is told of cohorts in the training split."""

    shown: tuple[tuple[str, ...], ...] = ()
    """Tables in every agent's prompt, each by its columns: ``[["sex"], ["sex", "race"]]``."""
    epsilon: Annotated[float, msgspec.Meta(gt=0.0, le=100.0)] | None = None
    """Noise in every answer, which costs so much privacy budget (extra ``[privacy]``); None: no noise."""
    epsilon_total: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)] = 1.0
    """The privacy budget: the sum of the epsilons of all answers about the same data."""


class Harm(Table, frozen=True):
    """What a candidate could do outside the sandbox if it were wrong; a gate holds the facts against it."""

    outputs: Told = "aggregates"
    """What leaves the harness about a model."""
    writes: Nothing = "none"
    """Files outside its own output directory, and deployments by a hook of the project."""
    network: Nothing = "none"
    individuals: Nothing = "none"
    """Decisions or recommendations about single persons."""


class Leakage(Table, frozen=True):
    """What may not be known of held-out data, by the gates of ``harness_tests/test_leakage.py``."""

    near_duplicates: Share = 0.01
    """Share of held-out rows nearly in the training split, beyond what a split at random gives."""
    column: Share = 0.5
    """Share of the labels' log loss that a column may explain alone, unless the others explain as much."""
    known_strong: tuple[str, ...] = ()
    """Columns that may explain more: a person has looked into how they came about."""
    time: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Array of ``index.npz`` with each row's time: no training row is later than a held-out one."""
    group: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Array of ``index.npz`` with each row's group (patient, household): none is on both sides."""
    permutation: bool = True
    """Whether a candidate worth confirming is run once more on shuffled training labels."""
    permuted_gain: Share = 0.1
    """Share of the candidate's own gain over chance that it may have on shuffled labels."""
    gap_errors: Annotated[float, msgspec.Meta(ge=1.0, le=100.0)] = 6.0
    """Standard errors by which validation may look better than the audit split."""


class Settings(Table, frozen=True):
    """Everything a person may set; the agent may set nothing."""

    surface: Annotated[tuple[RelativePath, ...], msgspec.Meta(min_length=1)] = ("train.py",)
    """The mutation surface: the files the agent may alter."""
    entry: RelativePath = "train.py"
    """The surface file that a training run executes."""
    harness: Annotated[tuple[RelativePath, ...], msgspec.Meta(min_length=1)] = ("harness_tests",)
    """Where the gates stand."""
    packs: dict[Annotated[str, msgspec.Meta(pattern=NAME)], str] = {}
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
    protected_values: dict[
        Annotated[str, msgspec.Meta(pattern=NAME)], str | int | float | bool
    ] = {}
    """Top-level constants of the surface that keep their value."""
    cohort_minimum: Annotated[int, msgspec.Meta(ge=2)] = 50
    """Smallest cohort whose aggregates are shown."""
    cohorts: Cohorts = Cohorts()
    harm: Harm = Harm()
    sections: dict[Domain, tuple[str, ...]] = {}
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
