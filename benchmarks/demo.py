"""
The main job on real data, in a clone of its own: baseline, an idea that is kept, a violation that is halted, rounds.

    make demo

Runs at the best isolation level that this machine has. Leaves your checkout as it is; everything happens in
``demo/``, which the next demo replaces. Made for less than four minutes on two cores; a training run takes some ten
seconds, and how many the rounds need depends on what they propose.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.sandbox.survey import explain, survey

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
#: An edit of train.py whose gain is far beyond the noise of a run.
IDEA = ("LEARNING_RATE = 0.001", "LEARNING_RATE = 0.002")
ROUNDS = 2


def say(text: str) -> None:
    """Print a line of the story."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def run(*command: str, expected: tuple[int, ...] = (0,)) -> int:
    """Show a command, run it in the demo clone, and stop the demo when it ends unexpectedly."""
    shown = ["python" if part == sys.executable else part for part in command]
    print(f"$ {' '.join(shown)}", flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    status = subprocess.run(command, cwd=DEMO, check=False, env=environment).returncode
    if status not in expected:
        raise SystemExit(f"the demo stopped: {' '.join(shown)} ended with status {status}")
    return status


def fresh_clone() -> None:
    """Clone the last commit of this checkout into ``demo/``."""
    if DEMO.exists():
        shutil.rmtree(DEMO)
    done = subprocess.run(
        ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(DEMO)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"the demo needs a git clone of the project: {done.stderr.strip()}")
    # A clone of a detached checkout (CI) has no branch; a campaign starts from one.
    on_branch = subprocess.run(
        ["git", "symbolic-ref", "-q", "HEAD"], cwd=DEMO, check=False, capture_output=True
    )
    if on_branch.returncode:
        subprocess.run(["git", "switch", "--quiet", "-c", "main"], cwd=DEMO, check=True)


def be_patient() -> None:
    """
    Let a run take longer than the project's own 30 s, which beside other work may not even import torch in time.

    Where the machine is idle nothing changes: train.py ends after its epochs.
    """
    path = DEMO / "pyproject.toml"
    settings = path.read_text(encoding="utf-8")
    assert "seconds = 30" in settings
    path.write_text(settings.replace("seconds = 30", "seconds = 120"), encoding="utf-8")
    identity = ("-c", "user.name=demo", "-c", "user.email=demo@localhost")
    message = "A demo has patience"
    subprocess.run(["git", *identity, "commit", "-qam", message], cwd=DEMO, check=True)


def isolation() -> list[str]:
    """The option for the best isolation level that holds here, after saying why it is not the strong one."""
    with tempfile.TemporaryDirectory() as directory:
        found = survey(Path(directory))
    if found.best is Isolation.STRONG:
        return []
    say(f"This machine has no strong isolation; the demo runs at level {found.best.value!r}.")
    print("\n".join(explain(found)))
    if found.best is Isolation.NONE:
        os.environ.pop("CI", None)  # what is kept here is kept in a clone that nobody uses
    return [f"--autoresearch-sandbox={found.best.value}"]


def main() -> None:
    """Tell the story from the data to the sentence."""
    started = time.monotonic()
    pytest = (sys.executable, "-P", "-m", "pytest", "--autoresearch", *isolation())
    fresh_clone()
    be_patient()
    say("1. The data: UCI Adult, checked against its sums, split by content, redacted.")
    run(sys.executable, "prepare.py")

    say("2. The baseline: train.py as it is, through every gate, on four harness seeds.")
    run(*pytest, "--autoresearch-tag=demo")

    say(
        "3. An idea: somebody edits train.py. Kept if it is better on fresh seeds and on the sealed audit split."
    )
    train = DEMO / "train.py"
    assert IDEA[0] in train.read_text(encoding="utf-8")
    train.write_text(train.read_text(encoding="utf-8").replace(*IDEA), encoding="utf-8")
    run(*pytest, expected=(0, 10))

    say("4. A violation: somebody makes the evaluator kinder. Nothing of it is imported.")
    prepare = DEMO / "prepare.py"
    honest = prepare.read_bytes()
    prepare.write_bytes(honest + b"\n\ndef evaluate(*_):\n    return {'val_loss': 0.2}\n")
    run(*pytest, expected=(4,))
    prepare.write_bytes(honest)

    say(f"5. {ROUNDS} rounds with the built-in proposer: propose, judge, keep or revert.")
    run(*pytest, f"--autoresearch-rounds={ROUNDS}", expected=(0, 11))

    say("6. What git has to say.")
    run("git", "--no-pager", "log", "--oneline", "-8")
    print(
        f"\nEverything above took {time.monotonic() - started:.0f} s. Look around in {DEMO.name}/."
    )


if __name__ == "__main__":
    main()
