"""`fim-server complete`: the main job on a file, for people and for scripts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsprotocol import types as lsp

from fim_server.backends.base import CompletionItem, CompletionRequest
from fim_server.backends.in_process import completion_of, infill_request
from fim_server.commands.errors import UsageError
from fim_server.commands.model import load_infiller
from fim_server.completion.hole import Hole, hole_at, request_for
from fim_server.completion.trim import trim
from fim_server.documents import Encoding, Snapshot, split_lines, without_end
from fim_server.settings import Settings

if TYPE_CHECKING:
    from fim_model.decoding.core import Step
    from fim_model.infill import Infiller

WATCH_PAUSE = 0.15
"""Seconds between two frames of --watch: a forward is too quick to be seen."""


def run(arguments: argparse.Namespace) -> int:
    """The exit code; raises UsageError for bad input."""
    snapshot = read_source(arguments.file)
    settings = Settings(mode=arguments.mode, max_tokens=arguments.max_tokens)
    position = checked_position(snapshot, arguments.file, arguments.line, arguments.column)
    hole = hole_at(snapshot, position, settings.prefix_chars, settings.suffix_chars)
    request = replace(
        request_for(hole, snapshot, settings, arguments.alternatives),
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    infiller = load_infiller(arguments.model, arguments.threads)
    if arguments.watch:
        _watch(infiller, request, snapshot, hole)
        return 0
    completion = completion_of(_infill(infiller, request))
    items = shown_items(completion.items, hole)
    assert completion.stats is not None
    if arguments.json:
        answer: dict[str, Any] = {
            "items": [asdict(item) for item in items],
            "stats": asdict(completion.stats),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0
    from rich.console import Console

    from fim_server.commands.render import figures, ghost_view

    console = Console(highlight=False)
    for item in items or [CompletionItem("", 0.0)]:
        console.print(ghost_view(snapshot, hole.position, item.text))
    console.print(figures(completion, shown=len(items)))
    return 0


def read_source(path: Path) -> Snapshot:
    """A file as a document whose positions count characters. Raises UsageError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except OSError as problem:
        raise UsageError(f"{path}: cannot be read ({problem.strerror})") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise UsageError(
            f"{path}: byte {problem.start} is not UTF-8; convert the file, for example with iconv"
        ) from None
    uri = path.resolve().as_uri()
    return Snapshot(uri, path.suffix.lstrip("."), 0, 0, Encoding.UTF32, split_lines(text))


def checked_position(snapshot: Snapshot, path: Path, line: int, column: int) -> lsp.Position:
    """1-based line and 0-based column as an LSP position. Raises UsageError when outside."""
    if not 1 <= line <= len(snapshot.lines):
        raise UsageError(f"{path}: line {line} is outside the file's 1 to {len(snapshot.lines)}")
    width = len(without_end(snapshot.lines[line - 1]))
    if not 0 <= column <= width:
        raise UsageError(f"{path}: column {column} is outside line {line}'s 0 to {width}")
    return lsp.Position(line - 1, column)


def shown_items(items: list[CompletionItem], hole: Hole) -> list[CompletionItem]:
    """What an editor would show of them: trimmed, none twice, none empty."""
    trimmed = [replace(item, text=trim(item.text, hole.before, hole.after)) for item in items]
    first = {item.text: item for item in reversed(trimmed) if item.text}
    return list(first.values())[::-1]


def _infill(infiller: Infiller, request: CompletionRequest, **listeners: Any) -> Any:
    try:
        return infiller.infill(infill_request(request), **listeners)
    except ValueError as wrong:
        raise UsageError(str(wrong)) from wrong


def _watch(infiller: Infiller, request: CompletionRequest, snapshot: Snapshot, hole: Hole) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    from fim_server.commands.render import figures, ghost_view, step_line, unfinished

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:

        def show(step: Step) -> None:
            text = unfinished(infiller.pieces(step.hole))
            live.update(
                Group(ghost_view(snapshot, hole.position, text), step_line(step)), refresh=True
            )
            time.sleep(WATCH_PAUSE)

        completion = completion_of(_infill(infiller, request, on_step=show))
        items = shown_items(completion.items, hole)
        text = items[0].text if items else ""
        live.update(
            Group(ghost_view(snapshot, hole.position, text), figures(completion, shown=len(items))),
            refresh=True,
        )
