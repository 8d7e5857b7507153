"""What can be wrong with a checkpoint. Every message is one line that names the thing and the way
out."""

from __future__ import annotations


class ConfigError(ValueError):
    """A config that cannot describe a model."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""
