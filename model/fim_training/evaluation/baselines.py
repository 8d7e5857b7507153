"""Copying baselines: the figures that a trained model must beat.

Each baseline is generous: it knows how many lines the answer has, and where in the last line it
ends. It returns candidates; the best of them counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fim_model.copies import copies

from fim_training.evaluation.heldout_holes import HeldoutHole

Baseline = Callable[[HeldoutHole], Sequence[str]]


def previous_line(hole: HeldoutHole) -> Sequence[str]:
    """The nearest non-blank lines above, as many as the hole has, cut at its columns.

    Columns count from each line's indentation, so for a whole line this is the line above.
    """
    above = [line for line in hole.prefix.split("\n")[:-1] if line.strip()]
    return [_cut(above[-_lines(hole) :], hole)]


def neighbouring_lines(hole: HeldoutHole) -> Sequence[str]:
    """The lines above and the lines below, cut likewise: whichever is better counts."""
    below = [line for line in hole.suffix.split("\n")[1:] if line.strip()]
    return [*previous_line(hole), _cut(below[: _lines(hole)], hole)]


def ngram_copy(hole: HeldoutHole) -> Sequence[str]:
    """What followed the longest other occurrence of the text before the cursor (`copying`)."""
    found = copies(hole.prefix, hole.suffix, lines=_lines(hole), limit=1)
    return [found[0].text if found else ""]


BASELINES: dict[str, Baseline] = {
    "previous_line": previous_line,
    "neighbouring_lines": neighbouring_lines,
    "ngram_copy": ngram_copy,
}


def _lines(hole: HeldoutHole) -> int:
    return hole.answer.count("\n") + 1


def _cut(lines: Sequence[str], hole: HeldoutHole) -> str:
    """`lines` from the hole's first column to its last one."""
    if len(lines) < _lines(hole):
        return ""
    own = hole.document.text[hole.prefix.rfind("\n") + 1 :].split("\n", _lines(hole))
    first, last = lines[0], lines[-1]
    start = _same_column(first, own[0], hole.start - hole.prefix.rfind("\n") - 1)
    block = "\n".join(lines)
    after = len(hole.suffix.split("\n", 1)[0])
    if after:  # the hole ends inside its last line
        own_last = own[_lines(hole) - 1]
        end = _same_column(last, own_last, len(own_last) - after)
        block = block[: len(block) - len(last) + end]
    return block[start:]


def _same_column(line: str, own: str, column: int) -> int:
    """`column` of the line `own`, counted from the indentation, as a column of `line`."""
    return max(0, indentation(line) + column - indentation(own))


def indentation(line: str) -> int:
    """How many characters stand before a line's content."""
    return len(line) - len(line.lstrip())
