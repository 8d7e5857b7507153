"""`fim-server bench modes`: compare the quality and speed of the decoding modes on this machine.

Every mode and setting fills the same holes of HumanEval-Infilling; quality (the problems' own
tests, exact match), tokens per forward and milliseconds come from the same fills. Mode `auto` then
uses the fastest setting whose quality matches autoregressive decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fim_server.bench.machine import Machine, machine_description

if TYPE_CHECKING:
    from fim_model.decoding.auto import ModeChoice
    from fim_model.infiller import Infiller
    from fim_training.evaluation.filler import Filler
    from fim_training.evaluation.humaneval_infilling import Task

Progress = Callable[[str, int, int], None]
"""Called as `progress(setting, done, total)`."""

TOLERANCE = 1.0
"""Percentage points by which a chosen setting may fall behind AR."""


@dataclass(frozen=True, slots=True)
class ModeResult:
    """Results of one setting: quality in percent, forwards, milliseconds per cold fill.

    `choice` is None for fillers that are only compared with.
    """

    name: str
    choice: ModeChoice | None
    n: int
    pass_at_1: float
    exact_match: float
    tokens_per_forward: float
    forwards_per_task: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class ModesReport:
    model: str
    data: str
    machine: Machine
    results: list[ModeResult]
    chosen: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_table(self) -> Table:
        columns = ("pass_at_1", "exact_match", "tokens_per_forward", "p50_ms", "p95_ms")
        table = Table("setting", *columns, title=f"{self.model} on {self.data}")
        for result in self.results:
            mark = " *" if result.name == self.chosen else ""
            figures = (f"{getattr(result, column):.2f}" for column in columns)
            table.add_row(result.name + mark, *figures)
        return table


def settings_to_try(block_size: int) -> dict[str, ModeChoice]:
    """The settings to compare, by name: every mode with its relevant options, `ar` first."""
    from fim_model.decoding.auto import ModeChoice

    found = {"ar": ModeChoice("ar")}
    for rule in ("confidence:0.9", "confidence:0.7", "factor:1", "entropy:0.1", "leftmost:1"):
        found[f"diffusion {rule}"] = ModeChoice("diffusion", rule=rule)
    for size in sorted({4, 8, block_size}):
        found[f"self_speculation block {size}"] = ModeChoice("self_speculation", block_size=size)
    for width in (12, 30, 72):
        found[f"quadratic width {width}"] = ModeChoice("quadratic_speculation", width_budget=width)
    found["lookup"] = ModeChoice("lookup")
    found["adaptive"] = ModeChoice("adaptive")
    found["native"] = ModeChoice("native")
    return found


def bench_modes(
    infiller: Infiller,
    tasks: Sequence[Task],
    *,
    model: str,
    data: str,
    compare: Filler | None = None,
    progress: Progress = lambda setting, done, total: None,
) -> ModesReport:
    """Fill and grade every task in every setting, then with `compare`, one fill at a time."""
    from fim_model.infiller import Infiller
    from fim_training.evaluation.filler import model_filler
    from fim_training.evaluation.humaneval_infilling import evaluate

    def measure(name: str, choice: ModeChoice | None, fill: Filler) -> ModeResult:
        fill(tasks[0].hole())  # warm-up

        def report(stage: str, done: int, total: int) -> None:
            progress(name, done + (total if stage == "grade" else 0), 2 * total)

        graded = evaluate(tasks, fill, progress=report)
        quality = (graded.n, graded.pass_at_1, graded.exact_match)
        return ModeResult(name, choice, *quality, **asdict(graded.cost))

    results = []
    tried = settings_to_try(infiller.model.config.block_size).items()
    for name, choice in [pair for pair in tried if pair[1].mode in infiller.modes]:
        variant = Infiller(infiller.model, infiller.tokenizer, choice.options())
        results.append(measure(name, choice, model_filler(variant, mode=choice.mode)))
    chosen = fastest_as_good(results)
    if compare:
        results.append(measure("transformers generate", None, compare))
    return ModesReport(model, data, machine_description(), results, chosen.name)


def fastest_as_good(results: Sequence[ModeResult]) -> ModeResult:
    """The fastest result within TOLERANCE of the first one in pass@1 and exact match: AR, or where
    the model has no AR the first commit rule."""
    ar = results[0]

    def as_good(result: ModeResult) -> bool:
        passes = result.pass_at_1 >= ar.pass_at_1 - TOLERANCE
        return passes and result.exact_match >= ar.exact_match - TOLERANCE

    return min(filter(as_good, results), key=lambda result: result.p50_ms)
