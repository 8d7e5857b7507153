"""The scores of a model card, measured and written by one command.

    python -m fim_training.shipping.card --model FOLDER --heldout heldout.jsonl.gz \
        --humaneval SINGLE_LINE.jsonl.gz --humaneval RANDOM_SPAN.jsonl.gz --write

Without `--write` the Markdown goes to stdout; with it, it takes the place of what stands between
the two marks in the folder's README.md. Figures go to stderr as they are measured. `--modes`
chooses the modes for HumanEval's holes. `--beside NAME=FOLDER` scores another checkpoint on the
same holes: one trained for next tokens alone, or an earlier one. What 8-bit weights cost is
`fim_training.shipping.weights`' to say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fim_model.infiller import Infiller
from rich.console import Console

from fim_training.corpus.corpus_languages import LANGUAGES, PYTHON, language_of
from fim_training.evaluation.figures import same_text
from fim_training.evaluation.filler import Filler, model_filler
from fim_training.evaluation.heldout import GROUPS, Score, evaluate
from fim_training.evaluation.heldout_holes import (
    KINDS,
    ONE_LINE_KINDS,
    Document,
    HeldoutHole,
    Window,
    draw_each,
    load_documents,
)
from fim_training.evaluation.humaneval_infilling import Report, load_tasks, spread_sample
from fim_training.evaluation.humaneval_infilling import evaluate as run_tests

MARK = "scores"

MODES = ("ar", "lookup", "adaptive", "self_speculation", "quadratic_speculation", "diffusion")
FAILURES = 10
COPIES = "with copies from the file and its folder, as the server does in one line"


def humaneval_table(reports: Sequence[tuple[str, str, Report]]) -> list[str]:
    """A row for each (file, mode, report)."""
    rows = [
        "| holes | mode | pass@1 % | exact % | tokens per forward | forwards a hole |",
        "|---|---|---|---|---|---|",
    ]
    for data, mode, report in reports:
        figures = (report.pass_at_1, report.exact_match)
        cells = [f"{data} ({report.n})", mode, *(f"{value:.1f}" for value in figures)]
        cells += [f"{report.cost.tokens_per_forward:.2f}", f"{report.cost.forwards_per_task:.1f}"]
        rows.append(table_row(cells))
    return rows


def heldout_table(scores: dict[str, Score]) -> list[str]:
    """A row for each kind of hole and group of kinds; the baselines see the whole file."""
    rows = [
        "| hole | n | exact % | edit similarity | ended by itself % | previous line, exact % "
        "| better neighbour line % | n-gram copy % | right where the n-gram copy is not % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in (*KINDS, *GROUPS):
        score = scores[name]
        copies = [score.baselines[key] for key in ("previous_line", "neighbouring_lines")]
        ngram = score.baselines["ngram_copy"]
        figures = [score.exact_match, score.edit_similarity, score.ended]
        figures += [copy.exact_match for copy in (*copies, ngram)] + [ngram.only_model]
        label = f"**{name.replace('_', ' ')}**" if name in GROUPS else name.replace("_", " ")
        rows.append(table_row([label, str(score.n), *(f"{value:.1f}" for value in figures)]))
    return rows


def language_table(documents: Sequence[Document], fill: Filler, per_kind: int) -> list[str]:
    """A row for each language but Python with enough one-line holes, the largest first."""
    rows = [
        "| language | projects | n | exact % | edit similarity | ended by itself % "
        "| n-gram copy % |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {name: of_language(documents, name) for name in LANGUAGES if name != PYTHON.name}
    for name, own in sorted(found.items(), key=lambda language: -len(language[1])):
        try:
            holes = draw_each(own, ONE_LINE_KINDS, per_kind, 0)
        except ValueError:
            continue  # too few held-out files
        score = evaluate(holes, fill)["one_line"]
        figures = (score.exact_match, score.edit_similarity, score.ended,
                   score.baselines["ngram_copy"].exact_match)  # fmt: skip
        projects = len({document.project for document in own})
        rows.append(
            table_row([name, str(projects), str(score.n), *(f"{value:.1f}" for value in figures)])
        )
    return rows


def beside_table(
    holes: Sequence[HeldoutHole], own: dict[str, Score], others: dict[str, Filler]
) -> list[str]:
    """This model's figures on the one-line holes and on all, and other checkpoints' on the same."""
    rows = [
        "| checkpoint | one line: exact % | edit similarity | ended by itself % | overall: exact % "
        "| edit similarity | ended by itself % |",
        "|---|---|---|---|---|---|---|",
    ]
    scored = {"this one": own} | {name: evaluate(holes, fill) for name, fill in others.items()}
    for name, found in scored.items():
        figures = [
            figure
            for score in (found["one_line"], found["overall"])
            for figure in (score.exact_match, score.edit_similarity, score.ended)
        ]
        rows.append(table_row([name, *(f"{value:.1f}" for value in figures)]))
    return rows


def of_language(documents: Sequence[Document], name: str) -> list[Document]:
    """The files of one language, by suffix."""
    language = LANGUAGES[name]
    return [document for document in documents if language_of(document.path) is language]


def failures(documents: Sequence[Document], fill: Filler, seed: int) -> list[str]:
    """The first ten one-line holes with a wrong fill: the answer, and what the model wrote."""
    holes = draw_each(documents, ONE_LINE_KINDS, 2 * FAILURES, seed)
    rows = ["| before the cursor | what was there | what the model wrote |", "|---|---|---|"]
    for hole in holes[:: len(ONE_LINE_KINDS)]:
        text = fill(hole.hole(Window())).text
        if not same_text(text, hole.answer):
            before = hole.prefix.rpartition("\n")[2]
            rows.append(table_row([_code(before[-40:]), _code(hole.answer), _code(text)]))
        if len(rows) == FAILURES + 2:
            break
    return rows


def scores(
    infiller: Infiller,
    heldout: Path,
    humaneval: Sequence[Path],
    *,
    limit: int,
    per_kind: int,
    beside: dict[str, Filler],
    say: Console,
    modes: Sequence[str] = (),
) -> str:
    """All tables, as Markdown; each figure is said as it is measured.

    modes: those of HumanEval's holes, empty for all. Raises ValueError (EvaluationDataError, too
    few documents, a mode that the model lacks).
    """
    documents = load_documents(heldout)
    modes = modes or [mode for mode in MODES if mode in infiller.modes]
    if lacking := set(modes) - set(infiller.modes):
        raise ValueError(
            f"--modes: no {', '.join(sorted(lacking))}; this model has {', '.join(infiller.modes)}"
        )
    reports = []
    for data in humaneval:
        tasks = spread_sample(load_tasks(data), limit)
        name = data.name.removesuffix(".jsonl.gz")
        fillers = {mode: model_filler(infiller, mode=mode) for mode in modes}
        if any(task.one_line for task in tasks):
            fillers["ar, with copies"] = model_filler(infiller, mode="ar", copies=True)
        for way, fill in fillers.items():
            say.print(f"{name}, {way} ...")
            report = run_tests(tasks, fill)
            figures = f"pass@1 {report.pass_at_1:.1f} %, exact {report.exact_match:.1f} %"
            say.print(f"{name}, {way}: {figures}")
            reports.append((name, way, report))
    say.print("held-out projects ...")
    fill = model_filler(infiller, mode="ar")
    python = of_language(documents, PYTHON.name)
    holes = draw_each(python, KINDS, per_kind, 0)
    found = evaluate(holes, fill)
    for kinds in GROUPS:
        exact = f"exact {found[kinds].exact_match:.1f} %"
        say.print(f"held-out projects, {kinds.replace('_', ' ')} ({found[kinds].n}): {exact}")
    projects = ", ".join(sorted({document.project for document in python}))
    parts = [
        ["HumanEval-Infilling, greedy, the problems' own tests; the holes are spread evenly over "
         "each file."],
        humaneval_table(reports),
        [f"Held-out Python projects ({projects}), each counting the same, `ar`:"],
        heldout_table(found),
    ]  # fmt: skip
    say.print("with copies, and other checkpoints ...")
    others = {COPIES: model_filler(infiller, mode="ar", copies=True), **beside}
    compared = beside_table(holes, found, others)
    say.print("\n".join(compared))
    parts += [["The same holes, filled otherwise:"], compared]
    if len(languages := language_table(documents, fill, max(per_kind // 2, 1))) > 2:
        say.print("\n".join(languages))
        parts += [["One-line holes of held-out projects in other languages:"], languages]
    parts += [["Ten one-line holes that went wrong, as they came:"], failures(python, fill, seed=2)]
    return "\n\n".join("\n".join(part) for part in parts)


def write_card(readme: Path, text: str, mark: str = MARK) -> None:
    """Put `text` between `<!-- mark -->` and `<!-- /mark -->`. Raises ValueError without them."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    card = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    head, found, rest = card.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{readme} needs a line {begin} and one {end} for the {mark} between them")
    readme.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")


def _other(spelled: str, threads: int | None) -> tuple[str, Filler]:
    name, _, folder = spelled.partition("=")
    if not folder:
        raise ValueError(f"--beside needs NAME=FOLDER, not {spelled!r}")
    return name, model_filler(Infiller.load(Path(folder), threads=threads), mode="ar")


def _names(spelled: str) -> tuple[str, ...]:
    """The names of a list with commas."""
    return tuple(name for name in map(str.strip, spelled.split(",")) if name)


def table_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """Text escaped for a table's cell."""
    shown = text.replace("\n", "⏎").replace("|", "\\|").replace("`", "'")
    return f"`{shown}`" if shown.strip() else "(nothing)"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m fim_training.shipping.card")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--heldout", type=Path, required=True, help="heldout.jsonl.gz")
    parser.add_argument("--humaneval", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument(
        "--modes", type=_names, default=(), metavar="MODE,MODE",
        help=f"of HumanEval's holes (default: all, of {', '.join(MODES)})",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, default=100, help="holes of each HumanEval file")
    parser.add_argument("--per-kind", type=int, default=100, help="held-out holes of each kind")
    parser.add_argument(
        "--beside", action="append", default=[], metavar="NAME=FOLDER",
        help="another checkpoint, scored on the same Python holes (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--write", action="store_true", help="into the folder's README.md")
    given = parser.parse_args(argv)
    try:
        text = scores(
            Infiller.load(given.model, threads=given.threads),
            given.heldout,
            given.humaneval,
            limit=given.limit,
            per_kind=given.per_kind,
            beside=dict(_other(named, given.threads) for named in given.beside),
            say=Console(stderr=True),
            modes=given.modes,
        )
        if given.write:
            write_card(given.model / "README.md", text)
        else:
            sys.stdout.write(f"{text}\n")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
