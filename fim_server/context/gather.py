"""Gathers what other files offer at a cursor: snippets to show the model, texts to copy from.

Excluded documents are filtered out in `allowed_files`. Files that are not open are read through
`access.files.read_allowed` only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fim_model.copies import within_reach

from fim_server.access.exclusions import resolved
from fim_server.access.files import files_beside, read_allowed
from fim_server.access.workspace import Workspace, file_of
from fim_server.context.imported_files import MAX_IMPORTS, imported_files
from fim_server.context.snippet_selection import choose
from fim_server.context.snippets import OtherFile, ScoredSnippet, SnippetFinder, focus_at
from fim_server.documents.documents import Place, Snapshot
from fim_server.documents.lines import Lines
from fim_server.syntax.definitions import MAX_CHARS
from fim_server.syntax.languages import language_of

MAX_DOCUMENTS = 24
"""Open documents that are searched, the most recently used first."""

MAX_CHOICES = 16
"""Documents whose chosen snippets are remembered."""

_HEAD_LINES = 200
"""Lines at the start of a file that are searched for imports."""


@dataclass(frozen=True, slots=True)
class ContextQuery:
    """What to gather: a cursor in `document`, the other open documents, and the limits.

    `max_chars` bounds the characters of all snippets together. `copies` asks for texts of other
    files as well, to copy from.
    """

    document: Snapshot
    place: Place
    others: Sequence[Snapshot]
    workspace: Workspace
    max_snippets: int
    max_chars: int
    copies: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What other files offer: snippets as (path, text), in prompt order, and texts to copy from."""

    snippets: tuple[tuple[str, str], ...] = ()
    texts: tuple[str, ...] = ()


class Gatherer:
    """Answers context queries, and remembers what it read and chose. Belongs to one thread.

    A query is a snapshot, so the event loop may go on while it is answered.
    """

    def __init__(self) -> None:
        self._finder = SnippetFinder()
        self._choices: OrderedDict[str, tuple[Hashable, list[ScoredSnippet]]] = OrderedDict()
        self._texts: tuple[Hashable, tuple[str, ...]] = (None, ())

    def context(self, query: ContextQuery) -> Context:
        """The snippets and the texts that other files offer at a cursor."""
        snippets = tuple((snippet.path, snippet.text) for snippet in self.snippets(query))
        return Context(snippets, self.texts(query))

    def texts(self, query: ContextQuery) -> tuple[str, ...]:
        """Texts to copy from: open documents, imported files, files in the same folder."""
        if not query.copies or not query.workspace.trusted:
            return ()
        key = (query.document.uri, _cache_key(query))
        if self._texts[0] != key:
            files = allowed_files(query)
            files += _files_beside(query, {file.path for file in files})
            texts = dict.fromkeys(file.text for file in files)
            self._texts = key, within_reach(texts)
        return self._texts[1]

    def snippets(self, query: ContextQuery) -> list[ScoredSnippet]:
        """The chosen snippets in prompt order, with their lines and reasons."""
        if not query.max_snippets or not query.workspace.trusted:
            return []
        uri = query.document.uri
        key = _cache_key(query)
        known_key, chosen = self._choices.pop(uri, (None, []))
        if known_key != key:
            found = self._finder.find(allowed_files(query), focus_at(*_around(query)))
            chosen = choose(found, chosen, query.max_snippets, query.max_chars)
        self._choices[uri] = (key, chosen)
        if len(self._choices) > MAX_CHOICES:
            self._choices.popitem(last=False)
        return chosen


def allowed_files(query: ContextQuery) -> list[OtherFile]:
    """The files that may be shown: open documents, and imported files of the workspace."""
    by_path: dict[str, OtherFile] = {}
    for file in (*_open_documents(query), *_imported(query)):
        by_path.setdefault(file.path, file)
    return list(by_path.values())


def _cache_key(query: ContextQuery) -> Hashable:
    """Queries of one document with the same key have the same answer."""
    others = frozenset((other.uri, other.revision) for other in query.others)
    return (query.place.line, others, query.workspace, query.max_snippets, query.max_chars)


def _around(query: ContextQuery) -> tuple[str, str]:
    """A few lines on both sides of the cursor."""
    lines, cursor = query.document.lines, query.place
    line = lines[cursor.line]
    before = "".join(lines[max(cursor.line - 20, 0) : cursor.line]) + line[: cursor.index]
    after = line[cursor.index :] + "".join(lines[cursor.line + 1 : cursor.line + 6])
    return _plain(before[-4000:]), _plain(after[:1000])


def _open_documents(query: ContextQuery) -> Iterator[OtherFile]:
    for document in query.others[:MAX_DOCUMENTS]:
        if query.workspace.why_not_show(document.uri) is not None:
            continue
        if Lines.of(document.lines).characters > MAX_CHARS:
            continue
        path = query.workspace.shown_path(document.uri)
        language = language_of(document.language, path)
        text = _plain(document.text)
        yield OtherFile(path, text, language, document.revision, document.edited_line)


def _files_beside(query: ContextQuery, read: Collection[str]) -> Iterator[OtherFile]:
    """Files of the same kind in the document's folder, without those whose paths are in `read`."""
    file = file_of(query.document.uri)
    if file is None:
        return
    known = {resolved(file), *_open_paths(query)}
    for path in files_beside(file):
        real = _readable(path, query.workspace)
        if real is None or real in known:
            continue
        known.add(real)
        if query.workspace.shown_path(real.as_uri()) not in read:
            yield from _read(real, query.workspace)


def _read(file: Path, workspace: Workspace, *, imported: bool = False) -> Iterator[OtherFile]:
    """A file that is not open, from disk; nothing if it may not be read."""
    if (text := read_allowed(file, workspace.exclusions)) is not None:
        path = workspace.shown_path(file.as_uri())
        yield OtherFile(path, _plain(text), language_of("", path), hash(text), imported=imported)


def _imported(query: ContextQuery) -> Iterator[OtherFile]:
    """The files that the document imports, MAX_IMPORTS at most."""
    file = file_of(query.document.uri)
    if file is None:
        return
    workspace = query.workspace
    known = {resolved(file), *_open_paths(query)}
    head = _plain("".join(query.document.lines[:_HEAD_LINES]))
    suffix = file.suffix.lstrip(".").lower()
    found = 0
    for paths in imported_files(head, suffix, file, workspace.roots):
        if found == MAX_IMPORTS:
            return
        for path in paths:
            real = _readable(path, workspace)
            if real is None or real in known:
                continue
            known.add(real)
            for imported in _read(real, workspace, imported=True):
                yield imported
                found += 1
            break


def _open_paths(query: ContextQuery) -> Iterator[Path]:
    for document in query.others:
        if (path := file_of(document.uri)) is not None:
            yield resolved(path)


def _readable(path: Path, workspace: Workspace) -> Path | None:
    """The real path of a file, None if it does not exist or may not be read."""
    try:
        if not path.is_file() or workspace.exclusions.why_not_read(path) is not None:
            return None
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
