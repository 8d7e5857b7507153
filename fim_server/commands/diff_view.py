"""Proposals as a unified diff in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fim_server.commands.terminal import visible
from fim_server.documents.alignment import opcodes
from fim_server.documents.documents import without_end
from fim_server.edits.next_edit import Proposal

CONTEXT_LINES = 2


def print_unified(console: Any, proposals: Sequence[Proposal], path: str) -> None:
    """Print the diff of proposals for one document, from the top down."""
    from rich.text import Text

    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in unified(proposals, path):
        style = "bold" if line.startswith(("+++", "---")) else styles.get(line[0], "")
        console.print(Text(visible(line), style))


def unified(proposals: Sequence[Proposal], path: str) -> Iterator[str]:
    """The lines of the diff; proposals whose context meets are one hunk of it."""
    yield f"--- {path}"
    yield f"+++ {path}"
    grown = 0
    for group in _groups(proposals):
        lines = group[0].snapshot.lines
        count = len(lines) - (not lines[-1])
        top = max(group[0].first - CONTEXT_LINES, 0)
        bottom = max(min(group[-1].end + CONTEXT_LINES, count), top)
        old = [without_end(line) for line in lines[top:bottom]]
        new = list(old)
        for proposal in reversed(group):
            new[proposal.first - top : proposal.end - top] = proposal.new
        yield f"@@ -{_span(top, len(old))} +{_span(top + grown, len(new))} @@"
        for tag, low, high, from_, to in opcodes(old, new):
            if tag == "equal":
                yield from (f" {line}" for line in old[low:high])
            else:
                yield from (f"-{line}" for line in old[low:high])
                yield from (f"+{line}" for line in new[from_:to])
        grown += len(new) - len(old)


def _groups(proposals: Sequence[Proposal]) -> Iterator[list[Proposal]]:
    group: list[Proposal] = []
    for proposal in proposals:
        if group and proposal.first - group[-1].end > 2 * CONTEXT_LINES:
            yield group
            group = []
        group.append(proposal)
    if group:
        yield group


def _span(first: int, count: int) -> str:
    """Lines of a diff, which count from 1; an empty range names the line before it."""
    return f"{first + 1 if count else first},{count}"
