"""
``autoresearch reproduce``: what was measured can be measured again, and what was not cannot.

Sessions, runs and scoring are real; a forged ledger is resealed, so that its chains hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from project import Project
from provenance import CUTOVER, Campaign

from pytest_autoresearch.cli import main
from pytest_autoresearch.commands import opened
from pytest_autoresearch.distributions import t_quantile
from pytest_autoresearch.measuring import Measurement
from pytest_autoresearch.records import RunResult, RunStatus
from pytest_autoresearch.reports import write_results
from pytest_autoresearch.reproduction import LEVEL, Noise, Rerun, drift, noise_of
from pytest_autoresearch.rows import Baseline, Reference, Run, Verdict

#: What is settled in the template, by position.
BASELINE, KEPT, CRASHED, NOISY = range(4)


@pytest.fixture(scope="module")
def settled_template(
    measured_template: Project, tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """A baseline, a keep, a crash, and a keep whose figure is another one every time."""
    project = measured_template.copy(tmp_path_factory.mktemp("settled") / "project")
    project.edit("STEPS = 60", "STEPS = 90")
    assert project.autoresearch().returncode == 0
    project.edit("x, y = load_train()", "raise SystemExit(3)")
    assert project.autoresearch().returncode == 1
    project.edit("STEPS = 90", "STEPS = 300")
    # As a budget by the clock does it: two runs on one seed differ.
    project.edit(
        "save_model(weights)", "save_model(weights + 1e-4 * np.random.default_rng().normal())"
    )
    assert project.autoresearch().returncode == 0
    return project


@pytest.fixture
def settled(settled_template: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy to be changed."""
    project = settled_template.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    return project


class Said:
    """What a command printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def reproduce(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(seq: int, *arguments: str) -> Said:
        capsys.readouterr()
        status = main(["reproduce", str(seq), *arguments])
        return Said(status, *capsys.readouterr())

    return run


def forge(project: Project, row: int, edit: Callable[[dict[str, object]], None]) -> None:
    """Change a payload and seal both ledgers again; the anchors in the repository are left behind."""

    def change(name: str, seq: int, body: bytes) -> bytes:
        if (name, seq) != (CUTOVER, row):
            return body
        data = json.loads(body)
        edit(data["payload"])
        return json.dumps(data, separators=(",", ":")).encode()

    Campaign(project.root, "main").reseal(change)


def forge_metric(project: Project, row: int, difference: float) -> None:
    """A better figure of every run, and of the finding."""

    def edit(payload: dict[str, object]) -> None:
        for run in payload["runs"]:
            run["metric"] -= difference
        payload["metric"] -= difference

    forge(project, row, edit)


def row_of(project: Project, seq: int) -> int:
    """Number of a settled thing's row in cutover-audit."""
    return Campaign(project.root, "main").journal.state().settled[seq].row


def snapshot(root: Path) -> dict[str, str]:
    """Every file of a project, git's own among them, with its content or target."""
    return {
        path.relative_to(root).as_posix(): (
            str(path.readlink())
            if path.is_symlink()
            else hashlib.sha256(path.read_bytes()).hexdigest()
            if path.is_file()
            else "directory"
        )
        for path in root.rglob("*")
    }


# ---- what was measured


def test_an_honest_keep_reproduces_to_the_bit_and_nothing_is_touched(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    settled.edit("STEPS = 300", "STEPS = 7")  # an edit that nobody has judged stays as it is
    before = snapshot(settled.root)
    said = reproduce(KEPT)
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert [line.split()[-5:] for line in lines[1:-1]] == [
        ["same", "yes,", "bit", "for", "bit"]
    ] * 2
    assert lines[-1] == "REPRODUCED: val_loss of 1 holds on 2 of 2 recorded seeds"
    assert snapshot(settled.root) == before


def test_a_baseline_reproduces_and_one_run_may_be_enough(
    settled: Project, reproduce: Callable[..., Said], level: str
) -> None:
    said = reproduce(BASELINE, "--runs", "1", "--sandbox", level)
    assert said.status == 0, said.err
    assert f"note: recorded at isolation UNSANDBOXED, here {level}" in said.out
    assert "holds on 1 of 1 recorded seeds" in said.out
    assert "bit for bit" in said.out


def test_a_crash_reproduces_as_a_crash(settled: Project, reproduce: Callable[..., Said]) -> None:
    said = reproduce(CRASHED)
    assert said.status == 0, said.err
    assert "no metric then: crash: exit status 3" in said.out
    forge(settled, row_of(settled, CRASHED), _finished)
    said = reproduce(CRASHED)
    assert said.status == 1
    assert "NOT REPRODUCED: val_loss of 2 holds on 0 of 1 recorded seeds" in said.out


def _finished(payload: dict[str, object]) -> None:
    for run in payload["runs"]:
        run |= {"status": "finished", "metric": 0.4}
    payload["metric"] = 0.4


def test_a_run_that_never_repeats_itself_is_judged_by_the_noise(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    said = reproduce(NOISY)
    assert said.status == 0, said.err
    assert said.out.count("yes, within the noise, <= ") == 2
    assert "noise: |difference| <= " in said.out
    assert "bit for bit" not in said.out


def test_the_harness_of_that_time_judges(settled: Project, reproduce: Callable[..., Said]) -> None:
    settled.edit('"val_loss": float(loss)', '"val_loss": float(loss) / 2', "prepare.py")
    settled.commit("another measure")
    assert main(["ratify", "--reason", "halves are easier to read"]) == 0
    said = reproduce(KEPT, "--runs", "1")
    assert said.status == 0, said.err
    assert "bit for bit" in said.out
    # Nor does another one that was ratified: it is not what stands in the restore point.
    tree = settled.git("rev-parse", "HEAD^{tree}")
    forge(settled, row_of(settled, KEPT), lambda payload: payload.update(harness_tree=tree))
    said = reproduce(KEPT)
    assert (said.status, said.out) == (2, "")
    assert "is not what the rows say" in said.err


def test_a_run_that_was_stopped_early_has_no_figure_to_hold(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    def pruned(payload: dict[str, object]) -> None:
        payload["runs"] = [{**run, "status": "pruned"} for run in payload["runs"]]

    forge(settled, row_of(settled, CRASHED), pruned)
    said = reproduce(CRASHED)
    assert (said.status, said.out) == (2, "")
    assert "stopped early, so that it has no metric on record" in said.err


# ---- what was not


def test_a_forged_metric_is_not_reproduced_however_small_the_forgery(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    forge_metric(settled, row_of(settled, KEPT), 1e-9)
    # The chains hold: that the figure is false no reader of the ledgers can know.
    journal = Campaign(settled.root, "main").journal
    assert journal.verify() is None
    said = reproduce(KEPT)
    assert said.status == 1
    assert (
        said.out.count("NO, bit for bit: it repeats itself here, and differs from the record") == 2
    )
    assert said.out.endswith("NOT REPRODUCED: val_loss of 1 holds on 0 of 2 recorded seeds\n")


def test_bits_are_not_compared_across_machines(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    row = row_of(settled, KEPT)
    forge(settled, row, lambda payload: payload["versions"].update(processor="another"))
    forge_metric(settled, row, 1e-9)
    said = reproduce(KEPT, "--runs", "1")
    assert said.status == 0
    assert "note: another machine: recorded processor another, here " in said.out
    assert "yes, within the noise" in said.out
    forge_metric(settled, row, 0.1)
    said = reproduce(KEPT, "--runs", "1")
    assert said.status == 1
    assert "NO, within the noise" in said.out


def test_another_candidate_under_the_same_row_is_not_run(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    payload = settled.cutovers()[KEPT]
    settled.git("update-ref", payload["snapshot"], settled.cutovers()[BASELINE]["snapshot"])
    said = reproduce(KEPT)
    assert (said.status, said.out) == (2, "")
    assert "is not the one that was judged" in said.err
    settled.git("update-ref", "-d", payload["snapshot"])
    said = reproduce(KEPT)
    assert said.status == 2
    assert f"the candidate is not pinned: {payload['snapshot']} is gone" in said.err


def test_a_restore_point_that_is_gone_is_named(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    commit = settled.cutovers()[KEPT]["commit_before"]
    settled.git("update-ref", "-d", f"refs/autoresearch/main/restore/{commit}")
    said = reproduce(KEPT)
    assert said.status == 2
    assert "the restore point" in said.err


def test_a_harness_that_nobody_ratified_does_not_judge(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    tree = settled.git("rev-parse", "HEAD:harness_tests")
    forge(settled, row_of(settled, KEPT), lambda payload: payload.update(harness_tree=tree))
    said = reproduce(KEPT)
    assert said.status == 2
    assert f"tree {tree[:12]}, was never ratified" in said.err


def test_other_data_cannot_say_anything(settled: Project, reproduce: Callable[..., Said]) -> None:
    labels = settled.root / "data/train/labels.npy"
    content = labels.read_bytes()
    labels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = reproduce(KEPT)
    assert (said.status, said.out) == (2, "")
    assert "the data differ from those recorded: data/train/labels.npy does not match" in said.err
    labels.write_bytes(content)
    manifest = settled.root / "data/manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    said = reproduce(KEPT)
    assert (said.status, said.out) == (2, "")
    assert "the manifest of 'data' is " in said.err


def test_the_device_must_be_the_recorded_one(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    def elsewhere(payload: dict[str, object]) -> None:
        for run in payload["runs"]:
            run["device"] = "tpu"

    forge(settled, row_of(settled, KEPT), elsewhere)
    said = reproduce(KEPT)
    assert said.status == 2
    assert "it ran on device 'tpu', and this is '" in said.err


def test_a_number_that_nothing_has_is_refused(
    settled: Project, reproduce: Callable[..., Said]
) -> None:
    said = reproduce(9)
    assert (said.status, said.out) == (2, "")
    assert "SEQ is 0 to 3, as `autoresearch log`" in said.err


def test_a_damaged_ledger_is_no_record(settled: Project, reproduce: Callable[..., Said]) -> None:
    path = settled.root / ".autoresearch/main/cutover-audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"status":"keep"', b'"status":"kept"', 1))
    said = reproduce(KEPT)
    assert said.status == 2
    assert "cutover-audit.jsonl, line 2" in said.err


# ---- the rule


def test_the_bound_is_students_for_two_draws() -> None:
    noise = Noise(sigma=0.01, df=5, comparisons=1)
    assert noise.bound() == pytest.approx(t_quantile(1 - LEVEL / 2, 5) * 0.01 * math.sqrt(2))
    assert noise.bound(4) == pytest.approx(noise.bound() / 2)
    assert Noise(0.01, 5, 3).bound() > noise.bound()


def test_an_honest_finding_is_reproduced_as_often_as_promised() -> None:
    draw = random.Random(7)
    trials, failed = 4000, 0
    for _ in range(trials):
        sigma = statistics.stdev(draw.gauss(0, 1) for _ in range(6))
        noise = Noise(sigma, 5, comparisons=4)
        differences = [draw.gauss(0, 1) - draw.gauss(0, 1) for _ in range(3)]
        failed += any(abs(d) > noise.bound() for d in differences) or (
            abs(statistics.fmean(differences)) > noise.bound(3)
        )
    # At most LEVEL, and not far below it: a bound that everything meets would be none.
    assert 0.002 < failed / trials <= LEVEL


def test_runs_may_hold_one_by_one_and_not_together() -> None:
    noise = Noise(sigma=1.0, df=30, comparisons=5)
    off = 0.8 * noise.bound()

    def reruns(*differences: float) -> list[Rerun]:
        return [
            Rerun(run_row(0.0), measured(d), True, "within the noise, <= 5") for d in differences
        ]

    assert drift(reruns(off, -off, off, -off), noise) == ""
    assert "on average they are +" in drift(reruns(off, off, off, off), noise)
    assert drift(reruns(off), noise) == ""
    assert drift(reruns(off, off, off, off), None) == ""


def measured(metric: float) -> Measurement:
    run = RunResult(
        status=RunStatus.FINISHED, reason="", seed=1, seconds=1.0, budget_seconds=1.0, artifact=None, artifact_sha256="",
        returncode=0, peak_memory_mb=1.0, device="cpu", isolation="none",
    )  # fmt: skip
    return Measurement(run, metric, "")


def run_row(metric: float | None) -> Run:
    return Run(
        seed=1, status=RunStatus.FINISHED, reason="", metric=metric, seconds=1.0, budget_seconds=1.0,
        peak_memory_mb=1.0, artifact_sha256="", device="cpu", isolation="none",
    )  # fmt: skip


def test_a_candidates_own_scatter_counts_where_it_is_larger(settled_template: Project) -> None:
    row = settled_template.cutovers()[KEPT]
    verdict = msgspec.convert(row, Verdict)
    before = Reference(mean=0.5, sigma=0.001, n=4, df=3)
    calm = msgspec.structs.replace(verdict, before=before, runs=(run_row(0.5), run_row(0.5001)))
    assert noise_of(calm, 3) == Noise(0.001, 3, 3)
    wild = msgspec.structs.replace(calm, runs=(run_row(0.4), run_row(0.5)))
    found = noise_of(wild, 3)
    assert found is not None
    assert found.sigma == pytest.approx(statistics.stdev([0.4, 0.5]))
    assert found.df == 1
    unmeasured = Reference(mean=None, sigma=None, n=0)
    assert noise_of(msgspec.structs.replace(verdict, before=unmeasured), 1) is None
    baseline = msgspec.convert(settled_template.cutovers()[BASELINE], Baseline)
    of_baseline = noise_of(baseline, 1)
    assert of_baseline is not None
    assert of_baseline.sigma == baseline.after.sigma


# ---- what is derived


def test_results_are_derived_from_the_ledger_whatever_stands_in_their_file(
    settled: Project,
) -> None:
    path = settled.root / "results.tsv"
    before = path.read_bytes()  # as the last session left it
    assert before.count(b"\n") == 5
    for damage in (path.unlink, lambda: path.write_bytes(before[:50] + b"\0\xff" + before[70:])):
        damage()
        with opened.campaign(argparse.Namespace(tag=None)) as campaign:  # what `report` does
            write_results(campaign)
        assert path.read_bytes() == before
