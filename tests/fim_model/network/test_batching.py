"""Batching: holes filled concurrently get the tokens they would get alone, in fewer passes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any, TypeVar

import pytest
import torch
from fim_model.decoding.adaptive import Drafting
from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.sampling import Sampler
from fim_model.errors import Cancelled
from fim_model.infiller import Infiller
from fim_model.network.attention_mask import Attention
from fim_model.network.batch_parts import Part
from fim_model.network.batching import PASS_ROWS, BatchedNetwork
from fim_model.network.contract import Shared, forward_one
from fim_model.network.lora import DraftLora
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import CompletionRequest
from fixed_costs import FixedCosts

pytestmark = pytest.mark.timeout(120)  # detect deadlocks between threads

NO_EOM = -1
T = TypeVar("T")


def side_by_side(model: BatchedNetwork, works: Sequence[Callable[[], T]]) -> list[Future[T]]:
    """Run each in its own thread; all have started before the first forward."""
    start = threading.Barrier(len(works))

    def fill_when_all_started(work: Callable[[], T]) -> T:
        with model.filling():
            start.wait(60)
            return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [pool.submit(fill_when_all_started, work) for work in works]


def fill(
    model: TriModeTransformer, prompt: Sequence[int], mode: str, tokens: int, temperature: float = 0
) -> tuple[list[int], list[float], int]:
    """Tokens, their probabilities, and the number of requested forwards."""
    cache = PromptCache(model, capacity=200)
    stop = StopRule(NO_EOM, tokens)
    core = DecodingCore(
        model, cache.kv, stop, Sampler(temperature, seed=len(prompt)), prompt=prompt
    )
    core.commit_choice(cache.prefill(prompt).logits)
    options = ModeOptions(width_budget=12, drafting=Drafting(FixedCosts(further=0.1)))
    for _ in MODES[mode](core, options):
        pass
    return core.tokens, core.confidences, core.forwards + 1


def prompts(count: int, seed: int) -> list[list[int]]:
    rng = Random(seed)
    return [[rng.randrange(2, 32) for _ in range(rng.randint(1, 40))] for _ in range(count)]


@pytest.mark.parametrize("mode", MODES)
def test_batched_tokens_equal_those_of_a_hole_filled_alone(tiny: Any, mode: str) -> None:
    for seed, temperature in enumerate((0.0, 0.8)):
        plain = tiny.model(seed, rope=tiny.yarn())
        joint = BatchedNetwork(plain)
        asked = [(prompt, 4 + 3 * n) for n, prompt in enumerate(prompts(4, seed))]
        alone = [fill(plain, prompt, mode, tokens, temperature) for prompt, tokens in asked]
        works = [
            partial(fill, joint, prompt, mode, tokens, temperature) for prompt, tokens in asked
        ]
        together = [future.result() for future in side_by_side(joint, works)]
        assert [result[0] for result in together] == [result[0] for result in alone]
        assert [result[2] for result in together] == [result[2] for result in alone]
        for ours, theirs in zip(together, alone, strict=True):
            assert ours[1] == pytest.approx(theirs[1], abs=1e-4)
        assert joint.counts.forwards == sum(result[2] for result in alone)
        assert joint.counts.passes < joint.counts.forwards


def test_different_modes_are_batched_together(tiny: Any) -> None:
    plain = tiny.model(3)
    joint = BatchedNetwork(plain)
    asked = list(zip(MODES, prompts(len(MODES), 9), strict=True))
    alone = [fill(plain, prompt, mode, 10)[0] for mode, prompt in asked]
    works = [
        lambda mode=mode, prompt=prompt: fill(joint, prompt, mode, 10) for mode, prompt in asked
    ]
    assert [future.result()[0] for future in side_by_side(joint, works)] == alone


def test_four_holes_of_equal_length_cost_the_passes_of_one(tiny: Any) -> None:
    """Prefill and nine tokens: ten passes for forty forwards, independent of thread timing."""
    joint = BatchedNetwork(tiny.model(1))
    works = [partial(fill, joint, prompt, "ar", 10) for prompt in prompts(4, 5)]
    for future in side_by_side(joint, works):
        future.result()
    assert (joint.counts.forwards, joint.counts.passes) == (40, 10)


def test_a_hole_does_not_wait_until_others_have_read_their_prompts(tiny: Any) -> None:
    """Of three wide forwards and a narrow one no two wide ones are in one pass."""
    plain = tiny.model(1)
    joint, passes = BatchedNetwork(plain), []
    forward_parts = plain.forward_parts

    def counted(parts: Sequence[Part], lora: DraftLora | None) -> list[torch.Tensor]:
        passes.append([part.width for part in parts])
        return forward_parts(parts, lora)

    plain.forward_parts = counted

    def read(width: int) -> torch.Tensor:
        cache = PromptCache(joint, capacity=200)
        tokens = torch.arange(width)[None] % 30
        return forward_one(joint, tokens, torch.arange(width)[None], Attention.CAUSAL, cache.kv)

    widths = [PASS_ROWS - 10, 3, PASS_ROWS - 20, PASS_ROWS + 20]
    works = [partial(read, width) for width in widths]
    together = [future.result() for future in side_by_side(joint, works)]
    joined = [widths for widths in passes if len(widths) > 1]
    assert sorted(width for widths in passes for width in widths) == sorted(widths)
    assert len(passes) in (3, 4), "the narrow one alone only if all others are too wide for it"
    assert all(3 in widths and sum(widths) <= PASS_ROWS for widths in joined)
    for width, hidden in zip(widths, together, strict=True):
        assert torch.allclose(hidden, read(width), atol=1e-4)


def test_a_finished_hole_does_not_delay_the_others(tiny: Any) -> None:
    """The longest hole continues alone: the passes are exactly those it needs itself."""
    joint = BatchedNetwork(tiny.model(1))
    works = [
        partial(fill, joint, prompt, "ar", 2 + 4 * n) for n, prompt in enumerate(prompts(3, 5))
    ]
    for future in side_by_side(joint, works):
        future.result()
    assert joint.counts.passes == 10
    assert joint.counts.forwards == 2 + 6 + 10


def test_forwards_outside_of_filling_do_not_wait(tiny: Any) -> None:
    plain = tiny.model(2)
    joint = BatchedNetwork(plain)
    [prompt] = prompts(1, 1)
    inside, leave = threading.Event(), threading.Event()

    def idle() -> None:
        with joint.filling():
            inside.set()
            leave.wait(60)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(idle)
        inside.wait(60)
        assert fill(joint, prompt, "ar", 6) == fill(plain, prompt, "ar", 6)
        leave.set()


def test_an_error_reaches_only_its_own_hole(tiny: Any) -> None:
    plain = tiny.model(2)
    joint = BatchedNetwork(plain)
    long, short = prompts(2, 2)

    def full() -> object:
        return PromptCache(joint, capacity=2).prefill([5, 6, 7])

    def alright() -> object:
        return fill(joint, short, "ar", 8)[0]

    failed, fine = side_by_side(joint, [full, alright])
    with pytest.raises(ValueError, match="the KV cache holds 2 tokens, 3 were asked for"):
        failed.result()
    assert fine.result() == fill(plain, short, "ar", 8)[0]
    assert fill(joint, long, "ar", 8) == fill(plain, long, "ar", 8), "and the model goes on"


def test_drafts_with_and_without_a_lora_are_not_batched(tiny: Any) -> None:
    plain = tiny.model(4)
    width, size = plain.config.num_attention_heads * plain.config.head_dim, plain.config.hidden_size
    draw = torch.Generator().manual_seed(0)
    down = tuple(torch.randn(2, width, generator=draw) for _ in range(2))
    up = tuple(torch.randn(size, 2, generator=draw) for _ in range(2))
    lora = DraftLora(down, up, 1.0)
    joint = BatchedNetwork(plain)
    tokens, places = torch.tensor([[3, 4, 1]]), torch.arange(3)[None]

    def forward(model: TriModeTransformer, with_lora: DraftLora | None) -> torch.Tensor:
        cache = PromptCache(model, capacity=8).kv
        with torch.inference_mode():
            return forward_one(model, tokens, places, Attention.BLOCK, cache, with_lora)

    works = [partial(forward, joint, draft_lora) for draft_lora in (lora, None)]
    results = [future.result() for future in side_by_side(joint, works)]
    for result, draft_lora in zip(results, (lora, None), strict=True):
        assert (result - forward(plain, draft_lora)).abs().max() < 1e-4
    assert joint.counts.passes == 2


def test_a_cancelled_hole_stops_within_one_forward(
    tiny: Any, tiny_tokenizer: CodeTokenizer
) -> None:
    model = BatchedNetwork(
        tiny.model(
            7,
            vocab_size=tiny_tokenizer.vocab_size,
            mask_token_id=tiny_tokenizer.special.mask,
            tie_word_embeddings=False,
            scale=0.7,
        )
    )
    infiller = Infiller(model, tiny_tokenizer)
    heard: list[object] = []

    def asked(session: str) -> CompletionRequest:
        return CompletionRequest("def area(w", "", mode="ar", max_tokens=20, session=session)

    def cancelled() -> None:
        infiller.infill(asked("a"), should_stop=lambda: len(heard) >= 3, on_step=heard.append)

    cancelled_hole, other = side_by_side(model, [cancelled, lambda: infiller.infill(asked("b"))])
    with pytest.raises(Cancelled):
        cancelled_hole.result()
    assert len(heard) == 3
    result = other.result()
    assert result is not None
    assert result.stats.forwards > 3
    assert model.counts.forwards == 3 + result.stats.forwards
    assert model.counts.passes == result.stats.forwards


def wide(joint: BatchedNetwork, width: int = PASS_ROWS - 10) -> torch.Tensor:
    """A forward beside which no other such one has room in a pass."""
    cache = PromptCache(joint, capacity=200)
    tokens, places = torch.arange(width)[None] % 30, torch.arange(width)[None]
    return forward_one(joint, tokens, places, Attention.CAUSAL, cache.kv)


def test_a_hole_given_up_leaves_before_the_pass_of_another_has_ended(tiny: Any) -> None:
    """Both are given up within the first pass: that one ends, and there is no second."""
    plain = tiny.model(1)
    joint = BatchedNetwork(plain)
    forward_parts, start = plain.forward_parts, threading.Barrier(2)
    stop, left, passes = threading.Event(), threading.Event(), []

    def held(parts: Sequence[Part], lora: DraftLora | None) -> list[torch.Tensor]:
        passes.append(len(parts))
        stop.set()
        assert left.wait(20), "the other hole waits for the end of this pass"
        return forward_parts(parts, lora)

    plain.forward_parts = held

    def work() -> str:
        try:
            with joint.filling(stop.is_set):
                start.wait(60)
                wide(joint)
        except Cancelled:
            left.set()
            return "given up"
        return "read"

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(work) for _ in range(2)]
    assert sorted(future.result() for future in found) == ["given up", "read"]
    assert passes == [1]
    assert joint.counts.forwards == 1


def test_what_a_hole_shares_with_others_is_known(tiny: Any) -> None:
    """Of two wide forwards one waits for the other; the narrow one is in the pass of either."""
    plain = tiny.model(1)
    joint = BatchedNetwork(plain)
    forward_parts = plain.forward_parts

    def slow(parts: Sequence[Part], lora: DraftLora | None) -> list[torch.Tensor]:
        time.sleep(0.2)
        return forward_parts(parts, lora)

    plain.forward_parts = slow

    def work(width: int) -> tuple[int, Shared]:
        wide(joint, width)
        return width, joint.shared

    widths = [PASS_ROWS - 10, 3, PASS_ROWS - 10]
    found = [future.result() for future in side_by_side(joint, [partial(work, w) for w in widths])]
    beside = sorted((width, shared.rows) for width, shared in found)
    assert beside == [(3, widths[0]), (widths[0], 0), (widths[0], 3)]
    waited = sorted(shared.waited for width, shared in found if width > 3)
    assert waited[0] < 0.15 < waited[1]
    assert joint.shared == Shared(), "this thread has shared nothing"
