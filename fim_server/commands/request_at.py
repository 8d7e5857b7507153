"""Build the completion request at a position of a file, for `complete` and `context`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fim_model.requests import CompletionRequest

from fim_server.access.exclusions import repository_of, resolved
from fim_server.access.workspace import Workspace
from fim_server.commands.file_position import FilePosition, language_name, read_source
from fim_server.commands.usage_error import UsageError
from fim_server.commands.user_settings import settings_of
from fim_server.completion.hole import Hole, budgeted_hole, request_for
from fim_server.completion.in_context import in_context
from fim_server.completion.silence import Silence
from fim_server.context.gather import ContextQuery, Gatherer
from fim_server.context.snippets import ScoredSnippet
from fim_server.documents.documents import DocumentStore, Encoding, Snapshot
from fim_server.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Question:
    """A request and the settings, document and snippets that it was built from."""

    settings: Settings
    snapshot: Snapshot
    hole: Hole
    request: CompletionRequest
    choice: list[ScoredSnippet]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a file is excluded from completion: the silence reason and the rule."""

    silence: Silence
    detail: str


def refusal_of(file: Path, settings: Settings) -> Refusal | None:
    """The reason why the server would not complete in a file, or None; the file is not opened."""
    if rule := workspace_of(file, settings).why_not_show(resolved(file).as_uri()):
        return Refusal(Silence.EXCLUDED, rule)
    if (language := language_name(file)) in settings.disabled_languages:
        return Refusal(Silence.LANGUAGE_DISABLED, language)
    return None


def allowed_settings(file: Path, arguments: argparse.Namespace) -> Settings:
    """The settings of a command on a file. Raises UsageError for an excluded file."""
    settings = settings_of(
        model=arguments.model, threads=arguments.threads, backend=arguments.backend
    )
    if refusal := refusal_of(file, settings):
        raise UsageError(f"{file}: {refusal.silence} ({refusal.detail})")
    return settings


def question_at(
    where: FilePosition, settings: Settings, beside: Sequence[Path] = (), alternatives: int = 1
) -> Question:
    """The question at a position of a file. Raises UsageError for bad input.

    The file's repository is the workspace; the files `beside` it count as open documents.
    """
    workspace = workspace_of(where.file, settings)
    snapshot = where.read()
    position = where.in_text(snapshot)
    query = ContextQuery(
        document=snapshot,
        place=snapshot.place(position),
        others=_open_beside(beside, workspace),
        workspace=workspace,
        max_snippets=settings.snippets,
        max_chars=settings.snippet_chars,
        copies=settings.copies_from == "project",
    )
    gatherer = Gatherer()
    choice, context = gatherer.snippets(query), gatherer.context(query)
    hole = budgeted_hole(snapshot, position, settings)
    request = request_for(hole, snapshot, settings, alternatives)
    request = replace(
        in_context(request, hole, snapshot, context), adapter=workspace.adapter_of(snapshot.uri)
    )
    return Question(settings, snapshot, hole, request, choice)


def workspace_of(file: Path, settings: Settings) -> Workspace:
    """The workspace of a file: its repository, or else its folder."""
    folder = resolved(file).parent
    return Workspace([repository_of(folder) or folder], settings)


def _open_beside(files: Sequence[Path], workspace: Workspace) -> list[Snapshot]:
    """The files as open documents, most recent last; excluded files are not read."""
    store = DocumentStore(Encoding.UTF32)
    for file in files:
        uri = resolved(file).as_uri()
        if workspace.why_not_show(uri) is None:
            source = read_source(file)
            store.open(uri, source.language, 0, source.text)
    return store.others("")
