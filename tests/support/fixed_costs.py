"""Costs of forwards that no clock changes: adaptive speculation then takes the same steps again."""

from __future__ import annotations

from fim_model.decoding.adaptive import ForwardCosts


class FixedCosts(ForwardCosts):
    """further: what one more position costs, in forwards of one position."""

    def __init__(self, further: float) -> None:
        super().__init__(slope=further)

    def observe(self, width: int, seconds: float) -> None:
        pass
