"""
Protected names and values: whether a mutation mentions, rebinds or reaches for them.

What is covered: a refusal before any training second is spent, with the name and the line to say why. A name counts
wherever a statement that is new, changed or gone has it: as identifier, attribute, import, keyword or whole string,
also one that is put together from constants (:mod:`.folding`). New are refused, too, where names are protected: access
by a name that is known at run time only (``getattr(x, name)``, ``globals()[name]``, ``exec(text)``) and star imports.
What is not covered: security. A string that comes out of a file or a loop is not seen; the sandbox is the wall.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from .fixed_values import Value, value_problems
from .folding import Constants, as_text, constants_of, fold, pieces_of
from .reaching import BY_TEXT, called, new_reaches
from .syntax import NESTED, Part, is_note, split, tokens, try_parse

__all__ = ["protected_problems", "protected_touched"]


def protected_problems(
    before: Mapping[str, bytes],
    after: Mapping[str, bytes],
    names: Collection[str],
    values: Mapping[str, Value],
) -> tuple[str, ...]:
    """
    What a mutation does to protected names and values, a sentence each; empty when nothing.
    """
    found = [f"it mentions {name!r}" for name in protected_touched(before, after, names)]
    if names or values:
        old, new = constants_of(before), constants_of(after)
        found += new_reaches(old, new)
        for name, value in values.items():
            found += value_problems(old, new, name, value)
    return tuple(dict.fromkeys(found))


def protected_touched(
    before: Mapping[str, bytes], after: Mapping[str, bytes], names: Collection[str]
) -> tuple[str, ...]:
    """
    The protected names that occur in a statement that is new, changed or gone, sorted.

    Counts identifiers, attributes, imports, keyword arguments and whole string literals, also ones
    put together from constant pieces. A speed check that saves a training run; it is not a wall.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for path in before.keys() | after.keys():
        old, new = before.get(path, b""), after.get(path, b"")
        if old == new:
            continue
        known = [constants_of({path: data}).get(path) for data in (old, new)]
        match known:
            case [Constants() as first, Constants() as second]:
                old_parts, new_parts = split(first.tree, old), split(second.tree, new)
                old_texts = Counter(part.text for part in old_parts)
                new_texts = Counter(part.text for part in new_parts)
                changed = {t for t in old_texts | new_texts if old_texts[t] != new_texts[t]}
                counts.subtract(_mentions(old_parts, changed, names, first))
                counts.update(_mentions(new_parts, changed, names, second))
            case _:
                counts.subtract(_line_mentions(old, names))
                counts.update(_line_mentions(new, names))
    return tuple(sorted({name for (name, _), count in counts.items() if count}))


def _mentions(
    parts: Iterable[Part],
    changed: Collection[bytes],
    names: Collection[str],
    constants: Constants,
) -> Iterator[tuple[str, str]]:
    """Each protected name with the meaning of the innermost statement that mentions it."""
    for part in parts:
        if part.text in changed:
            for node in ast.walk(part.node):
                if isinstance(node, NESTED) and not is_note(node):
                    for name in _names(node, constants).intersection(names):
                        yield name, tokens(node, own=True)


def _line_mentions(data: bytes, names: Collection[str]) -> Iterator[tuple[str, str]]:
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        for name in names:
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line):
                yield name, line


def _own(statement: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement, without the statements nested in it."""
    stack = [statement]
    while stack:
        node = stack.pop()
        yield node
        stack += [child for child in ast.iter_child_nodes(node) if not isinstance(child, NESTED)]


def _names(statement: ast.AST, constants: Constants) -> set[str]:
    """Identifiers and whole strings of a statement, without the statements nested in it."""
    names: set[str] = set()
    inside: set[int] = set()
    for node in _own(statement):
        for _, value in ast.iter_fields(node):
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, str) and not isinstance(node, ast.Constant):
                    names.update((item, *item.split(".")))
        if not isinstance(node, ast.expr) or id(node) in inside:
            continue
        # The whole of a sum counts and not its parts, which mean nothing by themselves.
        inside.update(map(id, pieces_of(node)))
        text = as_text(fold(node, constants))
        if text is None:
            continue
        names.add(text)
        if isinstance(node, ast.Constant):
            continue
        names.update(text.split("."))
    for node in _own(statement):
        if isinstance(node, ast.Call) and called(node) in BY_TEXT and node.args:
            text = as_text(fold(node.args[0], constants))
            tree = try_parse(text.encode("utf-8", "replace")) if text is not None else None
            for nested in tree.body if tree is not None else ():
                for each in ast.walk(nested):
                    if isinstance(each, NESTED):
                        names |= _names(each, constants)
    return names
