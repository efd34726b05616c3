"""
Access to names that nobody can read in the text: dynamic attributes, namespaces as dictionaries, programs in strings.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping

from .folding import Constants, fold
from .syntax import tokens

__all__ = ["BY_TEXT", "called", "new_reaches"]

#: Functions of an object and a name.
_BY_NAME = frozenset({"getattr", "setattr", "delattr", "hasattr"})
#: Functions whose first argument is a name, or a program's text.
BY_TEXT = frozenset(
    {"exec", "eval", "compile", "__import__", "import_module", "attrgetter", "methodcaller"}
)
#: Those that are called as attributes; ``model.eval()`` and ``torch.compile`` are other functions.
_MEMBERS = frozenset({"import_module", "attrgetter", "methodcaller"})
#: Namespaces as dictionaries.
_NAMESPACES = frozenset({"globals", "locals", "vars"})
_SPACES = frozenset({"__dict__", "__globals__", "f_globals", "f_locals"})
_METHODS = frozenset({"__getattribute__", "__setattr__", "__delattr__"})
_BUILTINS = frozenset({"builtins", "__builtins__"})
_REACHING = _BY_NAME | BY_TEXT | _NAMESPACES


def new_reaches(before: Mapping[str, Constants], after: Mapping[str, Constants]) -> Iterator[str]:
    """Ways that a mutation brings in to reach for a name that cannot be read in it, with the first line."""
    old = _dynamic(before)
    for (what, code), lines in _dynamic(after).items():
        if len(lines) > len(old.get((what, code), ())):
            yield f"{what} (line {min(lines)})"


def called(node: ast.Call) -> str:
    """Name of the function that is called: plain, of the builtins, or one that is called as an attribute."""
    match node.func:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=place), attr=name) if place in _BUILTINS:
            return name
        case ast.Attribute(attr=name) if name in _MEMBERS:
            return name
    return ""


def _dynamic(files: Mapping[str, Constants]) -> dict[tuple[str, str], list[int]]:
    """Access by names that are known at run time only: what and its code, to the lines where it stands."""
    found: dict[tuple[str, str], list[int]] = {}
    for constants in files.values():
        nodes = list(ast.walk(constants.tree))
        # A namespace that is asked for a constant name at once says which.
        named = {
            id(node.value)
            for node in nodes
            if isinstance(node, ast.Subscript) and fold(node.slice, constants) is not None
        }
        functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        for node in nodes:
            what = "" if id(node) in named else _reaches(node, constants, functions)
            if what:
                line = getattr(node, "lineno", 0)
                found.setdefault((what, tokens(node)), []).append(line)
    return found


def _reaches(node: ast.AST, constants: Constants, functions: Collection[int]) -> str:
    """How a node reaches for a name that cannot be read in it; empty when it does not."""
    found = ""
    match node:
        case ast.Call():
            name = called(node)
            if name in _NAMESPACES:
                found = f"{name}() as a whole"
            elif name in _REACHING and not _readable(node, 1 if name in _BY_NAME else 0, constants):
                found = f"{name}() with a name that is known at run time only"
        case ast.Name(id=name, ctx=ast.Load()) if id(node) not in functions and (
            name in _REACHING or name in _BUILTINS
        ):
            found = f"{name} as a value"
        case ast.Attribute(attr=name) if name in _SPACES or name in _METHODS:
            found = f"{name}, which reaches every name"
        case ast.ImportFrom(module=module, names=[ast.alias(name="*")]):
            found = f"a star import from {module}"
        case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
            hidden = [each.name for each in aliases if each.asname and each.name in _REACHING]
            hidden += [each.name for each in aliases if each.name in _BUILTINS]
            found = f"{hidden[0]} under another name" if hidden else ""
    return found


def _readable(call: ast.Call, place: int, constants: Constants) -> bool:
    """Whether the argument at a place is known from the text."""
    if len(call.args) <= place or any(isinstance(each, ast.Starred) for each in call.args):
        return False
    return fold(call.args[place], constants) is not None
