"""The next edit: regions that may follow from a person's edits, each revised by the model, and of
what it makes of them only what it believes much more than what stands there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from fim_model.requests import PastEdit, Rewrite, RewriteRequest
from lsprotocol import types as lsp

from fim_server.backends.base import Unfit
from fim_server.completion.hole import hole_at
from fim_server.documents.diff import Change, minimal_changes, one_change
from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.history import Hunk, Transition, past_edits
from fim_server.edits.regions import Problem, Region, regions
from fim_server.edits.rules.missing_imports import import_lines
from fim_server.syntax.languages import language_of

MOST_TRIES = 6
"""Regions that the model is asked about for one proposal: each costs it a few forwards."""

MOST_VAGUE = 2
"""Of them those for which nothing is expected: a small model seldom writes an edit by itself."""

MOST_EDITS = 3
"""Past edits that the model is shown, as many as it was trained with."""

ASKS = 4
"""How often a region is asked about when what a person waits for takes the model away."""

PREFIX_CHARS, SUFFIX_CHARS = 1200, 500
"""Around the region. What of it fits the model's window is the model's affair."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

Ask = Callable[[RewriteRequest], Awaitable[Rewrite | None]]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Lines `[first, first + len(old))` of a document, as it is in `snapshot`, become `new`.

    Lines have no line ends. `gain` is the model's: by how many nats it finds the new lines likelier
    than the old ones. `doubt` is by how many nats less than other drafts they were expected before
    it was asked, None for what it wrote by itself. `reason` says why the region was looked at,
    `rewrite` what it cost.
    """

    snapshot: Snapshot
    first: int
    old: tuple[str, ...]
    new: tuple[str, ...]
    score: float
    reason: str
    rewrite: Rewrite
    gain: float
    doubt: float | None = None

    @property
    def expected(self) -> float:
        """Nats that spoke for the new lines before the model was asked, below 0 against them."""
        rewrite = self.rewrite
        return rewrite.own_prior if self.doubt is None else rewrite.draft_prior - self.doubt

    @property
    def evidence(self) -> float:
        """Nats that speak for the new lines."""
        return self.gain + self.expected

    @property
    def uri(self) -> str:
        return self.snapshot.uri

    @property
    def end(self) -> int:
        return self.first + len(self.old)

    @property
    def transition(self) -> Transition:
        return Transition.of(self.uri, self.old, self.new)

    @property
    def change(self) -> Change:
        """As one replacement."""
        return one_change(self.snapshot, self.first, self.end, self.new)

    @property
    def text_edits(self) -> list[lsp.TextEdit]:
        """The least that must change, as the client counts."""
        changes = minimal_changes(self.snapshot, self.first, self.end, self.new)
        return [change.text_edit(self.snapshot) for change in changes]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a proposal depends on: a document, the recent hunks of all documents (oldest first), the
    line of the cursor, the client's diagnostics, the path that the model is told, and other
    documents from whose imports this one's may be known."""

    snapshot: Snapshot
    hunks: Sequence[Hunk]
    cursor_line: int
    problems: Sequence[Problem] = ()
    path: str = ""
    neighbours: Sequence[Sequence[str]] = ()

    def regions(self) -> list[Region]:
        """Where to look, the most promising first. Takes milliseconds in a large document."""
        language = language_of(self.snapshot.language, self.path)
        imports = (line for lines in self.neighbours for line in import_lines(lines))
        return regions(
            self.snapshot, self.hunks, language, self.cursor_line, self.problems, imports
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """What a proposal must be to be shown. least_gain: nats that must speak for it. refused:
    changes that the person does not want."""

    least_gain: float
    refused: Callable[[Proposal], bool] = lambda proposal: False

    def passes(self, proposal: Proposal) -> bool:
        """Whether to show it."""
        old, new = proposal.old, proposal.new
        if proposal.evidence < self.least_gain or _ink(old) == _ink(new):
            return False
        if _repeats_what_follows(proposal):
            return False
        return not self.refused(proposal)


async def proposals(
    scene: Scene, where: Sequence[Region], ask: Ask, gate: Gate, most_tries: int = MOST_TRIES
) -> AsyncIterator[Proposal]:
    """What passes the gate, region by region, as soon as the model has answered.

    Raises what `ask` raises. Closing the iterator stops the work.
    """
    edits = past_edits(scene.hunks, MOST_EDITS)
    for region in tried(where, most_tries):
        proposal = await revised(scene, region, edits, ask)
        if proposal is not None and gate.passes(proposal):
            yield proposal


def tried(where: Sequence[Region], most: int) -> list[Region]:
    """The regions that the model is asked about, at most so many."""
    vague = [region for region in where if not region.drafts][MOST_VAGUE:]
    return [region for region in where if region not in vague][:most]


async def revised(
    scene: Scene, region: Region, edits: tuple[PastEdit, ...], ask: Ask, *, speculative: bool = True
) -> Proposal | None:
    """What the model makes of a region; None if it leaves it alone or is not to be had."""
    found = await considered(scene, region, edits, ask, speculative=speculative)
    return max(found, key=lambda one: one.evidence, default=None)


async def considered(
    scene: Scene, region: Region, edits: tuple[PastEdit, ...], ask: Ask, *, speculative: bool = True
) -> list[Proposal]:
    """All that a region may become, judged: its drafts, and what the model writes by itself."""
    standing = tuple(map(without_end, scene.snapshot.lines[region.first : region.end]))
    if _LONE_SURROGATE.search("".join(standing)):
        return []  # half a character is nothing that a model could keep
    texts = tuple(draft.text for draft in region.drafts)
    request = request_for(
        scene, region.first, region.end, edits, speculative=speculative, drafts=texts
    )
    rewrite = await _patiently(ask, request)
    if rewrite is None:
        return []
    gains = zip(region.drafts, rewrite.draft_gains, strict=False)
    candidates = [
        (draft.text, draft.reason, gain, draft.doubt) for draft, gain in gains if gain is not None
    ]
    own = [] if rewrite.new in texts else [(rewrite.new, region.reason, rewrite.gain, None)]
    found = [
        Proposal(
            scene.snapshot,
            region.first,
            standing,
            _lines(text),
            region.score,
            reason,
            rewrite,
            gain,
            doubt,
        )
        for text, reason, gain, doubt in [*candidates, *own]
    ]
    return [one for one in found if one.new != standing]


async def _patiently(ask: Ask, request: RewriteRequest) -> Rewrite | None:
    for _ in range(ASKS):
        try:
            rewrite = await ask(request)
        except Unfit:
            return None
        if rewrite is not None:
            return rewrite
    return None


def request_for(
    scene: Scene,
    first: int,
    end: int,
    edits: tuple[PastEdit, ...],
    *,
    speculative: bool = True,
    drafts: tuple[str, ...] = (),
) -> RewriteRequest:
    """What the model is asked about lines `[first, end)`."""
    snapshot = scene.snapshot
    last = lsp.Position(end - 1, _FAR)
    return RewriteRequest(
        prefix=hole_at(snapshot, lsp.Position(first, 0), PREFIX_CHARS, 0).before,
        old="\n".join(map(without_end, snapshot.lines[first:end])),
        suffix=hole_at(snapshot, last, 0, SUFFIX_CHARS).after,
        edits=edits,
        path=scene.path,
        session=f"{snapshot.uri}#edits",
        speculative=speculative,
        drafts=drafts,
    )


_FAR = 2**31 - 1


def ranked(found: Sequence[Proposal], uri: str) -> list[Proposal]:
    """Those of the document at the cursor first, then the most promising and the surest."""
    return sorted(
        found,
        key=lambda one: (one.uri != uri, one.uri, -(one.score + min(one.evidence, 20) / 20)),
    )


def _lines(text: str) -> tuple[str, ...]:
    """Lines of the model; none at all where it leaves nothing of the region."""
    return tuple(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")) if text else ()


def _ink(lines: Sequence[str]) -> str:
    return "".join("".join(lines).split())


def _repeats_what_follows(proposal: Proposal) -> bool:
    """Whether lines are added that stand right below already."""
    added = len(proposal.new) - len(proposal.old)
    below = [without_end(line) for line in proposal.snapshot.lines[proposal.end :][:added]]
    return added > 0 and list(proposal.new[-added:]) == below
