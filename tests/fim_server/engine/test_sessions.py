"""KV caches of sessions: what a keystroke prefills again, and the memory of all caches."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from engine_home import EngineHome
from fim_model.decoding.prompt_cache import PromptCache, SessionStore
from fim_model.loading.checkpoint import load_model
from fim_model.network.kv_cache import KVCache
from fim_model.requests import CompletionRequest, CompletionStats, RewriteRequest
from lsprotocol import types as lsp

from fim_server.completion.hole import hole_at, request_for
from fim_server.documents.documents import DocumentStore
from fim_server.engine.client import EngineBackend
from fim_server.engine.wire import request_to_json
from fim_server.settings.settings import Settings

BEFORE = "".join(f"def function_{n}(value):\n    return value + {n}\n\n\n" for n in range(20))
TYPED = "def subtra"
AFTER = "\n\n\nclass Counter:\n    pass\n"


def ask(engine: httpx2.Client, typed: str, session: str) -> dict[str, int]:
    """The statistics of the answer to the request that the language server sends for a document."""
    store = DocumentStore()
    store.open("file:///src/maths.py", "python", 1, BEFORE + typed + AFTER)
    snapshot = store.snapshot("file:///src/maths.py")
    assert snapshot is not None
    before = BEFORE + typed
    position = lsp.Position(before.count("\n"), len(before.rpartition("\n")[2]))
    settings = Settings(max_tokens=2)
    hole = hole_at(snapshot, position, settings.prefix_chars, settings.suffix_chars)
    body = request_to_json(request_for(hole, snapshot, settings, 1)) | {"session": session}
    answer = engine.post("/v1/fim", json=body)
    assert answer.status_code == 200, answer.text
    stats: dict[str, int] = answer.json()["stats"]
    return stats


def test_ten_keystrokes_prefill_a_few_tokens_and_not_ten_windows(
    engine: httpx2.Client, metric: Callable[[str], float]
) -> None:
    """A keystroke prefills only the tokens that it changed and the marker after the prefix."""
    window = ask(engine, "", "typing")["prefill_tokens"]
    assert window > 100
    read, reused = metric("fim_prefill_tokens_total"), metric("fim_reused_tokens_total")
    steps = [ask(engine, TYPED[: n + 1], "typing") for n in range(len(TYPED))]
    prefilled = sum(step["prefill_tokens"] for step in steps)
    assert len(TYPED) <= prefilled <= 3 * len(TYPED)
    assert all(step["reused_tokens"] >= window - 4 for step in steps)
    assert metric("fim_prefill_tokens_total") - read == prefilled
    assert metric("fim_reused_tokens_total") - reused == sum(s["reused_tokens"] for s in steps)


def test_the_window_moves_in_steps_so_that_new_lines_reuse_too(engine: httpx2.Client) -> None:
    """Of 24 requests on consecutive lines, only a few prefill a whole window."""
    lines, typed, full = 24, "", 0
    window = ask(engine, typed, "lines")["prefill_tokens"]
    for n in range(lines):
        typed += f"x{n} = {n}\n"
        full += ask(engine, typed, "lines")["prefill_tokens"] > window / 2
    assert full <= lines / 8 + 1


def test_without_a_session_nothing_is_kept(engine: httpx2.Client) -> None:
    first, second = ask(engine, "x", ""), ask(engine, "x", "")
    assert first["prefill_tokens"] == second["prefill_tokens"]
    assert second["reused_tokens"] == 0


def a_store(checkpoint: Path, caches: float) -> tuple[SessionStore, int]:
    """A store with room for `caches` caches of a few tokens, and the size of one in bytes."""
    model = load_model(checkpoint)
    made = 0

    def make() -> PromptCache:
        nonlocal made
        made += 1
        assert made <= max(caches, 1), "buffers beyond the budget"
        return PromptCache(model, capacity=250)

    cache = KVCache(model.config, capacity=250)
    cache.end(1)
    each = cache.nbytes
    return SessionStore(make, int(caches * each)), each


def test_the_least_recently_used_session_is_evicted(checkpoint: Path) -> None:
    store, each = a_store(checkpoint, 2.5)
    a = store.take("a")
    a.prefill([1, 2, 3])
    store.take("b").prefill([4])
    store.take("a")
    c = store.take("c")
    assert c.tokens == []
    assert (len(store), store.bytes, store.evicted) == (2, 2 * each, 1)
    assert store.take("a") is a
    assert a.tokens == [1, 2, 3]
    assert store.take("b").tokens == []


def test_one_session_is_kept_for_any_budget(checkpoint: Path) -> None:
    store, _ = a_store(checkpoint, 0)
    store.take("a").prefill([1])
    assert store.take("a").tokens == [1]
    assert store.take("b").tokens == []
    assert len(store) == 1


def test_the_nameless_session_is_always_empty(checkpoint: Path) -> None:
    store, _ = a_store(checkpoint, 2)
    store.take("").prefill([1, 2])
    assert store.take("").tokens == []


def test_bytes_are_those_that_were_written(checkpoint: Path) -> None:
    config = load_model(checkpoint).config
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    cache, page = KVCache(config, capacity=300), 4096 // (4 * config.head_dim)
    assert cache.nbytes == 0
    cache.end(page + 1)
    assert cache.nbytes == 2 * page * per_token
    cache.end(1)
    assert cache.nbytes == 2 * page * per_token, "what was written stays"
    cache.end(300)
    assert cache.nbytes <= 512 * per_token, "there is room for a multiple of 256 tokens"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_an_empty_cache_takes_no_memory(checkpoint: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    config = replace(load_model(checkpoint).config, max_position_embeddings=10**6)
    before = resident()
    cache = KVCache(config, capacity=1_000_000)
    assert cache.keys[0][0, 0, -1].sum() == 0
    assert resident() - before < 2**20 < cache.keys[0].nbytes


def test_caches_that_have_grown_are_evicted_when_released(checkpoint: Path) -> None:
    store, each = a_store(checkpoint, 3)
    for name in "abc":
        store.take(name).prefill([1])
    with store.held("c"):
        store.take("c").kv.end(200)
        assert store.bytes > 3 * each
    assert store.bytes <= 3 * each or len(store) == 1
    assert store.take("c").tokens == [1], "the oldest go first"


# Closed documents, and editors that exit.


@pytest.fixture
def editors(shared_home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> list[EngineBackend]:
    """Two editors of one user."""
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, shared_home.environment[name])
    return [EngineBackend(str(shared_home.model)) for _ in range(2)]


async def ask_of(editor: EngineBackend, session: str) -> CompletionStats:
    await editor.start(lambda what, share: None)
    request = CompletionRequest(BEFORE, AFTER, mode="ar", max_tokens=1, session=session)
    stats = (await editor.complete(request)).stats
    assert stats is not None
    return stats


async def test_the_same_file_in_two_editors_is_two_sessions(editors: list[EngineBackend]) -> None:
    """Otherwise one editor would cancel the requests of the other."""
    first, second = editors
    before = (await first.metrics())["fim_sessions"]
    assert (await ask_of(first, "file:///a.py")).reused_tokens == 0
    assert (await ask_of(second, "file:///a.py")).reused_tokens == 0
    assert (await ask_of(first, "file:///a.py")).reused_tokens > 0
    assert (await first.metrics())["fim_sessions"] == before + 2
    await first.close()
    await second.close()


async def test_a_closed_document_frees_its_memory_at_once(
    editors: list[EngineBackend],
) -> None:
    first, second = editors
    before = await first.metrics()
    for editor in editors:
        await ask_of(editor, "file:///a.py")
        await ask_of(editor, "file:///b.py")
    await editor.rewrite(RewriteRequest(BEFORE, "x = 1", AFTER, session="file:///a.py#edits"))
    opened = await first.metrics()
    assert opened["fim_sessions"] >= before["fim_sessions"] + 4
    assert opened["fim_session_bytes"] > before["fim_session_bytes"]

    await second.forget("file:///a.py")
    assert (await first.metrics())["fim_sessions"] == before["fim_sessions"] + 3
    await first.forget("file:///never-asked-about.py")
    assert (await ask_of(first, "file:///a.py")).reused_tokens > 0

    await first.close()
    await second.forget("file:///b.py")
    after = await second.metrics()
    assert after["fim_sessions"] == before["fim_sessions"]
    assert after["fim_session_bytes"] == before["fim_session_bytes"]
    await second.close()


async def test_an_editor_without_an_engine_closes_documents_in_silence(home: EngineHome) -> None:
    editor = EngineBackend(str(home.model))
    await editor.forget("file:///a.py")
    await editor.close()
    assert not home.paths.socket.exists(), "no engine is started to forget something"


LARGE_BUFFERS = """
import ctypes
from fim_server.engine.allocator import LARGE_BYTES, return_large_buffers

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks "
                "fsmblks uordblks fordblks keepcost".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
if {enabled}:
    assert return_large_buffers()
first = bytearray(2 * LARGE_BYTES)
del first
before = mallinfo().hblks
second = bytearray(2 * LARGE_BYTES)
print(mallinfo().hblks - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed buffers")
@pytest.mark.parametrize("enabled", [False, True])
def test_a_large_buffer_is_returned_to_the_system_when_freed(enabled: bool) -> None:
    """glibc's default would take the second buffer of a freed size from the heap instead."""
    command = [sys.executable, "-c", LARGE_BUFFERS.format(enabled=enabled)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(int(enabled))], done.stderr


def test_only_a_named_session_can_be_forgotten(engine: httpx2.Client) -> None:
    unfit: list[object] = [{}, {"session": 3}, [], "x"]
    for body in unfit:
        answer = engine.post("/v1/forget", json=body)
        assert answer.status_code == 400
        assert "'session' must be text" in answer.json()["error"]["message"]
    assert engine.post("/v1/forget", json={"session": "unheard of"}).status_code == 200
