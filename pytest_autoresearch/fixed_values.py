"""
Constants of the surface that keep their value, whatever way a mutation gives them another.

What is covered: any second binding in whatever scope, another value, an attribute or a string of that name.
What is not covered: a name put together at run time; :mod:`.reaching` refuses the ways to use one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from .folding import Constants, as_text, fold

__all__ = ["Value", "value_problems"]

Value = str | int | float | bool


def value_problems(
    before: Mapping[str, Constants], after: Mapping[str, Constants], name: str, value: Value
) -> Iterator[str]:
    """Whether a constant is still bound once, at the top of one surface file, to its value, and written nowhere."""
    bindings = [found for constants in after.values() for found in _bindings(constants, name)]
    writes = [
        sum(_writes(node, name, each) for each in files.values() for node in ast.walk(each.tree))
        for files in (before, after)
    ]
    told = f"{name} must stay {value!r}"
    if writes[1] > writes[0]:
        yield f"{told}, and it is written as an attribute or by its name in a string"
    if not bindings:
        yield f"{told}, and it is gone"
    for node, found in bindings:
        line = getattr(node, "lineno", 0)
        if found is None:
            yield f"{told}, and line {line} binds it otherwise"
        elif (type(found), found) != (type(value), value):
            yield f"{told}, and line {line} makes it {found!r}"
    if len(bindings) > 1:
        yield f"{told}, and it is bound {len(bindings)} times"


def _bindings(constants: Constants, name: str) -> Iterator[tuple[ast.AST, object]]:
    """Where a file binds a name, each with its value if that is a constant of the file's top."""
    tops = {
        id(target): statement.value
        for statement in constants.tree.body
        for target in _targets(statement)
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value
    }
    for node in ast.walk(constants.tree):
        if _binds(node, name):
            yield node, fold(tops[id(node)], constants) if id(node) in tops else None


def _targets(statement: ast.stmt) -> list[ast.expr]:
    match statement:
        case ast.Assign(targets=targets):
            return targets
        case ast.AnnAssign(target=target):
            return [target]
    return []


def _binds(node: ast.AST, name: str) -> bool:
    """Whether a node gives a name a meaning, in whatever scope, or takes it away."""
    bound: object = None
    match node:
        case ast.Name(id=found, ctx=ast.Store() | ast.Del()) | ast.arg(arg=found):
            bound = found
        case ast.alias():
            bound = node.asname or node.name.partition(".")[0]
        case ast.MatchMapping(rest=rest):
            bound = rest
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return name in names
        case (
            ast.FunctionDef(name=found)
            | ast.AsyncFunctionDef(name=found)
            | ast.ClassDef(name=found)
            | ast.ExceptHandler(name=found)
            | ast.MatchAs(name=found)
            | ast.MatchStar(name=found)
        ):
            bound = found
    return bound == name


def _writes(node: ast.AST, name: str, constants: Constants) -> bool:
    """Whether a node names it as an attribute to be set, or as a string."""
    match node:
        case ast.Attribute(attr=found, ctx=ast.Store() | ast.Del()):
            return found == name
        case ast.expr():
            return as_text(fold(node, constants)) == name
    return False
