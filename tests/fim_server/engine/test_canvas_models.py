"""DreamOn and LLaDA end to end: the engine over HTTP and `complete`, in real processes.

What they must answer comes from `canvas_reference.published`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from canvas_checkpoints import WORDS, Tiny, dream, llada
from canvas_reference import published
from engine_home import EngineHome, new_home
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.requests import CompletionRequest

PREFIX, SUFFIX = "def area(width, height):\n    return ", "\n\nprint(area(2, 3))\n"
SILENT = {word: 0.0 for word in WORDS if not word.isascii() or not word.isalpha()}
"""Only letters have logits other than 0, so that a hole is text that can be shown."""


def tiny_of(name: str, folder: Path) -> Tiny:
    if name == "LLaDA":
        return llada(folder, loud=SILENT)
    return dream(folder, loud=SILENT | {"<|expand|>": -2.0}, seed=3)


@pytest.fixture(scope="module", params=["DreamOn", "LLaDA"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tiny, EngineHome]]:
    tiny = tiny_of(request.param, tmp_path_factory.mktemp("canvas") / request.param)
    home = new_home(tiny.folder)
    home.start()
    assert home.wait_until_ready()["status"] == "ok"
    yield tiny, home
    home.stop()
    shutil.rmtree(home.folder)


def expected(tiny: Tiny, tokens: int) -> tuple[str, int]:
    """The text of the hole, and the forwards."""
    tokenizer = read_tokenizer(tiny.folder)
    request = CompletionRequest(PREFIX, SUFFIX, max_tokens=tokens)
    found = published(tiny, tokenizer.encode, request, 0.1, first=16)
    ended = [i for i, token in enumerate(found.hole) if token in tiny.ends]
    kept = found.hole if tiny.expand else found.hole[: min(ended, default=len(found.hole))]
    return tokenizer.decode(kept), found.forwards


def test_the_engine_answers_over_http(served: tuple[Tiny, EngineHome]) -> None:
    tiny, home = served
    with home.client() as client:
        body = {"prefix": PREFIX, "suffix": SUFFIX, "max_tokens": 24, "trace": True}
        answer = client.post("/v1/fim", json=body).json()
        text, forwards = expected(tiny, 24)
        assert text.isalpha()
        assert [item["text"] for item in answer["items"]] == [text]
        assert answer["stats"]["mode"] == "diffusion"
        assert answer["stats"]["forwards"] == forwards == len(answer["trace"])
        if tiny.expand:
            assert any(step["remasked"] for step in answer["trace"])
        said = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 24, "temperature": 0}
        openai = client.post("/v1/completions", json=said).json()
        assert openai["choices"][0]["text"] == text


def test_what_it_cannot_do_is_an_error_that_says_so(served: tuple[Tiny, EngineHome]) -> None:
    _, home = served
    with home.client() as client:
        body = {"prefix": PREFIX, "suffix": SUFFIX, "mode": "ar"}
        refused = client.post("/v1/fim", json=body)
        assert refused.status_code == 400
        assert "no mode 'ar', only diffusion" in refused.text
        chat = {"messages": [{"role": "user", "content": "hello"}]}
        refused = client.post("/v1/chat/completions", json=chat)
        assert refused.status_code == 400
        assert "both ways" in refused.text


@pytest.mark.parametrize("backend", ["in_process", "engine"])
def test_complete_prints_the_hole(
    served: tuple[Tiny, EngineHome], backend: str, tmp_path: Path
) -> None:
    tiny, home = served
    file = tmp_path / "area.py"
    file.write_text(PREFIX + SUFFIX)
    command = (
        sys.executable, "-m", "fim_server", "complete", f"{file}:2:12", "--model", str(tiny.folder),
        "--backend", backend, "--max-tokens", "24", "--json",
    )  # fmt: skip
    ran = subprocess.run(
        command, env=home.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    text, forwards = expected(tiny, 24)
    assert [item["text"] for item in answer["items"]] == [text]
    assert answer["stats"]["forwards"] == forwards


def test_a_family_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sdar", "hidden_size": 8}')
    command = (sys.executable, "-m", "fim_server", "models", "inspect", str(tmp_path))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 2
    assert "model_type 'sdar' is not supported: this family normalises queries" in ran.stderr
