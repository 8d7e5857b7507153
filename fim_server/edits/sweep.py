"""What the gate is calibrated with: all that was considered in many sessions, judged once, and the
figures that each gate would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fim_model.evaluation.edit_sessions import LineChange
from fim_model.evaluation.metrics import percentage

from fim_server.edits.next_edit import Gate, Proposal
from fim_server.edits.suggestions import EXPECTED

EXPECTATIONS = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 20.0, 30.0)
LEAST_GAINS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One text for a region. right: all that it changes had to change so; found: how much that is.

    shown: whether a gate lets it through as far as that does not depend on its evidence.
    """

    gain: float
    expected: float
    right: bool
    found: frozenset[LineChange]
    shown: bool

    @classmethod
    def of(cls, proposal: Proposal, changes: set[LineChange], wanted: set[LineChange]) -> Candidate:
        shown = Gate(-float("inf")).passes(proposal)
        found = frozenset(changes & wanted)
        return cls(proposal.gain, proposal.expected, changes <= wanted, found, shown)

    def evidence(self, expected: float) -> float:
        """Nats, if drafts were expected by so many."""
        return self.gain + (self.expected + expected - EXPECTED if self.expected else 0.0)


Regions = Sequence[Sequence[Candidate]]
"""The candidates of each region that was asked about."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Sessions: the regions of each, and how many lines had to change. finished, lone and at_rest
    are those where nothing was to be done."""

    sessions: Sequence[tuple[Regions, int]]
    finished: Sequence[Regions]
    lone: Sequence[Regions]
    at_rest: Sequence[Regions]

    def figures(self, expected: float, least_gain: float) -> dict[str, Any]:
        """Percentages that this gate gives."""
        proposals = right = found = wanted = 0
        for regions, count in self.sessions:
            shown = _shown(regions, expected, least_gain)
            proposals += len(shown)
            right += sum(one.right for one in shown)
            found += len(frozenset[LineChange]().union(*(one.found for one in shown)))
            wanted += count
        spoke = {
            name: sum(bool(_shown(one, expected, least_gain)) for one in drawn)
            for name, drawn in self._silent
        }
        return {
            "expected": expected,
            "min_gain": least_gain,
            "precision": percentage(right, proposals),
            "recall": percentage(found, wanted),
            **{name: percentage(spoke[name], len(drawn)) for name, drawn in self._silent},
        }

    @property
    def _silent(self) -> Sequence[tuple[str, Sequence[Regions]]]:
        return ("finished", self.finished), ("lone", self.lone), ("at_rest", self.at_rest)

    def curve(self) -> list[dict[str, Any]]:
        """The figures of many gates."""
        return [self.figures(one, gain) for one in EXPECTATIONS for gain in LEAST_GAINS]

    def separation(self, *, drafted: bool) -> float | None:
        """How often the gain of a right candidate is above that of a wrong one (area under the ROC
        curve), of drafts or of what the model wrote; None where there are not both."""
        kept = [
            one
            for regions in (*(regions for regions, _ in self.sessions), *self.finished, *self.lone)
            for region in regions
            for one in region
            if one.shown and bool(one.expected) is drafted
        ]
        good = [one.gain for one in kept if one.right]
        bad = [one.gain for one in kept if not one.right]
        if not good or not bad:
            return None
        above = sum((a > b) + 0.5 * (a == b) for a in good for b in bad)
        return round(above / len(good) / len(bad), 3)


def best(
    curve: Sequence[dict[str, Any]], least_precision: float, most_at_rest: float
) -> dict[str, Any] | None:
    """The gate with the most recall of those that are precise and quiet enough; of equals the most
    precise, then the strictest."""
    good = [
        one for one in curve if one["precision"] > least_precision and one["at_rest"] < most_at_rest
    ]
    order = ("recall", "precision", "min_gain")
    return max(good, key=lambda one: tuple(one[name] for name in order), default=None)


def _shown(regions: Regions, expected: float, least_gain: float) -> list[Candidate]:
    found = []
    for region in regions:
        top = max(region, key=lambda one: one.evidence(expected), default=None)
        if top is not None and top.shown and top.evidence(expected) >= least_gain:
            found.append(top)
    return found
