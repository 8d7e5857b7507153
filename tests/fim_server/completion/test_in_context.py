"""Copies and snippets in a request, from the rest of its file and from other files."""

from __future__ import annotations

import pytest
from fim_model.copies import Copied
from fim_model.requests import CompletionRequest, Snippet
from lsprotocol import types as lsp

from fim_server.completion.hole import hole_at, request_for
from fim_server.completion.in_context import in_context
from fim_server.context.gather import Context
from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.settings.settings import Settings


def ask(
    text: str, position: lsp.Position, context: Context | None = None, *, multiline: str = "never"
) -> CompletionRequest:
    snapshot = Snapshot("file:///a.py", "python", 0, 0, Encoding.UTF16, split_lines(text))
    hole = hole_at(snapshot, position, 100, 100)
    request = request_for(hole, snapshot, Settings(multiline=multiline), 1)  # type: ignore[arg-type]
    return in_context(request, hole, snapshot, context or Context())


def test_a_one_line_request_is_looked_up_in_the_whole_document() -> None:
    """Far beyond the model's window."""
    far = "found = lookup(table, key)\n" + "pass\n" * 1000
    request = ask(f"{far}other = lookup()", lsp.Position(1001, 15))
    assert request.max_lines == 1
    assert "table" not in request.prefix
    assert request.copies[0].text == "table, key"
    assert request.copies[0].matched == len(" = lookup(")


def test_other_files_give_copies_and_snippets() -> None:
    context = Context((("b.py", "x"),), ("value = lookup(table, key)\n",))
    request = ask("other = lookup(", lsp.Position(0, 15), context)
    assert request.snippets == (Snippet("b.py", "x"),)
    assert request.copies == (Copied("table, key)", len(" = lookup("), 0, 0, 1, elsewhere=True),)


def test_carriage_returns_are_removed() -> None:
    request = ask("a = call(1)\r\nb = call(", lsp.Position(1, 9))
    assert request.copies[0].text == "1)"


@pytest.mark.parametrize(
    ("text", "position", "multiline"),
    [
        ("a = f(1)\n\n\nb = f(", lsp.Position(3, 6), "always"),  # several lines may be missing
        ("import os\nimport os.path\nimport ", lsp.Position(2, 7), "never"),  # the line above again
    ],
)
def test_copies_that_would_not_be_shown_are_not_looked_up(
    text: str, position: lsp.Position, multiline: str
) -> None:
    texts = [copy.text for copy in ask(text, position, multiline=multiline).copies]
    assert "os.path" not in texts
    assert multiline == "never" or not texts
