"""
What a mutation touches, read off the abstract syntax trees: domain, cost, difference, description.

Everything here is a pure function of bytes. Nothing is imported, evaluated or executed, and nothing
raises on hostile input: what cannot be understood counts as architecture, the dearest domain.

What is covered: prices, descriptions, and a fast refusal before any GPU second is spent.
What is not covered: security. Python has more ways to say a thing than a static check can follow
(``getattr`` chains, code that reads its own comments); the sandbox and the harness are the wall.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

from .budget import COSTS
from .records import Domain, Mutation, ParameterChange

__all__ = [
    "DEFAULT_SECTIONS",
    "classify",
    "constant_of",
    "diff",
    "fingerprint",
    "is_literal",
    "parse_source",
    "protected_touched",
    "surface_digest",
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
_BOM = b"\xef\xbb\xbf"
# A hostile file of this size takes three seconds; real training scripts stay below 100 kB.
_SOURCE_CAP = 256 * 1024
# A literal that is longer than this is data or a program, not a hyperparameter.
_LITERAL_CAP = 1_000
# difflib is cubic in the worst case, and a hostile file is one.
_DIFFLIB_CAP = 1_500
_DESCRIPTION_CAP = 120
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
# Control, format, bidirectional, filler and surrogate characters: a reader does not see what runs.
# (U+FE0F is missing on purpose: it only makes an emoji colourful.)
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
    "|\r(?!\n)"
)
_READS_NOTES = re.compile(rb"__doc__|getdoc|get_docstring")
_RUNS_STRINGS = re.compile(rb"(?<![.\w])(exec|eval|compile|__import__)\b")
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
_NESTED = (ast.stmt, ast.ExceptHandler, ast.match_case)


def surface_digest(files: Files) -> str:
    """SHA-256 (hex) over the sorted paths and contents, each prefixed with its length."""
    return _sha256(part for path in sorted(files) for part in (_encode(path), files[path]))


def fingerprint(files: Files) -> str:
    """
    SHA-256 (hex) over what the files mean: comments, layout and docstrings do not count.

    A file that does not parse, or is no Python, counts by its bytes. So does one that reads its own
    docstrings, where they are code.
    """
    return _sha256(
        part for path in sorted(files) for part in (_encode(path), _meaning(path, files[path]))
    )


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
        text = _one_line(description) or "no change"
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
        description=_one_line(description) or found.describe(),
        diff=diff(before, after),
        parameters=tuple(found.parameters),
        touched=frozenset(found.touched),
        syntax_error=found.syntax_error,
    )


def diff(before: Files, after: Files) -> str:
    """Unified difference as ``a/train.py b/train.py``; hidden and undecodable characters escaped."""
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old != new:
            lines.append(f"--- {'/dev/null' if old is None else 'a/' + path}")
            lines.append(f"+++ {'/dev/null' if new is None else 'b/' + path}")
            lines.extend(_hunks(_lines(old or b""), _lines(new or b"")))
    return "".join(f"{_visible(line)}\n" for line in lines)


def protected_touched(before: Files, after: Files, names: Collection[str]) -> tuple[str, ...]:
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
        trees = [_tree(data) if path.endswith(".py") else None for data in (old, new)]
        match trees:
            case [ast.Module() as old_tree, ast.Module() as new_tree]:
                old_parts, new_parts = _split(old_tree, old), _split(new_tree, new)
                old_texts = Counter(part.text for part in old_parts)
                new_texts = Counter(part.text for part in new_parts)
                changed = {t for t in old_texts | new_texts if old_texts[t] != new_texts[t]}
                counts.subtract(_mentions(old_parts, changed, names))
                counts.update(_mentions(new_parts, changed, names))
            case _:
                counts.subtract(_line_mentions(old, names))
                counts.update(_line_mentions(new, names))
    return tuple(sorted({name for (name, _), count in counts.items() if count}))


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
class _Part:
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
        words = {ast.FunctionDef: "def", ast.AsyncFunctionDef: "async def", ast.ClassDef: "class"}
        if self.name:
            return f"{words.get(type(self.node), '')} {self.name}".strip()
        return _short(self.text.decode(errors="replace").splitlines()[0])

    def slot(self, shared: Collection[bytes], notes: bool) -> str:
        """What must stay in place for two statements to be versions of the same one."""
        if self.constant:
            annotation = getattr(self.node, "annotation", None)
            return f"{self.name}: {_tokens(annotation) if annotation else ''}"
        if self.name:
            return f"{type(self.node).__name__} {self.name}"
        return repr(self.text) if self.text in shared else _tokens(self.node, notes=notes)


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
            self.syntax_error = _one_line(f"{path}: {error}")
            self.unknown(f"{path} does not parse")
            return
        if old is None:
            return
        old_tree = _tree(old)
        if old_tree is None:
            self.unknown(f"{path} did not parse before")
            return
        if _hidden(new) - _hidden(old):
            self.unknown(f"hidden characters in {path}")
        self._compare_parts(_split(old_tree, old), _split(tree, new), new)

    def _compare_parts(self, old: list[_Part], new: list[_Part], source: bytes) -> None:
        shared = {part.text for part in old} & {part.text for part in new}
        notes = bool(_READS_NOTES.search(source))
        old_slots, new_slots = _slots(old, shared, notes), _slots(new, shared, notes)
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
                _tokens(before.node, notes=notes) != _tokens(after.node, notes=notes)
            ):
                self.touched.add(after.name)
                if after.constant:
                    self._compare_constants(before, after, source)
                else:
                    self.add(self._domain_of_definition(before, after), after.label)

    def _compare_constants(self, old: _Part, new: _Part, source: bytes) -> None:
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

    def _domain_of_definition(self, old: _Part, new: _Part) -> Domain:
        """By name, unless the new code reaches out of the definition: then its name says little."""
        if _head(old.node) != _head(new.node) or _reaches_out(new.node) - _reaches_out(old.node):
            return Domain.ARCHITECTURE
        matching = [domain for domain in self.sections if self.matches(new.name, domain)]
        return self.dearest(matching) or Domain.ARCHITECTURE

    def matches(self, name: str, domain: Domain) -> bool:
        patterns = self.sections.get(domain, ())
        return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)

    def describe(self) -> str:
        changes = [change for change in self.parameters if change.before and change.after]
        pieces = [f"{c.name} {_short(c.before)} -> {_short(c.after)}" for c in changes]
        told = {change.name for change in changes}
        for domain in sorted(self.labels, key=_RISK.index, reverse=True):
            labels = [label for label in self.labels[domain] if label not in told]
            if labels:
                pieces.append(f"{domain}: {', '.join(dict.fromkeys(labels))}")
        return _one_line("; ".join(pieces)) or "comments, docstrings or layout"


def _split(tree: ast.Module, data: bytes) -> list[_Part]:
    # Columns count UTF-8 bytes, and bytes.splitlines knows the same line ends as the parser.
    lines = data.removeprefix(_BOM).splitlines(keepends=True)
    parts = []
    for node in tree.body:
        starts: list[ast.stmt | ast.expr] = [node, *getattr(node, "decorator_list", ())]
        text = _span(lines, min(starts, key=lambda start: (start.lineno, start.col_offset)), node)
        constant = constant_of(node)
        if constant:
            name, value = constant
            literal = _visible(_span(lines, value, value).decode()) if is_literal(value) else ""
            parts.append(_Part(node, text, name, True, literal))
        else:
            parts.append(_Part(node, text, node.name if isinstance(node, _DEFINITIONS) else ""))
    return parts


def _span(lines: Sequence[bytes], start: ast.stmt | ast.expr, end: ast.stmt | ast.expr) -> bytes:
    first, last = start.lineno - 1, (end.end_lineno or end.lineno) - 1
    if first == last:
        return lines[first][start.col_offset : end.end_col_offset]
    middle = lines[first + 1 : last]
    return b"".join([lines[first][start.col_offset :], *middle, lines[last][: end.end_col_offset]])


def _slots(
    parts: Iterable[_Part], shared: Collection[bytes], notes: bool
) -> dict[tuple[str, int], _Part]:
    """Slot and its how-manieth occurrence to statement, in source order."""
    seen: Counter[str] = Counter()
    slots = {}
    for part in parts:
        if notes or not _is_note(part.node):
            slot = part.slot(shared, notes)
            slots[slot, seen[slot]] = part
            seen[slot] += 1
    return slots


def _is_note(node: object) -> bool:
    """Whether it is a string that stands alone: a docstring, or a comment in its shape."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _tokens(root: ast.AST, *, notes: bool = False, own: bool = False) -> str:
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
                if not (own and isinstance(value, list) and isinstance(value[0], _NESTED)):
                    stack += (value, f"{name}=")
        elif isinstance(item, list):
            out.append("[")
            stack.append("]")
            stack.extend(x for x in reversed(item) if notes or not _is_note(x))
        else:
            out.append(repr(item))
    return "\n".join(out)


def _head(node: ast.stmt) -> list[str]:
    """What runs when a function or class is defined: decorators, bases, keywords."""
    parts: list[ast.AST] = [
        *getattr(node, "decorator_list", ()),
        *getattr(node, "bases", ()),
        *getattr(node, "keywords", ()),
    ]
    return [_tokens(part) for part in parts]


def _reaches_out(root: ast.stmt) -> Counter[str]:
    """Imports, globals, dynamic names and dunders: ways of code to act beyond its definition."""
    reaches: Counter[str] = Counter()
    for node in ast.walk(root):
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Global() | ast.Nonlocal():
                reaches[_tokens(node)] += 1
            # As attributes most are harmless: model.eval(), torch.compile().
            case ast.Name(id=name) if _REACHES_OUT.fullmatch(name):
                reaches[name] += 1
            case ast.Attribute(attr=name) if name.startswith("__") or name == "import_module":
                reaches[name] += 1
    return reaches


def _mentions(
    parts: Iterable[_Part], changed: Collection[bytes], names: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Each protected name with the meaning of the innermost statement that mentions it."""
    for part in parts:
        if part.text in changed:
            for node in ast.walk(part.node):
                if isinstance(node, _NESTED) and not _is_note(node):
                    for name in _names(node).intersection(names):
                        yield name, _tokens(node, own=True)


def _line_mentions(data: bytes, names: Collection[str]) -> Iterator[tuple[str, str]]:
    for line in _lines(data):
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
                        elif isinstance(item, ast.AST) and not isinstance(item, _NESTED):
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


def _tree(data: bytes) -> ast.Module | None:
    try:
        return parse_source(data)
    except ValueError:
        return None


def _meaning(path: str, data: bytes) -> bytes:
    readable = path.endswith(".py") and not _READS_NOTES.search(data)
    tree = _tree(data) if readable else None
    return b"raw:" + data if tree is None else b"ast:" + _tokens(tree).encode()


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogatepass")


def _hidden(data: bytes) -> Counter[str]:
    return Counter(_HIDDEN.findall(data.removeprefix(_BOM).decode()))


def _visible(text: str) -> str:
    """Hidden characters and undecodable bytes as escapes; line feeds stay."""

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        # surrogateescape keeps an undecodable byte 0x80 to 0xFF as U+DC80 to U+DCFF.
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(match[0])[1:-1]

    return _HIDDEN.sub(escape, text)


def _one_line(text: str) -> str:
    line = _visible(" ".join(text.split()))
    return line if len(line) <= _DESCRIPTION_CAP else f"{line[: _DESCRIPTION_CAP - 3]}..."


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _lines(data: bytes) -> list[str]:
    """Lines without their line feeds; the last one says so if the file ends without."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if lines[-1]:
        lines[-1] += "\n\\ No newline at end of file"
    else:
        lines.pop()
    return lines


def _hunks(old: list[str], new: list[str]) -> Iterator[str]:
    """
    Unified hunks. The common head and tail go first, as they are most of the file; what remains is
    compared line by line, unless that would take seconds: then it is replaced as a block.
    """
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    start, stop = max(0, head - 3), max(0, tail - 3)
    left, right = old[start : len(old) - stop], new[start : len(new) - stop]
    if max(len(left), len(right)) <= _DIFFLIB_CAP:
        for line in [*difflib.unified_diff(left, right, lineterm="")][2:]:
            shifted = re.sub(r"(?<=[-+])\d+", lambda at: str(int(at[0]) + start), line)
            yield shifted if line.startswith("@@ ") else line
    else:
        gone, come = old[head : len(old) - tail], new[head : len(new) - tail]
        yield f"@@ -{head + bool(gone)},{len(gone)} +{head + bool(come)},{len(come)} @@"
        yield from (f"-{line}" for line in gone)
        yield from (f"+{line}" for line in come)
