"""`fim-server models …`: describe a checkpoint without loading it, or write it for a server."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from fim_server.commands.terminal import visible
from fim_server.commands.usage_error import UsageError

if TYPE_CHECKING:
    from fim_model.loading.gguf_export import Precision
    from fim_model.loading.inspection import ModelReport
    from fim_model.loading.llama_export import LlamaPrecision

DEFAULT_MODEL = "default"
"""Names the model that ships."""


def inspect(arguments: argparse.Namespace) -> int:
    """Print family, sizes, memory, modes and FIM layout, read from config and tensor headers."""
    try:
        from fim_model.loading.inspection import inspect_checkpoint

        if (model := arguments.model) == DEFAULT_MODEL:
            from fim_model.loading.checkpoint import default_checkpoint  # imports torch

            model = str(default_checkpoint())
    except ImportError as missing:
        raise UsageError(
            f"a local model needs the module {missing.name}: pip install 'fim-server[local]'"
        ) from missing
    try:
        report = inspect_checkpoint(model)
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    if arguments.json:
        sys.stdout.write(json.dumps(asdict(report)) + "\n")
    else:
        _show(report)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write a checkpoint as a GGUF file or as a Llama's folder, and say how it is served."""
    gguf = arguments.out.suffix == ".gguf"
    precision = arguments.dtype or ("f16" if gguf else "f32")
    if precision == ("bf16" if gguf else "q8_0"):
        what = "a GGUF file" if gguf else "a folder (only a name that ends in .gguf is a file)"
        raise UsageError(f"--dtype {precision}: {what} is not written so")
    try:
        from fim_model.loading.checkpoint import default_checkpoint
        from fim_model.loading.gguf_export import export_gguf
        from fim_model.loading.hub import resolve
        from fim_model.loading.llama_export import LlamaExport, export_llama
        from fim_model.loading.stored_tokenizer import read_tokenizer
    except ImportError as missing:
        raise UsageError(
            f"a local model needs the module {missing.name}: pip install 'fim-server[local]'"
        ) from missing
    from rich.console import Console
    from rich.progress import Progress

    shipped = arguments.model == DEFAULT_MODEL
    try:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("Writing the model", total=1.0)

            def told(what: str, share: float) -> None:
                bar.update(task, description=what, completed=share)

            folder = (
                default_checkpoint()
                if shipped
                else resolve(arguments.model, check=read_tokenizer, progress=told)
            )
            name = "fim-server default" if shipped else arguments.model.rstrip("/").split("/")[-1]
            written = (
                export_gguf(
                    folder, arguments.out, cast("Precision", precision), name=name, progress=told
                )
                if gguf
                else export_llama(
                    folder, arguments.out, cast("LlamaPrecision", precision), progress=told
                )
            )
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    if arguments.json:
        sys.stdout.write(json.dumps({**asdict(written), "path": str(written.path)}) + "\n")
        return 0
    if isinstance(written, LlamaExport):
        template = "fim-server-joined" if written.joined else "fim-server"
        serve = f"vllm serve {written.path} --served-model-name fim-server\n"
        serve += f'editors: "backend": "openai", "remoteTemplate": "{template}"'
    else:
        spm = " --spm-infill" if written.suffix_first else ""
        serve = f"llama-server -m {written.path}{spm}"
    size = f"{written.bytes / 2**20:.0f} MiB"
    sys.stdout.write(
        f"{written.path}: {written.tensors} tensors, {written.precision}, {size}\n"
        f"layout: {written.layout}\n"
        f"serve it: {serve}\n"
    )
    return 0


def _show(report: ModelReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=visible(report.name), show_header=False)
    verified = "" if report.fim_verified else " (unverified for this family)"
    memory = ", ".join(f"{dtype} {_gib(size)}" for dtype, size in report.weight_bytes.items())
    keys = ", ".join(f"{dtype} {size:,} bytes" for dtype, size in report.kv_bytes_per_token.items())
    rows = {
        "family": report.family,
        "published models": ", ".join(report.models),
        "tested on": report.tested,
        "parameters": f"{report.parameters:,}",
        "layers": f"{report.layers}, hidden size {report.hidden_size}",
        "heads": f"{report.heads} of {report.head_dim}, {report.key_value_heads} for keys",
        "window": f"{report.window:,} tokens"
        + (f", sliding {report.sliding_window:,}" if report.sliding_window else ""),
        "stored as": ", ".join(report.stored_dtypes) or "not known before the download",
        "weights": memory,
        "memory needed": ", ".join(f"{dtype} {_gib(n)}" for dtype, n in report.needed_bytes.items())
        + " with the keys of one document",
        "keys per token": keys,
        "modes": ", ".join(report.modes),
        "commit rule": report.commit_rule or "",
        "block size": str(report.block_size) if report.block_size else "none",
        "fill in the middle": f"{report.fim_layout}{verified}",
        "draft LoRA": "yes" if report.draft_lora else "no",
        "works": "; ".join(report.works),
        "does not": "; ".join(report.lacks),
        "note": report.note,
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, visible(value))
    Console(highlight=False, markup=False).print(table)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
