"""Rule: other occurrences of replaced literals and passages."""

from __future__ import annotations

from functools import partial

import edit_pages

from fim_server.documents.documents import Encoding, Snapshot
from fim_server.edits.history import Hunk
from fim_server.edits.rules.drafts import applied
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.replacements import replacements
from fim_server.syntax.languages import language_of

expected = partial(edit_pages.expected, rules=("replacements",))


def test_literals_and_passages() -> None:
    assert expected("x = 80\n\ny = 50 + 500\n", (0, "x = 50"))[2] == ["y = 80 + 500"]
    assert expected("x = 'b'\n\ny = 'a'\n", (0, "x = 'a'"))[2] == ["y = 'b'"]
    assert expected("use(total)\n\nlog(a.b.c + 1)\n", (0, "use(a.b.c)"))[2] == ["log(total + 1)"]


def test_all_places_of_a_line_or_none() -> None:
    """Half of them would be half a rename, and judged as one."""
    lines = ["put(address)\n", "self.host = host\n"]
    hunk = Hunk(edit_pages.URI, 0, ("put(host)",), ("put(address)",), 0.0)
    snapshot = Snapshot(edit_pages.URI, "python", 1, 1, Encoding.UTF32, lines)
    [draft] = replacements(Page(snapshot, 0, language_of("python"), [hunk]), hunk)
    assert applied([lines[1]], 1, draft.edits) == "self.address = address\n"


def test_an_insertion_after_many_equal_tokens() -> None:
    text = "type A = Map<[B, ...B[]] | [], X>\n\nmake<T extends Map<[B, ...B[]]>>(\n"
    found = expected(text, (0, "type A = Map<[B, ...B[]], X>"), language="typescript")
    assert found == {2: ["make<T extends Map<[B, ...B[]] | []>>("]}
