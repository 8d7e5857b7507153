"""The alternatives of a completion: for each a hole of its own, and the steps that fill it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from fim_model.decoding.core import DecodingCore, ForwardKind, Steps
from fim_model.decoding.full_canvas import LENGTHS as CANVAS_LENGTHS
from fim_model.decoding.full_canvas import CanvasReader, LengthTokens, fill_canvas, try_lengths
from fim_model.decoding.healing import Continuations, left_to_spell, restricted, spell
from fim_model.decoding.modes import MODES
from fim_model.decoding.native import (
    LENGTHS,
    RightContext,
    native_infill,
    probe_lengths,
    trim_echo_after,
)
from fim_model.decoding.prepared_hole import PreparedHole
from fim_model.decoding.prompt_cache import Prefill, PromptCache
from fim_model.decoding.sampling import Sampler, openings
from fim_model.network.contract import Network
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import CompletionRequest


class Attempt(NamedTuple):
    """One alternative. `core` has its tokens once `steps` are exhausted."""

    core: DecodingCore
    steps: Steps


def prompted_attempts(
    hole: PreparedHole,
    model: Network,
    cache: PromptCache,
    prefill: Prefill,
    continuations: Continuations,
) -> Iterator[Attempt]:
    """In-prompt infilling: one attempt for each first token, the likeliest first.

    The caller rewinds the cache to the prompt between two attempts.
    """
    first, typed = prefill.logits[:1], hole.typed.encode()
    if typed:
        first = restricted(first, continuations.choices(typed))
    request = hole.request
    for token, confidence, sampler in openings(
        first, request.alternatives, request.temperature, request.seed, request.top_p
    ):
        core = hole.open(model, cache, sampler)
        core.commit([token], [confidence])
        opening = core.step(ForwardKind.PREFILL, prefill.computed, 0)
        left = left_to_spell(typed, continuations.token_bytes(token))
        healing = spell(core, left, continuations)
        yield Attempt(core, chain([opening], healing, MODES[hole.mode](core, hole.options)))


def native_attempts(
    hole: PreparedHole, model: Network, cache: PromptCache, tokenizer: CodeTokenizer
) -> Iterator[Attempt]:
    """Native infilling: one attempt for each of the best lengths.

    The caller rewinds the cache to the prompt between two attempts.
    """
    request, block_size = hole.request, model.config.block_size
    assert isinstance(request, CompletionRequest)
    suffix = tokenizer.encode(request.suffix[: 8 * block_size])
    right = RightContext.of(suffix, block_size)
    lengths = [length for length in LENGTHS if length <= request.max_tokens]
    sampler = Sampler(request.temperature, request.seed, request.top_p)
    probe = hole.open(model, cache, sampler)
    ranked = probe_lengths(probe, right, lengths, hole.options.lengths)
    for rank, best in enumerate(ranked[: request.alternatives]):
        core = hole.open(model, cache, sampler)
        core.forwards = probe.forwards if rank == 0 else 0
        steps = native_infill(core, right, best.length, hole.options.rule)
        yield Attempt(core, trim_echo_after(core, steps, suffix))


def canvas_attempts(
    hole: PreparedHole, model: Network, cache: PromptCache, expand: int | None
) -> Iterator[Attempt]:
    """A hole between both sides of the text: one attempt for each length that it begins with.

    `expand` is the id by which the model itself lengthens the hole, None for a model that cannot:
    then the lengths are ranked, in the steps of the first attempt. When sampled, each attempt has
    random numbers of its own. The caller empties the cache between two attempts.
    """
    request, family = hole.request, model.config.family
    assert isinstance(request, CompletionRequest)
    split = len(hole.prompt) - hole.behind
    before, after = hole.prompt[:split], hole.prompt[split:]
    change = None if expand is None else LengthTokens(expand, hole.stop.eom_id)
    lengths = _lengths(request.max_tokens, family.first_masks if change else 0)
    ranked = lengths if change else []
    for rank in range(min(request.alternatives, len(lengths))):
        sampler = Sampler(request.temperature, request.seed + rank, request.top_p)
        core = hole.open(model, cache, sampler)
        read = CanvasReader(core, before, after)
        yield Attempt(core, _filled(hole, core, read, lengths, ranked, rank, change, after))


def _lengths(limit: int, first: int) -> list[int]:
    """Lengths within the token limit, `first` before the others if it is not 0."""
    wanted = [*([first] if first else []), *CANVAS_LENGTHS]
    return list(dict.fromkeys(min(length, limit) for length in wanted))


def _filled(
    hole: PreparedHole,
    core: DecodingCore,
    read: CanvasReader,
    lengths: list[int],
    ranked: list[int],
    rank: int,
    change: LengthTokens | None,
    after: list[int],
) -> Steps:
    if not ranked:
        yield from try_lengths(core, read, lengths, hole.options.lengths, ranked)
    steps = fill_canvas(core, read, ranked[rank], hole.options.rule, change)
    yield from steps if change else trim_echo_after(core, steps, after)
