"""How far something long has come, told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called as `progress(what, share)` with `share` in 0..1."""


def unseen(what: str, share: float) -> None:
    """A Progress that nobody watches."""


def part(progress: Progress, begin: float, end: float) -> Progress:
    """One stage, 0..1 of its own, as the part `begin` to `end` of the whole."""

    def tell(what: str, share: float) -> None:
        progress(what, begin + (end - begin) * min(max(share, 0.0), 1.0))

    return tell


STEPS = 20
"""Tensors and chunks come by the thousand; nobody needs to hear of more than this."""


def in_steps(progress: Progress) -> Progress:
    """Tells each of STEPS + 1 shares at most once, rising."""
    told = -1

    def tell(what: str, share: float) -> None:
        nonlocal told
        step = int(STEPS * min(max(share, 0.0), 1.0) + 1e-6)  # 0.95 is not 19 / 20
        if step > told:
            told = step
            progress(what, step / STEPS)

    return tell
