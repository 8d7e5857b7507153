"""`fim-server lsp`: run the language server on stdin and stdout."""

from __future__ import annotations

import argparse
import sys

from fim_server.commands.usage_error import UsageError
from fim_server.lsp.app import run_stdio
from fim_server.settings.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    """Serve one editor until it disconnects."""
    options = {"backend": "in_process"} if arguments.in_process else {}
    if sys.stdin is None:
        raise UsageError("the language server reads from stdin, which is closed")
    return run_stdio(Settings(), command_line=options, client_process_id=arguments.clientProcessId)
