"""The engine's OpenAI and llama.cpp APIs, used by the openai package and llama.vim's requests."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import httpx2
import openai
import pytest
from engine_home import TcpEngine
from openai import OpenAI

from fim_server.engine.llama_cpp_api import before_dedent, selected
from fim_server.engine.streams import Stops

PROMPT = "def add(first, second):\n    return "
SUFFIX = "\n\n\nclass Counter:\n"


@pytest.fixture
def client(tcp: TcpEngine) -> Iterator[OpenAI]:
    """The openai package, connected to an engine on a TCP port."""
    with OpenAI(base_url=tcp.url + "/v1", api_key=tcp.key, max_retries=0) as made:
        yield made


def test_models(client: OpenAI, tcp: TcpEngine) -> None:
    [listed] = client.models.list()
    name = tcp.home.model.name
    assert (listed.id, listed.object, listed.owned_by) == (name, "model", "fim-server")
    assert client.models.retrieve(name) == listed
    with pytest.raises(openai.NotFoundError, match="'gpt-4' is not loaded.*serves '" + name):
        client.models.retrieve("gpt-4")


def test_a_completion_with_suffix(client: OpenAI) -> None:
    answer = client.completions.create(
        model="any", prompt=PROMPT, suffix=SUFFIX, max_tokens=8, temperature=0
    )
    [choice] = answer.choices
    assert choice.text
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    other = client.completions.create(
        model="any", prompt=PROMPT, suffix="(", max_tokens=8, temperature=0
    )
    assert other.choices[0].text != choice.text, "the suffix is part of the prompt"


@pytest.mark.parametrize("mode", ["ar", "diffusion", "self_speculation"])
def test_a_stream_is_the_same_text_in_pieces(client: OpenAI, mode: str) -> None:
    asked = {"model": "any", "prompt": PROMPT, "suffix": SUFFIX, "max_tokens": 24, "temperature": 0}
    whole = client.completions.create(**asked, extra_body={"mode": mode})
    stream = client.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}, extra_body={"mode": mode}
    )
    chunks = list(stream)
    pieces = [choice.text for chunk in chunks for choice in chunk.choices if choice.text]
    assert "".join(pieces) == whole.choices[0].text
    assert len(pieces) > 1
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert reasons[-1] == "length"
    assert set(reasons[:-1]) == {None}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 24


def test_a_stop_string_ends_the_text_whole_and_streamed(client: OpenAI) -> None:
    asked = {"model": "any", "prompt": PROMPT, "max_tokens": 32, "temperature": 0}
    text = client.completions.create(**asked).choices[0].text
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    wanted = text[: text.index(stop)]
    [choice] = client.completions.create(**asked, stop=[stop, "\x00"]).choices
    assert (choice.text, choice.finish_reason) == (wanted, "stop")
    chunks = list(client.completions.create(**asked, stop=stop, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == wanted
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_several_choices_and_seeds(client: OpenAI) -> None:
    def texts(seed: int) -> list[str]:
        answer = client.completions.create(
            model="any", prompt=PROMPT, n=3, max_tokens=6, temperature=1.5, seed=seed
        )
        return [choice.text for choice in answer.choices]

    assert len(texts(1)) == 3
    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


@pytest.mark.parametrize("seed", [2**63, 2**64, 2**64 + 1, 10**30, -1, -(2**70)])
def test_seeds_of_any_size(client: OpenAI, seed: int) -> None:
    asked = {"model": "any", "prompt": PROMPT, "n": 2, "max_tokens": 4, "temperature": 1.5}
    one, other = (client.completions.create(**asked, seed=seed) for _ in range(2))
    assert [choice.text for choice in one.choices] == [choice.text for choice in other.choices]


def test_whole_numbers_may_be_written_as_fractions(client: OpenAI) -> None:
    """As clients in Lua and Vim script write them."""
    numbers = {"max_tokens": 2.0, "seed": 7.0, "n": 1.0}
    answer = client.completions.create(model="any", prompt=PROMPT, extra_body=numbers)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 2
    with pytest.raises(openai.BadRequestError, match="'seed' must be a whole number"):
        client.completions.create(model="any", prompt=PROMPT, extra_body={"seed": 1.5})


def test_null_is_the_default_of_every_field(client: OpenAI) -> None:
    names = (
        "user suffix seed n max_tokens temperature stop stream stream_options logprobs echo "
        "logit_bias mode top_p presence_penalty frequency_penalty best_of"
    )
    nulls = dict.fromkeys(names.split())
    answer = client.completions.create(model="any", prompt=PROMPT, extra_body=nulls)
    assert len(answer.choices) == 1
    assert client.completions.create(model="any", prompt="", extra_body={"prompt": None}).choices


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"logprobs": 3}, "'logprobs' is not supported"),
        ({"best_of": 3}, "'best_of' is not supported"),
        ({"logit_bias": {"5": 100}}, "'logit_bias' is not supported"),
        ({"n": 11}, "'n' must be 1 to 10"),
        ({"prompt": [1, 2, 3]}, "'prompt' must be text"),
        ({"temperature": -1}, "temperature"),
        ({"stop": [3]}, "'stop' must be text"),
    ],
)
def test_unsupported_parameters_are_errors(client: OpenAI, fields: dict, named: str) -> None:
    with pytest.raises(openai.BadRequestError, match=named):
        client.completions.create(**{"model": "any", "prompt": PROMPT, **fields})


# The request that llama.vim sends for a completion (autoload/llama.vim), with its own defaults.
LLAMA_VIM = {
    "input_prefix": "def add(first, second):\n",
    "input_suffix": "\n\nclass Counter:\n",
    "input_extra": [{"text": "x = 1\n", "time": [1, 2], "filename": "other.py"}],
    "prompt": "    return ",
    "n_predict": 12,
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1500,
    "response_fields": [
        "content",
        "timings/prompt_n",
        "timings/prompt_ms",
        "timings/prompt_per_token_ms",
        "timings/prompt_per_second",
        "timings/predicted_n",
        "timings/predicted_ms",
        "timings/predicted_per_token_ms",
        "timings/predicted_per_second",
        "truncated",
        "tokens_cached",
    ],
}


def test_llama_vims_completion(engine: httpx2.Client) -> None:
    answer = engine.post("/infill", json=LLAMA_VIM).json()
    assert set(answer) == set(LLAMA_VIM["response_fields"])
    assert answer["timings/predicted_n"] == 12
    native = engine.post(
        "/v1/fim",
        json={
            "prefix": "def add(first, second):\n    return ",
            "suffix": "\n\nclass Counter:\n",
            "max_tokens": 12,
            "mode": "self_speculation",
            "snippets": [{"path": "other.py", "text": "x = 1\n"}],
        },
    ).json()
    assert answer["content"] == native["items"][0]["text"] != ""
    again = engine.post("/infill", json=LLAMA_VIM).json()
    assert again["timings/prompt_n"] == 1
    assert again["tokens_cached"] > 10


def test_llama_vims_warming_request(engine: httpx2.Client) -> None:
    """The request by which llama.vim warms the cache; it ignores the answer."""
    request = {
        "input_prefix": "",
        "input_suffix": "",
        "input_extra": LLAMA_VIM["input_extra"],
        "prompt": "",
        "n_predict": 0,
        "temperature": 0.0,
        "stream": False,
        "samplers": [],
        "cache_prompt": True,
        "t_max_prompt_ms": 1,
        "t_max_predict_ms": 1,
        "response_fields": [""],
    }
    answer = engine.post("/infill", json=request)
    assert (answer.status_code, answer.json()) == (200, {})


def test_infill_as_a_stream(engine: httpx2.Client) -> None:
    whole = engine.post("/infill", json={**LLAMA_VIM, "response_fields": None}).json()
    request = {**LLAMA_VIM, "stream": True, "response_fields": None}
    lines = engine.post("/infill", json=request).text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert "".join(event["content"] for event in events) == whole["content"]
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["stop_type"] == "limit"


def test_infill_names_a_wrong_field(engine: httpx2.Client) -> None:
    answer = engine.post("/infill", json={**LLAMA_VIM, "input_extra": ["text"]})
    assert answer.status_code == 400
    assert "'input_extra' must be a list of objects" in answer.text


def test_requests_of_foreign_clients_queue(engine: httpx2.Client) -> None:
    """These clients have no sessions: a new request does not cancel a pending one."""
    commands = [
        subprocess.Popen(
            ["curl", "--silent", "--unix-socket", str(_socket_of(engine)), "--data", "@-",
             "http://engine/infill"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    request = json.dumps({**LLAMA_VIM, "n_predict": 64, "t_max_predict_ms": 0}).encode()
    answers = [json.loads(command.communicate(request)[0]) for command in commands]
    assert [answer["timings/predicted_n"] for answer in answers] == [64, 64, 64]


def _socket_of(engine: httpx2.Client) -> object:
    return engine._transport._pool._uds  # type: ignore[attr-defined]


def test_stops_hold_back_what_may_become_a_stop() -> None:
    stops = Stops(["\n\n", "END"])
    assert [stops.settled(text) for text in ("a", "a\n", "a\nb", "a\nbE", "a\nbEN")] == [
        "a",
        "a",
        "a\nb",
        "a\nb",
        "a\nb",
    ]
    assert stops.found is None
    assert stops.settled("a\nbEND\n\n") == "a\nb"
    assert stops.found == "END"
    assert Stops([""]).cut("text") == "text"


def test_lines_before_a_dedent_and_selected_fields() -> None:
    assert before_dedent("a\n    b\n\n  c", 4) == "a\n    b\n"
    assert before_dedent("a\nb", 0) == "a\nb"
    answer = {"content": "x", "timings": {"prompt_n": 3}}
    assert selected(answer, ["content", "timings/prompt_n", "timings/none", ""]) == {
        "content": "x",
        "timings/prompt_n": 3,
    }
    assert re.match("x", str(selected(answer, None)["content"]))
