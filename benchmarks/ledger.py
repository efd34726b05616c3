"""
What the ledgers cost: a durable append, a full verification, the start of a session, by number of rows.

    python benchmarks/ledger.py [--rows 1000 10000 100000 1000000] [--directory DIR]

Made of rows as a session writes them, halts and reverts in turn, chained as always but written without a sync, so
that a million takes a minute. Appends are measured with the sync, on the file system of DIR, by the clock; all else in
seconds of processor time, the best of three runs, of one beyond 100 000 rows. Rows are those of both ledgers together,
half as many changes: an intent of 0.75 kB and an end of 1 kB (a halt) or 2.8 kB (a verdict) each. A start opens the campaign in a git
repository in a process of its own, without its imports and with git's time: the first one folds all rows and keeps
what they come to, the best of seven later ones reads that and the last rows.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pytest_autoresearch import verifier
from pytest_autoresearch.chain import EMPTY, Head, encode, seal
from pytest_autoresearch.journal import Journal
from pytest_autoresearch.ledger import Ledger
from pytest_autoresearch.records import Decision, Domain, Outcome, RunStatus, Stage
from pytest_autoresearch.rows import (
    Baseline,
    Chart,
    Cutover,
    Gate,
    Halt,
    Intent,
    Link,
    Payload,
    Reason,
    Reference,
    Run,
    Verdict,
)

OID = "8d98c30e61bb5cd23d25a4b4ac2f0a2c6c3a8fd2"
REFERENCE = Reference(mean=0.31, sigma=0.002, n=4, df=3)
COMMON = {
    "started": "2026-01-01T00:00:00.000+00:00",
    "ended": "2026-01-01T00:05:00.000+00:00",
    "actor": "working tree",
    "harness_tree": OID,
    "data_sha256": EMPTY,
    "isolation": "strong",
    "versions": {"python": "3.11.9", "pytest": "9.2.0", "torch": "2.6.0"},
}
RUN = Run(
    seed=1,
    status=RunStatus.FINISHED,
    reason="finished",
    metric=0.312,
    audit=0.314,
    seconds=287.1,
    budget_seconds=300.0,
    peak_memory_mb=812.5,
    artifact_sha256=EMPTY,
    device="cpu",
    isolation="strong",
)
GATES = tuple(
    Gate(
        nodeid=f"harness_tests/test_post_loop.py::test_gate_{number}",
        stage=Stage.POST,
        outcome=Outcome.PASSED,
        seconds=0.01,
    )
    for number in range(6)
)


def payloads(changes: int, commit: str = OID) -> Iterator[tuple[str, Payload]]:
    """Action and payload of so many changes: a baseline, then reverts and halts in turn."""
    total = 10 * changes
    surface = {"train.py": OID}
    snapshot = f"refs/autoresearch/main/candidate/{OID}"
    yield (
        "baseline",
        Baseline(
            tag="main",
            branch="autoresearch/main",
            budget=total,
            pinned=tuple(gate.nodeid for gate in GATES),
            commit=commit,
            tree=OID,
            candidate=EMPTY,
            surface=surface,
            snapshot=snapshot,
            runs=(RUN,) * 4,
            after=REFERENCE,
            **COMMON,
        ),
    )
    left = total
    for number in range(1, changes):
        if number % 2:
            reason = Reason(code="no-gain", message="0.4 sigma worse on one run; a screen needs 1")
            yield (
                "revert",
                Verdict(
                    candidate=hashlib.sha256(b"%d" % number).hexdigest(),
                    fingerprint=EMPTY,
                    origin="working tree",
                    surface=surface,
                    snapshot=snapshot,
                    domain=Domain.HYPERPARAMETER,
                    cost=10,
                    description="LEARNING_RATE 0.01 -> 0.02",
                    decision=Decision.REVERT,
                    status="discard",
                    exit_status=10,
                    reasons=(reason,),
                    gates=GATES,
                    runs=(RUN,),
                    metric=0.312,
                    metrics={"val_loss": 0.312},
                    before=REFERENCE,
                    after=REFERENCE,
                    chart=Chart(x=0.0, s_upper=0.0, s_lower=0.0, alarm=False),
                    budget_before=left,
                    budget_after=left - 10,
                    commit_before=OID,
                    **COMMON,
                ),
            )
            left -= 10
        else:
            reason = Reason(code="halt", message="SYSTEM HALT: the Fixed Harness was touched")
            yield "halt", Halt(reasons=(reason,), commit_before=OID, **COMMON)


def fill(directory: Path, changes: int, commit: str = OID) -> Journal:
    """Both ledgers with so many changes each; what the journal would write, without its syncs."""
    journal = Journal(directory)
    directory.mkdir(parents=True)
    source_head = cutover_head = Head(-1, EMPTY)
    before = Head(-1, EMPTY)
    with journal.source.path.open("wb") as source, journal.cutover.path.open("wb") as cutover:
        for file, name in ((source, "restore-source"), (cutover, "cutover-audit")):
            line = seal(b'{"kind":"opened","ledger":"%s"}' % name.encode(), Head(-1, EMPTY))
            file.write(line)
            source_head, cutover_head = Head(0, hashlib.sha256(line).hexdigest()), source_head
        source_head, cutover_head = cutover_head, source_head
        for action, payload in payloads(changes, commit):
            intent = Intent(
                action=action,  # type: ignore[arg-type]
                branch="autoresearch/main",
                tip=OID,
                tree=OID,
                surface={"train.py": OID},
                pin=f"refs/autoresearch/main/restore/{OID}",
                domain=getattr(payload, "domain", None),
                cost=getattr(payload, "cost", 0),
                payload_sha256=hashlib.sha256(encode(payload)).hexdigest(),
                cutover=Link(seq=before.seq, sha256=before.sha256),
            )
            line = seal(msgspec.json.encode(intent), source_head)
            source_head = Head(source_head.seq + 1, hashlib.sha256(line).hexdigest())
            source.write(line)
            link = Link(seq=source_head.seq, sha256=source_head.sha256)
            end = Cutover(source=link, action=intent.action, resolution="done", payload=payload)
            line = seal(msgspec.json.encode(end), cutover_head)
            before = cutover_head = Head(cutover_head.seq + 1, hashlib.sha256(line).hexdigest())
            cutover.write(line)
    return journal


class Taken(NamedTuple):
    """Seconds of the run that took the least processor time: others may be at work."""

    processor: float
    """Of this process and of those that it started."""
    clock: float


def seconds(work: Callable[[], object], times: int) -> Taken:
    taken = []
    for _ in range(times):
        before, began = used(), time.perf_counter()
        work()
        taken.append(Taken(used() - before, time.perf_counter() - began))
    return min(taken)


def used() -> float:
    """Seconds of processor time so far, with ended processes'."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both)


def checkpoint(directory: Path, changes: int) -> dict[str, Any]:
    """Where the verifier stands after so many changes, all read by one process."""
    campaign = verifier.Campaign("main")
    with (
        verifier.open_ledger(directory / "restore-source.jsonl") as source,
        verifier.open_ledger(directory / "cutover-audit.jsonl") as cutover,
    ):
        chains = verifier.Chain("restore-source", source), verifier.Chain("cutover-audit", cutover)
        for change in itertools.islice(verifier.changes(*chains), changes):
            campaign.step(change)
        saved = verifier.checkpoint(campaign, chains, changes)
    file = directory / "checkpoint"
    file.write_bytes(saved)
    return verifier.load_checkpoint(file, "main")


def whole(problem: object) -> None:
    if problem is not None:
        raise RuntimeError(str(problem))


def project(root: Path) -> str:
    """A repository with a surface file and a harness; its commit."""
    root.mkdir()
    for name in ("train.py", "prepare.py"):
        (root / name).write_text("RATE = 1\n")
    git = ["git", "-C", str(root), "-c", "user.name=b", "-c", "user.email=b@example.org"]
    for arguments in (["init", "-qb", "main"], ["add", "."], ["commit", "-qm", "project"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


START = """
import argparse, resource, sys
from pathlib import Path
from pytest_autoresearch.answers import judged_before
from pytest_autoresearch.campaign import Campaign
options = argparse.Namespace(
    autoresearch_tag="main", autoresearch_dry_run=False, collectonly=False, autoresearch_rounds=None,
    autoresearch_sandbox="none",
)
def seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
began = seconds()
campaign = Campaign(Path(sys.argv[1]), options)
assert campaign.state.remaining and campaign.incumbent.metric and campaign.budget.total_budget
assert judged_before(campaign.state, "f" * 64) is None
campaign.close()
print(seconds() - began)
"""


def start(root: Path) -> float:
    """Seconds in which a fresh process opens the campaign and looks a candidate up, without its imports."""
    command = [sys.executable, "-c", START, str(root)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def appends(directory: Path, times: int = 1000) -> None:
    ledger = Ledger(directory / "appends.jsonl")
    row = Cutover(
        source=Link(seq=1, sha256=EMPTY),
        action="revert",
        resolution="done",
        payload=list(payloads(2))[1][1],
    )
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        ledger.append(row)
        taken.append(time.perf_counter() - began)
    size = ledger.path.stat().st_size // times
    cuts = statistics.quantiles(taken, n=100)
    print(
        f"durable append, {size} bytes a row: p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0].strip())
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--directory", type=Path, help="on which file system (default: temporary)")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        appends(Path(name))
        few = Path(name, "10")
        fill(few / ".autoresearch" / "main", 5, project(few))
        print(f"start-up with 10 rows: {min(start(few) for _ in range(7)):.3f} s")
        print(
            "rows | MB | longer chain, s | both chains and pairs, s | verifier.py, one process, s | "
            "verifier.py, s (by the clock) | the last 10 rows, s | first start, s | start-up, s"
        )
        for rows in options.rows:
            root = Path(name, str(rows))
            directory = root / ".autoresearch" / "main"
            journal = fill(directory, rows // 2, project(root))
            size = sum(path.stat().st_size for path in directory.iterdir()) / 1e6
            once = 3 if rows <= 100_000 else 1
            chain = seconds(lambda: whole(journal.cutover.verify()), once)  # noqa: B023
            both = seconds(lambda: whole(journal.verify()), once)  # noqa: B023
            since: list[dict[str, Any]] = []
            alone = seconds(
                lambda: since.append(checkpoint(directory, rows // 2 - 5)),  # noqa: B023
                once,
            )
            own = seconds(lambda: whole(verifier.check_files(directory, "main")), once)  # noqa: B023
            later = seconds(
                lambda: whole(verifier.check_files(directory, "main", since[0])),  # noqa: B023
                once,
            )
            print(
                f"{rows} | {size:.0f} | {chain.processor:.3f} ({rows // 2} rows) | {both.processor:.3f} | "
                f"{alone.processor:.3f} | {own.processor:.3f} ({own.clock:.3f}) | {later.processor:.3f} | "
                f"{start(root):.3f} | {min(start(root) for _ in range(7)):.3f}",
                flush=True,
            )
            shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
