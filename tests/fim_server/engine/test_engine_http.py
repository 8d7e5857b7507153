"""The engine's native API, in a real process over its socket."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from engine_home import EngineHome
from fim_model.requests import CompletionRequest

from fim_server.engine.client import EngineBackend

HOLE = {"prefix": "def add(first, second):\n    return ", "suffix": "\n"}


def fim(client: httpx2.Client, **fields: object) -> dict[str, object]:
    response = client.post("/v1/fim", json={**HOLE, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def test_health_and_models(engine: httpx2.Client, shared_home: EngineHome) -> None:
    health = engine.get("/health").json()
    assert health["status"] == "ok"
    assert health["pid"] == shared_home.processes[0].pid
    models = engine.get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == [shared_home.model.name]
    assert engine.get("/v1/models/").json()["data"] == models


def test_health_is_503_until_the_model_is_loaded(home: EngineHome) -> None:
    """As llama.cpp's server says it; clients wait for status 200."""
    home.start()
    seen = []
    with home.client() as client:
        while not seen or seen[-1].status_code != 200:
            with contextlib.suppress(httpx2.TransportError):
                seen.append(client.get("/health"))
                early = client.get("/props").status_code
                assert early == 503 or client.get("/health").status_code == 200
    loading = seen[0].json()
    assert seen[0].status_code == 503
    assert loading["status"] == "loading"
    assert loading["error"] == {
        "code": 503,
        "message": "Loading model",
        "type": "unavailable_error",
    }
    assert seen[-1].json()["status"] == "ok"
    assert "error" not in seen[-1].json()


@pytest.mark.parametrize("mode", ["ar", "diffusion", "self_speculation"])
def test_every_mode_answers_with_its_statistics(engine: httpx2.Client, mode: str) -> None:
    answer = fim(engine, mode=mode, max_tokens=8, alternatives=2)
    assert len(answer["items"]) == 2
    assert {item["finish"] for item in answer["items"]} == {"length"}
    assert answer["stats"]["mode"] == mode
    assert answer["stats"]["tokens"] == 16
    assert answer["stats"]["reused_tokens"] == 0


@pytest.mark.parametrize("mode", ["ar", "diffusion", "self_speculation"])
def test_a_trace_has_every_forward(engine: httpx2.Client, mode: str) -> None:
    answer = fim(engine, mode=mode, max_tokens=6, alternatives=2, trace=True)
    steps = answer["trace"]
    starts = [n for n, step in enumerate(steps) if step["kind"] == "prefill"]
    assert (len(starts), starts[0]) == (2, 0)
    # Both alternatives share the prefill.
    assert len(steps) == answer["stats"]["forwards"] + 1
    for item, last in zip(answer["items"], (steps[starts[1] - 1], steps[-1]), strict=True):
        assert "".join(last["hole"]) == item["text"]
    for step in steps:
        assert len(step["committed"]) == len(step["confidences"]) <= len(step["hole"])
        assert step["width"] > 0
    masks = any(None in step["hole"] for step in steps)
    assert masks == (mode == "diffusion")
    assert fim(engine, mode=mode, max_tokens=6)["trace"] == []


async def test_a_trace_comes_through_the_front_end_s_backend(
    shared_home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, shared_home.environment[name])
    backend = EngineBackend(str(shared_home.model))
    request = CompletionRequest("x = ", "", mode="ar", max_tokens=3, trace=True)
    trace = (await backend.complete(request)).trace
    await backend.close()
    assert [step.kind for step in trace] == ["prefill", "causal", "causal"]
    assert trace[-1].committed == [2]


def test_a_session_reuses_its_kv(engine: httpx2.Client) -> None:
    first = fim(engine, session="reuse", max_tokens=2)["stats"]
    again = fim(engine, session="reuse", max_tokens=2)["stats"]
    assert first["prefill_tokens"] > 10
    assert again["prefill_tokens"] == 1
    assert again["reused_tokens"] == first["prefill_tokens"] - 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prefix": None}, "'prefix' must be text"),
        ({"mode": "magic"}, "'mode' must be one of ar, diffusion"),
        ({"alternatives": 0}, "'alternatives' must be 1 to 10"),
        ({"max_tokens": 100000}, "max_tokens must be 1 to"),
        ({"max_tokens": True}, "'max_tokens' must be a whole number"),
        ({"temperature": -1}, "temperature must be 0 or more"),
        ({"colour": "red"}, "'colour' is unknown"),
    ],
)
def test_a_wrong_field_is_named(engine: httpx2.Client, change: dict, named: str) -> None:
    response = engine.post("/v1/fim", json={**HOLE, **change})
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]


def test_a_missing_field_and_a_body_that_is_not_an_object(engine: httpx2.Client) -> None:
    assert "'suffix' is missing" in engine.post("/v1/fim", json={"prefix": ""}).text
    assert "must be a JSON object" in engine.post("/v1/fim", json=[1]).text
    assert "not valid JSON" in engine.post("/v1/fim", content=b"{").text


def test_unknown_paths_and_methods_are_errors_of_one_shape(engine: httpx2.Client) -> None:
    for response, status in ((engine.get("/nothing"), 404), (engine.get("/v1/fim"), 405)):
        assert response.status_code == status
        assert response.json()["error"]["message"]


def test_the_latest_request_of_a_session_wins(
    engine: httpx2.Client, metric: Callable[[str], float]
) -> None:
    before = metric("fim_scheduler_superseded")
    slow = {"session": "typist", "mode": "ar", "max_tokens": 256, "alternatives": 10}
    with ThreadPoolExecutor(1) as pool:
        older = pool.submit(fim, engine, **slow)
        while metric("fim_running") == 0:
            pass
        newer = fim(engine, session="typist", max_tokens=1, prefix="x")
        assert newer["items"]
        nothing = {"items": [], "stats": None, "show_above": 0.0, "trace": [], "gate": None}
        assert older.result() == {**nothing, "adapter": ""}
    assert metric("fim_scheduler_superseded") == before + 1


def test_a_disconnected_client_cancels_its_request(
    shared_home: EngineHome, engine: httpx2.Client, metric: Callable[[str], float]
) -> None:
    before = metric("fim_scheduler_cancelled")
    with shared_home.client() as impatient, pytest.raises(httpx2.ReadTimeout):
        impatient.post(
            "/v1/fim",
            json={**HOLE, "mode": "ar", "max_tokens": 256, "alternatives": 10},
            timeout=0.1,
        )
    while metric("fim_running"):
        pass
    assert metric("fim_scheduler_cancelled") == before + 1


def test_the_metrics_agree_with_the_answers(
    engine: httpx2.Client, metric: Callable[[str], float]
) -> None:
    names = ("fim_prefill_tokens_total", 'fim_tokens_total{mode="ar"}')
    before = [metric(name) for name in names]
    stats = fim(engine, mode="ar", max_tokens=3)["stats"]
    after = [metric(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [stats["prefill_tokens"], 3]
    assert metric("process_resident_memory_bytes") > 2**20


def test_only_the_user_may_connect(shared_home: EngineHome) -> None:
    socket = shared_home.paths.socket
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert socket.stat().st_uid == os.getuid()
