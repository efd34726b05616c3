"""
A program's output on disk, capped.
"""

from __future__ import annotations

import os

__all__ = ["TAIL", "CappedLog"]

TAIL = 64 * 1024
"""Bytes of the end of the output that are always kept."""


class CappedLog:
    """
    The program's output on disk: its head as it comes, then a ring that always holds its end.

    The file never grows past ``cap`` and one line that says how much was left out.
    """

    def __init__(self, descriptor: int, cap: int) -> None:
        self._descriptor = descriptor
        self._tail_size = min(TAIL, cap // 2)
        self._room = cap - self._tail_size
        self._head = 0
        self._tail = bytearray()
        self._dirty = False
        self.total = 0
        """Bytes written by the program."""

    @property
    def left_out(self) -> int:
        """Bytes that are in neither part."""
        return self.total - self._head - len(self._tail)

    def write(self, data: bytes) -> None:
        """Take up output: into the head while there is room, then into the ring."""
        self.total += len(data)
        head = data[: self._room]
        self._room -= len(head)
        self._put(self._head, head)
        self._head += len(head)
        rest = data[len(head) :]
        if rest:
            self._tail += rest[-self._tail_size :]
            del self._tail[: -self._tail_size]
            self._dirty = True

    def flush(self) -> None:
        """Write the ring behind the head."""
        if self._dirty:
            gap = b"\n[... %d bytes left out ...]\n" % self.left_out if self.left_out else b""
            self._put(self._head, gap + self._tail)
            self._dirty = False

    def _put(self, offset: int, data: bytes) -> None:
        while data:
            try:
                written = os.pwrite(self._descriptor, data, offset)
            except OSError:
                return  # a full disk must not end the supervision
            offset, data = offset + written, data[written:]
