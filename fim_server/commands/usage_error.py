"""Errors of the command line."""

from __future__ import annotations


class UsageError(Exception):
    """Bad input: one line that names the thing and the way out. Exit code 2, no traceback."""
