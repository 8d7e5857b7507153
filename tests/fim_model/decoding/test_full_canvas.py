"""Holes in models that read both ways: token for token what the published loops give.

`published` is a plain loop over lists with a whole forward of transformers for each step; it shares
no code with the decoding core.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from canvas_checkpoints import Tiny, dream, llada, open_dcoder
from devices import DEVICES, usable
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.canvas import Canvas
from fim_model.decoding.full_canvas import LENGTHS, LengthTokens, resized
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


@dataclass
class Published:
    """A hole as a published loop fills it: its ids, the forwards, and what happened."""

    hole: list[int]
    forwards: int
    events: Counter[str] = field(default_factory=Counter)


def entropy_rule(gamma: float) -> Callable[[list[float]], list[int]]:
    """The surest masks by entropy, as many as the bound allows (EB-Sampler); 0 is one of them."""

    def chosen(entropies: list[float]) -> list[int]:
        order = sorted(range(len(entropies)), key=lambda i: entropies[i])
        taken, before = [order[0]], entropies[order[0]]
        for place in order[1:]:
            if before > gamma:
                break
            taken.append(place)
            before += entropies[place]
        return taken

    return chosen


def fill(
    tiny: Tiny,
    before: list[int],
    after: list[int],
    masks: int,
    limit: int,
    choose: Callable[[list[float]], list[int]],
) -> Published:
    """Dream's loop; with an expand token, DreamOn's."""
    found = Published([tiny.mask] * masks, 0)
    budget = 2 * limit
    while tiny.mask in found.hole:
        hole = found.hole
        if tiny.expand is None and tiny.ends & {*hole[: hole.index(tiny.mask)]}:
            break
        logits = tiny.logits([*before, *hole, *after]).double()
        found.forwards += 1
        logits[:, tiny.mask] = -1e30
        if tiny.expand is not None and (len(hole) == limit or not budget):
            logits[:, tiny.expand] = -1e30
            found.events["expand blocked"] += 1
        masked = [i for i, token in enumerate(hole) if token == tiny.mask]
        rows = logits[[len(before) + i - tiny.shifted for i in masked]]
        probabilities = rows.softmax(-1)
        entropies = [-sum(p * math.log(p) for p in row if p > 0) for row in probabilities.tolist()]
        revealed = [masked[k] for k in choose(entropies)]
        tokens = dict(zip(masked, rows.argmax(-1).tolist(), strict=True))
        new = [tokens[i] if i in revealed else token for i, token in enumerate(hole)]
        if tiny.expand is None:
            found.hole = new
            continue
        deletes = [i for i in revealed if tokens[i] == tiny.eos]
        if deletes:
            found.events["deleted"] += 1
            new = [t for i, t in enumerate(new) if i < min(deletes) or i not in masked]
        room = min(limit - len(hole), budget)
        longer: list[int] = []
        expanded = 0
        for token in new:
            if token == tiny.expand:
                expanded += 1
                found.events["expanded" if expanded <= room else "no room"] += 1
                longer += [tiny.mask] * (2 if expanded <= room else 1)
            else:
                longer.append(token)
        budget -= min(expanded, room)
        if deletes and expanded:
            found.events["deleted and expanded"] += 1
        found.hole = longer
    return found


def published(
    tiny: Tiny, infiller: Infiller, request: CompletionRequest, gamma: float, first: int
) -> Published:
    """The whole request: sides as published, and the length that fits best.

    What the tokenizer makes of a text is tested in `families/test_canvas_families.py`.
    """
    ids_of = infiller.tokenizer.encode
    ends = [tiny.eos] if tiny.begin is not None and tiny.shifted else []
    before = [*([tiny.begin] if tiny.begin is not None else []), *ids_of(request.prefix)]
    after = [*ids_of(request.suffix), *ends]
    limit, choose = request.max_tokens, entropy_rule(gamma)
    if tiny.expand is not None:
        return fill(tiny, before, after, min(first, limit), limit, choose)
    scores = {}
    for length in dict.fromkeys(min(length, limit) for length in LENGTHS):
        rows = tiny.logits([*before, *[tiny.mask] * length, *after]).double()
        rows[:, tiny.mask] = -1e30
        start = len(before) - tiny.shifted
        best = rows[start : start + length].softmax(-1).max(-1).values
        scores[length] = float(best.mean())
    best_length = max(scores, key=lambda length: scores[length])
    found = fill(tiny, before, after, best_length, limit, choose)
    found.forwards += len(scores)
    return found


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
            wanted = published(tiny, infiller, request, gamma, first=16)
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
        wanted = published(tiny, infiller, request, 0.1, first=16)
        assert hole_ids(infiller, request)[0] == wanted.hole


@given(st.data())
def test_resizing_equals_a_plain_list(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    mask, expand, delete = 0, 1, 2
    tokens = data.draw(st.lists(st.sampled_from([0, 1, 2, 5, 6]), min_size=size, max_size=size))
    new = [data.draw(st.booleans()) if token else False for token in tokens]
    # What is revealed from earlier forwards is never a token that changes the length.
    tokens = [5 if token in (expand, delete) and not n else token for token, n in zip(tokens, new)]
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
        if not published(tiny, infiller, request, 0.1, 16).hole:
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
        infiller.tokenizer.decode(published(tiny, infiller, request, 0.1, first).hole)
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
