"""Revision: tokens are scored with both sides, changed only if likelier, in limited rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from fim_model.decoding import reference
from fim_model.decoding.commit_rules import ConfidenceThreshold
from fim_model.decoding.core import DecodingCore, Step, StopRule
from fim_model.decoding.prompt_cache import PIECE, PromptCache
from fim_model.decoding.revise_region import RegionReviser
from fim_model.decoding.revise_window import (
    Likelihood,
    Revision,
    RevisionRule,
    both_sides_log_probabilities,
    revise_window,
)
from fim_model.decoding.sampling import Sampler
from fim_model.errors import Cancelled
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from torch import Tensor

PAST = [3, 7, 5, 9, 4]
WINDOW = torch.tensor([6, 3, 8, 8, 5, 10])
EDITABLE = torch.tensor([False, True, True, True, True, False])


def core_after(model: TriModeTransformer, past: Sequence[int], size: int = 8) -> DecodingCore:
    cache = PromptCache(model, capacity=200)
    cache.prefill(past)
    return DecodingCore(model, cache.kv, StopRule(-1, 64), Sampler(), block_size=size)


def run(core: DecodingCore, window: Tensor, rule: RevisionRule) -> tuple[list[Step], Revision]:
    *steps, last = revise_window(core, window, EDITABLE, rule, ConfidenceThreshold())
    assert isinstance(last, Revision)
    return [step for step in steps if isinstance(step, Step)], last


def test_each_token_is_scored_as_if_it_alone_were_masked(tiny: Any) -> None:
    model = tiny.model(3)
    core = core_after(model, PAST)
    found = both_sides_log_probabilities(core, WINDOW, EDITABLE)
    assert core.forwards == 1
    for at, token in enumerate(WINDOW.tolist()):
        if not EDITABLE[at]:
            assert found[at] == 0
            continue
        block = WINDOW.tolist()
        block[at] = model.config.mask_token_id
        row = reference.block_logits(model, PAST, block)[at]
        assert float(found[at]) == pytest.approx(float(row.log_softmax(-1)[token]), abs=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_a_change_is_kept_only_if_both_likelihoods_rise_by_the_margin(tiny: Any, seed: int) -> None:
    model = tiny.model(seed, scale=2.0)
    rule = RevisionRule(remask_below=0.5, margin=0.5, rounds=3)
    steps, revision = run(core_after(model, PAST), WINDOW, rule)
    assert len(revision.tokens) == len(WINDOW)
    assert torch.equal(revision.tokens[~EDITABLE], WINDOW[~EDITABLE])
    assert sum(bool(step.remasked) for step in steps) <= rule.rounds
    assert all(EDITABLE[at] for step in steps for at in step.remasked)
    if torch.equal(revision.tokens, WINDOW):
        assert revision.gain == 0
        return
    before = Likelihood.of(core_after(model, PAST), WINDOW, EDITABLE)
    after = Likelihood.of(core_after(model, PAST), revision.tokens, EDITABLE)
    assert after.both_sides.sum() > before.both_sides.sum() + rule.margin
    assert after.causal > before.causal + rule.margin


def test_some_of_these_windows_change_and_some_do_not(tiny: Any) -> None:
    """Otherwise the test above could not fail."""
    rule = RevisionRule(remask_below=0.5, margin=0.5, rounds=3)
    changed = [
        not torch.equal(run(core_after(tiny.model(seed, scale=2.0), PAST), WINDOW, rule)[1].tokens,
                        WINDOW)
        for seed in range(12)
    ]  # fmt: skip
    assert any(changed)
    assert not all(changed)


def test_a_position_is_remasked_at_most_once(tiny: Any) -> None:
    steps, _ = run(
        core_after(tiny.model(5), PAST), WINDOW, RevisionRule(remask_below=1.1, rounds=20)
    )
    doubted = [at for step in steps for at in step.remasked]
    assert len(doubted) == len(set(doubted))
    assert set(doubted) == set(EDITABLE.nonzero().squeeze(1).tolist())


def test_a_window_without_editable_tokens_needs_no_forward(tiny: Any) -> None:
    core = core_after(tiny.model(1), PAST)
    nothing = torch.zeros_like(EDITABLE)
    (only,) = revise_window(core, WINDOW, nothing, RevisionRule(), ConfidenceThreshold())
    assert isinstance(only, Revision)
    assert torch.equal(only.tokens, WINDOW)
    assert core.forwards == 0


def test_a_window_wider_than_a_block_is_refused(tiny: Any) -> None:
    core = core_after(tiny.model(1), PAST, size=4)
    with pytest.raises(ValueError, match="at most 4 tokens, not 6"):
        next(iter(revise_window(core, WINDOW, EDITABLE, RevisionRule(), ConfidenceThreshold())))


@pytest.fixture(scope="module")
def reviser(tiny: Any, tiny_tokenizer: CodeTokenizer) -> RegionReviser:
    mask = tiny_tokenizer.special.mask
    model = tiny.model(2, vocab_size=tiny_tokenizer.vocab_size, mask_token_id=mask, block_size=8)
    return RegionReviser(model, tiny_tokenizer, RevisionRule(remask_below=0.0))


def test_a_region_without_doubt_is_unchanged(reviser: RegionReviser) -> None:
    text = "def größe(x):\n    return x  # 😀\n" * 4
    revised = reviser.revise("import math\n", text, "\nprint(1)\n")
    assert revised.text == text
    assert revised.gain == 0


def test_an_empty_region_needs_no_forward(reviser: RegionReviser) -> None:
    assert reviser.revise("a", "", "b").forwards == 0


def test_revision_stops_between_two_forwards(reviser: RegionReviser) -> None:
    with pytest.raises(Cancelled):
        reviser.revise("a = 1\n", "b = 2\n" * 9, "", should_stop=lambda: True)


def test_reading_what_stands_before_a_region_can_be_stopped(
    tiny: Any, tiny_tokenizer: CodeTokenizer
) -> None:
    """The stop comes after the first piece of a long text: no second one is read."""
    mask = tiny_tokenizer.special.mask
    model = tiny.model(2, vocab_size=tiny_tokenizer.vocab_size, mask_token_id=mask, block_size=8)
    forward_parts, read = model.forward_parts, []

    def counted(parts: Any, lora: Any) -> list[Tensor]:
        read.append(sum(part.width for part in parts))
        return forward_parts(parts, lora)

    model.forward_parts = counted
    reviser = RegionReviser(model, tiny_tokenizer, RevisionRule(remask_below=0.0))
    with pytest.raises(Cancelled):
        reviser.revise("a = 1\n" * 60, "b = 2\n", "", should_stop=lambda: bool(read))
    assert len(read) == 1
    with pytest.raises(Cancelled):
        reviser.gains("a = 1\n" * 60, "b = 2\n", ["c = 2\n"], "", lambda: len(read) > 1)
    assert len(read) == 2
    assert max(read) <= PIECE
