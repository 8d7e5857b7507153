#!/usr/bin/env python3
"""Draw what `fim-server complete --watch` shows as an SVG: each forward below the one before.

    python scripts/record_watch.py OUT.svg [--model FOLDER]

Exit code 1 if the model denoised nothing at this place.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path

from fim_model.requests import Completion
from lsprotocol import types as lsp
from rich.console import Console
from rich.terminal_theme import MONOKAI

from fim_server.backends.base import Backend
from fim_server.commands.ask_backend import ask_backend
from fim_server.commands.render import pieces_view
from fim_server.commands.watch import frames, legend, step_line
from fim_server.completion.hole import budgeted_hole, request_for
from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.settings.settings import Settings

CODE = """\
import json


def load(path):
    with open(path) as file:
        return
"""
CURSOR = lsp.Position(5, len("        return"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", help="default: the model that ships")
    arguments = parser.parse_args()
    settings = Settings(model=arguments.model, backend="in_process", mode="diffusion")
    snapshot = Snapshot("file:///load.py", "python", 1, 1, Encoding.UTF32, split_lines(CODE))
    hole = budgeted_hole(snapshot, CURSOR, settings)
    request = replace(request_for(hole, snapshot, settings, 1), trace=True, session="")

    async def ask(backend: Backend) -> Completion:
        return await backend.complete(request)

    trace = ask_backend(settings, ask).trace
    if not any(None in step.hole for step in trace):
        sys.stderr.write("record_watch: the model denoised nothing here\n")
        return 1
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    for number, (step, pieces) in enumerate(frames(trace), 1):
        console.print(pieces_view(snapshot, CURSOR, pieces), end="")
        console.print(step_line(step, number, len(trace)))
        console.print()
    console.print(legend())
    console.save_svg(str(arguments.out), title="fim-server complete --watch", theme=MONOKAI)
    sys.stdout.write(f"{arguments.out}: {len(trace)} forwards\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
