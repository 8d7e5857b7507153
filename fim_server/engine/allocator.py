"""Memory that is freed goes back to the system, so that the engine's size tells what it holds."""

from __future__ import annotations

import ctypes
import platform

LARGE_BYTES = 4 * 2**20
"""Buffers from this size on are mappings of their own: the keys of a document, not what a forward
over a few tokens needs."""

_M_MMAP_THRESHOLD = -3
"""`man 3 mallopt`."""


def return_large_buffers() -> bool:
    """Whether the C library now returns a large buffer's memory when it is freed.

    By itself glibc keeps it: once one was freed, buffers of that size come from the heap, where the
    keys of a closed document stay resident for as long as anything lies behind them. Other
    C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
