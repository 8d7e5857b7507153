"""Every request gets one answer, with a silence reason if empty; the latest request wins."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from fim_model.requests import (
    ADAPTER_FILE,
    Completion,
    CompletionItem,
    CompletionRequest,
    Gate,
    Snippet,
)
from lsprotocol import types as lsp
from scripted import ScriptedBackend

from fim_server.access.tuned_workspaces import adapter_name, adapters_folder
from fim_server.access.workspace import Workspace
from fim_server.backends.base import BackendError
from fim_server.completion.answer import Answer
from fim_server.completion.completer import Completer
from fim_server.completion.silence import Silence
from fim_server.documents.documents import DocumentStore
from fim_server.settings.settings import Settings

pytestmark = pytest.mark.timeout(60)  # fail soon if an answer never comes

URI = "file:///a.py"
INVOKED = lsp.InlineCompletionTriggerKind.Invoked
AUTOMATIC = lsp.InlineCompletionTriggerKind.Automatic


class Desk:
    """A completer with one open document and a scripted backend."""

    def __init__(self, text: str, backend: ScriptedBackend | None = None) -> None:
        self.backend = backend or ScriptedBackend()
        self.documents = DocumentStore()
        self.completer = Completer(self.documents, self.backend, Settings(alternatives=3))
        self.write(text)

    def write(self, text: str, uri: str = URI, version: int = 1) -> None:
        self.documents.open(uri, "python", version, text)
        self.completer.document_changed(uri)

    async def started(self) -> Desk:
        await self.completer.start(lambda what, share: None)
        return self

    async def ask(
        self,
        character: int = 999,
        uri: str = URI,
        trigger: lsp.InlineCompletionTriggerKind = AUTOMATIC,
        version: int | None = None,
    ) -> Answer:
        return await self.completer.complete(uri, lsp.Position(0, character), trigger, version)

    async def asked(self, count: int) -> None:
        """Wait until `count` requests have reached the backend."""
        while len(self.backend.asked) < count:
            await self.backend.arrivals.get()


def texts(answer: Answer) -> list[object]:
    return [item.insert_text for item in answer.items]


async def test_an_answer_is_plain_text_at_the_cursor() -> None:
    desk = await Desk("#say 1 + 1\n").started()
    answer = await desk.ask()
    cursor = lsp.Position(0, 10)
    assert answer.items == [
        lsp.InlineCompletionItem(insert_text="1 + 1", range=lsp.Range(cursor, cursor))
    ]
    assert answer.silence is None


async def test_automatic_gives_one_and_invoked_gives_alternatives() -> None:
    desk = await Desk("#say x").started()
    assert texts(await desk.ask(trigger=AUTOMATIC)) == ["x"]
    assert texts(await desk.ask(trigger=INVOKED)) == ["x", "x 2", "x 3"]


async def test_alternatives_equal_after_trimming_are_merged() -> None:
    class Padding(ScriptedBackend):
        async def complete(self, request: CompletionRequest) -> Completion:
            completion = await super().complete(request)
            first = completion.items[0]
            return Completion([first, type(first)(first.text + " \n", 0.1)], completion.stats)

    desk = await Desk("#say x", Padding()).started()
    assert texts(await desk.ask(trigger=INVOKED)) == ["x"]


async def test_the_answer_has_the_documents_line_ends() -> None:
    desk = await Desk("#say a:\\n    b\r\nrest\r\n").started()
    assert texts(await desk.ask()) == ["a:\r\n    b"]


async def test_while_loading_and_after_a_failed_load_answers_are_empty() -> None:
    desk = Desk("#say x", ScriptedBackend("no such folder"))
    assert (await desk.ask()).silence is Silence.LOADING
    with pytest.raises(BackendError, match="no such folder"):
        await desk.started()
    assert (await desk.ask()).silence is Silence.NO_MODEL
    assert desk.backend.asked == []


async def test_a_backend_that_fails_to_load_gives_no_model() -> None:
    class Broken(ScriptedBackend):
        async def start(self, progress: object) -> None:
            raise OSError("disk")

    desk = Desk("", Broken())
    with pytest.raises(BackendError, match=r"could not be loaded \(OSError at "):
        await desk.started()
    assert (await desk.ask()).silence is Silence.NO_MODEL


async def test_an_unknown_document_or_version_is_a_silence_reason() -> None:
    desk = await Desk("#say x").started()
    assert (await desk.ask(uri="file:///b.py")).silence is Silence.UNKNOWN_DOCUMENT
    assert (await desk.ask(version=0)).silence is Silence.STALE
    assert (await desk.ask(version=2)).silence is Silence.STALE
    assert texts(await desk.ask(version=1)) == ["x"]
    desk.documents.close(URI)
    assert (await desk.ask()).silence is Silence.UNKNOWN_DOCUMENT
    assert len(desk.backend.asked) == 1


async def test_a_newer_request_supersedes_only_those_of_the_same_document() -> None:
    desk = await Desk("#wait 1234").started()
    desk.write("#wait", "file:///other.py")
    other = asyncio.create_task(desk.ask(uri="file:///other.py"))
    older = asyncio.create_task(desk.ask(6))
    await desk.asked(2)
    newer = asyncio.create_task(desk.ask(7))
    assert (await older).silence is Silence.SUPERSEDED
    await desk.asked(3)
    assert [request.prefix for request in desk.backend.stopped] == ["#wait "]
    assert not newer.done()
    assert not other.done()
    await desk.completer.close()
    assert (await newer).silence is Silence.CANCELLED
    assert (await other).silence is Silence.CANCELLED


async def test_a_change_cancels_the_request_with_an_empty_answer() -> None:
    desk = await Desk("#wait").started()
    asking = asyncio.create_task(desk.ask())
    await desk.asked(1)
    desk.write("#say x", version=2)
    assert (await asking).silence is Silence.STALE
    assert len(desk.backend.stopped) == 1
    assert texts(await desk.ask()) == ["x"]


async def test_a_finished_answer_to_an_outdated_text_is_not_shown() -> None:
    """The backend has finished, but the change is handled before its answer."""
    desk = await Desk("#say x").started()
    asking = asyncio.create_task(desk.ask())
    await desk.asked(1)
    desk.write("#say y", version=2)
    assert (await asking).silence is Silence.STALE


async def test_cancelling_the_request_stops_the_backend() -> None:
    desk = await Desk("#wait").started()
    asking = asyncio.create_task(desk.ask())
    await desk.asked(1)
    asking.cancel()
    assert (await asking).silence is Silence.CANCELLED
    assert len(desk.backend.stopped) == 1


async def test_errors_of_the_backend_are_named_and_the_next_request_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = await Desk("#fail out of memory").started()
    assert (await desk.ask()).silence is Silence.BACKEND_ERROR
    assert "out of memory" in caplog.text
    desk.write("#crash my secret code")
    assert (await desk.ask()).silence is Silence.INTERNAL_ERROR
    assert "ValueError at scripted.py:" in caplog.text
    assert "secret" not in caplog.text, "an exception's message may quote the document"
    desk.write("#say x")
    assert texts(await desk.ask()) == ["x"]


async def test_blank_answers_and_repetitions_are_not_shown() -> None:
    desk = await Desk("#say  \\n\n").started()
    assert (await desk.ask()).silence is Silence.BLANK

    class Mute(ScriptedBackend):
        async def complete(self, request: CompletionRequest) -> Completion:
            return Completion()

    desk = await Desk("x", Mute()).started()
    assert (await desk.ask()).silence is Silence.NOTHING_WRITTEN


@pytest.mark.parametrize("text", ["", "\n", "  \n\t\n", "{\n\n}\n"])
async def test_a_document_without_a_word_is_not_sent_to_the_model(text: str) -> None:
    desk = await Desk(text).started()
    assert (await desk.ask()).silence is Silence.NOTHING_TO_GO_ON
    assert desk.backend.asked == []


async def test_every_answer_is_logged_with_reason_and_time_and_no_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "fim_server")
    desk = Desk("secret = 1 #say hidden")
    await desk.ask()
    await desk.started()
    await desk.ask()
    await desk.ask(version=9)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[0].startswith("inline completion: nothing (loading), ")
    assert lines[1].startswith("inline completion: 1 items, ")
    assert lines[1].endswith(f"({Settings().mode}, 3 forwards, 6 tokens)")
    assert lines[2].startswith("inline completion: nothing (stale), ")
    assert "secret" not in caplog.text
    assert "hidden" not in caplog.text


async def test_close_releases_the_backend() -> None:
    desk = await Desk("").started()
    await desk.completer.close()
    assert desk.backend.closed


async def test_a_disabled_language_and_an_excluded_document_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fim_server")
    desk = await Desk("#say x").started()
    (tmp_path / ".gitignore").write_text("*_pb2.py")
    secret, generated = (tmp_path / name for name in (".env", "a_pb2.py"))
    desk.write("#say x", secret.as_uri())
    desk.write("#say x", generated.as_uri())
    settings = Settings()
    desk.completer.configure(settings, Workspace([tmp_path], settings))
    assert (await desk.ask(uri=secret.as_uri())).silence is Silence.EXCLUDED
    assert "nothing (excluded: its name matches a pattern for secrets (*.env))" in caplog.text
    answer = await desk.ask(uri=generated.as_uri())
    assert (answer.silence, answer.detail) == (Silence.EXCLUDED, ".gitignore: *_pb2.py")
    settings = Settings(gitignore=False, disabled_languages=("python",))
    desk.completer.configure(settings, Workspace([tmp_path], settings))
    assert (await desk.ask(uri=generated.as_uri())).silence is Silence.LANGUAGE_DISABLED
    settings = Settings(gitignore=False)
    desk.completer.configure(settings, Workspace([tmp_path], settings))
    assert texts(await desk.ask(uri=generated.as_uri())) == ["x"]
    assert len(desk.backend.asked) == 1


async def test_the_confidence_gate_is_a_setting() -> None:
    desk = await Desk("#say x").started()
    desk.completer.configure(Settings(min_confidence=0.6), Workspace())
    assert (await desk.ask()).silence is Silence.LOW_CONFIDENCE


class Advising(ScriptedBackend):
    """Its confidence is always 0.5, and its advised threshold is higher."""

    async def complete(self, request: CompletionRequest) -> Completion:
        return replace(await super().complete(request), show_above=0.6)


async def test_the_models_advised_threshold_is_the_default_gate() -> None:
    desk = await Desk("#say x", Advising()).started()
    assert (await desk.ask()).silence is Silence.LOW_CONFIDENCE
    desk.completer.configure(Settings(min_confidence=0.4), Workspace())
    assert texts(await desk.ask()) == ["x"]


@pytest.mark.parametrize("alternatives", [1, 3])
async def test_an_invoked_request_bypasses_the_confidence_gate(alternatives: int) -> None:
    desk = await Desk("#say x", Advising()).started()
    desk.completer.configure(Settings(alternatives=alternatives), Workspace())
    assert (await desk.ask(trigger=AUTOMATIC)).silence is Silence.LOW_CONFIDENCE
    assert texts(await desk.ask(trigger=INVOKED))[0] == "x"


class Gated(ScriptedBackend):
    """Its answers are `texts`, the likeliest first, and it advises to weigh the evidence."""

    def __init__(self, *texts: str, confidence: float = 0.9) -> None:
        super().__init__()
        self.texts, self.confidence = texts, confidence

    async def complete(self, request: CompletionRequest) -> Completion:
        completion = await super().complete(request)
        if not completion.items:
            return completion
        likely = [CompletionItem(text, self.confidence) for text in self.texts]
        gate = Gate(0.0, 1.0, 0.5, {"breaks": -9.0, "unknown_names": -6.0})
        return replace(completion, items=likely[: request.alternatives], gate=gate)


async def test_where_the_likeliest_text_would_not_parse_the_next_ones_are_tried() -> None:
    backend = Gated("(1", "[1", "1")
    desk = await Desk("x = ", backend).started()
    assert texts(await desk.ask()) == ["1"]
    assert [request.alternatives for request in backend.asked] == [1, 3]
    assert texts(await desk.ask()) == ["1"]
    assert len(backend.asked) == 2  # the cache knows it


async def test_where_no_text_parses_that_is_the_reason() -> None:
    backend = Gated("(1", "[1", "{1")
    desk = await Desk("x = ", backend).started()
    answer = await desk.ask()
    assert (answer.items, answer.silence) == ([], Silence.WOULD_NOT_PARSE)
    assert (await desk.ask()).silence is Silence.WOULD_NOT_PARSE
    assert len(backend.asked) == 2
    shown = await desk.ask(trigger=INVOKED)
    assert texts(shown) == ["(1", "[1", "{1"]


async def test_what_would_not_have_been_shown_anyway_is_not_asked_for_again() -> None:
    backend = Gated("(1", "1", confidence=0.3)
    desk = await Desk("x = ", backend).started()
    assert (await desk.ask()).silence is Silence.LOW_CONFIDENCE
    assert len(backend.asked) == 1


async def test_an_unknown_name_is_told_but_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    desk = await Desk("x = ", Gated("frobnicate(1)")).started()
    answer = await desk.ask()
    assert (answer.silence, answer.about) == (Silence.UNKNOWN_NAME, "frobnicate")
    assert (await desk.ask()).about == "frobnicate"
    assert "unknown_name" in caplog.text
    assert "frobnicate" not in caplog.text
    desk.write("def frobnicate(x): ...\n", "file:///b.py")
    desk.write("y = ")
    assert texts(await desk.ask()) == ["frobnicate(1)"]  # an open document has the name


async def test_the_users_threshold_is_for_the_weighed_confidence() -> None:
    desk = await Desk("x = ", Gated("frobnicate(1)")).started()
    desk.completer.configure(Settings(min_confidence=0.0), Workspace())
    assert texts(await desk.ask()) == ["frobnicate(1)"]
    desk.completer.configure(Settings(min_confidence=0.95), Workspace())
    assert (await desk.ask()).silence is Silence.LOW_CONFIDENCE


async def test_the_backend_gets_copies_from_the_project(tmp_path: Path) -> None:
    desk = await Desk("").started()
    desk.write("def area(radius): ...\n", (tmp_path / "shapes.py").as_uri())
    main = (tmp_path / "main.py").as_uri()
    desk.write("x = area(", main)
    project = Settings(multiline="never")
    desk.completer.configure(project, Workspace([tmp_path], project))
    await desk.ask(uri=main)
    [copied] = desk.backend.asked[-1].copies
    assert (copied.text, copied.matched, copied.elsewhere) == ("radius): ...", len(" area("), True)
    alone = Settings(multiline="never", copies_from="file")
    desk.completer.configure(alone, Workspace([tmp_path], alone))
    await desk.ask(uri=main)
    assert desk.backend.asked[-1].copies == ()


async def test_the_backend_gets_snippets_of_other_open_documents(tmp_path: Path) -> None:
    desk = await Desk("").started()
    desk.write("def area(radius): ...\n", (tmp_path / "shapes.py").as_uri())
    main = (tmp_path / "main.py").as_uri()
    desk.write("area(", main)
    await desk.ask(uri=main)
    assert desk.backend.asked[-1].snippets == ()
    settings = Settings(snippets=2, snippet_chars=100, prefix_chars=16, suffix_chars=30)
    desk.completer.configure(settings, Workspace([tmp_path], settings))
    await desk.ask(uri=main)
    shown = desk.backend.asked[-1]
    assert shown.snippets == (Snippet("shapes.py", "def area(radius): ..."),)
    desk.write("x" * 500, main)
    await desk.ask(uri=main)
    request = desk.backend.asked[-1]
    assert 16 < len(request.prefix) <= 16 + 30, "what the suffix leaves is the prefix's"
    tight = Settings(snippets=2, snippet_chars=10)
    desk.completer.configure(tight, Workspace([tmp_path], tight))
    await desk.ask(uri=main)
    assert desk.backend.asked[-1].snippets == ()


@pytest.mark.parametrize(
    ("before", "after", "multiline", "lines"),
    [
        ("def f():", "\n", "auto", 8),
        ("def f():\n    ", "\n", "auto", 8),
        ("x = ", "\n", "auto", 1),
        ("# note", "\n", "auto", 1),
        ("x = ", "\n", "always", 8),
        ("def f():", "\n", "never", 1),
        ("f(", ")", "always", 1),
    ],
)
async def test_syntax_decides_between_one_line_and_a_block(
    before: str, after: str, multiline: str, lines: int
) -> None:
    desk = await Desk(before + after).started()
    desk.completer.configure(Settings(multiline=multiline), Workspace())  # type: ignore[arg-type]
    place = lsp.Position(before.count("\n"), len(before.rpartition("\n")[2]))
    await desk.completer.complete(URI, place, AUTOMATIC)
    assert desk.backend.asked[-1].max_lines == lines


async def test_a_closed_document_is_forgotten_also_in_the_backend() -> None:
    desk = await Desk("#wait\n").started()
    waiting = asyncio.create_task(desk.ask())
    await desk.asked(1)
    desk.documents.close(URI)
    await desk.completer.closed(URI)
    assert (await waiting).silence is Silence.STALE
    assert len(desk.backend.stopped) == 1
    assert desk.backend.forgotten == [URI]


async def test_a_request_names_the_adapter_of_its_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    uri, workspace = (tmp_path / "project" / "a.py").as_uri(), tmp_path / "project"
    workspace.mkdir()
    desk = await Desk("").started()
    desk.completer.configure(Settings(), Workspace([workspace]))
    desk.write("x", uri)
    await desk.ask(uri=uri)
    assert not desk.completer.adapted(uri)
    place = adapters_folder() / adapter_name(workspace)
    place.mkdir(parents=True)
    (place / ADAPTER_FILE).touch()
    desk.write("xy", uri, 2)
    await desk.ask(uri=uri)
    assert desk.completer.adapted(uri)
    off = Settings(adapter=False)
    desk.completer.configure(off, Workspace([workspace], off))
    desk.write("xyz", uri, 3)
    await desk.ask(uri=uri)
    assert not desk.completer.adapted(uri)
    asked = [request.adapter for request in desk.backend.asked if not request.speculative]
    assert asked == ["", adapter_name(workspace), ""]


async def test_an_adapter_that_the_model_does_not_use_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one for another model, or any with a remote server."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    uri, workspace = (tmp_path / "project" / "a.py").as_uri(), tmp_path / "project"
    (place := adapters_folder() / adapter_name(workspace)).mkdir(parents=True)
    (place / ADAPTER_FILE).touch()
    desk = await Desk("").started()
    desk.completer.configure(Settings(), Workspace([workspace]))
    told = []
    for version, uses in enumerate((True, False, True), 1):
        desk.backend.uses_adapters = uses
        desk.write("x" * version, uri, version)
        await desk.ask(uri=uri)
        told.append(desk.completer.adapted(uri))
    assert told == [True, False, True]
    assert {request.adapter for request in desk.backend.asked} == {adapter_name(workspace)}
