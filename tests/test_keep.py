"""The keep rule: what each run decides, from margins with published t values, in words that fit."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_autoresearch.keep import PRESETS, KeepRule, Reference, Step, decide

#: The hand figures are those of a tail of 0.1.
RULE = KeepRule(alpha=0.1)
# mean 0.3112 and seed sd 0.0009 are those of the reference task.
REFERENCE = Reference(mean=0.3112, sigma=0.0009, n=4, df=3)
# One-sided t quantiles for 3 degrees of freedom, from the printed tables.
T_10, T_01 = 1.6377, 4.5407

runs = st.floats(-8, 8)
references = st.builds(
    Reference,
    mean=st.floats(-5, 5),
    sigma=st.floats(0.1, 10),
    n=st.integers(1, 12),
    df=st.integers(1, 60),
)
rules = st.builds(
    KeepRule,
    alpha=st.sampled_from([0.01, 0.1, 0.3]),
    early_alpha=st.sampled_from([0.001, 0.01, 0.4]),
    screen=st.sampled_from([-1.0, 0.0, 0.5, 1.0]),
    confirm=st.integers(0, 4),
)


def better(sigmas: float) -> float:
    return REFERENCE.mean - sigmas * REFERENCE.sigma


def judge(first: float, *fresh: float, rule: KeepRule = RULE) -> Step:
    """Runs that are so many sigma better."""
    return decide(REFERENCE, better(first), [better(sigmas) for sigmas in fresh], rule)


def test_the_baseline_gives_mean_and_sample_deviation() -> None:
    reference = Reference.from_runs([1.0, 2.0, 3.0, 4.0])
    assert reference == Reference(mean=2.5, sigma=math.sqrt(5 / 3), n=4, df=3)


def test_a_deterministic_metric_keeps_a_margin_above_rounding() -> None:
    reference = Reference.from_runs([0.31, 0.31, 0.31])
    assert reference.deterministic
    assert not REFERENCE.deterministic
    assert reference.sigma == pytest.approx(0.31e-6)
    assert decide(reference, 0.31 - 1e-9, [], KeepRule(confirm=0)).action == "discard"
    assert decide(reference, 0.31 - 1e-4, [], KeepRule(confirm=0)).action == "keep"
    assert Reference.from_runs([0.0, 0.0]).sigma > 0
    # Nothing learned from equal runs brings sigma below the floor.
    assert reference.with_group([0.3, 0.3]).with_canary(0.31).deterministic


@pytest.mark.parametrize(
    ("values", "message"),
    [([0.3], "1 baseline run"), ([], "0 baseline"), ([0.3, math.nan], "nan is not finite")],
)
def test_a_baseline_without_noise_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reference.from_runs(values)


def test_a_canary_is_one_more_run_of_the_baseline() -> None:
    pooled = Reference.from_runs([1.0, 2.0, 4.0]).with_canary(9.0)
    whole = Reference.from_runs([1.0, 2.0, 4.0, 9.0])
    assert (pooled.n, pooled.df) == (whole.n, whole.df) == (4, 3)
    assert (pooled.mean, pooled.sigma) == pytest.approx((whole.mean, whole.sigma))


def test_other_runs_teach_sigma_and_not_the_mean() -> None:
    # Sums of squares 2 (df 2) and 8 (df 1): pooled variance 10 / 3.
    learned = Reference.from_runs([1.0, 2.0, 3.0]).with_group([10.0, 14.0])
    assert (learned.mean, learned.n, learned.df) == (2.0, 3, 3)
    assert learned.sigma == pytest.approx(math.sqrt(10 / 3))
    assert learned.with_group([7.0]) == learned


def test_a_small_gain_is_discarded_in_words_a_researcher_accepts() -> None:
    step = judge(0.3)
    assert (step.action, step.missing) == ("discard", 0)
    assert step.message == "0.3 sigma better on 1 run; needs 1.0 to be worth confirming"
    assert step.margin == REFERENCE.sigma
    assert step.reference_after == REFERENCE
    assert judge(-1.2).message == "1.2 sigma worse on 1 run; needs 1.0 to be worth confirming"


def test_a_promising_run_asks_for_fresh_seeds_that_can_run_at_once() -> None:
    step = judge(2)
    assert (step.action, step.missing) == ("measure", 3)
    assert step.message == "2.0 sigma better on 1 run; up to 3 fresh seeds to confirm"
    again = judge(2, 0.8)
    assert (again.action, again.missing, again.reference_after) == ("measure", 2, REFERENCE)
    assert again.message == (
        "0.8 sigma better on 1 fresh run (interval -1.0 to 2.6); still needs 5.1"
    )
    # The margin of the early tail and half the interval at 1 - 2 alpha, by hand: sqrt(1 + 1/4).
    assert again.margin == pytest.approx(T_01 * 0.0009 * math.sqrt(1.25), rel=1e-4)
    half = (again.interval[1] - again.interval[0]) / 2
    assert half == pytest.approx(T_10 * 0.0009 * math.sqrt(1.25), rel=1e-4)


def test_the_first_fresh_seeds_that_are_no_better_end_it() -> None:
    step = judge(2, -0.4)
    assert (step.action, step.margin) == ("discard", 0.0)
    assert step.message == "2.0 sigma better at first, 0.4 sigma worse on the first fresh seed"
    assert judge(2, 1, -2).message.endswith("at first, 0.5 sigma worse on 2 fresh seeds")
    assert decide(Reference(0.0, 1.0, 4, 3), -2.0, [0.0], RULE).message == (
        "2.0 sigma better at first, no better on the first fresh seed"
    )


def test_the_lucky_screening_run_never_enters_the_estimate() -> None:
    assert judge(3, 1, 1.2, 1.1).gain == judge(1.5, 1, 1.2, 1.1).gain
    assert judge(3, 1, 1.2, 1.1).gain == pytest.approx(1.1 * REFERENCE.sigma)


def test_the_last_fresh_seed_decides_at_alpha() -> None:
    # t(0.9, 3) * sqrt(1/3 + 1/4) = 1.251.
    short, enough = judge(2, 1.2, 1.3, 1.2), judge(2, 1.2, 1.3, 1.3)
    assert (short.action, short.missing) == ("discard", 0)
    assert short.message == (
        "1.2 sigma better on 3 fresh runs (interval -0.02 to 2.48); needed 1.3"
    )
    assert (enough.action, enough.missing) == ("keep", 0)
    assert enough.margin == pytest.approx(T_10 * 0.0009 * math.sqrt(7 / 12), rel=1e-4)
    assert enough.interval[0] == pytest.approx(enough.gain - enough.margin)
    assert judge(2, 1.2, 1.3, 1.3, rule=PRESETS["strict"]).action == "discard"


def test_two_fresh_seeds_are_the_fewest_that_keep_early() -> None:
    # The early margin: t(0.99, 3) * sqrt(1/2 + 1/4) = 3.932.
    one = judge(9, 9)
    assert one.action == "measure"
    assert one.message.endswith("; 2 are the fewest that keep")
    assert judge(4, 3.9, 3.9).action == "measure"
    assert judge(4, 4.0, 3.9).action == "keep"


def test_confirmed_runs_become_the_reference_and_teach_sigma() -> None:
    step = judge(4, 4, 5)
    after = step.reference_after
    assert (step.action, after.n, after.df) == ("keep", 2, 4)
    assert after.mean == pytest.approx(better(4.5))
    assert after.sigma == pytest.approx(REFERENCE.sigma * math.sqrt((3 + 0.5) / 4))
    discarded = judge(2, 1, -3)
    assert discarded.reference_after == REFERENCE.with_group([better(1), better(-3)])
    assert (discarded.reference_after.mean, discarded.reference_after.df) == (REFERENCE.mean, 4)


@given(references, rules, st.lists(runs, min_size=5, max_size=5))
def test_seeds_run_at_once_change_no_decision(
    reference: Reference, rule: KeepRule, metrics: list[float]
) -> None:
    at_once = decide(reference, metrics[0], metrics[1 : 1 + rule.confirm], rule)
    fresh: list[float] = []
    step = decide(reference, metrics[0], fresh, rule)
    while step.action == "measure":
        assert len(fresh) + step.missing == rule.confirm
        fresh.append(metrics[1 + len(fresh)])
        step = decide(reference, metrics[0], fresh, rule)
    assert (at_once.action, at_once.gain, at_once.message) == (step.action, step.gain, step.message)


def test_seeds_behind_the_deciding_one_sharpen_the_new_reference() -> None:
    early, all_three = judge(9, 8, 8), judge(9, 8, 8, 7)
    assert (early.gain, early.message) == (all_three.gain, all_three.message)
    assert all_three.reference_after == early.reference_after.with_canary(better(7))


def test_without_confirmation_the_screening_run_decides() -> None:
    alone = KeepRule(alpha=0.1, confirm=0)
    # t(0.9, 3) * sqrt(1 + 1/4) = 1.831.
    step = judge(1.9, rule=alone)
    assert (step.action, step.missing, step.reference_after.n) == ("keep", 0, 1)
    assert step.message == "1.9 sigma better on 1 run; needed 1.8"
    assert judge(1.8, rule=alone).action == "discard"
    assert judge(1.8, rule=alone).message == "1.80 sigma better on 1 run; needed 1.83"


def test_a_noisier_candidate_is_held_to_its_own_noise() -> None:
    known = Reference(0.0, 1.0, 4, 60)
    steady = decide(known, -1.5, [-3.0, -3.0, -3.0], RULE)
    wild = decide(known, -1.5, [-9.0, 2.5, -2.5], RULE)
    assert steady.gain == wild.gain == 3.0
    assert (steady.action, wild.action) == ("keep", "discard")
    assert wild.message.endswith("; its own noise is 4.8 sigma")
    # One that is good enough all the same brings its own noise as the new sigma.
    kept = decide(known, -21.5, [-29.0, -17.5, -22.5], RULE)
    assert (kept.action, kept.reference_after.df) == ("keep", 3)
    assert kept.reference_after.sigma == pytest.approx(math.sqrt(68.1875 / 3))


def test_a_lenient_screen_is_worded_with_its_sign() -> None:
    lenient = KeepRule(screen=-1.0)
    assert judge(-1.03, rule=lenient).message == (
        "1.03 sigma worse on 1 run; needs -1.00 to be worth confirming"
    )
    assert judge(-0.5, rule=lenient).action == "measure"


def test_a_gain_of_nothing_or_of_just_the_margin_is_never_kept() -> None:
    lone = KeepRule(confirm=1)
    known = Reference(0.0, 1.0, 4, 3)
    margin = decide(known, -2.0, [-3.0], lone).margin
    exact = decide(known, -2.0, [-margin], lone)
    assert (exact.action, exact.gain) == ("discard", margin)
    assert decide(known, -2.0, [-math.nextafter(margin, 9.0)], lone).action == "keep"
    assert decide(known, -2.0, [0.0], RULE).action == "discard"


def test_equal_figures_are_said_to_be_short() -> None:
    exact = decide(Reference(0.0, 1.0, 4, 3), -1.0, [], RULE)
    assert (exact.action, exact.gain) == ("discard", exact.margin)
    assert exact.message.endswith("needs more than 1.000000 to be worth confirming")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_never_decided_on(bad: float) -> None:
    calls: list[Callable[[], object]] = [
        lambda: decide(REFERENCE, bad, [], RULE),
        lambda: decide(REFERENCE, better(5), [better(5), bad], RULE),
        lambda: REFERENCE.with_canary(bad),
        lambda: REFERENCE.with_group([bad, bad]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not finite"):
            call()


def test_drawing_again_until_it_pleases_is_refused() -> None:
    with pytest.raises(ValueError, match="4 confirmations were given, the rule takes at most 3"):
        judge(5, 1, 1, 1, 9)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KeepRule(alpha=0.5), "alpha 0.5 is outside"),
        (lambda: KeepRule(early_alpha=0.0), "early_alpha 0.0 is outside"),
        (lambda: KeepRule(screen=math.nan), "screen nan is not finite"),
        (lambda: KeepRule(confirm=-1), "confirm -1 is negative"),
        (lambda: Reference(1.0, 0.0, 4, 3), "sigma 0.0 is not above 0"),
        (lambda: Reference(1.0, 0.1, 0, 3), "n >= 1 and df >= 1"),
        (lambda: Reference(math.nan, 0.1, 4, 3), "reference mean nan is not finite"),
    ],
)
def test_impossible_settings_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@given(rules, st.lists(st.integers(-64, 64), min_size=5, max_size=5), st.integers(-8, 8), runs)
def test_decisions_do_not_depend_on_the_metrics_unit_or_zero(
    rule: KeepRule, sixteenths: list[int], exponent: int, shift: float
) -> None:
    # Sixteenths and powers of two are exact, so that no rounding can tip the balance.
    scale, shift = 2.0**exponent, round(shift)
    metrics = [x / 16 for x in sixteenths]
    plain = decide(Reference(0.0, 1.0, 4, 3), metrics[0], metrics[1 : 1 + rule.confirm], rule)
    moved = [scale * (x + shift) for x in metrics]
    other = decide(
        Reference(scale * shift, scale, 4, 3), moved[0], moved[1 : 1 + rule.confirm], rule
    )
    assert other.action == plain.action
    assert other.gain == pytest.approx(plain.gain * scale, rel=1e-12, abs=1e-12 * scale)


@given(references, rules, st.lists(runs, min_size=5, max_size=5))
def test_fresh_runs_that_are_no_better_on_average_are_never_kept(
    reference: Reference, rule: KeepRule, metrics: list[float]
) -> None:
    fresh = metrics[1 : 1 + rule.confirm]
    assume(fresh and math.fsum(fresh) / len(fresh) >= reference.mean)
    step = decide(reference, metrics[0], fresh, rule)
    if step.action == "keep":
        # Kept before the last run, by runs that were better.
        assert step.gain > step.margin >= 0
        assert reference.mean > min(fresh)
    else:
        assert step.action == "discard"


@given(references, rules, st.lists(runs, min_size=5, max_size=5), st.integers(0, 4))
def test_the_message_never_contradicts_the_decision(
    reference: Reference, rule: KeepRule, metrics: list[float], given_runs: int
) -> None:
    fresh = metrics[1 : 1 + min(rule.confirm, given_runs)]
    step = decide(reference, metrics[0], fresh, rule)
    assert step.interval[0] <= step.gain <= step.interval[1]
    assert (step.missing > 0) == (step.action == "measure")
    needed = re.search(r"(?:needed|needs) (more than )?(-?\d+\.\d+)", step.message)
    found = re.match(r"(\d+\.\d+) sigma (better|worse)", step.message)
    assert found is not None
    if step.action == "keep":
        assert needed is not None
        assert found[2] == "better"
        assert float(found[1]) > float(needed[2])
        assert step.gain > step.margin
        interval = re.search(r"interval (-?\d+\.\d+) to", step.message)
        assert interval is None or float(interval[1]) >= 0
    elif needed is not None:
        signed = float(found[1]) * (1 if found[2] == "better" else -1)
        assert signed < float(needed[2]) or (needed[1] and signed == float(needed[2]))


def test_pure_noise_is_rarely_kept() -> None:
    # 40 campaigns of 100 proposals that change nothing. At the benchmark's rate of 0.7 keeps per campaign with a
    # standard deviation of 0.8, 56 is more than five standard errors above.
    kept = 0
    for seed in range(40):
        rng = random.Random(seed)
        reference = Reference.from_runs([rng.gauss(100, 1) for _ in range(4)])
        for t in range(100):
            if t % 8 == 7:
                reference = reference.with_canary(rng.gauss(100, 1))
            step = decide(reference, rng.gauss(100, 1), [rng.gauss(100, 1) for _ in range(3)], RULE)
            kept += step.action == "keep"
            reference = step.reference_after
    assert 5 < kept < 56
