"""Rewriting through the engine: the HTTP endpoint and the front-end's client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from engine_home import EngineHome
from fim_model.requests import PastEdit, Rewrite, RewriteRequest

from fim_server.backends.base import Unfit, Unsupported
from fim_server.backends.in_process import InProcessBackend
from fim_server.backends.llama_cpp import LlamaCppBackend
from fim_server.backends.openai import OpenAIBackend
from fim_server.engine.client import EngineBackend
from fim_server.engine.wire import WireError, request_to_json, rewrite_from_json

REGION = {"prefix": "x = 1\n", "old": "y = x + 1", "suffix": "\nz = y\n"}
LONG = "value = value + 1\n" * 400


def test_a_region_is_rewritten(engine: httpx2.Client) -> None:
    body = {**REGION, "edits": [{"old": "x = 0", "new": "x = 1"}], "session": "a"}
    answer = engine.post("/v1/rewrite", json=body)
    assert answer.status_code == 200
    rewrite = answer.json()["rewrite"]
    assert set(rewrite) == set(Rewrite.__slots__)
    assert rewrite["draft_gains"] == []
    drafted = engine.post("/v1/rewrite", json={**body, "drafts": ["y = x", "z"]})
    assert len(drafted.json()["rewrite"]["draft_gains"]) == 2
    assert (rewrite["new"] == REGION["old"]) == (rewrite["gain"] == 0)
    assert rewrite["way"] == "refill", "this model was not trained on edits"
    assert rewrite["forwards"] > 0
    metrics = engine.get("/metrics").text
    assert 'fim_request_seconds_count{api="rewrite",outcome="answered"}' in metrics


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"old": None}, "'old' must be text"),
        ({"edits": ["x"]}, "'edits' must be objects with 'old' and 'new'"),
        ({"edits": [{"old": 1, "new": ""}]}, "'old' must be text"),
        ({"max_tokens": 0}, "max_tokens must be 1 to"),
        ({"drafts": [1]}, "'drafts' must be text"),
        ({"drafts": ["x"] * 9}, "drafts must be at most 8, not 9"),
        ({"mode": "ar"}, "'mode' is unknown"),
        ({"old": LONG}, "choose fewer lines"),
    ],
)
def test_a_wrong_field_is_named(engine: httpx2.Client, change: dict[str, Any], named: str) -> None:
    response = engine.post("/v1/rewrite", json={**REGION, **change})
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]


def test_a_request_round_trips() -> None:
    request = RewriteRequest(
        "a\n", "b", "\nc", (PastEdit("x", "y"),), "p.py", 5, "s", False, ("b", "c")
    )
    assert rewrite_from_json(json.loads(json.dumps(request_to_json(request)))) == request
    with pytest.raises(WireError, match="'suffix' is missing"):
        rewrite_from_json({"prefix": "", "old": ""})


async def test_the_front_end_asks_the_engine(
    shared_home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, shared_home.environment[name])
    backend = EngineBackend(str(shared_home.model), threads=1)
    rewrite = await backend.rewrite(RewriteRequest(**REGION))
    assert rewrite is not None
    assert rewrite.way == "refill"
    with pytest.raises(Unfit, match="choose fewer lines"):
        await backend.rewrite(RewriteRequest("", LONG, ""))
    await backend.close()


async def test_a_completion_supersedes_a_rewrite(shared_home: EngineHome) -> None:
    """A rewrite is superseded by a request that the user waits for, and its answer says so."""
    from fim_model.requests import CompletionRequest

    backend = InProcessBackend(str(shared_home.model), threads=1)
    await backend.start(lambda what, share: None)
    lines = "\n".join(f"value_{number} = first + second" for number in range(4))
    slow = asyncio.create_task(backend.rewrite(RewriteRequest("x\n", lines, "\n")))
    while not backend.scheduler.running:  # noqa: ASYNC110 - another thread makes it true
        await asyncio.sleep(0)
    completion = await backend.complete(CompletionRequest("x = ", "\n", max_tokens=2))
    assert completion.items
    assert await slow is None
    await backend.close()


async def test_remote_servers_do_not_support_rewriting() -> None:
    for backend in (
        OpenAIBackend("http://localhost:1/v1", "m"),
        LlamaCppBackend("http://localhost:1"),
    ):
        with pytest.raises(Unsupported, match=r"localhost:1 cannot rewrite lines; that needs"):
            await backend.rewrite(RewriteRequest("", "x", ""))
