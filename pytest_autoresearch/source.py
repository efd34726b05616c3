"""
Whether a mutation's text is something that a person can review, and not a hiding place.

Weights and answers can be written into source as one long literal or as many short ones; a reader can be
shown another text than the one that runs. Only what the mutation adds is judged: what people have committed
stands.

What is not covered: data spread so thinly over honest-looking code that no rule of size sees it. It has to
pass through the budget of mutations and the size of one of them.
"""

from __future__ import annotations

import ast
import contextlib
import io
import math
import re
import tokenize
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .syntax import hidden, is_note, try_parse

if TYPE_CHECKING:
    from .settings import Source

__all__ = ["objections"]

Files = Mapping[str, bytes]

#: Characters without a blank between them: longer than honest names, and most paths and patterns.
_RUN = re.compile(rb"[^\s]{60,}")
#: Bits per character. Digits of anything have 3.3, hexadecimal 4, base64 up to 6; a ruler of dashes 0.
_DENSE = 3.0
#: Bytes that such runs may have in one mutation.
_ENCODED = 512
_CONTAINERS = (ast.List, ast.Tuple, ast.Set, ast.Dict)
#: All literals that one mutation adds, in multiples of what a single one may take.
_TOGETHER = 4
_FOREIGN = re.compile(r"\w*[^\W\x00-\x7f]\w*")


def objections(before: Files, after: Files, rules: Source) -> tuple[str, ...]:
    """One sentence for each way in which the text that ``after`` adds cannot be reviewed."""
    found: list[str] = []
    for path in sorted(after):
        if before.get(path) != after[path]:
            found += _file(path, before.get(path, b""), after[path], rules)
    return tuple(found)


def _file(path: str, old: bytes, new: bytes, rules: Source) -> Iterator[str]:
    try:
        new.decode("utf-8")
    except UnicodeDecodeError as error:
        yield f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        return
    lines = Counter(new.splitlines()) - Counter(old.splitlines())
    added = sum(len(line) * count for line, count in lines.items())
    if added > rules.added_kb << 10:
        yield (
            f"{path}: {added >> 10} KiB of new lines, source.added_kb = {rules.added_kb} allows fewer: "
            "propose less at a time"
        )
    longest = max((len(line.decode("utf-8")) for line in lines), default=0)
    if longest > rules.line_length:
        yield (
            f"{path}: a new line of {longest} characters, source.line_length = {rules.line_length} "
            "allows fewer: wrap it"
        )
    encoded = sum(len(run) * lines[line] for line in lines for run in _runs(line))
    if encoded > _ENCODED:
        yield (
            f"{path}: {encoded} bytes of what looks like encoded data: weights and answers are learnt, not "
            "written down"
        )
    unseen = hidden(new) - hidden(old if _is_text(old) else b"")
    if unseen:
        named = ", ".join(f"U+{ord(char):04X} {_name(char)}" for char in sorted(unseen)[:5])
        yield f"{path}: new characters that a reader does not see: {named}: remove them"
    if path.endswith(".py"):
        yield from _python(path, old, new, rules)


def _python(path: str, old: bytes, new: bytes, rules: Source) -> Iterator[str]:
    tree = try_parse(new)
    if tree is None:
        return  # refused elsewhere, with the line
    known = try_parse(old) or ast.Module([], [])
    # ast.parse has brought names into their normal form: the text says what a reader sees.
    names = set(_FOREIGN.findall(_code(new))) - set(_FOREIGN.findall(_code(old)))
    if names:
        yield (
            f"{path}: new names that look like others: {', '.join(map(ascii, sorted(names)[:5]))}: "
            "write names in ASCII"
        )
    literals = _new_literals(known, old, tree, new)
    for line, text in literals:
        if len(text) > rules.literal_bytes:
            yield (
                f"{path}:{line}: a literal of {len(text)} bytes, source.literal_bytes = "
                f"{rules.literal_bytes} allows fewer: weights and answers are learnt, not written down"
            )
    together = sum(len(text) for _, text in literals)
    if together > _TOGETHER * rules.literal_bytes:
        yield (
            f"{path}: {together} bytes of new literals, {_TOGETHER} * source.literal_bytes = "
            f"{_TOGETHER * rules.literal_bytes} allow fewer: propose less at a time"
        )


def _new_literals(
    known: ast.Module, old: bytes, tree: ast.Module, new: bytes
) -> list[tuple[int, bytes]]:
    """Line and source of the outermost literals and containers that the mutation adds."""
    before = Counter(text for _, text in _literals(known, old))
    added = []
    for line, text in _literals(tree, new):
        if before[text]:
            before[text] -= 1
        else:
            added.append((line, text))
    return added


def _literals(tree: ast.Module, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Outermost constants of text and number, and containers; comments in their shape included."""
    lines = data.splitlines(keepends=True)
    starts = [0]
    for text in lines:
        starts.append(starts[-1] + len(text))
    bom = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.JoinedStr | ast.Constant) or (
            isinstance(node, _CONTAINERS) and not _computes(node)
        ):
            if isinstance(node, ast.Constant) and not isinstance(
                node.value, str | bytes | int | float | complex
            ):
                continue
            first = starts[node.lineno - 1] + node.col_offset + (bom if node.lineno == 1 else 0)
            last = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
            yield node.lineno, data[first:last]
        elif not is_note(node):
            pending.extend(ast.iter_child_nodes(node))


def _computes(node: ast.AST) -> bool:
    """Whether a container holds calls or functions, whose own literals are looked at one by one."""
    return any(isinstance(inner, ast.Call | ast.Lambda) for inner in ast.walk(node))


def _runs(line: bytes) -> Iterator[bytes]:
    """Long runs of evenly used characters, as encoded data has them."""
    return (run for run in _RUN.findall(line) if _entropy(run) > _DENSE)


def _entropy(text: bytes) -> float:
    """Bits per character of the distribution of its characters (Shannon 1948)."""
    n = len(text)
    return -sum(count / n * math.log2(count / n) for count in Counter(text).values())


def _code(data: bytes) -> str:
    """The names in a source, as they are written; nothing where all of it is ASCII."""
    if data.isascii() or not _is_text(data):
        return ""
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        found = tokenize.generate_tokens(io.StringIO(data.decode("utf-8-sig")).readline)
        return " ".join(token.string for token in found if token.type == tokenize.NAME)
    return ""


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _name(char: str) -> str:
    return unicodedata.name(char, "control character")
