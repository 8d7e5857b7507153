"""Which snippets are shown: the best that fit, and the same ones while the user types.

Snippets stand at the start of the prompt, so one that changes invalidates every cached token after
it. Therefore they are chosen anew only when the cursor's line or another file changes, a snippet
that is shown already is preferred to a slightly better one, and they are ordered by path and line.
"""

from __future__ import annotations

from collections.abc import Sequence

from fim_server.context.snippets import ScoredSnippet

MIN_DISPLACING_RATIO = 1.5
"""Ratio of scores from which a new snippet displaces one that is shown."""


def choose(
    found: Sequence[ScoredSnippet],
    shown: Sequence[ScoredSnippet],
    max_snippets: int,
    max_chars: int,
) -> list[ScoredSnippet]:
    """At most `max_snippets` snippets, together at most `max_chars` characters, none overlapping
    another."""
    already = {_identity(snippet) for snippet in shown}

    def rank(snippet: ScoredSnippet) -> float:
        return -snippet.score * (MIN_DISPLACING_RATIO if _identity(snippet) in already else 1.0)

    chosen: list[ScoredSnippet] = []
    room = max_chars
    for snippet in sorted(found, key=rank):
        if len(chosen) == max_snippets:
            break
        if len(snippet.text) <= room and not any(map(snippet.overlaps, chosen)):
            chosen.append(snippet)
            room -= len(snippet.text)
    return sorted(chosen, key=lambda snippet: (snippet.path, snippet.first))


def _identity(snippet: ScoredSnippet) -> tuple[str, int, str]:
    return snippet.path, snippet.first, snippet.text
