"""`fim-server edit` and `fim-server revise`: show what the model would change, without applying
it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_model.requests import Rewrite, RewriteRequest
from lsprotocol import types as lsp

from fim_server.backends.base import Backend, Unfit
from fim_server.commands.ask_backend import ask_backend
from fim_server.commands.diff_view import print_unified
from fim_server.commands.file_position import read_source
from fim_server.commands.instruct import instruct, lines_in
from fim_server.commands.load_model import load_infiller
from fim_server.commands.patch import PatchError, hunks_of
from fim_server.commands.request_at import allowed_settings, workspace_of
from fim_server.commands.usage_error import UsageError
from fim_server.documents.documents import Snapshot
from fim_server.edits.history import past_edits
from fim_server.edits.next_edit import (
    MAX_EDITS,
    MAX_TRIES,
    DraftJudge,
    EditContext,
    Gate,
    Proposal,
    best_of,
    considered,
    ranked,
    request_for,
)
from fim_server.edits.regions import Region
from fim_server.syntax.interruptible import Allowance, GaveUp

if TYPE_CHECKING:
    from fim_model.decoding.core import Step
    from fim_model.infiller import Infiller

WATCH_PAUSE = 0.15
"""Seconds between two frames of --watch, since a forward is too quick to be seen."""

NO_REGION = (
    "no rule expects another change: nothing in the file repeats what the patch changed (a renamed "
    "name, a changed signature's calls, similar lines, a missing import)"
)


def edit(arguments: argparse.Namespace) -> int:
    """Print the edits that follow from those of a patch, or from an instruction. Raises
    UsageError."""
    if arguments.instruction is not None:
        return instruct(arguments)
    if arguments.apply:
        raise UsageError("--apply: needs --instruction; proposals after a patch are only shown")
    arguments.file = Path(arguments.file)
    settings = allowed_settings(arguments.file, arguments)
    snapshot = read_source(arguments.file)
    try:
        hunks = hunks_of(_read_patch(arguments.history), snapshot)
    except PatchError as unfit:
        raise UsageError(f"{arguments.history}: {unfit}") from unfit
    workspace = workspace_of(arguments.file, settings)
    path, adapter = workspace.shown_path(snapshot.uri), workspace.adapter_of(snapshot.uri)
    context = EditContext(snapshot, hunks, hunks[-1].first, path=path, adapter=adapter)
    try:
        regions = asyncio.run(Allowance().spend(context.regions))
    except GaveUp as late:
        raise UsageError(f"{arguments.file}: this text takes too long to search: {late}") from late
    search = _Search(context, regions[:MAX_TRIES], Gate(settings.min_edit_gain))
    if search.regions:
        ask_backend(settings, search.run)
    forwards = sum(rewrite.forwards for rewrite in search.asked)
    ms = sum(rewrite.ms for rewrite in search.asked)
    found = ranked(search.found, snapshot.uri)
    if arguments.json:
        answer = {
            "edits": [_as_json(proposal) for proposal in found],
            "silent": [asdict(silence) for silence in search.silent],
            "stats": {"regions": len(search.asked), "forwards": forwards, "ms": ms},
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for proposal in found:
        _print_diff(console, proposal, path)
    for silence in search.silent:
        console.print(f"line {silence.line}: nothing shown: {silence.why}", markup=False)
    if not search.regions:
        console.print(NO_REGION)
    ways = ", ".join(sorted({rewrite.way for rewrite in search.asked if rewrite.forwards}))
    console.print(
        f"{len(found)} of {len(search.asked)} regions · {ways or 'the model was not asked'} · "
        f"{forwards} forwards · {ms:.0f} ms",
        style="dim",
    )
    return 0


@dataclass(frozen=True, slots=True)
class _Silent:
    """A region without a shown edit: its first line, from 1, and why."""

    line: int
    why: str


class _Search:
    """Asks the model about each region, and keeps what is shown and why the rest is not."""

    def __init__(self, context: EditContext, regions: list[Region], gate: Gate) -> None:
        self.context, self.regions, self.gate = context, regions, gate
        self.found: list[Proposal] = []
        self.silent: list[_Silent] = []
        self.asked: list[Rewrite] = []

    async def run(self, backend: Backend) -> None:
        edits = past_edits(self.context.hunks, MAX_EDITS)

        judge = DraftJudge(lambda: backend, lambda: self.gate)

        async def ask(request: RewriteRequest) -> Rewrite | None:
            rewrite = await judge.ask(replace(request, session=""))
            if rewrite is not None:
                self.asked.append(rewrite)
            return rewrite

        for region in self.regions:
            best = best_of(await considered(self.context, region, edits, ask))
            if best is None:
                self._note(region, "the model would leave it as it is")
            elif why := self._objection(best):
                new = " ⏎ ".join(line.strip() for line in best.new) or "(deleted)"
                self._note(region, f"{new}: {why}")
            else:
                self.found.append(best)

    def _objection(self, proposal: Proposal) -> str | None:
        why = self.gate.objection(proposal)
        if why is None and self.context.is_unproven_prose(proposal):
            return "it changes words of prose that the patch does not replace twice"
        return why

    def _note(self, region: Region, why: str) -> None:
        self.silent.append(_Silent(region.first + 1, f"{region.reason}; {why}"))


def revise(arguments: argparse.Namespace) -> int:
    """Print some lines as the model would rewrite them. Raises UsageError."""
    settings = allowed_settings(arguments.file, arguments)
    snapshot = read_source(arguments.file)
    first, end = _lines(arguments, snapshot)
    workspace = workspace_of(arguments.file, settings)
    path, adapter = workspace.shown_path(snapshot.uri), workspace.adapter_of(snapshot.uri)
    context = EditContext(snapshot, (), first, path=path, adapter=adapter)
    request = request_for(context, first, end, ())
    if arguments.watch:
        infiller = load_infiller(settings.model, settings.threads)
        rewrite = _watch(infiller, request, snapshot, first, end)
    else:
        rewrite = ask_backend(settings, partial(_revised, request=request))
    old, new = tuple(request.old.split("\n")), tuple(rewrite.new.split("\n"))
    proposal = Proposal(snapshot, first, old, new, 0.0, "asked for", rewrite, rewrite.gain)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_json(proposal)) + "\n")
        return 0
    from rich.console import Console

    console = Console(highlight=False)
    if old == new:
        console.print("the model would leave these lines as they are")
    else:
        _print_diff(console, proposal, context.path)
    console.print(
        f"{rewrite.way} · {rewrite.forwards} forwards · {rewrite.tokens} tokens · "
        f"gain {rewrite.gain:.1f} nats · {rewrite.ms:.0f} ms",
        style="dim",
    )
    return 0


def _read_patch(path: Path) -> str:
    """The text of a file, or of stdin for `-`. Raises UsageError."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: cannot be read as UTF-8 ({type(problem).__name__})") from None


def _lines(arguments: argparse.Namespace, snapshot: Snapshot) -> tuple[int, int]:
    """The lines `[first, end)` of `--lines A-B`. Raises UsageError."""
    low, _, high = arguments.lines.partition("-")
    try:
        lines = int(low), int(high or low)
    except ValueError:
        raise UsageError(f"--lines {arguments.lines}: expected A-B, such as 10-14") from None
    return lines_in(lines, snapshot, arguments.file, f"--lines {arguments.lines}")


async def _revised(backend: Backend, request: RewriteRequest) -> Rewrite:
    rewrite = await backend.rewrite(replace(request, session=""))
    if rewrite is None:
        raise Unfit("another request took this one's place; try again")
    return rewrite


def _rewrite(infiller: Infiller, request: RewriteRequest, **listeners: Any) -> Rewrite:
    try:
        return infiller.rewrite(request, **listeners)
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit


def _watch(
    infiller: Infiller, request: RewriteRequest, snapshot: Snapshot, first: int, end: int
) -> Rewrite:
    """Rewrite the region, showing it after every forward."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from fim_server.commands.render import ghost_view, step_line, unfinished

    lines = snapshot.lines
    around = replace(snapshot, lines=[*lines[:first], snapshot.line_end(first), *lines[end:]])
    with Live(console=Console(highlight=False), auto_refresh=False) as live:

        def show(step: Step) -> None:
            view = ghost_view(
                around, lsp.Position(first, 0), unfinished(infiller.pieces(step.hole))
            )
            masked = Text(f", {len(step.remasked)} masked again" if step.remasked else "", "dim")
            live.update(Group(view, step_line(step) + masked), refresh=True)
            time.sleep(WATCH_PAUSE)

        rewrite = _rewrite(infiller, request, on_step=show)
        live.update(ghost_view(around, lsp.Position(first, 0), rewrite.new), refresh=True)
    return rewrite


def _as_json(proposal: Proposal) -> dict[str, Any]:
    """`line` counts from 1; `old` and `new` are whole lines."""
    cost = asdict(proposal.rewrite)
    for name in ("new", "draft_gains", "draft_weight", "own_prior"):
        del cost[name]
    return cost | {
        "line": proposal.first + 1,
        "old": list(proposal.old),
        "new": list(proposal.new),
        "reason": proposal.reason,
        "gain": proposal.gain,
        "expected": proposal.expected,
    }


def _print_diff(console: Any, proposal: Proposal, path: str) -> None:
    from rich.text import Text

    print_unified(console, [proposal], path)
    expected = f" · expected by {proposal.expected:.0f}" if proposal.expected > 0 else ""
    note = f"{proposal.reason} · gain {proposal.gain:.1f} nats{expected}\n"
    console.print(Text(note, "dim"))
