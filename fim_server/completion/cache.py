"""The type-through cache: while the user types what is suggested, no model is asked.

A suggestion stays valid while the text left of it grows by nothing but the suggestion's own
beginning, and the text right of it is unchanged. Deleting finds the earlier suggestion again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from fim_server.completion.gate import Judgement
from fim_server.completion.hole import Hole
from fim_server.completion.silence import Silence

DOCUMENTS = 32
SUGGESTIONS = 64
"""Kept for each document; the oldest is evicted."""


@dataclass(frozen=True, slots=True)
class _Suggestion:
    """Trimmed texts, best first, for the hole between `before` and `after`, or why there are none.

    `asked` is the number of alternatives that they were chosen from.
    """

    before: str
    after: str
    texts: tuple[str, ...]
    silence: Silence | None
    asked: int

    def for_hole(self, hole: Hole, alternatives: int) -> list[str] | None:
        """What is left to type of the texts at this hole; None if they do not fit it."""
        if self.after != hole.after or not hole.before.startswith(self.before):
            return None
        typed = hole.before[len(self.before) :]
        if not typed:
            return list(self.texts[:alternatives]) if self.asked >= alternatives else None
        if alternatives > 1:
            return None
        rests = [text[len(typed) :] for text in self.texts if text.startswith(typed)]
        return [rest for rest in rests if rest.strip()][:1] or None


class SuggestionCache:
    """The suggestions of the most recently used documents."""

    def __init__(self) -> None:
        self._documents: OrderedDict[str, OrderedDict[tuple[str, str], _Suggestion]] = OrderedDict()

    def remember(self, uri: str, hole: Hole, judgement: Judgement, asked: int) -> None:
        """Keep what the gate made of `asked` alternatives: texts, or the reason for the silence."""
        known = self._documents.setdefault(uri, OrderedDict())
        self._documents.move_to_end(uri)
        key = (hole.before, hole.after)
        known.pop(key, None)
        texts, silence = tuple(judgement.texts), judgement.silence
        known[key] = _Suggestion(hole.before, hole.after, texts, silence, asked)
        if len(known) > SUGGESTIONS:
            known.popitem(last=False)
        if len(self._documents) > DOCUMENTS:
            self._documents.popitem(last=False)

    def find(self, uri: str, hole: Hole, alternatives: int) -> Judgement | None:
        """The texts to show at this hole, or the reason for silence; None if neither is known.

        Of several suggestions that fit, the latest wins: its model saw the most of the text.
        """
        for suggestion in self._latest_first(uri, hole):
            texts = suggestion.for_hole(hole, alternatives)
            if texts is not None:
                return Judgement(texts, suggestion.silence)
        return None

    def forget(self, uri: str) -> None:
        """Drop the suggestions of a document."""
        self._documents.pop(uri, None)

    def _latest_first(self, uri: str, hole: Hole) -> Iterator[_Suggestion]:
        known = self._documents.get(uri, OrderedDict())
        if exact := known.get((hole.before, hole.after)):
            yield exact
        yield from sorted(known.values(), key=lambda suggestion: -len(suggestion.before))
