"""`fim-server lsp`: run the language server on stdin and stdout."""

from __future__ import annotations

import argparse
import gc
import sys

from fim_server.commands.usage_error import UsageError
from fim_server.settings.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    """Serve one editor until it disconnects."""
    options = {"backend": "in_process"} if arguments.in_process else {}
    if sys.stdin is None:
        raise UsageError("the language server reads from stdin, which is closed")
    # What is imported from here on stays until the process ends, so a search for garbage in it
    # would only cost time: none while it is imported, and none in it afterwards (`freeze`).
    gc.disable()
    try:
        from fim_server.lsp.quick_types import load_types

        load_types()  # first: everything below imports these types
        from fim_server.lsp.app import run_stdio
    finally:
        gc.freeze()
        gc.enable()
    return run_stdio(Settings(), command_line=options, client_process_id=arguments.clientProcessId)
