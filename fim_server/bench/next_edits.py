"""The quality of next edits: sessions with a known outcome, run through the planner that serves
editors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fim_model.requests import Rewrite, RewriteRequest
from fim_training.evaluation.edit_baseline import search_and_replace
from fim_training.evaluation.edit_sessions import (
    KINDS,
    EditSession,
    LineChange,
    draw_sessions,
    line_changes,
)
from fim_training.evaluation.figures import percentage, percentile
from fim_training.evaluation.heldout_holes import Document

from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.history import Hunk
from fim_server.edits.next_edit import (
    Ask,
    EditContext,
    Gate,
    Proposal,
    best_of,
    considered,
    proposals,
)
from fim_server.edits.regions import Region

Progress = Callable[[int, int], None]
MAX_OPEN = 8
"""Open documents of the session's project."""

RESTING = 10
"""Unedited regions for each session of a kind, enough to measure a share below 2 %."""

LONE = 4
"""Edits from which nothing follows, for each session of a kind."""

_URI = "file:///project/"


@dataclass(slots=True)
class _Tally:
    """Counts of the sessions of one kind.

    right: proposals of which every changed line is wanted. found: wanted changes that were
    proposed. spoke: sessions with a proposal. first_right: sessions whose first one is right.
    """

    n: int = 0
    proposals: int = 0
    right: int = 0
    wanted: int = 0
    found: int = 0
    spoke: int = 0
    first_right: int = 0
    ms: list[float] = field(default_factory=list)
    forwards: int = 0
    regions: int = 0
    baseline: int = 0
    baseline_right: int = 0
    baseline_found: int = 0

    def figures(self) -> dict[str, Any]:
        """Shares in percent; milliseconds to the first proposal, or to the end without one."""
        return {
            "n": self.n,
            "precision": percentage(self.right, self.proposals),
            "recall": percentage(self.found, self.wanted),
            "exact_first": percentage(self.first_right, self.n),
            "precision_first": percentage(self.first_right, self.spoke),
            "p50_ms": percentile(self.ms, 50),
            "p95_ms": percentile(self.ms, 95),
            "forwards_per_session": round(self.forwards / self.n, 2) if self.n else 0.0,
            "regions_per_session": round(self.regions / self.n, 2) if self.n else 0.0,
            "search_and_replace": {
                "precision": percentage(self.baseline_right, self.baseline),
                "recall": percentage(self.baseline_found, self.wanted),
            },
        }


def evaluate_edits(
    documents: Sequence[Document],
    ask: Ask,
    *,
    min_gain: float,
    per_kind: int = 50,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """The figures of each kind and of all, and the share of places with an unwanted proposal.

    The latter in percent: `at_rest` of regions in which nothing was edited, `finished` of sessions
    whose edits are all made, `lone` of edits from which nothing follows.
    """
    return asyncio.run(_evaluate(documents, ask, Gate(min_gain), per_kind, seed, progress))


async def _evaluate(
    documents: Sequence[Document],
    ask: Ask,
    gate: Gate,
    per_kind: int,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    sessions = {kind: draw_sessions(documents, kind, per_kind, seed) for kind in KINDS}
    lone = draw_sessions(documents, "lone", LONE * per_kind, seed)
    total = 2 * sum(map(len, sessions.values())) + len(lone)
    tallies = {kind: _Tally() for kind in (*KINDS, "overall")}
    finished = done = 0
    for kind, drawn in sessions.items():
        for session in drawn:
            outcome = await _outcome(session, documents, ask, gate)
            for tally in (tallies[kind], tallies["overall"]):
                _count(tally, session, outcome)
            ended = await _outcome(session.finished, documents, ask, gate)
            finished += bool(ended.found)
            done += 2
            progress(done, total)
    spoke = 0
    for session in lone:
        spoke += bool((await _outcome(session, documents, ask, gate)).found)
        done += 1
        progress(done, total)
    resting = await _false_at_rest(documents, ask, gate, RESTING * per_kind, seed)
    count = sum(map(len, sessions.values()))
    return {
        **{kind: tally.figures() for kind, tally in tallies.items() if tally.n},
        "finished": percentage(finished, count),
        "lone": percentage(spoke, len(lone)),
        "at_rest": percentage(resting, RESTING * per_kind),
    }


@dataclass(slots=True)
class _Outcome:
    """The proposals; milliseconds to the first one, forwards and regions in all."""

    found: list[Proposal]
    ms: float
    forwards: int
    regions: int


async def _outcome(
    session: EditSession, documents: Sequence[Document], ask: Ask, gate: Gate
) -> _Outcome:
    context = context_of(session, documents)
    spent: list[Rewrite] = []

    async def counted(request: RewriteRequest) -> Rewrite | None:
        rewrite = await ask(request)
        if rewrite is not None:
            spent.append(rewrite)
        return rewrite

    found: list[Proposal] = []
    until_first: float | None = None
    async for proposal in proposals(context, context.regions(), counted, gate):
        found.append(proposal)
        until_first = until_first or sum(rewrite.ms for rewrite in spent)
    everything = sum(rewrite.ms for rewrite in spent)
    forwards = sum(rewrite.forwards for rewrite in spent)
    return _Outcome(found, until_first or everything, forwards, len(spent))


def context_of(session: EditSession, documents: Sequence[Document] = ()) -> EditContext:
    """A session as an editor presents it: the cursor below the last edit, and of `documents` those
    of the same project open."""
    uri = _URI + session.path.lstrip("/")
    snapshot = Snapshot(uri, "python", 1, 1, Encoding.UTF32, split_lines(session.text))
    hunks = [
        Hunk(uri, line, (before,) if before else (), (now,), 0.0)
        for line, before, now in session.edits
    ]
    neighbours = [
        split_lines(document.text)
        for document in documents
        if document.project == session.project and document.path != session.path
    ]
    cursor = min(hunks[-1].end, len(snapshot.lines) - 1)
    open_files = neighbours[:MAX_OPEN]
    return EditContext(snapshot, hunks, cursor, path=session.path, neighbours=open_files)


def _count(tally: _Tally, session: EditSession, outcome: _Outcome) -> None:
    wanted = session.wanted
    proposed = [_changes(proposal) for proposal in outcome.found]
    right = [changes <= wanted for changes in proposed]
    found = set[LineChange]().union(*proposed) & wanted
    textual = search_and_replace(session)
    tally.n += 1
    tally.proposals += len(right)
    tally.right += sum(right)
    tally.wanted += len(wanted)
    tally.found += len(found)
    tally.spoke += bool(right)
    tally.first_right += bool(right) and right[0]
    tally.ms.append(outcome.ms)
    tally.forwards += outcome.forwards
    tally.regions += outcome.regions
    tally.baseline += len(textual)
    tally.baseline_right += len(textual & wanted)
    tally.baseline_found += len(textual & wanted)


def _changes(proposal: Proposal) -> set[LineChange]:
    inside = line_changes("\n".join(proposal.old), "\n".join(proposal.new))
    return {(low + proposal.first, high + proposal.first, new) for low, high, new in inside}


async def _false_at_rest(
    documents: Sequence[Document], ask: Ask, gate: Gate, count: int, seed: int
) -> int:
    """How many of `count` regions of unedited code would get a proposal."""
    wrong = 0
    for context, region in _resting(documents, count, seed):
        proposal = best_of(await considered(context, region, (), ask))
        wrong += proposal is not None and gate.passes(proposal)
    return wrong


def _resting(
    documents: Sequence[Document], count: int, seed: int
) -> Iterator[tuple[EditContext, Region]]:
    rng = Random(f"{seed} at rest")
    for _ in range(count):
        document = rng.choice(documents)
        lines = split_lines(document.text)
        uri = _URI + document.path.lstrip("/")
        snapshot = Snapshot(uri, "python", 1, 1, Encoding.UTF32, lines)
        first = rng.randrange(len(lines))
        region = Region(uri, first, min(first + rng.randint(1, 3), len(lines)), 0.0, "drawn")
        yield EditContext(snapshot, (), first, path=document.path), region


def reported(documents: Sequence[Document]) -> list[Document]:
    """The documents of every second project by name, the only ones that figures are reported of;
    of a single project all."""
    names = sorted({document.project for document in documents})
    kept = set(names[1::2] or names)
    return [document for document in documents if document.project in kept]
