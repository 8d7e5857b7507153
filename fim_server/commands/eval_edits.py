"""`fim-server eval edits`: next edits in replayed commits or made-up sessions; fits their score."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_server.backends.base import Unfit
from fim_server.commands.load_model import load_infiller
from fim_server.commands.usage_error import UsageError

if TYPE_CHECKING:
    from fim_model.infiller import Infiller
    from fim_training.examples.hunk_sequences import HunkSequence
    from rich.progress import Progress

    from fim_server.edits.next_edit import Ask


def run(arguments: argparse.Namespace) -> int:
    """Print the figures, with --fit those of the weights that it finds; the exit code. Raises
    UsageError."""
    from rich.console import Console
    from rich.progress import Progress

    if arguments.write and not arguments.fit:
        raise UsageError("--write needs --fit, whose weights it writes")
    if arguments.with_model and not arguments.git:
        raise UsageError("--with-model needs --git; --data always asks the model")
    if arguments.fit and not arguments.git:
        raise UsageError("--fit needs --git CLONE…: sessions that were made up fit nothing")
    if arguments.misses and (not arguments.git or arguments.fit or arguments.with_model):
        raise UsageError("--misses needs --git, and goes with neither --fit nor --with-model")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        figures = _of_histories(arguments, bar) if arguments.git else _of_sessions(arguments, bar)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        _print(figures)
    return 0


def _of_histories(arguments: argparse.Namespace, bar: Progress) -> dict[str, Any]:
    """The figures of replayed commits. Raises UsageError."""
    import asyncio

    from fim_training.corpus.git_histories import GitHistory, GitHistoryError

    from fim_server.bench.commit_edits import replayed, without_model
    from fim_server.edits.next_edit import Gate
    from fim_server.syntax.interruptible import CPU_SECONDS

    setting: dict[str, Any] = {
        "histories": {},
        "seed": arguments.seed,
        "model": (arguments.model or "default") if arguments.with_model else "none",
        "min_gain": arguments.min_gain,
    }
    try:
        for clone in arguments.git:
            with GitHistory(clone) as history:
                licence = history.licence.licence
                setting["histories"][history.name] = {"head": history.head, "licence": licence}
        task = bar.add_task("commits", total=arguments.commits * len(arguments.git))

        def progress() -> None:
            bar.advance(task)

        sequences = _sequences(arguments.git, arguments.commits, arguments.seed)
        if arguments.misses:
            from fim_server.bench import missed_hunks

            least, seed = arguments.min_gain, arguments.seed
            found = missed_hunks.fates(sequences, least, seed=seed, progress=progress)
            return setting | missed_hunks.figures(found, arguments.misses, seed)
        ask: Ask = without_model
        if arguments.with_model:
            ask = _asking(load_infiller(arguments.model, arguments.threads))
        if arguments.fit:
            return setting | _fitted(arguments, setting, list(sequences), ask, progress)
        work = replayed(
            sequences,
            ask,
            Gate(arguments.min_gain),
            seed=arguments.seed,
            cpu_seconds=CPU_SECONDS,
            progress=progress,
        )
        return setting | asyncio.run(work)
    except GitHistoryError as unusable:
        raise UsageError(str(unusable)) from unusable


def _sequences(clones: Sequence[Path], count: int, seed: int) -> Iterator[HunkSequence]:
    from fim_training.corpus.git_histories import GitHistory
    from fim_training.examples.hunk_sequences import hunk_sequences

    for clone in clones:
        with GitHistory(clone) as history:
            yield from hunk_sequences(history, count, seed)


def _fitted(
    arguments: argparse.Namespace,
    setting: dict[str, Any],
    sequences: Sequence[HunkSequence],
    ask: Ask,
    progress: Callable[[], None],
) -> dict[str, Any]:
    """What a fit finds: with a model how much its judgement counts, else the weights of the score.
    With --write they are written. Raises UsageError."""
    from fim_server.bench import edit_score_fit
    from fim_server.edits.rules.score import WEIGHTS

    if not sequences:
        raise UsageError("none of these histories has a commit of several small hunks")
    if arguments.with_model:
        return _fitted_weight(arguments, sequences, ask, progress)
    found = edit_score_fit.observations(sequences, seed=arguments.seed, progress=progress)
    points = sum(len(sequence.hunks) - 1 for sequence in sequences)
    if len({each.moment[0] for each in found}) < 2:
        raise UsageError("--fit needs candidates of two projects, to check each with the other")
    ended = Counter(sequence.project for sequence in sequences)
    penalties, odds, losses = edit_score_fit.best_penalties(found)
    curve = edit_score_fit.curve(found, odds, points, len(sequences))
    figures = {
        "commits": len(sequences),
        "candidates": len(found),
        "curve": curve,
        "reliability": edit_score_fit.reliability(found, odds),
        "penalties": losses,
        "threshold": edit_score_fit.chosen(found, odds, ended, arguments.seed),
    }
    if arguments.write:
        fitted_on = {
            "histories": setting["histories"],
            "commits": arguments.commits,
            "seed": arguments.seed,
            "threshold": figures["threshold"],
            "penalties": penalties,
        }
        edit_score_fit.write(edit_score_fit.fit(found, penalties), WEIGHTS, fitted_on)
    return figures


def _fitted_weight(
    arguments: argparse.Namespace,
    sequences: Sequence[HunkSequence],
    ask: Ask,
    progress: Callable[[], None],
) -> dict[str, Any]:
    """How much a nat of the model's gain counts beside the score, and how well either tells right
    drafts from wrong ones. Raises UsageError."""
    import asyncio

    from fim_model.calibration.edit_priors import EditPriors
    from fim_model.loading.checkpoint import default_checkpoint

    from fim_server.bench.model_judgement import judged, weight_of

    folder = Path(arguments.model) if arguments.model else default_checkpoint()
    if arguments.write and not folder.is_dir():
        raise UsageError(f"{folder}: --write needs a checkpoint folder, not a model id")
    found = asyncio.run(judged(sequences, ask, seed=arguments.seed, progress=progress))
    figures = weight_of(found, arguments.min_gain)
    if arguments.write:
        EditPriors(figures["draft_weight"], figures["own_prior"]).write(folder)
    return figures


def _of_sessions(arguments: argparse.Namespace, bar: Progress) -> dict[str, Any]:
    """The figures of sessions made from held-out code. Raises UsageError."""
    from fim_training.evaluation.heldout_holes import load_documents

    from fim_server.bench.next_edits import evaluate_edits, reported

    try:
        documents = reported(load_documents(arguments.data))
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    infiller = load_infiller(arguments.model, arguments.threads)
    task = bar.add_task("sessions", total=None)

    def progress(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    drawn = {"per_kind": arguments.per_kind, "seed": arguments.seed}
    setting = {
        "data": arguments.data.name,
        "projects": sorted({document.project for document in documents}),
        "model": arguments.model or "default",
        "way": infiller.rewriter.way,
        "min_gain": arguments.min_gain,
        **drawn,
    }
    least = arguments.min_gain
    ask = _asking(infiller)
    return setting | evaluate_edits(documents, ask, min_gain=least, progress=progress, **drawn)


def _asking(infiller: Infiller) -> Ask:
    """Asks a model in this process. Raises UsageError for one that cannot rewrite."""
    from fim_model.requests import Rewrite, RewriteRequest

    if infiller.rewriter.way is None:
        raise UsageError("this model cannot rewrite; choose another one with --model")

    async def ask(request: RewriteRequest) -> Rewrite:
        try:
            return infiller.rewrite(request)
        except ValueError as unfit:
            raise Unfit(str(unfit)) from unfit

    return ask


def _print(figures: dict[str, Any], indent: str = "") -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            sys.stdout.write(f"{indent}{name}\n")
            _print(value, indent + "  ")
        elif isinstance(value, list):
            sys.stdout.write(f"{indent}{name}\n")
            text = "\n".join(map(str, value)).replace("\n", f"\n{indent}  ")
            sys.stdout.write(f"{indent}  {text}\n")
        else:
            sys.stdout.write(f"{indent}{name:<16} {value}\n")
