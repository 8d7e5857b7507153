"""Whether a text makes a document parse worse: errors of tree-sitter's error-tolerant parse.

The document may be unfinished or an excerpt, so only what the text adds to its errors counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fim_server.syntax.languages import Language
from fim_server.syntax.parsing import parsed

if TYPE_CHECKING:
    from tree_sitter import Node


def errors(root: Node) -> int:
    """The number of places in a syntax tree that are errors, or where something is missing."""
    count, pending = 0, [root]
    while pending:
        node = pending.pop()
        count += node.is_error or node.is_missing
        if node.has_error:
            pending += node.children
    return count


def without_line(before: str, after: str) -> str:
    """The document without the line on which `before` ends and `after` begins, but for its end."""
    start, end = before.rfind("\n") + 1, after.find("\n")
    return before[:start] + (after[end:] if end >= 0 else "")


def breaks(root: Node, before: str, after: str, language: Language) -> bool:
    """Whether a completed document (`root`) has more errors than it has without the line that was
    completed, which `before` ends with and `after` begins with."""
    if not root.has_error:
        return False
    other = parsed(without_line(before, after), language)
    return other is not None and errors(root) > errors(other)
