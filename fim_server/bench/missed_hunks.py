"""What became of the hunks that next edits did not find: a tally, and a sample to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from fim_training.corpus.line_diff import LineHunk
from fim_training.evaluation.edit_replay import Judge, Point, shape_of
from fim_training.examples.hunk_sequences import HunkSequence

from fim_server.bench.commit_edits import ORDERS, contexts
from fim_server.bench.edit_score_fit import changed_lines
from fim_server.edits.next_edit import EditContext
from fim_server.edits.rules.table import candidates

STAGES = ("no draft", "wrong drafts", "held back", "shown")
"""How far a hunk came: no rule changed its lines; none that did was right; a right draft had
log-odds below the gate; or it had enough."""


@dataclass(frozen=True, slots=True, order=True)
class Reached:
    """How far a hunk came at one moment: an index of STAGES, the log-odds of the draft that came
    farthest, its rule, and what it would have made of which lines."""

    stage: int = 0
    odds: float = 0.0
    rule: str = ""
    draft: str = ""


@dataclass(frozen=True, slots=True)
class Fate:
    """A hunk that was to come, those made before it when it came farthest, and how far it came."""

    sequence: HunkSequence
    order: str
    hunk: LineHunk
    earlier: tuple[LineHunk, ...]
    reached: Reached


def fates(
    sequences: Iterable[HunkSequence],
    min_gain: float,
    *,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[Fate]:
    """Every hunk to come in the replays of some commits, in both orders."""
    for sequence in sequences:
        for order in ORDERS:
            best: dict[int, tuple[Reached, tuple[LineHunk, ...]]] = {}
            made: tuple[LineHunk, ...] = ()
            for point, context in contexts(sequence, shuffled=order == "shuffled", seed=seed):
                made += (point.edit,)
                for name, reached in _reached(point, context, min_gain).items():
                    if name not in best or reached >= best[name][0]:
                        best[name] = reached, made
            for name, (reached, earlier) in best.items():
                yield Fate(sequence, order, sequence.hunks[name], earlier, reached)
        progress()


def _reached(point: Point, context: EditContext, min_gain: float) -> dict[int, Reached]:
    found = {name: Reached() for name in point.names}
    page = context.page()
    if page is None or not found:
        return found
    judge = Judge(point)
    for candidate in candidates(page):
        first, old, new = changed_lines(page, candidate)
        verdict = judge.verdict(first, old, new)
        shown = candidate.odds >= min_gain
        stage = (3 if shown else 2) if verdict.right else 1
        text = "\n".join((*(f"- {line}" for line in old), *(f"+ {line}" for line in new)))
        reached = Reached(stage, candidate.odds, candidate.rule, text)
        for name in verdict.touched if verdict.right else verdict.met:
            found[name] = max(found[name], reached)
    return found


def figures(found: Iterable[Fate], count: int, seed: int = 0) -> dict[str, Any]:
    """How many hunks came how far, by order, by shape and by the rule that came farthest; and
    `count` of those that were missed in the file's order, drawn at random, as text to read."""
    stages: dict[str, Counter[str]] = {order: Counter() for order in ORDERS}
    shapes: dict[str, Counter[str]] = {}
    rules: dict[str, Counter[str]] = {}
    missed = []
    for fate in found:
        stage = STAGES[fate.reached.stage]
        stages[fate.order][stage] += 1
        if fate.order != ORDERS[0]:
            continue
        shapes.setdefault(shape_of(fate.hunk), Counter())[stage] += 1
        if fate.reached.rule:
            rules.setdefault(fate.reached.rule, Counter())[stage] += 1
        if stage != "shown":
            missed.append(fate)
    drawn = Random(seed).sample(missed, min(count, len(missed)))
    return {
        "stages": {order: _counts(counts) for order, counts in stages.items()},
        "shapes": {shape: _counts(counts) for shape, counts in sorted(shapes.items())},
        "rules": {
            rule: _counts(counts)
            for rule, counts in sorted(rules.items(), key=lambda item: -item[1].total())
        },
        "missed": [_text(fate) for fate in drawn],
    }


def _counts(counts: Counter[str]) -> dict[str, int]:
    return {stage: counts[stage] for stage in STAGES}


def _text(fate: Fate) -> str:
    sequence, reached = fate.sequence, fate.reached
    lines = [
        f"{sequence.project} {sequence.commit[:10]} {sequence.path}: {STAGES[reached.stage]}",
        *(line for hunk in fate.earlier for line in _diff("made", hunk)),
        *_diff("missed", fate.hunk),
    ]
    if reached.rule:
        lines += [f"  draft of {reached.rule}, {reached.odds:.1f} nats", reached.draft]
    return "\n".join(lines)


def _diff(what: str, hunk: LineHunk) -> list[str]:
    return [
        f"  {what}, line {hunk.first + 1}",
        *(f"- {line}" for line in hunk.old),
        *(f"+ {line}" for line in hunk.new),
    ]
