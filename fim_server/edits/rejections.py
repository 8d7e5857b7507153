"""What a person did not want: a proposal that was rejected is not made again in the same place.

Clients of Copilot's protocol do not tell of rejections. There, a proposal that was shown twice
while the person went on with something else counts as rejected.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from fim_server.documents.documents import without_end
from fim_server.edits.next_edit import Proposal

STRIKES = 2
MOST_PLACES = 500


@dataclass(frozen=True, slots=True)
class _Place:
    """A proposal by its text and its neighbours: the lines above may have become more or fewer."""

    uri: str
    above: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    below: str

    @classmethod
    def of(cls, proposal: Proposal) -> _Place:
        lines = proposal.snapshot.lines
        above = without_end(lines[proposal.first - 1]) if proposal.first else ""
        below = without_end(lines[proposal.end]) if proposal.end < len(lines) else ""
        return cls(proposal.uri, above, proposal.old, proposal.new, below)


class Rejections:
    """Remembers a limited number of places, the latest."""

    def __init__(self) -> None:
        self._rejected: OrderedDict[_Place, None] = OrderedDict()
        self._strikes: Counter[_Place] = Counter()

    def reject(self, proposal: Proposal) -> None:
        self._rejected[_Place.of(proposal)] = None
        if len(self._rejected) > MOST_PLACES:
            self._rejected.popitem(last=False)

    def ignored(self, proposal: Proposal) -> None:
        """It was shown, and the person did something else."""
        place = _Place.of(proposal)
        self._strikes[place] += 1
        if self._strikes[place] >= STRIKES:
            self.reject(proposal)
        if len(self._strikes) > MOST_PLACES:
            self._strikes.clear()

    def was_rejected(self, proposal: Proposal) -> bool:
        return _Place.of(proposal) in self._rejected
