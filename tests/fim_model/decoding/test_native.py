"""Native infilling against the reference: block by block, without an echo of the suffix."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import torch
from fim_model.decoding import reference
from fim_model.decoding.commit_rules import CommitRule, ConfidenceThreshold, Leftmost
from fim_model.decoding.core import DecodingCore, ForwardKind, Step, StopRule
from fim_model.decoding.native import (
    LENGTHS,
    LengthCalibration,
    RightContext,
    native_infill,
    probe_lengths,
    without_echo,
)
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.sampling import Sampler
from fim_model.network.transformer import TriModeTransformer
from hypothesis import given
from hypothesis import strategies as st

BLOCK = 8
HEAD = BLOCK // 4
ROOM = BLOCK - HEAD
PREFIX = [3, 7, 5, 9, 4]
SUFFIX = [6, 2, 8, 8, 3]


def core_after(model: TriModeTransformer, prefix: Sequence[int], stop: StopRule) -> DecodingCore:
    cache = PromptCache(model, capacity=300)
    cache.prefill(prefix)
    return DecodingCore(model, cache.kv, stop, Sampler(), block_size=BLOCK)


def fill(
    model: TriModeTransformer,
    length: int,
    rule: CommitRule,
    suffix: Sequence[int] = SUFFIX,
    eom: int = -1,
) -> tuple[DecodingCore, list[Step]]:
    core = core_after(model, PREFIX, StopRule(eom, 64))
    right = RightContext.of(suffix, BLOCK)
    return core, list(native_infill(core, right, length, rule))


@pytest.mark.parametrize("rule", [ConfidenceThreshold(0.6), Leftmost(2)], ids=repr)
@pytest.mark.parametrize("length", [1, ROOM, ROOM + 1, 2 * ROOM, 2 * ROOM + 3])
def test_native_infilling_equals_the_reference(tiny: Any, length: int, rule: CommitRule) -> None:
    """Holes of one and several blocks, with and without a partial block; also counts forwards."""
    rng = Random(length)
    for seed in range(3):
        model = tiny.model(seed, vocab_size=12)
        suffix = [rng.randrange(2, 12) for _ in range(rng.choice([0, 1, 5]))]
        core, _ = fill(model, length, rule, suffix)
        assert (core.tokens, core.forwards) == reference.native_infill(
            model, PREFIX, suffix[:HEAD], length, rule, BLOCK
        )
        assert core.finish == "filled"
        assert len(core.tokens) == len(core.confidences) == length


def test_every_block_sees_the_suffix(tiny: Any) -> None:
    """Another suffix changes the first and the last block of a long hole."""
    length, first, last = 3 * ROOM, set(), set()
    model = tiny.model(5, vocab_size=40)
    for token in range(2, 12):
        core, steps = fill(model, length, Leftmost(ROOM), [token, token])
        drafts = [step.width for step in steps if step.kind is ForwardKind.DRAFT]
        assert drafts == [BLOCK] * 3
        first.add(tuple(core.tokens[:ROOM]))
        last.add(tuple(core.tokens[-ROOM:]))
    assert len(first) > 1
    assert len(last) > 1


def test_a_step_shows_only_the_hole(tiny: Any) -> None:
    """Masks become tokens one by one; the suffix head is not shown; finished blocks stay."""
    model = tiny.model(6, vocab_size=40)
    core, steps = fill(model, ROOM + 2, Leftmost(1))
    drafts = [step for step in steps if step.kind is ForwardKind.DRAFT]
    assert [step.committed for step in drafts] == [(at,) for at in range(ROOM + 2)]
    for step in drafts:
        done = step.committed[0] + 1
        assert list(step.hole[:done]) == core.tokens[:done]
        assert set(step.hole[done:]) <= {model.config.mask_token_id}
    (between,) = [step for step in steps if step.kind is ForwardKind.VERIFY]
    assert between.width == ROOM


def test_an_end_of_middle_ends_the_hole(tiny: Any) -> None:
    model = tiny.model(7, vocab_size=40)
    whole, _ = fill(model, 2 * ROOM, Leftmost(1))
    for place in (1, ROOM + 2):
        eom = whole.tokens[place]
        core, _ = fill(model, 2 * ROOM, Leftmost(1), eom=eom)
        assert core.finish == "eom"
        assert core.tokens == whole.tokens[: whole.tokens.index(eom) + 1]


def test_probing_is_the_first_forward_of_each_length(tiny: Any) -> None:
    """All lengths are rows of one forward, with the scores each would get alone."""
    model = tiny.model(8, vocab_size=40)
    core = core_after(model, PREFIX, StopRule(-1, 64))
    found = probe_lengths(core, RightContext.of(SUFFIX, BLOCK))
    assert core.forwards == 1
    assert core.cache.length == len(PREFIX)
    assert {probe.length for probe in found} == set(LENGTHS)
    assert [probe.score for probe in found] == sorted(
        (probe.score for probe in found), reverse=True
    )
    for probe in found:
        rows = reference.hole_logits(model, PREFIX, SUFFIX[:HEAD], probe.length, BLOCK)
        assert probe.score == pytest.approx(float(rows.softmax(-1).amax(-1).mean()), rel=1e-4)


def test_the_score_is_relative_to_the_curve(tiny: Any) -> None:
    model, right = tiny.model(8, vocab_size=40), RightContext.of(SUFFIX, BLOCK)
    curve = LengthCalibration({1: 0.5, 5: 0.1})
    core = core_after(model, PREFIX, StopRule(-1, 64))
    plain = {probe.length: probe.score for probe in probe_lengths(core, right)}
    for probe in probe_lengths(core, right, LENGTHS, curve):
        assert probe.score == pytest.approx(plain[probe.length] / curve.at(probe.length))


def test_the_curve_is_interpolated_linearly() -> None:
    curve = LengthCalibration({2: 0.8, 6: 0.4})
    wanted = {1: 0.8, 2: 0.8, 3: 0.7, 4: 0.6, 6: 0.4, 24: 0.4}
    assert {length: curve.at(length) for length in wanted} == pytest.approx(wanted)
    assert LengthCalibration().at(7) == 1.0


ids = st.lists(st.integers(0, 2), max_size=12)


@given(hole=ids, suffix=ids)
def test_an_echo_is_the_longest_end_that_the_suffix_begins_with(
    hole: list[int], suffix: list[int]
) -> None:
    left = without_echo(hole, suffix)
    assert hole[: len(left)] == left
    echo = hole[len(left) :]
    assert echo == suffix[: len(echo)]
    assert len(echo) != 1
    for longer in range(len(echo) + 1, min(len(hole), len(suffix)) + 1):
        assert longer < 2 or hole[-longer:] != suffix[:longer]


@given(hole=ids, suffix=st.lists(st.integers(0, 2), min_size=2, max_size=12))
def test_an_echo_of_the_suffix_is_removed(hole: list[int], suffix: list[int]) -> None:
    """For any text before the echo; a chance match may make the removed echo longer."""
    left = without_echo([*hole, *suffix], suffix)
    assert len(left) <= len(hole)
    assert hole[: len(left)] == left


def test_the_suffix_head_takes_a_quarter_of_a_block_at_most() -> None:
    for size in (2, 3, 4, 8, 16, 32):
        right = RightContext.of(range(99), size)
        assert len(right.head) == max(1, size // 4)
        assert right.room(size) >= 1
    assert torch.equal(RightContext.of([5], 16).head, torch.tensor([5]))
