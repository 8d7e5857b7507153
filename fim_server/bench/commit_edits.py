"""Next edits on real histories: the hunks of commits replayed through the planner that serves
editors, which is asked after each of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from fim_model.requests import Rewrite, RewriteRequest
from fim_training.evaluation.edit_replay import SHAPES, Judge, Point, points, shape_of
from fim_training.evaluation.figures import percentage
from fim_training.examples.hunk_sequences import HunkSequence

from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.history import History
from fim_server.edits.next_edit import Ask, EditContext, Gate, proposals, unjudged

ORDERS = ("in order", "shuffled")
_URI = "file:///project/"


async def without_model(request: RewriteRequest) -> Rewrite:
    """The answer of no model, so that the rules are measured alone."""
    return unjudged(request)


def contexts(
    sequence: HunkSequence, *, shuffled: bool, seed: int = 0
) -> Iterator[tuple[Point, EditContext]]:
    """The moments of a replay, each as an editor presents it: the cursor in the last line edited,
    the neighbours open. The edits are recorded as the server records keystrokes."""
    uri = f"{_URI}{sequence.path}"
    neighbours = [split_lines(text) for text in sequence.neighbours]
    history, revision = History(), 0

    def snapshot(lines: Sequence[str], at: int | None) -> Snapshot:
        ended = [f"{line}\n" for line in lines[:-1]] + [lines[-1]]
        return Snapshot(uri, sequence.language, revision, revision, Encoding.UTF32, ended, at)

    standing = snapshot(sequence.before, None)
    for point in points(sequence, shuffled=shuffled, seed=seed):
        revision += 1
        now = snapshot(point.lines, point.edit.first)
        history.record(standing, now, float(point.done))
        standing = now
        cursor = point.edit.first + max(len(point.edit.new) - 1, 0)
        cursor = min(cursor, len(point.lines) - 1)
        hunks = history.recent(float(point.done))
        yield point, EditContext(now, hunks, cursor, path=sequence.path, neighbours=neighbours)


@dataclass(slots=True)
class _Tally:
    """points: moments with hunks to come. firsts: those with a proposal; first_right and
    first_place: of which the first one is right, or changes lines that do change. shown, right: of
    all proposals. hunks: those that were to come; found, whole, found_first: those of them that
    right proposals made in part, completely, and in part by first proposals alone. ended, after:
    moments after the last hunk, and those with a proposal. late: moments of both kinds at which an
    editor's search would have given up here, and shown nothing."""

    points: int = 0
    firsts: int = 0
    first_right: int = 0
    first_place: int = 0
    shown: int = 0
    right: int = 0
    hunks: int = 0
    found: int = 0
    whole: int = 0
    found_first: int = 0
    ended: int = 0
    after: int = 0
    late: int = 0

    def figures(self) -> dict[str, Any]:
        """Counts, and shares in percent."""
        return {
            "points": self.points,
            "shown": percentage(self.firsts, self.points),
            "first_right": percentage(self.first_right, self.firsts),
            "first_place": percentage(self.first_place, self.firsts),
            "all_right": percentage(self.right, self.shown),
            "hunks": self.hunks,
            "recall": percentage(self.found, self.hunks),
            "recall_whole": percentage(self.whole, self.hunks),
            "recall_first": percentage(self.found_first, self.hunks),
            "ended": self.ended,
            "after_last": percentage(self.after, self.ended),
            "gave_up": percentage(self.late, self.points + self.ended),
        }


@dataclass(slots=True)
class _Count:
    """Proposals of a rule, and how many of them are right; or hunks of a shape, and those found."""

    n: int = 0
    hits: int = 0

    def figures(self) -> dict[str, Any]:
        return {"n": self.n, "percent": percentage(self.hits, self.n)}


@dataclass(slots=True)
class _Report:
    overall: _Tally = field(default_factory=_Tally)
    languages: dict[str, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    projects: dict[str, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    shapes: dict[str, _Count] = field(default_factory=lambda: defaultdict(_Count))
    rules: dict[str, _Count] = field(default_factory=lambda: defaultdict(_Count))

    def figures(self) -> dict[str, Any]:
        return {
            **self.overall.figures(),
            "languages": {name: tally.figures() for name, tally in sorted(self.languages.items())},
            "projects": {name: tally.figures() for name, tally in sorted(self.projects.items())},
            "shapes": {name: self.shapes[name].figures() for name in SHAPES if name in self.shapes},
            "rules": {
                name: count.figures()
                for name, count in sorted(self.rules.items(), key=lambda item: -item[1].n)
            },
        }


async def replayed(
    sequences: Iterable[HunkSequence],
    ask: Ask,
    gate: Gate,
    *,
    seed: int = 0,
    cpu_seconds: float = inf,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The figures of each order: overall, by language, by project, by the shape of the hunks that
    were to come, and by the rule of the proposals. `cpu_seconds` are those after which an editor's
    search gives up."""
    reports = {order: _Report() for order in ORDERS}
    count = 0
    for sequence in sequences:
        count += 1
        for order, report in reports.items():
            await _replay(sequence, report, ask, gate, order == "shuffled", seed, cpu_seconds)
        progress()
    return {"commits": count, **{order: report.figures() for order, report in reports.items()}}


async def found_hunks(sequence: HunkSequence, ask: Ask, gate: Gate) -> list[bool]:
    """Whether a right proposal made each hunk, at least in part, before it came; in the file's
    order, without the first hunk."""
    found: set[int] = set()
    for point, context in contexts(sequence, shuffled=False):
        if point.rest:
            judge = Judge(point)
            async for each in proposals(context, context.regions(), ask, gate):
                found |= judge.verdict(each.first, each.old, each.new).touched
    return [index in found for index in range(1, len(sequence.hunks))]


async def _replay(
    sequence: HunkSequence,
    report: _Report,
    ask: Ask,
    gate: Gate,
    shuffled: bool,
    seed: int,
    cpu_seconds: float,
) -> None:
    tallies = (
        report.overall,
        report.languages[_language(sequence)],
        report.projects[sequence.project],
    )
    found: set[int] = set()
    whole: set[int] = set()
    found_first: set[int] = set()
    came: dict[int, str] = {}
    for point, context in contexts(sequence, shuffled=shuffled, seed=seed):
        began = time.thread_time()
        where = context.regions()
        late = time.thread_time() - began > cpu_seconds
        shown = [proposal async for proposal in proposals(context, where, ask, gate)]
        for tally in tallies:
            tally.late += late
        if not point.rest:
            for tally in tallies:
                tally.ended += 1
                tally.after += bool(shown)
            for proposal in shown:
                report.rules[proposal.rule].n += 1
            continue
        if not came:
            came = {
                name: shape_of(hunk) for name, hunk in zip(point.names, point.rest, strict=True)
            }
        judge = Judge(point)
        verdicts = [judge.verdict(each.first, each.old, each.new) for each in shown]
        for tally in tallies:
            tally.points += 1
            tally.firsts += bool(shown)
            tally.first_right += bool(shown) and verdicts[0].right
            tally.first_place += bool(shown) and verdicts[0].place
            tally.shown += len(shown)
            tally.right += sum(verdict.right for verdict in verdicts)
        for number, (proposal, verdict) in enumerate(zip(shown, verdicts, strict=True)):
            by_rule = report.rules[proposal.rule]
            by_rule.n += 1
            by_rule.hits += verdict.right
            found |= verdict.touched
            whole |= verdict.whole
            found_first |= verdict.touched if number == 0 else frozenset()
    for tally in tallies:
        tally.hunks += len(came)
        tally.found += len(found)
        tally.whole += len(whole)
        tally.found_first += len(found_first)
    for name, shape in came.items():
        report.shapes[shape].n += 1
        report.shapes[shape].hits += name in found


def _language(sequence: HunkSequence) -> str:
    return sequence.language.removesuffix("react")
