"""Holes in models that read both ways: token for token what the published loops give."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from canvas_checkpoints import Tiny, dream, llada, open_dcoder
from canvas_reference import published
from devices import DEVICES, usable
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.canvas import Canvas
from fim_model.decoding.full_canvas import LengthTokens, resized
from fim_model.errors import Cancelled, RequestError
from fim_model.infiller import Infiller
from fim_model.requests import (
    ChatMessage,
    ChatRequest,
    Completion,
    CompletionRequest,
    RewriteRequest,
)
from hypothesis import given
from hypothesis import strategies as st

PREFIX = "def area(width, height):\n    return "
SUFFIX = "\n\nprint(area(2, 3))\n"
LOUD = {"<|expand|>": 1.6, "<|endoftext|>": 1.3, "re": 1.2}


MODELS: dict[str, Callable[..., Tiny]] = {
    "DreamOn": lambda folder, seed: dream(
        folder, seed=seed, loud=LOUD | {"<|endoftext|>": 1.3 + 0.5 * (seed % 2)}
    ),
    "Dream-Coder": lambda folder, seed: dream(folder, seed=seed, expand=None),
    "DiffuCoder": lambda folder, seed: dream(folder, seed=seed, expand="<|dlm_pad|>"),
    "Open-dCoder": lambda folder, seed: open_dcoder(folder, seed=seed),
    "LLaDA": lambda folder, seed: llada(folder, seed=seed),
}


def request_of(rng: Random, **changes: Any) -> CompletionRequest:
    cut, limit = rng.randrange(1, len(PREFIX)), rng.choice((3, 9, 20, 40))
    values: dict[str, Any] = {"prefix": PREFIX[:cut], "suffix": SUFFIX, "max_tokens": limit}
    return CompletionRequest(**(values | changes), trace=True)


def hole_ids(infiller: Infiller, request: CompletionRequest) -> tuple[list[int], Completion]:
    """The ids of the last trace step, and the completion."""
    steps = []
    done = infiller.infill(request, on_step=steps.append)
    return list(steps[-1].hole), done


@pytest.mark.parametrize("gamma", [0.0, 4.0], ids=["one a forward", "several a forward"])
@pytest.mark.parametrize("name", MODELS)
def test_holes_equal_those_of_the_published_loop(tmp_path: Path, name: str, gamma: float) -> None:
    events: Counter[str] = Counter()
    for seed in range(12 if name == "DreamOn" else 4):
        tiny = MODELS[name](tmp_path / str(seed), seed)
        infiller = Infiller.load(tiny.folder, auto=ModeChoice("diffusion", f"entropy:{gamma}"))
        for number in range(3):
            request = request_of(Random(10 * seed + number))
            wanted = published(tiny, infiller.tokenizer.encode, request, gamma, first=16)
            found, done = hole_ids(infiller, request)
            assert found == wanted.hole
            assert done.stats.forwards == wanted.forwards == len(done.trace)
            events += wanted.events
            if tiny.expand is not None:
                assert not {tiny.mask, tiny.expand, tiny.eos} & {*found}
    if name == "DreamOn":
        needed = {"deleted", "expanded", "expand blocked"}
        needed |= {"no room", "deleted and expanded"} if gamma else set()
        assert needed <= events.keys(), events


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["DreamOn", "LLaDA"])
def test_every_network_fills_the_same_hole(
    tmp_path: Path, name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = MODELS[name](tmp_path, 1)
    request = request_of(Random(3), max_tokens=20)
    with usable(device, monkeypatch) as there:
        infiller = Infiller.load(tiny.folder, device=there, dtype=torch.float32)
        wanted = published(tiny, infiller.tokenizer.encode, request, 0.1, first=16)
        assert hole_ids(infiller, request)[0] == wanted.hole


@given(st.data())
def test_resizing_equals_a_plain_list(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    mask, expand, delete = 0, 1, 2
    tokens = data.draw(st.lists(st.sampled_from([0, 1, 2, 5, 6]), min_size=size, max_size=size))
    new = [bool(token) and data.draw(st.booleans()) for token in tokens]
    # What earlier forwards revealed is never a token that changes the length.
    for place, token in enumerate(tokens):
        if token in (expand, delete) and not new[place]:
            tokens[place] = 5
    room = data.draw(st.integers(0, 4))
    canvas = Canvas.of(torch.tensor(tokens), mask)
    found = resized(canvas, torch.tensor(new), LengthTokens(expand, delete), room, mask)

    first = next((i for i in range(size) if new[i] and tokens[i] == delete), size)
    wanted: list[int] = []
    grown = 0
    for i, token in enumerate(tokens):
        open_before = token == mask or new[i]
        if i >= first and open_before:
            continue
        if new[i] and token == expand:
            wanted += [mask, mask] if grown < room else [mask]
            grown += grown < room
        else:
            wanted.append(token)
    assert found.canvas.tokens.tolist() == wanted
    assert found.canvas.masked.tolist() == [token == mask for token in wanted]
    assert found.grown == grown


def test_a_deleted_hole_is_empty(tmp_path: Path) -> None:
    request = CompletionRequest(PREFIX, SUFFIX)
    for factor in (40, -40):  # whichever makes the token's logit high
        tiny = dream(tmp_path / str(factor), loud={"<|endoftext|>": factor})
        infiller = Infiller.load(tiny.folder)
        if not published(tiny, infiller.tokenizer.encode, request, 0.1, 16).hole:
            break
    done = infiller.infill(request)
    assert [(item.text, item.finish) for item in done.items] == [("", "eom")]
    assert 0 < done.items[0].confidence <= 1


def test_alternatives_begin_with_other_lengths(tmp_path: Path) -> None:
    tiny = dream(tmp_path, loud=LOUD)
    infiller = Infiller.load(tiny.folder)
    request = request_of(Random(0), max_tokens=40)
    several = CompletionRequest(
        request.prefix, request.suffix, max_tokens=40, alternatives=4, trace=True
    )
    done = infiller.infill(several)
    texts = [
        infiller.tokenizer.decode(
            published(tiny, infiller.tokenizer.encode, request, 0.1, first).hole
        )
        for first in (16, 2, 4, 8)
    ]
    assert [item.text for item in done.items] == list(dict.fromkeys(texts))
    assert len({*texts}) > 1


def test_lines_end_a_hole_early_and_change_nothing_before(tmp_path: Path) -> None:
    loud = LOUD | {"Ċ": 2.0}
    sooner = 0
    for seed in range(8):
        tiny = dream(tmp_path / str(seed), seed=seed, loud=loud)
        infiller = Infiller.load(tiny.folder)
        whole = infiller.infill(CompletionRequest(PREFIX, SUFFIX, max_tokens=40))
        line = infiller.infill(CompletionRequest(PREFIX, SUFFIX, max_tokens=40, max_lines=1))
        text = whole.items[0].text
        if "\n" in text.lstrip():
            assert line.items[0].finish == "lines"
            assert text.startswith(line.items[0].text)
            sooner += line.stats.forwards < whole.stats.forwards
        else:
            assert line.items[0].text == text
    assert sooner


def test_sampled_holes_follow_their_seed(tmp_path: Path) -> None:
    infiller = Infiller.load(dream(tmp_path, loud=LOUD).folder)

    def text(seed: int) -> str:
        request = CompletionRequest(PREFIX, SUFFIX, temperature=1.0, top_p=0.9, seed=seed)
        return infiller.infill(request).items[0].text

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(4)}) > 1


def test_work_is_given_up_between_two_forwards(tmp_path: Path) -> None:
    infiller = Infiller.load(dream(tmp_path, expand=None).folder)
    steps: list[object] = []
    with pytest.raises(Cancelled):
        infiller.infill(
            CompletionRequest(PREFIX, SUFFIX),
            on_step=steps.append,
            should_stop=lambda: len(steps) >= 2,
        )
    assert len(steps) == 2


def test_threads_share_forwards_and_get_their_own_holes(tmp_path: Path) -> None:
    tiny = dream(tmp_path, loud=LOUD)
    alone, shared = Infiller.load(tiny.folder), Infiller.load(tiny.folder, batched=True)
    requests = [request_of(Random(seed), session=str(seed)) for seed in range(4)]
    found: dict[int, str] = {}

    def work(number: int) -> None:
        found[number] = shared.infill(requests[number]).items[0].text

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: alone.infill(request).items[0].text for n, request in enumerate(requests)}


def test_what_such_a_model_cannot_do_is_said(tmp_path: Path) -> None:
    infiller = Infiller.load(dream(tmp_path).folder)
    with pytest.raises(RequestError, match=r"mode 'ar' .*Dream.* modes diffusion"):
        infiller.infill(CompletionRequest(PREFIX, SUFFIX, mode="ar"))
    with pytest.raises(RequestError, match="both ways"):
        infiller.infill(ChatRequest((ChatMessage("user", "hello"),)))
    with pytest.raises(ValueError, match="cannot rewrite"):
        infiller.rewrite(RewriteRequest(prefix="a\n", old="b\n", suffix="c\n"))
