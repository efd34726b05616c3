"""
Reads the files that untrusted programs leave behind: hostile until proven regular, small and sane.

A run may leave a link to somebody else's file, a FIFO that never answers, a terabyte of holes, an array
whose header claims more memory than there is, or a pickle. None of them is followed, waited for,
allocated or executed. Whoever asks gets bytes, an array of numbers, or one error with a sentence.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "UntrustedFileError",
    "read_growing",
    "read_logits",
    "read_predictions",
    "read_tail",
    "read_untrusted",
    "take_artifact",
]

PIECE = 1 << 20
"""Bytes read at a time."""
# O_NONBLOCK: opening a FIFO must not wait for a writer. O_NOFOLLOW: a link is an error.
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

NPY_PREFIX = 10
"""Magic string, version 1.0 and the length of the header."""
NPY_HEADER = re.compile(
    rb"\{'descr': '(<f4|<f8)', 'fortran_order': False, "
    rb"'shape': \((\d{1,18},|\d{1,18}(?:, \d{1,18}){1,2})\), \} *\n"
)
"""What ``numpy.save`` writes for up to three axes of floats, and nothing else; so nothing is evaluated."""
NPY_LONGEST_HEADER = 4096


class UntrustedFileError(ValueError):
    """A file from a sandbox is refused; the message is one sentence."""


def read_untrusted(path: Path, *, cap_bytes: int) -> bytes:
    """
    The content of a file that an untrusted program may have made.

    :raises UntrustedFileError: the file is missing, not regular, a link (symbolic, or a second name
        of some other file), larger than ``cap_bytes``, or it changed while it was read.
    """
    with _open(path) as descriptor:
        return b"".join(_pieces(descriptor, path.name, cap_bytes))


def read_tail(path: Path, *, size: int) -> bytes:
    """
    Up to the last ``size`` bytes of a file that may still grow, under the rules of
    :func:`read_untrusted`.
    """
    with _open(path) as descriptor:
        length = _regular(descriptor, path.name).st_size
        return os.pread(descriptor, size, max(0, length - size))


def read_growing(directory: Path, name: str, *, cap_bytes: int) -> bytes:
    """
    The file ``name`` of a run's directory, which the run may still be writing to.

    :raises UntrustedFileError: as :func:`take_artifact`, except that the file may change.
    """
    with _inside(directory) as opened, _open(Path(name), opened) as descriptor:
        _check(descriptor, name, cap_bytes)
        return os.pread(descriptor, cap_bytes, 0)


def take_artifact(
    source: Path, name: str, destination: Path, *, cap_bytes: int
) -> tuple[Path, str]:
    """
    Copy the file ``name`` of the directory ``source`` out of a run's reach.

    :param destination: path of the copy; must not exist, since a copy never replaces anything.
    :returns: ``destination`` and the SHA-256 (hex) of the copy.
    :raises UntrustedFileError: as :func:`read_untrusted`, or ``source`` is no longer a directory;
        nothing is left at ``destination`` then.
    """
    if name in ("", ".", "..") or "/" in name:
        raise UntrustedFileError(f"artifact name {name!r} must be the plain name of one file")
    digest = hashlib.sha256()
    with _inside(source) as directory, _open(Path(name), directory) as descriptor:
        _check(descriptor, name, cap_bytes)
        with destination.open("xb") as copy:
            try:
                for piece in _pieces(descriptor, name, cap_bytes):
                    digest.update(piece)
                    copy.write(piece)
            except BaseException:
                destination.unlink()
                raise
    return destination, digest.hexdigest()


def read_predictions(
    path: Path, n: int, *, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    """
    Predictions from a ``.npy`` file: float64 ``[n]``, every value finite and in [``low``, ``high``].

    The parser accepts one header, compared as text before anything is allocated: little-endian floats
    in format version 1.0, exactly ``n`` of them, with nothing behind.

    :raises UntrustedFileError: the file or its content is anything else.
    """
    import numpy as np

    values = _read_floats(path, (n,)).astype(np.float64)
    if n and (values.min() < low or values.max() > high):
        raise UntrustedFileError(
            f"{path.name!r} holds values from {values.min():g} to {values.max():g}, outside "
            f"[{low:g}, {high:g}]"
        )
    return values


def read_logits(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """
    Logits from a ``.npy`` file: float32 ``[n, T, V]`` of exactly this shape, every value finite.

    Memory is a few times the array's, so the caller bounds its shape. Strict as
    :func:`read_predictions`.

    :raises UntrustedFileError: the file or its content is anything else.
    """
    import numpy as np

    values = _read_floats(path, shape, widest=4)
    return np.asarray(values, dtype=np.float32)


def _read_floats(path: Path, shape: tuple[int, ...], widest: int = 8) -> NDArray[np.floating]:
    """Finite floats of one shape and of at most ``widest`` bytes each, read-only."""
    import numpy as np

    name, n = path.name, math.prod(shape)
    data = read_untrusted(path, cap_bytes=NPY_PREFIX + NPY_LONGEST_HEADER + widest * n)
    start = NPY_PREFIX + int.from_bytes(data[8:NPY_PREFIX], "little")
    header = NPY_HEADER.fullmatch(data[NPY_PREFIX:start])
    if data[:8] != b"\x93NUMPY\x01\x00" or header is None:
        raise UntrustedFileError(
            f"{name!r} is not a .npy file (version 1.0) of float32 or float64 numbers in C order: "
            f"save it with numpy.save"
        )
    kind, declared = header[1].decode(), f"({header[2].decode()})"
    if declared != str(shape):
        raise UntrustedFileError(
            f"{name!r} holds predictions of shape {declared} instead of {shape}"
        )
    if int(kind[-1]) > widest:
        raise UntrustedFileError(f"{name!r} holds {kind} numbers instead of <f{widest}")
    size = n * int(kind[-1])
    if len(data) - start != size:
        raise UntrustedFileError(
            f"{name!r} holds {len(data) - start} bytes of data instead of the {size} that its header "
            f"declares"
        )
    values = np.frombuffer(data, dtype=kind, offset=start)
    if not np.isfinite(values).all():
        raise UntrustedFileError(f"{name!r} holds values that are not finite numbers")
    return values.reshape(shape)


@contextmanager
def _inside(directory: Path) -> Iterator[int]:
    """A descriptor of a directory itself, whatever its name comes to mean."""
    try:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(directory.name, error) from None
    try:
        yield opened
    finally:
        os.close(opened)


@contextmanager
def _open(path: Path, directory: int | None = None) -> Iterator[int]:
    """A descriptor of the file itself: never of what it points to, and without waiting."""
    try:
        descriptor = os.open(path, FLAGS, dir_fd=directory)
    except (OSError, ValueError) as error:
        raise _refusal(path.name, error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _regular(descriptor: int, name: str) -> os.stat_result:
    """The state of the open file, which must be regular and have one name only."""
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise UntrustedFileError(f"{name!r} is not a regular file")
    if state.st_nlink != 1:
        raise UntrustedFileError(
            f"{name!r} has {state.st_nlink} names: a hard link may be somebody else's file"
        )
    return state


def _check(descriptor: int, name: str, cap_bytes: int) -> os.stat_result:
    state = _regular(descriptor, name)
    if state.st_size > cap_bytes:
        raise UntrustedFileError(
            f"{name!r} holds {state.st_size} bytes, more than the {cap_bytes} allowed"
        )
    return state


def _pieces(descriptor: int, name: str, cap_bytes: int) -> Iterator[bytes]:
    """The content, checked before and after: no larger than allowed, and unchanged meanwhile."""
    before = _check(descriptor, name, cap_bytes)
    left = before.st_size
    while left:
        piece = os.read(descriptor, min(PIECE, left))
        if not piece:
            break
        left -= len(piece)
        yield piece
    after = os.fstat(descriptor)
    if left or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise UntrustedFileError(
            f"{name!r} changed while it was read: something still writes to it"
        )


def _refusal(name: str, error: Exception) -> UntrustedFileError:
    if isinstance(error, FileNotFoundError):
        return UntrustedFileError(f"{name!r} does not exist")
    if isinstance(error, OSError):
        reason = os.strerror(error.errno or 0).lower()
        return UntrustedFileError(f"{name!r} cannot be opened without following links: {reason}")
    return UntrustedFileError(f"{name!r} is not the name of a file: {error}")
