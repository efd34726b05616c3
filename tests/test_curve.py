"""
A run's learning curve: read while it is written, and hostile until proven otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_autoresearch.curve import LIMIT, POINTS, parse, read_curve, thinned

GOOD = b"0,1.5\n0.25,1\n0.25,-0.5\n1,2e-3\n"
POINTS_OF_GOOD = ((0.0, 1.5), (0.25, 1.0), (0.25, -0.5), (1.0, 0.002))


def test_a_curve_is_shares_of_the_budget_and_losses(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_bytes(GOOD)

    assert read_curve(tmp_path) == POINTS_OF_GOOD
    assert parse(GOOD.replace(b"\n", b"\r\n")) == POINTS_OF_GOOD


def test_a_line_that_is_still_being_written_is_left_out() -> None:
    assert parse(GOOD + b"1,0.00") == POINTS_OF_GOOD
    assert parse(b"0.5,1") == ()


@pytest.mark.parametrize(
    "line",
    [
        b"1,nan", b"1,inf", b"1,1e999", b"1,1e200", b"nan,1", b"1.01,1", b"-0.1,1", b"0.2,1",
        b"1", b"1,2,3", b"1, 2", b"1,0x10", b"1,1_0", b"share,loss", b"", b"1,2\0", "1,\u0661".encode(),
        b"1," + b"9" * 400, b"\xff,1", b"1,1\x0b",
    ],
)  # fmt: skip
def test_one_bad_line_and_there_is_no_curve(line: bytes) -> None:
    assert parse(GOOD + line + b"\n") == ()


def test_too_many_points_or_bytes_are_no_curve(tmp_path: Path) -> None:
    assert len(parse(b"0.5,1\n" * POINTS)) == POINTS
    assert parse(b"0.5,1\n" * (POINTS + 1)) == ()
    (tmp_path / "curve.csv").write_bytes(b"0.5,1\n" + b"0" * LIMIT)
    assert read_curve(tmp_path) == ()


def other_kinds(directory: Path) -> dict[str, Path]:
    """Directories whose curve.csv is something else than a file of the run's own."""
    made = {}
    for kind in ("link", "hard link", "pipe", "directory", "nothing", "whole directory"):
        made[kind] = directory / kind / "out"
        made[kind].parent.mkdir()
        if kind != "whole directory":
            made[kind].mkdir()
    secret = directory / "secret"
    secret.write_bytes(GOOD)
    (made["link"] / "curve.csv").symlink_to(secret)
    (made["hard link"] / "curve.csv").hardlink_to(secret)
    os.mkfifo(made["pipe"] / "curve.csv")
    (made["directory"] / "curve.csv").mkdir()
    elsewhere = directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "curve.csv").write_bytes(GOOD)
    made["whole directory"].symlink_to(elsewhere)
    return made


def test_whatever_is_no_file_of_the_run_is_no_curve_and_nobody_waits_for_it(tmp_path: Path) -> None:
    for kind, directory in other_kinds(tmp_path).items():
        assert read_curve(directory) == (), kind
    # Control: the content itself is good.
    assert read_curve(tmp_path / "elsewhere") == POINTS_OF_GOOD


def test_thinning_averages_equal_parts_of_the_budget() -> None:
    curve = tuple(((i + 0.5) / 400, float(i % 2)) for i in range(400))

    thin = thinned(curve, 100)

    assert len(thin) == 100
    assert {loss for _, loss in thin} == {0.5}
    assert [share for share, _ in thin] == pytest.approx([(4 * i + 2) / 400 for i in range(100)])
    assert thinned(thin, 100) == thin


def test_a_thinned_curve_is_short_to_write() -> None:
    curve = thinned(tuple((i / 700, 1 / (i + 1)) for i in range(700)))

    assert len(curve) == 50
    assert len(repr(curve)) < 1500
    assert curve == thinned(curve)
