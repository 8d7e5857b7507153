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


def with_line(before: str, line: str, after: str) -> str:
    """The document with another line in place of the one that `before` ends and `after` begins
    with."""
    start, end = before.rfind("\n") + 1, after.find("\n")
    return before[:start] + line + (after[end:] if end >= 0 else "")


def breaks(root: Node, before: str, after: str, language: Language) -> bool:
    """Whether a completed document (`root`) has more errors than without the line that was
    completed, which `before` ends with and `after` begins with.

    Where indentation matters, also more than with a plain name in that line: its indentation is
    the user's.
    """
    found = errors(root) if root.has_error else 0
    if not found:
        return False
    line = before[before.rfind("\n") + 1 :]
    others = [""]
    if language.indented:
        others.append(line[: len(line) - len(line.lstrip())] + "x")
    trees = (parsed(with_line(before, other, after), language) for other in others)
    return all(tree is not None and found > errors(tree) for tree in trees)
