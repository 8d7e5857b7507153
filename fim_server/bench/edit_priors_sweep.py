"""What the priors of edits are fitted with: all that was considered in many sessions, judged once,
and the figures that other priors would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fim_model.calibration.edit_priors import EditPriors
from fim_training.evaluation.edit_sessions import LineChange
from fim_training.evaluation.figures import percentage

from fim_server.edits.next_edit import Gate, Proposal

DRAFT_PRIORS = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 22.0, 26.0, 30.0)
OWN_PRIORS = (0.0, -3.0, -6.0, -10.0, -15.0, -25.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One text for a region. right: all that it changes had to change so; found: how much that is.

    doubt: as of a proposal. shown: whether a gate lets it through as far as that does not depend on
    its evidence.
    """

    gain: float
    doubt: float | None
    right: bool
    found: frozenset[LineChange]
    shown: bool

    @classmethod
    def of(cls, proposal: Proposal, changes: set[LineChange], wanted: set[LineChange]) -> Candidate:
        shown = Gate(-float("inf")).passes(proposal)
        found = frozenset(changes & wanted)
        return cls(proposal.gain, proposal.doubt, changes <= wanted, found, shown)

    def evidence(self, priors: EditPriors) -> float:
        """Nats that speak for it."""
        return self.gain + (priors.own if self.doubt is None else priors.draft - self.doubt)


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

    def figures(self, priors: EditPriors, least_gain: float) -> dict[str, Any]:
        """Percentages that these priors give."""
        proposals = right = found = wanted = 0
        for regions, count in self.sessions:
            shown = _shown(regions, priors, least_gain)
            proposals += len(shown)
            right += sum(one.right for one in shown)
            found += len(frozenset[LineChange]().union(*(one.found for one in shown)))
            wanted += count
        spoke = {
            name: sum(bool(_shown(one, priors, least_gain)) for one in drawn)
            for name, drawn in self._silent
        }
        return {
            "draft": priors.draft,
            "own": priors.own,
            "precision": percentage(right, proposals),
            "recall": percentage(found, wanted),
            **{name: percentage(spoke[name], len(drawn)) for name, drawn in self._silent},
        }

    @property
    def _silent(self) -> Sequence[tuple[str, Sequence[Regions]]]:
        return ("finished", self.finished), ("lone", self.lone), ("at_rest", self.at_rest)

    def curve(self, least_gain: float) -> list[dict[str, Any]]:
        """The figures of many priors."""
        priors = [EditPriors(draft, own) for draft in DRAFT_PRIORS for own in OWN_PRIORS]
        return [self.figures(one, least_gain) for one in priors]

    def separation(self, *, drafted: bool) -> float | None:
        """How often the gain of a right candidate is above that of a wrong one (area under the ROC
        curve), of drafts or of what the model wrote; None where there are not both."""
        kept = [
            one
            for regions in (*(regions for regions, _ in self.sessions), *self.finished, *self.lone)
            for region in regions
            for one in region
            if one.shown and (one.doubt is not None) is drafted
        ]
        good = [one.gain for one in kept if one.right]
        bad = [one.gain for one in kept if not one.right]
        if not good or not bad:
            return None
        above = sum((a > b) + 0.5 * (a == b) for a in good for b in bad)
        return round(above / len(good) / len(bad), 3)


def best(
    curve: Sequence[dict[str, Any]], least_precision: float, most_unasked: float
) -> dict[str, Any] | None:
    """The priors with the most recall of those that are precise enough, and quiet where nothing is
    to be done; of equals the most precise, then the lowest."""
    good = [
        one
        for one in curve
        if one["precision"] >= least_precision
        and max(one[name] for name in ("finished", "lone", "at_rest")) < most_unasked
    ]
    order = ("recall", "precision")
    return max(
        good,
        key=lambda one: (*(one[name] for name in order), -one["draft"], -one["own"]),
        default=None,
    )


def _shown(regions: Regions, priors: EditPriors, least_gain: float) -> list[Candidate]:
    found = []
    for region in regions:
        top = max(region, key=lambda one: one.evidence(priors), default=None)
        if top is not None and top.shown and top.evidence(priors) >= least_gain:
            found.append(top)
    return found
