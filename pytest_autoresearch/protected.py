"""
Protected names: whether a mutation mentions them in a statement that is new, changed or gone.

What is covered: a refusal before any training second is spent, with the names to say why.
What is not covered: security. A name put together at run time is not seen; the sandbox is the wall.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from .syntax import NESTED, Part, is_note, split, tokens, try_parse

__all__ = ["protected_touched"]


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
        trees = [try_parse(data) if path.endswith(".py") else None for data in (old, new)]
        match trees:
            case [ast.Module() as old_tree, ast.Module() as new_tree]:
                old_parts, new_parts = split(old_tree, old), split(new_tree, new)
                old_texts = Counter(part.text for part in old_parts)
                new_texts = Counter(part.text for part in new_parts)
                changed = {t for t in old_texts | new_texts if old_texts[t] != new_texts[t]}
                counts.subtract(_mentions(old_parts, changed, names))
                counts.update(_mentions(new_parts, changed, names))
            case _:
                counts.subtract(_line_mentions(old, names))
                counts.update(_line_mentions(new, names))
    return tuple(sorted({name for (name, _), count in counts.items() if count}))


def _mentions(
    parts: Iterable[Part], changed: Collection[bytes], names: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Each protected name with the meaning of the innermost statement that mentions it."""
    for part in parts:
        if part.text in changed:
            for node in ast.walk(part.node):
                if isinstance(node, NESTED) and not is_note(node):
                    for name in _names(node).intersection(names):
                        yield name, tokens(node, own=True)


def _line_mentions(data: bytes, names: Collection[str]) -> Iterator[tuple[str, str]]:
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        for name in names:
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line):
                yield name, line


def _names(statement: ast.AST) -> set[str]:
    """Identifiers and whole strings of a statement, without the statements nested in it."""
    names: set[str] = set()
    stack = [statement]
    while stack:
        node = stack.pop()
        match node:
            case ast.Constant(value=value):
                names.update(_strings([node]))
            case ast.JoinedStr() | ast.BinOp(op=ast.Add()):
                pieces = _pieces(node)
                names.add("".join(_strings(pieces)))
                stack += pieces
            case _:
                for _, value in ast.iter_fields(node):
                    for item in value if isinstance(value, list) else (value,):
                        if isinstance(item, str):
                            names.update((item, *item.split(".")))
                        elif isinstance(item, ast.AST) and not isinstance(item, NESTED):
                            stack.append(item)
    return names


def _pieces(expression: ast.expr) -> list[ast.expr]:
    """What a sum or an f-string is put together from, left to right."""
    pieces: list[ast.expr] = []
    stack = [expression]
    while stack:
        match stack.pop():
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                stack += (right, left)
            case ast.JoinedStr(values=values):
                stack += reversed(values)
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                stack.append(value)
            case piece:
                pieces.append(piece)
    return pieces


def _strings(pieces: Iterable[ast.expr]) -> list[str]:
    """The pieces as text; empty when one of them is known at run time only."""
    strings = []
    for piece in pieces:
        match piece:
            case ast.Constant(value=str() as text):
                strings.append(text)
            case ast.Constant(value=bytes() as data):
                strings.append(data.decode("latin-1"))
            case _:
                return []
    return strings
