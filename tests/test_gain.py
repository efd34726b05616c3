"""The keep rule's companions: audit veto, canary, and what an alarm leads to, on figures made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from test_verdicts import INCUMBENT, codes, draws, evidence

from pytest_autoresearch.config import load_settings
from pytest_autoresearch.gain import gain_verdict, keep_rule, reference_of
from pytest_autoresearch.keep import PRESETS
from pytest_autoresearch.records import Decision, Incumbent, Kept, Measured, Verdict, Watch

SETTINGS = load_settings("[tool.autoresearch.keep]\nconfirm = 2\n")
OPEN = load_settings('[tool.autoresearch.keep]\nconfirm = 2\naudit = "off"\n')
#: sigma 0.01, audit half a hundredth above validation
REFERENCE = replace(INCUMBENT, audit=0.505)


def kept(seq: int, metric: float, *, sigma: float = 0.01, whole: bool = True) -> Kept:
    incumbent = replace(
        INCUMBENT, commit=f"{seq:040x}", metric=metric, sigma=sigma, audit=metric + 0.005
    )
    return Kept(seq, f"idea {seq}", incumbent, whole)


def judge(settings=SETTINGS, **changes: object) -> Verdict:
    changes = {"incumbent": REFERENCE, "audit": 0.5, "kept": (kept(0, 0.5),), **changes}
    return gain_verdict(evidence(**changes), settings)


def states(**figures: Sequence[tuple[float, float]]):
    """Re-runs of kept states by position: ``s3=[(metric, audit), ...]``; any other is an error."""
    left = {int(name[1:]): iter(values) for name, values in figures.items()}

    def rerun(seq: int, n: int) -> list[Measured]:
        return [Measured(*next(left[seq])) for _ in range(n)]

    return rerun


# -- the sealed audit split ----------------------------------------------------


def test_a_gain_that_the_audit_split_shares_is_kept_with_its_gap() -> None:
    verdict = judge(metric=0.47, **draws([0.469, 0.471], [0.476, 0.474]))
    assert verdict.decision is Decision.KEEP
    assert verdict.gap == pytest.approx(0.0)


def test_the_audit_split_stops_what_it_does_not_share_with_one_bit() -> None:
    runs = draws([0.469, 0.471], [0.501, 0.503])
    verdict = judge(metric=0.47, **runs)
    assert (verdict.decision, codes(verdict)) == (Decision.REVERT, ["audit-veto"])
    assert not any(character.isdigit() for character in verdict.reasons[0].message)
    assert verdict.gap == pytest.approx(0.03 - 0.003)
    assert (
        judge(OPEN, metric=0.47, **draws([0.469, 0.471], [0.501, 0.503])).decision is Decision.KEEP
    )


def test_once_the_gap_chart_has_found_a_leak_the_veto_counts_for_everyone() -> None:
    runs = ([0.469, 0.471], [0.501, 0.503])
    worn = Watch(worn_out=True, horizon=20)
    assert codes(judge(OPEN, metric=0.47, watch=worn, **draws(*runs))) == ["audit-veto"]
    assert judge(OPEN, metric=0.47, **draws(*runs)).decision is Decision.KEEP


def test_half_a_sigma_on_the_audit_split_is_not_enough() -> None:
    assert codes(judge(metric=0.47, **draws([0.469, 0.471], [0.5001, 0.5001]))) == ["audit-veto"]
    assert judge(metric=0.47, **draws([0.469, 0.471], [0.4999, 0.4999])).decision is Decision.KEEP


def test_a_task_without_an_audit_split_is_judged_without() -> None:
    bare = replace(REFERENCE, audit=None)
    verdict = judge(incumbent=bare, metric=0.47, **draws([0.469, 0.471]))
    assert verdict.decision is Decision.KEEP
    assert verdict.gap is None


# -- what is learned -----------------------------------------------------------


def test_every_group_of_fresh_runs_sharpens_sigma_kept_or_not() -> None:
    discarded = judge(metric=0.47, **draws([0.495, 0.499], [0.5, 0.5]))
    assert discarded.decision is Decision.REVERT
    assert discarded.learned is not None
    assert discarded.learned.df == REFERENCE.df + 1
    assert discarded.learned.metric == REFERENCE.metric
    assert discarded.learned.sigma < REFERENCE.sigma


def test_a_rule_can_be_named_and_single_values_overridden() -> None:
    watch, reference = Watch(horizon=20), reference_of(REFERENCE)
    assert keep_rule(load_settings("").keep, watch, reference) == PRESETS["default"]
    text = '[tool.autoresearch.keep]\nrule = "strict"\nscreen = 1.0\n'
    assert keep_rule(load_settings(text).keep, watch, reference) == replace(
        PRESETS["strict"], screen=1.0
    )


def test_a_familywise_level_makes_every_proposal_stricter() -> None:
    keep = load_settings("[tool.autoresearch.keep]\nfamilywise = 0.05\n").keep
    rule = keep_rule(keep, Watch(horizon=100), reference_of(REFERENCE))
    assert rule.alpha < PRESETS["default"].alpha / 5
    # Proposals that cost nothing may outnumber what the budget promised.
    assert keep_rule(keep, Watch(horizon=3, decided=7), reference_of(REFERENCE)).alpha < 0.05


# -- the canary ----------------------------------------------------------------


def test_a_canary_is_pooled_into_the_reference() -> None:
    verdict = judge(metric=0.52, canary_due=True, rerun=states(s0=[(0.51, 0.514)]))
    assert verdict.decision is Decision.REVERT
    assert verdict.canary is not None
    assert verdict.canary.residual == pytest.approx(1 / np.sqrt(1.25))
    assert verdict.learned is not None
    assert verdict.learned.metric == pytest.approx(0.502)
    assert verdict.learned.audit == pytest.approx(0.505 + 0.009 / 5)
    assert (verdict.learned.n, verdict.learned.df) == (5, 4)


def test_a_canary_that_fails_says_nothing() -> None:
    verdict = judge(metric=0.52, canary_due=True, rerun=lambda *_: [Measured(None)])
    assert verdict.canary is None
    assert verdict.learned is not None
    assert verdict.learned.n == REFERENCE.n


def test_a_drift_of_the_machine_keeps_nothing_and_calls_for_a_person() -> None:
    quiet = (0.1, -0.4, 0.6, -0.2, 0.3, -0.5, 0.2, -0.1)
    runs = draws([0.469, 0.471], [0.476, 0.474])
    verdict = judge(
        metric=0.47,
        canary_due=True,
        rerun=states(s0=[(0.9, 0.9)]),
        watch=Watch(canaries=quiet),
        **runs,
    )
    assert (verdict.decision, verdict.exit_status) == (Decision.ESCALATE, 11)
    assert codes(verdict)[0] == "canary-alarm"
    assert verdict.learned is not None
    assert verdict.learned.metric == REFERENCE.metric
    same = judge(
        metric=0.47,
        canary_due=True,
        rerun=states(s0=[(0.503, 0.508)]),
        watch=Watch(canaries=quiet),
        **draws([0.469, 0.471], [0.476, 0.474]),
    )
    assert same.decision is Decision.KEEP


# -- alarms --------------------------------------------------------------------


def test_a_jump_that_only_validation_shows_is_traced_and_quarantined() -> None:
    verdict = judge(OPEN, metric=0.3, **draws([0.299, 0.301, 0.3, 0.3, 0.3], [0.52] * 5))
    assert (verdict.decision, verdict.status, verdict.exit_status) == (
        Decision.REVERT,
        "quarantine",
        10,
    )
    assert codes(verdict) == ["cusum-alarm", "mutation-trace", "verification", "quarantine"]
    assert verdict.alarm is not None
    assert (verdict.alarm.chart, verdict.alarm.suspects, verdict.alarm.culprit) == (
        "progress",
        (1,),
        1,
    )
    assert verdict.alarm.restore.seq == 0


def test_a_jump_that_holds_is_admitted_again_with_its_story() -> None:
    verdict = judge(metric=0.3, **draws([0.299, 0.301, 0.3, 0.3, 0.3], [0.305] * 5))
    assert verdict.decision is Decision.KEEP
    assert codes(verdict)[0] == "gain"
    assert codes(verdict)[-1] == "re-admitted"
    assert verdict.alarm is not None
    assert verdict.alarm.held


def test_the_runs_that_verify_are_fresh_ones() -> None:
    """A jump of lucky runs is not confirmed by the same runs."""
    lucky = draws([0.44, 0.44, 0.5, 0.5, 0.5], [0.445] * 5)
    settings = load_settings(
        '[tool.autoresearch.keep]\nconfirm = 2\naudit = "off"\n[tool.autoresearch.cusum]\ninterval = 0.05\n'
    )
    verdict = judge(settings, metric=0.4401, **lucky)
    assert codes(verdict)[-1] == "seed-ignored"
    lucky = draws([0.435, 0.445, 0.5, 0.5, 0.5], [0.445] * 5)
    verdict = judge(settings, metric=0.4401, **lucky)
    assert codes(verdict)[-1] == "quarantine"


def test_a_creeping_leak_is_traced_to_where_its_sum_was_last_zero() -> None:
    """Two kept steps before the candidate are suspects; the older one turns out to hold."""
    watch = Watch(progress=(0.0, -0.04, -0.04), progress_seqs=(1, 2, 3), horizon=20)
    history = (kept(0, 0.5), kept(2, 0.48), kept(3, 0.461))
    incumbent = history[-1].incumbent
    runs = draws([0.434, 0.436, 0.435, 0.436, 0.434], [0.51] * 5)
    rerun = states(s3=[(0.461, 0.51)] * 3, s2=[(0.479, 0.484), (0.481, 0.486), (0.48, 0.485)])
    verdict = judge(
        OPEN,
        incumbent=incumbent,
        metric=0.435,
        watch=watch,
        kept=history,
        seq=4,
        rerun=rerun,
        **runs,
    )
    alarm = verdict.alarm
    assert alarm is not None
    assert (alarm.last_zero, alarm.suspects) == (1, (2, 3, 4))
    assert [found.seq for found in alarm.verified] == [4, 3, 2]
    assert [found.held for found in alarm.verified] == [False, False, True]
    assert (alarm.culprit, alarm.restore.seq) == (3, 2)
    assert verdict.learned == history[1].incumbent
    assert "2 mutations are discarded for good" in verdict.reasons[-1].message
    assert "traced to mutation 3 (idea 3)" in verdict.reasons[-1].message


def test_a_restore_point_that_is_not_whole_is_passed_over() -> None:
    watch = Watch(progress=(-0.01, 0.0, -0.04), progress_seqs=(1, 2, 3), horizon=20)
    history = (kept(0, 0.5), kept(1, 0.495, whole=False), kept(3, 0.461))
    runs = draws([0.42, 0.43, 0.42, 0.43, 0.42], [0.51] * 5)
    verdict = judge(
        OPEN,
        incumbent=history[-1].incumbent,
        metric=0.42,
        watch=watch,
        kept=history,
        seq=4,
        rerun=states(s3=[(0.461, 0.51)] * 3),
        **runs,
    )
    assert verdict.alarm is not None
    assert verdict.alarm.suspects == (3, 4)
    assert verdict.alarm.restore.seq == 0


def test_an_audit_gap_that_grows_is_found_in_small_steps() -> None:
    """No single step is improbable: the gap is."""
    quiet = (0.0005, -0.0004, 0.0001, -0.0003, -0.0002, 0.0002, 0.0003, 0.0004, 0.0, -0.0001)
    watch = Watch(
        gaps=quiet,
        gaps_kept=(True, False, False, True, *(False,) * 6),
        gap_seqs=tuple(range(1, 11)),
        horizon=100,
    )
    history = (kept(0, 0.5), kept(1, 0.495), kept(4, 0.49, sigma=0.005))
    incumbent = history[-1].incumbent
    # 3 sigma better on validation, nothing on audit
    runs = draws([0.4745, 0.4755, 0.475, 0.475, 0.4751], [0.495] * 5)
    verdict = judge(
        OPEN, incumbent=incumbent, metric=0.475, watch=watch, kept=history, seq=11, **runs
    )
    alarm = verdict.alarm
    assert alarm is not None
    assert (alarm.chart, alarm.culprit, alarm.restore.seq) == ("gap", 11, 4)
    control = draws([0.4745, 0.4755], [0.4797, 0.4803])
    verdict = judge(
        OPEN, incumbent=incumbent, metric=0.475, watch=watch, kept=history, seq=11, **control
    )
    assert verdict.decision is Decision.KEEP
    assert verdict.alarm is None


def test_a_single_large_step_is_verified_though_no_chart_alarms() -> None:
    tight = replace(REFERENCE, sigma=0.0005)
    history = (Kept(0, "baseline", tight, whole=True),)
    runs = draws([0.4901, 0.4899, 0.49, 0.4902, 0.4898], [0.495] * 5)
    verdict = judge(incumbent=tight, metric=0.49, kept=history, **runs)
    assert verdict.decision is Decision.KEEP
    assert "step" in codes(verdict)
    runs = draws([0.4901, 0.4899, 0.49, 0.4902, 0.4898], [0.505] * 5)
    verdict = judge(OPEN, incumbent=tight, metric=0.49, kept=history, **runs)
    assert codes(verdict)[-1] == "quarantine"


def test_without_an_audit_split_an_implausible_jump_waits_for_a_person() -> None:
    bare = replace(REFERENCE, audit=None)
    verdict = judge(incumbent=bare, audit=None, metric=0.3, **draws([0.299, 0.301]))
    assert (verdict.decision, verdict.exit_status) == (Decision.ESCALATE, 11)
    assert "no audit split" in verdict.reasons[0].message


# -- figures that no seed changes ----------------------------------------------


def deterministic(before: np.ndarray, after: np.ndarray, **changes: object) -> Verdict:
    sigma = 1e-6 * float(before.mean())
    incumbent = Incumbent("c" * 40, "d" * 64, float(before.mean()), sigma, 4, 3, audit=None)
    return judge(
        incumbent=incumbent,
        audit=None,
        metric=float(after.mean()),
        losses=lambda: (before, after),
        **changes,
    )


def test_a_metric_without_noise_is_judged_by_its_examples() -> None:
    draw = np.random.default_rng(3)
    before = draw.random(2000)
    shifted = before - 0.01 + draw.normal(0, 0.05, 2000)
    assert deterministic(before, shifted).decision is Decision.KEEP
    scattered = before - 0.001 + draw.normal(0, 0.5, 2000)
    assert codes(deterministic(before, scattered)) == ["no-gain"]
