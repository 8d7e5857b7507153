"""Gathers what the model is shown of other files, for a cursor.

Nothing of an excluded document gets further than `sources_for`, and files that are not open are
read by `files.read_allowed` only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fim_server.backends.base import Snippet
from fim_server.context.candidates import Candidate, CandidateFinder, Source, focus_at
from fim_server.context.files import read_allowed
from fim_server.context.imports import MOST_IMPORTS, imported_files
from fim_server.context.languages import language_of
from fim_server.context.selection import choose
from fim_server.context.syntax import MOST_CHARS
from fim_server.context.workspace import Workspace, file_of
from fim_server.documents import Place, Snapshot

MOST_DOCUMENTS = 24
"""Open documents that are looked at, the latest first."""

MOST_CHOICES = 16
"""Documents whose choice of snippets is remembered."""

_HEAD_LINES = 200
"""Imports are looked for in so many lines at a file's start."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A cursor among open documents: all that a choice of snippets depends on."""

    document: Snapshot
    place: Place
    others: Sequence[Snapshot]
    workspace: Workspace
    most: int
    most_chars: int


class Gatherer:
    """Chooses snippets. Belongs to one thread; a scene is a snapshot, so the loop may go on."""

    def __init__(self) -> None:
        self._finder = CandidateFinder()
        self._choices: OrderedDict[str, tuple[Hashable, list[Candidate]]] = OrderedDict()

    def snippets(self, scene: Scene) -> tuple[Snippet, ...]:
        """What to show, in the order to show it in."""
        return tuple(Snippet(one.path, one.text) for one in self.choice(scene))

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
        if sum(map(len, one.lines)) > MOST_CHARS:
            continue
        path = scene.workspace.shown_path(one.uri)
        language = language_of(one.language, path)
        yield Source(path, _plain(one.text), language, one.revision, one.edited_line)


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
            if (text := read_allowed(resolved, workspace.exclusions)) is not None:
                path = workspace.shown_path(resolved.as_uri())
                stamp = hash(text)
                yield Source(path, _plain(text), language_of("", path), stamp, imported=True)
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
