"""The process that tunes: what `fim-server tune` runs in the background."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fim_server.access.editor_rules import ExclusionsOfAll
from fim_server.access.exclusions import repository_of
from fim_server.backends.base import Unfit
from fim_server.backends.mode_choice import measured_choice
from fim_server.commands.tune_files import source_texts
from fim_server.settings.settings import Settings

if TYPE_CHECKING:
    from fim_model.infiller import Infiller
    from fim_model.requests import Rewrite, RewriteRequest
    from fim_training.examples.hunk_sequences import HunkSequence
    from fim_training.tuning.tuning_job import TuningJob
    from fim_training.tuning.verdict import Report
    from fim_training.tuning.workspace_data import WorkspaceData

NICENESS = 10
"""Of the process: everything else on the machine goes first."""


def work(job: TuningJob, settings: Settings, minutes: float, holes: int) -> Report | None:
    """Hold the job and run it to its end; None if it was paused or stopped.

    The job's state says how it ended. Raises filelock.Timeout if another process runs it,
    ValueError for a workspace or a model that cannot be tuned.
    """
    from fim_model.loading.checkpoint import default_checkpoint
    from fim_model.loading.hub import resolve
    from fim_training.tuning.tune_workspace import TuneOptions, tune
    from fim_training.tuning.tuning_job import JobState, JobStopped

    with job.held():
        state = job.state
        assert state is not None
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
        job.write(replace(state, pid=os.getpid(), problem="", report=None))
        try:
            base = resolve(settings.model or default_checkpoint())
            threads = settings.threads or max(1, (os.cpu_count() or 2) // 2)

            def load(adapters: Path) -> Infiller:
                from fim_model.infiller import Infiller

                choice = measured_choice(settings.model)
                return Infiller.load(base, threads=threads, auto=choice, adapters=adapters)

            return tune(
                job,
                lambda obey: _data(Path(state.workspace), settings, obey),
                TuneOptions(base, minutes, threads, holes_per_kind=holes),
                load,
                lambda infiller, adapter, commit: _found(infiller, adapter, commit, settings),
            )
        except JobStopped as asked:
            if asked.stop:
                job.drop_work()
            ended = job.state or JobState(state.workspace)
            job.write(replace(ended, phase="waiting" if asked.stop else "paused", pid=0))
            return None
        except Exception as wrong:
            ended = job.state or JobState(state.workspace)
            job.write(replace(ended, phase="failed", problem=str(wrong), pid=0))
            raise


def _data(root: Path, settings: Settings, obey: Callable[[], None]) -> WorkspaceData:
    """What may be read of a workspace and its history. Raises ValueError for too little.

    obey: called at each file and each commit; raises JobStopped where the job was asked to pause or
    to stop.
    """
    from fim_training.corpus.git_histories import GitHistory, GitHistoryError
    from fim_training.tuning.workspace_data import workspace_data

    exclusions = ExclusionsOfAll(root, settings.exclude, gitignore=settings.gitignore)
    texts = source_texts(root, exclusions, obey)
    top = repository_of(root)
    with contextlib.ExitStack() as opened:
        history = None
        if top is not None:
            with contextlib.suppress(GitHistoryError):
                history = opened.enter_context(GitHistory(top))
        prefix = "" if top is None or top == root else f"{root.relative_to(top).as_posix()}/"
        with contextlib.suppress(GitHistoryError):  # objects may be absent or damaged
            return workspace_data(texts, history, obey, prefix=prefix)
        return workspace_data(texts, None, obey, prefix=prefix)


def _found(
    infiller: Infiller, adapter: str, commit: HunkSequence, settings: Settings
) -> list[bool]:
    """Whether each coming hunk of a commit is proposed, as the server would, with an adapter."""
    from fim_server.bench.commit_edits import found_hunks
    from fim_server.edits.next_edit import Gate

    if infiller.rewriter.way is None:
        return []

    async def ask(request: RewriteRequest) -> Rewrite:
        try:
            return infiller.rewrite(replace(request, adapter=adapter))
        except ValueError as unfit:
            raise Unfit(str(unfit)) from unfit

    return asyncio.run(found_hunks(commit, ask, Gate(settings.min_edit_gain)))
