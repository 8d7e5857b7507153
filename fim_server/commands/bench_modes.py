"""`fim-server bench modes`: compare all modes on the same holes, and store the choice of `auto`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fim_server.commands.usage_error import UsageError


def run(arguments: argparse.Namespace) -> int:
    """Measure, store the choice of mode `auto`, and print; the exit code. Raises UsageError."""
    from fim_model.loading.checkpoint import default_checkpoint
    from fim_training.evaluation.humaneval_infilling import load_tasks, spread_sample
    from rich.console import Console
    from rich.progress import Progress

    from fim_server.backends.mode_choice import keep_choice
    from fim_server.bench.chart import Point, scatter
    from fim_server.bench.mode_comparison import bench_modes
    from fim_server.bench.transformers_filler import transformers_filler
    from fim_server.commands.load_model import load_infiller

    infiller = load_infiller(arguments.model, arguments.threads)
    folder = Path(arguments.model) if arguments.model else default_checkpoint()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("modes", total=None)
        try:
            tasks = spread_sample(load_tasks(arguments.data), arguments.limit)
            report = bench_modes(
                infiller,
                tasks,
                model=arguments.model or "default",
                data=arguments.data.name,
                compare=transformers_filler(infiller, folder),
                progress=lambda setting, done, total: bar.update(
                    task, description=setting, completed=done, total=total
                ),
            )
        except ValueError as unfit:
            raise UsageError(str(unfit)) from unfit
    chosen = next(result for result in report.results if result.name == report.chosen)
    assert chosen.choice is not None
    keep_choice(arguments.model, chosen.choice)
    if arguments.picture:
        points = [
            Point(
                result.p50_ms,
                result.pass_at_1,
                result.name,
                result.choice.mode if result.choice else result.name,
            )
            for result in report.results
        ]
        arguments.picture.write_text(
            scatter(
                points,
                title="Quality against latency, by mode",
                x="milliseconds a hole, p50, cold",
                y="HumanEval-Infilling pass@1, %",
            ),
            encoding="utf-8",
        )
    if arguments.json:
        sys.stdout.write(json.dumps(report.as_json()) + "\n")
    else:
        Console().print(report.as_table())
    return 0
