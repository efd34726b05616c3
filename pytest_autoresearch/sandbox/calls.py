"""
Calls of the C library for the lines between the harness and a program.

The public :mod:`ctypes` builds some forty types and takes as long to import as half an interpreter's
start, in each run twice; a call needs two of them.
"""

from __future__ import annotations

import _ctypes
import os

__all__ = ["address", "call", "prctl"]


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Simple = _ctypes._SimpleCData[Any]
else:
    Simple = _ctypes._SimpleCData


class _Int(Simple):
    _type_ = "i"


class _Long(Simple):
    _type_ = "l"


class _Byte(Simple):
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Int


def call(name: str, *arguments: int | bytes | None) -> int:
    """
    The result of the C library's function ``name``; a number is passed as a machine word.

    :raises OSError: the result is negative; or there is no such function.
    """
    itself: Any = None  # the C library is linked into the interpreter
    function = _Function(_ctypes.dlsym(_ctypes.dlopen(itself, 0), name))
    function.restype = _Long if name == "syscall" else _Int
    words = (_Long(word) if isinstance(word, int) else word for word in arguments)
    result: int = function(*words)
    if result < 0:
        code = _ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process; nothing happens where there is no such call."""
    try:
        call("prctl", option, value, 0, 0, 0)
    except OSError:
        return


def address(content: bytes) -> tuple[int, object]:
    """Where a copy of ``content`` lies in memory, and what keeps it there."""
    kind: Any = type("Buffer", (_ctypes.Array,), {"_type_": _Byte, "_length_": len(content)})
    copy = kind.from_buffer_copy(content)
    return _ctypes.addressof(copy), copy
