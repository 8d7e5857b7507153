"""The view of `complete --watch`: what each forward left, played slowly enough to follow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fim_model.requests import Completion, TraceStep
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fim_server.commands.render import GHOST, MASK, figures, ghost_view, pieces_view

if TYPE_CHECKING:
    from fim_server.commands.request_at import Question
    from fim_server.completion.gate import Judgement

FRAME_SECONDS = 0.25
"""Duration of a frame; forwards alone are too fast to follow."""

SURE = 0.5
"""Confidence from which a token that was just committed is green, not yellow."""

NEW_SURE = "bold black on bright_green"
NEW_UNSURE = "bold black on bright_yellow"
COMMITTED = "black on green"
MASKED = "bright_black on grey23"
REMASKED = "red on grey23"
LEGEND = (
    (NEW_SURE, "new, sure"),
    (NEW_UNSURE, "new, unsure"),
    (COMMITTED, "committed"),
    (MASKED, "masked"),
)


def watch(question: Question, completion: Completion, judgement: Judgement) -> None:
    """Play the forwards of a completion, and end with what is shown of it."""
    console = Console(highlight=False)
    snapshot, cursor = question.snapshot, question.hole.position
    text = judgement.texts[0] if judgement.texts else ""
    final = Group(
        ghost_view(snapshot, cursor, text),
        figures(completion, silence=judgement.silence),
        summary(completion, judgement),
    )
    if not console.is_terminal:
        console.print(final)
        return
    with Live(console=console, auto_refresh=False) as live:
        for number, (step, pieces) in enumerate(frames(completion.trace), 1):
            view = pieces_view(snapshot, cursor, pieces)
            progress = step_line(step, number, len(completion.trace))
            live.update(Group(view, progress, legend()), refresh=True)
            time.sleep(FRAME_SECONDS)
        live.update(final, refresh=True)


def frames(trace: Sequence[TraceStep]) -> Iterator[tuple[TraceStep, list[tuple[str, str]]]]:
    """Each forward with its hole as styled pieces: what it committed stands out."""
    for step in trace:
        confidences = dict(zip(step.committed, step.confidences, strict=False))
        pieces = []
        for place, text in enumerate(step.hole):
            if text is None:
                pieces.append((MASK, REMASKED if place in step.remasked else MASKED))
            elif place in confidences:
                pieces.append((text, NEW_SURE if confidences[place] >= SURE else NEW_UNSURE))
            else:
                pieces.append((text, COMMITTED))
        yield step, pieces


def step_line(step: TraceStep, number: int, total: int) -> Text:
    """One line about a forward: its number, kind, width and committed tokens."""
    done = Text("━" * number, "bright_green")
    done.append("━" * (total - number), "grey23")
    return done.append(
        f"  forward {number} of {total}: {step.kind.lower()} of {step.width} positions, "
        f"{len(step.committed)} committed",
        "default",
    )


def legend() -> Text:
    text = Text()
    for style, name in LEGEND:
        text.append(f" {name} ", style).append("  ")
    return text


def summary(completion: Completion, judgement: Judgement) -> Text:
    """What the forwards were worth, or why none was played."""
    stats = completion.stats
    if judgement.items and judgement.items[0].finish == "copied":
        return Text("copied: the same text stands elsewhere, and the model finds it likely")
    if stats is None or not completion.trace:
        return Text("this backend does not report its forwards")
    saved = stats.tokens - stats.forwards
    if saved <= 0:
        return Text(f"{stats.tokens} tokens in {stats.forwards} forwards")
    return Text(
        f"{stats.tokens} tokens in {stats.forwards} forwards; from left to right, one token each, "
        f"it would have been {saved} more",
        GHOST,
    )
