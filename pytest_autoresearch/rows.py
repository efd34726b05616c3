"""
What the rows of the two ledgers hold: frozen structs with a ``kind``, unknown fields refused.

*restore-source* holds one :class:`Intent` per state change, written before it. *cutover-audit*
holds one :class:`Cutover` per intent, written after it: the change took place, or it did not.
A field added later gets a default, so that old rows still read.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from .records import Decision, Domain, Outcome, RunStatus, Stage

__all__ = [
    "Action",
    "Alarm",
    "Baseline",
    "Canary",
    "Chart",
    "Cutover",
    "Fairness",
    "Gate",
    "Halt",
    "Intent",
    "Link",
    "Lost",
    "Payload",
    "Ratify",
    "Reason",
    "Reference",
    "Restore",
    "Run",
    "Stop",
    "Verdict",
    "Verified",
]

Action = Literal["baseline", "keep", "revert", "rollback", "escalate", "halt", "ratify", "stop"]
"""What is done to the repository; each is idempotent, so that recovery may do it again."""

Units = Annotated[int, msgspec.Meta(ge=0)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Part of a row."""


class _Kind(_Part, frozen=True, kw_only=True, tag_field="kind"):
    """A row's payload, told apart by ``kind``."""


class Link(_Part, frozen=True, kw_only=True):
    """A row of the other ledger."""

    seq: int
    """-1: the other ledger was empty."""
    sha256: str
    """SHA-256 of its line."""


class Reason(_Part, frozen=True, kw_only=True):
    """As :class:`.records.Reason`."""

    code: str
    message: str


class Gate(_Part, frozen=True, kw_only=True):
    """As :class:`.records.GateResult`."""

    nodeid: str
    stage: Stage
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0


class Run(_Part, frozen=True, kw_only=True):
    """One training run, as :class:`.records.RunResult`, and the metric recomputed from it."""

    seed: int
    status: RunStatus
    reason: str
    metric: float | None
    audit: float | None = None
    """The metric on the audit split."""
    seconds: float
    budget_seconds: float
    peak_memory_mb: float
    gpu_memory_mb: float | None = None
    gpu_utilization: float | None = None
    artifact_sha256: str
    """Empty without an artifact."""
    artifact: str = ""
    """Its file, below the campaign's ``runs``; only that of a keep stays."""
    device: str
    isolation: str
    curve: tuple[tuple[float, float], ...] = ()
    """What the run said of its training loss: (share of its budget, loss)."""


class Reference(_Part, frozen=True, kw_only=True):
    """The metric that candidates are compared with."""

    mean: float | None
    sigma: float | None
    """Standard deviation over seeds of one run's metric."""
    n: int
    df: int = 0
    """Degrees of freedom behind ``sigma``."""
    audit: float | None = None
    """Mean on the audit split over the same runs."""
    losses_sha256: str = ""
    """As :attr:`.records.Incumbent.losses`."""
    predictions_sha256: str = ""
    """As :attr:`.records.Incumbent.predictions`."""


class Fairness(_Part, frozen=True, kw_only=True):
    """One line of the fairness table."""

    metric: str
    by: str
    value: float | None
    at_most: float | None = None
    at_least: float | None = None
    passed: bool | None = None
    """None: reported, not gated."""
    low: float | None = None
    """Of the 95 % interval."""
    high: float | None = None
    incumbent: float | None = None
    """The incumbent's figure on the same rows."""
    worse_by: float | None = None
    """The most by which it might be less fair than the incumbent."""
    worsening: float | None = None
    """By how much it is, at least: beyond noise."""


class Chart(_Part, frozen=True, kw_only=True):
    """The control chart after an experiment."""

    x: float
    """Its input: the incumbent's log improvement by this experiment, 0 unless kept."""
    s_upper: float
    s_lower: float
    alarm: bool
    """An alarm resets the chart: later experiments start from empty sums."""


class Canary(_Part, frozen=True, kw_only=True):
    """As :class:`.records.Canary`; its run is among the verdict's ``others``."""

    metric: float
    audit: float | None = None
    residual: float
    s_upper: float
    s_lower: float
    alarm: bool


class Verified(_Part, frozen=True, kw_only=True):
    """As :class:`.records.Verified`."""

    seq: int
    gain: float | None
    audit_gain: float | None = None
    held: bool
    message: str


class Alarm(_Part, frozen=True, kw_only=True):
    """As :class:`.records.Alarm`: the mutation-trace, and what became of the suspects."""

    chart: str
    message: str
    last_zero: int
    suspects: tuple[int, ...]
    culprit: int | None
    restore: str
    """Commit to stand on afterwards."""
    restore_seq: int
    verified: tuple[Verified, ...]


class _Circumstances(_Kind, frozen=True, kw_only=True):
    """What every payload says about its circumstances."""

    started: str
    """UTC, ISO 8601."""
    ended: str
    actor: str
    """Who proposed or decided: ``working tree``, the agent's command, a person's name."""
    harness_tree: str
    """Tree of the ratified Fixed Harness that judged."""
    data_sha256: str
    """SHA-256 of the data's manifest."""
    metric_source: str = "recomputed"
    """``recomputed`` from the artifact by the harness, or ``self-reported`` by train.py."""
    isolation: str = ""
    """Level at which this session ran what is not trusted; ``UNSANDBOXED`` at level ``none``."""
    versions: dict[str, str] = {}
    """python, torch, pytest, plugin, git, ..."""
    hashes: dict[str, str] = {}
    """Further content hashes: configuration, program, environment, ..."""


class Verdict(_Circumstances, frozen=True, kw_only=True, tag="verdict"):
    """A proposal came to its verdict."""

    candidate: str
    """Digest of the candidate's surface."""
    fingerprint: str = ""
    """Digest of its syntax trees: equal for proposals that differ in layout only."""
    origin: str
    surface: dict[str, str]
    """Surface path to git blob id."""
    snapshot: str
    """Ref that keeps these blobs from being collected."""
    domain: Domain
    cost: Units
    description: str
    decision: Decision
    status: str
    """The word in results.tsv."""
    exit_status: int
    reasons: tuple[Reason, ...]
    gates: tuple[Gate, ...]
    runs: tuple[Run, ...] = ()
    """The screening run first, then the confirming ones."""
    metric: float | None
    """The screening run's."""
    metrics: dict[str, float | None] = {}
    fairness: tuple[Fairness, ...] = ()
    before: Reference
    after: Reference
    """The incumbent's reference when this verdict has been carried out."""
    chart: Chart | None = None
    """None: no experiment took place, the chart stands as before."""
    gap: float | None = None
    """Audit gap: by how much more the confirming runs gained on validation than on the audit split."""
    canary: Canary | None = None
    alarm: Alarm | None = None
    others: tuple[Run, ...] = ()
    """Runs of other states than the candidate: the canary's, and those that verify suspects."""
    budget_before: int
    budget_after: int
    commit_before: str


class Baseline(_Circumstances, frozen=True, kw_only=True, tag="baseline"):
    """A campaign begins: run 0, on the surface as it stands."""

    tag: str
    branch: str
    budget: Units
    """Units of the campaign."""
    pinned: tuple[str, ...]
    """Node ids of the gates that every keep owes."""
    commit: str
    """Commit of the incumbent, which is also the ratified harness."""
    tree: str
    candidate: str
    fingerprint: str = ""
    surface: dict[str, str]
    snapshot: str
    status: str = "keep"
    description: str = "baseline"
    reasons: tuple[Reason, ...] = ()
    gates: tuple[Gate, ...] = ()
    runs: tuple[Run, ...]
    after: Reference
    metrics: dict[str, float | None] = {}
    fairness: tuple[Fairness, ...] = ()


class Halt(_Circumstances, frozen=True, kw_only=True, tag="halt"):
    """A breach of the Fixed Harness, or a mutation that the budget cannot pay."""

    reasons: tuple[Reason, ...]
    breaches: dict[str, str] = {}
    """Path to what was done to it."""
    candidate: str = ""
    description: str = ""
    commit_before: str


class Ratify(_Circumstances, frozen=True, kw_only=True, tag="ratify"):
    """A person changed the Fixed Harness; ``actor`` is that person."""

    reason: str
    commit_before: str
    commit: str
    tree: str
    """The new ratified tree."""
    pinned: tuple[str, ...]
    candidate: str
    """Digest of the surface in ``commit``; another than the incumbent's needs a new baseline."""
    surface: dict[str, str]
    budget: Units | None = None
    """New number of units of the campaign; None: as before."""


class Stop(_Circumstances, frozen=True, kw_only=True, tag="stop"):
    """A loop of rounds ended; ``code`` says by which rule."""

    code: str
    """``budget``, ``rounds``, ``wall-time``, ``no-gain``, ``target``, ``proposer``, ``session`` or ``interrupted``."""
    message: str
    rounds: int
    """Proposals that were judged by this loop."""
    seconds: float
    commit_before: str


class Restore(_Circumstances, frozen=True, kw_only=True, tag="restore"):
    """The verifier found a broken link, and the campaign went back to the last state that verified."""

    reason: str
    """The broken link, in the verifier's words."""
    commit_before: str
    commit: str
    """The state to stand on; the next session measures it anew."""
    restore_seq: int
    """Its position in the campaign."""
    candidate: str
    surface: dict[str, str]
    ratified: str
    """Commit of the Fixed Harness that was ratified when that state was made."""
    tree: str
    """Its tree."""
    pinned: tuple[str, ...]
    """The gates of that time."""
    discarded: tuple[str, ...] = ()
    """Keep commits whose rows were given up."""
    aside: dict[str, str] = {}
    """Ledger files as they were found, below the campaign's directory, to their SHA-256."""
    cost: Units = 0
    """Units that the rows given up had charged: they stay spent."""


class Lost(_Kind, frozen=True, kw_only=True, tag="lost"):
    """An open intent's payload was missing or damaged: the change was undone, its cost was not."""

    reason: str
    domain: Domain | None
    cost: Units


Payload = Verdict | Baseline | Halt | Ratify | Restore | Stop | Lost


class Intent(_Kind, frozen=True, kw_only=True, tag="intent"):
    """The state before a change, and what is to be done: enough to finish it or to undo it."""

    action: Action
    branch: str
    tip: str
    """Commit of the branch before; undoing goes back to it."""
    tree: str
    """Its tree."""
    surface: dict[str, str]
    """The incumbent's surface: path to git blob id."""
    pin: str
    """Ref under which the commit before stays reachable: the restore point."""
    target: str = ""
    """Commit that a keep publishes or a rollback goes back to; empty for every other action."""
    domain: Domain | None = None
    """The mutation's; None when the change is none."""
    cost: Units = 0
    """Units charged, whatever becomes of the change."""
    payload_sha256: str = ""
    """SHA-256 of the payload's JSON that the cutover row will carry; set by the journal."""
    cutover: Link = Link(seq=-1, sha256="")
    """Head of cutover-audit at this moment; set by the journal."""


class Cutover(_Kind, frozen=True, kw_only=True, tag="cutover"):
    """An intent's end."""

    source: Link
    """The intent's row in restore-source."""
    action: Action
    resolution: Literal["done", "finished", "rolled-back"]
    """``finished``: by recovery. ``rolled-back``: it failed, and the state before stands again."""
    result: str = ""
    """Commit that the action returned; empty when it made none, or was rolled back."""
    failure: str = ""
    """Why it was rolled back."""
    payload: Payload
