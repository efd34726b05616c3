"""
The room in which untrusted programs run: a closed environment, a supervisor, limits from outside.

What is covered at every level: the environment and the descriptors a program gets, its deadline, its
resident memory, its output, and the end of its whole process tree, also when the harness is killed.
What is not covered at level ``none``: files, network, other processes of the same user. A program
there can read what the user can read, and every row it produces is labelled accordingly.
"""

from __future__ import annotations

from .environment import closed_environment, python_command
from .process import SandboxProcess, launch
from .spec import Isolation, LaunchSpec, Usage

__all__ = [
    "Isolation",
    "LaunchSpec",
    "SandboxProcess",
    "Usage",
    "closed_environment",
    "launch",
    "python_command",
]
