"""Syntax trees, parsed so that other threads go on meanwhile and the work can be stopped.

tree-sitter keeps Python's lock while it parses, a second and more for some texts that are no code
in any language. It gives it up where it reads the next piece of the text and where it reports
progress; there a parse that takes too long is also ended.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fim_server.syntax.languages import Language, parser_for

if TYPE_CHECKING:
    from tree_sitter import Node, Point

MAX_CHARS = 200_000
"""Longer texts are not parsed, because parsing would delay the answer to a keystroke."""

PARSE_SECONDS = 0.08
"""CPU time of one parse; 200,000 characters of code take half of it."""

_PIECE = 8192
"""Bytes read at once."""


class Interrupted(BaseException):
    """The work of this thread was stopped. Not an Exception, so that no rule catches it."""


@dataclass(slots=True)
class Interrupt:
    """Whether the work of a thread is to stop. parsing: tree-sitter runs; it asks for itself."""

    stopped: bool = False
    parsing: bool = False


INTERRUPT: ContextVar[Interrupt | None] = ContextVar("interrupt", default=None)
"""How the current work is stopped, if it can be."""


def parsed(text: str, language: Language) -> Node | None:
    """The root of a text's syntax tree; None without a parser, and for a text that is too long or
    takes PARSE_SECONDS. Raises Interrupted if the work is stopped."""
    parser = parser_for(language) if len(text) <= MAX_CHARS else None
    if parser is None:
        return None
    interrupt = INTERRUPT.get() or Interrupt()
    data = text.encode("utf-8", "replace")
    end = time.thread_time() + PARSE_SECONDS

    def read(offset: int, point: Point) -> bytes:
        return data[offset : offset + _PIECE]

    def is_over(offset: int, has_error: bool) -> bool:
        return interrupt.stopped or time.thread_time() > end

    interrupt.parsing = True
    try:
        return parser.parse(read, progress_callback=is_over).root_node
    except ValueError:  # it was ended
        return None
    finally:
        interrupt.parsing = False
        if interrupt.stopped:
            raise Interrupted
