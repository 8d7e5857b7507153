"""`fim-server complete`: one completion at a position of a file, shown in place or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from fim_model.requests import Completion, CompletionItem, CompletionRequest

from fim_server.commands.load_model import load_infiller
from fim_server.commands.request_at import Question, Refusal, question_at, refusal_of, settings_of
from fim_server.commands.usage_error import UsageError
from fim_server.completion.gate import confidence_threshold, judge
from fim_server.engine.wire import item_to_json
from fim_server.settings.settings import Settings

if TYPE_CHECKING:
    from fim_model.decoding.core import Step
    from fim_model.infiller import Infiller

WATCH_PAUSE = 0.15
"""Seconds between two frames of --watch; forwards alone are too fast to follow."""


def run(arguments: argparse.Namespace) -> int:
    """Complete and print; the exit code. Raises UsageError for bad input."""
    settings = settings_of(
        model=arguments.model,
        mode=arguments.mode,
        threads=arguments.threads,
        maxTokens=arguments.max_tokens,
    )
    if refusal := refusal_of(arguments.file, settings):
        return _print_refusal(arguments, refusal)
    question = question_at(arguments, settings)
    snapshot, hole = question.snapshot, question.hole
    try:
        request = replace(question.request, temperature=arguments.temperature, seed=arguments.seed)
    except ValueError as wrong:
        raise UsageError(str(wrong)) from None
    infiller = load_infiller(settings.model, settings.threads)
    if arguments.watch:
        _watch(infiller, request, question)
        return 0
    completion = _infill(infiller, request)
    judgement = judge(completion.items, hole, _threshold(settings, completion))
    items = judgement.items
    assert completion.stats is not None
    if arguments.json:
        answer: dict[str, Any] = {
            "items": [item_to_json(item) for item in items],
            "stats": asdict(completion.stats),
        }
        if judgement.silence is not None:
            answer["silence"] = judgement.silence
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0
    from rich.console import Console

    from fim_server.commands.render import figures, ghost_view

    console = Console(highlight=False)
    for item in items or [CompletionItem("", 0.0)]:
        console.print(ghost_view(snapshot, hole.position, item.text))
    console.print(figures(completion, silence=judgement.silence))
    return 0


def _print_refusal(arguments: argparse.Namespace, refusal: Refusal) -> int:
    """Print why the file is excluded, without asking the model."""
    if arguments.json:
        answer: dict[str, Any] = {"items": [], "stats": None, **asdict(refusal)}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stderr.write(f"fim-server: nothing: {refusal.silence} ({refusal.detail})\n")
    return 0


def _infill(infiller: Infiller, request: CompletionRequest, **listeners: Any) -> Completion:
    try:
        return infiller.infill(request, **listeners)
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit


def _threshold(settings: Settings, completion: Completion) -> float:
    """The gate's threshold: a command is an explicit request."""
    return confidence_threshold(settings.min_confidence, completion.show_above, invoked=True)


def _watch(infiller: Infiller, request: CompletionRequest, question: Question) -> None:
    """Complete, redrawing the hole after every forward."""
    from rich.console import Console, Group
    from rich.live import Live

    from fim_server.commands.render import figures, ghost_view, step_line, unfinished

    snapshot, hole = question.snapshot, question.hole
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:

        def show(step: Step) -> None:
            text = unfinished(infiller.pieces(step.hole, step.typed))
            live.update(
                Group(ghost_view(snapshot, hole.position, text), step_line(step)), refresh=True
            )
            time.sleep(WATCH_PAUSE)

        completion = _infill(infiller, request, on_step=show)
        judgement = judge(completion.items, hole, _threshold(question.settings, completion))
        text = judgement.items[0].text if judgement.items else ""
        ghost = ghost_view(snapshot, hole.position, text)
        live.update(Group(ghost, figures(completion, silence=judgement.silence)), refresh=True)
