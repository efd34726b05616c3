"""The stock verdict on real evidence, branch by branch, and the progress chart it looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_autoresearch.candidate import make_candidate
from pytest_autoresearch.charts import ProgressChart
from pytest_autoresearch.config import load_settings
from pytest_autoresearch.gain import ignores_seeds, reference_of
from pytest_autoresearch.keep import Reference
from pytest_autoresearch.mutation import classify
from pytest_autoresearch.records import (
    Decision,
    Evidence,
    GateResult,
    Incumbent,
    Kept,
    Measured,
    Outcome,
    RunResult,
    RunStatus,
    Stage,
    Verdict,
    Watch,
)
from pytest_autoresearch.settings import Charts, Settings
from pytest_autoresearch.verdicts import (
    EXIT,
    NOT_RUN,
    decide_verdict,
    failed_verdict,
    incomplete_verdict,
)

SETTINGS = load_settings("[tool.autoresearch.keep]\nbaseline = 3\nconfirm = 2\n")
BEFORE = {"train.py": b"STEPS = 1\n"}
AFTER = {"train.py": b"STEPS = 2\n"}
INCUMBENT = Incumbent("c" * 40, "d" * 64, metric=0.5, sigma=0.01, n=4, df=3)
UNMEASURED = replace(INCUMBENT, metric=None, sigma=None, n=0, df=0)
PASSED = GateResult("g::test_ok", Stage.POST, Outcome.PASSED)


def run(status: RunStatus = RunStatus.FINISHED, reason: str = "finished") -> RunResult:
    finished = status is RunStatus.FINISHED
    return RunResult(
        status=status,
        reason=reason,
        seed=1,
        seconds=1.0,
        budget_seconds=2.0,
        artifact=Path("model.pt2") if finished else None,
        artifact_sha256="0" * 64 if finished else "",
        returncode=0 if finished else 1,
        peak_memory_mb=1.0,
        device="cpu",
        isolation="none",
    )


def draws(
    values: Iterable[float | None], audits: Iterable[float | None] | None = None
) -> dict[str, object]:
    """Further runs with these figures; asking for one more than there are is an error."""
    left = iter(values)
    sealed = None if audits is None else iter(audits)

    def seeds(n: int) -> list[Measured]:
        return [Measured(next(left), None if sealed is None else next(sealed)) for _ in range(n)]

    return {"measure_seeds": seeds, "measure": lambda: seeds(1)[0].metric}


def refuses(*_: object) -> list[Measured]:
    raise AssertionError("nobody may ask for another run")


def evidence(**changes: object) -> Evidence:
    base = Evidence(
        candidate=make_candidate(AFTER, "a test"),
        mutation=classify(BEFORE, AFTER),
        gates=(PASSED,),
        complete=True,
        run=run(),
        metric=0.5,
        problem="",
        audit=None,
        seq=1,
        incumbent=INCUMBENT,
        watch=Watch(horizon=20),
        kept=(Kept(0, "baseline", INCUMBENT, whole=True),),
        rerun=refuses,
        **draws(()),  # type: ignore[arg-type]
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def decide(settings: Settings = SETTINGS, **changes: object) -> Verdict:
    return decide_verdict(evidence(**changes), settings)


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]


# -- gates ---------------------------------------------------------------------


def gate(name: str, outcome: Outcome, message: str = "") -> GateResult:
    return GateResult(f"g::{name}", Stage.MID, outcome, message)


def test_a_failed_gate_comes_before_its_consequences_and_nothing_is_measured() -> None:
    verdict = decide(
        complete=False,
        metric=0.1,
        gates=(
            gate("skips", Outcome.SKIPPED, "no data"),
            gate("fails", Outcome.FAILED, "too unfair"),
            gate("later", Outcome.SKIPPED, f"{NOT_RUN} a mid-loop gate failed"),
            PASSED,
        ),
    )
    assert verdict.decision is Decision.REVERT
    assert codes(verdict) == ["gate-failed", "gate-skipped", "gates-not-run"]
    assert [reason.message for reason in verdict.reasons] == [
        "g::fails failed: too unfair",
        "g::skips skipped: no data",
        "1 later gate did not run",
    ]
    assert (verdict.status, verdict.exit_status) == ("gate", 1)


def test_gates_that_did_not_run_are_counted() -> None:
    later = [gate(f"later{i}", Outcome.SKIPPED, f"{NOT_RUN} x") for i in range(3)]
    verdict = decide(complete=False, gates=(gate("errs", Outcome.ERROR), *later))
    assert [reason.message for reason in verdict.reasons] == [
        "g::errs error",
        "3 later gates did not run",
    ]


def test_a_gate_that_only_claims_not_to_have_run_is_named() -> None:
    verdict = decide(complete=False, gates=(gate("x", Outcome.SKIPPED, f"{NOT_RUN} says I"),))
    assert codes(verdict) == ["gate-skipped"]
    assert "g::x skipped: not run: says I" in verdict.reasons[0].message


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.PASSED])
def test_every_outcome_but_passed_is_a_reason(outcome: Outcome) -> None:
    verdict = decide(complete=False, gates=(PASSED, gate("x", outcome)))
    assert codes(verdict) == [f"gate-{outcome.value}"]
    assert verdict.decision is Decision.REVERT


def test_no_gates_is_a_reason_of_its_own() -> None:
    verdict = decide(complete=False, gates=())
    assert codes(verdict) == ["no-gates"]
    assert verdict.decision is Decision.REVERT


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (RunStatus.TIMEOUT, "killed at the limit"),
        (RunStatus.CRASHED, "exit status 1"),
        (RunStatus.NO_ARTIFACT, "no model.pt2"),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_run_without_a_metric_is_named_first_and_counts_as_a_crash(
    status: RunStatus, reason: str, complete: bool
) -> None:
    gates = (PASSED,) if complete else (gate("post", Outcome.FAILED, reason),)
    verdict = decide(
        complete=complete, gates=gates, run=run(status, reason), metric=None, problem=reason
    )
    assert codes(verdict) == [status.value] + ([] if complete else ["gate-failed"])
    assert verdict.reasons[0].message == reason
    assert (verdict.decision, verdict.status, verdict.exit_status) == (Decision.REVERT, "crash", 1)


def test_a_metric_that_is_not_valid_is_a_reason_of_its_own() -> None:
    verdict = decide(metric=None, problem="val_loss = nan is not finite")
    assert codes(verdict) == ["no-metric"]
    assert verdict.reasons[0].message == "val_loss = nan is not finite"
    assert codes(decide(metric=None, run=None)) == ["no-metric"]


# -- baseline and no change ----------------------------------------------------


def test_the_baseline_is_measured_on_as_many_seeds_as_configured() -> None:
    same = classify(BEFORE, BEFORE)
    verdict = decide(incumbent=UNMEASURED, mutation=same, **draws([0.51, 0.49]))
    assert (verdict.decision, codes(verdict)) == (Decision.KEEP, ["baseline"])
    assert "3 runs on harness seeds" in verdict.reasons[0].message
    assert (verdict.status, verdict.exit_status) == ("keep", 0)


def test_a_baseline_that_fails_once_is_none() -> None:
    same = classify(BEFORE, BEFORE)
    verdict = decide(incumbent=UNMEASURED, mutation=same, **draws([0.51, None]))
    assert (verdict.decision, codes(verdict)) == (Decision.REVERT, ["baseline-failed"])
    assert (verdict.status, verdict.exit_status) == ("crash", 1)


def test_a_mutation_never_becomes_the_baseline_of_an_incumbent_that_cannot_be_measured() -> None:
    verdict = decide(incumbent=UNMEASURED)
    assert (verdict.decision, codes(verdict)) == (Decision.REVERT, ["baseline-failed"])
    assert "commit a train.py that runs" in verdict.reasons[0].message
    assert verdict.exit_status == 1


def test_the_incumbent_as_it_is_changes_nothing_however_lucky_the_seed() -> None:
    verdict = decide(mutation=classify(BEFORE, BEFORE), metric=0.3)
    assert (verdict.decision, codes(verdict)) == (Decision.UNCHANGED, ["unchanged"])
    assert "val_loss 0.300000 on a fresh seed" in verdict.reasons[0].message
    assert verdict.exit_status == 0


# -- gain ----------------------------------------------------------------------


def test_a_confirmed_gain_is_kept_and_no_more_seeds_are_drawn_than_needed() -> None:
    verdict = decide(metric=0.46, **draws([0.459, 0.461]))
    assert (verdict.decision, codes(verdict)) == (Decision.KEEP, ["gain", "cusum-silent"])
    assert "better on 2 fresh runs" in verdict.reasons[0].message
    assert "step +8.3%" in verdict.reasons[1].message
    assert (verdict.status, verdict.exit_status) == ("keep", 0)


@pytest.mark.parametrize("metric", [0.5, 0.496, 0.6])
def test_a_gain_within_the_noise_is_discarded_without_another_run(metric: float) -> None:
    verdict = decide(metric=metric)
    assert (verdict.decision, codes(verdict)) == (Decision.REVERT, ["no-gain"])
    assert (verdict.status, verdict.exit_status) == ("discard", 10)


def test_a_lucky_screening_run_is_not_confirmed() -> None:
    verdict = decide(metric=0.46, **draws([0.5]))
    assert (verdict.decision, codes(verdict)) == (Decision.REVERT, ["no-gain"])
    assert verdict.reasons[0].message == (
        "4.0 sigma better at first, no better on the first fresh seed"
    )


@pytest.mark.parametrize("confirming", [[None], [0.46, None]])
def test_a_confirming_run_that_fails_ends_it(confirming: list[float | None]) -> None:
    verdict = decide(metric=0.46, **draws(confirming))
    assert (verdict.decision, codes(verdict)) == (Decision.REVERT, ["confirmation-failed"])
    assert (verdict.status, verdict.exit_status) == ("crash", 10)


def test_a_gain_that_no_seed_changes_is_not_kept() -> None:
    """A seed of the candidate's own, tried out at home, would pass any repetition."""
    verdict = decide(metric=0.46, **draws([0.46, 0.46]))
    assert (verdict.decision, codes(verdict), verdict.exit_status) == (
        Decision.REVERT,
        ["seed-ignored"],
        EXIT["no-gain"],
    )


def test_an_incumbent_without_noise_asks_for_none() -> None:
    still = Reference.from_runs([0.5, 0.5, 0.5])
    assert not ignores_seeds([0.46, 0.46, 0.46], still)
    noisy = Reference.from_runs([0.5, 0.51, 0.49])
    assert ignores_seeds([0.46, 0.46, 0.46], noisy)
    assert not ignores_seeds([0.46, 0.461, 0.459], noisy)
    assert not ignores_seeds([0.46], noisy)


def test_implausible_progress_is_escalated_with_both_reasons() -> None:
    verdict = decide(metric=0.3, **draws([0.299, 0.301]))
    assert (verdict.decision, codes(verdict)) == (Decision.ESCALATE, ["cusum-alarm", "gain"])
    assert "a person must look" in verdict.reasons[0].message
    assert (verdict.status, verdict.exit_status) == ("escalate", 11)


def test_creeping_progress_is_escalated_when_its_sum_is_implausible() -> None:
    creeping = (-0.04, -0.04)
    assert decide(metric=0.46, **draws([0.459, 0.461])).decision is Decision.KEEP
    verdict = decide(
        metric=0.46,
        **draws([0.459, 0.461]),
        watch=Watch(progress=creeping, progress_seqs=(1, 2), horizon=20),
    )
    assert verdict.decision is Decision.ESCALATE


def test_without_confirmation_the_screening_run_decides() -> None:
    settings = load_settings("[tool.autoresearch.keep]\nconfirm = 0\n")
    assert decide(settings, metric=0.46).decision is Decision.KEEP


def test_an_incumbent_that_was_never_measured_is_no_reference() -> None:
    assert reference_of(INCUMBENT) == Reference(0.5, 0.01, 4, 3)
    with pytest.raises(ValueError, match="has not been measured"):
        reference_of(UNMEASURED)


# -- overruled -----------------------------------------------------------------


def test_a_keep_without_the_exact_gates_is_overruled_and_says_so() -> None:
    asked = decide(metric=0.46, **draws([0.459, 0.461]))
    verdict = incomplete_verdict(asked)
    assert (verdict.decision, verdict.status, verdict.exit_status) == (Decision.REVERT, "gate", 1)
    assert codes(verdict) == ["gate-set", *codes(asked)]


def test_a_keep_that_failed_is_escalated_with_a_status_of_its_own() -> None:
    asked = decide(metric=0.46, **draws([0.459, 0.461]))
    verdict = failed_verdict(asked, "the disk is full")
    assert (verdict.decision, verdict.exit_status) == (Decision.ESCALATE, 12)
    assert verdict.reasons[0].message == "the disk is full"
    assert codes(verdict)[1:] == codes(asked)


# -- the chart -----------------------------------------------------------------


def chart(*inputs: float, metric: float | None = 0.5) -> ProgressChart:
    return ProgressChart(inputs, Charts(), replace(INCUMBENT, metric=metric))


def test_the_chart_sums_up_log_improvements_beyond_the_allowance() -> None:
    monitor = chart(-0.02, 0.0, -0.03).monitor()
    assert monitor.S_lower == pytest.approx(0.02 - 0.005 - 0.005 + 0.03 - 0.005)
    assert monitor.S_upper == 0.0
    assert monitor.count == 3


def test_an_alarm_that_was_dealt_with_starts_the_chart_afresh() -> None:
    assert chart(-0.5).monitor().S_lower == 0.0
    assert chart(-0.5, -0.02).monitor().S_lower == pytest.approx(0.015)
    assert not chart(-0.5).would_alarm(0.49)


@pytest.mark.parametrize(("metric", "alarm"), [(0.49, False), (0.46, False), (0.44, True)])
def test_a_step_beyond_the_decision_interval_alarms(metric: float, alarm: bool) -> None:
    assert chart().would_alarm(metric) is alarm


def test_looking_does_not_change_the_chart() -> None:
    looked = chart(-0.05)
    assert looked.would_alarm(0.4)
    assert looked.would_alarm(0.4)
    assert not looked.would_alarm(0.5)


def test_no_metric_no_reference_and_no_gain_are_no_step() -> None:
    assert not chart().would_alarm(None)
    assert not chart(metric=None).would_alarm(1e-9)
    assert chart().step(0.7) == 0.0
    assert "step +0.0%" in chart().explain(0.7)


def test_the_explanation_gives_the_figures() -> None:
    assert chart().explain(0.45) == (
        "CUSUM of log improvement: step +10.5%, S_upper 0.000, S_lower 0.100, decision interval 0.1"
    )
