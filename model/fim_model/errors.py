"""What can go wrong. Every message about a checkpoint is one line that names the thing and the way
out."""

from __future__ import annotations


class ConfigError(ValueError):
    """A config that cannot describe a model."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


class Cancelled(Exception):
    """The caller wants this text no more; raised between two forwards."""
