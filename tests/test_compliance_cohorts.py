"""Cohort aggregates: what is shown, what is hidden, what halts the session."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pytest_autoresearch.compliance.cohorts import INDIVIDUAL_RETRIEVAL, CohortView
from pytest_autoresearch.compliance.disclosure import shown_cells
from pytest_autoresearch.records import FixedHarnessViolation


def view_of(cells: dict[tuple[str, str], int], minimum: int = 50) -> CohortView:
    """A view with the given number of rows for each (sex, age_band); a third are positives."""
    pairs = [cell for cell, n in cells.items() for _ in range(n)]
    return CohortView(
        {"sex": [a for a, _ in pairs], "age_band": [b for _, b in pairs]},
        {"positive_rate": np.arange(len(pairs)) % 3 == 0},
        minimum,
    )


CELLS = {
    ("F", "17-29"): 203,
    ("F", "30+"): 104,
    ("M", "17-29"): 151,
    ("M", "30+"): 307,
}


def test_a_view_gives_rounded_aggregates_by_cohort() -> None:
    table = view_of(CELLS).view(by="sex")
    assert [dict(row.cohort) for row in table] == [{"sex": "F"}, {"sex": "M"}]
    assert [dict(row.values) for row in table] == [
        {"n": 310.0, "positive_rate": 0.34},
        {"n": 460.0, "positive_rate": 0.33},
    ]
    assert (len(table), table.suppressed) == (2, 0)


def test_a_view_by_nothing_describes_everybody() -> None:
    (row,) = view_of(CELLS).view(measures=("n",))
    assert (dict(row.cohort), dict(row.values)) == ({}, {"n": 760.0})


def test_intersections_are_cohorts() -> None:
    table = view_of(CELLS).view(by=("sex", "age_band"), measures=("n",))
    assert {tuple(row.cohort.values()): row.values["n"] for row in table} == {
        ("F", "17-29"): 200.0,
        ("F", "30+"): 100.0,
        ("M", "17-29"): 150.0,
        ("M", "30+"): 310.0,
    }


def test_a_single_small_cohort_takes_the_next_smallest_with_it() -> None:
    cells = {("F", "17-29"): 300, ("F", "30-44"): 200, ("F", "45+"): 49, ("F", "60+"): 100}
    table = view_of(cells).view(by="age_band")
    assert [row.cohort["age_band"] for row in table] == ["17-29", "30-44"]
    assert table.suppressed == 2


def test_a_hidden_cell_does_not_follow_from_the_margins() -> None:
    # (F, 30+) is small: with one hidden cell per line, both margins would give it away.
    cells = {("F", "17-29"): 200, ("F", "30+"): 10, ("M", "17-29"): 200, ("M", "30+"): 300}
    table = view_of(cells).view(by=("sex", "age_band"))
    assert (len(table), table.suppressed) == (0, 4)


def test_two_tiny_cohorts_together_below_the_floor_hide_a_third() -> None:
    cells = {("F", band): n for band, n in (("a", 3), ("b", 4), ("c", 80), ("d", 90))}
    table = view_of(cells).view(by="age_band")
    assert [row.cohort["age_band"] for row in table] == ["d"]


@given(
    arrays(np.int64, array_shapes(min_dims=1, max_dims=3, max_side=5), elements=st.integers(0, 99))
)
def test_no_line_of_a_table_gives_a_hidden_group_below_the_floor(sizes: np.ndarray) -> None:
    shown = shown_cells(sizes, 40)
    assert not np.any(shown & (sizes < 40))
    for axis in range(sizes.ndim):
        hidden = (sizes > 0) & ~shown
        total = np.where(hidden, sizes, 0).sum(axis)
        count = hidden.sum(axis)
        visible = shown.any(axis)
        assert np.all((count == 0) | ~visible | ((count > 1) & (total >= 40)))


def test_a_population_below_the_floor_is_not_described() -> None:
    table = view_of({("F", "a"): 20, ("M", "a"): 20}).view()
    assert (len(table), table.suppressed) == (0, 1)


@pytest.mark.parametrize(
    "request_records",
    [
        lambda view: view.records(),
        lambda view: view.records(17, sex="F"),
        lambda view: view[0],
        lambda view: view["sex"],
        list,
        lambda view: view.view(by="index"),
        lambda view: view.view(by=("sex", "Row_ID")),
        lambda view: view.view(by="fnlwgt"),
        pickle.dumps,
        copy.deepcopy,
    ],
    ids=[
        "records",
        "one-record",
        "position",
        "column",
        "iteration",
        "by-index",
        "by-row-id",
        "by-unique-column",
        "pickle",
        "copy",
    ],
)
def test_a_request_for_individuals_halts_the_session(
    request_records: Callable[[CohortView], object],
) -> None:
    n = 1000
    view = CohortView(
        {"sex": ["F", "M"] * (n // 2), "fnlwgt": np.arange(n)}, {"positive_rate": [0, 1] * 500}
    )
    with pytest.raises(FixedHarnessViolation) as caught:
        request_records(view)
    assert str(caught.value) == INDIVIDUAL_RETRIEVAL
    assert str(caught.value).startswith("SYSTEM HALT: Agent attempted individual-level retrieval.")


def test_the_representation_shows_no_data() -> None:
    view = view_of(CELLS)
    assert repr(view) == (
        "CohortView(columns=('sex', 'age_band'), measures=('n', 'positive_rate'), minimum=50)"
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"by": "race"}, "'race' is not a cohort column: choose from sex, age_band"),
        ({"by": ("sex", "sex")}, "names a column twice"),
        ({"by": "sex", "measures": ("max",)}, "'max' is not a measure: choose from n, positive"),
    ],
)
def test_a_query_that_cannot_be_answered_says_what_can(query: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        view_of(CELLS).view(**query)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"sex": ["F"]}, {"rate": [0.1, 0.2]}), "equal length"),
        (({"sex": [["F"]]}, {}), "one dimension"),
        (({"sex": ["F"]}, {"rate": [np.nan]}), "'rate' holds a value that is not finite"),
        (({"sex": ["F"]}, {}, 1), "minimum 1 shows single persons"),
    ],
)
def test_a_view_on_broken_data_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CohortView(*arguments)  # type: ignore[arg-type]


def test_a_task_without_cohorts_has_a_view_that_shows_nothing() -> None:
    view = CohortView({}, {})
    assert view.columns == ()
    with pytest.raises(ValueError, match="not a cohort column"):
        view.view(by="sex")


def test_columns_that_together_tell_persons_apart_halt_the_session() -> None:
    n = 1000
    columns = {"tens": np.arange(n) // 100, "hundreds": np.arange(n) % 100}
    view = CohortView(columns, {"positive_rate": np.zeros(n)}, minimum=2)
    assert len(view.view("tens")) == 10
    with pytest.raises(FixedHarnessViolation) as caught:
        view.view(("tens", "hundreds"))
    assert str(caught.value) == INDIVIDUAL_RETRIEVAL


@pytest.mark.parametrize(("label", "shown"), [(0, 0.05), (1, 0.95)])
def test_a_cohort_that_is_all_alike_is_not_shown_to_be(label: int, shown: float) -> None:
    sex, rate = ["F"] * 100 + ["M"] * 100, [label] * 100 + [0, 1] * 50
    table = CohortView({"sex": sex}, {"positive_rate": rate}).view("sex")
    assert [row.values["positive_rate"] for row in table] == [shown, 0.5]


def test_a_view_of_nothing_says_nothing_is_wrong() -> None:
    assert CohortView({}, {}).problem == ""
    assert CohortView({}, {}).refusal() == ""
