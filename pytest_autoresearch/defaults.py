"""
The stock implementation of every hook; each answers last. The only caller of the rooms below.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from .records import (
    Candidate,
    Evidence,
    Mutation,
    Proposal,
    RunRequest,
    RunResult,
    Trial,
    Verdict,
)

if TYPE_CHECKING:
    from .campaign import Campaign


def _campaign(config: pytest.Config) -> Campaign:
    from .plugin import CAMPAIGN

    return config.stash[CAMPAIGN]


@pytest.hookimpl(trylast=True)
def pytest_autoresearch_propose(
    config: pytest.Config, files: Mapping[str, bytes], history: Sequence[Trial], number: int
) -> Proposal | None:
    campaign = _campaign(config)
    agent = config.option.autoresearch_agent or "evolve"
    if agent != "evolve":
        from .agents import run_agent

        return run_agent(agent, campaign, history)
    from .equivalence import fingerprint
    from .evolve import propose

    entry = campaign.settings.entry
    found = propose(
        files[entry].decode("utf-8"),
        path=entry,
        others={path: content for path, content in files.items() if path != entry},
        tried={fingerprint(trial.files) for trial in history} | {fingerprint(files)},
        rng=random.Random(f"{campaign.tag}:{number}"),
        protected=campaign.settings.protected,
        history=history,
    )
    if found is None:
        return None
    source, description = found
    return Proposal({**files, entry: source.encode()}, description)


@pytest.hookimpl(trylast=True)
def pytest_autoresearch_classify(
    config: pytest.Config, before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> Mutation:
    from .mutation import classify

    settings = _campaign(config).settings
    return classify(
        before,
        after,
        costs=_campaign(config).costs,
        **({"sections": settings.sections} if settings.sections else {}),
        description=config.option.autoresearch_message or "",
    )


@pytest.hookimpl(trylast=True)
def pytest_autoresearch_execute(config: pytest.Config, request: RunRequest) -> RunResult:
    from .report.terminal import RunProgress

    progress = RunProgress.of(config)
    with progress.run(request.seconds) as tick:
        return _campaign(config).trainer.train(request, tick, progress.say)


@pytest.hookimpl(trylast=True)
def pytest_autoresearch_verdict(config: pytest.Config, evidence: Evidence) -> Verdict:
    from .verdicts import decide_verdict

    return decide_verdict(evidence, _campaign(config).settings)


@pytest.hookimpl(trylast=True)
def pytest_autoresearch_keep(config: pytest.Config, candidate: Candidate, commit: str) -> str:
    return _campaign(config).publish(commit)


@pytest.hookimpl(trylast=True)
def pytest_autoresearch_revert(config: pytest.Config, candidate: Candidate) -> str:
    return _campaign(config).restore()
