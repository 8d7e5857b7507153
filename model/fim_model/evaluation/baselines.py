"""What copying gets right without any model: the figures that a trained model must beat.

Each baseline is generous: it knows how many lines the answer has, and where in the last line it
ends. It returns candidates; the best of them counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fim_model.evaluation.heldout_holes import HeldoutHole

Baseline = Callable[[HeldoutHole], Sequence[str]]

_LONGEST_MATCH = 400


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
    """What followed the longest other occurrence of the text before the cursor.

    Of several places, the one whose continuation meets the text behind the hole best, then the
    nearest one. Copies to the end of the line (of as many lines as the hole has).
    """
    prefix, suffix = hole.prefix, hole.suffix
    tail = _longest_repeated_tail(prefix, suffix)
    if not tail:
        return [""]
    places = [(prefix, end, len(prefix) - end) for end in _ends(prefix[:-1], tail)]
    places += [(suffix, end, end) for end in _ends(suffix, tail)]
    candidates = []
    for text, end, distance in places:
        copied, behind = _continuation(text, end, hole)
        candidates.append((_common_length(behind, suffix), -distance, copied))
    return [max(candidates)[2]]


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
    behind = len(hole.suffix.split("\n", 1)[0])
    if behind:  # the hole ends inside its last line
        own_last = own[_lines(hole) - 1]
        end = _same_column(last, own_last, len(own_last) - behind)
        block = block[: len(block) - len(last) + end]
    return block[start:]


def _same_column(line: str, own: str, column: int) -> int:
    """`column` of the line `own`, counted from the indentation, as a column of `line`."""
    return max(0, _indentation(line) + column - _indentation(own))


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _longest_repeated_tail(prefix: str, suffix: str) -> str:
    """The longest end of `prefix` that occurs earlier in it or in `suffix`; may be empty."""
    shortest, longest = 0, min(len(prefix), _LONGEST_MATCH)
    while shortest < longest:  # if an end occurs elsewhere, so does every shorter one
        middle = (shortest + longest + 1) // 2
        tail = prefix[-middle:]
        if tail in suffix or prefix.find(tail, 0, len(prefix) - 1) >= 0:
            shortest = middle
        else:
            longest = middle - 1
    return prefix[len(prefix) - shortest :]


def _ends(text: str, tail: str) -> list[int]:
    """Where each occurrence of `tail` ends, in order; overlapping ones count."""
    ends, at = [], text.find(tail)
    while at >= 0:
        ends.append(at + len(tail))
        at = text.find(tail, at + 1)
    return ends


def _continuation(text: str, start: int, hole: HeldoutHole) -> tuple[str, str]:
    """The rest of the lines from `start`, and what comes behind it."""
    end = start - 1
    for _ in range(_lines(hole)):
        end = text.find("\n", end + 1)
        if end < 0:
            return text[start:], ""
    return text[start:end], text[end : end + _LONGEST_MATCH]


def _common_length(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    most = min(len(one), len(other))
    return next((place for place in range(most) if one[place] != other[place]), most)
