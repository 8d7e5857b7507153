"""Errors of the command line."""

from __future__ import annotations


class UsageError(Exception):
    """Bad input: a one-line message with the problem and the fix. Exit code 2, no traceback."""
