"""`fim-server eval …`: quality on a benchmark."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fim_server.backends.base import Unfit
from fim_server.commands.errors import UsageError
from fim_server.commands.model import load_infiller

if TYPE_CHECKING:
    from fim_model.evaluation.heldout_holes import Document

    from fim_server.edits.next_edit import Ask

BASELINE_SESSIONS = 40
"""Of each kind; search and replace costs nothing."""

MOST_AT_REST = 2.0
"""Percent of regions of correct code for which something may be proposed."""


def humaneval_infilling(arguments: argparse.Namespace) -> int:
    """Pass@1 on HumanEval-Infilling, by the problems' own tests."""
    from fim_model.evaluation.humaneval_infilling import evaluate_model
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
    from fim_model.evaluation.heldout_holes import load_documents
    from rich.console import Console
    from rich.progress import Progress

    from fim_server.backends.base import Rewrite, RewriteRequest
    from fim_server.backends.in_process import rewrite_of, rewrite_request
    from fim_server.edits.evaluation import evaluate_edits, halves

    try:
        documents = load_documents(arguments.data)
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    infiller = load_infiller(arguments.model, arguments.threads)
    if infiller.rewriter.way is None:
        raise UsageError("this model cannot rewrite; choose another one with --model")

    async def ask(request: RewriteRequest) -> Rewrite:
        try:
            return rewrite_of(infiller.rewrite(rewrite_request(request)))
        except ValueError as unfit:
            raise Unfit(str(unfit)) from unfit

    calibration, report = halves(documents)
    drawn = {"per_kind": arguments.per_kind, "seed": arguments.seed}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sessions", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if arguments.sweep:
            figures = _sweep(calibration, ask, progress, **drawn)
        else:
            least = arguments.min_gain
            figures = evaluate_edits(report, ask, least_gain=least, progress=progress, **drawn)
    setting = {
        "data": arguments.data.name,
        "projects": sorted({one.project for one in (calibration if arguments.sweep else report)}),
        "model": arguments.model or "default",
        "way": infiller.rewriter.way,
        **({} if arguments.sweep else {"min_gain": arguments.min_gain}),
        **drawn,
    }
    if arguments.json:
        sys.stdout.write(json.dumps(setting | figures) + "\n")
        return 0
    for name, value in (setting | figures).items():
        if name == "curve":
            sys.stdout.writelines(f"{one}\n" for one in value)
        else:
            sys.stdout.write(f"{name:>12}  {value}\n")
    return 0


def _sweep(
    documents: Sequence[Document], ask: Ask, progress: Callable[[int, int], None], **drawn: int
) -> dict[str, Any]:
    """Figures of many gates, and the best: more precise than search and replace, quiet at rest."""
    from fim_server.edits.evaluation import baseline_precision, judged
    from fim_server.edits.sweep import best

    found = judged(documents, ask, progress=progress, **drawn)
    least = baseline_precision(documents, per_kind=BASELINE_SESSIONS, seed=drawn["seed"])
    curve = found.curve()
    return {
        "auc_drafts": found.separation(drafted=True),
        "auc_own": found.separation(drafted=False),
        "search_and_replace_precision": least,
        "curve": curve,
        "best": best(curve, least, MOST_AT_REST),
    }
