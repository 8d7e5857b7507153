"""What of a document a question shows to the model."""

from __future__ import annotations

import pytest
from fim_model.requests import ChatMessage
from lsprotocol import types as lsp

from fim_server.backends.base import Unfit
from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.asked.conversation import MAX_CONTEXT_CHARS, question
from fim_server.edits.next_edit import EditContext

ASKED = [ChatMessage("user", "what is this?")]


def context(text: str, cursor: int = 0) -> EditContext:
    snapshot = Snapshot("file:///a.py", "python", 0, 0, Encoding.UTF16, split_lines(text))
    return EditContext(snapshot, (), cursor, path="a.py")


def shown(text: str, cursor: int = 0, span: lsp.Range | None = None) -> str:
    request = question(ASKED, context(text, cursor), span)
    assert [said.role for said in request.messages] == ["system", "user"]
    content = request.messages[1].content
    assert content.endswith("\n```\n\nwhat is this?")
    return content


def test_the_lines_around_the_cursor_as_many_as_fit() -> None:
    text = "".join(f"line {number}\n" for number in range(5000))
    content = shown(text, 2500)
    assert "\nline 2500\n" in content
    assert len(content) < MAX_CONTEXT_CHARS + 200
    assert len(content) > MAX_CONTEXT_CHARS - 200
    assert content.startswith("File: a.py\nLines 2")
    assert "line 0\n" in shown(text, 0)
    assert "line 4999\n" in shown(text, 5000)
    assert "x = 1" in shown("x = 1")
    assert len(shown("y" * 100_000)) < MAX_CONTEXT_CHARS + 200, "one line longer than all"


def test_a_selection_alone() -> None:
    span = lsp.Range(lsp.Position(1, 0), lsp.Position(2, 0))
    content = shown("one\ntwo\nthree\n", span=span)
    assert "Lines 2 to 2:\n```python\ntwo\n```" in content
    assert "one" not in content.replace("as one", "")


def test_the_context_stays_with_the_first_question() -> None:
    said = [*ASKED, ChatMessage("assistant", "code"), ChatMessage("user", "and that?")]
    messages = question(said, context("x = 1\n"), None).messages
    assert "x = 1" in messages[1].content
    assert messages[-1].content == "and that?", "so that the cached tokens stay"


@pytest.mark.parametrize(
    "messages", [[], [ChatMessage("assistant", "hi")], [ChatMessage("user", " ")]]
)
def test_only_questions_are_answered(messages: list[ChatMessage]) -> None:
    with pytest.raises(Unfit, match="a question"):
        question(messages, None, None)
