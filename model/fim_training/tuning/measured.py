"""A model on held-out holes and commits, item by item, so that two states can be paired."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fim_model.requests import CompletionRequest

from fim_training.evaluation.figures import edit_similarity, same_text
from fim_training.evaluation.heldout_holes import (
    ONE_LINE_KINDS,
    Document,
    HeldoutHole,
    Window,
    draw_holes,
)
from fim_training.examples.hunk_sequences import HunkSequence

if TYPE_CHECKING:
    from fim_model.infiller import Infiller


@dataclass(frozen=True, slots=True)
class HoleResult:
    """similarity: 0 to 1. shown: by the model's calibration alone; the editor weighs more."""

    exact: bool
    similarity: float
    shown: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of the same items in the same order. edits: for each hunk of the held-out commits
    that was to come, whether a right proposal made it at least in part."""

    holes: list[HoleResult]
    general: list[HoleResult]
    edits: list[bool]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Measured | None:
        """None without such a file."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            holes, general = (
                [HoleResult(**result) for result in raw[name]] for name in ("holes", "general")
            )
            return cls(holes, general, list(raw["edits"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


Recall = Callable[["Infiller", str, HunkSequence], list[bool]]
"""(model, adapter, a commit) to whether each of its coming hunks is found; the caller gives it,
because what proposes edits is not of this package."""


@dataclass(frozen=True, slots=True)
class Exam:
    """The items, drawn once for a job."""

    holes: list[HeldoutHole]
    general: list[HeldoutHole]
    commits: Sequence[HunkSequence]

    @classmethod
    def drawn(
        cls,
        held_out: Sequence[Document],
        general: Sequence[Document],
        commits: Sequence[HunkSequence],
        count: int,
        seed: int,
    ) -> Exam:
        """`count` holes of each one-line kind from each side, fewer where the files are small."""
        return cls(
            [hole for kind in ONE_LINE_KINDS for hole in _some(held_out, kind, count, seed)],
            [hole for kind in ONE_LINE_KINDS for hole in _some(general, kind, count, seed)],
            commits,
        )

    def fits(self, measured: Measured) -> bool:
        """Whether results are of as many items: a run may go on with another number."""
        return len(measured.holes) == len(self.holes) and len(measured.general) == len(self.general)

    def taken(
        self,
        infiller: Infiller,
        adapter: str,
        recall: Recall,
        progress: Callable[[float], None],
    ) -> Measured:
        """All items once. progress: the share that is done; it may raise."""
        total = len(self.holes) + len(self.general) + 2 * len(self.commits)
        done = 0

        def step(weight: int) -> None:
            nonlocal done
            done += weight
            progress(done / max(total, 1))

        def results(holes: Sequence[HeldoutHole]) -> list[HoleResult]:
            found = []
            for hole in holes:
                found.append(_filled(infiller, hole, adapter))
                step(1)
            return found

        holes, general, edits = results(self.holes), results(self.general), list[bool]()
        for commit in self.commits:
            edits += recall(infiller, adapter, commit)
            step(2)
        return Measured(holes, general, edits)


def _some(documents: Sequence[Document], kind: str, count: int, seed: int) -> list[HeldoutHole]:
    while count:
        try:
            return draw_holes(documents, kind, count, seed)  # type: ignore[arg-type]
        except ValueError:  # the files have fewer such places
            count //= 2
    return []


def _filled(infiller: Infiller, hole: HeldoutHole, adapter: str) -> HoleResult:
    """As the server asks, without copies: what the model itself writes."""
    shown = hole.hole(Window())
    completion = infiller.infill(
        CompletionRequest(
            shown.prefix, shown.suffix, shown.path, max_tokens=shown.max_tokens,
            max_lines=shown.max_lines, adapter=adapter,
        )
    )  # fmt: skip
    best = completion.items[0]
    return HoleResult(
        same_text(best.text, hole.answer),
        edit_similarity(best.text, hole.answer),
        best.confidence >= completion.show_above,
    )
