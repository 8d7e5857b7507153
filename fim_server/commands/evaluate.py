"""`fim-server eval …`: quality on a benchmark."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_server.backends.base import Unfit
from fim_server.commands.load_model import load_infiller
from fim_server.commands.usage_error import UsageError

if TYPE_CHECKING:
    from fim_training.evaluation.heldout_holes import Document

    from fim_server.edits.next_edit import Ask

BASELINE_SESSIONS = 40
"""Of each kind; search and replace costs nothing."""

LEAST_PRECISION = 95.0
MOST_UNASKED = 2.0
"""Percent of places where nothing is to be done for which something may be proposed."""


def humaneval_infilling(arguments: argparse.Namespace) -> int:
    """Pass@1 on HumanEval-Infilling, by the problems' own tests."""
    from fim_training.evaluation.humaneval_infilling import evaluate_model
    from rich.console import Console
    from rich.progress import Progress

    infiller = load_infiller(arguments.model, arguments.threads)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = {stage: bar.add_task(stage, total=None) for stage in ("fill", "grade")}
        try:
            figures = evaluate_model(
                infiller,
                arguments.data,
                model=arguments.model or "default",
                mode=arguments.mode,
                limit=arguments.limit,
                seed=arguments.seed,
                progress=lambda stage, done, total: bar.update(
                    tasks[stage], completed=done, total=total
                ),
            )
        except ValueError as unfit:
            raise UsageError(str(unfit)) from unfit
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        for name, value in figures.items():
            sys.stdout.write(f"{name:>20}  {value}\n")
    return 0


def edits(arguments: argparse.Namespace) -> int:
    """Next edits in sessions whose outcome is known, beside search and replace."""
    from fim_model.requests import Rewrite, RewriteRequest
    from fim_training.evaluation.heldout_holes import load_documents
    from rich.console import Console
    from rich.progress import Progress

    from fim_server.bench.next_edits import evaluate_edits, halves

    try:
        documents = load_documents(arguments.data)
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    folder = _folder_to_write(arguments)
    infiller = load_infiller(arguments.model, arguments.threads)
    if infiller.rewriter.way is None:
        raise UsageError("this model cannot rewrite; choose another one with --model")

    async def ask(request: RewriteRequest) -> Rewrite:
        try:
            return infiller.rewrite(request)
        except ValueError as unfit:
            raise Unfit(str(unfit)) from unfit

    calibration, report = halves(documents)
    drawn = {"per_kind": arguments.per_kind, "seed": arguments.seed}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sessions", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if arguments.sweep:
            figures = _sweep(calibration, ask, progress, arguments.min_gain, **drawn)
        else:
            least = arguments.min_gain
            figures = evaluate_edits(report, ask, least_gain=least, progress=progress, **drawn)
    setting = {
        "data": arguments.data.name,
        "projects": sorted({one.project for one in (calibration if arguments.sweep else report)}),
        "model": arguments.model or "default",
        "way": infiller.rewriter.way,
        "min_gain": arguments.min_gain,
        **drawn,
    }
    if folder is not None:
        _write(folder, figures["best"])
    if arguments.json:
        sys.stdout.write(json.dumps(setting | figures) + "\n")
        return 0
    for name, value in (setting | figures).items():
        if name == "curve":
            sys.stdout.writelines(f"{one}\n" for one in value)
        else:
            sys.stdout.write(f"{name:>12}  {value}\n")
    return 0


def _folder_to_write(arguments: argparse.Namespace) -> Path | None:
    """The checkpoint folder that keeps the priors, if that is asked for. Raises UsageError."""
    if not arguments.write:
        return None
    from fim_model.loading.checkpoint import default_checkpoint

    if not arguments.sweep:
        raise UsageError("--write keeps what --sweep finds; give both")
    folder = Path(arguments.model) if arguments.model else default_checkpoint()
    if not folder.is_dir():
        raise UsageError(f"{folder}: --write needs a checkpoint folder, not the name of a model")
    return folder


def _write(folder: Path, best: dict[str, Any] | None) -> None:
    """Keep the best priors in a checkpoint folder. Raises UsageError."""
    from fim_model.calibration.edit_priors import EditPriors

    if best is None:
        raise UsageError(
            f"no priors give {LEAST_PRECISION:.0f} % precision and less than {MOST_UNASKED:.0f} % "
            "where nothing is to be done, so nothing is written; try more sessions with --per-kind"
        )
    EditPriors(best["draft"], best["own"]).write(folder)


def _sweep(
    documents: Sequence[Document],
    ask: Ask,
    progress: Callable[[int, int], None],
    least_gain: float,
    **drawn: int,
) -> dict[str, Any]:
    """Figures of many priors, and the best: more precise than search and replace, and quiet where
    nothing is to be done."""
    from fim_server.bench.edit_priors_sweep import best
    from fim_server.bench.next_edits import baseline_precision, judged

    found = judged(documents, ask, progress=progress, **drawn)
    least = baseline_precision(documents, per_kind=BASELINE_SESSIONS, seed=drawn["seed"])
    curve = found.curve(least_gain)
    return {
        "auc_drafts": found.separation(drafted=True),
        "auc_own": found.separation(drafted=False),
        "search_and_replace_precision": least,
        "curve": curve,
        "best": best(curve, max(least, LEAST_PRECISION), MOST_UNASKED),
    }
