"""HumanEval-Infilling: fill the holes of known functions, grade with the problems' own tests.

Source: Bavarian et al., "Efficient Training of Language Models to Fill in the Middle", 2022
(arXiv 2207.14255); data https://github.com/openai/human-eval-infilling (MIT).

A SingleLine hole is one whole line: the answer may be one line (`max_lines=1`) and the newline that
ends it is added by the grader if the fill lacks it. A MultiLine hole is whole lines too, without
the line limit. A RandomSpan hole is characters: its fill is taken exactly as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_model.copies import copies

from fim_training.evaluation.figures import Cost, cost_of, percentage, same_text
from fim_training.evaluation.filler import Fill, Filler, Hole, Mode, model_filler
from fim_training.evaluation.jsonl import read_text_fields
from fim_training.evaluation.sandbox import Limits, Verdict, run_program

if TYPE_CHECKING:
    from fim_model.infiller import Infiller

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`, stage "fill" then "grade"."""

_FIELDS = ("task_id", "entry_point", "prompt", "suffix", "canonical_solution", "test")
_ONE_LINE_TOKENS = 64
_MANY_LINES_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Task:
    """One hole: `prompt + canonical_solution + suffix` is a function that passes `test`."""

    task_id: str
    entry_point: str
    prompt: str
    suffix: str
    canonical_solution: str
    test: str

    @property
    def one_line(self) -> bool:
        return self.task_id.startswith("SingleLineInfilling/")

    @property
    def whole_lines(self) -> bool:
        return self.one_line or self.task_id.startswith("MultiLineInfilling/")

    def hole(self) -> Hole:
        """The hole as a filler sees it."""
        return Hole(
            prefix=self.prompt,
            suffix=self.suffix,
            path=f"{self.entry_point}.py",
            max_tokens=_ONE_LINE_TOKENS if self.one_line else _MANY_LINES_TOKENS,
            max_lines=1 if self.one_line else None,
            copies=tuple(copies(self.prompt, self.suffix)) if self.one_line else (),
        )

    def completed(self, text: str) -> str:
        """`text` as it goes into the hole: whole lines end with a newline."""
        return text + "\n" if self.whole_lines and not text.endswith("\n") else text

    def matches(self, text: str) -> bool:
        """Whether `text` is the canonical solution; in whole lines, up to trailing white space."""
        if self.whole_lines:
            return same_text(text, self.canonical_solution)
        return text == self.canonical_solution

    def program(self, text: str) -> str:
        """The program that ends without an exception only if the tests pass."""
        body = self.prompt + self.completed(text) + self.suffix
        return f"{body}\n{self.test}\ncheck({self.entry_point})\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """One graded fill."""

    task: Task
    fill: Fill
    verdict: Verdict

    @property
    def exact(self) -> bool:
        return self.task.matches(self.fill.text)


@dataclass(frozen=True, slots=True)
class Report:
    """`pass_at_1` and `exact_match` are percentages (0..100) of `n` tasks, one fill for each."""

    n: int
    pass_at_1: float
    exact_match: float
    cost: Cost
    answers: list[Answer]

    def as_json(self) -> dict[str, Any]:
        """The figures without the answers."""
        shares = {"n": self.n, "pass_at_1": self.pass_at_1, "exact_match": self.exact_match}
        return shares | asdict(self.cost)


def load_tasks(path: Path) -> list[Task]:
    """Every task of the file, in its order. Raises EvaluationDataError."""
    return [Task(**fields) for fields in read_text_fields(path, _FIELDS)]


def spread_sample(tasks: Sequence[Task], limit: int | None) -> list[Task]:
    """`limit` tasks spread evenly over the file, in its order: the same ones for the same limit.

    Neighbouring tasks are holes of one function, so the first N would be a few functions only.
    Raises ValueError for a limit under 1.
    """
    if limit is None or limit >= len(tasks):
        return list(tasks)
    if limit < 1:
        raise ValueError(f"limit {limit}: at least one task is needed; leave it out for all")
    return [tasks[(2 * i + 1) * len(tasks) // (2 * limit)] for i in range(limit)]


def evaluate(
    tasks: Sequence[Task],
    fill: Filler,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Report:
    """Fill every task once, then run every program in the sandbox.

    Grading starts after the last fill, so that the milliseconds are those of the filler alone.
    """
    report_to = progress or (lambda stage, done, total: None)
    fills = []
    for done, task in enumerate(tasks, start=1):
        fills.append(fill(task.hole()))
        report_to("fill", done, len(tasks))
    answers = []
    programs = [task.program(fill.text) for task, fill in zip(tasks, fills, strict=True)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        verdicts = pool.map(lambda source: run_program(source, limits), programs)
        for task, one, verdict in zip(tasks, fills, verdicts, strict=True):
            answers.append(Answer(task, one, verdict))
            report_to("grade", len(answers), len(tasks))
    return _report(answers)


def evaluate_model(
    infiller: Infiller,
    data: Path,
    *,
    model: str,
    mode: Mode = "self_speculation",
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The JSON object of `fim-server eval humaneval-infilling`; greedy, `model` is its name.

    Raises EvaluationDataError for the data file and ValueError for the limit.
    """
    tasks = spread_sample(load_tasks(data), limit)
    report = evaluate(tasks, model_filler(infiller, mode=mode, seed=seed), progress=progress)
    return report.as_json() | {"mode": mode, "model": model, "seed": seed, "data": data.name}


def _report(answers: list[Answer]) -> Report:
    return Report(
        n=len(answers),
        pass_at_1=percentage(sum(answer.verdict.passed for answer in answers), len(answers)),
        exact_match=percentage(sum(answer.exact for answer in answers), len(answers)),
        cost=cost_of([answer.fill for answer in answers]),
        answers=answers,
    )
