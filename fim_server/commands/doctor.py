"""`fim-server doctor`: check the installation and name a fix for every problem."""

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

from fim_server.backends.mode_choice import choice_file, kept_choice
from fim_server.commands.doctor_adapters import adapters
from fim_server.commands.doctor_servers import engine, remote
from fim_server.commands.findings import Finding
from fim_server.commands.terminal import visible
from fim_server.completion.statistics import statistics_file
from fim_server.engine.paths import model_identity
from fim_server.log import log_file
from fim_server.settings.settings import Settings
from fim_server.settings.sources import SettingsSources, config_file
from fim_server.syntax.languages import LANGUAGES, parser_for

LOCAL_MODULES = ("torch", "safetensors", "tokenizers")
MIN_FREE_MIB = 1024


def run(arguments: argparse.Namespace) -> int:
    """Print all findings; the exit code is 1 if a check fails, else 0."""
    settings, problems = SettingsSources(Settings(), config_file()).resolve()
    findings = [*settings_findings(problems)]
    for check in CHECKS:
        findings += check(settings)
    failed = any(finding.verdict == "fail" for finding in findings)
    if arguments.json:
        answer = {"ok": not failed, "findings": [asdict(finding) for finding in findings]}
        sys.stdout.write(json.dumps(answer) + "\n")
        return int(failed)
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for finding in findings:
        line = Text(f"{finding.verdict:>4} ", colours[finding.verdict])
        text = visible(f"{finding.topic}: {finding.message}")
        console.print(line.append(text, "default"), soft_wrap=True)
        if finding.fix:
            console.print(Text(visible(f"       → {finding.fix}"), "default"), soft_wrap=True)
    return int(failed)


def settings_findings(problems: list[str]) -> Iterator[Finding]:
    file = config_file()
    for problem in problems:
        yield Finding("settings", "warn", problem, f"correct {file}")
    if not problems:
        state = "" if file.is_file() else " (does not exist; defaults apply)"
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
    lacking = [language.names[0] for language in LANGUAGES if parser_for(language) is None]
    if lacking:
        yield Finding(
            "syntax",
            "warn",
            f"no grammar for {', '.join(lacking)}: completions there cannot detect blocks",
            "reinstall fim-server with its dependencies",
        )
    else:
        yield Finding("syntax", "ok", f"grammars for {len(LANGUAGES)} languages")


PRODUCTS = {
    "bfloat16": "PyTorch, times bfloat16: no AVX-512 VNNI or AMX, and no ONNX Runtime whose "
    "integer products are exact here",
    "onednn": "integer products of PyTorch; ONNX Runtime, which is quicker, is missing or does not "
    "work: pip install --force-reinstall onnxruntime",
    "onnx": "integer products of ONNX Runtime",
}
"""By `fim_model.network.choice.byte_products`."""


def device(_settings: Settings) -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    code = (
        "import torch; from fim_model.network.choice import byte_products; "
        "print(torch.__version__, torch.get_num_threads(), byte_products(), "
        "torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as problem:
        yield Finding(
            "device",
            "fail",
            f"torch cannot be imported ({type(problem).__name__})",
            "pip install --force-reinstall 'fim-server[local]'",
        )
        return
    version, threads, products, name = [*done.stdout.strip().split(" ", 3), ""][:4]
    yield Finding("device", "ok", f"torch {version} on {name or f'the CPU, {threads} threads'}")
    if not name:
        yield Finding("products", "ok", f"8-bit weights run by {PRODUCTS[products]}")


def model(settings: Settings) -> Iterator[Finding]:
    """Check the checkpoint's config and files, without reading weights."""
    if find_spec("torch") is None:
        return
    from fim_model.loading.checkpoint import default_checkpoint

    identity = model_identity(settings.model)
    folder = default_checkpoint() if identity is None else Path(identity)
    config = folder / "config.json"
    if not is_folder(folder):
        what = "is not a folder" if settings.model else "is not installed"
        fix = "set model to a checkpoint folder, or unset it to use the bundled model"
        yield Finding("model", "fail" if not settings.model else "warn", f"{folder} {what}", fix)
        return
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        kind = str(values.get("model_type"))
    except (OSError, ValueError, AttributeError):
        fix = "set model to a checkpoint folder that has a config.json"
        yield Finding("model", "fail", f"{config} cannot be read", fix)
        return
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
    if not size:
        fix = "copy the checkpoint again"
        yield Finding("model", "fail", f"{folder} has no weights (*.safetensors)", fix)
        return
    yield Finding("model", "ok", f"{folder}: {kind}, {size:.0f} MiB")


def mode(settings: Settings) -> Iterator[Finding]:
    """What mode `auto` means, where it was measured."""
    if find_spec("torch") is None or not choice_file(settings.model).is_file():
        return
    if choice := kept_choice(settings.model):
        yield Finding("mode", "ok", f"auto is {choice.mode}, as bench modes has measured")
        return
    fix = "fim-server bench modes --data HumanEval-SingleLineInfilling.jsonl.gz"
    message = (
        "auto is adaptive: what bench modes has measured was with other weights, another "
        "processor or another torch"
    )
    yield Finding(
        "mode", "warn", message, fix + (f" --model {settings.model}" * bool(settings.model))
    )


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long
        return False


def memory(_settings: Settings) -> Iterator[Finding]:
    free = free_mib()
    if free is None:
        yield Finding("memory", "ok", "free memory is unknown on this system")
    elif free < MIN_FREE_MIB:
        fix = "close other programs, or use a smaller model"
        yield Finding("memory", "warn", f"only {free} MiB are free", fix)
    else:
        yield Finding("memory", "ok", f"{free} MiB are free")


def free_mib() -> int | None:
    """Memory available to a new process, in MiB; None where the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) // 1024 if found else None


def places(_settings: Settings) -> Iterator[Finding]:
    """Check that the folders of the log and the statistics are writable."""
    for topic, file in (("log", log_file()), ("statistics", statistics_file())):
        folder = next(parent for parent in file.parents if parent.exists())
        if os.access(folder, os.W_OK):
            yield Finding(topic, "ok", str(file))
        else:
            yield Finding(topic, "warn", f"{file} cannot be written", f"make {folder} writable")


def editors(_settings: Settings) -> Iterator[Finding]:
    program = shutil.which("fim-server")
    if program:
        yield Finding("command", "ok", program)
    else:
        # `uv tool` and pipx link their programs into one folder, which is what belongs on PATH.
        own, tools = Path(sys.executable).parent, Path.home() / ".local" / "bin"
        folder = tools if (tools / "fim-server").exists() else own
        fix = f"add {folder} to PATH, or give editors the full path"
        yield Finding("command", "warn", "fim-server is not on PATH: editors cannot start it", fix)
    for name, hint in _EDITORS:
        if found := shutil.which(name):
            yield Finding("editor", "ok", f"{found}: {hint}")


_EDITORS = (
    ("nvim", "0.12 or newer shows inline completions; see the README for the configuration"),
    ("code", "install the fim-server extension"),
    ("codium", "install the fim-server extension"),
)

CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    environment,
    device,
    model,
    mode,
    adapters,
    memory,
    engine,
    remote,
    places,
    editors,
)
