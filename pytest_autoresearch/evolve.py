"""
A proposer without a language model: it perturbs the literal constants of a training script.

Numbers move within their type and on their scale, a change that was kept is followed a little further,
and now and then a far jump (the escape draw) leaves a local optimum. Pure: the same source, history
and generator give the same proposal.
"""

from __future__ import annotations

import ast
import math
import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from .equivalence import fingerprint
from .mutation import classify, constant_of, is_literal, parse_source
from .records import Domain, Trial

__all__ = ["propose"]

_DRAWS = 100
_ESCAPE = 0.15
_PAIR = 0.2
_FOLLOW = 0.5
_BOM = b"\xef\xbb\xbf"
# Beyond this a number is a bit mask or a hash, and floats lose digits.
_HUGE = 2**53
_SEED = re.compile(r"(^|_)seeds?($|_|\d)", re.IGNORECASE)
# Shares and decay rates: they live between 0 and 1, and what matters near 1 is the distance to 1.
_SHARES = (
    "*dropout*",
    "*momentum*",
    "*beta*",
    "*prob*",
    "*smoothing*",
    "*fraction*",
    "*ratio*",
    "*ema*",
)


@dataclass(frozen=True)
class _Leaf:
    """One number or truth value inside a module constant."""

    key: tuple[str, int]
    """Name of the constant, and position among its leaves."""
    value: bool | int | float
    line: int
    """Counted from zero."""
    start: int
    """First column, in UTF-8 bytes."""
    stop: int
    text: str
    exponent: bool
    """It is the n of ``2**n`` or ``1 << n``."""


def propose(
    source: str,
    *,
    tried: Collection[str],
    rng: random.Random,
    protected: Collection[str] = (),
    history: Sequence[Trial] = (),
    path: str = "train.py",
    others: Mapping[str, bytes] = MappingProxyType({}),
) -> tuple[str, str] | None:
    """
    A new source and its one-line description, or None when a bounded number of draws finds nothing new.

    ``tried`` holds fingerprints of whole surfaces: ``source`` stands there under ``path``, beside the
    files of ``others``. ``history`` is oldest first. Names in ``protected`` and seeds stay as they are,
    and so does everything whose change would not classify as hyperparameter.
    """
    data = source.encode("utf-8", "surrogatepass")
    leaves = [
        leaf
        for leaf in _leaves(data)
        if leaf.key[0] not in protected and not _SEED.search(leaf.key[0])
    ]
    if not leaves:
        return None
    before = {**others, path: data}
    seen = {data}
    trend, patience = _trend(history, path)
    for _ in range(_DRAWS):
        edits, far = _draw(leaves, rng, trend, patience)
        edited = _apply(data, edits)
        if edited in seen:
            continue
        seen.add(edited)
        after = {**others, path: edited}
        mutation = classify(before, after)
        if mutation.domain is Domain.HYPERPARAMETER and fingerprint(after) not in tried:
            # One line of at most 120 characters, as every description.
            return edited.decode(), f"{'escape: ' if far else ''}{mutation.description}"[:120]
    return None


def _draw(
    leaves: Sequence[_Leaf],
    rng: random.Random,
    trend: Mapping[tuple[str, int], int],
    patience: float,
) -> tuple[dict[_Leaf, str], bool]:
    """One or two leaves with their new text, and whether this is a far jump."""
    if rng.random() < _ESCAPE:
        leaf = rng.choice(leaves)
        return {leaf: _perturb(leaf, rng, far=True)}, True
    rising = [leaf for leaf in leaves if leaf.key in trend]
    if rising and rng.random() < _FOLLOW * patience:
        leaf = rng.choice(rising)
        return {leaf: _perturb(leaf, rng, sign=trend[leaf.key])}, False
    count = 2 if len(leaves) > 1 and rng.random() < _PAIR else 1
    return {leaf: _perturb(leaf, rng) for leaf in rng.sample(leaves, count)}, False


def _trend(history: Sequence[Trial], path: str) -> tuple[dict[tuple[str, int], int], float]:
    """
    Which way the last kept change moved which leaf, and how much that still says.

    Each failure since halves the confidence: the slope ends somewhere.
    """
    kept = [position for position, trial in enumerate(history) if trial.status == "keep"]
    if len(kept) < 2:
        return {}, 0.0
    old, new = (
        {leaf.key: leaf.value for leaf in _leaves(history[position].files.get(path, b""))}
        for position in kept[-2:]
    )
    signs = {
        key: 1 if value > old[key] else -1
        for key, value in new.items()
        if key in old and value != old[key]
    }
    return signs, 0.5 ** (len(history) - 1 - kept[-1])


def _leaves(data: bytes) -> list[_Leaf]:
    """The numbers and truth values of the module constants that are assigned once, in source order."""
    try:
        tree = parse_source(data)
    except ValueError:
        return []
    lines = data.removeprefix(_BOM).splitlines(keepends=True)
    constants = [constant for constant in map(constant_of, tree.body) if constant]
    times = Counter(name for name, _ in constants)
    leaves = []
    for name, value in constants:
        if times[name] == 1 and is_literal(value):
            nodes = sorted(_numbers(value), key=lambda pair: (pair[0].lineno, pair[0].col_offset))
            for index, (node, exponent) in enumerate(nodes):
                start, stop = node.col_offset, node.end_col_offset or 0
                line = node.lineno - 1
                text = lines[line][start:stop].decode()
                number = ast.literal_eval(node)
                leaves.append(_Leaf((name, index), number, line, start, stop, text, exponent))
    return leaves


def _numbers(value: ast.expr) -> Iterator[tuple[ast.Constant, bool]]:
    """Each perturbable constant, and whether it is an exponent; bases and dictionary keys stay."""
    stack: list[tuple[ast.AST, bool]] = [(value, False)]
    while stack:
        node, exponent = stack.pop()
        match node:
            case ast.Constant(value=bool()):
                yield node, False
            case ast.Constant(value=int() | float() as number) if abs(number) < _HUGE:
                yield node, exponent and isinstance(number, int)
            case ast.BinOp(op=ast.Pow() | ast.LShift(), right=right):
                stack.append((right, True))
            case ast.Dict(values=values):
                stack.extend((item, False) for item in values)
            case _:
                stack.extend((item, exponent) for item in ast.iter_child_nodes(node))


def _apply(data: bytes, edits: Mapping[_Leaf, str]) -> bytes:
    """The source with the leaves replaced, every other byte as it was."""
    bom = _BOM if data.startswith(_BOM) else b""
    lines = data.removeprefix(_BOM).splitlines(keepends=True)
    # From right to left, so that earlier columns stay valid.
    for leaf in sorted(edits, key=lambda leaf: leaf.start, reverse=True):
        line = lines[leaf.line]
        lines[leaf.line] = line[: leaf.start] + edits[leaf].encode() + line[leaf.stop :]
    return bom + b"".join(lines)


def _perturb(leaf: _Leaf, rng: random.Random, *, far: bool = False, sign: int = 0) -> str:
    """New source text of a leaf: same type, same sign, on its own scale."""
    sign = sign or rng.choice((-1, 1))
    if isinstance(leaf.value, bool):
        return str(not leaf.value)
    if isinstance(leaf.value, int):
        number = _whole(leaf.value, leaf.exponent, sign, far, rng)
        return f"{number:_}" if "_" in leaf.text else str(number)
    return _real(leaf, sign, far, rng)


def _whole(value: int, exponent: bool, sign: int, far: bool, rng: random.Random) -> int:
    step = rng.randint(2, 3) if far else 1
    if value == 0:
        return step
    if exponent:
        return max(1, value + sign * step)
    if value >= 8 and value & (value - 1) == 0:
        return max(1, value << step if sign > 0 else value >> step)
    # Whole numbers count epochs, layers, steps: their cost grows with them, so they jump less far.
    factor = math.sqrt(_factor(far, rng)) if far else _factor(far, rng)
    moved = round(value * factor**sign)
    return max(1, moved if moved != value else value + sign)


def _real(leaf: _Leaf, sign: int, far: bool, rng: random.Random) -> str:
    value = float(leaf.value)
    share = any(fnmatchcase(leaf.key[0].lower(), pattern) for pattern in _SHARES)
    if value == 0.0:
        return _decimal(rng.uniform(0.02, 0.3) if share else 10 ** rng.uniform(-5, -1))
    if 0.9 <= value < 1 or (share and 0 < value < 1):
        # Twelve logits are a distance of 6e-6 to the border.
        logit = math.log(value / (1 - value)) + sign * math.log(_factor(far, rng)) * 2
        moved = 1 / (1 + math.exp(-min(12.0, max(-12.0, logit))))
        return _decimal(moved) if moved < 0.5 else repr(round(1 - float(_decimal(1 - moved)), 9))
    moved = value * _factor(far, rng) ** sign
    return _decimal(moved) if 0 < moved < math.inf else leaf.text


def _factor(far: bool, rng: random.Random) -> float:
    return math.exp(rng.uniform(math.log(3), math.log(20)) if far else rng.uniform(0.1, 0.7))


def _decimal(number: float) -> str:
    """Three significant digits that read as a float."""
    text = f"{number:.3g}"
    if "e+" in text:
        return repr(float(text))
    return text if "." in text or "e" in text else f"{text}.0"
