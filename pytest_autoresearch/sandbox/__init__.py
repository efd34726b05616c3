"""
The room in which untrusted programs run: a closed environment, a supervisor, limits from outside.

What is covered at every level: the environment and the descriptors a program gets, its deadline, its
resident memory, its output, and the end of its whole process tree, also when the harness is killed.
At level ``none`` that is all: a program there can read what the user can read, and every row it produces
is labelled accordingly. Levels ``strong``, ``kernel`` and ``container`` add a wall of the kernel's, which
is attacked before it is trusted: see :mod:`.selftest`.
"""

from __future__ import annotations

from .environment import closed_environment, python_command
from .process import SandboxProcess, launch
from .selftest import SelfTestError, self_test
from .spec import Isolation, LaunchSpec, Usage
from .view import gpu_nodes

__all__ = [
    "Isolation",
    "LaunchSpec",
    "SandboxProcess",
    "SelfTestError",
    "Usage",
    "closed_environment",
    "gpu_nodes",
    "launch",
    "python_command",
    "self_test",
]
