"""results.tsv, progress.png and the tables, with text that a hostile candidate could have written."""

from __future__ import annotations

import csv
import math
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_autoresearch.compliance.fairness import Cohort
from pytest_autoresearch.report.progress import place_labels, write_progress_png
from pytest_autoresearch.report.results import ResultRow, replace_file, write_results_tsv
from pytest_autoresearch.report.tables import (
    FairnessLine,
    cohort_table,
    escape,
    fairness_table,
    one_line,
    results_table,
)

PNG = b"\x89PNG\r\n\x1a\n"


def row(seq: int = 0, metric: float | None = 0.3112, **changes: object) -> ResultRow:
    values: dict[str, object] = {
        "commit": "5022ead",
        "metric": metric,
        "memory_gb": 0.44,
        "status": "keep",
        "description": "baseline",
        "reason": "",
        "domain": "hyperparameter",
        "cost": 10,
        "seq": seq,
    }
    return ResultRow(**(values | changes))  # type: ignore[arg-type]


# --- escape ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, ünïcode, 中文, 2→3", "plain text, ünïcode, 中文, 2→3"),
        ("\x1b[2K\x1b]52;c;Zm9v\x07", "\\x1b[2K\\x1b]52;c;Zm9v\\x07"),
        ("PASS\rFAIL\nnext\ttab\0", "PASS\\rFAIL\\nnext\\ttab\\x00"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("a\u202eb\u2066c\u200fd", "a\\u202eb\\u2066c\\u200fd"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\u2028\u2029\u00a0\u00ad", "\\u2028\\u2029\\xa0\\xad"),
        ("\U000e0041 tag", "\\U000e0041 tag"),
        ("\ud800 lone", "\\ud800 lone"),
    ],
    ids=["plain", "terminal", "c0", "c1", "bidi", "zero-width", "separators", "tags", "surrogate"],
)
def test_characters_that_act_on_a_terminal_are_spelled_out(text: str, expected: str) -> None:
    assert escape(text) == expected


@given(st.text(st.characters(exclude_categories=[])))
def test_escaped_text_prints_encodes_and_stays_the_same_when_escaped_again(text: str) -> None:
    safe = escape(text)
    assert safe.isprintable()
    assert safe.encode("utf-8").decode("utf-8") == escape(safe) == safe
    assert len(safe.splitlines()) <= 1


@given(st.text(), st.integers(1, 40))
def test_one_line_is_bounded(text: str, width: int) -> None:
    assert len(one_line(text, width)) <= width


def test_one_line_folds_whitespace_and_marks_what_it_cut() -> None:
    assert one_line("  two\n lines\x1b ") == "two lines\\x1b"
    assert one_line("abcdefgh", 5) == "abcd…"


# --- results.tsv -------------------------------------------------------------------------------


def test_upstreams_columns_come_first_and_a_crash_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    crashed = row(
        1, None, commit="-", memory_gb=None, status="crash", description="bigger", reason="exit 1"
    )
    write_results_tsv(path, [row(), crashed, row(2, math.nan, memory_gb=math.inf)], "val_loss")
    assert path.read_text().splitlines() == [
        "commit\tval_loss\tmemory_gb\tstatus\tdescription\treason\tdomain\tcost\tseq",
        "5022ead\t0.311200\t0.4\tkeep\tbaseline\t\thyperparameter\t10\t0",
        "'-\t0.000000\t0.0\tcrash\tbigger\texit 1\thyperparameter\t10\t1",
        "5022ead\t0.000000\t0.0\tkeep\tbaseline\t\thyperparameter\t10\t2",
    ]


hostile = st.text(st.characters(exclude_categories=[])) | st.sampled_from(
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\uff1d1", 'a"b', '"', "x\ny\tkeep\tz", "\x85"]
)


@given(hostile, hostile)
def test_no_text_makes_a_row_a_column_or_a_formula(
    tmp_path_factory: pytest.TempPathFactory, description: str, reason: str
) -> None:
    path = tmp_path_factory.mktemp("results") / "results.tsv"
    write_results_tsv(path, [row(description=description, reason=reason), row(1)], "val_loss")
    with path.open(encoding="utf-8", newline="") as stream:
        header, first, second = csv.reader(stream, delimiter="\t")
    assert [len(header), len(first), len(second)] == [9, 9, 9]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3
    for cell, text in ((first[4], description), (first[5], reason)):
        assert cell in (escape(text), "'" + escape(text))
        assert not cell.lstrip().startswith(
            ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
        )


@pytest.mark.parametrize("name", ["commit", "status", "val loss", "a\tb", "", "1st"])
def test_a_metric_name_that_cannot_head_a_column_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot head a column"):
        write_results_tsv(tmp_path / "results.tsv", [], name)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_whole_and_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "outside"
    target.write_text("precious")
    link = tmp_path / "results.tsv"
    link.symlink_to(target)
    replace_file(link, b"new")
    assert (target.read_text(), link.read_bytes(), link.is_symlink()) == ("precious", b"new", False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["outside", "results.tsv"]


def test_a_failed_replacement_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "results.tsv").mkdir()
    with pytest.raises(OSError, match=r"results\.tsv"):
        replace_file(tmp_path / "results.tsv", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["results.tsv"]


# --- progress.png ------------------------------------------------------------------------------


def test_a_campaign_is_drawn_with_hostile_and_unprintable_descriptions(tmp_path: Path) -> None:
    rows = [
        row(0, 1.0),
        row(1, 0.9, description="costs $5 and $6 \\frac{ 😀 \ue000 \x1b[31m"),
        row(2, 1.2, status="discard"),
        row(3, 50.0, status="gate"),
        row(4, None, status="crash"),
        row(5, math.nan, status="crash"),
        row(6, 0.8, description="warmdown " * 30),
    ]
    path = tmp_path / "progress.png"
    assert write_progress_png(path, rows, "val_loss") == ""
    assert path.read_bytes().startswith(PNG)
    before = path.read_bytes()
    assert write_progress_png(path, rows, "val_loss", baseline=1.1) == ""
    assert path.read_bytes() != before


@pytest.mark.parametrize("metrics", [[0.5], [0.5, 0.5], [0.0], [-1.0, -2.0]], ids=str)
def test_a_campaign_without_a_range_is_drawn(tmp_path: Path, metrics: list[float]) -> None:
    rows = [row(i, metric) for i, metric in enumerate(metrics)]
    assert write_progress_png(tmp_path / "p.png", rows, "val_loss") == ""
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


def test_a_crowded_campaign_drops_labels_rather_than_overlap_them(tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [row(0, 1.0)]
    for i in range(1, 4000):
        kept = row(i, 0.5 - i / 1e5, description="a rather long description " * 2)
        tried = row(i, rng.uniform(0.4, 1.05), status="discard")
        rows.append(kept if i % 80 == 0 else tried)
    assert write_progress_png(tmp_path / "p.png", rows, "val_loss") == ""
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


def test_nothing_kept_means_no_picture_and_a_reason(tmp_path: Path) -> None:
    problem = write_progress_png(tmp_path / "p.png", [row(0, None, status="crash")], "val_loss")
    assert problem == "p.png was not drawn: no experiment has been kept yet"
    assert not (tmp_path / "p.png").exists()


def test_without_matplotlib_the_reason_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    problem = write_progress_png(tmp_path / "p.png", [row()], "val_loss")
    assert "pip install 'pytest-autoresearch[plot]'" in problem
    assert not (tmp_path / "p.png").exists()


coordinate = st.floats(0, 300)


@given(
    st.lists(
        st.tuples(
            st.tuples(coordinate, coordinate), st.tuples(st.floats(5, 120), st.floats(5, 20))
        ),
        max_size=12,
    )
)
def test_placed_labels_overlap_nothing_and_stay_inside(
    labels: list[tuple[tuple[float, float], tuple[float, float]]],
) -> None:
    points = [point for point, _ in labels]
    sizes = [size for _, size in labels]
    obstacles = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    corners = place_labels(points, sizes, obstacles, (0, 0, 300, 300))
    boxes = list(obstacles)
    for corner, (width, height) in zip(corners, sizes, strict=True):
        if corner is None:
            continue
        x0, y0, x1, y1 = *corner, corner[0] + width, corner[1] + height
        assert x0 > 0
        assert y0 > 0
        assert x1 < 300
        assert y1 < 300
        for a0, b0, a1, b1 in boxes:
            assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0
        boxes.append((x0, y0, x1, y1))


def test_a_lone_label_stands_beside_its_point() -> None:
    assert place_labels([(50, 50)], [(20, 10)], [], (0, 0, 300, 300)) == [(60, 45)]
    assert place_labels([(50, 50)], [(400, 10)], [], (0, 0, 300, 300)) == [None]


# --- tables ------------------------------------------------------------------------------------


def test_the_fairness_table_shows_value_threshold_and_result() -> None:
    table = fairness_table(
        [
            FairnessLine("equalized_odds_difference", "sex", 0.131, at_most=0.1, incumbent=0.08),
            FairnessLine(
                "equalized_odds_difference", "race", 0.132, at_most=0.2, low=0.1, high=0.171
            ),
            FairnessLine("demographic_parity_ratio", "sex", 0.31),
        ]
    )
    assert (
        table
        == textwrap.dedent("""\
        fairness                           value    95 % interval    incumbent  threshold    result
        -------------------------------  -------  ---------------  -----------  -----------  --------
        equalized_odds_difference[sex]     0.131                -        0.080  <= 0.100     FAILED
        equalized_odds_difference[race]    0.132   0.100 to 0.171            -  <= 0.200     ok
        demographic_parity_ratio[sex]      0.310                -            -  -            reported""")
    )


@pytest.mark.parametrize(
    ("at_most", "at_least", "value", "passed"),
    [
        (0.1, None, 0.1, True),
        (0.1, None, 0.1001, False),
        (None, 0.8, 0.8, True),
        (None, 0.8, 0.79, False),
        (0.9, 0.1, 0.95, False),
        (0.9, 0.1, 0.5, True),
        (0.1, None, math.nan, False),
        (None, 0.8, math.nan, False),
        (None, None, 0.5, None),
    ],
)
def test_a_line_passes_within_both_thresholds(
    at_most: float | None, at_least: float | None, value: float, passed: bool | None
) -> None:
    assert FairnessLine("m", "sex", value, at_most, at_least).passed is passed


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (FairnessLine("m", "sex", 0.131, at_most=0.1), "m[sex]=0.131 > threshold=0.100"),
        (FairnessLine("m", "sex", 0.31, at_least=0.8), "m[sex]=0.310 < threshold=0.800"),
        (FairnessLine("m", "sex", 0.08, at_most=0.1), "m[sex]=0.080"),
        (FairnessLine("m", "sex", 0.08), "m[sex]=0.080"),
        (
            FairnessLine(
                "m", "sex", 0.131, at_most=0.1, low=0.11, high=0.152, where="tpr F 1, M 2"
            ),
            "m[sex]=0.131 > threshold=0.100 (95 % interval 0.110 to 0.152; tpr F 1, M 2)",
        ),
        (
            FairnessLine(
                "m", "sex", 0.08, at_most=0.1, low=0.06, high=0.102, sure=True, where="a 1"
            ),
            "m[sex]=0.080 (95 % interval 0.060 to 0.102) > threshold=0.100 (a 1)",
        ),
        (
            FairnessLine(
                "m",
                "sex",
                0.08,
                0.1,
                incumbent=0.05,
                worse_by=0.01,
                worsening=0.02,
                worse_where="F",
            ),
            "m[sex]=0.080, 0.020 at least less fair than the incumbent's 0.050 for F: more than 0.010 beyond noise",
        ),
        (FairnessLine("m", "sex", 0.08, worse_by=0.01, worsening=0.01), "m[sex]=0.080"),
    ],
    ids=["above", "below", "met", "reported", "how sure", "not sure", "worse", "no worse"],
)
def test_a_line_names_the_threshold_it_breaks(line: FairnessLine, expected: str) -> None:
    assert str(line) == expected


def test_the_cohort_table_marks_small_cohorts() -> None:
    table = cohort_table(
        "race",
        [
            Cohort("White", 8000, 2000, 0.2, 0.6, 0.07, 0.86, 0.31, gated=True),
            Cohort("Other\x1b[0m", 80, 10, 0.1, 0.5, math.nan, 0.9, 0.2, gated=False),
        ],
    )
    heading = "race n positives selected tpr fpr accuracy log loss"
    assert " ".join(table.splitlines()[0].split()) == heading
    assert "too small to gate" in table.splitlines()[3]
    assert "\\x1b[0m" in table
    assert "nan" in table


def test_the_results_table_keeps_text_as_written() -> None:
    table = results_table(
        [
            row(description="1e-3"),
            row(12, None, commit="a" * 40, status="crash", reason="exit\nstatus 1"),
        ],
        "val_loss",
    )
    lines = table.splitlines()
    assert len(lines) == 4
    assert " ".join(lines[2].split()) == "0 5022ead 0.311200 keep hyperparameter 10 1e-3"
    assert lines[3].split()[:4] == ["12", "aaaaaaa", "-", "crash"]
    assert lines[3].endswith("exit status 1")


def test_empty_tables_are_empty_text() -> None:
    assert (fairness_table([]), cohort_table("sex", []), results_table([], "m")) == ("", "", "")


def test_importing_the_rooms_loads_no_third_party_library() -> None:
    code = (
        "import sys, pytest_autoresearch.keep, pytest_autoresearch.cusum\n"
        "from pytest_autoresearch.report import progress, results, tables\n"
        "print(*sorted({'numpy', 'matplotlib', 'tabulate', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout.strip() == ""
