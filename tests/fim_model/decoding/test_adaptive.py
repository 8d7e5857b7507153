"""Adaptive speculation: which drafts are taken follows what forwards cost and how often drafts are
right. That its text is the autoregressive one is in `test_modes` and `test_row_independence`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fim_model.decoding.adaptive import MODEL, RETRY, Acceptance, Drafting, ForwardCosts, adaptive
from fim_model.decoding.core import DecodingCore, ForwardKind, StopRule
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.sampling import Sampler
from fim_model.network.contract import Shared
from fixed_costs import FixedCosts
from hypothesis import given
from hypothesis import strategies as st


def started(tiny: Any, sampler: Sampler | None = None) -> DecodingCore:
    model = tiny.model(1, vocab_size=8, max_position_embeddings=1024)
    cache = PromptCache(model, capacity=600)
    prompt = [1, 2, 3, 4] * 5
    prefill = cache.prefill(prompt)
    core = DecodingCore(
        model, cache.kv, StopRule(-1, 400), sampler or Sampler(), block_size=8, prompt=prompt
    )
    core.commit_choice(prefill.logits)
    return core


def widths(core: DecodingCore, drafting: Drafting) -> list[int]:
    return [step.width for step in adaptive(core, drafting)]


def test_nothing_is_drafted_where_a_further_position_costs_a_forward(tiny: Any) -> None:
    drafting = Drafting(FixedCosts(further=1.0))
    drafting.idle_rounds = 0
    found = widths(started(tiny), drafting)
    assert set(found[: RETRY - 1]) == {1}
    assert sum(found) <= 1.1 * len(found)


def test_never_many_more_positions_than_tokens_where_drafts_are_wrong(tiny: Any) -> None:
    """Whatever is refused is paid for; what was refused often is not drafted again."""
    drafting = Drafting(FixedCosts(further=0.3))
    for kind in (2, 3, 4, MODEL):
        drafting.accepted[kind] = Acceptance(share=0.0)
    core = started(tiny)
    costs = [drafting.costs(width) for width in widths(core, drafting)]
    assert sum(costs) <= 1.1 * len(core.tokens)


def test_a_text_that_repeats_itself_takes_fewer_forwards_than_tokens(tiny: Any) -> None:
    """A greedy tiny model falls into a loop, which copies follow."""
    core = started(tiny)
    found = widths(core, Drafting(FixedCosts(further=0.05)))
    assert len(core.tokens) == 400
    assert len(found) < 100


def test_the_model_drafts_where_forwards_are_free_and_its_drafts_are_right(tiny: Any) -> None:
    drafting = Drafting(FixedCosts(further=0.0))
    drafting.accepted = {kind: Acceptance(0.1) for kind in (2, 3, 4)}
    drafting.accepted[MODEL] = Acceptance(0.95)
    kinds = [step.kind for step in adaptive(started(tiny), drafting)]
    assert kinds[0] is ForwardKind.DRAFT


def test_the_model_is_tried_again_after_some_rounds(tiny: Any) -> None:
    drafting = Drafting(FixedCosts(further=1.0))
    drafting.accepted[MODEL] = Acceptance(0.0)
    steps = list(adaptive(started(tiny), drafting))
    tried = sum(step.kind is ForwardKind.DRAFT for step in steps)
    assert 1 <= tried <= 1 + len(steps) // RETRY


def test_a_sampled_text_does_not_depend_on_what_was_observed(tiny: Any) -> None:
    texts = []
    for share in (0.0, 1.0):
        drafting = Drafting(FixedCosts(further=0.1))
        drafting.accepted = {kind: Acceptance(share) for kind in (2, 3, 4, MODEL)}
        core = started(tiny, Sampler(0.8, 5))
        widths(core, drafting)
        texts.append(core.tokens)
    assert texts[0] == texts[1]


@given(st.dictionaries(st.integers(1, 72), st.floats(0.001, 1.0), max_size=6), st.integers(1, 100))
def test_costs_are_positive_and_never_above_an_observed_wider_one(
    seen: dict[int, float], width: int
) -> None:
    costs = ForwardCosts()
    for each, seconds in seen.items():
        costs.observe(each, seconds)
    assert costs(width) > 0
    assert all(costs(width) <= seconds for each, seconds in seen.items() if each >= width)


def test_one_suspended_forward_hardly_counts() -> None:
    costs = ForwardCosts()
    for _ in range(20):
        costs.observe(1, 0.01)
    costs.observe(1, 60.0)
    assert costs(1) == pytest.approx(0.012)


def test_more_tokens_of_a_surer_draft() -> None:
    drafting = Drafting(FixedCosts(further=0.1))
    lengths = []
    for share in (0.0, 0.3, 0.6, 0.9):
        drafting.accepted[2] = Acceptance(share)
        lengths.append(drafting.copied(2, 10)[1])
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] == 10
    assert torch.tensor(lengths).diff().sum() > 0


def test_the_cost_of_a_forward_is_that_of_its_pass(tiny: Any, monkeypatch: Any) -> None:
    """Without what the hole waited for others, at the rows that theirs had in the same pass."""
    core, drafting = started(tiny), Drafting(FixedCosts(further=0.1))
    model, observed = type(core.model), list[tuple[int, float]]()
    monkeypatch.setattr(
        model, "shared", property(lambda self: Shared(100.0 * core.forwards, 7 * core.forwards))
    )
    monkeypatch.setattr(
        FixedCosts, "observe", lambda self, width, seconds: observed.append((width, seconds))
    )
    found = widths(core, drafting)
    assert [width for width, _ in observed] == [width + 7 for width in found]
    assert all(seconds < -50 for _, seconds in observed), "100 seconds of waiting are taken off"
