"""What a text's syntax tells, read with tree-sitter: definitions, and where a cursor is.

A text may be a piece of a file or broken: the grammars recover, and a wrong guess costs a snippet
or a line, never an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fim_server.syntax.languages import Language, parser_for

if TYPE_CHECKING:
    from tree_sitter import Node

MOST_CHARS = 200_000
"""A longer text is not parsed: it takes too long for somebody who types."""

SIGNATURE_LINES = 12


@dataclass(frozen=True, slots=True)
class Definition:
    """Something others can use. `text` is its signature with the first line of its docstring;
    `line` and `end` (exclusive) count lines of the file from 0."""

    name: str
    text: str
    line: int
    end: int


def definitions(text: str, language: Language) -> list[Definition]:
    """All definitions of a text, outer before inner, in order."""
    root = parsed(text, language)
    return [] if root is None else list(_definitions(root, text.split("\n"), language))


def scope_around(text: str, language: Language, line: int) -> tuple[int, int] | None:
    """The lines `[first, end)` of the innermost definition that line `line` (from 0) is in."""
    root = parsed(text, language)
    found = None
    node = root
    while node is not None:
        if node.type in language.definitions and _name(node):
            found = node.start_point.row, node.end_point.row + 1
        node = next(
            (one for one in node.children if one.start_point.row <= line <= one.end_point.row),
            None,
        )
    return found


def parsed(text: str, language: Language) -> Node | None:
    """The root of a text's syntax; None where there is no parser, or too much of the text."""
    parser = parser_for(language) if len(text) <= MOST_CHARS else None
    return parser.parse(text.encode("utf-8", "replace")).root_node if parser else None


def _definitions(root: Node, lines: list[str], language: Language) -> Iterator[Definition]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.type in language.definitions and (name := _name(node)):
            first, last = node.start_point.row, _signature_end(node, language)
            shown = lines[first : min(last, first + SIGNATURE_LINES)]
            yield Definition(name, "\n".join(shown).rstrip(), first, first + len(shown))
        waiting += reversed(node.children)


def _name(node: Node) -> str:
    """The name a definition binds: its `name` field, in C its innermost declarator."""
    named = node.child_by_field_name("name")
    while named is None and (inner := node.child_by_field_name("declarator")) is not None:
        node, named = inner, inner.child_by_field_name("name")
        if inner.type == "identifier":
            named = inner
    return (named.text or b"").decode("utf-8", "replace") if named is not None else ""


def _signature_end(node: Node, language: Language) -> int:
    """The line after the signature: the body's first line, or after its docstring's first."""
    body = node.child_by_field_name("body")
    if body is None or body.type not in language.blocks:
        return node.end_point.row + 1
    first = body.named_children[0] if body.named_children else body
    if language.indented and node.type.startswith("class"):
        methods = (one for one in body.children if one.type.endswith("definition"))
        return next((one.start_point.row for one in methods), body.end_point.row + 1)
    if language.indented:
        documented = first.type == "expression_statement" and first.named_children[:1]
        is_docstring = documented and documented[0].type == "string"
        return max(first.start_point.row + bool(is_docstring), node.start_point.row + 1)
    if node.type.startswith(("class", "struct", "interface", "enum", "trait", "record", "type")):
        return node.end_point.row + 1  # the fields are what others use
    return body.start_point.row + 1


class Spot(StrEnum):
    """Where a cursor is, as far as it decides how much to write."""

    BLOCK = "block"
    """At the start of a line, or behind what opens a block or a bracket."""
    STATEMENT = "statement"
    """Within a line of code: what is missing is its rest."""
    TEXT = "text"
    """In a comment or a string that ends with its line."""
    UNKNOWN = "unknown"
    """The language's syntax is not known."""


def spot_at(before: str, after: str, language: Language | None) -> Spot:
    """Where the cursor between two texts is."""
    if language is None:
        return Spot.UNKNOWN
    line = before.rpartition("\n")[2]
    root = parsed(before + after, language)
    if root is None:
        return Spot.UNKNOWN
    if (text := _text_around(root, before, language)) is not None:
        many_lines = text.end_point.row > text.start_point.row
        return Spot.BLOCK if many_lines and text.type != "comment" else Spot.TEXT
    if not line.strip() or _opens(line, language):
        return Spot.BLOCK
    return Spot.STATEMENT


def _text_around(root: Node, before: str, language: Language) -> Node | None:
    """The comment or string that the cursor is in."""
    at = len(before.encode("utf-8", "replace"))
    line_start = at - len(before.rpartition("\n")[2].encode("utf-8", "replace"))
    node = root.descendant_for_byte_range(max(at - 1, 0), at)
    while node is not None:
        if node.type in language.texts and node.start_byte < at:
            open_comment = "comment" in node.type and node.start_byte >= line_start
            if at < node.end_byte or (open_comment and at <= node.end_byte):
                return node
        node = node.parent
    return None


def _opens(line: str, language: Language) -> bool:
    """Whether a line of code ends with what a block follows, or with an opening bracket."""
    code = line.rstrip()
    if code.endswith(("(", "[", "{")):
        return True
    return code.endswith(":") and language.indented and code.count("[") <= code.count("]")
