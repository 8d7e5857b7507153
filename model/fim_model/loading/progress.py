"""Progress of a long operation, published to a callback."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called as `progress(what, share)` with `share` in 0..1."""


def unseen(what: str, share: float) -> None:
    """A Progress that ignores every update."""


def part(progress: Progress, begin: float, end: float) -> Progress:
    """A Progress for one stage, which maps its 0..1 to `begin`..`end` of the whole."""

    def tell(what: str, share: float) -> None:
        progress(what, begin + (end - begin) * min(max(share, 0.0), 1.0))

    return tell


STEPS = 20
"""Most updates that are published; tensors and chunks come by the thousand."""


def in_steps(progress: Progress) -> Progress:
    """A Progress that publishes each of STEPS + 1 shares at most once, rising."""
    told = -1

    def tell(what: str, share: float) -> None:
        nonlocal told
        step = int(STEPS * min(max(share, 0.0), 1.0) + 1e-6)  # 0.95 is not 19 / 20
        if step > told:
            told = step
            progress(what, step / STEPS)

    return tell
