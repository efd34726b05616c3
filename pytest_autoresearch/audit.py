"""
The scoring audit: some held-out examples are scored again where a model that cheats cannot know what it said.

Scorer A gets every example and commits itself to a prediction for each. Then scorer B, another fresh
process, gets a random part of them in another order and other company and, of a sequence task, random
prefixes with another continuation. Their predictions must agree. Whatever a model drew from its other inputs
in A (statistics of the batch, a cache, training on the examples, the position in the array, the tokens to
come) is not there in B; so it does not help to notice that one is B. Of a model that cheats on a share f of
its predictions, n audited ones catch 1 - (1 - f)^n.

What is covered: everything that a prediction owes to inputs beyond its own example or its own prefix.
What is not: what the model owes to its weights, such as held-out text that was in its training data; and the
little that B's own part of the data tells about all of it, such as one bit about how it is distributed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .sequence import SequenceTask
    from .settings import Audit

    Array = NDArray[Any]
    Features = Mapping[str, Array]

__all__ = ["Check", "catch_probability", "draw", "secret_generator"]

RESOLUTION = 2.0**-22
"""Two steps of float32 just below one: what a probability near one cannot be told more exactly than."""


@dataclass(frozen=True)
class Check:
    """One audit: the examples that scorer B gets, and what its predictions are held against."""

    features: Features
    """What scorer B gets, ``[m, ...]`` each."""
    source: NDArray[np.intp]
    """Of each of B's examples the index in the full pass, ``[m]``; -1 for mere company."""
    position: NDArray[np.intp]
    """Of a prefix its last position, ``[m]``; -1 for an example that is whole."""

    def problem(self, full: Array, again: Array, tolerance: float) -> str:
        """
        Why the full pass is not believed, in one sentence; empty when both agree.

        :param full: of every example, probabilities ``[n]`` or log-probabilities of labels ``[n, T]``.
        :param again: of B's examples, ``[m]`` or ``[m, T]``.
        :param tolerance: largest difference in log-probability (nats, relative beyond one nat) that
            rounding explains.
        """
        whole = (self.source >= 0) & (self.position < 0)
        prefix = self.position >= 0
        gap = _gap_of_log_probabilities if full.ndim == 2 else _gap_of_probabilities
        rows = gap(full[self.source[whole]], again[whole])
        if rows.ndim == 2:
            rows = rows.max(axis=1)
        at = self.position[prefix]
        ahead = gap(full[self.source[prefix], at], again[prefix, at]) if prefix.any() else rows[:0]
        if (wrong := int((ahead > tolerance).sum())) > 0:
            return (
                f"implausible: {wrong} of {len(ahead)} positions are predicted otherwise when the tokens "
                f"after them are replaced and other examples stand beside them (by up to "
                f"{ahead.max():.2g}, tolerance {tolerance:g}): the model looks ahead or at other "
                f"examples, as with a missing causal mask, a shift or mean over the sequence, or a cache"
            )
        if (wrong := int((rows > tolerance).sum())) > 0:
            return (
                f"implausible: {wrong} of {len(rows)} examples are predicted otherwise in another order "
                f"and company (by up to {rows.max():.2g}, tolerance {tolerance:g}): a prediction may depend "
                f"on its own example only, not on batch statistics, a cache, training on what is scored, "
                f"the position or chance (is dropout off?)"
            )
        return ""


def catch_probability(share: float, n: int) -> float:
    """Probability that ``n`` audited predictions hold one of the ``share`` that is not honest."""
    return 1.0 - (1.0 - share) ** n


def secret_generator() -> np.random.Generator:
    """A generator whose draws nobody can foresee: seeded by the operating system's randomness."""
    import numpy as np

    return np.random.default_rng(secrets.randbits(256))


def draw(
    features: Features,
    labels: Array,
    audit: Audit,
    sequence: SequenceTask | None,
    rng: np.random.Generator,
) -> Check | None:
    """
    Choose which examples are scored again; None when the settings ask for nothing.

    No example enters twice, since one could tell what the other must not see: two prefixes of one
    sequence show the shorter one's future. Examples that are scored whole are at most half of all, so that
    their company is never what it was.

    :param features: arrays ``[n, ...]`` of the full pass.
    :param labels: ``[n]``, or ``[n, T]`` of a sequence task.
    """
    import numpy as np

    from .sequence import IGNORE

    n = len(labels)
    n_prefixes = min(audit.prefixes, n) if sequence else 0
    n_rows = min(audit.rows, (n - n_prefixes) // 2)
    if not n_prefixes and not n_rows:
        return None
    order = rng.permutation(n)
    prefixes, rows = order[:n_prefixes], order[n_prefixes : n_prefixes + n_rows]
    # One other example, as many times as there are others: it distorts every statistic of the batch.
    filler = np.full(0 if n_prefixes else n_rows, order[-1])
    chosen = np.concatenate([prefixes, rows, filler])
    source = np.concatenate([prefixes, rows, np.full(len(filler), -1)])
    position = np.full(len(chosen), -1)
    given = {name: array[chosen] for name, array in features.items()}
    if sequence:
        tokens = given[sequence.tokens]
        counted = labels[prefixes] != IGNORE
        position[:n_prefixes] = np.where(counted, rng.random(counted.shape), -1.0).argmax(axis=1)
        behind = np.arange(tokens.shape[1]) > position[:, None]
        behind[position < 0] = False
        junk = _junk(features[sequence.tokens], tokens, sequence.vocabulary, rng)
        given[sequence.tokens] = np.where(behind, junk, tokens)
    shuffle = rng.permutation(len(chosen))
    return Check(
        {name: np.ascontiguousarray(array[shuffle]) for name, array in given.items()},
        source[shuffle],
        position[shuffle],
    )


def _junk(pool: Array, real: Array, vocabulary: int, rng: np.random.Generator) -> Array:
    """
    Tokens as frequent as in the data, each other than the real one at its place.

    They are drawn one by one: a piece of another held-out sequence could hold that one's future.
    """
    import numpy as np

    junk = rng.choice(pool.ravel(), size=real.shape)
    for _ in range(8):
        same = junk == real
        junk[same] = rng.choice(pool.ravel(), size=int(same.sum()))
    return np.where(junk == real, (real + 1) % vocabulary, junk).astype(real.dtype)


def _gap_of_log_probabilities(a: Array, b: Array) -> Array:
    """Difference of log-probabilities in nats, relative to those beyond one nat."""
    import numpy as np

    found: Array = np.abs(a - b) / np.maximum(1.0, np.minimum(np.abs(a), np.abs(b)))
    return found


def _gap_of_probabilities(a: Array, b: Array) -> Array:
    """
    The same for probabilities, of the outcome and of its contrary, whichever differs more.

    Zero below what float32 resolves.
    """
    import numpy as np

    difference = np.abs(a - b)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = [
            _gap_of_log_probabilities(np.log(x), np.log(y)) for x, y in ((a, b), (1 - a, 1 - b))
        ]
    # Only one of the two is certain: there is no larger difference.
    worst = np.nan_to_num(np.maximum(*both), nan=np.inf, posinf=np.inf)
    found: Array = np.where(difference <= RESOLUTION, 0.0, worst)
    return found
