"""``[tool.autoresearch]``: strict, typed, and every refusal names key, value and rule."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pytest_autoresearch.config import ConfigurationError, load_settings
from pytest_autoresearch.records import Domain
from pytest_autoresearch.settings import Settings

ROOT = Path(__file__).parents[1]


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(text)
    return str(refused.value)


def table(line: str, name: str = "") -> str:
    return f"[tool.autoresearch{name}]\n{line}\n"


@pytest.mark.parametrize("text", ["", "[tool.pytest]\nstrict = true", "[tool.autoresearch]"])
def test_without_settings_the_defaults_hold(text: str) -> None:
    settings = load_settings(text)
    assert settings == Settings()
    assert settings.surface == ("train.py",)
    assert settings.metric_ceiling == math.inf
    assert settings.budget.total == 100


def test_every_table_is_read() -> None:
    settings = load_settings(
        """
        [tool.autoresearch]
        surface = ["src/model.py", "train.py"]
        harness = ["gates", "more/test_one.py"]
        metric_floor = 1
        [tool.autoresearch.run]
        seconds = 5
        device = "cpu"
        memory_mb = 100
        [tool.autoresearch.budget.costs]
        feature = 0
        [tool.autoresearch.sections]
        metric = ["*perplexity*"]
        [[tool.autoresearch.fairness]]
        metric = "demographic_parity_ratio"
        by = "sex"
        at_least = 0.8
        """
    )
    assert settings.surface == ("src/model.py", "train.py")
    assert settings.run.seconds == 5.0
    assert settings.budget.costs == {Domain.FEATURE: 0}
    assert settings.sections == {Domain.METRIC: ("*perplexity*",)}
    assert settings.fairness[0].at_least == 0.8


def test_the_projects_own_configuration_is_valid() -> None:
    settings = load_settings((ROOT / "pyproject.toml").read_text())
    assert "sex" in settings.protected


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (table("surfaces = []"), "'surfaces'"),
        (table("secs = 1", ".run"), "'run.secs'"),
        (table("sum = 1", ".budget"), "'budget.sum'"),
        (table("beta = 1", ".keep"), "'keep.beta'"),
        (table("h = 1", ".cusum"), "'cusum.h'"),
        (
            table('metric = "demographic_parity_ratio"\nby = "s"\nat = 1').replace(
                "[tool.autoresearch]", "[[tool.autoresearch.fairness]]"
            ),
            "'fairness[0].at'",
        ),
        (table('"a.b" = 1'), "'a.b'"),
    ],
)
def test_an_unknown_key_is_refused_at_every_level(text: str, key: str) -> None:
    assert refusal(text) == (
        f"[tool.autoresearch] has the unknown key {key}: remove it or correct its spelling"
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[tool]\nautoresearch = 3", " = 3 breaks the rule: expected `object`, got `int`"),
        (table("run = 5"), " run = 5 breaks the rule: expected `object`, got `int`"),
        (table('seconds = "5"', ".run"), " run.seconds = '5' breaks the rule: expected `float`"),
        (table("threads = true", ".run"), " run.threads = True breaks the rule: expected `int`"),
        (table("threads = 1.5", ".run"), " run.threads = 1.5 breaks the rule: expected `int`"),
        (table("threads = 0", ".run"), " run.threads = 0 breaks the rule: expected `int` >= 1"),
        (table("seconds = 0", ".run"), " run.seconds = 0 breaks the rule: expected `float` > 0.0"),
        (table("seconds = nan", ".run"), " run.seconds = nan breaks the rule: expected `float`"),
        (table("seconds = inf", ".run"), " run.seconds = inf breaks the rule: expected `float`"),
        (table("score_seconds = -1.5", ".run"), " run.score_seconds = -1.5 breaks the rule"),
        (table('memory_mb = "x"', ".run"), " run.memory_mb = 'x' breaks the rule: expected `int"),
        (
            table('device = "tpu"', ".run"),
            " run.device = 'tpu' breaks the rule: one of 'auto', 'cpu', 'cuda'",
        ),
        (table("total = 0", ".budget"), " budget.total = 0 breaks the rule: expected `int` >= 1"),
        (
            table("feature = -1", ".budget.costs"),
            " budget.costs = {'feature': -1} breaks the rule: expected `int` >= 0",
        ),
        (
            table("speed = 1", ".budget.costs"),
            " budget.costs has the wrong key 'speed': one of 'hypothesis', 'hyperparameter',",
        ),
        (table("alpha = 0.5", ".keep"), " keep.alpha = 0.5 breaks the rule: expected `float` < 0."),
        (table("alpha = 0", ".keep"), " keep.alpha = 0 breaks the rule: expected `float` > 0.0"),
        (table("alpha = nan", ".keep"), " keep.alpha = nan breaks the rule"),
        (table("baseline = 1", ".keep"), " keep.baseline = 1 breaks the rule: expected `int` >= 2"),
        (table("baseline = 101", ".keep"), " keep.baseline = 101 breaks the rule"),
        (table("confirm = -1", ".keep"), " keep.confirm = -1 breaks the rule: expected `int` >= 0"),
        (table("allowance = -1", ".cusum"), " cusum.allowance = -1 breaks the rule"),
        (table("interval = 0", ".cusum"), " cusum.interval = 0 breaks the rule"),
        (table("surface = []"), " surface = [] breaks the rule: expected `array` of length >= 1"),
        (table('surface = ["a", 3]'), " surface[1] = 3 breaks the rule: expected `str`"),
        (table("harness = []"), " harness = [] breaks the rule"),
        (table('metric = "a b"'), " metric = 'a b' breaks the rule: a name of letters"),
        (table("metric = 2020-01-01"), " metric = datetime.date(2020, 1, 1) breaks the rule"),
        (table('artifact = "a/b"'), " artifact = 'a/b' breaks the rule: the plain name of a file"),
        (table("metric_floor = -0.1"), " metric_floor = -0.1 breaks the rule: expected `float` >="),
        (
            table('protected_values = { "a b" = 1 }'),
            " protected_values breaks the rule: each key is a name of letters",
        ),
        (
            table('harm.writes = "maybe"'),
            " harm.writes = 'maybe' breaks the rule: one of 'none', 'unchecked'",
        ),
        (table("cohort_minimum = 1"), " cohort_minimum = 1 breaks the rule"),
        (table('feature = "x"', ".sections"), " sections = {'feature': 'x'} breaks the rule"),
        (table("feature = [1]", ".sections"), " sections = {'feature': [1]} breaks the rule"),
        (table('speed = ["x"]', ".sections"), " sections has the wrong key 'speed': one of"),
    ],
)
def test_a_wrong_type_or_range_names_key_value_and_rule(text: str, complaint: str) -> None:
    assert refusal(text).startswith(f"[tool.autoresearch]{complaint}")


@pytest.mark.parametrize(
    "path",
    [
        "../x.py",
        "/etc/passwd",
        "a/../b",
        "a\\\\b",
        "C:x",
        "",
        ".",
        "./train.py",
        "a//b",
        "a/",
        "a/.",
    ],
)
def test_a_path_has_one_spelling_inside_the_project(path: str) -> None:
    message = refusal(table(f'surface = ["train.py", "{path}"]'))
    shown = path.replace("\\\\", "\\")
    assert message.startswith(f"[tool.autoresearch] surface[1] = {shown!r} breaks the rule: a path")


@pytest.mark.parametrize(
    "path", ["train.py", "a..b", "..a/b", ".hidden", "a.b/c.py", "a b", "é.py"]
)
def test_ordinary_paths_are_accepted(path: str) -> None:
    assert load_settings(table(f'program = "{path}"\nsurface = ["t.py"]\nentry = "t.py"'))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            'metric = "speed"\nby = "sex"',
            "fairness[0].metric = 'speed' breaks the rule: one of 'demo",
        ),
        (
            'by = "sex"',
            "fairness[0] = {'by': 'sex'} breaks the rule: object missing required field",
        ),
        ('metric = "demographic_parity_ratio"', "fairness[0] = {'metric': "),
        (
            'metric = "demographic_parity_ratio"\nby = "sex"\nat_most = 1.5',
            "fairness[0].at_most = 1.5 breaks the rule: expected `float` <= 1.0",
        ),
        (
            'metric = "demographic_parity_ratio"\nby = "sex"\nat_least = 0.1\nat_most = 0.2',
            "fairness rule 'demographic_parity_ratio' by 'sex' has both at_most and at_least: write two",
        ),
    ],
)
def test_a_fairness_rule_is_checked(line: str, complaint: str) -> None:
    message = refusal(f"[[tool.autoresearch.fairness]]\n{line}\n")
    assert message.startswith(f"[tool.autoresearch] {complaint}")


def test_a_run_executes_a_surface_file() -> None:
    assert refusal(table('surface = ["model.py"]')) == (
        "[tool.autoresearch] entry = 'train.py' is not on the surface ['model.py']: a training run "
        "executes a surface file"
    )


@pytest.mark.parametrize(
    "path",
    [
        "prepare.py",
        "Prepare.py",
        "pyproject.toml",
        "program.md",
        "harness_tests",
        "harness_tests/test_post_loop.py",
        "harness_tests/sub/helper.py",
        "HARNESS_tests/test_post_loop.py",
        "data/manifest.json",
        "conftest.py",
        "src/conftest.py",
        "pytest.ini",
        "setup.cfg",
        "sitecustomize.py",
        "src/evil.pth",
    ],
)
def test_the_surface_may_not_name_what_judges_it(path: str) -> None:
    message = refusal(table(f'surface = ["train.py", "{path}"]'))
    assert message.startswith(f"[tool.autoresearch] surface names {path!r}, which belongs to the")


def test_a_file_beside_the_harness_may_stand_on_the_surface() -> None:
    assert load_settings(
        table('surface = ["train.py", "harness_tests_of_mine.py", "src/setup.cfg"]')
    )


@pytest.mark.parametrize(
    ("floor", "ceiling"), [("0.5", "0.5"), ("2", "1"), ("inf", "inf"), ("0", "nan")]
)
def test_a_metric_needs_room_between_floor_and_ceiling(floor: str, ceiling: str) -> None:
    message = refusal(table(f"metric_floor = {floor}\nmetric_ceiling = {ceiling}"))
    assert (
        f"metric_floor = {float(floor)!r} is not below metric_ceiling = {float(ceiling)!r}"
        in message
    )


def test_text_that_is_no_toml_is_refused() -> None:
    assert refusal("[tool.autoresearch").startswith("pyproject.toml cannot be read: ")
    assert refusal("tool = 3") == "pyproject.toml: tool = 3 breaks the rule: a table"


def test_the_package_gives_every_public_name_and_no_other() -> None:
    import pytest_autoresearch

    for name in pytest_autoresearch.__all__:
        assert getattr(pytest_autoresearch, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Veto'"):
        _ = pytest_autoresearch.Veto
