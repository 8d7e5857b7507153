"""Fitting edit priors: every text considered in many sessions is judged once, and the figures that
other priors would give are computed from that."""

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
class JudgedText:
    """One proposed text of a region.

    gain, doubt: those of the proposal. right: every line that it changes is wanted. found: the
    wanted changes that it makes. shown: whether a gate without a threshold lets it through.
    """

    gain: float
    doubt: float | None
    right: bool
    found: frozenset[LineChange]
    shown: bool

    @classmethod
    def of(
        cls, proposal: Proposal, changes: set[LineChange], wanted: set[LineChange]
    ) -> JudgedText:
        shown = Gate(-float("inf")).passes(proposal)
        found = frozenset(changes & wanted)
        return cls(proposal.gain, proposal.doubt, changes <= wanted, found, shown)

    def evidence(self, priors: EditPriors) -> float:
        """The log-odds that the text is right, in nats."""
        return self.gain + (priors.own if self.doubt is None else priors.draft - self.doubt)


Regions = Sequence[Sequence[JudgedText]]
"""The texts of each region of a session."""


@dataclass(frozen=True, slots=True)
class JudgedSessions:
    """Sessions whose texts were judged.

    sessions: the regions of each, and how many changes are wanted. finished, lone, at_rest: the
    regions of sessions in which nothing is wanted.
    """

    sessions: Sequence[tuple[Regions, int]]
    finished: Sequence[Regions]
    lone: Sequence[Regions]
    at_rest: Sequence[Regions]

    def figures(self, priors: EditPriors, min_gain: float) -> dict[str, Any]:
        """Precision, recall and unwanted proposals under these priors, in percent."""
        proposals = right = found = wanted = 0
        for regions, count in self.sessions:
            shown = _shown(regions, priors, min_gain)
            proposals += len(shown)
            right += sum(text.right for text in shown)
            found += len(frozenset[LineChange]().union(*(text.found for text in shown)))
            wanted += count
        spoke = {
            name: sum(bool(_shown(regions, priors, min_gain)) for regions in drawn)
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

    def curve(self, min_gain: float) -> list[dict[str, Any]]:
        """The figures of each pair of DRAFT_PRIORS and OWN_PRIORS."""
        grid = [EditPriors(draft, own) for draft in DRAFT_PRIORS for own in OWN_PRIORS]
        return [self.figures(priors, min_gain) for priors in grid]

    def separation(self, *, drafted: bool) -> float | None:
        """The area under the ROC curve of the gain: how often a right text gains more than a wrong
        one, of drafts or of what the model wrote. None without both right and wrong ones."""
        kept = [
            text
            for regions in (*(regions for regions, _ in self.sessions), *self.finished, *self.lone)
            for region in regions
            for text in region
            if text.shown and (text.doubt is not None) is drafted
        ]
        good = [text.gain for text in kept if text.right]
        bad = [text.gain for text in kept if not text.right]
        if not good or not bad:
            return None
        above = sum((a > b) + 0.5 * (a == b) for a in good for b in bad)
        return round(above / len(good) / len(bad), 3)


def best(
    curve: Sequence[dict[str, Any]], min_precision: float, max_unasked: float
) -> dict[str, Any] | None:
    """The figures with the most recall of those with enough precision and few unwanted proposals;
    of equals the most precise, then those with the lowest priors."""
    good = [
        figures
        for figures in curve
        if figures["precision"] >= min_precision
        and max(figures[name] for name in ("finished", "lone", "at_rest")) < max_unasked
    ]
    return max(
        good,
        key=lambda figures: (
            figures["recall"], figures["precision"], -figures["draft"], -figures["own"],
        ),
        default=None,
    )  # fmt: skip


def _shown(regions: Regions, priors: EditPriors, min_gain: float) -> list[JudgedText]:
    found = []
    for region in regions:
        top = max(region, key=lambda text: text.evidence(priors), default=None)
        if top is not None and top.shown and top.evidence(priors) >= min_gain:
            found.append(top)
    return found
