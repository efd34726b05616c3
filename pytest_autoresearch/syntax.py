"""
Python source as the trusted side reads it: parsed, cut into its top-level statements, written canonically.

Nothing is imported, evaluated or executed. :func:`parse_source` is the only function that raises on
hostile input; the others take what it returned.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from .difference import BLANK, visible
from .report.tables import one_line

__all__ = [
    "NESTED",
    "READS_NOTES",
    "Part",
    "constant_of",
    "head",
    "hidden",
    "is_literal",
    "is_note",
    "parse_source",
    "reaches_out",
    "slots",
    "split",
    "tokens",
    "try_parse",
]

_BOM = b"\xef\xbb\xbf"
# A hostile file of this size takes three seconds; real training scripts stay below 100 kB.
_SOURCE_CAP = 256 * 1024
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
# Control, format, bidirectional, blank and surrogate characters: a reader does not see what runs. Listed,
# not asked of unicodedata, so that a price does not depend on the Python that computes it.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e"
    f"\u2060-\u206f{BLANK}\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e00ff]"
    "|\r(?!\n)"
)
_REACHES_OUT = re.compile(
    "exec|eval|compile|globals|locals|vars|setattr|delattr|import_module|builtins|__.*"
)
_LITERAL_NODES = (
    ast.Constant,
    ast.UnaryOp,
    ast.BinOp,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.unaryop,
    ast.operator,
    ast.expr_context,
)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LABEL = 40

NESTED = (ast.stmt, ast.ExceptHandler, ast.match_case)
"""Nodes that statements are nested in."""
READS_NOTES = re.compile(rb"__doc__|getdoc|get_docstring")
"""Source that reads docstrings, where they are code."""


def parse_source(data: bytes) -> ast.Module:
    """
    The tree of one source file, as Python would read it; raises ValueError with a line that says why not.

    Only UTF-8 is accepted, as a declared encoding such as utf-7 hides code from the reader.
    """
    if len(data) > _SOURCE_CAP:
        raise ValueError(f"{len(data)} bytes: source files stay below {_SOURCE_CAP}")
    for line in data.splitlines()[:2]:
        cookie = _COOKIE.match(line)
        if cookie and not re.fullmatch(rb"(?i)utf[-_]?8(-.*)?", cookie[1]):
            raise ValueError(f"declares the encoding {cookie[1].decode()!r}: use utf-8")
    try:
        # A warning for "\d" must not depend on the filters of the session that looks at it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(data.removeprefix(_BOM).decode())
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or "nested too deeply for the parser") from None


def try_parse(data: bytes) -> ast.Module | None:
    """As :func:`parse_source`; None for what cannot be parsed."""
    try:
        return parse_source(data)
    except ValueError:
        return None


def constant_of(node: ast.stmt) -> tuple[str, ast.expr] | None:
    """Name and value of ``NAME = value`` or ``NAME: annotation = value``; None for anything else."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value, simple=1):
            return name, value
    return None


def is_literal(value: ast.expr) -> bool:
    """Whether the expression holds constants, containers of them and arithmetic on them, only."""
    return all(isinstance(node, _LITERAL_NODES) for node in ast.walk(value))


@dataclass(frozen=True)
class Part:
    """One top-level statement."""

    node: ast.stmt
    text: bytes
    """Its exact source, from the first decorator on."""
    name: str = ""
    """Of the constant, function or class; empty for other statements."""
    constant: bool = False
    value: str = ""
    """Source of a constant's value, where that is a literal."""

    @property
    def label(self) -> str:
        """What a reader calls it: ``class Model``, ``EPOCHS``, the first line of anything else."""
        words = {ast.FunctionDef: "def", ast.AsyncFunctionDef: "async def", ast.ClassDef: "class"}
        if self.name:
            return f"{words.get(type(self.node), '')} {self.name}".strip()
        return one_line(self.text.decode(errors="replace").splitlines()[0], _LABEL)

    def slot(self, shared: Collection[bytes], notes: bool) -> str:
        """What must stay in place for two statements to be versions of the same one."""
        if self.constant:
            annotation = getattr(self.node, "annotation", None)
            return f"{self.name}: {tokens(annotation) if annotation else ''}"
        if self.name:
            return f"{type(self.node).__name__} {self.name}"
        return repr(self.text) if self.text in shared else tokens(self.node, notes=notes)


def split(tree: ast.Module, data: bytes) -> list[Part]:
    """The top-level statements of a parsed source, in order."""
    # Columns count UTF-8 bytes, and bytes.splitlines knows the same line ends as the parser.
    lines = data.removeprefix(_BOM).splitlines(keepends=True)
    parts = []
    for node in tree.body:
        starts: list[ast.stmt | ast.expr] = [node, *getattr(node, "decorator_list", ())]
        text = _span(lines, min(starts, key=lambda start: (start.lineno, start.col_offset)), node)
        constant = constant_of(node)
        if constant:
            name, value = constant
            literal = visible(_span(lines, value, value).decode()) if is_literal(value) else ""
            parts.append(Part(node, text, name, True, literal))
        else:
            parts.append(Part(node, text, node.name if isinstance(node, _DEFINITIONS) else ""))
    return parts


def _span(lines: Sequence[bytes], start: ast.stmt | ast.expr, end: ast.stmt | ast.expr) -> bytes:
    first, last = start.lineno - 1, (end.end_lineno or end.lineno) - 1
    if first == last:
        return lines[first][start.col_offset : end.end_col_offset]
    middle = lines[first + 1 : last]
    return b"".join([lines[first][start.col_offset :], *middle, lines[last][: end.end_col_offset]])


def slots(
    parts: Iterable[Part], shared: Collection[bytes], notes: bool
) -> dict[tuple[str, int], Part]:
    """Slot and its how-manieth occurrence to statement, in source order."""
    seen: Counter[str] = Counter()
    found = {}
    for part in parts:
        if notes or not is_note(part.node):
            slot = part.slot(shared, notes)
            found[slot, seen[slot]] = part
            seen[slot] += 1
    return found


def is_note(node: object) -> bool:
    """Whether it is a string that stands alone: a docstring, or a comment in its shape."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def tokens(root: ast.AST, *, notes: bool = False, own: bool = False) -> str:
    """
    Canonical text of a tree, without docstrings unless ``notes``; ``own`` leaves nested statements out.

    Two trees have the same text exactly if they mean the same: ``1``, ``1.0`` and ``True`` differ,
    ``0x10`` and ``16`` do not. Iterative, as ``ast.dump`` fails on deep trees and huge integers.
    """
    out: list[str] = []
    stack: list[object] = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            out.append(item)
        elif isinstance(item, ast.Constant):
            value = item.value
            shown = hex(value) if type(value) is int else ascii(value)
            out.append(f"{type(value).__name__}:{shown}")
        elif isinstance(item, ast.AST):
            out.append(f"{type(item).__name__}(")
            stack.append(")")
            for name in reversed(item._fields):
                value = getattr(item, name, None)
                if value is None or value == [] or name in ("ctx", "type_comment"):
                    continue
                if not (own and isinstance(value, list) and isinstance(value[0], NESTED)):
                    stack += (value, f"{name}=")
        elif isinstance(item, list):
            out.append("[")
            stack.append("]")
            stack.extend(x for x in reversed(item) if notes or not is_note(x))
        else:
            out.append(repr(item))
    return "\n".join(out)


def head(node: ast.stmt) -> list[str]:
    """What runs when a function or class is defined: decorators, bases, keywords."""
    parts: list[ast.AST] = [
        *getattr(node, "decorator_list", ()),
        *getattr(node, "bases", ()),
        *getattr(node, "keywords", ()),
    ]
    return [tokens(part) for part in parts]


def reaches_out(root: ast.stmt) -> Counter[str]:
    """Imports, globals, dynamic names and dunders: ways of code to act beyond its definition."""
    reaches: Counter[str] = Counter()
    for node in ast.walk(root):
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Global() | ast.Nonlocal():
                reaches[tokens(node)] += 1
            # As attributes most are harmless: model.eval(), torch.compile().
            case ast.Name(id=name) if _REACHES_OUT.fullmatch(name):
                reaches[name] += 1
            case ast.Attribute(attr=name) if name.startswith("__") or name == "import_module":
                reaches[name] += 1
    return reaches


def hidden(data: bytes) -> Counter[str]:
    """Characters of a parsed source that a reader does not see."""
    return Counter(_HIDDEN.findall(data.removeprefix(_BOM).decode()))
