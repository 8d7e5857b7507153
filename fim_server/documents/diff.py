"""Minimal edits that turn a document's lines into new ones.

Lines are compared without their line ends: unchanged lines keep theirs, inserted lines get the
document's. Positions are `documents.Place`; an edit never splits a character from its combining
marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from lsprotocol import types as lsp

from fim_server.documents.documents import Place, Snapshot, without_end

_COMBINING_FIRST, _COMBINING_LAST = "\u0300", "\u036f"
_JOINERS = "\u200d\ufe0f"


@dataclass(frozen=True, slots=True)
class Change:
    """A replacement of the text between two places."""

    start: Place
    end: Place
    text: str

    def text_edit(self, snapshot: Snapshot) -> lsp.TextEdit:
        """The change as an LSP edit, in the client's position encoding."""
        span = lsp.Range(snapshot.position(self.start), snapshot.position(self.end))
        return lsp.TextEdit(span, self.text)


def minimal_changes(snapshot: Snapshot, first: int, end: int, new: Sequence[str]) -> list[Change]:
    """The changes that turn a document's lines `[first, end)` into `new`, from top to bottom.

    `new` has no line ends.
    """
    old = [without_end(line) for line in snapshot.lines[first:end]]
    changes = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, low, high, from_, to in matcher.get_opcodes():
        if tag == "replace":
            changes.append(_replaced(snapshot, first + low, first + high, new[from_:to]))
        elif tag == "insert":
            changes.append(_inserted(snapshot, first + low, new[from_:to]))
        elif tag == "delete":
            changes.append(_deleted(snapshot, first + low, first + high))
    return changes


def one_change(snapshot: Snapshot, first: int, end: int, new: Sequence[str]) -> Change:
    """A single change that covers all of `minimal_changes`. `new` must differ from the lines."""
    changes = minimal_changes(snapshot, first, end, new)
    if len(changes) == 1:
        return changes[0]
    return _replaced(snapshot, first, end, new)


def _replaced(snapshot: Snapshot, first: int, end: int, new: Sequence[str]) -> Change:
    """Replacement of lines, without the text that old and new share at both ends."""
    old = "\n".join(without_end(line) for line in snapshot.lines[first:end])
    text = "\n".join(new)
    head = _whole(old, text, _shared(old, text))
    rest_old, rest_new = old[head:], text[head:]
    tail = _shared(rest_old[::-1], rest_new[::-1])
    while tail and _extends(rest_old[len(rest_old) - tail]):
        tail -= 1
    start = _place(first, old[:head])
    stop = _place(first, old[: len(old) - tail])
    middle = rest_new[: len(rest_new) - tail]
    return Change(start, stop, middle.replace("\n", snapshot.line_end(first)))


def _inserted(snapshot: Snapshot, at: int, new: Sequence[str]) -> Change:
    """Insertion of lines before line `at`, or after the document's last line."""
    if at < len(snapshot.lines):
        end = snapshot.line_end(at)
        place, text = Place(at, 0), "".join(f"{line}{end}" for line in new)
    else:
        last = len(snapshot.lines) - 1
        end = snapshot.line_end(last)
        place = Place(last, len(without_end(snapshot.lines[last])))
        text = "".join(f"{end}{line}" for line in new)
    return Change(place, place, text)


def _deleted(snapshot: Snapshot, first: int, end: int) -> Change:
    """Deletion of lines and their ends; at the document's end, of the line end before them."""
    if end < len(snapshot.lines):
        return Change(Place(first, 0), Place(end, 0), "")
    stop = Place(end - 1, len(without_end(snapshot.lines[end - 1])))
    if not first:
        return Change(Place(0, 0), stop, "")
    return Change(Place(first - 1, len(without_end(snapshot.lines[first - 1]))), stop, "")


def _place(first: int, head: str) -> Place:
    """The place after `head`, which begins at the start of line `first`."""
    return Place(first + head.count("\n"), len(head) - (head.rfind("\n") + 1))


def _shared(left: str, right: str) -> int:
    """The length of the longest common prefix of two strings."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(left), len(right)))


def _whole(old: str, new: str, size: int) -> int:
    """The length of the common prefix, shortened so as not to separate a letter from its accent."""
    while size and (_extends(old[size : size + 1]) or _extends(new[size : size + 1])):
        size -= 1
    return size


def _extends(character: str) -> bool:
    """Whether a character combines with the one before it."""
    return bool(character) and (
        _COMBINING_FIRST <= character <= _COMBINING_LAST or character in _JOINERS
    )
