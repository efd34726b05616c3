from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_autoresearch.capacity import memory_limit_mb

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


def test_what_is_configured_holds(tmp_path: Path) -> None:
    assert memory_limit_mb(123, tmp_path) == 123


def test_else_four_fifths_of_the_machine(tmp_path: Path) -> None:
    assert memory_limit_mb(None, tmp_path) == pytest.approx(0.8 * PHYSICAL)


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_or_of_the_control_group(tmp_path: Path, name: str) -> None:
    limit = tmp_path / name
    limit.parent.mkdir(exist_ok=True)
    limit.write_text(f"{100 << 20}\n")
    assert memory_limit_mb(None, tmp_path) == pytest.approx(80)


def test_a_group_without_a_limit_has_the_machine(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit_mb(None, tmp_path) == pytest.approx(0.8 * PHYSICAL)
