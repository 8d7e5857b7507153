"""How long to wait for the next keystroke before the model is asked.

A request that the next keystroke makes useless still costs a forward or two. A model that answers
well within the time between two keystrokes is asked at once. A slower one is asked when the typing
has paused, for a little longer than the user's usual interval.
"""

from __future__ import annotations

PAUSE_SECONDS = 1.0
"""Keystrokes further apart than this are not one burst of typing."""

LONGEST_WAIT_SECONDS = 0.3
_SLOWER_THAN_USUAL = 1.25
_WEIGHT = 0.25
"""Of the newest observation, in the running means."""
_FADES = 0.95
"""Factor on the estimated latency at each wait. While requests wait, no latency is measured;
without the decay, a model that was slow just after loading would be waited for ever after."""


class Debounce:
    """Running means of typing interval and latency. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._last_key: float | None = None
        self._interval: float | None = None
        self._latency: float | None = None

    def typed(self, now: float) -> None:
        """Note a keystroke."""
        if self._last_key is not None and 0 < now - self._last_key < PAUSE_SECONDS:
            self._interval = _mean(self._interval, now - self._last_key)
        self._last_key = now

    def answered(self, seconds: float) -> None:
        """Note how long the model took for a request that was not stopped."""
        self._latency = _mean(self._latency, seconds)

    def wait(self, now: float) -> float:
        """Seconds to wait from `now` on, 0 while too little is known. Call it once per request."""
        if self._last_key is None or self._interval is None or self._latency is None:
            return 0.0
        if self._latency <= self._interval / 2:
            return 0.0
        self._latency *= _FADES
        pause = min(self._interval * _SLOWER_THAN_USUAL, LONGEST_WAIT_SECONDS)
        return max(0.0, self._last_key + pause - now)


def _mean(mean: float | None, new: float) -> float:
    return new if mean is None else (1 - _WEIGHT) * mean + _WEIGHT * new
