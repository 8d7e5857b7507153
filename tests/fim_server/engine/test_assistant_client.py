"""Instructions and questions of the front-end, asked of the real engine process."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from engine_home import EngineHome, new_home
from fim_model.calibration.instruction_score import INSTRUCTIONS
from fim_model.requests import ChatMessage, ChatRequest, InstructionRequest

from fim_server.backends.base import BackendError, Unfit, assistant_of
from fim_server.engine.client import EngineBackend

EDIT = InstructionRequest("add a comment", "a\n", "b", "\nc", max_tokens=8, session="file:///a")


@pytest.fixture(scope="module")
def talking(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHome]:
    """An engine whose model has a chat template and a score in its folder."""
    folder = tmp_path_factory.mktemp("chat") / "tiny-scored"
    shutil.copytree(checkpoint, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eot|>"}))
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}<|file|>{{ message.content }}<|eot|>{% endfor %}<|file|>"
    )
    (folder / INSTRUCTIONS).write_text('{"right": 7, "asked": 10}')
    made = new_home(folder)
    made.start()
    made.wait_until_ready()
    yield made
    made.stop()
    shutil.rmtree(made.folder)


def connected(home: EngineHome, monkeypatch: pytest.MonkeyPatch) -> EngineBackend:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, home.environment[name])
    return EngineBackend(str(home.model), threads=1)


async def test_instructions_and_answers(
    talking: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = connected(talking, monkeypatch)
    assert assistant_of(backend) is backend
    assert await backend.why_not_instruct() is None, "the score in its folder suffices"
    with pytest.raises(Unfit, match="without coming to an end"):  # the weights are random
        await backend.instruct(EDIT)
    heard: list[str] = []
    request = ChatRequest((ChatMessage("user", "why?"),), max_tokens=12)
    text = await backend.answer(request, heard.append)
    with talking.client() as client:
        body = {"messages": [{"role": "user", "content": "why?"}], "max_tokens": 12}
        whole = client.post("/v1/chat/completions", json={**body, "temperature": 0}).json()
    assert text == whole["choices"][0]["message"]["content"]
    assert heard[-1] == text
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(heard))
    with pytest.raises(Unfit, match="window"):
        await backend.answer(ChatRequest((ChatMessage("user", "x " * 9000),)), heard.append)
    await backend.close()
    with pytest.raises(BackendError):
        await backend.answer(request, heard.append)


async def test_a_model_that_cannot_converse(
    shared_home: EngineHome, engine: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = connected(shared_home, monkeypatch)
    assert "has no chat template" in (await backend.why_not_instruct() or "")
    with pytest.raises(Unfit, match="has no chat template"):
        await backend.answer(ChatRequest((ChatMessage("user", "why?"),)), lambda text: None)
    assert engine.post("/v1/instruct/check", content=b"{").status_code == 400
    await backend.close()
