"""`fim-server doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from fim_server.commands.doctor_servers import engine, remote
from fim_server.commands.findings import Finding
from fim_server.completion.statistics import statistics_file
from fim_server.log import log_file
from fim_server.settings.settings import Settings
from fim_server.settings.sources import SettingsSources, config_file
from fim_server.syntax.languages import LANGUAGES, parser_for

LOCAL_MODULES = ("torch", "safetensors", "tokenizers")
LEAST_FREE_MIB = 1024


def run(arguments: argparse.Namespace) -> int:
    """1 if anything fails, else 0."""
    settings, problems = SettingsSources(Settings(), config_file()).resolve()
    findings = [*settings_findings(problems)]
    for check in CHECKS:
        findings += check(settings)
    failed = any(one.verdict == "fail" for one in findings)
    if arguments.json:
        answer = {"ok": not failed, "findings": [asdict(one) for one in findings]}
        sys.stdout.write(json.dumps(answer) + "\n")
        return int(failed)
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for one in findings:
        line = Text(f"{one.verdict:>4} ", colours[one.verdict])
        console.print(line.append(f"{one.topic}: {one.message}", "default"), soft_wrap=True)
        if one.fix:
            console.print(Text(f"       → {one.fix}", "default"), soft_wrap=True)
    return int(failed)


def settings_findings(problems: list[str]) -> Iterator[Finding]:
    file = config_file()
    for problem in problems:
        yield Finding("settings", "warn", problem, f"correct {file}")
    if not problems:
        state = "" if file.is_file() else " (there is none, the defaults hold)"
        yield Finding("settings", "ok", f"{file}{state}")


def environment(_settings: Settings) -> Iterator[Finding]:
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("environment", "ok", f"fim-server {metadata.version('fim-server')}, {python}")
    missing = [name for name in LOCAL_MODULES if find_spec(name) is None]
    if missing:
        yield Finding(
            "environment",
            "fail",
            f"a local model needs {', '.join(missing)}",
            "pip install 'fim-server[local]'",
        )
    lacking = [one.names[0] for one in LANGUAGES if parser_for(one) is None]
    if lacking:
        yield Finding(
            "syntax",
            "warn",
            f"no grammar for {', '.join(lacking)}: answers there do not know blocks",
            "reinstall fim-server with its dependencies",
        )
    else:
        yield Finding("syntax", "ok", f"grammars for {len(LANGUAGES)} languages")


def device(_settings: Settings) -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    code = (
        "import torch; print(torch.__version__, torch.get_num_threads(), "
        "torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        )
    except (subprocess.SubprocessError, OSError) as problem:
        yield Finding(
            "device",
            "fail",
            f"torch cannot be imported ({type(problem).__name__})",
            "pip install --force-reinstall 'fim-server[local]'",
        )
        return
    version, threads, name = [*done.stdout.strip().split(" ", 2), ""][:3]
    yield Finding("device", "ok", f"torch {version} on {name or f'the CPU, {threads} threads'}")


def model(settings: Settings) -> Iterator[Finding]:
    """The checkpoint's own description is read, not its weights."""
    if find_spec("torch") is None:
        return
    from fim_model.loading.checkpoint import default_checkpoint

    folder = Path(settings.model).expanduser() if settings.model else default_checkpoint()
    config = folder / "config.json"
    if not folder.is_dir():
        what = "is no folder here" if settings.model else "is not installed"
        fix = "set model to a checkpoint's folder, or leave it out for the model that ships"
        yield Finding("model", "fail" if not settings.model else "warn", f"{folder} {what}", fix)
        return
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        kind = str(values.get("model_type"))
    except (OSError, ValueError, AttributeError):
        fix = "set model to a checkpoint's folder, with config.json"
        yield Finding("model", "fail", f"{config} cannot be read", fix)
        return
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
    if not size:
        fix = "copy the checkpoint again"
        yield Finding("model", "fail", f"{folder} has no weights (*.safetensors)", fix)
        return
    yield Finding("model", "ok", f"{folder}: {kind}, {size:.0f} MiB")


def memory(_settings: Settings) -> Iterator[Finding]:
    free = free_mib()
    if free is None:
        yield Finding("memory", "ok", "the system does not say how much is free")
    elif free < LEAST_FREE_MIB:
        fix = "close something, or take a smaller model"
        yield Finding("memory", "warn", f"only {free} MiB are free", fix)
    else:
        yield Finding("memory", "ok", f"{free} MiB are free")


def free_mib() -> int | None:
    """Memory that a new process can have, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) // 1024 if found else None


def places(_settings: Settings) -> Iterator[Finding]:
    """Folders that are written to: the log and the counts."""
    for topic, file in (("log", log_file()), ("statistics", statistics_file())):
        folder = next(one for one in file.parents if one.exists())
        if os.access(folder, os.W_OK):
            yield Finding(topic, "ok", str(file))
        else:
            yield Finding(topic, "warn", f"{file} cannot be written", f"make {folder} writable")


def editors(_settings: Settings) -> Iterator[Finding]:
    program = shutil.which("fim-server")
    if program:
        yield Finding("command", "ok", program)
    else:
        fix = f"add {Path(sys.executable).parent} to PATH, or give editors the full path"
        yield Finding("command", "warn", "fim-server is not on PATH: editors cannot start it", fix)
    for name, hint in _EDITORS:
        if found := shutil.which(name):
            yield Finding("editor", "ok", f"{found}: {hint}")


_EDITORS = (
    ("nvim", "0.12 or newer shows inline completions: vim.lsp.enable, then inline_completion"),
    ("code", "install the fim-server extension"),
    ("codium", "install the fim-server extension"),
)

CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    environment,
    device,
    model,
    memory,
    engine,
    remote,
    places,
    editors,
)
