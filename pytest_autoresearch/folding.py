"""
What an expression of constants is, worked out from its syntax: nothing of the candidate is executed.

What is covered: sums, products and ``%`` of literals, f-strings, slices, ``chr``, ``str``, ``bytes``, ``ord``,
``join``, ``decode``, ``encode``, ``fromhex``, ``format``, ``replace``, case and stripping, and names that are bound
once, at the top of the file, to such an expression. What is not covered: loops, comprehensions, functions of the file.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from .syntax import constant_of, try_parse

__all__ = ["Constants", "as_text", "constants_of", "fold", "pieces_of"]

#: Characters or elements of one value, and steps of working out one comprehension: beyond, nobody needs to know.
SIZE = 1_000
STEPS = 300

_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"chr": chr, "ord": ord, "str": str, "bytes": bytes}
)
_SEQUENCES: Mapping[str, Callable[[Any], Iterable[Any]]] = MappingProxyType(
    {"list": list, "tuple": list, "reversed": reversed}
)
_METHODS = frozenset(
    {
        "join",
        "decode",
        "encode",
        "hex",
        "format",
        "lower",
        "upper",
        "title",
        "capitalize",
        "casefold",
    }
    | {"swapcase", "strip", "lstrip", "rstrip", "replace", "removeprefix", "removesuffix"}
)


class _UnknownError(Exception):
    """The expression is known at run time only, or too large."""


class Constants:
    """
    A file, and what its expressions of constants are; each is worked out once.

    :ivar tree: the file's syntax tree.
    :ivar known: names that are bound exactly once, at its top, to such an expression.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.known: dict[str, Any] = {}
        # The node beside the value, so that its id stays its own.
        self.memo: dict[int, tuple[ast.expr, Any]] = {}
        bound = Counter(_bound(tree))
        for statement in tree.body:
            constant = constant_of(statement)
            if constant and bound[constant[0]] == 1:
                value = fold(constant[1], self)
                if value is not None:
                    self.known[constant[0]] = value
        self.memo.clear()  # what stood before its constant


def constants_of(files: Mapping[str, bytes]) -> dict[str, Constants]:
    """The Python files among these that can be parsed."""
    trees = {path: try_parse(data) for path, data in files.items() if path.endswith(".py")}
    return {path: Constants(tree) for path, tree in trees.items() if tree is not None}


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.MatchAs(name=str() as name):
                yield name
            case ast.Global(names=names):
                yield from names
            case ast.alias():
                yield node.asname or node.name.partition(".")[0]


def fold(node: ast.expr, constants: Constants) -> Any:
    """The value of an expression of constants; None when it is known at run time only."""
    known = constants.memo.get(id(node))
    if known is not None:
        return known[1]
    return _Folding(constants).value(node, {})


def as_text(value: object) -> str | None:
    """A folded value as the name it may be; None when it is no text."""
    match value:
        case str():
            return value
        case bytes():
            return value.decode("latin-1")
    return None


def pieces_of(node: ast.expr) -> Iterator[ast.expr]:
    """The parts below a sum or an f-string, which are pieces of one text."""
    stack = [node]
    while stack:
        match stack.pop():
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                parts = [left, right]
            case ast.JoinedStr(values=values):
                parts = values
            case _:
                continue
        yield from parts
        stack += parts


class _Folding:
    """One expression being worked out; None stands for what is not known."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._steps = 0

    def value(self, node: ast.expr, local: Mapping[str, Any]) -> Any:
        """Its value, where ``local`` are the variables of comprehensions around it."""
        memo = self._constants.memo
        if not local and id(node) in memo:
            return memo[id(node)][1]
        try:
            found = self._value(node, local)
        except Exception:  # whatever Python says to these constants, a run would hear as well
            found = None
        if isinstance(found, str | bytes | list) and len(found) > SIZE:
            found = None
        if not local:
            memo[id(node)] = node, found
        return found

    def _need(self, node: ast.expr, local: Mapping[str, Any]) -> Any:
        found = self.value(node, local)
        if found is None:
            raise _UnknownError
        return found

    def _value(self, node: ast.expr, local: Mapping[str, Any]) -> Any:
        if local:
            self._steps += 1
            if self._steps > STEPS:
                raise _UnknownError
        found: Any = None
        match node:
            case ast.Constant():
                found = node.value
            case ast.Name(id=name, ctx=ast.Load()):
                found = local[name] if name in local else self._constants.known[name]
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                found = [self._need(each, local) for each in elements]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                found = -self._need(operand, local)
            case ast.BinOp():
                sides = self._need(node.left, local), self._need(node.right, local)
                found = _binary(node.op, *sides)
            case ast.JoinedStr(values=values):
                found = "".join(self._piece(each, local) for each in values)
            case ast.Subscript(value=value, slice=index):
                found = self._need(value, local)[self._index(index, local)]
            case ast.Call(keywords=[]):
                found = self._call(node, local)
            case (
                ast.GeneratorExp(elt=element, generators=[each])
                | ast.ListComp(elt=element, generators=[each])
            ):
                found = self._each(element, each, local)
        return found

    def _piece(self, node: ast.expr, local: Mapping[str, Any]) -> str:
        match node:
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return str(self._need(value, local))
        return str(self._need(node, local))

    def _index(self, node: ast.expr, local: Mapping[str, Any]) -> Any:
        if not isinstance(node, ast.Slice):
            return self._need(node, local)
        ends = (node.lower, node.upper, node.step)
        return slice(*(None if end is None else self._need(end, local) for end in ends))

    def _each(
        self, element: ast.expr, over: ast.comprehension, local: Mapping[str, Any]
    ) -> list[Any]:
        if over.ifs or over.is_async or not isinstance(over.target, ast.Name):
            raise _UnknownError
        items = self._need(over.iter, local)
        return [self._need(element, {**local, over.target.id: item}) for item in items]

    def _call(self, node: ast.Call, local: Mapping[str, Any]) -> Any:
        match node:
            case ast.Call(func=ast.Name(id="map"), args=[ast.Name(id=name), items]):
                return [_FUNCTIONS[name](each) for each in self._need(items, local)]
        given = [self._need(argument, local) for argument in node.args]
        match node.func:
            case ast.Name(id=name) if name in _SEQUENCES:
                return list(_SEQUENCES[name](given[0]))
            # bytes(10**9) would be an array of that size.
            case ast.Name(id=name) if name != "bytes" or isinstance(given[0], list):
                return _FUNCTIONS[name](*given)
            case ast.Attribute(value=ast.Name(id="bytes"), attr="fromhex"):
                return bytes.fromhex(given[0])
            case ast.Attribute(value=value, attr=name) if name in _METHODS:
                of = self._need(value, local)
                # A width could ask for any number of characters.
                if isinstance(of, str | bytes) and not (name == "format" and ":" in str(of)):
                    return getattr(of, name)(*given)
        raise _UnknownError


def _binary(operator: ast.operator, left: Any, right: Any) -> Any:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Div():
            return left / right
        case ast.Mult():
            for text, times in ((left, right), (right, left)):
                if isinstance(text, str | bytes | list) and len(text) * times > SIZE:
                    raise _UnknownError
            return left * right
        case ast.Mod() if not (
            isinstance(left, str | bytes) and re.search(r"%[^%]*[\d*]", str(left))
        ):
            return left % (tuple(right) if isinstance(right, list) else right)
    raise _UnknownError
