"""What the C library holds of the memory that it was given back: glibc's, others are left alone."""

from __future__ import annotations

import ctypes
from typing import Final, Protocol

_M_ARENA_MAX: Final = -8
"""Of glibc's malloc.h."""


def share_one_heap() -> None:
    """Let all threads take memory from one heap: call it before there are any.

    glibc gives each thread one of its own, and what is free in one serves no other: 7 MB of a node
    that has synced. Threads that hold the interpreter one at a time need no more.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)


class Heap(Protocol):
    """What holds memory that nobody uses at present."""

    def give_back(self) -> None:
        """Give the system what is free: called when heavy work is over, in a thread."""


class SharedHeap:
    """That of the process."""

    def give_back(self) -> None:
        """Give the system what is free, within milliseconds: by itself glibc gives back what is
        free at the heap's end alone."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class HeapLeftAlone:
    """One that others use as well: of simulated nodes, which share a process."""

    def give_back(self) -> None:
        """Do nothing."""


LEFT_ALONE: Final = HeapLeftAlone()
