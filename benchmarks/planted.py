"""
Planted worlds on the reference task: whole campaigns of 12 rounds whose truth is known.

    python benchmarks/planted.py                   # all of them
    python benchmarks/planted.py nulls column      # some; the names stand in WORLDS
    python benchmarks/planted.py --keep DIRECTORY  # and leave their repositories there

Each world is a repository of its own with the task's files (UCI Adult, all gates) and a proposer that follows a plan.
Its sessions are real ones, at the best isolation level of this machine. The model is smaller than the shipped one,
so that a run takes seconds; fairness thresholds are out of the way, so that charts and audit split are what is tried.
Harness seeds cannot be foretold: another run gives other figures. Exits with the number of worlds that failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from pytest_autoresearch.journal import Journal
from pytest_autoresearch.records import Decision
from pytest_autoresearch.rows import Baseline, Verdict
from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.sandbox.survey import survey
from pytest_autoresearch.state import State

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 12
LEAK = 5
"""Round of the first leaking mutation."""
COPIED = 1000
"""Validation rows that found their way into the training split, under other hashes."""
STEP = 100
"""Of these, how many more are memorised by each round."""
REPEATS = 20
"""Seeds for the true size of an improvement, measured outside of the harness."""

Edits = tuple[tuple[str, str], ...]
"""Texts that must be there, and what takes their place."""
Mutation = tuple[str, str, str]
"""Description, pattern and replacement, for a proposer that edits the incumbent's train.py."""

# ---------------------------------------------------------------------------
# The reference task, made quick
# ---------------------------------------------------------------------------

QUICK: Edits = (
    ("EPOCHS = 8", "EPOCHS = 3"),
    ("LEARNING_RATE = 0.001", "LEARNING_RATE = 0.002"),
    ("HIDDEN = (128, 64)", "HIDDEN = (32,)"),
)
SETTINGS: Edits = (
    ("total = 100", "total = 2000"),
    ("seconds = 30", "seconds = 60"),
    ("at_most = 0.10", "at_most = 0.99"),
    ("at_most = 0.20", "at_most = 0.99"),
)
#: A second scoring of each run finds models that look at their neighbours; there are none here.
UNWATCHED = "\n[tool.autoresearch.audit]\nrows = 0\n"
CONFTEST = """\
import re

from pytest_autoresearch import Proposal

PLAN = {plan!r}


def pytest_autoresearch_propose(files, number):
    name, pattern, replacement = PLAN[number - 1]
    source, found = re.subn(pattern, replacement, files["train.py"].decode(), flags=re.MULTILINE)
    assert found, pattern
    return Proposal({{"train.py": source.encode()}}, name)
"""

# ---------------------------------------------------------------------------
# Mutations
# ---------------------------------------------------------------------------

#: Other texts that train the same models: not one random number is drawn or used in another way.
NULLS: tuple[Mutation, ...] = (
    ("a constant that nobody uses", r"^DROPOUT = ", "PATIENCE = 3\nDROPOUT = "),
    ("squeeze the last axis", r"squeeze\(1\)", "squeeze(-1)"),
    ("gradients to None", r"zero_grad\(\)", "zero_grad(set_to_none=True)"),
    ("ReLU in place", r"nn\.ReLU\(\)", "nn.ReLU(inplace=True)"),
    ("spell out the sum", r"total \+= loss", "total = total + loss"),
    (
        "round the steps up otherwise",
        r"-\(-len\(labels\) // BATCH_SIZE\)",
        "(len(labels) + BATCH_SIZE - 1) // BATCH_SIZE",
    ),
    ("say that it trains", r"model\.train\(\)", "model.train(True)"),
    ("rename a variable", r"\bstarted\b", "began"),
    ("name the axis", r"one_hot\], 1\)", "one_hot], dim=1)"),
    ("clamp by method", r"\.clamp\(min=1e-6\)", ".clamp_min(1e-6)"),
    ("spell out the step", r"step \+= 1$", "step = step + 1"),
    ("name the rest", r"return LEARNING_RATE \* \(1 - done\)", "rest = 1 - done\n    return LEARNING_RATE * rest"),
)  # fmt: skip


def constant(name: str, value: object, why: str = "") -> Mutation:
    """Another value for a constant."""
    return why or f"{name} = {value}", rf"^{name} = .*$", f"{name} = {value}"


#: Clearly worse, by several sigma each.
WORSE = tuple(constant("LEARNING_RATE", rate) for rate in (0.0012, 0.001, 0.0008, 0.0015, 0.0009))
#: The true improvement.
BETTER = constant("LEARNING_RATE", 0.0024, "a true improvement: LEARNING_RATE 0.002 -> 0.0024")
BETTER_AT = 11
#: Small true improvements, one upon the other.
HONEST = tuple(constant("LEARNING_RATE", rate) for rate in (0.0025, 0.0032, 0.0042, 0.006))

# ---------------------------------------------------------------------------
# Leaks
# ---------------------------------------------------------------------------

#: A sixth number of every row, in every split, that was filled in after the outcome: right in 90 of 100.
COLUMN_DATA: Edits = (
    ('"capital_loss", "hours_per_week")\nCATEGORICAL', '"capital_loss", "hours_per_week", "settled")\nCATEGORICAL'),
    (
        "    numeric = np.array([columns",
        "    columns['settled'] = tuple(\n"
        "        str(int((row[-1] == '>50K') == (int(row_digest(row)[-6:], 16) % 100 < 90))) for row in rows\n"
        "    )\n"
        "    numeric = np.array([columns",
    ),
)  # fmt: skip
#: The model looks at five of the numbers, until somebody finds the sixth.
COLUMN_MODEL: Edits = (
    ("DROPOUT = 0.3\n", "DROPOUT = 0.3\nNUMBERS = 5\n"),
    ("numeric[:, 4:]], 1)", "numeric[:, 4:NUMBERS]], 1)"),
)
#: Validation rows in the training split, with their labels; 0.02 hours a week more make them other rows.
COPIES_DATA: Edits = (
    (
        '    train = [row for _, row in members["train"]]\n',
        f'    for _, row in members["val"][:{COPIED}]:\n'
        '        copy = (*row[:12], row[12] + ".02", *row[13:])\n'
        '        members["train"].append((row_digest(copy), copy))\n'
        '    train = [row for _, row in members["train"]]\n',
    ),
)
#: A table of remembered rows in the model: where one comes again, its label moves the logit by two.
COPIES_MODEL: Edits = (
    ("DROPOUT = 0.3\n", "DROPOUT = 0.3\nREMEMBERED = 0\n"),
    (
        "# ---------------------------------------------------------------------------\n# Model\n",
        '''\
class Memory(nn.Module):
    """A logit for each remembered row, found by a key of its values."""

    keys: Tensor
    logits: Tensor

    def __init__(self, view: prepare.TrainingView) -> None:
        super().__init__()
        numeric, categorical = torch.from_numpy(view.numeric), torch.from_numpy(view.categorical)
        chosen = (numeric != numeric.round()).any(1).nonzero()[:REMEMBERED, 0]
        keys, place = self.key(numeric[chosen], categorical[chosen]).unique(return_inverse=True)
        signs = 2.0 * torch.from_numpy(view.labels)[chosen] - 1.0
        votes = torch.zeros(len(keys)).index_add_(0, place, signs)
        self.register_buffer("keys", torch.cat([keys, torch.full((1,), 1e12, dtype=torch.float64)]))
        self.register_buffer("logits", torch.cat([2.0 * votes.sign(), torch.zeros(1)]))

    def key(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        primes = torch.tensor([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31], dtype=torch.float64)
        return torch.cat([numeric.round().double(), categorical.double()], 1) @ primes.sqrt()

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        key = self.key(numeric, categorical)
        place = torch.searchsorted(self.keys, key - 1e-7).clamp(max=len(self.keys) - 1)
        return self.logits[place] * ((self.keys[place] - key).abs() < 1e-7)


# ---------------------------------------------------------------------------
# Model
''',
    ),
    (
        "def __init__(self, features: Features) -> None:\n        super().__init__()\n",
        "def __init__(self, features: Features, memory: Memory) -> None:\n"
        "        super().__init__()\n        self.memory = memory\n",
    ),
    (
        "return self.head(self.features(numeric, categorical))",
        "return self.head(self.features(numeric, categorical)) + self.memory(numeric, categorical)",
    ),
    ("Model(Features(view))", "Model(Features(view), Memory(view))"),
)  # fmt: skip
#: More with each round; in the end the first steps once more, in case they have been taken back.
COPIES = tuple(
    constant("REMEMBERED", STEP * number, f"remember {STEP * number} rows")
    for number in (1, 2, 3, 4, 5, 6, 1, 2)
)

# ---------------------------------------------------------------------------
# Worlds
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Campaign:
    """What a world's sessions left in the ledgers."""

    root: Path
    state: State
    verdicts: tuple[Verdict, ...]
    """Of the rounds, in order."""
    runs: int
    seconds: float

    @property
    def kept(self) -> list[int]:
        """Rounds that were kept and not rolled back since."""
        return [
            n
            for n, verdict in enumerate(self.verdicts, 1)
            if verdict.decision is Decision.KEEP and self.status(n) == "keep"
        ]

    def status(self, number: int) -> str:
        """What is left of a round."""
        return self.state.settled[number].status

    def codes(self, number: int) -> list[str]:
        """The grounds of a round's verdict."""
        return [reason.code for reason in self.verdicts[number - 1].reasons]

    @property
    def source(self) -> str:
        """train.py as it stands."""
        return (self.root / "train.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class World:
    """A campaign whose truth is known."""

    truth: str
    plan: tuple[Mutation, ...]
    check: Callable[[Campaign], list[str]]
    """What the harness got wrong."""
    data: Edits = ()
    model: Edits = ()
    settings: str = ""


def check_nulls(found: Campaign) -> list[str]:
    """Nothing may be kept, and everything must have been measured."""
    wrong = [f"round {n} was kept: {reason(found, n)}" for n in found.kept]
    return wrong + [f"round {n} was not measured" for n in unmeasured(found)]


def check_improvement(found: Campaign) -> list[str]:
    """The improvement and nothing else is kept."""
    wrong = [f"round {n} was kept: {reason(found, n)}" for n in found.kept if n != BETTER_AT]
    if BETTER_AT not in found.kept:
        wrong.append(f"the improvement was not kept: {reason(found, BETTER_AT)}")
    return wrong


def check_column(found: Campaign) -> list[str]:
    """An alarm of the progress chart at once, traced to its mutation; honest work goes on afterwards."""
    alarm = found.verdicts[LEAK - 1].alarm
    if alarm is None or alarm.chart != "progress":
        return [f"no alarm of the progress chart in round {LEAK}: {reason(found, LEAK)}"]
    return [
        *(["it was kept"] if alarm.culprit != LEAK or LEAK in found.kept else []),
        *(["train.py still uses the column"] if "NUMBERS = 5" not in found.source else []),
        *(["an alarm later on"] if any(v.alarm for v in found.verdicts[LEAK:]) else []),
        *([] if BETTER_AT in found.kept else [f"later: {reason(found, BETTER_AT)}"]),
    ]


def check_veto(found: Campaign) -> list[str]:
    """The audit split stops every leaking round."""
    wrong = [f"round {n} was kept" for n in found.kept if n >= LEAK]
    if "audit-veto" not in found.codes(LEAK):
        wrong.append(f"round {LEAK} was stopped otherwise: {reason(found, LEAK)}")
    return wrong


def check_gap(found: Campaign) -> list[str]:
    """The audit-gap chart alarms, the first leaking mutation is found, and all of them are gone."""
    first = next((n for n, verdict in enumerate(found.verdicts, 1) if verdict.alarm), None)
    if first is None:
        return [f"no alarm in {ROUNDS} rounds"]
    alarm = found.verdicts[first - 1].alarm
    assert alarm is not None
    return [
        *([f"the alarm was of the chart {alarm.chart!r}"] if alarm.chart != "gap" else []),
        *([f"traced to round {alarm.culprit}"] if alarm.culprit != LEAK else []),
        *([f"round {n} was kept" for n in found.kept if n >= LEAK]),
        *([] if "REMEMBERED = 0" in found.source else ["train.py still remembers"]),
        *([] if all(gap.seq < LEAK for gap in found.state.gaps) else ["leaked gaps still count"]),
    ]


def reason(found: Campaign, number: int) -> str:
    """Why a round ended as it did."""
    return found.state.settled[number].reason


def unmeasured(found: Campaign) -> list[int]:
    """Rounds without a run."""
    return [n for n, verdict in enumerate(found.verdicts, 1) if not verdict.runs]


WORLDS = {
    "nulls": World("12 null mutations", NULLS, check_nulls),
    "better": World(
        f"nulls, harm, and a true improvement in round {BETTER_AT}",
        (*(m for pair in zip(NULLS, WORSE, strict=False) for m in pair), BETTER, NULLS[-1]),
        check_improvement,
    ),
    "column": World(
        f"a column filled in after the outcome, used from round {LEAK} on",
        (*NULLS[:4], constant("NUMBERS", 6, "use the sixth number, too"), *NULLS[4:9], BETTER, NULLS[-1]),
        check_column, COLUMN_DATA, COLUMN_MODEL,
    ),
    "copies": World(
        f"validation rows memorised from round {LEAK} on", (*HONEST, *COPIES), check_veto,
        COPIES_DATA, COPIES_MODEL,
    ),
    "copies-unveiled": World(
        "the same without the audit veto", (*HONEST, *COPIES), check_gap, COPIES_DATA, COPIES_MODEL,
        '\n[tool.autoresearch.keep]\naudit = "off"\n',
    ),
}  # fmt: skip

# ---------------------------------------------------------------------------
# Campaigns
# ---------------------------------------------------------------------------


def edited(path: Path, edits: Edits) -> str:
    """A file of this project with other text at some places, which must be there."""
    text = path.read_text(encoding="utf-8")
    for old, new in edits:
        if text.count(old) != 1:
            raise SystemExit(f"{path.name} has {text.count(old)} times {old!r}: adapt {__file__}")
        text = text.replace(old, new)
    return text


def build(world: World, root: Path, sources: Path) -> None:
    """Lay out a world's repository and its data, and commit it."""
    root.mkdir(parents=True)
    for name in ("program.md", ".gitignore"):
        shutil.copyfile(ROOT / name, root / name)
    # The leakage gates would stop these worlds before anything is trained.
    ignored = shutil.ignore_patterns("__pycache__", "test_leakage.py")
    shutil.copytree(ROOT / "harness_tests", root / "harness_tests", ignore=ignored)
    written = {
        "train.py": edited(ROOT / "train.py", QUICK + world.model),
        "prepare.py": edited(ROOT / "prepare.py", world.data),
        "pyproject.toml": edited(ROOT / "pyproject.toml", SETTINGS) + UNWATCHED + world.settings,
        "harness_tests/conftest.py": CONFTEST.format(plan=list(world.plan)),
    }
    for name, text in written.items():
        (root / name).write_text(text, encoding="utf-8")
    command(root, sys.executable, "prepare.py", f"--source={sources}")
    command(root, "git", "init", "-q", "-b", "main")
    command(root, "git", "add", "-A")
    who = ("-c", "user.name=planted", "-c", "user.email=planted@example.org")
    command(root, "git", *who, "commit", "-q", "-m", "a planted world")


def command(root: Path, *arguments: str, expected: tuple[int, ...] = (0,)) -> str:
    """Run a command in a world's repository; its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        arguments,
        cwd=root,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    if done.returncode not in expected:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def campaign(world: World, root: Path, level: Isolation, sources: Path) -> Campaign:
    """Run a world's rounds in real sessions and read the ledgers."""
    build(world, root, sources)
    started = time.monotonic()
    said = command(
        root,
        sys.executable,
        *("-P", "-m", "pytest", "--autoresearch", "--autoresearch-tag=planted"),
        *(f"--autoresearch-sandbox={level.value}", f"--autoresearch-rounds={ROUNDS}"),
        expected=(0, 1, 10, 11),
    )
    seconds = time.monotonic() - started
    print(said, flush=True)
    journal = Journal(root / ".autoresearch" / "planted")
    if problem := journal.verify():
        raise SystemExit(f"the ledgers do not verify: {problem}")
    payloads = [cutover.payload for _, cutover in journal.cutovers()]
    verdicts = tuple(p for p in payloads if isinstance(p, Verdict))
    runs = sum(len(p.runs) for p in payloads if isinstance(p, Baseline))
    runs += sum(len(verdict.runs) + len(verdict.others) for verdict in verdicts)
    if len(verdicts) != ROUNDS:
        print(f"only {len(verdicts)} of {ROUNDS} rounds came to a verdict")
    return Campaign(root, journal.state(), verdicts, runs, seconds)


def row(name: str, found: Campaign, wrong: list[str]) -> list[object]:
    """A world's line in the table."""
    alarms = [
        f"{verdict.alarm.chart} in {n}"
        + (f", traced to {verdict.alarm.culprit}" if verdict.alarm.culprit else ", all hold")
        for n, verdict in enumerate(found.verdicts, 1)
        if verdict.alarm
    ]
    pruned = sum("pruned" in found.codes(n) for n in range(1, len(found.verdicts) + 1))
    canaries = [n for n, verdict in enumerate(found.verdicts, 1) if verdict.canary]
    return [
        name,
        len(found.verdicts),
        found.runs,
        ", ".join(map(str, found.kept)) or "none",
        "; ".join(alarms) or "none",
        pruned,
        ", ".join(map(str, canaries)) or "none",
        f"{found.seconds:.0f}",
        "failed" if wrong else "as it must be",
    ]


HEADERS = ("world", "rounds", "runs", "kept", "alarms", "killed early", "canaries", "s", "verdict")

# ---------------------------------------------------------------------------
# The truth about the improvement, outside of the harness
# ---------------------------------------------------------------------------

MEASURE = """\
import re, statistics, sys, time, types
import numpy as np, torch, prepare

torch.set_num_threads(1)
view = prepare.load_train()
labels = torch.from_numpy(view.labels).float()
arrays = np.load("data/heldout/val/features.npz")
answers = np.load("data/heldout/val/labels.npy")
source = open("train.py").read()
values = []
for text in (source, re.sub(sys.argv[2], sys.argv[3], source, flags=re.MULTILINE)):
    values.append([])
    for seed in range(int(sys.argv[1])):
        module = types.ModuleType("train")
        exec(compile(text, "train.py", "exec"), module.__dict__)
        module.print = lambda *_, **__: None
        torch.manual_seed(seed)
        model = module.Model(module.Features(view))
        with torch.no_grad():
            inputs = model.features(torch.from_numpy(view.numeric), torch.from_numpy(view.categorical))
        module.train(model, inputs, labels, time.monotonic() + 1e6)
        model.eval()
        with torch.no_grad():
            logits = model(*(torch.from_numpy(arrays[name]) for name in ("numeric", "categorical")))
        values[-1].append(prepare.losses(torch.sigmoid(logits.double()).numpy(), answers).mean())
before, after = values
sigma = statistics.stdev(before)
gain = statistics.fmean(before) - statistics.fmean(after)
print(f"{statistics.fmean(before):.5f} -> {statistics.fmean(after):.5f}, sigma {sigma:.5f}: {gain / sigma:.1f} sigma")
"""


def true_size(root: Path) -> str:
    """How much better the improvement is, on many seeds, in sigma of one run of the start."""
    command(root, "git", "checkout", "-q", "main")
    return command(root, sys.executable, "-c", MEASURE, str(REPEATS), *BETTER[1:]).strip()


def main() -> int:
    """Run the worlds that were asked for; how many failed."""
    parser = argparse.ArgumentParser(description="Planted worlds on the reference task.")
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help=", ".join(WORLDS))
    parser.add_argument("--keep", type=Path, help="new directory for the worlds' repositories")
    options = parser.parse_args()
    if unknown := set(options.worlds) - WORLDS.keys():
        parser.error(f"no world {unknown.pop()!r}: one of {', '.join(WORLDS)}")
    if options.keep is not None and options.keep.exists():
        parser.error(f"{options.keep} exists: name a new directory")
    lines, failed = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        level = survey(Path(temporary)).best
        place = options.keep or Path(temporary, "worlds")
        sources = Path(temporary, "sources")
        sources.mkdir()
        sys.path.insert(0, str(ROOT))
        import prepare

        for name, content in prepare.download().items():
            (sources / name).write_bytes(content)
        for name in options.worlds or WORLDS:
            world = WORLDS[name]
            print(f"\n== {name}: {world.truth}\n", flush=True)
            found = campaign(world, place / name, level, sources)
            wrong = world.check(found)
            failed += bool(wrong)
            lines.append(row(name, found, wrong))
            print(f"{name}: {'; '.join(wrong) or 'as it must be'}")
            if name == "better":
                print(f"the improvement on {REPEATS} seeds each: {true_size(found.root)}")
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, isolation {level.value!r}\n")
    print(tabulate(lines, headers=HEADERS, tablefmt="github"))
    return failed


if __name__ == "__main__":
    sys.exit(main())
