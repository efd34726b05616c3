"""
``[tool.autoresearch]`` of pyproject.toml as typed, strict settings.

An unknown key, a wrong type or a value out of range is an error that names key, value and rule.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, get_args

import msgspec

from . import keys
from .harness import is_obeyed
from .records import Domain
from .settings import Settings

__all__ = ["ConfigurationError", "load_settings"]

#: Patterns and choices in words.
_RULES = {
    keys.PATH: "a path inside the project, with forward slashes, without '.' or '..' and not ending in '/'",
    keys.NAME: "a name of letters, digits and underscores",
    keys.ADDRESS: "the address of a repository, a URL or an absolute path, not the name of a remote",
    keys.FILE: "the plain name of a file: letters, digits, '.', '_' and '-'",
}
_CHOICES = {
    "run.device": get_args(keys.Device),
    "sandbox": get_args(keys.Level),
    "mode": get_args(keys.Mode),
    "feedback.metric": get_args(keys.Figure),
    "keep.rule": get_args(keys.Preset),
    "keep.audit": get_args(keys.Veto),
    "cusum.unit": get_args(keys.Unit),
    "harm.outputs": get_args(keys.Told),
    "harm.writes": get_args(keys.Nothing),
    "harm.network": get_args(keys.Nothing),
    "harm.individuals": get_args(keys.Nothing),
    "fairness.metric": get_args(keys.FairnessMetric),
    "fairness.sure": get_args(keys.Sureness),
    "fairness.small": get_args(keys.Small),
}


class ConfigurationError(Exception):
    """The configuration breaks a rule; the message names key, value and rule."""


def load_settings(text: str) -> Settings:
    """
    Read the settings from the text of pyproject.toml; without the table: the defaults.

    :raises ConfigurationError: for text that is not TOML, an unknown key, a wrong type, a value out of range.
    """
    try:
        tool = tomllib.loads(text).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"pyproject.toml cannot be read: {error}") from error
    if not isinstance(tool, dict):
        raise ConfigurationError(f"pyproject.toml: tool = {tool!r} breaks the rule: a table")
    table = tool.get("autoresearch", {})
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_explain(str(error), table)) from error
    _check(settings)
    return settings


def _explain(problem: str, table: object) -> str:
    """Put key, value and rule of msgspec's complaint into one sentence."""
    rule, _, where = problem.partition(" - at ")
    # Below a table of free keys msgspec writes [...]: the whole table is shown then.
    path = where.rpartition("`$")[2].strip("`").lstrip(".").partition("[...]")[0]
    if "`key" in where and path == "protected_values":
        return f"[tool.autoresearch] {path} breaks the rule: each key is {_RULES[keys.NAME]}"
    if "`key" in where:
        domains = ", ".join(repr(domain.value) for domain in Domain)
        wrong = rule.rpartition("value ")[2]
        return f"[tool.autoresearch] {path} has the wrong key {wrong}: one of {domains}"
    unknown = re.search(r"unknown field `([^`]*)`", rule)
    if unknown:
        key = ".".join(filter(None, [path, unknown[1]]))
        return f"[tool.autoresearch] has the unknown key {key!r}: remove it or correct its spelling"
    value: Any = table
    steps = re.findall(r"[^.\[\]]+", path)
    for step in steps:
        value = value[int(step)] if isinstance(value, list) else value[step]
    for pattern, words in _RULES.items():
        if rule.endswith(f"matching regex {pattern!r}"):
            rule = words
    if rule.startswith("Invalid enum value"):
        named = ".".join(step for step in steps if not step.isdigit())
        rule = f"one of {', '.join(map(repr, _CHOICES[named]))}"
    key = f" {path}" if path else ""
    return f"[tool.autoresearch]{key} = {value!r} breaks the rule: {rule[:1].lower() + rule[1:]}"


def _check(settings: Settings) -> None:
    """Refuse what no single field can see."""
    if settings.entry not in settings.surface:
        raise ConfigurationError(
            f"[tool.autoresearch] entry = {settings.entry!r} is not on the surface "
            f"{list(settings.surface)!r}: a training run executes a surface file"
        )
    fixed = (settings.prepare, settings.program, settings.data, *settings.harness)
    for path in settings.surface:
        if is_obeyed(path) or any(_lies_in(path, top) for top in fixed):
            raise ConfigurationError(
                f"[tool.autoresearch] surface names {path!r}, which belongs to the Fixed Harness: "
                "an agent may not alter what judges it"
            )
    if settings.sandbox == "container" and not settings.launcher:
        raise ConfigurationError(
            "[tool.autoresearch] sandbox = 'container' needs launcher = [...]: the command that starts yours"
        )
    anchors = settings.anchors
    if anchors.required and not (anchors.file or anchors.remote or anchors.command):
        raise ConfigurationError(
            "[tool.autoresearch.anchors] required = true, but no place is named: set file, remote or command"
        )
    if anchors.file is not None and "{tag}" not in anchors.file:
        raise ConfigurationError(
            f"[tool.autoresearch.anchors] file = {anchors.file!r} breaks the rule: it has '{{tag}}' in it, since "
            "each campaign needs a file of its own"
        )
    if settings.run.readable and settings.mode == "verified":
        raise ConfigurationError(
            "[tool.autoresearch] run.readable is for mode = 'self-reported': a verified run reads the training "
            "view alone"
        )
    if settings.fairness and settings.mode == "self-reported":
        raise ConfigurationError(
            "[tool.autoresearch] fairness rules need mode = 'verified': a printed figure has no cohorts"
        )
    if not settings.metric_floor < settings.metric_ceiling:
        raise ConfigurationError(
            f"[tool.autoresearch] metric_floor = {settings.metric_floor!r} is not below "
            f"metric_ceiling = {settings.metric_ceiling!r}"
        )
    for rule in settings.fairness:
        if rule.at_most is not None and rule.at_least is not None:
            raise ConfigurationError(
                f"[tool.autoresearch] fairness rule {rule.metric!r} by {rule.by!r} has both at_most and "
                "at_least: write two rules"
            )
        if not rule.attributes or len(set(rule.attributes)) != len(rule.attributes):
            raise ConfigurationError(
                f"[tool.autoresearch] fairness rule {rule.metric!r} by {rule.by!r}: name each attribute once"
            )


def _lies_in(path: str, top: str) -> bool:
    """Whether a path is ``top`` or below it, also where the file system knows no case."""
    return f"{path}/".casefold().startswith(f"{top}/".casefold())
