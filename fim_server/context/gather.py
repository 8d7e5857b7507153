"""Gathers what other files have for a cursor: pieces that the model is shown, texts to copy from.

Nothing of an excluded document gets further than `sources_for`, and files that are not open are
read by `files.read_allowed` only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fim_model.copies import within_reach

from fim_server.access.files import files_beside, read_allowed
from fim_server.access.workspace import Workspace, file_of
from fim_server.context.imported_files import MOST_IMPORTS, imported_files
from fim_server.context.snippet_selection import choose
from fim_server.context.snippets import Candidate, CandidateFinder, Source, focus_at
from fim_server.documents.documents import Place, Snapshot
from fim_server.syntax.definitions import MAX_CHARS
from fim_server.syntax.languages import language_of

MOST_DOCUMENTS = 24
"""Open documents that are looked at, the latest first."""

MOST_CHOICES = 16
"""Documents whose choice of snippets is remembered."""

_HEAD_LINES = 200
"""Imports are looked for in so many lines at a file's start."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A cursor among open documents: all that a choice of snippets depends on.

    copies: whether texts of other files are wanted as well, to copy from.
    """

    document: Snapshot
    place: Place
    others: Sequence[Snapshot]
    workspace: Workspace
    most: int
    most_chars: int
    copies: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What other files have: snippets in the order to show them in, as (path, text), and texts to
    copy from."""

    snippets: tuple[tuple[str, str], ...] = ()
    texts: tuple[str, ...] = ()


class Gatherer:
    """Looks into other files. Belongs to one thread; a scene is a snapshot: the loop may go on."""

    def __init__(self) -> None:
        self._finder = CandidateFinder()
        self._choices: OrderedDict[str, tuple[Hashable, list[Candidate]]] = OrderedDict()
        self._texts: tuple[Hashable, tuple[str, ...]] = (None, ())

    def context(self, scene: Scene) -> Context:
        """All that other files have for a cursor."""
        snippets = tuple((one.path, one.text) for one in self.choice(scene))
        return Context(snippets, self.texts(scene))

    def texts(self, scene: Scene) -> tuple[str, ...]:
        """What may be copied from: open documents, imported files, files in the same folder."""
        if not scene.copies or not scene.workspace.trusted:
            return ()
        occasion = (scene.document.uri, _occasion(scene))
        if self._texts[0] != occasion:
            sources = sources_for(scene)
            sources += _sources_beside(scene, {one.path for one in sources})
            texts = dict.fromkeys(one.text for one in sources)
            self._texts = occasion, within_reach(texts)
        return self._texts[1]

    def choice(self, scene: Scene) -> list[Candidate]:
        """The same with reasons and places."""
        if not scene.most or not scene.workspace.trusted:
            return []
        uri = scene.document.uri
        occasion = _occasion(scene)
        before, chosen = self._choices.pop(uri, (None, []))
        if before != occasion:
            sources = sources_for(scene)
            candidates = self._finder.find(sources, focus_at(*_around(scene)))
            chosen = choose(candidates, chosen, scene.most, scene.most_chars)
        self._choices[uri] = (occasion, chosen)
        if len(self._choices) > MOST_CHOICES:
            self._choices.popitem(last=False)
        return chosen


def sources_for(scene: Scene) -> list[Source]:
    """The files that may be shown: open documents, and imported files of the workspace."""
    by_path: dict[str, Source] = {}
    for one in (*_open_sources(scene), *_imported_sources(scene)):
        by_path.setdefault(one.path, one)
    return list(by_path.values())


def _occasion(scene: Scene) -> Hashable:
    """While this stays the same, so does the choice."""
    others = frozenset((one.uri, one.revision) for one in scene.others)
    return (scene.place.line, others, scene.workspace, scene.most, scene.most_chars)


def _around(scene: Scene) -> tuple[str, str]:
    """A few lines on both sides of the cursor."""
    lines, at = scene.document.lines, scene.place
    before = "".join(lines[max(at.line - 20, 0) : at.line]) + lines[at.line][: at.index]
    after = lines[at.line][at.index :] + "".join(lines[at.line + 1 : at.line + 6])
    return _plain(before[-4000:]), _plain(after[:1000])


def _open_sources(scene: Scene) -> Iterator[Source]:
    for one in scene.others[:MOST_DOCUMENTS]:
        if scene.workspace.why_not_show(one.uri) is not None:
            continue
        if sum(map(len, one.lines)) > MAX_CHARS:
            continue
        path = scene.workspace.shown_path(one.uri)
        language = language_of(one.language, path)
        yield Source(path, _plain(one.text), language, one.revision, one.edited_line)


def _sources_beside(scene: Scene, read: Collection[str]) -> Iterator[Source]:
    """Files of the same kind in the document's folder, but those whose paths are `read` already."""
    file = file_of(scene.document.uri)
    if file is None:
        return
    known = {file.resolve(), *_open_files(scene)}
    for place in files_beside(file):
        resolved = _existing(place, scene.workspace)
        if resolved is None or resolved in known:
            continue
        known.add(resolved)
        if scene.workspace.shown_path(resolved.as_uri()) not in read:
            yield from _source_of(resolved, scene.workspace)


def _source_of(file: Path, workspace: Workspace, *, imported: bool = False) -> Iterator[Source]:
    """A file that is not open; nothing where it may not be read."""
    if (text := read_allowed(file, workspace.exclusions)) is not None:
        path = workspace.shown_path(file.as_uri())
        yield Source(path, _plain(text), language_of("", path), hash(text), imported=imported)


def _imported_sources(scene: Scene) -> Iterator[Source]:
    file = file_of(scene.document.uri)
    if file is None:
        return
    workspace = scene.workspace
    known = {file.resolve(), *_open_files(scene)}
    head = _plain("".join(scene.document.lines[:_HEAD_LINES]))
    suffix = file.suffix.lstrip(".").lower()
    found = 0
    for places in imported_files(head, suffix, file, workspace.roots):
        if found == MOST_IMPORTS:
            return
        for place in places:
            resolved = _existing(place, workspace)
            if resolved is None or resolved in known:
                continue
            known.add(resolved)
            for source in _source_of(resolved, workspace, imported=True):
                yield source
                found += 1
            break


def _open_files(scene: Scene) -> Iterator[Path]:
    for one in scene.others:
        if (path := file_of(one.uri)) is not None:
            yield path.resolve()


def _existing(place: Path, workspace: Workspace) -> Path | None:
    """The file at a place, if there is one and it may be read."""
    try:
        if not place.is_file() or workspace.exclusions.why_not_read(place) is not None:
            return None
        return place.resolve()
    except (OSError, RuntimeError):
        return None


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
