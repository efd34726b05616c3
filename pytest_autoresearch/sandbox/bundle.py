"""
How the harness's own code reaches an interpreter that reads no file of it: compiled, over a private socket.

Compiling it anew in each run would take as long as starting the interpreter.
"""

from __future__ import annotations

import marshal
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ["BOOT", "code_of", "packed", "supervisor_code"]

HERE = Path(__file__).parent
SUPERVISOR = ("calls", "proc", "capture", "footprint", "holdings", "launcher", "supervisor")
"""Modules of this package, each after those that it imports."""
BOOT = f"""
import marshal, os, sys
def take(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            raise SystemExit("no order: the harness is gone")
        data += piece
    return data
for name, code in marshal.loads(take(int(take(16), 16))):
    module = sys.modules[name] = type(sys)(name)
    module.__package__ = {__package__!r}
    exec(code, module.__dict__)
module.main()
"""
"""The interpreter's program: take up the modules, start the last one."""


@cache
def code_of(name: str) -> CodeType:
    """A module of this package, compiled; by way of the interpreter's own cache, as any import is."""
    # Not by way of the module's loader: inside pytest, a plugin's modules have one that rewrites assertions.
    module = f"{__package__}.{name}"
    code = SourceFileLoader(module, str(HERE / f"{name}.py")).get_code(module)
    if code is None:
        raise ImportError(f"{module} has no source")
    return code


def packed(content: Any) -> bytes:
    """What can be marshalled, behind its length in sixteen hexadecimal digits."""
    data = marshal.dumps(content)
    return b"%016x%s" % (len(data), data)


@cache
def supervisor_code() -> bytes:
    """The supervisor and what it imports, packed."""
    return packed([(f"{__package__}.{name}", code_of(name)) for name in SUPERVISOR])
