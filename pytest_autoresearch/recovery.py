"""
What each kind of state change does to the repository, and how it is undone.

Everything here is idempotent and rests on the intent alone, so that it may be done again after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping

from .journal import Act, Journal, Settlement, Undo
from .rows import Action, Intent, Payload
from .stale import remove_dead_locks
from .vcs import Repository

__all__ = ["recover", "restore_point", "stock_acts", "stock_undo"]


def restore_point(tag: str, commit: str) -> str:
    """Name of the ref that keeps a commit of a campaign reachable, whatever becomes of its branch."""
    return f"refs/autoresearch/{tag}/restore/{commit}"


def stock_acts(repository: Repository) -> Mapping[Action, Act]:
    """
    Kind of change to how it is carried out.

    A keep publishes the prepared commit, a rollback an older one; a revert or an escalation puts the surface
    before it back; a baseline puts HEAD on the campaign's branch; all else changes nothing in git.
    """

    def baseline(intent: Intent, payload: Payload) -> str:
        repository.create_branch_here(intent.branch)
        return intent.tip

    def publish(intent: Intent, payload: Payload) -> str:
        repository.publish(
            intent.target, branch=intent.branch, expected_tip=intent.tip, paths=intent.surface
        )
        return intent.target

    def restore(intent: Intent, payload: Payload) -> str:
        repository.restore_surface(intent.tip, intent.surface)
        return ""

    def nothing(intent: Intent, payload: Payload) -> str:
        return ""

    return {
        "baseline": baseline,
        "keep": publish,
        "revert": restore,
        "rollback": publish,
        "escalate": restore,
        "halt": nothing,
        "ratify": nothing,
        "stop": nothing,
    }


def stock_undo(repository: Repository) -> Undo:
    """Go back to the intent's commit and surface; the branch moves only if the change had moved it."""

    def undo(intent: Intent) -> None:
        if intent.action in ("baseline", "halt", "ratify", "stop"):
            return
        if intent.target:
            repository.withdraw(intent.target, branch=intent.branch, tip=intent.tip)
        repository.restore_surface(intent.tip, intent.surface)

    return undo


def recover(journal: Journal, repository: Repository, tag: str) -> Settlement | None:
    """
    Settle what a crash left open, with the journal's lock held: what was settled, None when nothing was open.

    :raises JournalError: when it can be neither finished nor undone.
    """
    unfinished = journal.open_intent() is not None
    remove_dead_locks(repository.root, repository.git_dir, tag, unfinished=unfinished)
    return journal.recover(stock_acts(repository), stock_undo(repository))
