"""Engines that serve a small random model, for the tests of every room that asks one."""

from engine_fixtures import checkpoint, engine, home, metric, shared_home, tcp

__all__ = ["checkpoint", "engine", "home", "metric", "shared_home", "tcp"]
