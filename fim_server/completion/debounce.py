"""How long to wait for the next keystroke before the model is asked.

A request that the next keystroke makes useless still costs the machine a forward or two. When the
model answers well within the time between two keys, nothing is gained by waiting. When it does not,
asking pays only once the typing has paused: after a bit more than the user's usual interval.
"""

from __future__ import annotations

PAUSE_SECONDS = 1.0
"""Keys further apart than this are not one burst of typing."""

LONGEST_WAIT_SECONDS = 0.3
_SLOWER_THAN_USUAL = 1.25
_WEIGHT = 0.25
"""Of the newest observation in the running means."""
_FADES = 0.95
"""What is left, at each wait, of the latency that is waited for: while nothing is asked nothing is
learned, and a model that was slow when it had just been loaded would be waited for ever after."""


class Debounce:
    """Learns from what it is told; all times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._last_key: float | None = None
        self._interval: float | None = None
        self._latency: float | None = None

    def typed(self, now: float) -> None:
        """The document was changed."""
        if self._last_key is not None and 0 < now - self._last_key < PAUSE_SECONDS:
            self._interval = _mean(self._interval, now - self._last_key)
        self._last_key = now

    def answered(self, seconds: float) -> None:
        """The model took so long for a request that was not stopped."""
        self._latency = _mean(self._latency, seconds)

    def wait(self, now: float) -> float:
        """How long to wait from now on, asked once a request; 0 while too little is known."""
        if self._last_key is None or self._interval is None or self._latency is None:
            return 0.0
        if self._latency <= self._interval / 2:
            return 0.0
        self._latency *= _FADES
        pause = min(self._interval * _SLOWER_THAN_USUAL, LONGEST_WAIT_SECONDS)
        return max(0.0, self._last_key + pause - now)


def _mean(mean: float | None, new: float) -> float:
    return new if mean is None else (1 - _WEIGHT) * mean + _WEIGHT * new
