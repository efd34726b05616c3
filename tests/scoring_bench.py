"""
One model, trained and scored for real: two tasks whose artifacts carry code, without a session around them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pytest_autoresearch.evaluation import evaluate
from pytest_autoresearch.records import RunRequest, RunResult, RunStatus
from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.scoring import Scoring
from pytest_autoresearch.scratch import Scratch
from pytest_autoresearch.settings import Audit, Run, Settings
from pytest_autoresearch.task import Task
from pytest_autoresearch.training import Trainer

TESTS = Path(__file__).parent
OFF = Audit(rows=0, prefixes=0)
#: As in a session: both are scored in one pass.
SPLITS = ("val", "audit")

#: The toy task with an artifact that carries code, as the sequence task's does.
TABULAR = """

import inspect


def save_model(predict, **weights):
    program = np.frombuffer(inspect.getsource(predict).encode(), dtype=np.uint8)
    with (Path(os.environ["AUTORESEARCH_OUT"]) / "model.npz").open("wb") as file:
        np.savez(file, program=program, **weights)


def score(artifact, features):
    with np.load(artifact, allow_pickle=False) as archive:
        weights = {name: archive[name] for name in archive.files}
    space = {"np": np}
    exec(weights.pop("program").tobytes().decode(), space)
    return space["predict"](features["x"], weights)
"""
TABULAR_TRAIN = """
import numpy as np

from prepare import load_train, save_model


def predict(x, weights):
    return 1 / (1 + np.exp(-(x @ weights["w"])))


def main():
    x, y = load_train()
    w = np.zeros(4)
    for _ in range(200):
        w -= 0.5 * x.T @ (1 / (1 + np.exp(-(x @ w))) - y) / len(x)
    save_model(predict, w=w)


if __name__ == "__main__":
    main()
"""


class Bench:
    """A task with its data and an honest train.py."""

    def __init__(self, root: Path, train: str, metric: str) -> None:
        self.root = root
        self.task = Task(root)
        self.train = train
        self.metric = metric

    @classmethod
    def sequence(cls, root: Path) -> Bench:
        """The next byte of sentences."""
        root.mkdir()
        shutil.copyfile(TESTS / "sequence" / "prepare.py", root / "prepare.py")
        return cls(root, (TESTS / "sequence" / "train.py").read_text(), "val_bpb").prepared()

    @classmethod
    def tabular(cls, root: Path) -> Bench:
        """One probability a row."""
        root.mkdir()
        text = (TESTS / "toy" / "prepare.py").read_text()
        main = 'if __name__ == "__main__":\n    main()\n'
        assert text.endswith(main)
        (root / "prepare.py").write_text(text.removesuffix(main) + TABULAR + main)
        return cls(root, TABULAR_TRAIN, "val_loss").prepared()

    def prepared(self) -> Bench:
        subprocess.run([sys.executable, "prepare.py"], cwd=self.root, check=True)
        return self

    def judge(
        self,
        predict: str | None = None,
        *,
        train: str | None = None,
        audit: Audit = Audit(),  # noqa: B008
        level: Isolation = Isolation.NONE,
        score_seconds: float = 60.0,
    ) -> float:
        """
        The metric of a model with another ``predict``, or of another train.py.

        :raises ScoringError: it cannot be scored or is not believed.
        """
        settings = self.settings(audit, score_seconds)
        with Scratch(self.root / "tmp") as scratch:
            run = self.trained(settings, scratch, predict, train=train, level=level)
            with Scoring(settings, self.task, level).warm(scratch.fresh("scoring")) as scorers:
                predictions = scorers.score(run, SPLITS)
        found = evaluate(self.task, settings, predictions["val"], "val")
        assert found.metric is not None, found.problem
        return found.metric

    def settings(self, audit: Audit = Audit(), score_seconds: float = 60.0) -> Settings:  # noqa: B008
        """The task's settings."""
        return Settings(
            metric=self.metric,
            artifact="model.npz",
            audit=audit,
            run=Run(seconds=30, score_seconds=score_seconds),
        )

    def trained(
        self,
        settings: Settings,
        scratch: Scratch,
        predict: str | None = None,
        *,
        train: str | None = None,
        level: Isolation = Isolation.NONE,
    ) -> RunResult:
        """A finished run of such a train.py."""
        text = train or self.train
        if predict is not None:
            assert text.count("def predict(") == 1
            before, _, after = text.partition("def predict(")
            body, _, rest = after.partition("\ndef ")
            assert "return" in body
            text = before + predict.strip("\n") + "\n\n\ndef " + rest
        request = RunRequest(
            files={"train.py": text.encode()},
            seed=1,
            seconds=30,
            workdir=scratch.fresh("run"),
            device="cpu",
        )
        run = Trainer(settings, self.task, level, scratch).train(request)
        assert run.status is RunStatus.FINISHED, f"{run.reason}\n{run.log_tail}"
        return run
