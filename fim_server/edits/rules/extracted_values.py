"""Rule: after a value was given a name, the name takes its place below."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import count_tokens
from fim_server.edits.rules.drafts import Draft, LineEdit, Signs
from fim_server.edits.rules.page import Page

_ASSIGNED = re.compile(
    r"\s*(?:(?:const|let|var|local|final|auto|static|pub|mut)\s+)*([^\W\d]\w*)"
    r"(?:\s*:\s*[^=]+?)?\s*:?=\s*([^=~].*?)[;,]?\s*\Z"
)
_MIN_TOKENS = 3
"""Of a value that a name takes the place of; shorter ones stand anywhere."""

_MAX_LINES = 200
"""Lines below that are read, where the syntax knows no definition around the hunk."""


def extracted_values(page: Page, hunk: Hunk) -> Iterator[Draft]:
    """The places of the values that a hunk of the page gave a name: below it, in the definition
    around it, as long as the name gets no other value."""
    if not page.has(hunk):
        return
    scope = page.scope_around(hunk.first)
    end = min(scope[1] if scope else page.last, hunk.end + _MAX_LINES)
    before = _assigned(hunk.old)
    for name, value in _assigned(hunk.new).items():
        tokens = count_tokens([value])
        if name in before or tokens < _MIN_TOKENS:
            continue
        pattern = _whole(value)
        for number in range(hunk.end, end):
            line = page.lines.get(number, "")
            assigned = _ASSIGNED.match(line)
            if assigned is not None and assigned[1] == name and not line.rstrip().endswith(","):
                break
            edits = [
                LineEdit(number, found.start(), found.end(), name)
                for found in pattern.finditer(line)
                if not page.is_text(number, found.start())
            ]
            if edits:
                yield Draft(tuple(edits), f"still has {value}", Signs(tokens=tokens))


def _assigned(lines: Sequence[str]) -> dict[str, str]:
    """The names that lines assign, with their values."""
    return {found[1]: found[2] for line in lines if (found := _ASSIGNED.match(line))}


def _whole(text: str) -> re.Pattern[str]:
    """Text where no longer name or attribute begins or ends with it."""
    start = r"(?<![\w.])" if re.match(r"\w", text) else ""
    end = r"(?!\w)" if re.search(r"\w\Z", text) else ""
    return re.compile(f"{start}{re.escape(text)}{end}")
