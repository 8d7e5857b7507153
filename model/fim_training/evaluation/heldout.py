"""Score completions in held-out projects, beside copying baselines.

    python -m fim_training.evaluation.heldout --data heldout.jsonl.gz --json

All shares and similarities are percentages (0..100). `exact_match` ignores white space at the end
of the text only; `edit_similarity` is the mean of `figures.edit_similarity`; `ended` counts holes
that the model ended by its own end-of-middle token, before any limit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fim_training.evaluation.baselines import BASELINES, Baseline
from fim_training.evaluation.figures import Cost, cost_of, edit_similarity, percentage, same_text
from fim_training.evaluation.filler import Fill, Filler, Mode, model_filler
from fim_training.evaluation.heldout_holes import (
    KINDS,
    ONE_LINE_KINDS,
    HeldoutHole,
    Window,
    draw_each,
    load_documents,
)

GROUPS = {"one_line": ONE_LINE_KINDS, "overall": tuple(KINDS)}
"""Pooled kinds of holes. The headline of a model card is `one_line`: does it beat copying?"""


@dataclass(frozen=True, slots=True)
class BaselineScore:
    """`only_model`, `only_baseline`: the holes (in %) that just one of the two got exactly."""

    exact_match: float
    edit_similarity: float
    only_model: float
    only_baseline: float


@dataclass(frozen=True, slots=True)
class Score:
    """One kind of hole, or several pooled."""

    n: int
    exact_match: float
    edit_similarity: float
    ended: float
    cost: Cost
    baselines: dict[str, BaselineScore]

    def as_json(self) -> dict[str, Any]:
        figures = asdict(self)
        cost: dict[str, Any] = figures.pop("cost")
        return figures | cost


def evaluate(
    holes: Sequence[HeldoutHole],
    fill: Filler,
    window: Window | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Score]:
    """Fill every hole once; a score for each kind present, then for each group present.

    The filler sees each hole through `window`; the baselines see the whole file.
    """
    window = window or Window()
    fills = []
    for done, hole in enumerate(holes, start=1):
        fills.append(fill(hole.hole(window)))
        if progress:
            progress(done, len(holes))
    scores = {}
    for name, kinds in [*((kind, (kind,)) for kind in KINDS), *GROUPS.items()]:
        chosen = [place for place, hole in enumerate(holes) if hole.kind in kinds]
        if chosen:
            scores[name] = score([holes[i] for i in chosen], [fills[i] for i in chosen])
    return scores


def score(holes: Sequence[HeldoutHole], fills: Sequence[Fill]) -> Score:
    """Grade `fills`, one for each hole, beside every baseline. At least one hole."""
    hits = [same_text(fill.text, hole.answer) for hole, fill in zip(holes, fills, strict=True)]
    return Score(
        n=len(holes),
        exact_match=percentage(sum(hits), len(hits)),
        edit_similarity=_mean_percentage(
            edit_similarity(fill.text, hole.answer) for hole, fill in zip(holes, fills, strict=True)
        ),
        ended=percentage(sum(fill.finish == "eom" for fill in fills), len(fills)),
        cost=cost_of(fills),
        baselines={name: score_baseline(copy, holes, hits) for name, copy in BASELINES.items()},
    )


def score_baseline(
    baseline: Baseline, holes: Sequence[HeldoutHole], model_hits: Sequence[bool]
) -> BaselineScore:
    """Grade a baseline by the best of its candidates for each hole."""
    hits, similarities = [], []
    for hole in holes:
        candidates = baseline(hole)
        hits.append(any(same_text(text, hole.answer) for text in candidates))
        similarities.append(max(edit_similarity(text, hole.answer) for text in candidates))
    pairs = list(zip(model_hits, hits, strict=True))
    return BaselineScore(
        exact_match=percentage(sum(hits), len(hits)),
        edit_similarity=_mean_percentage(similarities),
        only_model=percentage(sum(model and not copy for model, copy in pairs), len(pairs)),
        only_baseline=percentage(sum(copy and not model for model, copy in pairs), len(pairs)),
    )


def _mean_percentage(shares: Iterable[float]) -> float:
    return round(100.0 * fmean(shares), 2)


def evaluate_model(
    data: Path,
    *,
    model: str | None,
    mode: Mode,
    per_kind: int,
    seed: int,
    threads: int | None,
    window: Window,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Load a model, grade it on `per_kind` holes of every kind, return the JSON object.

    Raises ValueError (EvaluationDataError, CheckpointError, too few documents), one line each.
    """
    from fim_model.infiller import Infiller

    documents = load_documents(data)
    holes = draw_each(documents, KINDS, per_kind, seed)
    infiller = Infiller.load(model, threads=threads)
    scores = evaluate(holes, model_filler(infiller, mode=mode, seed=seed), window, progress)
    setting = {
        "data": data.name,
        "model": model or "default",
        "mode": mode,
        "seed": seed,
        "n_per_kind": per_kind,
        **asdict(window),
    }
    return setting | {name: score.as_json() for name, score in scores.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m fim_training.evaluation.heldout")
    parser.add_argument("--data", type=Path, required=True, help="heldout.jsonl.gz of the corpus")
    parser.add_argument("--model", help="checkpoint folder (default: the bundled one)")
    parser.add_argument("--mode", choices=get_args(Mode), default="self_speculation")
    parser.add_argument("--per-kind", type=int, default=100, help="holes of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn holes")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    for side, most in asdict(Window()).items():
        parser.add_argument(
            f"--{side.replace('_', '-')}", type=int, default=most, help="what the model may see"
        )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    given = vars(parser.parse_args(argv))
    as_json = given.pop("json")
    sides = given.pop("prefix_chars"), given.pop("suffix_chars")
    try:
        with Progress(console=Console(stderr=True), disable=as_json, transient=True) as bar:
            task = bar.add_task("holes", total=None)
            figures = evaluate_model(
                **given,
                window=Window(*sides),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        Console().print(_table(figures))
    return 0


def _table(figures: dict[str, Any]) -> Table:
    """One row for each kind: the model's figures, then each baseline's exact match."""
    model = {
        "n": ("n", 0),
        "exact_match": ("exact", 1),
        "edit_similarity": ("similar", 1),
        "ended": ("ended", 1),
        "tokens_per_forward": ("TPF", 2),
        "p50_ms": ("p50 ms", 0),
    }
    copying = {"previous_line": "above", "neighbouring_lines": "beside", "ngram_copy": "n-gram"}
    title = f"{figures['model']}, {figures['mode']} (shares in %)"
    table = Table(title=title, box=None, pad_edge=False)
    table.add_column("hole", no_wrap=True)
    for header in [*(header for header, _ in model.values()), *copying.values()]:
        table.add_column(header, justify="right", no_wrap=True)
    for name in (*KINDS, *GROUPS):
        row = figures[name]
        cells = [f"{row[key]:.{digits}f}" for key, (_, digits) in model.items()]
        copies = [f"{row['baselines'][key]['exact_match']:.1f}" for key in copying]
        table.add_row(name, *cells, *copies)
    return table


if __name__ == "__main__":
    sys.exit(main())
