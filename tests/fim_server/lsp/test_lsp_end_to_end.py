"""End to end: the real server process with the model that ships, driven as by an editor.

The quality of the suggestions is not tested, only that they exist, their position, and that the
server stays in sync with the typing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest
import pytest_lsp
from lsprotocol import types as lsp
from pytest_lsp import ClientServerConfig, LanguageClient
from raw_client import INLINE, inline_params, raw_client
from typist import AUTOMATIC, INVOKED, Typist

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = [sys.executable, "-m", "fim_server", "lsp"]

# The model runs in the server's process, because an engine would outlive the test.
OPTIONS = {"minConfidence": 0, "backend": "in_process", "maxTokens": 20, "threads": 1}

CODE = '''\
"""Counting words. 😀 astral: 𝒳"""

import re

WORD = re.compile(r"\\w+")


class Counter:
    def __init__(self, text):
        self.text = text
        self.counts = {}

    def count(self):
        for word in WORD.findall(self.text):
            self.counts[word] = self.counts.get(word, 0) + 1
        return self.counts

    def longest(self):
        smile = "😀𝒳"
        best = ""
        for word in self.counts:
            if len(word) > len(best):
                best = word
        return best


def main():
    counter = Counter("a b a")
    print(counter.count())
'''


@pytest_lsp.fixture(
    config=ClientServerConfig(server_command=SERVER), scope="module", params=["utf-16", "utf-8"]
)
async def client(lsp_client: LanguageClient, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """A client that offers a single encoding, connected to a server whose model is loaded."""
    result = await lsp_client.initialize_session(
        lsp.InitializeParams(
            initialization_options=OPTIONS,
            capabilities=lsp.ClientCapabilities(
                general=lsp.GeneralClientCapabilities(position_encodings=[request.param]),
                window=lsp.WindowClientCapabilities(work_done_progress=True),
            ),
        )
    )
    assert result.capabilities.position_encoding == request.param
    assert await load_message(lsp_client) == "Ready"
    yield
    await lsp_client.shutdown_session()
    assert lsp_client._server is not None
    assert lsp_client._server.returncode == 0
    assert lsp_client.messages == [], "no pop-ups"


async def load_message(client: LanguageClient) -> str | None:
    """The message at the end of the work-done progress."""
    async with asyncio.timeout(120):
        while True:
            for values in client.progress_reports.values():
                if values and isinstance(values[-1], lsp.WorkDoneProgressEnd):
                    return values[-1].message
            await client.wait_for_notification(lsp.PROGRESS)


Opener = Callable[[str], Typist]


@pytest.fixture
def open_document(client: LanguageClient, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Open a document for this test, and close it afterwards."""
    opened = []

    def open_it(text: str) -> Typist:
        uri = f"file:///project/{request.node.name.partition('[')[0]}_{len(opened)}.py"
        encoding = str(request.node.callspec.params["client"])
        opened.append(Typist(client, encoding, uri, text, cursor=len(text)).open())
        return opened[-1]

    yield open_it
    for typist in opened:
        typist.close()


def texts(items: Sequence[lsp.InlineCompletionItem]) -> list[str]:
    return [str(item.insert_text) for item in items]


def assert_showable(items: Sequence[lsp.InlineCompletionItem]) -> None:
    for text in texts(items):
        assert text.strip()
        assert not text.endswith(("\n", "\r"))


async def test_typing_a_function(open_document: Opener) -> None:
    """Each keystroke sends a change and a request; every request is answered."""
    typist = open_document(CODE)
    shown = 0
    lines = ("\n\ndef total(numbers):\n    ", "for n in ", "numbers:\n        ", "s += ")
    for line in lines:
        typist.type(line)
        items = await typist.complete()
        assert len(items) <= 1
        shown += len(items)
        assert_showable(items)
    assert shown >= 2, "a trained model has something to say at most of these places"
    answers = await asyncio.gather(*typist.asked)
    assert len(answers) == len("".join(lines))
    for answer in answers:
        assert_showable(answer.items)


async def test_accepting_and_continuing(open_document: Opener) -> None:
    typist = open_document(CODE)
    typist.goto("self.counts.get(word, 0) + 1\n        ")
    accepted = 0
    for _ in range(4):
        for item in await typist.complete():
            typist.accept(item)
            accepted += 1
        typist.type("\n        self.")
    assert accepted > 0
    typist.backspace()
    assert_showable(await typist.complete())


async def test_astral_characters_left_of_the_cursor(open_document: Opener) -> None:
    """The item's range is the cursor in the client's encoding."""
    typist = open_document(CODE).goto('smile = "😀𝒳"')
    typist.type(' + "😀" + ')
    items = await typist.complete(INVOKED)
    assert items
    expected = lsp.Position(18, {"utf-16": 32, "utf-8": 38}[typist.encoding])
    assert [item.range for item in items] == [lsp.Range(expected, expected)] * len(items)
    typist.accept(items[0])
    assert_showable(await typist.complete())


async def test_invoked_gives_several(open_document: Opener) -> None:
    typist = open_document(CODE).goto("        return best\n")
    typist.type("\n    def ")
    assert len(await typist.complete(AUTOMATIC)) <= 1
    items = await typist.complete(INVOKED)
    assert 2 <= len(items) <= 3
    assert len(set(texts(items))) == len(items)
    assert_showable(items)


async def test_inside_a_line_an_answer_is_one_line(open_document: Opener) -> None:
    typist = open_document(CODE).goto("if len(")
    items = await typist.complete(INVOKED)
    assert texts(await typist.complete(INVOKED)) == texts(items), "the same again"
    for text in texts(items):
        assert "\n" not in text


async def test_cancelling(open_document: Opener, client: LanguageClient) -> None:
    typist = open_document(CODE)
    params = lsp.InlineCompletionParams(
        lsp.InlineCompletionContext(trigger_kind=INVOKED),
        lsp.TextDocumentIdentifier(typist.uri),
        typist.position(),
    )
    asking = client.protocol.send_request(INLINE, params, msg_id="taken-back")
    client.cancel_request(lsp.CancelParams(id="taken-back"))
    answer = await asyncio.wait_for(asyncio.wrap_future(asking), 60)
    assert list(answer.items) == []
    assert_showable(await typist.complete())


async def test_an_empty_file_and_an_unknown_one(
    open_document: Opener, client: LanguageClient
) -> None:
    empty = open_document("")
    assert_showable(await empty.complete(INVOKED))
    unknown = Typist(client, empty.encoding, "file:///never/opened.py", "")
    assert await unknown.complete(INVOKED) == []


async def test_a_crlf_file(open_document: Opener) -> None:
    typist = open_document(CODE.replace("\n", "\r\n")).goto("def main():\r\n")
    items = await typist.complete(INVOKED)
    typist.replace(typist.cursor, typist.cursor, "    words = [\r\n        ")
    items += await typist.complete(INVOKED)
    assert items
    assert_showable(items)
    for text in texts(items):
        assert text.count("\n") == text.count("\r\n") == text.count("\r")


async def test_a_5_mb_file(open_document: Opener) -> None:
    """Typing in the middle gets answers, as in a small file with the text around the cursor."""
    block = CODE.replace("class Counter", "class Counter{}")
    text = "".join(block.replace("{}", str(number)) for number in range(9000))
    assert len(text) > 5_000_000
    first, last = text.index("class Counter4400:"), text.index("class Counter4600:")
    large, small = open_document(text), open_document(text[first:last])
    # Names in other parts of the file are copied too, so the answers need not be the same.
    for typist in (large, small):
        typist.goto("class Counter4500:\n    def __init__(self, text):\n        self.text = text")
        typist.type("\n        self.")
        items = await typist.complete(INVOKED)
        assert items
        assert_showable(items)
    assert large.position().line > 100_000


async def test_a_form_feed_and_a_line_separator(open_document: Opener) -> None:
    typist = open_document(CODE.replace("\n\n\n", "\n\f\n\u2028\x85\n"))
    typist.goto("        return self.counts")
    typist.type("\n\n    def total(self):\n        return ")
    for item in await typist.complete():
        typist.accept(item)
    assert_showable(await typist.complete())


async def test_invalid_requests_do_not_affect_the_server() -> None:
    """Requests before, during and after loading are answered with items; the exit code is 0."""
    async with raw_client(SERVER) as client:
        await client.initialize({**OPTIONS, "mode": "guess"}, window={"workDoneProgress": True})
        [message] = await client.notified("window/logMessage")
        assert message["message"].startswith(
            "setting mode: 'guess' is not used: expected one of ar, "
        )
        uri = "file:///a.py"
        client.open(uri, CODE)
        end = (CODE.count("\n"), 0)
        assert await client.complete(uri, *end, kind=1) == [], "the model still loads"
        assert (await client.progress_end())["message"] == "Ready"
        for params in (None, {}, {"textDocument": {"uri": uri}}, inline_params(uri, -1, 0)):
            assert await client.ask(INLINE, params) == {"items": []}
        assert isinstance(await client.complete(uri, 10**6, 10**6), list)
        assert await client.complete(uri, *end, kind=1) != []
        assert await client.leave() == 0


async def test_exiting_while_the_model_loads() -> None:
    async with raw_client(SERVER) as client:
        await client.initialize(OPTIONS)
        assert await client.leave() == 0
        assert "Traceback" not in client.stderr


async def test_a_missing_model_is_named() -> None:
    async with raw_client(SERVER) as client:
        await client.initialize({**OPTIONS, "model": "/no/such/model"})
        [message] = await client.notified("window/logMessage")
        assert message["type"] == 1
        assert "/no/such/model" in message["message"]
        client.open("file:///a.py", CODE)
        assert await client.complete("file:///a.py", 0, 0, kind=1) == []
        assert await client.leave() == 0
