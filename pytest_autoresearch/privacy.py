"""
Personal data for gates: one question for each place where it could turn up, and answers without a value in them.

Which scanners look is decided here, by ``[tool.autoresearch.pii]`` and by what prepare.py has left: the built-in
patterns always, the known values of dropped columns where the data has ``known_values.json``, Presidio on demand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .artifact import UntrustedFileError, read_untrusted
from .compliance.findings import Finding, Scanner, scan_all, summary
from .compliance.patterns import scan_text

if TYPE_CHECKING:
    from .records import RunResult
    from .settings import Settings
    from .task import Task
    from .views import CandidateView

__all__ = ["KNOWN_VALUES", "Privacy", "scanners_of"]

#: Below the data directory, and never below ``train/``: the known values of :mod:`.compliance.known`.
KNOWN_VALUES = "known_values.json"


def scanners_of(settings: Settings, task: Task) -> tuple[Scanner, ...]:
    """
    The scanners of a project.

    :raises PresidioMissing: Presidio is asked for and not installed.
    :raises TaskError: the file of known values is none.
    """
    scanners: list[Scanner] = [scan_text]
    if KNOWN_VALUES in task.manifest["files"]:
        from .compliance.known import KnownValues
        from .task import TaskError

        try:
            scanners.append(KnownValues.from_json(task.read(KNOWN_VALUES)))
        except ValueError as error:
            raise TaskError(f"{task.data.name}/{KNOWN_VALUES} holds {error}") from error
    if settings.pii.presidio:
        from .compliance.presidio import Presidio

        scanners.append(Presidio(settings.pii.presidio_model))
    if settings.pii.allowed:
        return (_Allowing(tuple(scanners), frozenset(settings.pii.allowed)),)
    return tuple(scanners)


class _Allowing:
    """Scanners that let exact values through, which a person has named: a support address, say."""

    def __init__(self, scanners: Sequence[Scanner], allowed: frozenset[str]) -> None:
        self._scanners = scanners
        self._allowed = allowed

    def __call__(self, text: str) -> Sequence[Finding]:
        found = scan_all(text, self._scanners)
        return tuple(f for f in found if text[slice(*f.span)] not in self._allowed)


class Privacy:
    """
    What gates ask of personal data; every answer is a list of lines, empty when nothing was found.

    A line names kind, place and count, never a value: messages reach ledgers and agents.
    """

    def __init__(self, settings: Settings, task: Task) -> None:
        self._scanners = scanners_of(settings, task)
        self._denied = settings.pii.denied
        self._cap = settings.run.output_kb << 11

    def in_view(self, directory: Path) -> list[str]:
        """In what a run can read: column names, strings, columns of numbers, in every file."""
        from .compliance.pii import DENIED_COLUMNS, scan_directory

        return self._told(
            scan_directory(directory, (*DENIED_COLUMNS, *self._denied), self._scanners)
        )

    def in_proposal(self, candidate: CandidateView) -> list[str]:
        """In the proposal's description and in the lines that the mutation adds."""
        lines = candidate.diff.splitlines()
        added = "\n".join(x[1:] for x in lines if x[:1] == "+" and not x.startswith("+++ "))
        return [
            f"{line} of {place}"
            for place, text in (
                ("the description", candidate.mutation.description),
                ("the added lines", added),
            )
            for line in self.in_text(text)
        ]

    def in_output(self, run: RunResult) -> list[str]:
        """In everything a run has printed, crashed or not."""
        from .compliance.outputs import scan_output

        log = run.log_tail.encode("utf-8", "replace")
        if run.log is not None:
            try:
                log = read_untrusted(run.log, cap_bytes=self._cap)
            except UntrustedFileError as error:
                return [f"unscanned: {error}"]
        return self._told(scan_output(log, self._scanners))

    def in_artifact(self, run: RunResult) -> list[str]:
        """In every string of the artifact; nothing where a run has left none."""
        from .compliance.outputs import scan_artifact

        if run.artifact is None:
            return []
        try:
            return self._told(scan_artifact(run.artifact, self._scanners))
        except ValueError as error:
            return [f"unscanned: {error}"]

    def in_text(self, text: str) -> list[str]:
        """In any text, for gates of your own."""
        return self._told(scan_all(text, self._scanners))

    def _told(self, findings: Iterable[Finding]) -> list[str]:
        return summary(findings, self._scanners)
