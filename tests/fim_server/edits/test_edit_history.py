"""Edit history: keystrokes form hunks, reverted hunks vanish, large changes are not edits."""

from __future__ import annotations

from fim_model.requests import PastEdit
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol import types as lsp

from fim_server.documents.documents import DocumentStore, Encoding, split_lines, without_end
from fim_server.edits.history import (
    MAX_HUNKS,
    MAX_LINES,
    RECENT_SECONDS,
    History,
    Transition,
    past_edits,
)

URI = "file:///a.py"


class Desk:
    """A document, its edit history, and a manual clock."""

    def __init__(self, text: str) -> None:
        self.documents = DocumentStore(Encoding.UTF32)
        self.history = History()
        self.now, self.version = 0.0, 1
        self.documents.open(URI, "python", 1, text)

    @property
    def lines(self) -> list[str]:
        snapshot = self.documents.snapshot(URI)
        assert snapshot is not None
        return [without_end(line) for line in snapshot.lines]

    def change(self, *changes: tuple[int, int, int, int, str]) -> None:
        events = [
            lsp.TextDocumentContentChangePartial(
                lsp.Range(lsp.Position(line, start), lsp.Position(last, end)), text
            )
            for line, start, last, end, text in changes
        ]
        self.apply(events)

    def replace_all(self, text: str) -> None:
        self.apply([lsp.TextDocumentContentChangeWholeDocument(text)])

    def apply(self, events: list[lsp.TextDocumentContentChangeEvent]) -> None:
        before = self.documents.snapshot(URI)
        self.version += 1
        self.documents.change(URI, self.version, events)
        after = self.documents.snapshot(URI)
        assert before is not None
        assert after is not None
        self.history.record(before, after, self.now)

    def type(self, line: int, character: int, text: str) -> None:
        for offset, typed in enumerate(text):
            self.now += 0.1
            self.change((line, character + offset, line, character + offset, typed))

    def hunks(self) -> list[tuple[int, tuple[str, ...], tuple[str, ...]]]:
        return [(hunk.first, hunk.old, hunk.new) for hunk in self.history.recent(self.now)]


def test_keystrokes_are_one_hunk() -> None:
    desk = Desk("a\ntotal = 1\nb\n")
    desk.change((1, 0, 1, 5, ""))
    desk.type(1, 0, "count")
    assert desk.hunks() == [(1, ("total = 1",), ("count = 1",))]


def test_hunks_move_with_the_lines_above_them() -> None:
    desk = Desk("a\nb\nc\nd\ne\n")
    desk.change((3, 0, 3, 1, "D"))
    desk.change((0, 0, 0, 0, "x\ny\n"))
    assert desk.hunks() == [(5, ("d",), ("D",)), (0, (), ("x", "y"))]
    assert desk.lines[5] == "D"


def test_a_change_that_continues_a_hunk_joins_it() -> None:
    desk = Desk("a\nb\nc\nd\n")
    desk.change((0, 0, 0, 1, "A"))
    desk.change((2, 0, 2, 1, "C"))
    desk.change((1, 0, 1, 1, "B\nBB"))
    assert desk.hunks() == [(3, ("c",), ("C",)), (0, ("a", "b"), ("A", "B", "BB"))]
    assert past_edits(desk.history.recent(desk.now), 1) == (PastEdit("a\nb", "A\nB\nBB"),)
    desk.change((2, 0, 3, 1, "BC"))
    assert desk.hunks() == [(0, ("a", "b", "c"), ("A", "B", "BC"))]


def test_several_places_in_one_message_are_several_hunks() -> None:
    text = "old = 1\n" + "x\n" * 5 + "print(old)\n"
    desk = Desk(text)
    desk.replace_all(text.replace("old", "new"))
    assert desk.hunks() == [
        (6, ("print(old)",), ("print(new)",)),
        (0, ("old = 1",), ("new = 1",)),
    ]
    edits = past_edits(desk.history.recent(desk.now), 2)
    assert edits == (PastEdit("print(old)", "print(new)"), PastEdit("old = 1", "new = 1"))


def test_the_model_reads_lines_without_their_indentation() -> None:
    desk = Desk("if x:\n    a = 1\n    b = 2\n")
    desk.change((1, 4, 1, 5, "c"), (2, 4, 2, 5, "d"))
    assert past_edits(desk.history.recent(0), 9) == (
        PastEdit("a = 1", "c = 1"),
        PastEdit("b = 2", "d = 2"),
    )


def test_undo_by_steps_and_at_once() -> None:
    desk = Desk("x = 1\n")
    desk.type(0, 5, "23")
    assert not desk.history.was_undone(Transition(URI, ("x = 1",), ("x = 123",)))
    desk.change((0, 5, 0, 7, ""))
    assert desk.hunks() == []
    assert desk.history.was_undone(Transition(URI, ("x = 1",), ("x = 123",)))


def test_one_change_of_several_in_a_hunk_is_undone_and_redone() -> None:
    desk = Desk("a = old\nb = old\n")
    desk.change((0, 4, 0, 7, "new"))
    desk.change((1, 4, 1, 7, "new"))
    desk.change((1, 4, 1, 7, "old"))
    undone = Transition(URI, ("b = old",), ("b = new",))
    assert desk.history.was_undone(undone)
    assert desk.hunks() == [(0, ("a = old",), ("a = new",))]
    desk.change((1, 4, 1, 7, "new"))
    assert not desk.history.was_undone(undone), "redone: it is wanted after all"
    assert desk.history.was_undone(undone.reversed)


def test_large_changes_are_not_edits() -> None:
    lines = [f"line {number}" for number in range(3 * MAX_LINES)]
    desk = Desk("\n".join(lines))
    desk.change((0, 0, 0, 4, "LINE"))
    desk.replace_all("\n".join(line.upper() for line in lines))
    assert desk.hunks() == [], "the file was changed on disk"
    desk.replace_all("\r\n".join(line.upper() for line in lines))
    assert desk.hunks() == []


def test_white_space_and_old_edits_are_ignored() -> None:
    desk = Desk("x = 1\ny = 2\n")
    desk.change((0, 0, 0, 0, "    "))
    assert desk.hunks() == []
    desk.now = 10.0
    desk.change((1, 0, 1, 1, "z"))
    assert len(desk.hunks()) == 1
    desk.now += RECENT_SECONDS + 1
    assert desk.hunks() == []


def test_a_huge_history_stays_small() -> None:
    desk = Desk("\n".join(f"value_{number} = {number}" for number in range(3 * MAX_HUNKS)))
    for line in range(0, 3 * MAX_HUNKS, 2):
        desk.change((line, 0, line, 5, "other"))
    hunks = desk.hunks()
    assert len(hunks) == MAX_HUNKS
    assert hunks[-1][0] == 3 * MAX_HUNKS - 2, "the latest are kept"


def test_a_closed_document_has_no_history() -> None:
    desk = Desk("x = 1\n")
    desk.change((0, 0, 0, 1, "y"))
    desk.history.forget(URI)
    assert desk.hunks() == []


TEXTS = st.lists(st.sampled_from(["a", "b", "", "c\u2028", "𝒳", "x = old"]), max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_hunks_restore_the_first_text(states: list[list[str]], end: str) -> None:
    """Restoring the old lines, from the bottom up, gives the first text."""
    texts = [end.join(state) for state in states]
    desk = Desk(texts[0])
    for text in texts[1:]:
        desk.replace_all(text)
    lines = desk.lines
    hunks = sorted(desk.history._hunks, key=lambda hunk: (-hunk.first, -len(hunk.new)))
    for hunk in hunks:
        assert tuple(lines[hunk.first : hunk.end]) == hunk.new
        lines[hunk.first : hunk.end] = hunk.old
    assert lines == [without_end(line) for line in split_lines(texts[0])]
