"""Suggestions that were made already: what the user types through needs no model.

A suggestion stays good as long as the text on its left only grew by its own beginning and the text
on its right is the same. Going back, by a deletion, finds the earlier suggestion again.
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
"""Kept for each document; the oldest makes room."""


@dataclass(frozen=True, slots=True)
class _Suggestion:
    """Trimmed texts, best first, for the hole between `before` and `after`, or why none."""

    before: str
    after: str
    texts: tuple[str, ...]
    silence: Silence | None
    asked: int

    def for_hole(self, hole: Hole, alternatives: int) -> list[str] | None:
        """What is left of the texts at this hole; None if they are no answer to it."""
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
    """The suggestions of all open documents. Looking up a hole in it never runs anything."""

    def __init__(self) -> None:
        self._documents: OrderedDict[str, OrderedDict[tuple[str, str], _Suggestion]] = OrderedDict()

    def remember(self, uri: str, hole: Hole, judgement: Judgement, asked: int) -> None:
        """Keep what was made of `asked` alternatives: texts, or the reason for the silence."""
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
        """The texts to show at this hole, or why there is nothing to say; None if that is unknown.

        Of several suggestions the one with the least typed since counts: it has seen the most.
        """
        for suggestion in self._newest_first(uri, hole):
            texts = suggestion.for_hole(hole, alternatives)
            if texts is not None:
                return Judgement(texts, suggestion.silence)
        return None

    def forget(self, uri: str) -> None:
        self._documents.pop(uri, None)

    def _newest_first(self, uri: str, hole: Hole) -> Iterator[_Suggestion]:
        known = self._documents.get(uri, OrderedDict())
        if exact := known.get((hole.before, hole.after)):
            yield exact
        yield from sorted(known.values(), key=lambda one: -len(one.before))
