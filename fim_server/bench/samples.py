"""Real code to complete in benchmarks, and requests as they arise while it is typed.

The files belong to dependencies of fim-server, so that every installation has them; they are
held-out projects of the default model's corpus, which was not trained on them.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from fim_model.requests import CompletionRequest
from lsprotocol import types as lsp

from fim_server.completion.hole import hole_at, request_for
from fim_server.completion.in_context import in_context
from fim_server.documents.documents import DocumentStore
from fim_server.settings.settings import Settings

FILES = (
    "rich/table.py",
    "rich/progress.py",
    "rich/text.py",
    "pygls/protocol/json_rpc.py",
    "pygls/workspace/text_document.py",
)
_SHORTEST_CONTENT = 16


@dataclass(frozen=True, slots=True)
class Keystrokes:
    """A partly written line: the cursor is at the end of `before`, then `typed` is typed.

    The rest of the line is removed; `after` begins with its newline.
    """

    path: str
    before: str
    typed: str
    after: str


def bundled_samples(count: int, typed: int = 3) -> list[Keystrokes]:
    """`count` places in the bundled files, the same on every machine with the same packages."""
    sources = [(path, source_text(path)) for path in FILES]
    shares = [count // len(FILES) + (index < count % len(FILES)) for index in range(len(FILES))]
    return [
        sample
        for (path, text), share in zip(sources, shares, strict=True)
        for sample in spread_samples(path, text, share, typed)
    ]


def source_text(path: str) -> str:
    """The text of one of FILES."""
    return _installed(path).read_text(encoding="utf-8")


def spread_samples(path: str, text: str, count: int, typed: int) -> list[Keystrokes]:
    """At most `count` lines of code spread evenly over `text`, each cut after its first third."""
    lines = text.split("\n")
    prose = _docstring_lines(text)
    code = [n for n, line in enumerate(lines) if n not in prose and _is_code(line)]
    chosen = [code[(2 * i + 1) * len(code) // (2 * count)] for i in range(min(count, len(code)))]
    return [_sample(path, lines, number, typed) for number in chosen]


def requests_while_typing(
    sample: Keystrokes, settings: Settings, session: str
) -> tuple[CompletionRequest, CompletionRequest]:
    """The server's requests to its backend before and after the typing, limited to one line."""
    store, uri = DocumentStore(), f"file:///{sample.path}"
    store.open(uri, "python", 1, sample.before + sample.after)
    line = sample.before.count("\n")
    cursor = lsp.Position(line, _utf16(sample.before.rpartition("\n")[2]))
    first = _request(store, uri, cursor, settings, session)
    insertion = lsp.TextDocumentContentChangePartial(
        range=lsp.Range(cursor, cursor), text=sample.typed
    )
    store.change(uri, 2, [insertion])
    end = lsp.Position(line, cursor.character + _utf16(sample.typed))
    return first, _request(store, uri, end, settings, session)


def _request(
    store: DocumentStore, uri: str, cursor: lsp.Position, settings: Settings, session: str
) -> CompletionRequest:
    snapshot = store.snapshot(uri)
    assert snapshot is not None  # opened by the caller
    hole = hole_at(snapshot, cursor, settings.prefix_chars, settings.suffix_chars)
    request = request_for(hole, snapshot, settings, alternatives=1)
    return in_context(replace(request, max_lines=1, session=session), hole, snapshot)


def _sample(path: str, lines: Sequence[str], number: int, typed: int) -> Keystrokes:
    line = lines[number]
    indentation = len(line) - len(line.lstrip())
    cursor = indentation + (len(line) - indentation) // 3
    return Keystrokes(
        path=path,
        before="\n".join([*lines[:number], line[:cursor]]),
        typed=line[cursor : cursor + typed],
        after="\n" + "\n".join(lines[number + 1 :]),
    )


def _is_code(line: str) -> bool:
    content = line.strip()
    return len(content) >= _SHORTEST_CONTENT and not content.startswith("#")


def _docstring_lines(text: str) -> set[int]:
    """0-based line numbers of all strings that are expression statements."""
    alone = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr))
    strings = (node for node in alone if isinstance(node.value, ast.Constant))
    return {n for node in strings for n in range(node.lineno - 1, node.end_lineno or node.lineno)}


def _installed(path: str) -> Path:
    """The file of an installed package, without importing it."""
    package, _, inside = path.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"package {package!r} is not installed; reinstall fim-server")
    return Path(spec.origin).parent / inside


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
