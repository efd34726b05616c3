"""
Losses of single examples: what prepare.py gives, and the incumbent's, kept to be paired with a candidate's.

Two models are compared example by example where a metric has no seed to repeat it on (paired bootstrap: Efron
and Tibshirani 1993, section 16.4). The incumbent's losses stay below the campaign's directory, which neither a
run nor an agent sees; a ledger row names their SHA-256, and what does not match it is not used.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifact import UntrustedFileError, read_untrusted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["checked", "load", "store"]

DIGEST = re.compile(r"[0-9a-f]{8,128}")
LARGEST = 4 << 30
"""Bytes of a file; half a billion examples."""


def checked(given: Any, n: int) -> NDArray[np.float64]:
    """
    What prepare.py's ``losses`` gave for ``n`` examples, as float64 ``[n]``.

    :raises ValueError: it is not one finite number an example.
    """
    import numpy as np

    losses = np.asarray(given)
    if losses.dtype.kind != "f" or losses.shape != (n,):
        raise ValueError(
            f"prepare.losses() gives {losses.dtype} of shape {losses.shape!r} for {n} examples: it must give "
            f"one float an example, [n], lower is better; without the function, examples are not compared "
            f"one by one"
        )
    if bad := int((~np.isfinite(losses)).sum()):
        raise ValueError(
            f"prepare.losses() gives {bad} of {n} values that are not finite: clip the probabilities away "
            f"from 0 and 1 first, as for a log loss"
        )
    return losses.astype(np.float64)


def store(directory: Path, digest: str, losses: NDArray[np.float64]) -> str:
    """
    Keep the losses ``[n]`` of the model whose candidate has this digest; the SHA-256 of the file.

    Whoever looks finds the old file or the new one, whole, and nobody but its owner can read it.

    :param directory: made if need be, for its owner only.
    """
    import numpy as np

    path = _path(directory, digest)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(losses, dtype="<f8"), allow_pickle=False)
    content = buffer.getvalue()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:  # mkstemp's mode is 0600
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return hashlib.sha256(content).hexdigest()


def load(directory: Path, digest: str, sha256: str) -> NDArray[np.float64] | None:
    """The losses ``[n]`` kept for a digest; None if they are missing or not as recorded: measure again."""
    import numpy as np

    try:
        content = read_untrusted(_path(directory, digest), cap_bytes=LARGEST)
    except UntrustedFileError:
        return None
    if hashlib.sha256(content).hexdigest() != sha256:
        return None
    found: NDArray[np.float64] = np.load(io.BytesIO(content), allow_pickle=False)
    return found


def _path(directory: Path, digest: str) -> Path:
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no digest: 8 to 128 hexadecimal digits")
    return directory / f"{digest}.npy"
