"""
Entry point of the plugin: options, markers, hooks; everything else is loaded with ``--autoresearch`` only.

Imports pytest and the standard library, so that an unused plugin costs nothing.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import fixtures, hookspecs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Sequence

    from .campaign import Campaign

#: The open campaign of this process; present exactly when --autoresearch is in effect.
CAMPAIGN: pytest.StashKey[Campaign] = pytest.StashKey()

#: Options under which pytest explains itself and runs nothing.
_LOOKING_AROUND = (
    "help",
    "version",
    "markers",
    "showfixtures",
    "show_fixtures_per_test",
    "cacheshow",
)

#: Options that hide gates; a verdict needs all of them (dest, what a user typed).
_PARTIAL = (
    ("keyword", "-k"),
    ("markexpr", "-m"),
    ("deselect", "--deselect"),
    ("ignore", "--ignore"),
    ("ignore_glob", "--ignore-glob"),
    ("lf", "--last-failed"),
    ("stepwise", "--stepwise"),
    ("setuponly", "--setup-only"),
    ("setupplan", "--setup-plan"),
    ("noconftest", "--noconftest"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("autoresearch", "validate a mutation of train.py as a pytest session")
    group.addoption(
        "--autoresearch",
        action="store_true",
        help="run the gates on the candidate, train it, decide, and keep or revert it",
    )
    group.addoption(
        "--autoresearch-candidate",
        metavar="DIR|REV",
        help="read the candidate's surface files from a directory or a git revision instead of the "
        "working tree; nothing else is read from there",
    )
    group.addoption(
        "--autoresearch-rounds",
        metavar="N",
        type=int,
        help="propose and judge up to N mutations, one child session each",
    )
    group.addoption(
        "--autoresearch-agent",
        metavar="evolve|CMD",
        help="who proposes: the built-in proposer, or a shell command that edits the surface files "
        "(default: evolve; needs --autoresearch-rounds)",
    )
    group.addoption(
        "--autoresearch-dry-run",
        action="store_true",
        help="decide, but touch no branch and no file and write no ledger",
    )
    group.addoption(
        "--autoresearch-sandbox",
        choices=("strong", "kernel", "container", "none"),
        help="isolation level of this session's runs (default: [tool.autoresearch] sandbox)",
    )
    group.addoption(
        "--autoresearch-tag",
        metavar="TAG",
        help="name of the campaign, whose branch is autoresearch/TAG (default: the current branch's, "
        "else 'main')",
    )
    group.addoption(
        "--autoresearch-message",
        metavar="TEXT",
        help="one line that describes the mutation (default: written from the difference)",
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    # Before any conftest: a harness that was touched must not get to run.
    options = early_config.known_args_namespace
    if not options.autoresearch:
        _refuse_orphans(options)
        return
    if any(getattr(options, dest, None) for dest in _LOOKING_AROUND):
        return
    _refuse_distribution(options, args)
    _refuse_separate_paths(early_config.invocation_params)
    if not (options.autoresearch_dry_run or options.collectonly):
        _refuse_partial(options)
    with _project_off_path(early_config.rootpath):
        from .opening import open_campaign

        campaign = open_campaign(early_config, options)
    early_config.stash[CAMPAIGN] = campaign
    early_config.add_cleanup(campaign.close)
    # Absolute paths, so that neither --pyargs nor the invocation directory changes their meaning.
    gates = [str(campaign.root / path) for path in campaign.settings.harness]
    gates += map(str, campaign.packs)
    args.extend(gates)
    options.file_or_dir = [*options.file_or_dir, *gates]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | pytest.ExitCode | None:
    campaign = config.stash.get(CAMPAIGN, None)
    if campaign is None or config.option.autoresearch_rounds is None or config.option.collectonly:
        return None
    config._do_configure()
    from .loop import run_rounds

    return run_rounds(config, campaign)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "gate(stage): a compliance gate that judges a candidate under --autoresearch; stage is 'pre', "
        "'mid' or 'post' (default: inferred from the fixtures it uses)",
    )
    config.pluginmanager.register(fixtures, "autoresearch-fixtures")
    campaign = config.stash.get(CAMPAIGN, None)
    if campaign is None:
        return
    from . import defaults
    from .session import AutoresearchSession

    config.pluginmanager.register(defaults, "autoresearch-defaults")
    if config.option.autoresearch_rounds is None or config.option.collectonly:
        config.pluginmanager.register(AutoresearchSession(config, campaign), fixtures.SESSION)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if CAMPAIGN in config.stash:
        return
    skip = pytest.mark.skip(reason="a gate: judges a candidate under --autoresearch")
    for item in items:
        if item.get_closest_marker("gate") is not None:
            item.add_marker(skip)


@contextmanager
def _project_off_path(root: Path) -> Generator[None]:
    """Let nothing in the work tree stand in for what this plugin imports before it has looked there."""
    before = sys.path[:]
    real, prefix = os.path.realpath(root), os.path.realpath(sys.prefix)
    for entry in before:
        place = Path(os.path.realpath(entry))
        own = Path(prefix).is_relative_to(real) and place.is_relative_to(prefix)
        if place.is_relative_to(real) and not own:
            sys.path.remove(entry)
    try:
        yield
    finally:
        sys.path[:] = before


def _refuse_orphans(options: argparse.Namespace) -> None:
    """Refuse an option that has no meaning without ``--autoresearch``."""
    for name, value in vars(options).items():
        if name.startswith("autoresearch_") and value not in (None, False):
            flag = "--" + name.replace("_", "-")
            raise pytest.UsageError(f"{flag} has no effect on its own: add --autoresearch")


def _refuse_distribution(options: argparse.Namespace, args: Sequence[str]) -> None:
    """Refuse pytest-xdist: a candidate is trained once and judged in one process."""
    if (
        getattr(options, "numprocesses", None)
        or getattr(options, "tx", None)
        or getattr(options, "dist", "no") != "no"
        or any(re.match(r"-n\b|-n\d|-nauto|-nlogical|--numprocesses", arg) for arg in args)
    ):
        raise pytest.UsageError(
            "-n is incompatible with --autoresearch: a session trains one candidate and judges it in one "
            "process; try using --autoresearch-rounds N for many candidates, or run the ordinary tests in "
            "a session of their own with -n"
        )
    if options.autoresearch_rounds is not None and options.autoresearch_rounds < 1:
        raise pytest.UsageError(
            f"--autoresearch-rounds {options.autoresearch_rounds!r} must be 1 or more"
        )
    if options.autoresearch_rounds is None and options.autoresearch_agent is not None:
        raise pytest.UsageError(
            "--autoresearch-agent proposes mutations in rounds: add --autoresearch-rounds N"
        )
    if options.autoresearch_rounds is not None:
        for dest in ("candidate", "message", "dry_run"):
            if getattr(options, f"autoresearch_{dest}"):
                flag = f"--autoresearch-{dest.replace('_', '-')}"
                raise pytest.UsageError(
                    f"{flag} is incompatible with --autoresearch-rounds: each round has a candidate of "
                    "its own, and the next builds on its verdict"
                )


def _refuse_separate_paths(given: pytest.Config.InvocationParams) -> None:
    """
    Refuse ``--autoresearch-candidate DIR`` with a blank where DIR exists.

    pytest looks for its root directory before it knows this plugin's options, takes DIR for a test path, and
    would read the candidate's configuration and conftest.
    """
    for option, value in pairwise(map(str, given.args)):
        if (
            option.startswith("--autoresearch-")
            and option != "--autoresearch-dry-run"  # takes no value
            and "=" not in option
            and not value.startswith("-")
            and (given.dir / value).exists()
        ):
            raise pytest.UsageError(
                f"{option} {value}: pytest takes a path after a blank for a test path, and would obey the "
                f"configuration it finds there; write {option}={value}"
            )


def _refuse_partial(options: argparse.Namespace) -> None:
    """Refuse an option that hides gates, before any compute is spent."""
    for dest, flag in _PARTIAL:
        if getattr(options, dest, None):
            raise pytest.UsageError(
                f"{flag} is incompatible with --autoresearch: a verdict needs every gate; drop it, or add "
                "--autoresearch-dry-run to look without deciding"
            )
