"""The decoding modes: cached decoding against the reference, speculation against greedy AR."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
import torch
from fim_model import requests
from fim_model.decoding import reference
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.commit_rules import (
    CommitRule,
    ConfidenceThreshold,
    EntropyBound,
    Factor,
    Leftmost,
)
from fim_model.decoding.core import DecodingCore, ForwardKind, Step, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.quadratic import masks_within, row_pattern, row_positions
from fim_model.decoding.sampling import Sampler
from fim_model.network.transformer import TriModeTransformer
from fim_model.requests import AUTO, NATIVE

SPECULATIVE = ("self_speculation", "quadratic_speculation", "adaptive")
NO_EOM = -1


@dataclass(frozen=True)
class Case:
    """One hole to fill."""

    prompt: Sequence[int]
    stop: StopRule
    block_size: int = 4


@dataclass(frozen=True)
class Filled:
    tokens: list[int]
    confidences: list[float]
    finish: str | None
    forwards: int
    steps: list[Step]


def start(model: TriModeTransformer, case: Case, sampler: Sampler | None = None) -> DecodingCore:
    """A decoding core with its first token, as the infiller creates it."""
    cache = PromptCache(model, capacity=200)
    prefill = cache.prefill(case.prompt)
    core = DecodingCore(
        model, cache.kv, case.stop, sampler or Sampler(), block_size=case.block_size
    )
    core.commit_choice(prefill.logits)
    return core


def fill(
    model: TriModeTransformer, case: Case, mode: str, options: ModeOptions | None = None
) -> Filled:
    core = start(model, case)
    steps = list(MODES[mode](core, options or ModeOptions()))
    return Filled(core.tokens, core.confidences, core.finish, core.forwards + 1, steps)


def random_tokens(rng: Random, vocab: int, most: int) -> list[int]:
    return [rng.randrange(vocab) for _ in range(rng.randint(1, most))]


def random_case(rng: Random, vocab: int) -> Case:
    """A random prompt and block size, with one or several stop conditions."""
    newlines = set(rng.sample(range(vocab), vocab // 4))
    lines = rng.choice([1, 2, 99])

    def lines_done(ids: Sequence[int]) -> bool:
        return ids[-1] in newlines and sum(token in newlines for token in ids) >= lines

    stop = StopRule(rng.choice([NO_EOM, 0, 2]), rng.randint(1, 16), lines_done)
    return Case(random_tokens(rng, vocab, 12), stop, rng.choice([2, 3, 4, 8, 16]))


MODEL_KINDS: dict[str, dict[str, Any]] = {
    "tied": {"vocab_size": 8},
    "untied, one layer": {"vocab_size": 6, "num_hidden_layers": 1, "tie_word_embeddings": False},
    "one key head": {"vocab_size": 12, "num_key_value_heads": 1},
    "three layers": {"vocab_size": 8, "num_hidden_layers": 3, "intermediate_size": 16},
    "yarn": {"vocab_size": 8, "rope": "yarn"},
    "a larger vocabulary": {"vocab_size": 40, "head_dim": 4},
}


def make(tiny: Any, kind: str, seed: int) -> TriModeTransformer:
    changes = dict(MODEL_KINDS[kind])
    if "rope" in changes:
        changes["rope"] = tiny.yarn(original_max_position_embeddings=8)
    return tiny.model(seed, **changes)


def test_every_mode_can_be_requested() -> None:
    """No other mode can: `native` decodes separately, and `auto` resolves to one of these."""
    assert {*MODES, NATIVE, AUTO} == set(requests.MODES)


def test_greedy_speculation_is_greedy_ar_token_for_token(tiny: Any) -> None:
    """204 prompts on twelve models. Both speculative modes accept some drafts and reject others."""
    finishes: Counter[str | None] = Counter()
    accepted: dict[str, Counter[int]] = {mode: Counter() for mode in SPECULATIVE}
    rng = Random(0)
    for seed, kind in enumerate([*MODEL_KINDS] * 2):
        model = make(tiny, kind, seed)
        for _ in range(17):
            case = random_case(rng, model.config.vocab_size)
            wanted = fill(model, case, "ar")
            finishes[wanted.finish] += 1
            for mode in SPECULATIVE:
                found = fill(model, case, mode)
                assert (found.tokens, found.finish) == (wanted.tokens, wanted.finish), (mode, case)
                assert found.confidences == pytest.approx(wanted.confidences, abs=1e-4)
                verified = [s for s in found.steps if s.kind is ForwardKind.VERIFY]
                accepted[mode].update(len(step.committed) for step in verified)
    assert all(finishes[reason] >= 20 for reason in ("eom", "lines", "length")), finishes
    for mode, lengths in accepted.items():
        assert lengths[1] >= 100, (mode, lengths)
        assert sum(count for length, count in lengths.items() if length > 2) >= 20, (mode, lengths)


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_ar_equals_the_reference(tiny: Any, kind: str) -> None:
    rng = Random(1)
    model = make(tiny, kind, 20)
    for _ in range(3):
        case = random_case(rng, model.config.vocab_size)
        found = fill(model, case, "ar")
        assert (found.tokens, found.forwards) == reference.autoregressive(
            model, case.prompt, case.stop
        )


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_speculation_equals_the_reference(tiny: Any, kind: str) -> None:
    """Also the number of forwards, because equality with AR does not test draft quality."""
    rng = Random(2)
    model = make(tiny, kind, 30)
    for _ in range(4):
        case = random_case(rng, model.config.vocab_size)
        prompt, stop, size = case.prompt, case.stop, case.block_size
        found = fill(model, case, "self_speculation")
        assert (found.tokens, found.forwards) == reference.self_speculation(
            model, prompt, stop, size
        )
        found = fill(model, case, "quadratic_speculation", ModeOptions(width_budget=30))
        assert (found.tokens, found.forwards) == reference.quadratic_speculation(
            model, prompt, stop, masks_within(30, size)
        )


def test_tokens_drafted_after_an_end_are_not_verified(tiny: Any) -> None:
    """A verification spans the seed and the draft up to its first end token."""
    cut = 0
    for seed, kind in enumerate(MODEL_KINDS, 80):
        model = make(tiny, kind, seed)
        free = fill(model, Case([3, 1, 4], StopRule(NO_EOM, 12), 8), "self_speculation")
        eom = free.steps[0].hole[3]  # drafted in the first block
        steps = fill(model, Case([3, 1, 4], StopRule(eom, 12), 8), "self_speculation").steps
        for draft, verify in pairwise(steps):
            if draft.kind is not ForwardKind.DRAFT:
                continue
            drafted = draft.hole[draft.committed[0] :]
            wanted = drafted.index(eom) + 1 if eom in drafted else len(drafted)
            assert verify.width == 1 + wanted
            cut += wanted < len(drafted)
    assert cut > 3


@pytest.mark.parametrize("mode", ["self_speculation", "quadratic_speculation", "diffusion"])
def test_drafts_fit_the_remaining_token_limit(tiny: Any, mode: str) -> None:
    """A round of speculation yields one token beyond its draft, a denoised block none."""
    model = tiny.model(11, vocab_size=8)
    beyond = 0 if mode == "diffusion" else 1
    for most in range(2, 12):
        for step in fill(model, Case([3, 1, 4], StopRule(NO_EOM, most), 8), mode).steps:
            left = most - step.committed[0]
            if step.kind is ForwardKind.DRAFT:
                assert len(step.hole) <= most - beyond
            elif mode == "quadratic_speculation":
                assert step.width <= left**2
            else:
                assert step.width <= max(left, 8 * (mode == "diffusion"))


@pytest.mark.parametrize("mode", SPECULATIVE)
def test_the_last_token_allowed_takes_one_plain_forward(tiny: Any, mode: str) -> None:
    found = fill(tiny.model(12, vocab_size=8), Case([3, 1, 4], StopRule(NO_EOM, 2), 8), mode)
    assert [step.width for step in found.steps] == [1]


RULES: list[CommitRule] = [
    ConfidenceThreshold(0.9),
    ConfidenceThreshold(0.4),
    Factor(1.0),
    EntropyBound(0.5),
    Leftmost(2),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_diffusion_equals_the_reference(tiny: Any, rule: CommitRule) -> None:
    rng = Random(3)
    several = 0
    for seed, kind in enumerate(MODEL_KINDS, 40):
        model = make(tiny, kind, seed)
        for _ in range(3):
            case = random_case(rng, model.config.vocab_size)
            found = fill(model, case, "diffusion", ModeOptions(rule=rule))
            assert (found.tokens, found.forwards) == reference.diffusion(
                model, case.prompt, case.stop, rule, case.block_size
            )
            drafts = [step for step in found.steps if step.kind is ForwardKind.DRAFT]
            several += sum(len(step.committed) > 1 for step in drafts)
    assert several > 5  # the rule did commit in parallel


@pytest.mark.parametrize("rule", RULES[:3], ids=repr)
def test_diffusion_ends_at_an_end_within_a_block(tiny: Any, rule: CommitRule) -> None:
    """Once the end token is committed, the masks after it are not denoised."""
    left_alone = 0
    for seed, kind in enumerate(MODEL_KINDS, 70):
        model = make(tiny, kind, seed)
        options = ModeOptions(rule=rule)
        free = fill(model, Case([3, 1, 4], StopRule(NO_EOM, 24), 8), "diffusion", options)
        for place in (1, 4, 10):
            eom = free.tokens[place]
            case = Case([3, 1, 4], StopRule(eom, 24), 8)
            found = fill(model, case, "diffusion", options)
            assert (found.tokens, found.forwards) == reference.diffusion(
                model, case.prompt, case.stop, rule, 8
            )
            assert found.finish == "eom"
            assert found.tokens.index(eom) == len(found.tokens) - 1
            last = found.steps[-1].hole if found.steps else ()
            left_alone += model.config.mask_token_id in last[len(found.tokens) :]
    assert left_alone >= 2


def test_diffusion_differs_from_ar(tiny: Any) -> None:
    """Otherwise the tests above could not distinguish a block forward from a causal one."""
    model = make(tiny, "a larger vocabulary", 50)
    case = Case([3, 1, 4], StopRule(NO_EOM, 24), 8)
    assert fill(model, case, "diffusion").tokens != fill(model, case, "ar").tokens


def test_a_finished_hole_needs_no_further_forward(tiny: Any) -> None:
    model = tiny.model(3, vocab_size=8)
    for mode in MODES:
        found = fill(model, Case([3, 1], StopRule(NO_EOM, max_tokens=1)), mode)
        assert (len(found.tokens), found.finish, found.steps) == (1, "length", [])


@pytest.mark.parametrize("mode", MODES)
def test_every_forward_is_one_step(tiny: Any, mode: str) -> None:
    rng = Random(4)
    model = tiny.model(4, vocab_size=8)
    for _ in range(5):
        case = random_case(rng, 8)
        found = fill(model, case, mode)
        assert found.forwards == len(found.steps) + 1
        for step in found.steps:
            assert len(step.committed) == len(step.confidences) >= 1
            assert max(step.committed) < len(step.hole)
            assert all(0 < confidence <= 1 for confidence in step.confidences)
            if step.kind in (ForwardKind.CAUSAL, ForwardKind.VERIFY):
                assert list(step.hole) == found.tokens[: len(step.hole)]


@pytest.mark.parametrize("mode", ["self_speculation", "quadratic_speculation", "ar"])
def test_final_steps_commit_every_position_once_and_in_order(tiny: Any, mode: str) -> None:
    model = tiny.model(5, vocab_size=8)
    found = fill(model, Case([3, 1, 4], StopRule(NO_EOM, 20), 8), mode)
    final = [at for s in found.steps if s.kind is not ForwardKind.DRAFT for at in s.committed]
    assert final == list(range(1, 20))


def test_diffusion_steps_reveal_masks_one_by_one(tiny: Any) -> None:
    """A draft step shows masks as the mask id, and changes exactly the positions it reveals."""
    model = tiny.model(6, vocab_size=40)
    mask = model.config.mask_token_id
    case = Case([3, 2, 4], StopRule(NO_EOM, 8), 8)
    steps = fill(model, case, "diffusion", ModeOptions(rule=Leftmost(1))).steps
    for number, step in enumerate(steps, 1):
        assert step.committed == (number,)
        assert step.hole[number + 1 :] == (mask,) * (7 - number)


@pytest.mark.parametrize("mode", MODES)
def test_closing_a_mode_keeps_the_committed_tokens(tiny: Any, mode: str) -> None:
    model = tiny.model(7, vocab_size=8)
    case = Case([3, 1, 4], StopRule(NO_EOM, 24), 4)
    whole = fill(model, case, mode).tokens
    core = start(model, case)
    running = MODES[mode](core, ModeOptions())
    list(islice(running, 6))
    running.close()
    assert core.finish is None
    assert 1 < len(core.tokens) < 24
    assert core.tokens == whole[: len(core.tokens)]


@pytest.mark.parametrize("mode", MODES)
def test_the_cache_keeps_all_but_the_last_token_between_forwards(tiny: Any, mode: str) -> None:
    """The core's invariant; the cached keys equal those of a causal prefill."""
    model = tiny.model(8, vocab_size=8)
    case = Case([3, 1, 4, 1, 5], StopRule(NO_EOM, 20), 4)
    core = start(model, case)
    for step in MODES[mode](core, ModeOptions()):
        if step.kind is ForwardKind.DRAFT or core.finish:
            continue
        assert core.cache.length == len(case.prompt) + len(core.tokens) - 1
    known = [*case.prompt, *core.tokens]
    core.cache.crop(core.cache.length - 1)
    kept = core.cache.length
    found = core.causal(torch.tensor(known[kept : kept + 1])).logits()
    wanted = reference.causal_logits(model, known[: kept + 1])[-1:]
    assert (found - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("block_size", [0, 1, -3])
def test_a_block_without_masks_is_refused(tiny: Any, block_size: int) -> None:
    model = tiny.model()
    with pytest.raises(ValueError, match=f"block size must be at least 2, not {block_size}"):
        start(model, Case([1], StopRule(0, 4), block_size))


@pytest.mark.parametrize(
    ("options", "says"),
    [({"block_size": 0}, "block size must be at least 2, .* not 0"),
     ({"block_size": 1}, "block size must be at least 2, .* not 1"),
     ({"width_budget": 0}, "width budget must be at least 1, not 0")],
)  # fmt: skip
def test_invalid_options_are_refused_without_a_model(options: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ModeOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=says):
        ModeChoice(**options).options()  # type: ignore[arg-type]


def test_commit_stops_at_the_first_reason(tiny: Any) -> None:
    def core(**stop: Any) -> DecodingCore:
        rule = StopRule(**({"eom_id": 9, "max_tokens": 10} | stop))
        cache = PromptCache(tiny.model(), capacity=8)
        return DecodingCore(cache.model, cache.kv, rule, Sampler())

    cases: list[tuple[dict[str, Any], list[int], str | None]] = [
        ({}, [1, 2, 3, 4], None),
        ({}, [1, 2, 9, 4], "eom"),
        ({"max_tokens": 2}, [1, 2, 9], "length"),
        ({"max_tokens": 3}, [1, 2, 9], "eom"),
        ({"lines_done": lambda ids: ids[-1] == 3}, [1, 3, 9], "lines"),
        ({"lines_done": lambda ids: ids[-1] == 3, "max_tokens": 2}, [1, 3, 9], "lines"),
    ]
    for stop, tokens, reason in cases:
        filled = core(**stop)
        taken = filled.commit(tokens, [0.5] * len(tokens))
        assert filled.finish == reason
        assert filled.tokens == tokens[:taken]
        assert filled.confidences == [0.5] * taken
        assert (taken == len(tokens)) or reason is not None


# The quadratic layout.


@pytest.mark.parametrize(("heads", "masks"), [(1, 2), (3, 2), (4, 4)])
def test_the_quadratic_pattern_is_its_definition(heads: int, masks: int) -> None:
    pattern = row_pattern(heads, masks)
    kinds = [("head", row) for row in range(heads)]
    kinds += [("mask", row) for row in range(heads) for _ in range(masks)]
    for at, (kind, row) in enumerate(kinds):
        for other, (other_kind, other_row) in enumerate(kinds):
            earlier_head = other_kind == "head" and other_row <= row
            own_mask = kind == other_kind == "mask" and other_row == row
            assert bool(pattern[at, other]) == (earlier_head or own_mask)
    positions = row_positions(10, heads, masks).tolist()
    assert positions[:heads] == list(range(10, 10 + heads))
    for row in range(heads):
        here = positions[heads + row * masks : heads + (row + 1) * masks]
        assert here == list(range(11 + row, 11 + row + masks))


@pytest.mark.parametrize(("width", "block"), [(72, 16), (72, 5), (20, 16), (1, 16), (10_000, 32)])
def test_the_width_budget_is_kept(width: int, block: int) -> None:
    masks = masks_within(width, block)
    fitting = [r for r in range(3, block) if r * (r + 1) <= width]
    assert masks == max([2, *fitting])


def test_quadratic_rows_equal_a_draft_after_their_head(tiny: Any) -> None:
    """One wide forward yields, for each head, the output of a separate forward."""
    model = make(tiny, "yarn", 60)
    case = Case([3, 1, 4, 1, 5, 2, 6], StopRule(NO_EOM, 10))
    core = start(model, case)
    heads, masks, mask = [core.tokens[-1], 2, 7], 3, model.config.mask_token_id
    tokens = torch.tensor(heads + [mask] * 9)
    hidden = core.forward(tokens, row_pattern(3, masks), row_positions(7, 3, masks))
    found = core.predictions(hidden).logits()
    causal = reference.causal_logits(model, [*case.prompt, *heads])[-3:]
    assert (found[:3] - causal).abs().max() < 1e-4
    for row in range(3):
        wanted = reference.block_logits(model, [*case.prompt, *heads[: row + 1]], [mask] * masks)
        here = found[3 + row * masks : 3 + (row + 1) * masks]
        assert (here - wanted).abs().max() < 1e-4
