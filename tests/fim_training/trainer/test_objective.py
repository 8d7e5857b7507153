"""The joint objective: its attention mask, its targets, and consistency with decoding."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch
from fim_model.network.attention_mask import Attention
from fim_model.network.kv_cache import KVCache
from fim_model.network.noisy_blocks import NoisyBlocks, attend_noisy_blocks
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.fim_prompt import FimPrompt, PromptBudget
from fim_model.prompt.tokenizer import CodeTokenizer, SpecialTokens
from fim_training.examples.examples import ExampleStream, Row
from fim_training.trainer.objective import (
    ROWS_AT_ONCE,
    Batch,
    ControlIds,
    NoiseSettings,
    build_batch,
    joint_losses,
)
from torch import Tensor
from torch._dynamo.testing import CompileCounter

NOISE = NoiseSettings(block_size=4, blocks=3)
MARKERS = ("eot", "prefix", "suffix", "middle", "file", "snippet", "edit", "old", "new")


@pytest.fixture(scope="module")
def special(tiny_tokenizer: CodeTokenizer) -> SpecialTokens:
    return tiny_tokenizer.special


def example(special: SpecialTokens, before: int = 18, hole: int = 6) -> Row:
    """`<suffix> s… <prefix> p… <middle> m… <eom>`; the ids of code tokens begin at 16."""
    half = (before - 3) // 2
    prompt = [special.suffix, *range(20, 20 + half), special.prefix]
    prompt += [*range(60, 60 + before - 3 - half), special.middle]
    middle = [*range(100, 100 + hole), special.eom]
    return Row([*prompt, *middle], [range(before, before + len(middle))])


def batch_of(
    special: SpecialTokens,
    rows: list[Row],
    *,
    length: int = 28,
    noise: NoiseSettings = NOISE,
    seed: int = 0,
) -> Batch:
    return build_batch(rows, length, ControlIds.own(special), noise, Random(seed))


def first_of_block(batch: Batch, row: int, block: int) -> int:
    return int(batch.positions[row, batch.clean + block * batch.block_size])


# Attention.


def test_the_mask_matches_its_definition(special: SpecialTokens) -> None:
    """A noisy position attends to the clean text before its block and to its own block only."""
    rows = [example(special), example(special, 15, 9), Row(list(range(20, 45)), [])]
    batch = batch_of(special, rows, seed=1)
    attention = batch.attention()
    assert attention.clean == batch.clean == 28
    assert attention.mask.shape == (3, 1, 12, 40)
    for row in range(3):
        for query in range(12):
            first = first_of_block(batch, row, query // 4)
            for key in range(40):
                earlier = key < batch.clean and key < first
                own_block = key >= batch.clean and (key - batch.clean) // 4 == query // 4
                sees = earlier or own_block
                assert bool(attention.mask[row, 0, query, key]) == sees


def test_outputs_depend_exactly_on_the_visible_positions(
    tiny: Any, special: SpecialTokens, tiny_tokenizer: CodeTokenizer
) -> None:
    """Each token is changed once; exactly the positions that attend to it change."""
    model = tiny.model(1, vocab_size=tiny_tokenizer.vocab_size)
    batch = batch_of(special, [example(special)], seed=2)
    total, clean = batch.tokens.shape[1], batch.clean
    attention = batch.attention()
    firsts = [first_of_block(batch, 0, block) for block in range(NOISE.blocks)]
    assert len({*firsts}) > 1

    @torch.no_grad()
    def hidden(tokens: Tensor) -> Tensor:
        return model(tokens, batch.positions, attention)[0]

    before = hidden(batch.tokens)
    for key in range(total):
        tokens = batch.tokens.clone()
        tokens[0, key] = (tokens[0, key] + 77) % tiny_tokenizer.vocab_size
        changed = (hidden(tokens) - before).abs().amax(-1)
        for query in range(total):
            if query < clean:
                sees = key <= query
            elif key < clean:
                sees = key < firsts[(query - clean) // 4]
            else:
                sees = (key - clean) // 4 == (query - clean) // 4
            assert bool(changed[query] > 0) == sees, (query, key)


def test_a_noisy_block_gets_the_logits_of_a_draft(
    tiny: Any, special: SpecialTokens, tiny_tokenizer: CodeTokenizer
) -> None:
    """A block's logits in training equal those of decoding over a cache."""
    model: TriModeTransformer = tiny.model(2, vocab_size=tiny_tokenizer.vocab_size)
    batch = batch_of(special, [example(special)], seed=3)
    with torch.no_grad():
        trained = model(batch.tokens, batch.positions, batch.attention())[0, batch.clean :]
        for block in range(NOISE.blocks):
            first = first_of_block(batch, 0, block)
            cache = KVCache(model.config, capacity=64)
            model(batch.tokens[:, :first], torch.arange(first)[None], Attention.CAUSAL, cache)
            cache.advance(first)
            here = slice(block * 4, block * 4 + 4)
            tokens = batch.tokens[:, batch.clean :][:, here]
            places = torch.arange(first, first + 4)[None]
            drafted = model(tokens, places, Attention.BLOCK, cache)[0]
            assert (trained[here] - drafted).abs().max() < 1e-4


# Targets.


def test_clean_tokens_predict_the_next_one(special: SpecialTokens) -> None:
    one = example(special)
    batch = batch_of(special, [one])
    size = len(one.tokens)
    assert batch.tokens[0, :size].tolist() == one.tokens
    assert (batch.tokens[0, size : batch.clean] == special.pad).all()
    assert batch.positions[0, : batch.clean].tolist() == list(range(28))
    markers = {getattr(special, name) for name in MARKERS}
    for at in range(batch.clean):
        weight = float(batch.ar_weight[0, at])
        if at + 1 >= size or one.tokens[at + 1] in markers:
            assert weight == 0
            continue
        assert int(batch.target[0, at]) == one.tokens[at + 1]
        assert weight == (NOISE.middle_weight if at + 1 >= one.middles[0].start else 1)
    assert not batch.ar_weight[0, batch.clean :].any()


def test_no_marker_of_a_prompt_is_predicted(
    special: SpecialTokens, tiny_tokenizer: CodeTokenizer
) -> None:
    """In prompts with snippets, with edits and without a text; code and the end of a middle are."""
    fim, budget = FimPrompt.own(tiny_tokenizer), PromptBudget(60, 20)
    prompts = [
        [*fim.snippets([("a.py", "b = 1")], 40), *fim("x", "y", "c.py", budget)],
        fim.edit("x", "old", "y", "c.py", [("a", "b")], budget),
        fim.plain("", 8),
    ]
    seen = set[int]()
    for prompt in prompts:
        tokens = [20, *prompt, 30, special.eom]
        middle = range(len(tokens) - 2, len(tokens))
        for seed in range(20):
            batch = batch_of(special, [Row(tokens, [middle])], length=len(tokens), seed=seed)
            weights = batch.ar_weight + batch.diffusion_weight
            predicted = set(batch.target[weights > 0].tolist())
            assert not predicted & {getattr(special, name) for name in MARKERS}
            assert special.eom in predicted
        seen |= set(prompt)
    assert seen >= {getattr(special, name) for name in MARKERS}


def test_masks_predict_themselves(special: SpecialTokens) -> None:
    """Over many seeds: noisy copies of the clean tokens, where only masks have weight."""
    one = example(special)
    size, markers = len(one.tokens), {getattr(special, name) for name in MARKERS}
    for seed in range(40):
        batch = batch_of(special, [one], seed=seed)
        assert not batch.diffusion_weight[0, : batch.clean].any()
        for block in range(NOISE.blocks):
            first = first_of_block(batch, 0, block)
            hidden = 0
            for offset in range(4):
                at = batch.clean + block * 4 + offset
                truth = one.tokens[first + offset] if first + offset < size else special.eom
                assert int(batch.positions[0, at]) == first + offset
                assert int(batch.target[0, at]) == truth
                assert int(batch.noisy_limit[0, block * 4 + offset]) == first
                shown, weight = int(batch.tokens[0, at]), float(batch.diffusion_weight[0, at])
                assert shown in (truth, special.mask)
                if shown != special.mask or truth in markers:
                    assert weight == 0
                else:
                    assert weight == (1 if first + offset < size else 0.25)
                hidden += shown == special.mask
            assert hidden >= 1


def test_blocks_begin_where_decoding_opens_them(special: SpecialTokens) -> None:
    """At the hole's start, whole blocks later, anywhere in the hole, and some in the prompt."""
    one = example(special, before=18, hole=9)
    firsts: list[int] = []
    for seed in range(200):
        batch = batch_of(special, [one], length=40, seed=seed)
        firsts += [first_of_block(batch, 0, block) for block in range(NOISE.blocks)]
    inside = [first for first in firsts if first >= one.middles[0].start]
    assert set(inside) == set(range(18, 28))
    assert inside.count(18) > 2 * inside.count(19)
    assert inside.count(22) > 2 * inside.count(21)
    assert 0.05 < 1 - len(inside) / len(firsts) < 0.4
    assert all(first >= 1 for first in firsts)


def test_half_of_the_blocks_are_fully_masked_drafts(special: SpecialTokens) -> None:
    """All but the seed masked, as a decoder opens a block."""
    masked = []
    for seed in range(200):
        batch = batch_of(special, [example(special)], seed=seed)
        blocks = (batch.tokens[0, batch.clean :] == special.mask).view(3, 4)
        masked += [tuple(block) for block in blocks.tolist()]
    share = masked.count((False, True, True, True)) / len(masked)
    assert 0.45 < share < 0.7
    late = sum(block[3] for block in masked) / len(masked)
    assert late > sum(block[0] for block in masked) / len(masked)
    assert len(set(masked)) > 8


def test_plain_text_has_no_hole(special: SpecialTokens) -> None:
    """Its blocks lie anywhere before its end; a text that is too short has none."""
    plain, short = Row(list(range(20, 45)), []), Row([20, 21], [])
    batch = batch_of(special, [plain, short, Row([20], [])])
    assert all(1 <= first_of_block(batch, 0, block) <= 21 for block in range(3))
    assert (batch.ar_weight[0, :24] == 1).all()
    assert (batch.tokens[1:, batch.clean :] == special.pad).all()
    assert not batch.diffusion_weight[1:].any()
    assert batch.ar_weight[1].nonzero().tolist() == [[0]]
    assert not batch.ar_weight[2].any()


# Losses.


def test_losses_are_weighted_means(
    tiny: Any, special: SpecialTokens, tiny_tokenizer: CodeTokenizer
) -> None:
    model = tiny.model(4, vocab_size=tiny_tokenizer.vocab_size)
    batch = batch_of(special, [example(special), example(special, 15, 9)], seed=5)
    with torch.no_grad():
        losses = joint_losses(model, batch)
        logits = model.logits(model(batch.tokens, batch.positions, batch.attention()))
    for found, weights in (
        (losses.ar, batch.ar_weight),
        (losses.diffusion, batch.diffusion_weight),
    ):
        total = 0.0
        for row, at in weights.nonzero().tolist():
            log_odds = logits[row, at].double().log_softmax(-1)
            total -= float(weights[row, at] * log_odds[batch.target[row, at]])
        assert float(found) == pytest.approx(total / float(weights.sum()), rel=1e-5)


def test_a_batch_without_targets_has_no_loss(
    tiny: Any, special: SpecialTokens, tiny_tokenizer: CodeTokenizer
) -> None:
    model = tiny.model(vocab_size=tiny_tokenizer.vocab_size)
    losses = joint_losses(model, batch_of(special, [Row([20], [])]))
    assert (float(losses.ar), float(losses.diffusion)) == (0, 0)


def test_only_rows_with_a_target_are_projected_to_the_vocabulary(
    tiny: Any,
    special: SpecialTokens,
    tiny_tokenizer: CodeTokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.model(vocab_size=tiny_tokenizer.vocab_size)
    batch = batch_of(special, [example(special)])
    rows: list[int] = []
    real = TriModeTransformer.logits

    def logits(self: TriModeTransformer, hidden: Tensor) -> Tensor:
        rows.append(len(hidden))
        return real(self, hidden)

    monkeypatch.setattr(TriModeTransformer, "logits", logits)
    joint_losses(model, batch)
    wanted = int(((batch.ar_weight + batch.diffusion_weight) > 0).sum())
    assert rows == [ROWS_AT_ONCE] * -(-wanted // ROWS_AT_ONCE)


def test_a_tiny_model_learns_a_handful_of_files(tiny: Any, tiny_tokenizer: CodeTokenizer) -> None:
    """Both losses fall from chance level to a small fraction of it in a few dozen steps."""
    stream = ExampleStream(tiny.files[:1], tiny_tokenizer, plain_share=0)
    rng = Random(0)
    noise = NoiseSettings(block_size=4, blocks=4)
    drawn = [stream.draw(rng, 64) for _ in range(4)]
    batch = build_batch(drawn, 64, ControlIds.own(tiny_tokenizer.special), noise, rng)
    model = TriModeTransformer(
        tiny.config(vocab_size=tiny_tokenizer.vocab_size, hidden_size=48, intermediate_size=96)
    )
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    history: list[tuple[float, float]] = []
    for _ in range(32):
        losses = joint_losses(model, batch)
        history.append((losses.ar.item(), losses.diffusion.item()))
        (losses.ar + losses.diffusion).backward()
        optimizer.step()
        optimizer.zero_grad()
    chance = math.log(tiny_tokenizer.vocab_size)
    assert history[0] == pytest.approx((chance, chance), abs=0.5)
    assert max(history[-1]) < chance / 4


def test_attention_without_noise_is_causal(tiny: Any) -> None:
    """The clean part gets the outputs of a causal forward."""
    model = tiny.model(6)
    tokens, positions = torch.arange(12)[None] % 32, torch.arange(12)[None]
    mask = torch.ones(1, 1, 4, 12, dtype=torch.bool)
    with torch.no_grad():
        clean = model(tokens, positions, NoisyBlocks(8, mask))[:, :8]
        causal = model(tokens[:, :8], positions[:, :8], Attention.CAUSAL)
    assert (clean - causal).abs().max() < 1e-5


# FlexAttention: the same mask in block form.


def test_the_block_mask_equals_the_mask(special: SpecialTokens) -> None:
    """Compares both in float32, with rows of other lengths, other blocks, and no hole."""
    rows = [example(special), example(special, 15, 9), Row(list(range(20, 45)), [])]
    batch = batch_of(special, rows, seed=1)
    total = batch.tokens.shape[1]
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 4, total, 8, generator=generator)
    key, value = torch.randn(2, 3, 2, total, 8, generator=generator)
    with torch.no_grad():
        plain = attend_noisy_blocks(query, key, value, batch.attention())
        fused = attend_noisy_blocks(query, key, value, batch.attention(fused=True))
    assert (plain - fused).abs().max() < 1e-5


def test_new_masks_need_no_new_compilation(
    tiny: Any, special: SpecialTokens, tiny_tokenizer: CodeTokenizer
) -> None:
    """As each step of a GPU run does: a new batch, a new mask, the same compiled model."""
    counter = CompileCounter()
    model = tiny.model(3, vocab_size=tiny_tokenizer.vocab_size)
    batches = [
        batch_of(special, [example(special), example(special, 12, 7)], seed=n) for n in (1, 2)
    ]
    with torch.no_grad():
        plain = [model(batch.tokens, batch.positions, batch.attention()) for batch in batches]
        model.compile(backend=counter)
        fused = [
            model(batch.tokens, batch.positions, batch.attention(fused=True)) for batch in batches
        ]
    assert counter.frame_count == 1
    for ours, other in zip(plain, fused, strict=True):
        assert (ours - other).abs().max() < 1e-4


def test_both_attentions_agree_in_bf16(
    tiny: Any, special: SpecialTokens, tiny_tokenizer: CodeTokenizer
) -> None:
    """Under autocast, as in a run; the losses differ only by rounding."""
    model = tiny.model(4, vocab_size=tiny_tokenizer.vocab_size, scale=0.3)
    batch = batch_of(special, [example(special), example(special, 15, 9)], seed=5)
    with torch.no_grad():
        exact = joint_losses(model, batch)
        with torch.autocast("cpu", torch.bfloat16):
            plain = joint_losses(model, batch)
            fused = joint_losses(model, batch, fused=True)
    for name in ("ar", "diffusion"):
        wanted = float(getattr(exact, name))
        assert float(getattr(plain, name)) == pytest.approx(wanted, rel=0.01)
        assert float(getattr(fused, name)) == pytest.approx(wanted, rel=0.01)


def test_another_familys_control_tokens(tiny_tokenizer: CodeTokenizer) -> None:
    own = FimPrompt.own(tiny_tokenizer)
    special = tiny_tokenizer.special
    assert ControlIds.of(own, special.mask) == ControlIds.own(special)
