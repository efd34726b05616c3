"""
An agent is a command: the prompt on its standard input, a room of its own, and the surface files it leaves
there. Exit codes and envelopes disagree between vendors, so the files are the only result.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .agent_room import PROMPT, AgentError, Shown, open_room
from .feedback import incumbent_text, log_section, trial_section
from .privacy import scanners_of
from .query_log import cohort_section
from .records import Proposal, Trial
from .rundir import last_line, tail_of
from .sandbox import Isolation, Usage

if TYPE_CHECKING:
    from .campaign import Campaign
    from .wall import Wall

__all__ = ["AgentError", "agent_text", "build_prompt", "explain", "run_agent"]


def run_agent(command: str, campaign: Campaign, history: Sequence[Trial]) -> Proposal | None:
    """
    Let a shell command edit a copy of the surface; None when it changed nothing.

    :raises AgentError: the command could not be run, failed without changing anything, or left surface
        files that are gone or no plain text files.
    """
    shown = _shown(campaign)
    prompt = build_prompt(campaign, history)
    fixed = {**_fixed(campaign), PROMPT: prompt.encode()}
    log = _fresh_log(campaign.directory / "agents")
    with open_room(campaign.scratch.short(), campaign.incumbent_files, fixed) as room:
        usage = room.run(command, shown, campaign.wall, log, campaign.settings.run)
        files = room.read()
    if files != dict(campaign.incumbent_files):
        return Proposal(files, "")
    if usage.returncode != 0 or usage.timed_out:
        raise explain(command, usage, shown, campaign.wall, log)
    return None


def agent_text(campaign: Campaign) -> str:
    """One line for people: how far the agent is kept from the machine, and what it is shown."""
    try:
        shown = f", {_shown(campaign)}"
    except AgentError:
        shown = ""  # the first round says what is wrong
    return f"agent: isolation {campaign.wall}{shown}"


def build_prompt(campaign: Campaign, history: Sequence[Trial]) -> str:
    """The agent's prompt: the rules, the budget, how to answer, and what :mod:`.feedback` lets through."""
    settings = campaign.settings
    rules = _fixed(campaign).get(settings.program, b"").decode("utf-8", errors="replace")
    lines = [
        rules.strip(),
        "",
        "## Now",
        f"- Edit only: {', '.join(settings.surface)} in the current directory. Then stop. Nothing else that "
        "you write is read.",
        f"- Budget left: {campaign.budget.remaining} of {settings.budget.total} units.",
        *incumbent_text(campaign.incumbent.metric, settings),
        "",
        *cohort_section(campaign),
        *trial_section(history, settings),
        *log_section(
            campaign.directory / "runs", settings.feedback, scanners_of(settings, campaign.task)
        ),
    ]
    return "\n".join(lines) + "\n"


def _shown(campaign: Campaign) -> Shown:
    git = campaign.repository.git_dir
    hidden = [campaign.directory.parent, campaign.task.data, git, campaign.root / ".git"]
    if (common := git / "commondir").is_file():  # a linked worktree: its history lies elsewhere
        hidden.append(git / common.read_text(encoding="utf-8").strip())
    return Shown.choose(campaign.settings.agent, hidden=hidden, root=campaign.root)


def _fixed(campaign: Campaign) -> dict[str, bytes]:
    """The fixed files that an agent may read: the rules as ratified, and ``prepare.py``."""
    settings = campaign.settings
    files = {settings.prepare: campaign.task.prepare_source}
    if settings.program in campaign.ratified:
        oid = campaign.ratified[settings.program][1]
        files[settings.program] = campaign.repository.read_blob(oid)
    elif (campaign.root / settings.program).is_file():
        files[settings.program] = (campaign.root / settings.program).read_bytes()
    return files


def _fresh_log(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    number = sum(1 for _ in directory.iterdir())
    while (path := directory / f"{number:06d}.log").exists():
        number += 1
    return path


def explain(command: str, usage: Usage, shown: Shown, wall: Wall, log: Path) -> AgentError:
    """Why a command that failed may have changed nothing, and what to set."""
    if usage.timed_out:
        ended = f"was ended at its deadline, agent.seconds = {shown.seconds:g},"
    elif usage.reason_for_kill:
        ended = f"was killed ({usage.reason_for_kill})"
    else:
        ended = f"ended with status {usage.returncode}"
    last = last_line(tail_of(log))
    # Escaped already, as every line of a log.
    words = f"; its last words: '{last[-300:]}'" if last else "; it printed nothing"
    advice = []
    if wall.level is not Isolation.NONE:
        advice = list(_unseen(command, shown, wall.level))
        advice.append(
            "it sees the system's programs, this interpreter and agent.readable: add the directory of a "
            "program or file it misses there"
        )
        if not shown.network:
            advice.append("it has no network: set agent.network = true if it calls a model's API")
    if shown.absent:
        advice.append(f"agent.env names {', '.join(shown.absent)}, which is not set here")
    else:
        advice.append("it inherits no variable: name those it needs, such as a key, in agent.env")
    return AgentError(
        f"the agent command {command!r} {ended} and changed nothing{words}. At isolation level {wall} "
        f"{'; '.join(advice)}. Its output is in {str(log)!r}"
    )


def _unseen(command: str, shown: Shown, level: Isolation) -> Iterator[str]:
    """The program of a command if it is on the user's path, but lies where the room does not show it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return
    program = next((word for word in words if "=" not in word), "")
    program = os.path.expanduser(program)  # noqa: PTH111 (a word)
    found = shutil.which(program, path=shown.search_path(level)) or shutil.which(program)
    if not program or found is None or level is Isolation.CONTAINER:
        return
    places = dict.fromkeys((Path(found).parent, Path(found).resolve().parent))
    missing = [str(place) for place in places if not shown.sees(place, level)]
    if missing:
        yield (
            f"{program!r} is {found!r}, which it cannot see: add {', '.join(map(repr, missing))} to "
            "agent.readable"
        )
