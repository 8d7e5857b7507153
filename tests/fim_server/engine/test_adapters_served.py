"""The engine answers each request with the adapter that it names, and notices new ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
from adapters import random_matrices, write_adapter
from engine_home import TcpEngine
from fim_model.loading.adapters import base_digest
from fim_model.loading.checkpoint import load_model

from fim_server.access.tuned_workspaces import adapters_folder

ONE, TWO = "a" * 16, "b" * 16


def ask(engine: httpx2.Client, adapter: str, session: str = "tuned") -> Any:
    body = {"prefix": "def add(", "suffix": "", "mode": "ar", "max_tokens": 8}
    answer = engine.post("/v1/fim", json={**body, "adapter": adapter, "session": session})
    assert answer.status_code == 200, answer.text
    [item] = answer.json()["items"]
    there = (adapters_folder() / adapter).is_dir() and adapter
    assert answer.json()["adapter"] == (there or "")
    return item["text"], item["confidence"]


def test_workspaces_have_their_own_answers(engine: httpx2.Client, checkpoint: Path) -> None:
    plain = ask(engine, "")
    assert ask(engine, ONE) == plain, "not tuned yet"
    model, base = load_model(checkpoint), base_digest(checkpoint)
    for seed, name in enumerate((ONE, TWO)):
        write_adapter(adapters_folder() / name, random_matrices(model, seed, 2.0), base)
    try:
        found = {name: ask(engine, name) for name in (ONE, TWO)}
        assert len({plain, *found.values()}) == 3
        for name in (TWO, ONE, ""):
            assert ask(engine, name) == (found | {"": plain})[name]
        assert engine.get("/v1/status").json()["loaded"]["adapters"] == 2
    finally:
        shutil.rmtree(adapters_folder())
    assert ask(engine, ONE) == plain, "removed"


def test_an_adapter_that_is_not_used_is_told_without_a_path(
    tcp: TcpEngine, keyless: str, checkpoint: Path
) -> None:
    """On a port for everyone it is not even told that there is one."""
    folder = adapters_folder()
    write_adapter(folder / ONE, random_matrices(load_model(checkpoint), 1), "another base")
    try:
        with tcp.home.client() as engine:
            body = {"prefix": "a", "suffix": "", "max_tokens": 1, "adapter": ONE}
            assert engine.post("/v1/fim", json=body).json()["adapter"] == ""
            told = engine.get("/v1/status").json()["loaded"]["adapter_problems"]
            assert told == {ONE: f"{ONE}: trained for another model; run fim-server tune again"}
        assert "adapter_problems" not in httpx2.get(keyless + "/v1/status").json()["loaded"]
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/fim", {"prefix": "a", "suffix": "", "max_tokens": 1}),
        ("/v1/fim", {"prefix": "a", "suffix": "", "max_tokens": 1, "stream": True}),
        ("/v1/rewrite", {"prefix": "a", "old": "b", "suffix": "c", "max_tokens": 1}),
    ],
)
def test_a_port_for_everyone_serves_no_adapter(
    tcp: TcpEngine, keyless: str, path: str, body: dict[str, object]
) -> None:
    """Their names can be guessed, and any user of the machine can connect."""
    refused = httpx2.post(keyless + path, json={**body, "adapter": ONE})
    assert refused.status_code == 403
    assert "FIM_ENGINE_API_KEY" in refused.json()["error"]["message"]
    assert httpx2.post(keyless + path, json={**body, "adapter": ""}).status_code != 403
    key = {"Authorization": f"Bearer {tcp.key}"}
    served = httpx2.post(tcp.url + path, json={**body, "adapter": ONE}, headers=key)
    assert served.status_code != 403


@pytest.mark.parametrize("name", ["../../etc", "A" * 16, "a" * 15])
def test_a_name_cannot_leave_the_folder(engine: httpx2.Client, name: str) -> None:
    answer = engine.post("/v1/fim", json={"prefix": "", "suffix": "", "adapter": name})
    assert answer.status_code == 400
    assert "16 hexadecimal digits" in answer.text
