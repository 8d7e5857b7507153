"""Proposals that are not made again: those that the user rejected, in the same place.

Clients of Copilot's protocol do not report rejections. For them, a proposal that was shown twice
while the user edited something else counts as rejected.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from fim_server.documents.documents import without_end
from fim_server.edits.next_edit import Proposal

MAX_IGNORED = 2
"""Times that a proposal is shown and ignored before it counts as rejected."""

MAX_REMEMBERED = 500


@dataclass(frozen=True, slots=True)
class _Key:
    """A proposal by its text and its neighbouring lines, so that edits above do not change it."""

    uri: str
    above: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    below: str

    @classmethod
    def of(cls, proposal: Proposal) -> _Key:
        lines = proposal.snapshot.lines
        above = without_end(lines[proposal.first - 1]) if proposal.first else ""
        below = without_end(lines[proposal.end]) if proposal.end < len(lines) else ""
        return cls(proposal.uri, above, proposal.old, proposal.new, below)


class Rejections:
    """The latest MAX_REMEMBERED rejections."""

    def __init__(self) -> None:
        self._rejected: OrderedDict[_Key, None] = OrderedDict()
        self._times_ignored: Counter[_Key] = Counter()

    def reject(self, proposal: Proposal) -> None:
        self._rejected[_Key.of(proposal)] = None
        if len(self._rejected) > MAX_REMEMBERED:
            self._rejected.popitem(last=False)

    def ignored(self, proposal: Proposal) -> None:
        """Count that the proposal was shown and the user edited something else."""
        key = _Key.of(proposal)
        self._times_ignored[key] += 1
        if self._times_ignored[key] >= MAX_IGNORED:
            self.reject(proposal)
        if len(self._times_ignored) > MAX_REMEMBERED:
            self._times_ignored.clear()

    def was_rejected(self, proposal: Proposal) -> bool:
        return _Key.of(proposal) in self._rejected
