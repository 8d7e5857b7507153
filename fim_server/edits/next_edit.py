"""The next edit: regions that may follow from recent edits, judged by the model, of which only
what has enough evidence is proposed."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fim_model.requests import PastEdit, Rewrite, RewriteRequest
from lsprotocol import types as lsp

from fim_server.backends.base import Backend, BackendError, Unfit, Unsupported
from fim_server.completion.hole import hole_at
from fim_server.documents.diff import Change, block_change, minimal_changes
from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.history import Hunk, Transition, past_edits
from fim_server.edits.regions import RECENT_HUNKS, Problem, Region, regions
from fim_server.edits.rules.import_lines import import_lines
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.unproven_prose import is_unproven_prose
from fim_server.syntax.languages import language_of

logger = logging.getLogger(__name__)

MAX_TRIES = 6
"""Regions that the model judges for one proposal; each costs a few forwards."""

MAX_EDITS = 3
"""Past edits in the model's prompt, as many as in its training."""

MAX_ASKS = 4
"""Attempts for one region, each preempted by a completion."""

PREFIX_CHARS, SUFFIX_CHARS = 1200, 500
"""Text sent from around the region; the backend cuts it to the model's window."""

MOST_GAIN = 30.0
"""Nats; no more is expected of what the model writes itself. A checkpoint whose prior for such
texts is lower by that much than the gate has them kept silent."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_END_OF_LINE = 2**31 - 1

Ask = Callable[[RewriteRequest], Awaitable[Rewrite | None]]
"""Asks the model for a rewrite; None if a completion took its place."""

Compute = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Computes what may take long, where it can be stopped."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Lines `[first, first + len(old))` of a document, as it is in `snapshot`, become `new`.

    Lines have no line ends. gain: log-likelihood of the new lines less that of the old ones, in
    nats, by the model. odds: the log-odds of a rule's draft before the model judged it; None for
    text that the model wrote itself. rule: the rule, and its kind; "model" for such text. reason:
    why the region may change. rewrite: the model's answer with its cost.
    """

    snapshot: Snapshot
    first: int
    old: tuple[str, ...]
    new: tuple[str, ...]
    score: float
    reason: str
    rewrite: Rewrite
    gain: float
    odds: float | None = None
    rule: str = "model"

    @property
    def expected(self) -> float:
        """The prior log-odds of the new lines, in nats."""
        return self.rewrite.own_prior if self.odds is None else self.odds

    @property
    def evidence(self) -> float:
        """The log-odds that the new lines are right, in nats."""
        weight = 1.0 if self.odds is None else self.rewrite.draft_weight
        return self.expected + weight * self.gain

    @property
    def is_refilled(self) -> bool:
        """Whether the model made the new lines by re-masking and refilling the old ones, without
        seeing the user's edits."""
        return self.odds is None and self.rewrite.way == "refill"

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
    def block(self) -> Change:
        """The change as one replacement, for clients that show only one: of whole lines, if it is
        made of several hunks."""
        return block_change(self.snapshot, self.first, self.end, self.new)

    @property
    def changes(self) -> list[Change]:
        """The hunks: minimal changes from the top down."""
        return minimal_changes(self.snapshot, self.first, self.end, self.new)

    @property
    def text_edits(self) -> list[lsp.TextEdit]:
        """The hunks in the client's positions."""
        return [change.text_edit(self.snapshot) for change in self.changes]


@dataclass(frozen=True, slots=True)
class EditContext:
    """What next edits in a document depend on.

    hunks: the recent edits of all documents, oldest first. problems: the client's diagnostics.
    path: the document's name in the model's prompt. neighbours: the lines of other open documents,
    of which the imports are read. adapter: the name of what was learned from the workspace.
    """

    snapshot: Snapshot
    hunks: Sequence[Hunk]
    cursor_line: int
    problems: Sequence[Problem] = ()
    path: str = ""
    neighbours: Sequence[Sequence[str]] = ()
    adapter: str = ""

    def regions(self) -> list[Region]:
        """The regions that may follow from the hunks, the likeliest first. Takes milliseconds in a
        large document."""
        page = self.page()
        return [] if page is None else regions(page, self.problems)

    def is_unproven_prose(self, proposal: Proposal) -> bool:
        """Whether a proposal for the document replaces words of prose that the user has not
        replaced twice. Takes long after large hunks."""
        first, old, new = proposal.first, proposal.old, proposal.new
        return is_unproven_prose(self.snapshot, first, old, new, self.hunks, self.path)

    def page(self) -> Page | None:
        """What the rules read; None without hunks, from which nothing follows."""
        if not self.hunks:
            return None
        language = language_of(self.snapshot.language, self.path)
        imports = (line for lines in self.neighbours for line in import_lines(lines))
        recent = self.hunks[-RECENT_HUNKS:]
        return Page(self.snapshot, self.cursor_line, language, recent, imports)


@dataclass(frozen=True, slots=True)
class Gate:
    """The decision to show a proposal. min_gain: minimum evidence, in nats. refused: whether the
    user has undone or rejected a proposal."""

    min_gain: float
    refused: Callable[[Proposal], bool] = lambda proposal: False

    def passes(self, proposal: Proposal) -> bool:
        """Whether to show a proposal."""
        return self.objection(proposal) is None

    def heeds(self, rewrite: Rewrite) -> bool:
        """Whether the judgement of the model that answered so can change what is shown: by its
        checkpoint's priors the gains of drafts count, or what it writes itself may pass."""
        writes = rewrite.way != "refill" and rewrite.own_prior + MOST_GAIN >= self.min_gain
        return rewrite.draft_weight != 0 or writes

    def objection(self, proposal: Proposal) -> str | None:
        """Why a proposal is not shown, in plain words; None if it is."""
        if proposal.evidence < self.min_gain:
            return (
                f"its evidence is {proposal.evidence:.1f} nats, and minEditGain asks for "
                f"{self.min_gain:g}"
            )
        if _without_spaces(proposal.old) == _without_spaces(proposal.new):
            return "it changes only white space"
        if _repeats_what_follows(proposal):
            return "it repeats the lines below it"
        return "you have undone or rejected it" if self.refused(proposal) else None


async def _at_once(work: Callable[[], bool]) -> bool:
    return work()


async def proposals(
    context: EditContext,
    where: Sequence[Region],
    ask: Ask,
    gate: Gate,
    max_tries: int = MAX_TRIES,
    compute: Compute = _at_once,
) -> AsyncIterator[Proposal]:
    """The best proposal of each of the first `max_tries` regions, where it passes the gate and is
    no unproven prose, as soon as the model has answered.

    Raises what `ask` and `compute` raise. Closing the iterator stops the work.
    """
    edits = past_edits(context.hunks, MAX_EDITS)
    for region in where[:max_tries]:
        proposal = best_of(await considered(context, region, edits, ask))
        if proposal is None or not gate.passes(proposal):
            continue
        if not await compute(partial(context.is_unproven_prose, proposal)):
            yield proposal


async def considered(
    context: EditContext, region: Region, edits: tuple[PastEdit, ...], ask: Ask
) -> list[Proposal]:
    """The proposals for a region among which the next edit is chosen. Refilled text is none of
    them: it follows from no edit."""
    found = await rewritten(context, region, edits, ask)
    return [proposal for proposal in found if not proposal.is_refilled]


async def rewritten(
    context: EditContext,
    region: Region,
    edits: tuple[PastEdit, ...],
    ask: Ask,
    *,
    speculative: bool = True,
) -> list[Proposal]:
    """The drafts of a region, and the text that the model wrote itself, with the model's gains;
    unchanged text is left out. Drafts that the model cannot read gain nothing."""
    standing = tuple(map(without_end, context.snapshot.lines[region.first : region.end]))
    if _LONE_SURROGATE.search("".join(standing)):
        return []  # it has no UTF-8, so no tokens
    texts = tuple(draft.text for draft in region.drafts)
    request = request_for(
        context, region.first, region.end, edits, speculative=speculative, drafts=texts
    )
    rewrite = await _ask_repeatedly(ask, request)
    if rewrite is None:
        return []
    judged: list[tuple[str, str, float, float | None, str]] = [
        (draft.text, draft.reason, gain or 0.0, draft.odds, draft.rule)
        for draft, gain in zip(region.drafts, rewrite.draft_gains, strict=False)
    ]
    if rewrite.new not in texts:
        judged.append((rewrite.new, region.reason, rewrite.gain, None, "model"))
    found = [
        Proposal(
            context.snapshot,
            region.first,
            standing,
            _lines(text),
            region.score,
            reason,
            rewrite,
            gain,
            odds,
            rule,
        )
        for text, reason, gain, odds, rule in judged
    ]
    return [proposal for proposal in found if proposal.new != standing]


def best_of(found: Sequence[Proposal]) -> Proposal | None:
    """The proposal with the most evidence."""
    return max(found, key=lambda proposal: proposal.evidence, default=None)


def unjudged(request: RewriteRequest) -> Rewrite:
    """The answer of no model: nothing speaks for or against a draft."""
    unknown = (None,) * len(request.drafts)
    return Rewrite(request.old, 0.0, 1.0, "unread", 0, 0, 0, 0.0, unknown)


async def _ask_repeatedly(ask: Ask, request: RewriteRequest) -> Rewrite | None:
    for _ in range(MAX_ASKS):
        try:
            rewrite = await ask(request)
        except Unfit:  # the rules know what they know, whether or not the model can read it
            return unjudged(request)
        if rewrite is not None:
            return rewrite
    return None


class DraftJudge:
    """Asks the backend about drafts until it is known to add nothing to the rules' score.

    That is so where the backend cannot rewrite (a remote server), and where the checkpoint's
    priors, which come with each answer, leave all to the score. From then on drafts are answered
    at once, as unjudged. Belongs to one event loop.
    """

    def __init__(self, backend: Callable[[], Backend | None], gate: Callable[[], Gate]) -> None:
        """`backend` returns None until there is one that can be asked."""
        self._backend, self._gate = backend, gate
        self._indifferent: Backend | None = None

    def reset(self) -> None:
        """Ask again, since the gate may be another one."""
        self._indifferent = None

    async def ask(self, request: RewriteRequest) -> Rewrite | None:
        """What the model says about a region; None if a completion took its place. Raises
        BackendError."""
        backend = self._backend()
        if backend is None:
            raise BackendError("the model is not ready")
        if backend is self._indifferent:
            return unjudged(request)
        try:
            rewrite = await backend.rewrite(request)
        except Unsupported as unable:
            logger.info("the rules alone suggest edits: %s", unable)
            self._indifferent = backend
            return unjudged(request)
        if rewrite is not None and not self._gate().heeds(rewrite):
            self._indifferent = backend
        return rewrite


def request_for(
    context: EditContext,
    first: int,
    end: int,
    edits: tuple[PastEdit, ...],
    *,
    speculative: bool = True,
    drafts: tuple[str, ...] = (),
) -> RewriteRequest:
    """The request to rewrite lines `[first, end)`."""
    snapshot = context.snapshot
    last = lsp.Position(end - 1, _END_OF_LINE)
    return RewriteRequest(
        prefix=hole_at(snapshot, lsp.Position(first, 0), PREFIX_CHARS, 0).before,
        old="\n".join(map(without_end, snapshot.lines[first:end])),
        suffix=hole_at(snapshot, last, 0, SUFFIX_CHARS).after,
        edits=edits,
        path=context.path,
        session=f"{snapshot.uri}#edits",
        speculative=speculative,
        drafts=drafts,
        adapter=context.adapter,
    )


def ranked(found: Sequence[Proposal], uri: str) -> list[Proposal]:
    """The proposals of the document `uri` first, then by the region's score and the evidence."""

    def rank(proposal: Proposal) -> tuple[bool, str, float]:
        worth = proposal.score + min(proposal.evidence, 20) / 20
        return proposal.uri != uri, proposal.uri, -worth

    return sorted(found, key=rank)


def _lines(text: str) -> tuple[str, ...]:
    """The lines of a model's text; none for an empty one."""
    return tuple(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")) if text else ()


def _without_spaces(lines: Sequence[str]) -> str:
    return "".join("".join(lines).split())


def _repeats_what_follows(proposal: Proposal) -> bool:
    """Whether the last added lines are already right below the region."""
    added = len(proposal.new) - len(proposal.old)
    below = [without_end(line) for line in proposal.snapshot.lines[proposal.end :][:added]]
    return added > 0 and list(proposal.new[-added:]) == below
