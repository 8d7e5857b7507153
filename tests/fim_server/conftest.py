"""Fixtures: engines that serve a small random model."""

from engine_fixtures import (
    chatting,
    checkpoint,
    engine,
    home,
    keyless,
    metric,
    shared_home,
    tcp,
)

__all__ = [
    "chatting",
    "checkpoint",
    "engine",
    "home",
    "keyless",
    "metric",
    "shared_home",
    "tcp",
]
