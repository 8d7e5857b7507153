"""Compare full and int8 weights on the same holes, and recommend a default.

    python -m fim_training.shipping.weights --model FOLDER --heldout heldout.jsonl.gz \
        --humaneval SINGLE_LINE.jsonl.gz --humaneval RANDOM_SPAN.jsonl.gz --write

The table and the verdict go to stdout; with `--write` they take the place of what stands between
`<!-- weights -->` and `<!-- /weights -->` in the folder's README.md. A CPU takes int8 if the
weights are stored so or `FIM_WEIGHTS=int8` asks for it: `loading/memory.py` (`default_weights`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from fim_model.infiller import Infiller
from rich.console import Console

from fim_training.corpus.corpus_languages import PYTHON
from fim_training.evaluation.figures import edit_similarity, percentage
from fim_training.evaluation.filler import Fill, Filler, Hole, model_filler
from fim_training.evaluation.heldout import evaluate
from fim_training.evaluation.heldout_holes import KINDS, HeldoutHole, draw_each, load_documents
from fim_training.evaluation.humaneval_infilling import Task, load_tasks, spread_sample
from fim_training.evaluation.humaneval_infilling import evaluate as run_tests
from fim_training.shipping.card import of_language, table_row, write_card

MARK = "weights"
TOLERATED = 1.0
"""Percentage points that int8 may lose in any figure and still become the default."""

ENOUGH = 100
"""Least holes of a set: with these, one hole weighs at most a percentage point."""

Both = tuple[float, float]
"""A figure with full weights, and with int8."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One set of holes. All but `ms` (p50, cold) is in percent; `passed` None: it has no tests.

    same: the holes for which both wrote the same text.
    """

    holes: str
    n: int
    passed: Both | None
    exact: Both
    similarity: Both
    same: float
    ms: Both

    def losses(self) -> dict[str, float]:
        """Points that int8 loses, by figure; a gain is below zero."""
        figures = {"pass@1": self.passed, "exact": self.exact, "edit similarity": self.similarity}
        return {name: both[0] - both[1] for name, both in figures.items() if both is not None}


def compare_tasks(name: str, tasks: Sequence[Task], full: Filler, int8: Filler) -> Comparison:
    """HumanEval-Infilling holes, graded by their tests."""
    first, second = (run_tests(tasks, fill) for fill in (full, int8))
    alike = [
        [
            100 * edit_similarity(answer.fill.text, answer.task.canonical_solution)
            for answer in report.answers
        ]
        for report in (first, second)
    ]
    pairs = zip(first.answers, second.answers, strict=True)
    same = sum(a.fill.text == b.fill.text for a, b in pairs)
    return Comparison(
        name, len(tasks), (first.pass_at_1, second.pass_at_1),
        (first.exact_match, second.exact_match), (fmean(alike[0]), fmean(alike[1])),
        percentage(same, len(tasks)), (first.cost.p50_ms, second.cost.p50_ms),
    )  # fmt: skip


def compare_heldout(holes: Sequence[HeldoutHole], full: Filler, int8: Filler) -> Comparison:
    """Holes of held-out projects, all kinds together."""
    texts: tuple[list[str], list[str]] = ([], [])
    first, second = (
        evaluate(holes, _keeping(fill, kept))["overall"]
        for fill, kept in zip((full, int8), texts, strict=True)
    )
    same = sum(a == b for a, b in zip(*texts, strict=True))
    return Comparison(
        "held-out projects", first.n, None,
        (first.exact_match, second.exact_match), (first.edit_similarity, second.edit_similarity),
        percentage(same, len(holes)), (first.cost.p50_ms, second.cost.p50_ms),
    )  # fmt: skip


def _keeping(fill: Filler, texts: list[str]) -> Filler:
    def kept(hole: Hole) -> Fill:
        found = fill(hole)
        texts.append(found.text)
        return found

    return kept


def comparison_table(found: Sequence[Comparison]) -> list[str]:
    """Markdown, a row for each set of holes, each figure as `full / int8`."""
    rows = [
        "| holes | pass@1 %, full / int8 | exact % | edit similarity | same text % | ms, p50 |",
        "|---|---|---|---|---|---|",
    ]
    for row in found:
        cells = [f"{row.holes} ({row.n})", *map(_both, (row.passed, row.exact, row.similarity))]
        rows.append(table_row([*cells, f"{row.same:.1f}", _both(row.ms)]))
    return rows


def verdict(found: Sequence[Comparison]) -> str:
    """The recommendation for int8 as the default, from at least one comparison."""
    few = [f"{row.holes}: {row.n}" for row in found if row.n < ENOUGH]
    if few:
        return f"Too few holes to decide anything ({', '.join(few)}; {ENOUGH} each are needed)."
    loss, figure, holes = max(
        (lost, figure, row.holes) for row in found for figure, lost in row.losses().items()
    )
    if loss > TOLERATED:
        return (
            f"int8 loses {loss:.1f} points ({figure}, {holes}), more than {TOLERATED:g}: full "
            "weights stay the default."
        )
    worst = f"loses {loss:.1f} points at most ({figure}, {holes})" if loss > 0 else "loses nothing"
    return f"int8 {worst}, within {TOLERATED:g}: it may be the default on a CPU."


def _both(figure: Both | None) -> str:
    return "" if figure is None else f"{figure[0]:.1f} / {figure[1]:.1f}"


def measured(
    full: Filler,
    int8: Filler,
    heldout: Path | None,
    humaneval: Sequence[Path],
    *,
    limit: int | None,
    per_kind: int,
    say: Console,
) -> list[Comparison]:
    """Compare on every given set of holes. Raises ValueError for bad files, and for none."""
    if heldout is None and not humaneval:
        raise ValueError("nothing to compare on: give --heldout FILE, --humaneval FILE or both")
    found = []
    for data in humaneval:
        say.print(data.name)
        tasks = spread_sample(load_tasks(data), limit)
        found.append(compare_tasks(data.name.removesuffix(".jsonl.gz"), tasks, full, int8))
    if heldout is not None:
        say.print("held-out projects")
        documents = of_language(load_documents(heldout), PYTHON.name)
        found.append(compare_heldout(draw_each(documents, KINDS, per_kind, 0), full, int8))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m fim_training.shipping.weights")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--heldout", type=Path, help="heldout.jsonl.gz")
    parser.add_argument("--humaneval", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--mode", default="ar", help="default: ar")
    parser.add_argument("--limit", type=int, help="holes of each HumanEval file (default: all)")
    parser.add_argument("--per-kind", type=int, default=100, help="held-out holes of each kind")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--write", action="store_true", help="into the folder's README.md")
    given = parser.parse_args(argv)
    try:
        full, int8 = (
            model_filler(
                Infiller.load(given.model, threads=given.threads, weights=weights), mode=given.mode
            )
            for weights in ("full", "int8")
        )
        found = measured(
            full, int8, given.heldout, given.humaneval,
            limit=given.limit, per_kind=given.per_kind, say=Console(stderr=True),
        )  # fmt: skip
        text = "\n".join([*comparison_table(found), "", f"Mode `{given.mode}`. {verdict(found)}"])
        if given.write:
            write_card(given.model / "README.md", text, MARK)
        sys.stdout.write(f"{text}\n")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
