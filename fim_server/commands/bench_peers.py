"""`fim-server bench peers`: this engine and llama.cpp on the same weights, prompts and machine."""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path

from fim_server.commands.print_report import print_report
from fim_server.commands.usage_error import UsageError


def run(arguments: argparse.Namespace) -> int:
    """Export the model, measure both and print the report; the exit code. Raises UsageError."""
    from rich.console import Console
    from rich.progress import Progress

    from fim_server.bench.llama_cpp_side import MISSING, PACKAGE
    from fim_server.bench.machine import machine_description
    from fim_server.bench.peers import bench_peers
    from fim_server.bench.peers_report import chart

    if importlib.util.find_spec(PACKAGE) is None:
        raise UsageError(MISSING)
    if arguments.picture and not arguments.picture.parent.is_dir():
        raise UsageError(f"{arguments.picture}: there is no folder {arguments.picture.parent}")
    from fim_model.loading.checkpoint import default_checkpoint
    from fim_model.loading.gguf_export import export_gguf
    from fim_model.loading.headers import read_config
    from fim_model.prompt.window import WINDOW

    folder = Path(arguments.model) if arguments.model else default_checkpoint()
    with (
        tempfile.TemporaryDirectory() as place,
        Progress(console=Console(stderr=True), transient=True) as bar,
    ):
        task = bar.add_task("Writing GGUF", total=None)
        try:
            gguf = Path(place) / "model.gguf"
            # Both get token ids, so that llama.cpp need not cut text as the model's tokenizer does.
            export_gguf(folder, gguf, arguments.peer_dtype, any_words=True)
            report = bench_peers(
                arguments.model,
                gguf,
                # As much as our side keeps: a larger one would be counted in the peer's memory.
                context=min(read_config(folder).reach, WINDOW),
                threads=arguments.threads or machine_description().cores,
                samples=arguments.samples,
                peer_dtype=arguments.peer_dtype,
                weights=arguments.weights,
                progress=lambda done, total: bar.update(
                    task, description="holes", completed=done, total=total
                ),
            )
        except ValueError as unfit:
            raise UsageError(str(unfit)) from unfit
    if arguments.picture:
        arguments.picture.write_text(chart(report), encoding="utf-8")
    return print_report(report, as_json=arguments.json)
