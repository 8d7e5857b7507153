"""Score the checkpoints that a run keeps: `python -m fim_training.evaluation.curve --run FOLDER`.

Each checkpoint in `FOLDER/checkpoints` that has no line yet in `FOLDER/curve.jsonl` gets one: the
tokens it was trained on, HumanEval-Infilling on a spread sample, exact match on held-out projects.
Scoring never touches the run itself, so both may go on side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fim_model.errors import CheckpointError

from fim_training.evaluation import heldout, humaneval_infilling
from fim_training.evaluation.filler import model_filler
from fim_training.evaluation.heldout_holes import KINDS, draw_each, load_documents
from fim_training.evaluation.jsonl import EvaluationDataError

CURVE = "curve.jsonl"


def kept_checkpoints(run: Path) -> Iterator[tuple[int, Path]]:
    """Tokens in thousands and folder of every checkpoint that the run kept, the oldest first."""
    folders = (run / "checkpoints").glob("*k")
    named = ((folder.name.removesuffix("k"), folder) for folder in folders if folder.is_dir())
    yield from sorted((int(count), folder) for count, folder in named if count.isdecimal())


def scored(run: Path) -> set[int]:
    """The checkpoints that have a line already, by tokens in thousands."""
    path = run / CURVE
    if not path.exists():
        return set()
    lines = path.read_text(encoding="utf-8").splitlines()
    return {int(json.loads(line)["thousand_tokens"]) for line in lines if line.strip()}


def score(
    folder: Path,
    *,
    benchmark: Path | None,
    limit: int,
    held_out: Path | None,
    per_kind: int,
    threads: int | None,
) -> dict[str, Any]:
    """The figures of one checkpoint, greedy and autoregressive, the model alone."""
    from fim_model.infiller import Infiller

    infiller = Infiller.load(folder, threads=threads)
    found: dict[str, Any] = {}
    if benchmark is not None:
        report = humaneval_infilling.evaluate_model(
            infiller, benchmark, model=folder.name, mode="ar", limit=limit
        )
        found["single_line"] = {name: report[name] for name in ("n", "pass_at_1", "exact_match")}
    if held_out is not None:
        holes = draw_each(load_documents(held_out), KINDS, per_kind, seed=0)
        scores = heldout.evaluate(holes, model_filler(infiller, mode="ar"))
        found["held_out"] = {
            name: {"n": kind.n, "exact_match": kind.exact_match, "ended": kind.ended}
            for name, kind in scores.items()
        }
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Score what has no score yet. Exit code 2 where a file is missing or unfit."""
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.evaluation.curve", description=__doc__
    )
    parser.add_argument("--run", type=Path, required=True, help="a training run's folder")
    parser.add_argument("--benchmark", type=Path, help="HumanEval-SingleLineInfilling.jsonl.gz")
    parser.add_argument("--limit", type=int, default=100, help="tasks, spread over the benchmark")
    parser.add_argument("--held-out", type=Path, help="heldout.jsonl.gz of the corpus")
    parser.add_argument("--per-kind", type=int, default=50, help="held-out holes of each kind")
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = parser.parse_args(argv)
    if arguments.benchmark is None and arguments.held_out is None:
        parser.error("give --benchmark, --held-out, or both")
    done = scored(arguments.run)
    try:
        for count, folder in kept_checkpoints(arguments.run):
            if count in done:
                continue
            figures = score(
                folder,
                benchmark=arguments.benchmark,
                limit=arguments.limit,
                held_out=arguments.held_out,
                per_kind=arguments.per_kind,
                threads=arguments.threads,
            )
            line = json.dumps({"thousand_tokens": count, **figures})
            with (arguments.run / CURVE).open("a", encoding="utf-8") as lines:
                lines.write(line + "\n")
            sys.stdout.write(line + "\n")
    except (CheckpointError, EvaluationDataError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
