"""
Text for the terminal: escaping of untrusted text, and the tables of the summary.

``escape`` is the one place where text that a candidate could have written becomes safe to show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_autoresearch.compliance.fairness import Cohort

    from .results import ResultRow

__all__ = ["FairnessLine", "cohort_table", "escape", "fairness_table", "one_line", "results_table"]

#: Where CI systems see a command in a log: ``##[`` and ``##vso[`` anywhere, ``::`` at the start of a line.
_CI_COMMAND = re.compile(r"(?<=#)#(?=\[|vso\[)|(?<!\S):(?=:)")


def escape(text: str) -> str:
    r"""
    Write every character that does not print as its Python escape: ``\x1b``, ``\n``, ``\u202e``.

    So is one character of what GitHub's and Azure's log readers would take for a command to them.

    That is all of C0 and C1, bidirectional and zero-width controls, separators other than the space,
    surrogates, private and unassigned code points. Nothing is left that moves a cursor, hides text, changes
    its order or starts a row. For text of several lines, escape line by line.
    """
    text = _CI_COMMAND.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def one_line(text: str, width: int = 72) -> str:
    """Escape ``text`` into one line of at most ``width`` characters; whitespace runs become one space."""
    line = escape(" ".join(text.split()))
    return line if len(line) <= width else line[: max(width - 1, 0)].rstrip() + "…"


@dataclass(frozen=True)
class FairnessLine:
    """One fairness measure of the evaluated model."""

    metric: str
    by: str
    value: float
    at_most: float | None = None
    at_least: float | None = None
    incumbent: float | None = None
    """The incumbent's figure, where known."""

    @property
    def passed(self) -> bool | None:
        """Whether the value meets its thresholds; None when it is only reported. nan meets none."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        below = self.at_most is None or self.value <= self.at_most
        return above and below

    def __str__(self) -> str:
        sign, limit = ("<", self.at_least) if self.at_most is None else (">", self.at_most)
        end = "" if limit is None or self.passed else f" {sign} threshold={limit:.3f}"
        return f"{self.metric}[{self.by}]={self.value:.3f}{end}"


def fairness_table(lines: Sequence[FairnessLine]) -> str:
    """Table of measures against their thresholds; empty text for no lines."""
    rows = []
    for line in lines:
        limits = [
            f"{sign} {limit:.3f}"
            for sign, limit in (("<=", line.at_most), (">=", line.at_least))
            if limit is not None
        ]
        result = {None: "reported", True: "ok", False: "FAILED"}[line.passed]
        before = "-" if line.incumbent is None else f"{line.incumbent:.3f}"
        name = f"{line.metric}[{line.by}]"
        rows.append([name, f"{line.value:.3f}", before, " ".join(limits) or "-", result])
    return _table(["fairness", "value", "incumbent", "threshold", "result"], rows, "lrrll")


def cohort_table(by: str, cohorts: Sequence[Cohort]) -> str:
    """Table of one attribute's cohorts; empty text for none."""
    rows = [
        [
            cohort.name,
            str(cohort.n),
            str(cohort.positives),
            f"{cohort.selection_rate:.3f}",
            f"{cohort.tpr:.3f}",
            f"{cohort.fpr:.3f}",
            f"{cohort.accuracy:.3f}",
            f"{cohort.log_loss:.3f}",
            "" if cohort.gated else "too small to gate",
        ]
        for cohort in cohorts
    ]
    headers = [by, "n", "positives", "selected", "tpr", "fpr", "accuracy", "log loss", ""]
    return _table(headers, rows, "lrrrrrrrl")


def results_table(rows: Sequence[ResultRow], metric_name: str) -> str:
    """Table of experiments, in the order given; empty text for none."""
    cells = [
        [
            str(row.seq),
            row.commit[:7],
            "-" if row.metric is None else f"{row.metric:.6f}",
            row.status,
            row.domain,
            str(row.cost),
            row.description,
            row.reason,
        ]
        for row in rows
    ]
    headers = ["#", "commit", metric_name, "status", "domain", "cost", "description", "reason"]
    return _table(headers, cells, "rlrllrll")


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Lay out escaped cells of bounded width; ``align`` has one of l and r a column."""
    if not rows:
        return ""
    from tabulate import tabulate

    return tabulate(
        [[one_line(cell, 56) for cell in row] for row in rows],
        [one_line(header, 56) for header in headers],
        tablefmt="simple",
        colalign=["right" if letter == "r" else "left" for letter in align],
        disable_numparse=True,  # a description such as "1e-3" stays as written
    )
