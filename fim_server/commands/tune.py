"""`fim-server tune`: adapt the model to a workspace, in the background, and keep what is better."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fim_server.commands.terminal import print_error, visible
from fim_server.commands.tune_target import TuneTarget, all_targets, target_of
from fim_server.commands.usage_error import UsageError
from fim_server.commands.user_settings import settings_of
from fim_server.engine.paths import model_identity

if TYPE_CHECKING:
    from fim_training.tuning.tuning_job import JobState, TuningJob

NEEDED = ("torch", "safetensors", "tokenizers", "filelock", "numpy")
NEEDED_TO_STEER = ("filelock",)
STARTS = ("start", "resume")
LOG = "tune.log"
END_SECONDS = 120.0
"""How long to wait for a job that was asked to end: it finishes the step under way."""

POLL_SECONDS = 0.1

WHAT_IS_READ = (
    "reads what .gitignore, .fimignore, `exclude` in config.toml and the settings of editors that "
    "have opened this folder allow; .fimignore excludes more"
)

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
    """Start, show, pause, resume, stop, remove or list; the exit code. Raises UsageError."""
    starts = arguments.action in STARTS
    needed = NEEDED if starts else NEEDED_TO_STEER
    if missing := [name for name in needed if find_spec(name) is None]:
        raise UsageError(f"tuning needs {', '.join(missing)}: pip install 'fim-server[local]'")
    if arguments.action == "list":
        return _list(all_targets(), as_json=arguments.json)
    target = target_of(arguments.folder, must_exist=starts)
    if arguments.action == "status":
        return _status(target, as_json=arguments.json)
    try:
        if arguments.action in ("pause", "stop"):
            code = _end(target, arguments.action)
        elif arguments.action == "remove":
            code = _remove(target)
        else:
            code = _start(target, arguments)
    except OSError as failed:  # such as a full disk
        raise UsageError(f"{target.job.folder}: {failed}") from failed
    return _status(target, as_json=True) or code if arguments.json else code


def _start(target: TuneTarget, arguments: argparse.Namespace) -> int:
    from filelock import Timeout

    job, root = target.job, target.workspace
    settings = settings_of(model=arguments.model, threads=arguments.threads, backend="engine")
    # The job runs in another folder, and may go on from a third one.
    model = model_identity(settings.model) or ""
    try:
        with job.held():
            state = _prepared(job, root, model, arguments)
    except Timeout:
        raise UsageError(f"{root}: is being tuned already; see fim-server tune --status") from None
    settings = replace(settings, model=state.model or None)
    print_error(f"fim-server tune: {root}: {WHAT_IS_READ}")
    if not arguments.foreground:
        return _start_in_background(job, state, arguments)
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
    return 0 if arguments.json else _status(target, as_json=False)


def _prepared(job: TuningJob, root: str, model: str, arguments: argparse.Namespace) -> JobState:
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
        state = JobState(root, model, started=time.time())
    hours = arguments.hours or state.hours
    holes = arguments.holes or state.holes
    state = replace(state, workspace=root, hours=hours, holes=holes)
    job.write(state)
    return state


def _start_in_background(job: TuningJob, begun: JobState, arguments: argparse.Namespace) -> int:
    """Start a process that outlives this one."""
    root = begun.workspace
    command = [sys.executable, "-P", "-m", "fim_server", "tune", root, "--foreground"]
    if arguments.hours:
        command += ["--hours", str(arguments.hours)]
    if arguments.holes:
        command += ["--holes", str(arguments.holes)]
    if begun.model:
        command += ["--model", begun.model]
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
        "fim-server tune --status shows how far it is; --pause, --resume and --stop steer it"
    )
    return 0


def _end(target: TuneTarget, what: Any) -> int:
    """Pause or stop the running job; a paused one is stopped as well. Raises UsageError."""
    job, label = target.job, target.label
    if not job.running:
        return _stop_at_rest(target, what)
    job.ask(what)
    if not job.wait_until_ended(END_SECONDS):
        print_error(f"fim-server tune: {label}: asked to {what}; it ends after its current step")
        return 1
    if (ended := job.state) is not None and ended.phase in ("done", "failed"):
        print_error(f"fim-server tune: {label}: {PHASES[ended.phase]} before it could {what}")
        return 1
    done = "paused; go on with --resume" if what == "pause" else "stopped"
    print_error(f"fim-server tune: {label}: {done}")
    return 0


def _stop_at_rest(target: TuneTarget, what: Any) -> int:
    """Drop what a job that does not run has left. Raises UsageError where there is none."""
    job, label = target.job, target.label
    if what == "pause" or job.state is None:
        raise UsageError(f"{label}: is not being tuned")
    with _held_at_rest(target):
        state = job.state
        if state is None or state.phase == "done":
            raise UsageError(f"{label}: is not being tuned")
        job.drop_work()
        job.write(replace(state, phase="waiting", problem="", pid=0))
    print_error(f"fim-server tune: {label}: stopped; nothing of the run is left")
    return 0


def _remove(target: TuneTarget) -> int:
    job = target.job
    if job.running:
        job.ask("stop")
        if not job.wait_until_ended(END_SECONDS):
            raise UsageError(f"{target.label}: the job does not end; try again in a minute")
    with _held_at_rest(target):
        had = job.has_adapter
        job.remove()
    if job.folder.exists():
        raise UsageError(f"{job.folder}: cannot be removed; remove it by hand")
    said = "the adapter is removed" if had else "there was no adapter; what was left is removed"
    print_error(f"fim-server tune: {target.label}: {said}")
    return 0


@contextlib.contextmanager
def _held_at_rest(target: TuneTarget) -> Iterator[None]:
    """While inside, no job of this workspace can start. Raises UsageError if one just did."""
    from filelock import Timeout

    held = contextlib.ExitStack()
    try:
        held.enter_context(target.job.held())
    except Timeout:
        raise UsageError(f"{target.label}: was started meanwhile; try again") from None
    with held:
        yield


def _list(targets: list[TuneTarget], *, as_json: bool) -> int:
    """Print each job's name, folder and state."""
    if as_json:
        found = [
            {
                "name": target.name, "workspace": target.workspace, "gone": target.is_gone,
                "running": target.job.running, "adapter": target.job.has_adapter,
            }
            for target in targets
        ]  # fmt: skip
        sys.stdout.write(json.dumps({"adapters": found}) + "\n")
        return 0
    if not targets:
        sys.stdout.write("nothing was tuned\n")
    for target in targets:
        said = ["adapter" if target.job.has_adapter else "no adapter"]
        said += ["a job is running"] if target.job.running else []
        said += [f"the folder is gone: {target.removal}"] if target.is_gone else []
        where = target.workspace or "of an unknown folder"
        sys.stdout.write(visible(f"{target.name}  {where}: {', '.join(said)}") + "\n")
    return 0


def _status(target: TuneTarget, *, as_json: bool) -> int:
    job = target.job
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
            said = "there is an adapter; --remove removes it"
        sys.stdout.write(f"{visible(target.label)}: {said}\n")
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
    kept = "kept; fim-server doctor says whether it is used" if has_adapter else "none"
    lines.append(f"  adapter: {kept}")
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
