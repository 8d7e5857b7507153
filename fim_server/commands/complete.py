"""`fim-server complete`: one completion at a position of a file, shown in place or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fim_model.requests import Completion, CompletionItem, CompletionRequest

from fim_server.backends.base import Backend
from fim_server.commands.ask_backend import ask_backend
from fim_server.commands.file_position import position_of
from fim_server.commands.request_at import Question, Refusal, question_at, refusal_of
from fim_server.commands.usage_error import UsageError
from fim_server.commands.user_settings import settings_of
from fim_server.completion.gate import Judgement, confidence_threshold, judge, judge_context
from fim_server.engine.wire import item_to_json


def run(arguments: argparse.Namespace) -> int:
    """Complete and print; the exit code. Raises UsageError for bad input."""
    settings = settings_of(
        model=arguments.model,
        mode=arguments.mode,
        threads=arguments.threads,
        backend=arguments.backend,
        maxTokens=arguments.max_tokens,
    )
    where = position_of(arguments)
    if refusal := refusal_of(where.file, settings):
        return _print_refusal(arguments, refusal)
    question = question_at(where, settings, arguments.open, arguments.alternatives)
    try:
        request = replace(
            question.request,
            temperature=arguments.temperature,
            seed=arguments.seed,
            session="",  # another process could not use what it would keep
            trace=arguments.watch,
        )
    except ValueError as wrong:
        raise UsageError(str(wrong)) from None
    if silence := judge_context(question.hole):
        completion, judgement = Completion(), Judgement([], silence)
    else:
        completion = _ask(question, request)
        judgement = _judge(question, completion, arguments.alternatives)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_json(completion, judgement)) + "\n")
    elif arguments.text:
        sys.stdout.write(judgement.texts[0] if judgement.texts else "")
    elif arguments.watch:
        from fim_server.commands.watch import watch

        watch(question, completion, judgement)
    else:
        _show(question, completion, judgement)
    return 0


def _ask(question: Question, request: CompletionRequest) -> Completion:
    async def ask(backend: Backend) -> Completion:
        return await backend.complete(request)

    return ask_backend(question.settings, ask)


def _judge(question: Question, completion: Completion, limit: int) -> Judgement:
    """What the gate shows: a command is an explicit request."""
    asked = question.settings.min_confidence
    threshold = confidence_threshold(asked, completion.show_above, invoked=True)
    return judge(completion.items, question.hole, threshold, limit)


def _as_json(completion: Completion, judgement: Judgement) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "items": [item_to_json(item) for item in judgement.items],
        "stats": None if completion.stats is None else asdict(completion.stats),
    }
    if judgement.silence is not None:
        answer["silence"] = judgement.silence
        answer["why"] = judgement.silence.explained
    return answer


def _show(question: Question, completion: Completion, judgement: Judgement) -> None:
    """The best suggestion in place, the others below it."""
    from rich.console import Console

    from fim_server.commands.render import figures, ghost_view

    console = Console(highlight=False)
    position = question.hole.position
    text = judgement.texts[0] if judgement.texts else ""
    console.print(ghost_view(question.snapshot, position, text), end="")
    if len(judgement.items) > 1:
        console.print(_others(judgement.items))
    console.print(figures(completion, silence=judgement.silence))


def _others(items: Sequence[CompletionItem]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("", "suggestion", "confidence", box=None, padding=(0, 1))
    for number, item in enumerate(items, 1):
        table.add_row(str(number), Text(item.text), f"{item.confidence:.3f}")
    return table


def _print_refusal(arguments: argparse.Namespace, refusal: Refusal) -> int:
    """Print why the file is excluded, without asking the model."""
    if arguments.json:
        answer: dict[str, Any] = {"items": [], "stats": None, **asdict(refusal)}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stderr.write(f"fim-server: nothing: {refusal.silence} ({refusal.detail})\n")
    return 0
