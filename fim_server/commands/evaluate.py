"""`fim-server eval …`: quality on a benchmark."""

from __future__ import annotations

import argparse
import json
import sys

from fim_server.backends.base import Unfit
from fim_server.commands.errors import UsageError
from fim_server.commands.model import load_infiller


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
    from fim_server.edits.evaluation import evaluate_edits

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

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sessions", total=None)
        figures = evaluate_edits(
            documents,
            ask,
            least_gain=arguments.min_gain,
            per_kind=arguments.per_kind,
            seed=arguments.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    setting = {
        "data": arguments.data.name,
        "model": arguments.model or "default",
        "way": infiller.rewriter.way,
        "min_gain": arguments.min_gain,
        "per_kind": arguments.per_kind,
        "seed": arguments.seed,
    }
    if arguments.json:
        sys.stdout.write(json.dumps(setting | figures) + "\n")
        return 0
    for name, value in (setting | figures).items():
        sys.stdout.write(f"{name:>12}  {value}\n")
    return 0
