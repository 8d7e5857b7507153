"""`fim-server edit FILE:A-B --instruction "…"`: lines of a file as an instruction says."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fim_server.backends.base import Backend
from fim_server.commands.ask_backend import ask_backend
from fim_server.commands.diff_view import print_unified
from fim_server.commands.file_position import read_source
from fim_server.commands.request_at import allowed_settings, workspace_of
from fim_server.commands.usage_error import UsageError
from fim_server.documents.documents import Snapshot
from fim_server.edits.asked.instructed import applied, instructed
from fim_server.edits.next_edit import EditContext, Proposal

_LINES = re.compile(r"(?P<file>.+?):(?P<first>\d+)(?:-(?P<last>\d+))?")


def instruct(arguments: argparse.Namespace) -> int:
    """Print the edits of the file's lines, and write them with `--apply`. Raises UsageError."""
    file, lines = _place(arguments.file)
    settings = allowed_settings(file, arguments)
    snapshot = read_source(file)
    first, end = lines_in(lines, snapshot, file, arguments.file)
    if not arguments.instruction.strip():
        raise UsageError('--instruction "": say what to do, such as --instruction "add type hints"')
    path = workspace_of(file, settings).shown_path(snapshot.uri)
    context = EditContext(snapshot, (), first, path=path)
    work = partial(_asked, context=context, lines=(first, end), instruction=arguments.instruction)
    hunks = ask_backend(settings, work)
    if arguments.apply and hunks:
        _write(file, snapshot, hunks)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_json(hunks, applied=arguments.apply)) + "\n")
        return 0
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not hunks:
        console.print("the model would leave these lines as they are")
        return 0
    print_unified(console, hunks, path)
    cost = hunks[0].rewrite
    done = f" · written to {file}" if arguments.apply else ""
    count = f"{len(hunks)} hunk{'s' * (len(hunks) > 1)}"
    console.print(
        f"{count} · {cost.forwards} forwards · {cost.tokens} tokens · {cost.ms:.0f} ms{done}",
        style="dim",
        markup=False,
    )
    return 0


async def _asked(
    backend: Backend, context: EditContext, lines: tuple[int, int], instruction: str
) -> list[Proposal]:
    return await instructed(backend, context, *lines, instruction)


def _place(text: str) -> tuple[Path, tuple[int, int] | None]:
    """The file of `FILE:A-B` and its lines from 1, inclusive; None for all of them."""
    place = _LINES.fullmatch(text)
    if place is None or Path(text).exists():
        return Path(text), None
    first = int(place["first"])
    return Path(place["file"]), (first, int(place["last"] or first))


def lines_in(
    lines: tuple[int, int] | None, snapshot: Snapshot, file: Path, named: str
) -> tuple[int, int]:
    """The lines `[first, end)`. Raises UsageError, with how they were named, if the file has not
    got them."""
    count = len(snapshot.lines) - (not snapshot.lines[-1])
    low, high = lines or (1, count)
    if not 1 <= low <= high <= count:
        raise UsageError(f"{named}: {file} has lines 1 to {count}")
    return low - 1, high


def _write(file: Path, snapshot: Snapshot, hunks: list[Proposal]) -> None:
    text = applied(snapshot, hunks)
    try:
        if file.read_bytes().decode("utf-8") != snapshot.text:
            raise UsageError(f"{file}: it has changed since it was read; nothing is written")
        file.write_bytes(text.encode("utf-8"))
    except (OSError, UnicodeError) as problem:
        why = getattr(problem, "strerror", None) or type(problem).__name__
        raise UsageError(f"{file}: cannot be written ({why})") from None


def _as_json(hunks: list[Proposal], *, applied: bool) -> dict[str, Any]:
    """`line` counts from 1; `old` and `new` are whole lines."""
    stats: dict[str, Any] = {}
    if hunks:
        cost = asdict(hunks[0].rewrite)
        stats = {name: cost[name] for name in ("forwards", "tokens", "reused_tokens", "ms")}
    edits = [
        {"line": hunk.first + 1, "old": list(hunk.old), "new": list(hunk.new)} for hunk in hunks
    ]
    return {"edits": edits, "applied": applied and bool(hunks), "stats": stats}
