"""The audit of cohort queries: textbook attacks work on a view that forgets, and are refused by one that does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_autoresearch.compliance.cohorts import CohortTable, CohortView, QueryRefused
from pytest_autoresearch.compliance.disclosure import Span
from pytest_autoresearch.compliance.queries import Answered, Memory
from pytest_autoresearch.ledger import LedgerError
from pytest_autoresearch.query_log import ProjectLog
from pytest_autoresearch.records import FixedHarnessViolation

INCOME = 1_000_000.0
Columns = dict[str, list[str]]


class Forgetful(Memory):
    """The control: every query is judged as if it were the first."""

    def record(self, answered: Answered) -> None:
        """Nothing."""


def total(table: CohortTable, **cohort: str) -> float:
    """The sum of a measure over one cohort, as far as rounding lets anybody compute it."""
    (row,) = (row for row in table if dict(row.cohort) == cohort)
    return row.values["n"] * row.values["income"]


MEASURES = ("n", "income")


def single_difference(view: CohortView) -> float:
    groups, flags = view.view("group", MEASURES), view.view("flag", MEASURES)
    return total(groups, group="a or c") - total(flags, flag="a")


def general_tracker(view: CohortView) -> float:
    """Denning, Denning and Schwartz 1979: q(C) = q(C or T) + q(C or not T) - q(all)."""
    one, other = view.view("c_or_t", MEASURES), view.view("c_or_not_t", MEASURES)
    return (
        total(one, c_or_t="yes") + total(other, c_or_not_t="yes") - total(view.view((), MEASURES))
    )


def intersecting_margins(view: CohortView) -> float:
    cells = view.view(("row", "column"), MEASURES)
    rows, columns = view.view("row", MEASURES), view.view("column", MEASURES)
    return (
        total(rows, row="0")
        - total(cells, row="0", column="2")
        - total(columns, column="0")
        + total(cells, row="2", column="0")
    )


def repeat(values: Sequence[object], counts: Sequence[int]) -> list[str]:
    return [str(value) for value, count in zip(values, counts, strict=True) for _ in range(count)]


CROSS = [60, 1, 100, 1, 60, 100, 100, 100, 100]
ATTACKS: dict[str, tuple[Callable[[CohortView], float], Columns, int]] = {
    "single difference": (
        single_difference,
        {"flag": repeat("abc", [100, 90, 1]), "group": repeat(["a or c", "b", "a or c"], [100, 90, 1])},
        190,
    ),
    "general tracker": (
        general_tracker,
        {
            "c_or_t": repeat(["yes", "no", "yes"], [120, 120, 1]),
            "c_or_not_t": repeat(["no", "yes", "yes"], [120, 120, 1]),
        },
        240,
    ),
    "intersecting margins": (
        intersecting_margins,
        {"row": repeat("000111222", CROSS), "column": repeat("012012012", CROSS)},
        60,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("attack", "columns", "target"), ATTACKS.values(), ids=ATTACKS)
def test_a_textbook_attack_finds_one_income_only_where_answers_are_forgotten(
    attack: Callable[[CohortView], float], columns: Columns, target: int
) -> None:
    income = np.zeros(len(next(iter(columns.values()))))
    income[target] = INCOME
    control = CohortView(columns, {"income": income}, 50, Forgetful())
    assert attack(control) == pytest.approx(INCOME, rel=0.02)
    with pytest.raises(
        QueryRefused, match=r"SYSTEM HALT: Cohort query refused\. .* by differencing"
    ):
        attack(CohortView(columns, {"income": income}, 50))


@pytest.mark.parametrize("secret", [-1.0, 1.0])
def test_rounding_averaged_over_many_overlapping_queries(secret: float) -> None:
    draw = np.random.default_rng(5)
    sizes = [400, 150, 150, 1]
    columns = {
        "flag": np.repeat(["a", "b", "b2", "c"], sizes),
        "group": np.repeat(["a or c", "b", "b2", "a or c"], sizes),
    }
    for index in range(60):
        columns[f"z{index}"] = np.where(draw.random(701) < 0.5, "in", "out")
        columns[f"z{index}"][-1] = "in"
    income = draw.choice([-1.0, 1.0], size=701)
    income[-1] = secret

    def attack(view: CohortView) -> float:
        found = []
        for index in range(60):
            z = f"z{index}"
            groups, flags = view.view(("group", z), MEASURES), view.view(("flag", z), MEASURES)
            part = {z: "in"}
            found.append(total(groups, group="a or c", **part) - total(flags, flag="a", **part))
        return float(np.mean(found))

    control = attack(CohortView(columns, {"income": income}, 50, Forgetful()))
    assert control == pytest.approx(secret, abs=0.6)
    with pytest.raises(QueryRefused, match="by differencing"):
        attack(CohortView(columns, {"income": income}, 50))


# -- the guarantee ----------------------------------------------------------------


def fewest_by_force(
    sizes: Sequence[int], cohorts: Sequence[Sequence[int]], minimum: int
) -> int | None:
    """The same by trying all sets of cells: does some combination of answers live on it alone?"""
    if not cohorts:
        return None
    matrix = np.zeros((len(cohorts), len(sizes)))
    for row, cells in enumerate(cohorts):
        matrix[row, list(cells)] = 1
    rank = np.linalg.matrix_rank(matrix)
    found = []
    for k in range(1, len(sizes) + 1):
        for cells in combinations(range(len(sizes)), k):
            persons = sum(sizes[cell] for cell in cells)
            if persons < minimum:
                rest = np.delete(matrix, cells, axis=1)
                if (np.linalg.matrix_rank(rest) if rest.size else 0) < rank:
                    found.append(persons)
    return min(found, default=None)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_fewest_persons_told_of_are_those_that_brute_force_finds(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=7))
    some = st.sets(st.integers(0, len(sizes) - 1), min_size=1)
    cohorts = [sorted(each) for each in data.draw(st.lists(some, max_size=6))]
    span = Span(sizes, 50).with_answers(cohorts)
    assert span.fewest() == fewest_by_force(sizes, cohorts, 50)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_whatever_is_asked_in_whatever_order_no_few_persons_follow(data: st.DataObject) -> None:
    n = data.draw(st.integers(60, 120))
    seed = data.draw(st.integers(0, 2**32 - 1))
    draw = np.random.default_rng(seed)
    columns = {
        name: draw.choice(list("xyz")[:k], size=n, p=np.array([8, 2, 1])[:k] / sum([8, 2, 1][:k]))
        for name, k in (("a", 2), ("b", 3), ("c", 2))
    }
    view = CohortView(columns, {}, 20)
    crossed = np.stack(list(columns.values()), axis=1)
    finest, sizes = np.unique(crossed, axis=0, return_counts=True)
    cohorts = [list(range(len(sizes)))]  # the total
    queries = data.draw(st.permutations([(), "a", "b", "c", ("a", "b"), ("b", "c"), ("a", "c")]))
    for by in queries:
        names = (by,) if isinstance(by, str) else by
        try:
            table = view.view(by, ("n",))
        except QueryRefused:
            continue
        for row in table:
            places = [list(columns).index(name) for name in names]
            inside = np.all(finest[:, places] == list(row.cohort.values()), axis=1)
            cohorts.append(np.flatnonzero(inside).tolist())
    assert fewest_by_force(sizes.tolist(), cohorts, 20) is None
    assert view.problem == ""


def test_what_cannot_be_enumerated_is_refused() -> None:
    draw = np.random.default_rng(3)
    columns = {"cell": np.repeat([f"{i:02}" for i in range(20)], 11)}
    for index in range(9):
        columns[f"half{index}"] = np.repeat(draw.permutation(np.repeat(["in", "out"], 10)), 11)
    log = Memory([Answered((f"half{index}",), ("n",), (("in",),)) for index in range(9)])
    assert "or nobody can be sure" in CohortView(columns, {}, 50, log).problem
    with pytest.raises(QueryRefused, match="too many small cohorts to be sure"):
        CohortView(columns, {}, 50, log).view((), ("n",))


def test_what_was_told_under_a_lower_minimum_is_a_problem_under_a_higher_one() -> None:
    columns, log = {"sex": ["F"] * 30 + ["M"] * 100 + ["X"] * 100}, Memory()
    assert len(CohortView(columns, {}, 10, log).view("sex", ("n",))) == 3
    assert CohortView(columns, {}, 10, log).problem == ""
    assert "told under another minimum" in CohortView(columns, {}, 50, log).problem


def test_a_refusal_rests_on_sizes_and_not_on_what_is_measured() -> None:
    _, columns, _ = ATTACKS["single difference"]
    for income in (np.zeros(191), np.arange(191.0), np.full(191, 7.0)):
        view = CohortView(columns, {"income": income}, 50)
        view.view("group", MEASURES)
        assert "by differencing" in view.refusal("flag")


# -- the log ----------------------------------------------------------------------


def test_answers_count_across_sessions_campaigns_and_processes(tmp_path: Path) -> None:
    _, columns, _ = ATTACKS["single difference"]
    path = tmp_path / "queries.jsonl"

    def view(campaign: str) -> CohortView:
        return CohortView(
            columns, {"income": np.zeros(191)}, 50, ProjectLog(path, campaign, "d" * 64)
        )

    first = view("main").view("group", MEASURES)
    with pytest.raises(QueryRefused):
        view("main").view("flag", MEASURES)
    with pytest.raises(QueryRefused):
        view("other").view("flag", MEASURES)
    rows = path.read_bytes()
    assert view("main").view("group", MEASURES) == first
    assert path.read_bytes() == rows


def test_data_that_changed_by_a_row_are_not_told_of(tmp_path: Path) -> None:
    columns = {"sex": ["F"] * 100 + ["M"] * 101}
    income = np.zeros(201)
    income[-1] = INCOME

    def view(digest: str, n: int, log: Memory | ProjectLog) -> CohortView:
        return CohortView({"sex": columns["sex"][:n]}, {"income": income[:n]}, 50, log)

    def attack(log_of: Callable[[str], Memory | ProjectLog]) -> float:
        tables = [
            view(d, n, log_of(d)).view("sex", MEASURES)
            for d, n in (("a" * 64, 200), ("b" * 64, 201))
        ]
        return total(tables[1], sex="M") - total(tables[0], sex="M")

    assert attack(lambda _: Forgetful()) == pytest.approx(INCOME, rel=0.02)
    with pytest.raises(
        FixedHarnessViolation, match="campaign 'main' was told of cohorts of other data"
    ):
        attack(lambda digest: ProjectLog(tmp_path / "queries.jsonl", "main", digest))


def test_an_altered_log_answers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    columns = {"sex": ["F"] * 100 + ["M"] * 100}
    CohortView(columns, {}, 50, ProjectLog(path, "main", "a" * 64)).view("sex", ("n",))
    path.write_bytes(path.read_bytes().replace(b'["sex"]', b'["age"]'))
    with pytest.raises(LedgerError, match="was altered"):
        CohortView(columns, {}, 50, ProjectLog(path, "main", "a" * 64)).view("sex", ("n",))
