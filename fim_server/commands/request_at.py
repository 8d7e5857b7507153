"""Build the completion request at a position of a file, for commands that take FILE and --line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from fim_model.requests import CompletionRequest
from lsprotocol import types as lsp

from fim_server.access.exclusions import repository_of, resolved
from fim_server.access.workspace import Workspace
from fim_server.commands.terminal import print_error
from fim_server.commands.usage_error import UsageError
from fim_server.completion.hole import Hole, budgeted_hole, request_for
from fim_server.completion.in_context import in_context
from fim_server.completion.silence import Silence
from fim_server.context.gather import ContextQuery, Gatherer
from fim_server.context.snippets import ScoredSnippet
from fim_server.documents.documents import (
    DocumentStore,
    Encoding,
    Snapshot,
    split_lines,
    without_end,
)
from fim_server.settings.settings import Settings
from fim_server.settings.sources import SettingsSources, config_file
from fim_server.syntax.languages import language_of


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


def question_at(arguments: argparse.Namespace, settings: Settings) -> Question:
    """The question at `--line` and `--column` of `file`. Raises UsageError for bad input.

    The file's repository is the workspace; the files of `--open` count as open documents.
    """
    file: Path = arguments.file
    workspace = workspace_of(file, settings)
    snapshot = read_source(file)
    position = checked_position(snapshot, file, arguments.line, arguments.column)
    query = ContextQuery(
        document=snapshot,
        place=snapshot.place(position),
        others=_open_beside(arguments.open, workspace),
        workspace=workspace,
        max_snippets=settings.snippets,
        max_chars=settings.snippet_chars,
        copies=settings.copies_from == "project",
    )
    gatherer = Gatherer()
    choice, context = gatherer.snippets(query), gatherer.context(query)
    hole = budgeted_hole(snapshot, position, settings)
    alternatives = getattr(arguments, "alternatives", 1)
    request = request_for(hole, snapshot, settings, alternatives)
    request = in_context(request, hole, snapshot, context)
    return Question(settings, snapshot, hole, request, choice)


def settings_of(**command_line: object) -> Settings:
    """The user's settings overridden by the command line; reports invalid ones on stderr."""
    given = {key: value for key, value in command_line.items() if value is not None}
    sources = SettingsSources(Settings(), config_file(), command_line=given)
    settings, problems = sources.resolve()
    for problem in problems:
        print_error(f"fim-server: {problem}")
    return settings


def workspace_of(file: Path, settings: Settings) -> Workspace:
    """The workspace of a file: its repository, or else its folder."""
    folder = resolved(file).parent
    return Workspace([repository_of(folder) or folder], settings)


def read_source(path: Path) -> Snapshot:
    """A file as a document with positions in characters. Raises UsageError if unreadable."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as problem:  # a zero byte in the name is a ValueError
        why = getattr(problem, "strerror", None) or str(problem)
        raise UsageError(f"{path}: cannot be read ({why})") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise UsageError(
            f"{path}: byte {problem.start} is not UTF-8; convert the file, for example with iconv"
        ) from None
    uri, language = resolved(path).as_uri(), language_name(path)
    return Snapshot(uri, language, 0, 0, Encoding.UTF32, split_lines(text))


def language_name(path: Path) -> str:
    """The LSP language id of a file, or its suffix if unknown."""
    known = language_of("", path.name)
    return known.names[0] if known else path.suffix.lstrip(".")


def checked_position(snapshot: Snapshot, path: Path, line: int, column: int) -> lsp.Position:
    """1-based line and 0-based column as an LSP position. Raises UsageError if out of range."""
    if not 1 <= line <= len(snapshot.lines):
        raise UsageError(f"{path}: line {line} is outside the file's 1 to {len(snapshot.lines)}")
    width = len(without_end(snapshot.lines[line - 1]))
    if not 0 <= column <= width:
        raise UsageError(f"{path}: column {column} is outside line {line}'s 0 to {width}")
    return lsp.Position(line - 1, column)


def _open_beside(files: list[Path], workspace: Workspace) -> list[Snapshot]:
    """The files as open documents, most recent last; excluded files are not read."""
    store = DocumentStore(Encoding.UTF32)
    for file in files:
        uri = resolved(file).as_uri()
        if workspace.why_not_show(uri) is None:
            source = read_source(file)
            store.open(uri, source.language, 0, source.text)
    return store.others("")
