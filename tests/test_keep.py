"""The keep rule: margins from published t values, and what each run decides."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.keep import KeepRule, Reference, decide, t_quantile

RULE = KeepRule()
# mean 0.3112 and seed sd 0.0009 are those of the reference task.
REFERENCE = Reference(mean=0.3112, sigma=0.0009, n=4, df=3)


def better(sigmas: float) -> float:
    return REFERENCE.mean - sigmas * REFERENCE.sigma


# Percentage points of t, as printed in every statistics textbook (Pearson and Hartley, Table 12).
@pytest.mark.parametrize(
    ("p", "df", "expected"),
    [
        (0.95, 1, 6.314),
        (0.975, 1, 12.706),
        (0.995, 1, 63.657),
        (0.95, 2, 2.920),
        (0.90, 3, 1.638),
        (0.95, 3, 2.353),
        (0.99, 3, 4.541),
        (0.95, 4, 2.132),
        (0.975, 5, 2.571),
        (0.95, 10, 1.812),
        (0.999, 10, 4.144),
        (0.95, 30, 1.697),
        (0.975, 60, 2.000),
        (0.995, 120, 2.617),
        (0.5, 7, 0.0),
    ],
)
def test_t_quantiles_are_the_published_ones(p: float, df: int, expected: float) -> None:
    assert t_quantile(p, df) == pytest.approx(expected, abs=0.0006)


@given(st.floats(0.5001, 0.9999), st.integers(1, 200))
def test_heavier_tails_need_larger_quantiles(p: float, df: int) -> None:
    assert t_quantile(p, df) > t_quantile(p, df + 1) > 0


@pytest.mark.parametrize(("p", "df"), [(0.4, 3), (1.0, 3), (0.95, 0), (math.nan, 3)])
def test_t_quantile_refuses_what_it_cannot_answer(p: float, df: int) -> None:
    with pytest.raises(ValueError, match="t_quantile takes"):
        t_quantile(p, df)


def test_the_baseline_gives_mean_and_sample_deviation() -> None:
    reference = Reference.from_runs([1.0, 2.0, 3.0, 4.0])
    assert reference == Reference(mean=2.5, sigma=math.sqrt(5 / 3), n=4, df=3)


def test_a_deterministic_metric_keeps_a_margin_above_rounding() -> None:
    reference = Reference.from_runs([0.31, 0.31, 0.31])
    assert reference.sigma == pytest.approx(0.31e-6)
    assert decide(reference, 0.31 - 1e-9, [], KeepRule(confirm=0)).action == "discard"
    assert decide(reference, 0.31 - 1e-4, [], KeepRule(confirm=0)).action == "keep"
    assert Reference.from_runs([0.0, 0.0]).sigma > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [([0.3], "1 baseline run"), ([], "0 baseline"), ([0.3, math.nan], "nan is not finite")],
)
def test_a_baseline_without_noise_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reference.from_runs(values)


def test_a_small_gain_is_discarded_in_words_a_researcher_accepts() -> None:
    step = decide(REFERENCE, better(0.3), [], RULE)
    assert step.action == "discard"
    assert step.message == "0.3 sigma better on 1 run; needs 2.6 sigma"
    assert step.margin == pytest.approx(2.353 * 0.0009 * math.sqrt(1.25), rel=1e-3)
    assert step.reference_after == REFERENCE


def test_a_worse_run_is_discarded_as_worse() -> None:
    step = decide(REFERENCE, better(-1.2), [], RULE)
    assert (step.action, step.message) == ("discard", "1.2 sigma worse on 1 run; needs 2.6 sigma")
    assert step.gain < 0


def test_a_promising_run_asks_for_fresh_seeds_first() -> None:
    step = decide(REFERENCE, better(4), [], RULE)
    assert step.action == "measure"
    assert step.message == "4.0 sigma better on 1 run; needed 2.6 sigma; 2 fresh seeds to confirm"
    again = decide(REFERENCE, better(4), [better(3)], RULE)
    assert again.action == "measure"
    assert again.message.endswith("1 more fresh seed to confirm")
    assert again.reference_after == REFERENCE


def test_the_lucky_screening_run_never_enters_the_estimate() -> None:
    step = decide(REFERENCE, better(50), [better(1), better(2)], RULE)
    assert step.action == "discard"
    assert step.message == "1.5 sigma better on 2 fresh runs; needs 2.0 sigma"
    assert step.gain == pytest.approx(1.5 * REFERENCE.sigma)


def test_confirmed_runs_become_the_reference() -> None:
    step = decide(REFERENCE, better(9), [better(3), better(4)], RULE)
    assert step.action == "keep"
    assert step.reference_after.mean == pytest.approx(better(3.5))
    assert step.reference_after.n == 2
    assert (step.reference_after.sigma, step.reference_after.df) == (REFERENCE.sigma, 3)
    # Fewer runs behind the incumbent: the next candidate meets a wider margin.
    assert decide(step.reference_after, better(0), [], RULE).margin > step.margin


def test_without_confirmation_the_screening_run_decides() -> None:
    step = decide(REFERENCE, better(3), [], KeepRule(confirm=0))
    assert step.action == "keep"
    assert step.reference_after.n == 1
    assert decide(REFERENCE, better(2), [], KeepRule(confirm=0)).action == "discard"


def test_a_gain_just_short_is_printed_with_digits_that_show_it() -> None:
    short = better(t_quantile(0.95, 3) * math.sqrt(1.25) - 0.002)
    assert decide(REFERENCE, short, [], RULE).message.startswith("2.629 sigma better")
    margin = t_quantile(0.95, 3) * math.sqrt(1.25)
    exact = decide(Reference(0.0, 1.0, 4, 3), -margin, [], RULE)
    assert (exact.action, exact.gain) == ("discard", exact.margin)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_never_decided_on(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        decide(REFERENCE, bad, [], RULE)
    with pytest.raises(ValueError, match="not finite"):
        decide(REFERENCE, better(5), [better(5), bad], RULE)


def test_drawing_again_until_it_pleases_is_refused() -> None:
    with pytest.raises(ValueError, match="3 confirmations were given, the rule takes exactly 2"):
        decide(REFERENCE, better(5), [better(1), better(1), better(9)], RULE)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KeepRule(alpha=0.5), "alpha 0.5 is outside"),
        (lambda: KeepRule(alpha=0.0), "alpha 0.0 is outside"),
        (lambda: KeepRule(confirm=-1), "confirm -1 is negative"),
        (lambda: Reference(1.0, 0.0, 4, 3), "sigma 0.0 is not above 0"),
        (lambda: Reference(1.0, 0.1, 0, 3), "n >= 1 and df >= 1"),
        (lambda: Reference(math.nan, 0.1, 4, 3), "reference mean nan is not finite"),
    ],
)
def test_impossible_settings_are_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=message):
        build()


@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(-8, 8))
def test_decisions_do_not_depend_on_the_metrics_unit(
    screening: float, confirmation: float, exponent: int
) -> None:
    scale = 2.0**exponent
    rule = KeepRule(confirm=1)
    plain = decide(Reference(0.0, 1.0, 4, 3), screening, [confirmation], rule)
    scaled = decide(Reference(0.0, scale, 4, 3), screening * scale, [confirmation * scale], rule)
    assert (plain.action, plain.gain * scale) == (scaled.action, scaled.gain)


def test_pure_noise_is_rarely_kept() -> None:
    # 4,000 campaigns of one null candidate each: the measured rate is 1.1 %.
    rng = random.Random(20)
    kept = 0
    for _ in range(4000):
        reference = Reference.from_runs([rng.gauss(0, 1) for _ in range(4)])
        runs = [rng.gauss(0, 1) for _ in range(3)]
        kept += decide(reference, runs[0], runs[1:], RULE).action == "keep"
    assert kept / 4000 < 0.02
