"""
When two candidates are the same experiment: equal text, or text that means the same.

Comments, layout and docstrings do not count, nor does how a constant is written (``2 * 32``, ``64``), nor a
seed: the harness draws seeds, so another one is only another draw. What is the same is answered from the
ledger, so that nobody runs it again for a luckier one.

What is not covered: renamed variables, dead code, reordered statements. Such a copy is run again, and the
keep rule asks it for fresh seeds like everybody else.
"""

from __future__ import annotations

import ast
import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping

from .syntax import READS_NOTES, tokens, try_parse

__all__ = ["fingerprint", "surface_digest"]

Files = Mapping[str, bytes]

_SEEDS = ("seed", "random_state", "default_rng", "randomstate", "seedsequence")
"""Part of a name that takes or holds a seed, in lower case."""
_GENERATORS = frozenset({"Random", "PCG64", "Philox", "PRNGKey"})
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
# A power of numbers below these is quick to compute and short to write down.
_LARGEST = 2**64
_LARGEST_EXPONENT = 64


def surface_digest(files: Files) -> str:
    """SHA-256 (hex) over the sorted paths and contents, each prefixed with its length."""
    return _sha256(part for path in sorted(files) for part in (_encode(path), files[path]))


def fingerprint(files: Files) -> str:
    """
    SHA-256 (hex) over what the files mean; equal for candidates that are the same experiment.

    A file that does not parse, or is no Python, counts by its bytes. So does one that reads its own
    docstrings, where they are code.
    """
    return _sha256(
        part for path in sorted(files) for part in (_encode(path), _meaning(path, files[path]))
    )


def _meaning(path: str, data: bytes) -> bytes:
    readable = path.endswith(".py") and not READS_NOTES.search(data)
    tree = try_parse(data) if readable else None
    if tree is None:
        return b"raw:" + data
    try:
        tree = _Canonical().visit(tree)
    except RecursionError:  # nested too deeply to fold; half of it may be folded by now
        tree = try_parse(data) or ast.Module([], [])
    return b"ast:" + tokens(tree).encode()


class _Canonical(ast.NodeTransformer):
    """Folds arithmetic on numbers and blanks out seeds."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        left, right = _number(node.left), _number(node.right)
        if left is None or right is None:
            return node
        value = _compute(type(node.op), left, right)
        return node if value is None else ast.Constant(value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        value = _number(node.operand)
        if value is None or not isinstance(node.op, ast.UAdd | ast.USub):
            return node
        return ast.Constant(-value if isinstance(node.op, ast.USub) else value)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if all(isinstance(target, ast.Name) and _holds_seed(target.id) for target in node.targets):
            node.value = _blank(node.value)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and isinstance(node.target, ast.Name):
            node.value = _blank(node.value) if _holds_seed(node.target.id) else node.value
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        if _holds_seed(name) or name in _GENERATORS:
            node.args = [_blank(argument) for argument in node.args]
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        self.generic_visit(node)
        if node.arg is not None and _holds_seed(node.arg):
            node.value = _blank(node.value)
        return node


def _holds_seed(name: str) -> bool:
    return any(part in name.lower() for part in _SEEDS)


def _blank(value: ast.expr) -> ast.expr:
    """The same for every seed that is written down; one that is computed stays as it is."""
    number = _number(value)
    return value if number is None else ast.Constant("a seed")


def _number(node: ast.expr) -> int | float | None:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value: int | float = node.value  # type: ignore[assignment]
        return value
    return None


def _compute(kind: type[ast.operator], left: float, right: float) -> float | None:
    """The value as Python computes it; None where it is none, or long to compute."""
    function = _OPERATORS.get(kind)
    if function is None or max(abs(left), abs(right)) > _LARGEST:
        return None
    if kind is ast.Pow and abs(right) > _LARGEST_EXPONENT:
        return None
    try:
        value = function(left, right)
    except (ArithmeticError, ValueError):
        return None
    return value if type(value) in (int, float) else None


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogatepass")
