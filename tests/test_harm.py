"""The Harm Test: what is declared is held against the facts, and says which of them does not hold."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import numpy as np
import pluggy
import pytest

from pytest_autoresearch import defaults, hookspecs
from pytest_autoresearch.compliance.aggregates import individual_outputs, typical
from pytest_autoresearch.evaluation import Evaluation
from pytest_autoresearch.harm import HarmTest
from pytest_autoresearch.sandbox import Isolation
from pytest_autoresearch.settings import Feedback, Harm, Settings
from pytest_autoresearch.wall import Wall


def harm_of(
    settings: Settings | None = None, level: str = "strong", own: tuple[str, ...] = ()
) -> HarmTest:
    """The test of a session with these settings, at this level, with a conftest that has these hooks."""
    manager = pluggy.PluginManager("pytest")
    manager.add_hookspecs(hookspecs)
    manager.register(defaults)
    if own:
        conftest = ModuleType("conftest")
        for name in own:
            exec(f"@mark\ndef {name}(config): pass", {"mark": pytest.hookimpl}, conftest.__dict__)
        manager.register(conftest, "harness_tests/conftest.py")
    experiment = SimpleNamespace(
        config=SimpleNamespace(hook=manager.hook),
        campaign=SimpleNamespace(settings=settings or Settings(), wall=Wall(Isolation(level))),
    )
    return HarmTest(experiment)  # type: ignore[arg-type]


def evaluation() -> Evaluation:
    scores = np.linspace(0.1, 0.9, 200)
    labels = np.arange(200) % 2
    return Evaluation({"val_loss": 0.4}, 0.4, "", (scores, labels, {"sex": labels}))


@pytest.mark.parametrize("level", ["strong", "kernel", "container"])
def test_behind_a_wall_every_property_holds_by_default(level: str) -> None:
    harm = harm_of(level=level)
    assert [each.name for each in harm.properties] == [
        "outputs",
        "writes",
        "network",
        "individuals",
    ]
    assert harm.problems == ()


def test_without_a_wall_writes_and_network_do_not_hold_unless_somebody_answers_for_them() -> None:
    writes, network = harm_of(level="none").problems
    assert writes.startswith("writes = 'none' does not hold: at isolation level 'none'")
    assert network.startswith("network = 'none' does not hold: at isolation level 'none'")
    declared = Settings(harm=Harm(writes="unchecked", network="unchecked"))
    assert harm_of(declared, "none").problems == ()


@pytest.mark.parametrize(
    ("hook", "names"),
    [
        ("pytest_autoresearch_keep", ["writes"]),
        ("pytest_autoresearch_revert", ["writes"]),
        ("pytest_autoresearch_execute", ["writes", "network"]),
        ("pytest_autoresearch_record", []),
    ],
)
def test_a_hook_that_acts_in_the_place_of_the_harness_is_named(hook: str, names: list[str]) -> None:
    problems = harm_of(own=(hook,)).problems
    assert [problem.partition(" ")[0] for problem in problems] == names
    assert all(
        f"the hook {hook} of conftest.py may act anywhere" in problem for problem in problems
    )


def test_a_runs_own_words_are_no_aggregates() -> None:
    (problem,) = harm_of(Settings(feedback=Feedback(log_lines=3))).problems
    assert problem.startswith("outputs = 'aggregates' does not hold: feedback.log_lines = 3")


def test_a_run_at_another_level_than_the_session_is_found() -> None:
    harm = harm_of()
    assert harm.problems_of(SimpleNamespace(isolation="strong"), evaluation()) == ()  # type: ignore[arg-type]
    problems = harm.problems_of(SimpleNamespace(isolation="none"), evaluation())  # type: ignore[arg-type]
    assert [problem.partition(" ")[0] for problem in problems] == ["writes", "network"]
    assert "the run was at isolation level 'none' and not at 'strong'" in problems[0]


def test_an_evaluation_shows_aggregates_and_a_public_array_is_found() -> None:
    assert individual_outputs(evaluation()) == ()

    class Leaky(Evaluation):
        @property
        def predictions(self) -> np.ndarray:
            return self._scores

    leaky = Leaky({"val_loss": 0.4}, 0.4, "", (np.full(9, 0.5), np.zeros(9), {}))
    assert individual_outputs(leaky) == (
        "predictions: metric 'predictions' is an array of shape (9,): a metric is one number; figures of "
        "individuals never leave the harness",
    )
    held = harm_of().problems_of(SimpleNamespace(isolation="strong"), leaky)  # type: ignore[arg-type]
    assert held[0].startswith("individuals = 'none' does not hold: predictions")


def test_a_summary_holds_no_score_of_a_single_person() -> None:
    scores = [0.0] * 49 + [0.5] * 901 + [1.0] * 50
    scores[0] = -400.0
    found = typical(sorted(scores))
    assert found == {
        "n": 1000.0,
        "mean": pytest.approx(0.1005),
        "low": pytest.approx(-7.99),
        "middle": 0.5,
        "high": 1.0,
    }
    assert not set(found.values()) & {-400.0}
