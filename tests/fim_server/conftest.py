"""Fixtures: engines that serve a small random model."""

from engine_fixtures import checkpoint, engine, home, metric, shared_home, tcp

__all__ = ["checkpoint", "engine", "home", "metric", "shared_home", "tcp"]
