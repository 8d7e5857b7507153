"""Definitions in a text and the syntactic context of a cursor, read with tree-sitter.

The text may be an excerpt or broken code: the grammars recover from errors, and a wrong answer
costs a snippet or a line, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fim_server.syntax.languages import Language
from fim_server.syntax.parsing import MAX_CHARS as MAX_CHARS
from fim_server.syntax.parsing import parsed as parsed

if TYPE_CHECKING:
    from tree_sitter import Node

SIGNATURE_LINES = 12
"""Maximum number of lines of a definition's text."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A function, class or type that other code can use.

    `text` is its signature with the first line of its docstring; `line` and `end` (exclusive) are
    the lines of `text` in the file, from 0.
    """

    name: str
    text: str
    line: int
    end: int


def definitions(text: str, language: Language) -> list[Definition]:
    """All definitions in a text, in order, outer before inner."""
    root = parsed(text, language)
    return [] if root is None else list(_definitions(root, text.split("\n"), language))


def scope_around(text: str, language: Language, line: int) -> tuple[int, int] | None:
    """The lines `[first, end)` of the innermost definition around `line`; None if there is none."""
    root = parsed(text, language)
    found = None
    node = root
    while node is not None:
        if node.type in language.definitions and _name(node):
            found = node.start_point.row, node.end_point.row + 1
        node = next(
            (
                child
                for child in node.children
                if child.start_point.row <= line <= child.end_point.row
            ),
            None,
        )
    return found


def _definitions(root: Node, lines: list[str], language: Language) -> Iterator[Definition]:
    pending = [root]
    while pending:
        node = pending.pop()
        if node.type in language.definitions and (name := _name(node)):
            first, last = node.start_point.row, _signature_end(node, language)
            shown = lines[first : min(last, first + SIGNATURE_LINES)]
            yield Definition(name, "\n".join(shown).rstrip(), first, first + len(shown))
        pending += reversed(node.children)


def _name(node: Node) -> str:
    """The name that a definition binds: its `name` field, in C its innermost declarator."""
    named = node.child_by_field_name("name")
    while named is None and (inner := node.child_by_field_name("declarator")) is not None:
        node, named = inner, inner.child_by_field_name("name")
        if inner.type == "identifier":
            named = inner
    return (named.text or b"").decode("utf-8", "replace") if named is not None else ""


def _signature_end(node: Node, language: Language) -> int:
    """The line after the signature and the first line of its docstring, if it has one."""
    body = node.child_by_field_name("body")
    if body is None or body.type not in language.blocks:
        return node.end_point.row + 1
    first = body.named_children[0] if body.named_children else body
    if language.indented and node.type.startswith("class"):
        methods = (child for child in body.children if child.type.endswith("definition"))
        return next((method.start_point.row for method in methods), body.end_point.row + 1)
    if language.indented:
        documented = first.type == "expression_statement" and first.named_children[:1]
        is_docstring = documented and documented[0].type == "string"
        return max(first.start_point.row + bool(is_docstring), node.start_point.row + 1)
    if node.type.startswith(("class", "struct", "interface", "enum", "trait", "record", "type")):
        return node.end_point.row + 1  # the fields are part of the interface
    return body.start_point.row + 1


class CursorContext(StrEnum):
    """The syntactic context of a cursor, which decides whether one or several lines are missing."""

    BLOCK = "block"
    """On an empty line, or after what opens a block or a bracket."""
    STATEMENT = "statement"
    """Within a line of code, whose rest is missing."""
    TEXT = "text"
    """In a comment, or in a string of one line."""
    UNKNOWN = "unknown"
    """Without a syntax tree (unknown language, or text too long): what is neither surely inside a
    line nor in a block."""


_MAY_OPEN = re.compile(r"(?:[(\[{:]|=>|->|\b(?:then|do|else|begin))\s*\Z")
"""The end of a line that a block or a list may follow, in whatever language."""


def cursor_context(before: str, after: str, language: Language | None) -> CursorContext:
    """The syntactic context of the cursor between two texts."""
    line = before.rpartition("\n")[2]
    root = parsed(before + after, language) if language is not None else None
    if root is None or language is None:
        may_open = not line.strip() or _MAY_OPEN.search(line)
        return CursorContext.UNKNOWN if may_open else CursorContext.STATEMENT
    if (text := _text_around(root, before, language)) is not None:
        many_lines = text.end_point.row > text.start_point.row
        in_block = many_lines and text.type != "comment"
        return CursorContext.BLOCK if in_block else CursorContext.TEXT
    if not line.strip() or _opens(line, language):
        return CursorContext.BLOCK
    return CursorContext.STATEMENT


def in_comment(before: str, after: str, language: Language | None) -> bool:
    """Whether the cursor between two texts is in a comment; False for an unknown language."""
    root = parsed(before + after, language) if language is not None else None
    if root is None or language is None:
        return False
    text = _text_around(root, before, language)
    return text is not None and "comment" in text.type


def _text_around(root: Node, before: str, language: Language) -> Node | None:
    """The comment or string around the cursor; None if there is none."""
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
    """Whether a line of code opens a block or a bracket at its end."""
    code = line.rstrip()
    if code.endswith(("(", "[", "{")):
        return True
    return code.endswith(":") and language.indented and code.count("[") <= code.count("]")
