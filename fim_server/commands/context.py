"""`fim-server context`: what the model would see at a position, and why each part is included."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fim_server.commands.file_position import position_of
from fim_server.commands.request_at import Question, Refusal, question_at, refusal_of
from fim_server.commands.terminal import visible
from fim_server.commands.user_settings import settings_of

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the prompt. Lines count from 1; both are 0 for the file's name."""

    part: str
    path: str
    first_line: int
    last_line: int
    why: str
    text: str


def run(arguments: argparse.Namespace) -> int:
    """Print the context; the exit code. Raises UsageError for bad input."""
    settings = settings_of(snippets=arguments.snippets, model=arguments.model)
    where = position_of(arguments)
    if refusal := refusal_of(where.file, settings):
        return _print_refusal(arguments, refusal)
    question = question_at(where, settings, arguments.open)
    prompt = _prompt(question) if arguments.tokens else None
    if arguments.json:
        sys.stdout.write(json.dumps(as_json(question, prompt)) + "\n")
        return 0
    from rich.console import Console, Group

    console = Console(highlight=False, soft_wrap=True)
    console.print(Group(*_view(question, prompt)))
    return 0


def parts_of(question: Question) -> list[Part]:
    """The parts in prompt order."""
    return [*_snippets(question), *_document(question)]


def as_json(question: Question, prompt: list[str] | None) -> dict[str, Any]:
    """The JSON answer; `tokens` only if `prompt`, the model's own tokens, was requested."""
    answer: dict[str, Any] = {
        "parts": [asdict(part) for part in parts_of(question)],
        "max_lines": question.request.max_lines,
    }
    if prompt is not None:
        answer["tokens"] = prompt
    return answer


def _print_refusal(arguments: argparse.Namespace, refusal: Refusal) -> int:
    if arguments.json:
        sys.stdout.write(json.dumps({"parts": [], **asdict(refusal)}) + "\n")
    else:
        sys.stdout.write(f"nothing: {refusal.silence} ({refusal.detail})\n")
    return 0


def _snippets(question: Question) -> Iterator[Part]:
    for snippet in question.choice:
        first, end = snippet.first + 1, snippet.end
        yield Part("snippet", snippet.path, first, end, snippet.reason, snippet.text)


def _document(question: Question) -> Iterator[Part]:
    hole, settings, path = question.hole, question.settings, question.request.path
    line = hole.position.line + 1
    last = line + hole.after.count("\n")
    first = line - hole.before.count("\n")
    total = len(question.snapshot.lines)
    yield Part("file", path, 0, 0, "the names of the file and its folder", path)
    why = f"after the cursor, at most suffixChars = {settings.suffix_chars} characters"
    yield Part("suffix", path, line, last, why + _left_out(total - last), hole.after)
    why = f"before the cursor, prefixChars = {settings.prefix_chars} plus the suffix's unused part"
    yield Part("prefix", path, first, line, why + _left_out(first - 1), hole.before)


def _left_out(lines: int) -> str:
    return f"; {lines} lines omitted" if lines > 0 else ""


def _prompt(question: Question) -> list[str]:
    """The model's prompt as the text of each token; special tokens by name."""
    from fim_server.commands.load_model import load_infiller

    infiller = load_infiller(question.settings.model, question.settings.threads)
    ids = infiller.prompt(question.request)
    return [infiller.tokenizer.token_text(token) for token in ids]


def _view(question: Question, prompt: list[str] | None) -> Iterator[RenderableType]:
    from rich.rule import Rule
    from rich.text import Text

    for part in parts_of(question):
        lines = f":{part.first_line}-{part.last_line}" if part.first_line else ""
        size = f"{len(part.text)} characters"
        yield Rule(Text(visible(f"{part.part} {part.path}{lines}"), "bold"), align="left")
        yield Text(f"{part.why} · {size}", "dim")
        if part.part != "file":
            yield Text(visible(part.text))
    yield Rule()
    if not question.settings.snippets:
        yield Text("no other files: the setting snippets is 0 (try --snippets N)", "dim")
    yield Text(f"the completion may have up to {question.request.max_lines} lines", "dim")
    if prompt is not None:
        yield Rule(Text(f"the model's prompt: {len(prompt)} tokens", "bold"), align="left")
        yield Text(visible("".join(prompt)))
