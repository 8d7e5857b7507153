"""What was learned from workspaces: whether each is there still, and used with the model in use."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from fim_server.commands.findings import Finding
from fim_server.commands.tune_target import TuneTarget, all_targets
from fim_server.commands.user_settings import REMOTE
from fim_server.engine.paths import model_identity
from fim_server.settings.settings import Settings


def adapters(settings: Settings) -> Iterator[Finding]:
    """Each adapter, read as the engine reads it."""
    if find_spec("filelock") is None:
        return
    targets = all_targets()
    for target in targets:
        if target.is_gone:
            message = f"{target.label}: the folder is gone; what was learned from it is kept"
            yield Finding("adapters", "warn", message, target.removal)
    tuned = [target for target in targets if target.job.has_adapter and not target.is_gone]
    if not tuned or find_spec("torch") is None:
        return
    if unused := _why_unused(settings):
        yield Finding("adapters", "ok", f"{len(tuned)}, not used: {unused}")
        return
    yield from _checked(tuned, settings)


def _why_unused(settings: Settings) -> str:
    """Why the settings use no adapter, "" if they do."""
    if not settings.adapter:
        return "the setting adapter is false"
    if settings.backend in REMOTE:
        return f"the backend {settings.backend!r} runs no model on this machine"
    return ""


def _checked(tuned: list[TuneTarget], settings: Settings) -> Iterator[Finding]:
    from fim_model.errors import CheckpointError
    from fim_model.loading.adapters import base_digest, base_of, read_adapter
    from fim_model.loading.checkpoint import check_weights

    try:
        base = _checkpoint(settings.model)
        if base is None:
            message = f"{len(tuned)}; whether they are for {settings.model} shows once it is loaded"
            yield Finding("adapters", "ok", message)
            return
        config, digest = check_weights(base), base_digest(base)
    except (CheckpointError, OSError):  # the check of the model says more
        message = f"{len(tuned)}; whether they are for the model cannot be told: it cannot be read"
        yield Finding("adapters", "warn", message, "see the finding about the model")
        return
    for target in tuned:
        if base_of(target.job.folder) != digest:
            yield _unfit(target, "tuned for another model")
            continue
        try:
            read_adapter(target.job.folder, config, digest)
        except (CheckpointError, OSError) as damaged:
            yield _unfit(target, f"damaged ({damaged})")
        else:
            yield Finding("adapters", "ok", f"{target.label}: tuned")


def _unfit(target: TuneTarget, why: str) -> Finding:
    again = f"fim-server tune {shlex.quote(target.workspace)}, or " if target.workspace else ""
    message = f"{target.label}: {why}, so its adapter is not used"
    return Finding("adapters", "warn", message, again + target.removal)


def _checkpoint(model: str | None) -> Path | None:
    """Where the model's files are; None for one that was not downloaded."""
    from fim_model.loading.checkpoint import default_checkpoint
    from fim_model.loading.hub import HubError, on_this_machine

    identity = model_identity(model)
    if identity is None:
        return default_checkpoint()
    try:
        return on_this_machine(identity)
    except HubError:  # neither a checkpoint nor an id: doctor says so elsewhere
        return None
