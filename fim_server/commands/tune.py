"""`fim-server tune`: adapt the model to a workspace, in the background, and keep what is better."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_server.access.exclusions import resolved
from fim_server.access.tuned_workspaces import adapter_name, adapters_folder
from fim_server.commands.terminal import print_error, visible
from fim_server.commands.usage_error import UsageError
from fim_server.commands.user_settings import settings_of

if TYPE_CHECKING:
    from fim_training.tuning.tuning_job import JobState, TuningJob

NEEDED = ("torch", "safetensors", "tokenizers", "filelock", "numpy")
LOG = "tune.log"
END_SECONDS = 120.0
"""How long to wait for a job that was asked to end: it finishes the step under way."""

POLL_SECONDS = 0.1

ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    # Otherwise page faults take up to half of the time of a training step.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
PHASES = {
    "waiting": "nothing runs",
    "reading": "reading the workspace",
    "before": "measuring the model as it is",
    "training": "training",
    "after": "measuring with what was learned",
    "earlier": "measuring the adapter in use",
    "paused": "paused",
    "failed": "failed",
    "done": "done",
}


def run(arguments: argparse.Namespace) -> int:
    """Start, show, pause, resume, stop or remove; the exit code. Raises UsageError."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(f"tuning needs {', '.join(missing)}: pip install 'fim-server[local]'")
    from fim_training.tuning.tuning_job import TuningJob

    root = resolved(arguments.folder)
    if not root.is_dir():
        raise UsageError(f"{arguments.folder}: not a folder; give the one that your editor opens")
    job = TuningJob(adapters_folder() / adapter_name(root))
    if arguments.action == "status":
        return _status(job, root, as_json=arguments.json)
    try:
        if arguments.action in ("pause", "stop"):
            code = _end(job, root, arguments.action)
        elif arguments.action == "remove":
            code = _remove(job, root)
        else:
            code = _start(job, root, arguments)
    except OSError as failed:  # such as a full disk
        raise UsageError(f"{job.folder}: {failed}") from failed
    return _status(job, root, as_json=True) or code if arguments.json else code


def _start(job: TuningJob, root: Path, arguments: argparse.Namespace) -> int:
    from filelock import Timeout

    settings = settings_of(model=arguments.model, threads=arguments.threads, backend="engine")
    try:
        with job.held():
            state = _prepared(job, root, settings.model or "", arguments)
    except Timeout:
        raise UsageError(f"{root}: is being tuned already; see fim-server tune --status") from None
    settings = replace(settings, model=state.model or None)
    if not arguments.foreground:
        return _start_in_background(job, root, arguments)
    from fim_server.commands.tune_work import work

    try:
        report = work(job, settings, 60 * state.hours, state.holes)
    except Timeout:
        raise UsageError(f"{root}: is being tuned already") from None
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    if report is None:
        print_error("fim-server tune: ended before it was done, as asked")
        return 0
    return 0 if arguments.json else _status(job, root, as_json=False)


def _prepared(job: TuningJob, root: Path, model: str, arguments: argparse.Namespace) -> JobState:
    """The state to begin or to go on with, written; the caller holds the job. Raises UsageError."""
    from fim_training.tuning.tuning_job import JobState

    state = job.state
    resumes = arguments.action == "resume"
    if resumes and (state is None or state.phase in ("done", "waiting")):
        raise UsageError(f"{root}: nothing is paused here; begin with fim-server tune")
    if state is None or (
        not resumes and (state.phase in ("done", "waiting") or state.model != model)
    ):
        job.drop_work()
        state = JobState(str(root), model, started=time.time())
    hours = arguments.hours or state.hours
    holes = arguments.holes or state.holes
    state = replace(state, workspace=str(root), hours=hours, holes=holes)
    job.write(state)
    return state


def _start_in_background(job: TuningJob, root: Path, arguments: argparse.Namespace) -> int:
    """Start a process that outlives this one."""
    command = [sys.executable, "-P", "-m", "fim_server", "tune", str(root), "--foreground"]
    if arguments.hours:
        command += ["--hours", str(arguments.hours)]
    if arguments.holes:
        command += ["--holes", str(arguments.holes)]
    if arguments.model:
        command += ["--model", arguments.model]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    if arguments.action == "resume":
        command += ["--resume"]
    log = os.open(job.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=job.folder,
            env={**os.environ, **ENVIRONMENT}, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)
    # Until it holds the job, a status would say that nothing runs.
    while not (job.running and (state := job.state) and state.pid == process.pid):
        if (code := process.poll()) is not None:
            if code == 0:
                break
            said = (job.folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
            last = said.splitlines()[-1] if said else "no output"
            raise UsageError(f"{root}: the job ended at once: {last.removeprefix('fim-server: ')}")
        time.sleep(POLL_SECONDS)
    print_error(
        f"fim-server tune: process {process.pid} tunes {root} in the background\n"
        "it reads what .gitignore, .fimignore and `exclude` in config.toml allow; what only your "
        "editor's settings exclude is unknown to it: put that into .fimignore\n"
        "fim-server tune --status shows how far it is; --pause, --resume and --stop steer it"
    )
    return 0


def _end(job: TuningJob, root: Path, what: Any) -> int:
    """Pause or stop the running job; a paused one is stopped as well."""
    if not job.running:
        state = job.state
        if what == "pause" or state is None or state.phase == "done":
            raise UsageError(f"{root}: is not being tuned")
        job.drop_work()
        job.write(replace(state, phase="waiting", problem="", pid=0))
        print_error(f"fim-server tune: {root}: stopped; nothing of the run is left")
        return 0
    job.ask(what)
    if not job.wait_until_ended(END_SECONDS):
        print_error(f"fim-server tune: {root}: asked to {what}; it ends after its current step")
        return 1
    if (ended := job.state) is not None and ended.phase in ("done", "failed"):
        print_error(f"fim-server tune: {root}: {PHASES[ended.phase]} before it could {what}")
        return 1
    done = "paused; go on with --resume" if what == "pause" else "stopped"
    print_error(f"fim-server tune: {root}: {done}")
    return 0


def _remove(job: TuningJob, root: Path) -> int:
    if job.running:
        job.ask("stop")
        if not job.wait_until_ended(END_SECONDS):
            raise UsageError(f"{root}: the job does not end; try again in a minute")
    had = job.has_adapter
    job.remove()
    if job.folder.exists():
        raise UsageError(f"{job.folder}: cannot be removed; remove it by hand")
    said = "the adapter is removed" if had else "there was no adapter; what was left is removed"
    print_error(f"fim-server tune: {root}: {said}")
    return 0


def _status(job: TuningJob, root: Path, *, as_json: bool) -> int:
    state, running = job.state, job.running
    if as_json:
        found = None if state is None else asdict(state)
        sys.stdout.write(
            json.dumps({"running": running, "adapter": job.has_adapter, "job": found}) + "\n"
        )
        return 0
    if state is None:
        said = "not tuned; begin with fim-server tune"
        if job.has_adapter:  # the state was lost
            said = "an adapter is in use; --remove removes it"
        sys.stdout.write(f"{visible(str(root))}: {said}\n")
        return 0
    lines = status_lines(state, running=running, has_adapter=job.has_adapter)
    sys.stdout.writelines(f"{visible(line)}\n" for line in lines)
    return 0


def status_lines(state: JobState, *, running: bool, has_adapter: bool) -> list[str]:
    """What to print of a job."""
    said = "starting" if running and state.phase == "waiting" else PHASES[state.phase]
    if not running and state.phase in ("reading", "before", "training", "after", "earlier"):
        said = f"ended while {said}; go on with fim-server tune"
    lines = [f"{state.workspace}: {said}"]
    if running and state.phase != "reading":
        left = f", about {_duration(state.seconds_left)} left" if state.seconds_left else ""
        lines[0] += f", {state.share:.0%}{left} (process {state.pid})"
    if state.problem:
        lines.append(f"  {state.problem}")
    if state.report is not None:
        try:
            lines += report_lines(state.report, state.trained)
        except (KeyError, TypeError, ValueError):
            lines.append("  the figures cannot be read")
    lines.append(f"  adapter: {'in use' if has_adapter else 'none'}")
    return lines


def report_lines(report: dict[str, Any], trained: float) -> list[str]:
    """The figures before and after, and what was decided."""
    before, after, earlier = report["before"], report["after"], report.get("earlier")
    rows = [
        ("exact one-line answers", "exact", report["holes"]),
        ("edit similarity", "similarity", report["holes"]),
        ("shown", "shown", report["holes"]),
        ("precision of what is shown", "shown_precision", report["holes"]),
        ("next edits found", "edit_recall", report["edits"]),
        ("exact in the standard library", "general_exact", report["general"]),
    ]
    states = [before, after, *([earlier] if earlier else [])]
    named = (
        "before, after and with the adapter in use until then" if earlier else "before and after"
    )
    lines = [f"  trained for {_duration(trained)}; {named}, in %, on held-out code:"]
    lines += [
        f"    {name:<30} {' '.join(f'{state[key]:6.1f}' for state in states)}   of {count}"
        for name, key, count in rows
        if count
    ]
    low, high = report["similarity"]
    lines.append(
        f"    chance of such a gain without one: {report['p_better']:.3f} (exact answers); "
        f"similarity {low:+.1f} to {high:+.1f} points"
    )
    lines.append(f"  {'kept' if report['kept'] else 'not kept'}: {report['why']}")
    return lines


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"
