"""The shipped progress chart on four real campaigns: silent on honest progress, loud on the two large fixes."""

from __future__ import annotations

import importlib.util
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

from pytest_autoresearch.settings import Charts

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "tests" / "reference" / "experiment_logs"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("replay", ROOT / "benchmarks" / "replay.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["replay"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "rows", "crashes", "keeps", "total", "alarms"),
    [
        ("karpathy_h100_mar8", 126, 1, 23, 0.029, []),
        ("mamba_auto_full", 60, 1, 28, 0.047, []),
        ("dojo_loop_pr75", 116, 0, 25, 0.327, []),
        ("trainrtx5070_mar10", 69, 7, 20, 0.739, [4, 5]),
    ],
)
def test_the_chart_flags_the_two_large_fixes_and_nothing_else(
    benchmark: ModuleType,
    name: str,
    rows: int,
    crashes: int,
    keeps: int,
    total: float,
    alarms: list[int],
) -> None:
    experiments = benchmark.replay(LOGS / f"{name}.tsv")
    assert len(experiments) == rows
    assert sum(e.status == "crash" for e in experiments) == crashes
    assert sum(e.status == "keep" for e in experiments) == keeps
    assert -sum(e.step for e in experiments) == pytest.approx(total, abs=5e-4)
    assert [e.number for e in experiments if e.alarm] == alarms
    assert all(e.s_upper == 0 and e.s_lower >= 0 for e in experiments)


def test_an_alarm_names_the_fix_and_the_last_experiment_before_the_rise(
    benchmark: ModuleType,
) -> None:
    experiments = benchmark.replay(LOGS / "trainrtx5070_mar10.tsv")
    batch, shuffle = (e for e in experiments if e.alarm)
    assert ("smaller batch" in batch.description, batch.last_zero) == (True, 1)
    assert ("Shuffling documents" in shuffle.description, shuffle.last_zero) == (True, 4)
    # The chart started afresh in between: ln(1.832082 / 1.374661) - k.
    assert shuffle.s_lower == pytest.approx(0.28725 - 0.005, abs=1e-5)


def test_a_fixed_target_would_alarm_on_honest_progress(benchmark: ModuleType) -> None:
    alarms = [benchmark.fixed_target(benchmark.replay(log)) for log in sorted(LOGS.glob("*.tsv"))]
    assert all(alarm is not None for alarm in alarms)


def test_a_tighter_interval_would_flag_the_honest_campaigns_too(benchmark: ModuleType) -> None:
    tight = Charts(interval=0.005)
    assert any(e.alarm for e in benchmark.replay(LOGS / "karpathy_h100_mar8.tsv", tight))
    assert any(e.alarm for e in benchmark.replay(LOGS / "dojo_loop_pr75.tsv", tight))


def test_steps_above_eight_sigma_are_found_where_sigma_is_known(benchmark: ModuleType) -> None:
    name = "karpathy_h100_mar8"
    large = benchmark.large_steps(name, benchmark.replay(LOGS / f"{name}.tsv"))
    assert [e.number for e in large] == [1, 2]
    assert benchmark.large_steps("mamba_auto_full", []) is None


@pytest.mark.parametrize("name", ["karpathy_h100_mar8", "trainrtx5070_mar10"])
def test_the_figures_in_the_documentation_are_those_of_the_shipped_chart(
    benchmark: ModuleType, name: str
) -> None:
    experiments = benchmark.replay(LOGS / f"{name}.tsv")
    figure = benchmark.draw(name, experiments, Charts())
    ET.fromstring(figure)
    assert (ROOT / "docs" / "figures" / f"{name}.svg").read_text(encoding="utf-8") == figure


def test_the_table_in_the_documentation_is_what_the_replay_prints(benchmark: ModuleType) -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(benchmark.HEADERS)} |" in text
    for log in sorted(LOGS.glob("*.tsv")):
        cells = benchmark.summary(log.stem, benchmark.replay(log))
        assert f"| {' | '.join(cells)} |".replace("%", " %") in text


def test_a_log_without_a_baseline_is_refused(benchmark: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "results.tsv"
    log.write_text("val_bpb\tstatus\tdescription\n1.0\tdiscard\tfirst\n")
    with pytest.raises(SystemExit, match="does not begin with a baseline"):
        benchmark.replay(log)
