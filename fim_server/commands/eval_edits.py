"""`fim-server eval edits`: next edits in sessions with a known outcome; fits their priors."""

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
"""Sessions of each kind for the search-and-replace baseline, which is cheap."""

MIN_PRECISION = 95.0
MAX_UNASKED = 2.0
"""Percentage of places without a due edit where a proposal is tolerated."""


def run(arguments: argparse.Namespace) -> int:
    """Print the figures, with --sweep those of many priors; the exit code. Raises UsageError."""
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
            figures = evaluate_edits(report, ask, min_gain=least, progress=progress, **drawn)
    documents_used = calibration if arguments.sweep else report
    setting = {
        "data": arguments.data.name,
        "projects": sorted({document.project for document in documents_used}),
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
            sys.stdout.writelines(f"{point}\n" for point in value)
        else:
            sys.stdout.write(f"{name:>12}  {value}\n")
    return 0


def _folder_to_write(arguments: argparse.Namespace) -> Path | None:
    """The checkpoint folder for `--write`, or None without it. Raises UsageError."""
    if not arguments.write:
        return None
    from fim_model.loading.checkpoint import default_checkpoint

    if not arguments.sweep:
        raise UsageError("--write needs --sweep, whose priors it writes")
    folder = Path(arguments.model) if arguments.model else default_checkpoint()
    if not folder.is_dir():
        raise UsageError(f"{folder}: --write needs a checkpoint folder, not a model id")
    return folder


def _write(folder: Path, best: dict[str, Any] | None) -> None:
    """Write the best priors to a checkpoint folder. Raises UsageError if there are none."""
    from fim_model.calibration.edit_priors import EditPriors

    if best is None:
        raise UsageError(
            f"no priors reach {MIN_PRECISION:.0f} % precision with fewer than {MAX_UNASKED:.0f} % "
            "unasked proposals, so nothing is written; try more sessions with --per-kind"
        )
    EditPriors(best["draft"], best["own"]).write(folder)


def _sweep(
    documents: Sequence[Document],
    ask: Ask,
    progress: Callable[[int, int], None],
    min_gain: float,
    **drawn: int,
) -> dict[str, Any]:
    """The figures of a grid of priors, and the best one: at least as precise as search and replace,
    with fewer than MAX_UNASKED percent of proposals where no edit is due."""
    from fim_server.bench.edit_priors_sweep import best
    from fim_server.bench.next_edits import baseline_precision, judged

    found = judged(documents, ask, progress=progress, **drawn)
    least = baseline_precision(documents, per_kind=BASELINE_SESSIONS, seed=drawn["seed"])
    curve = found.curve(min_gain)
    return {
        "auc_drafts": found.separation(drafted=True),
        "auc_own": found.separation(drafted=False),
        "search_and_replace_precision": least,
        "curve": curve,
        "best": best(curve, max(least, MIN_PRECISION), MAX_UNASKED),
    }
