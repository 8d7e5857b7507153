"""The engine answers each request with the adapter that it names, and notices new ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
from adapters import random_matrices, write_adapter
from fim_model.loading.adapters import base_digest
from fim_model.loading.checkpoint import load_model

from fim_server.access.tuned_workspaces import adapters_folder

ONE, TWO = "a" * 16, "b" * 16


def ask(engine: httpx2.Client, adapter: str, session: str = "tuned") -> Any:
    body = {"prefix": "def add(", "suffix": "", "mode": "ar", "max_tokens": 8}
    answer = engine.post("/v1/fim", json={**body, "adapter": adapter, "session": session})
    assert answer.status_code == 200, answer.text
    [item] = answer.json()["items"]
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


@pytest.mark.parametrize("name", ["../../etc", "A" * 16, "a" * 15])
def test_a_name_cannot_leave_the_folder(engine: httpx2.Client, name: str) -> None:
    answer = engine.post("/v1/fim", json={"prefix": "", "suffix": "", "adapter": name})
    assert answer.status_code == 400
    assert "16 hexadecimal digits" in answer.text
