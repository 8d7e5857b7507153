"""Allocator settings that return freed memory to the system."""

from __future__ import annotations

import ctypes
import platform

LARGE_BYTES = 4 * 2**20
"""Buffers of at least this size get their own mapping: the KV cache of a document does, the buffers
of a forward over a few tokens do not."""

KEPT_BYTES = 32 * 2**20
"""Free memory that the heap keeps at its end, so that the next forward finds its buffers there
instead of asking the system for new pages."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""`man 3 mallopt`."""


def return_large_buffers() -> bool:
    """Make glibc return large buffers to the system when they are freed; True if it now does.

    By default glibc raises its mmap threshold after the first such free and then takes large
    buffers from the heap, where the KV cache of a closed document stays resident as long as
    anything is allocated above it. Setting one threshold fixes the other at 128 KiB, which would
    return a forward's buffers after every forward, so both are set. Other C libraries are left
    unchanged.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
