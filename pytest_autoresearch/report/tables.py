"""
Text for the terminal: escaping of untrusted text, and the tables of the summary.

``escape`` is the one place where text that a candidate could have written becomes safe to show.
"""

from __future__ import annotations

import math
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
    low: float = math.nan
    """Of the 95 % interval; nan: not computed."""
    high: float = math.nan
    sure: bool = False
    """Whether the whole interval must meet the thresholds."""
    incumbent: float | None = None
    """The incumbent's figure, where known."""
    worse_by: float | None = None
    """By how much it may be less fair than the incumbent."""
    worsening: float | None = None
    """By how much it is, beyond noise; None: there is nothing to compare with."""
    where: str = ""
    """The cohorts that the value rests on, in words."""
    worse_where: str = ""
    """The cohort that is worse off than it was, where the measure tells one."""

    @property
    def passed(self) -> bool | None:
        """Whether the value meets its limits; None when it is only reported. nan meets none."""
        if self.at_most is None and self.at_least is None and self.worse_by is None:
            return None
        return self._in_bounds and not self._worse

    @property
    def _in_bounds(self) -> bool:
        low, high = (self.low, self.high) if self.sure else (self.value, self.value)
        above = self.at_least is None or low >= self.at_least
        below = self.at_most is None or high <= self.at_most
        return above and below

    @property
    def _worse(self) -> bool:
        if self.worse_by is None or self.worsening is None:
            return False
        return not self.worsening <= self.worse_by

    def __str__(self) -> str:
        told = f"{self.metric}[{self.by}]={self.value:.3f}"
        if not self._in_bounds:
            sign, limit = ("<", self.at_least) if self.at_most is None else (">", self.at_most)
            if self.sure:
                told += f" (95 % interval {self.low:.3f} to {self.high:.3f})"
            told += f" {sign} threshold={limit:.3f}"
            if not self.sure and not math.isnan(self.low):
                told += f" (95 % interval {self.low:.3f} to {self.high:.3f}; {self.where})"
            elif self.where:
                told += f" ({self.where})"
        if self._worse:
            at = f" for {self.worse_where}" if self.worse_where else ""
            told += (
                f", {self.worsening:.3f} at least less fair than the incumbent's {self.incumbent:.3f}{at}: more "
                f"than {self.worse_by:.3f} beyond noise"
            )
        return told


def fairness_table(lines: Sequence[FairnessLine]) -> str:
    """Table of measures against their thresholds; empty text for no lines."""
    rows = []
    for line in lines:
        limits = [
            f"{sign} {limit:.3f}"
            for sign, limit in (
                ("<=", line.at_most),
                (">=", line.at_least),
                ("worse by <=", line.worse_by),
            )
            if limit is not None
        ]
        result = {None: "reported", True: "ok", False: "FAILED"}[line.passed]
        before = "-" if line.incumbent is None else f"{line.incumbent:.3f}"
        name = f"{line.metric}[{line.by}]"
        interval = "-" if math.isnan(line.low) else f"{line.low:.3f} to {line.high:.3f}"
        limit = ", ".join(limits) or "-"
        rows.append([name, f"{line.value:.3f}", interval, before, limit, result])
    headers = ["fairness", "value", "95 % interval", "incumbent", "threshold", "result"]
    return _table(headers, rows, "lrrrll")


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
