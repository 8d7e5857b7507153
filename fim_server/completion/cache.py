"""The type-through cache: while the user types what is suggested, no model is asked.

A suggestion stays valid while the text left of it grows by nothing but the suggestion's own
beginning, and the text right of it is unchanged but for brackets and quotes that the editor closes
or that are typed over. Deleting finds the earlier suggestion again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fim_server.completion.gate import Judgement
from fim_server.completion.hole import Hole
from fim_server.completion.right_side import Fit, closed_by_editor, fitted
from fim_server.completion.silence import Silence

DOCUMENTS = 32
SUGGESTIONS = 64
"""Kept for each document; the oldest is evicted."""


@dataclass(frozen=True, slots=True)
class _Suggestion:
    """Fitted texts, best first, for the hole between `before` and `after`, or why there are none.

    `asked` is the number of alternatives that they were chosen from, `about` what the silence is
    about.
    """

    before: str
    after: str
    fits: tuple[Fit, ...]
    silence: Silence | None
    asked: int
    about: str = ""

    def for_hole(self, hole: Hole, alternatives: int, *, replaces: bool) -> list[Fit] | None:
        """What is left to type of the texts at this hole; None if they do not fit it."""
        if not hole.before.startswith(self.before):
            return None
        typed = hole.before[len(self.before) :]
        if not typed:
            known = self.after == hole.after and self.asked >= alternatives
            return list(self.fits[:alternatives]) if known else None
        if alternatives > 1:
            return None
        rests = (self._rest(fit, typed, hole, replaces=replaces) for fit in self.fits)
        return [rest for rest in rests if rest is not None and rest.text.strip()][:1] or None

    def _rest(self, fit: Fit, typed: str, hole: Hole, *, replaces: bool) -> Fit | None:
        whole = fit.whole[len(typed) :] if fit.whole.startswith(typed) else ""
        if self.after == hole.after:
            if not fit.text.startswith(typed):
                return None
            return replace(fit, text=fit.text[len(typed) :], whole=whole)
        if not whole or not closed_by_editor(typed, self.after, hole.after, hole.language):
            return None
        return fitted(whole, hole, replaces=replaces)


class SuggestionCache:
    """The suggestions of the most recently used documents."""

    def __init__(self, *, replaces: bool = False) -> None:
        """`replaces`: whether the client shows items that replace the rest of the line."""
        self._replaces = replaces
        self._documents: OrderedDict[str, OrderedDict[tuple[str, str], _Suggestion]] = OrderedDict()

    def remember(self, uri: str, hole: Hole, judgement: Judgement, asked: int) -> None:
        """Keep what the gate made of `asked` alternatives: texts, or the reason for the silence."""
        known = self._documents.setdefault(uri, OrderedDict())
        self._documents.move_to_end(uri)
        key = (hole.before, hole.after)
        known.pop(key, None)
        fits, silence = tuple(judgement.fits), judgement.silence
        known[key] = _Suggestion(hole.before, hole.after, fits, silence, asked, judgement.about)
        if len(known) > SUGGESTIONS:
            known.popitem(last=False)
        if len(self._documents) > DOCUMENTS:
            self._documents.popitem(last=False)

    def find(self, uri: str, hole: Hole, alternatives: int) -> Judgement | None:
        """The texts to show at this hole, or the reason for silence; None if neither is known.

        Of several suggestions that fit, the latest wins: its model saw the most of the text.
        """
        for suggestion in self._latest_first(uri, hole):
            fits = suggestion.for_hole(hole, alternatives, replaces=self._replaces)
            if fits is not None:
                texts = [fit.text for fit in fits]
                return Judgement(texts, suggestion.silence, fits=fits, about=suggestion.about)
        return None

    def forget(self, uri: str) -> None:
        """Drop the suggestions of a document."""
        self._documents.pop(uri, None)

    def _latest_first(self, uri: str, hole: Hole) -> Iterator[_Suggestion]:
        known = self._documents.get(uri, OrderedDict())
        if exact := known.get((hole.before, hole.after)):
            yield exact
        yield from sorted(known.values(), key=lambda suggestion: -len(suggestion.before))
