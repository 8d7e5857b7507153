"""Errors of this package. A message about a checkpoint is one line: what is wrong, what to do."""

from __future__ import annotations


class ConfigError(ValueError):
    """A config that cannot describe a model."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


class RequestError(ValueError):
    """A request that this model cannot serve, such as a conversation longer than its window."""


class Cancelled(Exception):
    """The caller cancelled the request; raised between two forwards."""
