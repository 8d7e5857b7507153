"""How good next edits are: sessions whose outcome is known, through the planner the editor gets."""

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

from fim_server.bench.edit_priors_sweep import Candidate, Judged
from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.history import Hunk, past_edits
from fim_server.edits.next_edit import (
    MOST_EDITS,
    MOST_TRIES,
    Ask,
    Gate,
    Proposal,
    Scene,
    considered,
    proposals,
    revised,
    tried,
)
from fim_server.edits.regions import Region

Progress = Callable[[int, int], None]
MOST_OPEN = 8
RESTING = 10
"""Regions at rest for each session of a kind: a share below 2 % shows only in many."""
LONE = 4
"""Edits that lead nowhere, likewise."""
_URI = "file:///project/"


@dataclass(slots=True)
class _Tally:
    """Of the sessions of one kind. Proposals are right if all that they change must change so."""

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
        """Shares are percentages; `ms` is until the first proposal, or until there is none."""
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
    least_gain: float,
    per_kind: int = 50,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """The figures of each kind, of all, and how often something is proposed where nothing is to do.

    `at_rest`: regions of code in which nothing was edited. `finished`: sessions in which all is
    done. `lone`: edits that lead nowhere. All are shares (in %) with a proposal that passes the
    gate.
    """
    return asyncio.run(_evaluate(documents, ask, Gate(least_gain), per_kind, seed, progress))


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
    """What the planner proposed, and what the model cost until it did and in all."""

    found: list[Proposal]
    ms: float
    forwards: int
    regions: int


async def _outcome(
    session: EditSession, documents: Sequence[Document], ask: Ask, gate: Gate
) -> _Outcome:
    scene = scene_of(session, documents)
    spent: list[Rewrite] = []

    async def counted(request: RewriteRequest) -> Rewrite | None:
        rewrite = await ask(request)
        if rewrite is not None:
            spent.append(rewrite)
        return rewrite

    found: list[Proposal] = []
    until_first: float | None = None
    async for proposal in proposals(scene, scene.regions(), counted, gate):
        found.append(proposal)
        until_first = until_first or sum(one.ms for one in spent)
    everything = sum(one.ms for one in spent)
    forwards = sum(one.forwards for one in spent)
    return _Outcome(found, until_first or everything, forwards, len(spent))


def scene_of(session: EditSession, documents: Sequence[Document] = ()) -> Scene:
    """The session as the editor would show it, the cursor below the last edit; of the documents
    those of its project are open too."""
    uri = _URI + session.path.lstrip("/")
    snapshot = Snapshot(uri, "python", 1, 1, Encoding.UTF32, split_lines(session.text))
    hunks = [
        Hunk(uri, line, (before,) if before else (), (now,), 0.0)
        for line, before, now in session.edits
    ]
    neighbours = [
        split_lines(one.text)
        for one in documents
        if one.project == session.project and one.path != session.path
    ]
    cursor = min(hunks[-1].end, len(snapshot.lines) - 1)
    return Scene(snapshot, hunks, cursor, path=session.path, neighbours=neighbours[:MOST_OPEN])


def _count(tally: _Tally, session: EditSession, outcome: _Outcome) -> None:
    wanted = session.wanted
    right = [set(_changes(one)) <= wanted for one in outcome.found]
    found = {change for one in outcome.found for change in _changes(one)} & wanted
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
    """How many of so many regions of correct code the model would change, unasked."""
    wrong = 0
    for scene, region in _resting(documents, count, seed):
        proposal = await revised(scene, region, (), ask)
        wrong += proposal is not None and gate.passes(proposal)
    return wrong


def _resting(
    documents: Sequence[Document], count: int, seed: int
) -> Iterator[tuple[Scene, Region]]:
    rng = Random(f"{seed} at rest")
    for _ in range(count):
        document = rng.choice(documents)
        lines = split_lines(document.text)
        uri = _URI + document.path.lstrip("/")
        snapshot = Snapshot(uri, "python", 1, 1, Encoding.UTF32, lines)
        first = rng.randrange(len(lines))
        region = Region(uri, first, min(first + rng.randint(1, 3), len(lines)), 0.0, "drawn")
        yield Scene(snapshot, (), first, path=document.path), region


def halves(documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """Projects to calibrate with, and others to report: every second one by name.

    Of a single project both have all.
    """
    names = sorted({one.project for one in documents})
    chosen = set(names[::2]), set(names[1::2] or names)
    calibration, report = ([one for one in documents if one.project in some] for some in chosen)
    return calibration, report


def baseline_precision(documents: Sequence[Document], *, per_kind: int, seed: int) -> float:
    """That of search and replace over all kinds, in percent."""
    drawn = [one for kind in KINDS for one in draw_sessions(documents, kind, per_kind, seed)]
    replaced = [(search_and_replace(one), one.wanted) for one in drawn]
    right = sum(len(textual & wanted) for textual, wanted in replaced)
    return percentage(right, sum(len(textual) for textual, _ in replaced))


def judged(
    documents: Sequence[Document],
    ask: Ask,
    *,
    per_kind: int = 50,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Judged:
    """All that is considered in sessions of these documents, for `sweep.Judged.curve`."""
    return asyncio.run(_judged(documents, ask, per_kind, seed, progress))


async def _judged(
    documents: Sequence[Document], ask: Ask, per_kind: int, seed: int, progress: Progress
) -> Judged:
    drawn = [one for kind in KINDS for one in draw_sessions(documents, kind, per_kind, seed)]
    alone = draw_sessions(documents, "lone", LONE * per_kind, seed)
    resting = RESTING * per_kind
    total = 2 * len(drawn) + len(alone) + resting
    sessions, finished, lone, at_rest = [], [], [], []
    for session in drawn:
        regions = await _candidates(scene_of(session, documents), ask, session.wanted)
        sessions.append((regions, len(session.wanted)))
        ended = scene_of(session.finished, documents)
        finished.append(await _candidates(ended, ask, set()))
        progress(2 * len(sessions), total)
    for session in alone:
        lone.append(await _candidates(scene_of(session, documents), ask, set()))
        progress(2 * len(drawn) + len(lone), total)
    for scene, region in _resting(documents, resting, seed):
        found = await considered(scene, region, (), ask)
        at_rest.append([[Candidate.of(one, _changes(one), set()) for one in found]])
        progress(total - resting + len(at_rest), total)
    return Judged(sessions, finished, lone, at_rest)


async def _candidates(scene: Scene, ask: Ask, wanted: set[LineChange]) -> list[list[Candidate]]:
    edits = past_edits(scene.hunks, MOST_EDITS)
    return [
        [
            Candidate.of(one, _changes(one), wanted)
            for one in await considered(scene, region, edits, ask)
        ]
        for region in tried(scene.regions(), MOST_TRIES)
    ]
