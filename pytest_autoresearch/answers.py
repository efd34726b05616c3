"""
Verdicts that need no gate and no run: the text cannot be reviewed, or the ledger has the answer already.

Whoever may submit one experiment twice keeps the luckier draw. So a candidate that means the same as the
incumbent, or as one that was judged since a person last ratified the harness, is not run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .equivalence import fingerprint
from .records import Decision, Reason, Verdict
from .source import objections
from .verdicts import EXIT

if TYPE_CHECKING:
    from .experiment import Experiment
    from .state import Settled, State

__all__ = ["answer"]

#: Grounds that say something about this machine or this answer, not about the candidate.
_NO_JUDGEMENT = frozenset(
    {"already-judged", "no-op", "hook-failed", "action-failed", "rolled-back", "harness-touched"}
)


def answer(experiment: Experiment) -> Verdict | None:
    """The verdict on a candidate that nothing needs to be run for; None for every other one."""
    if experiment.mutation.identical:
        return None  # a person asks whether the incumbent still passes; its figures stay
    campaign = experiment.campaign
    found = objections(
        campaign.incumbent_files, experiment.candidate.files, campaign.settings.source
    )
    if found:
        reasons = tuple(Reason("source", sentence) for sentence in found)
        return Verdict(Decision.REVERT, reasons, "gate", EXIT["gate"])
    mark = fingerprint(experiment.candidate.files)
    if mark == fingerprint(campaign.incumbent_files):
        message = (
            "only comments, layout, the spelling of constants or a seed differ from the incumbent: there is "
            "nothing to measure, since the harness draws the seeds"
        )
        return _unchanged("no-op", message)
    before = judged_before(campaign.state, mark)
    if before is None:
        return None
    way_out = (
        "A person who wants it judged anew renews the reference: `autoresearch ratify --reason ...`"
    )
    return _unchanged("already-judged", f"{_told(before)}; it is not run again. {way_out}")


def judged_before(state: State, mark: str) -> Settled | None:
    """The first row since the harness was last ratified that judged a candidate of this fingerprint."""
    for row in state.settled.marked_since(mark, state.judged_from):
        judged = row.decision in (Decision.KEEP, Decision.REVERT, Decision.ESCALATE)
        codes = {reason.code for reason in row.reasons}
        if judged and not codes & _NO_JUDGEMENT:
            return row
    return None


def _unchanged(code: str, message: str) -> Verdict:
    return Verdict(Decision.REVERT, (Reason(code, message),), "discard", EXIT["no-gain"])


def _told(row: Settled) -> str:
    """What became of the same candidate, in half a sentence."""
    if row.kind == "baseline":
        return f"it means the same as the baseline (row {row.row}), which was improved upon since"
    what = {
        Decision.KEEP: "was kept and improved upon since",
        Decision.ESCALATE: "waits for a person",
    }.get(row.decision or Decision.REVERT, f"was reverted: {row.reason}")
    return f"a candidate that means the same {what} (row {row.row})"
