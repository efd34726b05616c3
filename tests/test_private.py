"""Noise from the real OpenDP: its scale is what epsilon promises, and the budget ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pytest_autoresearch.compliance.cohorts import CohortView, QueryRefused
from pytest_autoresearch.compliance.private import NoOpenDPError, noisy_histograms
from pytest_autoresearch.query_log import ProjectLog


def view_of(
    log: Path | None = None, *, epsilon: float | None = None, total: float = 1.0
) -> CohortView:
    columns = {"sex": ["F"] * 400 + ["M"] * 600, "band": (["a"] * 5 + ["b"] * 195) * 5}
    kept = log and ProjectLog(log, "main", "d" * 64)
    rate = {"positive_rate": [0, 1] * 500}
    return CohortView(columns, rate, 50, kept, epsilon=epsilon, epsilon_total=total)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_the_noise_has_the_scale_of_the_stated_epsilon(epsilon: float) -> None:
    # Discrete Laplace: mean absolute noise 2a / (1 - a^2) with a = exp(-epsilon / 2) for each of two histograms. Its
    # standard error is below 1.2 / sqrt(8000) of it, so that 10 % is seven of them; half the scale is 50 % away.
    both = np.array(noisy_histograms([[100] * 4000, [0] * 4000], epsilon))
    noise = both - np.array([[100], [0]])
    a = np.exp(-epsilon / 2)
    assert np.abs(noise).mean() == pytest.approx(2 * a / (1 - a**2), rel=0.1)


def test_asking_again_gives_the_same_noise_and_costs_nothing(tmp_path: Path) -> None:
    log = tmp_path / "queries.jsonl"
    first = view_of(log).view("sex", epsilon=1.0)
    assert first.epsilon == 1.0
    again = view_of(log).view("sex", epsilon=1.0)
    assert [dict(row.values) for row in again] == [dict(row.values) for row in first]
    assert [row.values["n"] for row in first] == pytest.approx([400, 600], abs=60)


def test_an_exhausted_privacy_budget_is_refused_also_later(tmp_path: Path) -> None:
    log = tmp_path / "queries.jsonl"
    view_of(log).view("sex", epsilon=0.75)
    message = r"SYSTEM HALT: PRIVACY BUDGET EXHAUSTED. Requested epsilon 0.5, remaining 0.25."
    with pytest.raises(QueryRefused, match=message):
        view_of(log).view((), epsilon=0.5)
    assert view_of(log).view((), epsilon=0.25).epsilon == 0.25


def test_a_configured_epsilon_holds_for_every_answer() -> None:
    view = view_of(epsilon=0.4)
    assert view.view("sex").epsilon == 0.4
    assert view.view("band", ("n",)).epsilon == 0.4
    with pytest.raises(QueryRefused, match=r"remaining 0\.2\."):
        view.view(())


def test_answers_with_noise_need_no_audit() -> None:
    view = view_of(total=10)
    table = view.view(("sex", "band"), epsilon=5.0)
    # Cells of 10 to 390: those that look small are not shown.
    assert table.suppressed == 2
    assert view.problem == ""


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("inf"), float("nan")])
def test_an_epsilon_that_is_none_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="must be a finite number above 0"):
        view_of().view("sex", epsilon=epsilon)


def test_only_shares_can_have_noise() -> None:
    view = CohortView({"sex": ["F", "M"] * 50}, {"income": np.arange(100.0)})
    with pytest.raises(ValueError, match="'income' is none"):
        view.view("sex", ("income",), epsilon=1.0)


def test_without_opendp_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opendp.prelude", None)
    with pytest.raises(NoOpenDPError, match=r"pip install 'pytest-autoresearch\[privacy\]'"):
        view_of().view("sex", epsilon=0.5)


def test_a_view_without_noise_does_not_load_opendp() -> None:
    program = (
        "import sys\nfrom pytest_autoresearch.compliance.cohorts import CohortView\n"
        "CohortView({'sex': ['F', 'M'] * 60}, {}).view('sex', ('n',))\n"
        "assert not [name for name in sys.modules if name.startswith('opendp')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
