"""Which candidates are shown: as many as fit, and the same ones while a person types.

The snippets stand at the start of the prompt: one that changes costs every cached token behind it.
So the choice is made again only when the cursor's line or another file changes, a snippet that is
shown already is preferred to a slightly better one, and the order is that of their places.
"""

from __future__ import annotations

from collections.abc import Sequence

from fim_server.context.snippets import Candidate

LOYALTY = 1.5
"""How many times better a new candidate must be to displace one that is shown."""


def choose(
    candidates: Sequence[Candidate], shown: Sequence[Candidate], most: int, most_chars: int
) -> list[Candidate]:
    """At most `most` candidates with at most `most_chars` characters, none overlapping another."""
    places = {(one.path, one.first, one.text) for one in shown}

    def rank(one: Candidate) -> float:
        return -one.score * (LOYALTY if (one.path, one.first, one.text) in places else 1.0)

    chosen: list[Candidate] = []
    room = most_chars
    for one in sorted(candidates, key=rank):
        if len(chosen) == most:
            break
        if len(one.text) <= room and not any(one.overlaps(other) for other in chosen):
            chosen.append(one)
            room -= len(one.text)
    return sorted(chosen, key=lambda one: (one.path, one.first))
