"""Show a completion in a terminal: the code around the cursor with the ghost text in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fim_model.requests import Completion
from lsprotocol import types as lsp
from rich.syntax import Syntax
from rich.text import Text

from fim_server.commands.terminal import visible
from fim_server.completion.silence import Silence
from fim_server.documents.documents import Snapshot, without_end

if TYPE_CHECKING:
    from fim_model.decoding.core import Step

GHOST = "bold italic black on bright_green"
MASK = "░░"
LINES_AROUND = 6


def ghost_view(snapshot: Snapshot, cursor: lsp.Position, ghost: str) -> Text:
    """The lines around the cursor with `ghost` highlighted in place, or a cursor mark if empty."""
    return pieces_view(snapshot, cursor, [(ghost, GHOST)] if ghost else [("▏", "bright_green")])


def pieces_view(
    snapshot: Snapshot, cursor: lsp.Position, pieces: Sequence[tuple[str, str]]
) -> Text:
    """The lines around the cursor with pieces of text in place, each in its style."""
    first = max(0, cursor.line - LINES_AROUND)
    last = min(len(snapshot.lines), cursor.line + LINES_AROUND + 1)
    lines = [without_end(line) for line in snapshot.lines[first:last]]
    place = snapshot.place(cursor)
    before = "\n".join([*lines[: cursor.line - first], lines[cursor.line - first][: place.index]])
    after = "\n".join(
        [lines[cursor.line - first][place.index :], *lines[cursor.line - first + 1 :]]
    )
    before, after = visible(before), visible(after)
    pieces = [(visible(text), style) for text, style in pieces]
    code = Syntax("", _lexer(snapshot), theme="ansi_dark", background_color="default")
    view = code.highlight(before + "".join(text for text, _ in pieces) + after)
    view.rstrip()
    begin = len(before)
    for text, style in pieces:
        view.stylize(style, begin, begin + len(text))
        begin += len(text)
    numbered = Text()
    for number, line in enumerate(view.split("\n", allow_blank=True), first + 1):
        numbered.append(f"{number:>5} │ ", style="dim")
        numbered.append_text(line)
        numbered.append("\n")
    return numbered


def unfinished(pieces: Sequence[str | None]) -> str:
    """The text of a partly denoised hole; None, a masked token, becomes a shaded box."""
    return "".join(MASK if piece is None else piece for piece in pieces)


def step_line(step: Step) -> Text:
    """One line about a forward: kind, width, committed tokens."""
    return Text(
        f"{step.kind.value} of {step.width} positions, {len(step.committed)} committed", "dim"
    )


def figures(completion: Completion, *, silence: Silence | None) -> Text:
    """One line with the completion's cost, preceded by the silence reason if there is one."""
    stats = completion.stats
    silent = f"nothing to show: {silence.explained}" if silence else ""
    if stats is None:
        return Text(silent, style="dim")
    cost = (
        f"{stats.mode} · {stats.forwards} forwards · {stats.tokens} tokens · "
        f"{stats.tokens_per_forward:.2f} tokens per forward · {stats.prefill_tokens} prefilled, "
        f"{stats.reused_tokens} reused · {stats.ms:.0f} ms"
    )
    return Text(f"{silent} · {cost}" if silent else cost, style="dim")


def _lexer(snapshot: Snapshot) -> str:
    return Syntax.guess_lexer(snapshot.uri, None)
