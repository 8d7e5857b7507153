"""`fim-server eval humaneval-infilling`: pass@1 by the problems' own tests."""

from __future__ import annotations

import argparse
import json
import sys

from fim_server.commands.load_model import load_infiller
from fim_server.commands.usage_error import UsageError


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print the figures; the exit code. Raises UsageError."""
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
