"""`fim-server eval gate`: calibrates a checkpoint on held-out holes, and measures the gate.

First the model's answers are collected (`--answers` keeps them), then all is fitted on them: the
confidence that the model's tokens give, and the weights of what the front-end knows.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_server.commands.load_model import load_infiller
from fim_server.commands.usage_error import UsageError

if TYPE_CHECKING:
    from fim_model.infiller import Infiller
    from fim_training.evaluation.heldout_answers import Answers
    from fim_training.evaluation.heldout_holes import HeldoutHole


def run(arguments: argparse.Namespace) -> int:
    """Print the figures; the exit code. Raises UsageError."""
    from fim_model.loading.checkpoint import default_checkpoint
    from fim_training.shipping.calibrate import calibrate, outcomes

    from fim_server.bench.gate_fit import calibrated, case_of

    folder = Path(arguments.model) if arguments.model else default_checkpoint()
    try:
        asked = _asked(arguments, folder)
        projects: dict[str, list[Any]] = {}
        for hole, answers in asked:
            own = projects.setdefault(hole.document.project, [])
            own.append(outcomes(answers, hole.answer))
        calibration, figures = calibrate(projects)
        gate, gated = calibrated([case_of(hole, answers) for hole, answers in asked])
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
    if arguments.write:
        replace(calibration, gate=gate).write(folder)
    report = {"model": str(folder), "mode": arguments.mode, "confidence": figures, "gate": gated}
    if arguments.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print(report)
    return 0


def _asked(arguments: argparse.Namespace, folder: Path) -> list[tuple[HeldoutHole, Answers]]:
    """Every hole with the model's answers. Raises ValueError and UsageError."""
    from fim_training.evaluation.heldout_answers import AnswerFile, ask, checkpoint_digest, collect
    from fim_training.evaluation.heldout_holes import ONE_LINE_KINDS, draw_each, load_documents
    from fim_training.shipping.calibrate import UNDECIDED
    from rich.console import Console
    from rich.progress import Progress

    from fim_server.bench.gate_fit import first_breaks
    from fim_server.completion.completer import BEAM

    holes = draw_each(
        load_documents(arguments.data), ONE_LINE_KINDS, arguments.per_kind, arguments.seed
    )
    file = AnswerFile(arguments.answers, checkpoint_digest(folder), arguments.mode)
    loaded: list[Infiller] = []

    def ask_model(hole: HeldoutHole, alternatives: int) -> Answers:
        if not loaded:  # What the checkpoint was calibrated with must not influence the answers.
            loaded.append(load_infiller(str(folder), arguments.threads, UNDECIDED))
        return ask(loaded[0], hole, arguments.mode, alternatives)

    def alternatives(hole: HeldoutHole, answers: Answers) -> int:
        return BEAM if first_breaks(hole, answers) else 1

    with Progress(console=Console(stderr=True), transient=True) as bar:
        found = collect(holes, file, ask_model, alternatives)
        return list(bar.track(found, total=len(holes), description="holes"))


def _print(report: dict[str, Any]) -> None:
    """The figures as tables."""
    from rich.console import Console
    from rich.table import Table

    from fim_server.bench.gate_fit import COVERAGES

    gate, console = report["gate"], Console()
    confidence = report["confidence"]
    console.print(
        f"{gate['n']} one-line holes of {len(gate['projects'])} projects; exactly right: the model "
        f"alone {confidence['accepted_written']} %, with copies {confidence['accepted']} %"
    )
    ways = gate["ways"]
    table = Table("decided by", *ways)
    table.add_row(
        "coverage at a precision of 60 %",
        *(f"{figures['coverage_at_precision']} %" for figures in ways.values()),
    )
    intervals = (figures["interval"] for figures in ways.values())
    table.add_row("  95 % interval", *(f"{low} to {high}" for low, high in intervals))
    for share in COVERAGES:
        at = (figures["precision_at"][share] for figures in ways.values())
        table.add_row(f"precision of the surest {share} %", *(f"{figure} %" for figure in at))
    unasked = [figures["threshold_of_others"] for figures in ways.values()]
    table.add_row("by other projects' threshold:")
    table.add_row("  precision", *(f"{figures['precision']} %" for figures in unasked))
    table.add_row("  coverage", *(f"{figures['coverage']} %" for figures in unasked))
    console.print(table)
    groups = Table("coverage at a precision of 60 %", "n", *ways)
    for name, found in gate["groups"].items():
        groups.add_row(name, *(str(figure) for figure in found.values()))
    console.print(groups)
    more = gate["gain"]
    console.print(
        f"the gate covers {more['low']} to {more['high']} points more than the model alone (95 % "
        f"interval over projects); in {gate['broken']} holes the likeliest text would not parse"
    )
