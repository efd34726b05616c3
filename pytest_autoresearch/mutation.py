"""
What a mutation touches, read off the abstract syntax trees: domain, cost, difference, description.

Everything here is a pure function of bytes. Nothing is imported, evaluated or executed, and nothing
raises on hostile input: what cannot be understood counts as architecture, the dearest domain.

What is covered: prices, descriptions, and a fast refusal before any GPU second is spent.
What is not covered: security. Python has more ways to say a thing than a static check can follow
(``getattr`` chains, code that reads its own comments); the sandbox and the harness are the wall.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

from .budget import COSTS
from .difference import diff
from .protected import protected_touched
from .records import Domain, Mutation, ParameterChange
from .report.tables import one_line
from .syntax import (
    READS_NOTES,
    Part,
    constant_of,
    head,
    hidden,
    is_literal,
    parse_source,
    reaches_out,
    slots,
    split,
    tokens,
    try_parse,
)

__all__ = [
    "DEFAULT_SECTIONS",
    "classify",
    "constant_of",
    "diff",
    "is_literal",
    "parse_source",
    "protected_touched",
]

Files = Mapping[str, bytes]

DEFAULT_SECTIONS: Mapping[Domain, Sequence[str]] = MappingProxyType(
    {
        Domain.HYPERPARAMETER: ("*optimi[sz]*", "*schedule*", "learning_rate*"),
        Domain.METRIC: ("*metric*", "*loss*", "*eval*", "*score*"),
        Domain.FEATURE: ("*feature*", "*columns*", "numeric*", "categorical*"),
        Domain.ARCHITECTURE: ("*model*", "*layer*", "*block*", "*network*"),
    }
)
"""Names of top-level functions and classes (and, for features, constants) by domain; any case."""

_RISK = tuple(Domain)
# A literal that is longer than this is data or a program, not a hyperparameter.
_LITERAL_CAP = 1_000
_DESCRIPTION_CAP = 120
_VALUE_CAP = 40
_RUNS_STRINGS = re.compile(rb"(?<![.\w])(exec|eval|compile|__import__)\b")


def classify(
    before: Files,
    after: Files,
    *,
    costs: Mapping[Domain, int] = COSTS,
    sections: Mapping[Domain, Sequence[str]] = DEFAULT_SECTIONS,
    description: str = "",
) -> Mutation:
    """
    The mutation that leads from ``before`` to ``after``, surface path to content.

    Only comments, docstrings and layout differ: hypothesis. Only literal values of module constants
    differ: hyperparameter, or feature where the constant's name says so. Code inside a top-level
    function or class differs: the domain whose ``sections`` pattern its name matches. Several: the
    dearest decides. Everything else, and every doubt: architecture. Never raises.
    """
    if dict(before) == dict(after):
        text = _cut(description) or "no change"
        only = frozenset({Domain.HYPOTHESIS})
        return Mutation(Domain.HYPOTHESIS, only, 0, text, diff="", identical=True)
    found = _Findings(costs, sections)
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            found.compare_file(path, before.get(path), after.get(path))
    domain = found.dearest(found.labels) or Domain.HYPOTHESIS
    return Mutation(
        domain=domain,
        domains=frozenset(found.labels) or frozenset({domain}),
        cost=costs[domain],
        description=_cut(description) or found.describe(),
        diff=diff(before, after),
        parameters=tuple(found.parameters),
        touched=frozenset(found.touched),
        syntax_error=found.syntax_error,
    )


@dataclass
class _Findings:
    """What differs between two versions of the surface, gathered file by file."""

    costs: Mapping[Domain, int]
    sections: Mapping[Domain, Sequence[str]]
    labels: dict[Domain, list[str]] = field(default_factory=dict)
    """Domain to the things that differ, named for a reader."""
    parameters: list[ParameterChange] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    syntax_error: str = ""

    def dearest(self, domains: Iterable[Domain]) -> Domain | None:
        return max(
            domains, key=lambda domain: (self.costs[domain], _RISK.index(domain)), default=None
        )

    def add(self, domain: Domain, label: str) -> None:
        self.labels.setdefault(domain, []).append(label)

    def unknown(self, label: str) -> None:
        self.add(Domain.ARCHITECTURE, label)

    def compare_file(self, path: str, old: bytes | None, new: bytes | None) -> None:
        if old is None or new is None or not path.endswith(".py"):
            word = "new" if old is None else "removed" if new is None else "changed"
            self.unknown(f"{word} file {path}")
        if new is None or not path.endswith(".py"):
            return
        try:
            tree = parse_source(new)
        except ValueError as error:
            self.syntax_error = _cut(f"{path}: {error}")
            self.unknown(f"{path} does not parse")
            return
        if old is None:
            return
        old_tree = try_parse(old)
        if old_tree is None:
            self.unknown(f"{path} did not parse before")
            return
        if hidden(new) - hidden(old):
            self.unknown(f"hidden characters in {path}")
        self._compare_parts(split(old_tree, old), split(tree, new), new)

    def _compare_parts(self, old: list[Part], new: list[Part], source: bytes) -> None:
        shared = {part.text for part in old} & {part.text for part in new}
        notes = bool(READS_NOTES.search(source))
        old_slots, new_slots = slots(old, shared, notes), slots(new, shared, notes)
        for key, part in [*old_slots.items(), *new_slots.items()]:
            if key in old_slots and key in new_slots:
                continue
            self.unknown(f"{'new' if key in new_slots else 'removed'} {part.label}")
            self.touched.update({part.name} - {""})
            if part.value:
                values = ("", part.value) if key in new_slots else (part.value, "")
                self.parameters.append(ParameterChange(part.name, *values))
        common = [key for key in old_slots if key in new_slots]
        if common != [key for key in new_slots if key in old_slots]:
            self.unknown("order of the top-level statements")
        for before, after in ((old_slots[key], new_slots[key]) for key in common):
            if before.text != after.text and (
                tokens(before.node, notes=notes) != tokens(after.node, notes=notes)
            ):
                self.touched.add(after.name)
                if after.constant:
                    self._compare_constants(before, after, source)
                else:
                    self.add(self._domain_of_definition(before, after), after.label)

    def _compare_constants(self, old: Part, new: Part, source: bytes) -> None:
        if not (old.value and new.value):
            self.unknown(new.label)
            return
        self.parameters.append(ParameterChange(new.name, old.value, new.value))
        holds_text = "'" in new.value or '"' in new.value
        if (
            len(new.value) > _LITERAL_CAP
            or new.name.startswith("__")
            or (holds_text and _RUNS_STRINGS.search(source))
        ):
            self.unknown(new.label)
        elif self.matches(new.name, Domain.FEATURE):
            self.add(Domain.FEATURE, new.label)
        else:
            self.add(Domain.HYPERPARAMETER, new.label)

    def _domain_of_definition(self, old: Part, new: Part) -> Domain:
        """By name, unless the new code reaches out of the definition: then its name says little."""
        if head(old.node) != head(new.node) or reaches_out(new.node) - reaches_out(old.node):
            return Domain.ARCHITECTURE
        matching = [domain for domain in self.sections if self.matches(new.name, domain)]
        return self.dearest(matching) or Domain.ARCHITECTURE

    def matches(self, name: str, domain: Domain) -> bool:
        patterns = self.sections.get(domain, ())
        return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)

    def describe(self) -> str:
        changes = [change for change in self.parameters if change.before and change.after]
        pieces = [
            f"{c.name} {_cut(c.before, _VALUE_CAP)} -> {_cut(c.after, _VALUE_CAP)}" for c in changes
        ]
        told = {change.name for change in changes}
        for domain in sorted(self.labels, key=_RISK.index, reverse=True):
            labels = [label for label in self.labels[domain] if label not in told]
            if labels:
                pieces.append(f"{domain}: {', '.join(dict.fromkeys(labels))}")
        return _cut("; ".join(pieces)) or "comments, docstrings or layout"


def _cut(text: str, width: int = _DESCRIPTION_CAP) -> str:
    """One printable line; dots at its end say that there was more."""
    line = one_line(text, sys.maxsize)
    return line if len(line) <= width else f"{line[: width - 3]}..."
