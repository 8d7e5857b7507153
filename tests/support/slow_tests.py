"""The tests that `make quick` leaves out, as folders and files below tests/.

They start a server or an engine, interpret Triton kernels, train, or take more than a few seconds
for another reason. Measured with `--durations`; tests/architecture checks that every entry exists.
"""

from __future__ import annotations

from pathlib import PurePosixPath

SLOW = ("editors",)


def is_slow(place: PurePosixPath) -> bool:
    """Whether a test file, given by its path below tests/, is in SLOW or in a folder of SLOW."""
    return any(place.is_relative_to(slow) for slow in SLOW)
