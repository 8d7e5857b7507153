"""A checkpoint's answers for held-out holes, kept in a file: a fit asks the model only once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_model.copies import Copied
from fim_model.requests import CompletionItem, CompletionRequest

from fim_training.evaluation.heldout_holes import HeldoutHole, Window
from fim_training.evaluation.jsonl import EvaluationDataError

if TYPE_CHECKING:
    from fim_model.infiller import Infiller

_SESSION = "answers"
"""The session of a hole: its prompt is prefilled once, for generated text and for copies."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One suggestion. nats: its tokens' log-probabilities, the end's included.

    cut: whether the token limit ended it. copied: where it was copied from, None for what the model
    wrote.
    """

    text: str
    nats: tuple[float, ...]
    cut: bool = False
    copied: Copied | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says to a hole: texts that it wrote, the likeliest first, and judged copies.

    `written` has one text, or several if alternatives were asked for.
    """

    written: tuple[Answer, ...]
    copies: tuple[Answer, ...] = ()
    alternatives: int = 1


Key = tuple[str, str, str, int, int]
"""What tells a hole from others: kind, project, path, start, end."""


def key_of(hole: HeldoutHole) -> Key:
    return hole.kind, hole.document.project, hole.document.path, hole.start, hole.end


def ask(infiller: Infiller, hole: HeldoutHole, mode: str, alternatives: int = 1) -> Answers:
    """The model's texts for a hole and all copies found for it, equal ones included.

    The infiller's calibration must decide nothing (`calibrate.UNDECIDED`): the server may show a
    copy before any text is generated.
    """
    shown = hole.hole(Window())
    request = CompletionRequest(
        shown.prefix, shown.suffix, shown.path, mode=mode, alternatives=alternatives,
        max_tokens=shown.max_tokens, max_lines=shown.max_lines, session=_SESSION,
    )  # fmt: skip
    written = tuple(_answer(item) for item in infiller.infill(request).items)
    by_text = {copied.text: copied for copied in shown.copies}
    judged = infiller.judge_copies(replace(request, copies=shown.copies)) if by_text else []
    copies = tuple(_answer(item, by_text[item.text]) for item in judged)
    return Answers(written, copies, alternatives)


def _answer(item: CompletionItem, copied: Copied | None = None) -> Answer:
    return Answer(item.text, item.nats, item.finish == "length", copied)


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 over a checkpoint's config, tokenizer and weights. Raises EvaluationDataError."""
    digest = hashlib.sha256()
    names = ["config.json", "tokenizer.json", *sorted(p.name for p in folder.glob("*.safetensors"))]
    for name in names:
        try:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise EvaluationDataError(
                f"{folder / name} cannot be read ({error.strerror}); give the folder of a "
                "checkpoint"
            ) from error
    return digest.hexdigest()


class AnswerFile:
    """Answers by hole, appended to a file of JSON lines as they come; None keeps no file.

    The first line names the checkpoint and the mode. Raises EvaluationDataError for a file of
    another checkpoint or mode, and for one that is not such a file.
    """

    def __init__(self, path: Path | None, checkpoint: str, mode: str) -> None:
        self._path, self._found = path, dict[Key, Answers]()
        header = {"checkpoint": checkpoint, "mode": mode}
        if path is None:
            return
        try:
            if path.exists():
                self._read(path, header)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        except OSError as error:
            reason = f"{path}: {error.strerror}; give another --answers"
            raise EvaluationDataError(reason) from error

    def __len__(self) -> int:
        return len(self._found)

    def get(self, hole: HeldoutHole, alternatives: int = 1) -> Answers | None:
        """The answers to a hole, None unless at least so many alternatives were asked for."""
        found = self._found.get(key_of(hole))
        return found if found is not None and found.alternatives >= alternatives else None

    def add(self, hole: HeldoutHole, answers: Answers) -> None:
        """Keep the answers to a hole, in place of earlier ones."""
        key = key_of(hole)
        self._found[key] = answers
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"hole": key} | asdict(answers)) + "\n")

    def _read(self, path: Path, header: dict[str, str]) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        try:
            first = json.loads(lines[0]) if lines else None
            complete = lines[1:] if path.read_bytes().endswith(b"\n") else lines[1:-1]
            for line in complete:
                fields = json.loads(line)
                kind, project, file, start, end = fields["hole"]
                self._found[kind, project, file, start, end] = _answers(fields)
        except (ValueError, KeyError, TypeError) as wrong:
            raise EvaluationDataError(
                f"{path} has no answers of this command ({wrong!r}); delete it, or give another "
                "--answers"
            ) from None
        if first != header:
            raise EvaluationDataError(
                f"{path} has answers of another checkpoint or mode; delete it, or give another "
                "--answers"
            )
        if complete != lines[1:]:  # a run was stopped while it wrote
            path.write_text("\n".join([lines[0], *complete]) + "\n", encoding="utf-8")


def _answers(fields: dict[str, Any]) -> Answers:
    written, copies = (
        tuple(
            Answer(
                str(item["text"]),
                tuple(map(float, item["nats"])),
                bool(item["cut"]),
                Copied(**item["copied"]) if item["copied"] else None,
            )
            for item in fields[name]
        )
        for name in ("written", "copies")
    )
    return Answers(written, copies, int(fields["alternatives"]))


def collect(
    holes: Sequence[HeldoutHole],
    file: AnswerFile,
    ask_model: Callable[[HeldoutHole, int], Answers],
    alternatives: Callable[[HeldoutHole, Answers], int] = lambda hole, answers: 1,
) -> Iterator[tuple[HeldoutHole, Answers]]:
    """Each hole with its answers: from the file, else the model's, which the file then keeps.

    alternatives: how many texts the model is to write for a hole, given its first one.
    """
    for hole in holes:
        found = file.get(hole)
        if found is None:
            found = ask_model(hole, 1)
            file.add(hole, found)
        count = alternatives(hole, found)
        if count > found.alternatives:
            found = ask_model(hole, count)
            file.add(hole, found)
        yield hole, found
