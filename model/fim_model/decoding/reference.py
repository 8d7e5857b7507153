"""The modes once more, slow and plain: the oracle that cached decoding must equal token for token.

It has no cache and no canvas, and shares only layers, rotation table and commit rules with the fast
path: every forward reads the whole sequence under an explicit mask. Greedy only; each mode returns
the hole's tokens and the number of forwards, prefill included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from fim_kernels.types import TokenScores
from torch import Tensor

from fim_model.decoding.commit_rules import CommitRule
from fim_model.decoding.core import StopRule
from fim_model.network.transformer import Layer, TriModeTransformer

Hole = tuple[list[int], int]


@torch.no_grad()
def dense_logits(
    model: TriModeTransformer,
    tokens: Sequence[int],
    visible: Tensor,
    positions: Tensor | None = None,
) -> Tensor:
    """Logits `[T, V]` where token i sees token j if `visible[i, j]` (bool `[T, T]`).

    positions: int64 `[T]`; None for consecutive ones.
    """
    config, backbone = model.config, model.model
    count, shape = len(tokens), (len(tokens), -1, config.head_dim)
    x = backbone.embed_tokens(torch.tensor(tokens))
    places = torch.arange(count) if positions is None else positions
    where = backbone.rotary(places[None], x.dtype)
    cos, sin = where.cos[0][:, None], where.sin[0][:, None]
    scale = 1.0 if where.query_scale is None else where.query_scale[0].transpose(0, 1)

    def turned(heads: Tensor) -> Tensor:
        first, second = heads.chunk(2, dim=-1)
        rotated: Tensor = heads * cos + torch.cat((-second, first), dim=-1) * sin
        return rotated

    for layer in cast("Sequence[Layer]", backbone.layers):
        attention, normed = layer.self_attn, layer.input_layernorm(x)
        query = turned(attention.q_proj(normed).view(shape)) * scale
        key = turned(attention.k_proj(normed).view(shape))
        value = attention.v_proj(normed).view(shape)
        mixed = []
        for head in range(config.num_attention_heads):
            group = head * config.num_key_value_heads // config.num_attention_heads
            scores = query[:, head] @ key[:, group].T / config.head_dim**0.5
            mixed.append(scores.masked_fill(~visible, -torch.inf).softmax(-1) @ value[:, group])
        x = x + attention.o_proj(torch.cat(mixed, dim=-1))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return model.logits(backbone.norm(x))


def causal_logits(model: TriModeTransformer, tokens: Sequence[int]) -> Tensor:
    """Row i predicts token i + 1."""
    return dense_logits(model, tokens, torch.ones(len(tokens), len(tokens)).tril().bool())


def block_logits(
    model: TriModeTransformer,
    past: Sequence[int],
    block: Sequence[int],
    places: Sequence[int] | None = None,
) -> Tensor:
    """Logits `[block, V]` of a block that sees the causal past and itself both ways.

    places: how far after the past each token of the block stands; None for consecutive ones.
    """
    count = len(past) + len(block)
    visible = torch.ones(count, count).tril().bool()
    visible[len(past) :, len(past) :] = True
    after = torch.tensor(range(len(block)) if places is None else places)
    positions = torch.cat((torch.arange(len(past)), after + len(past)))
    return dense_logits(model, [*past, *block], visible, positions)[len(past) :]


def hole_logits(
    model: TriModeTransformer,
    past: Sequence[int],
    head: Sequence[int],
    left: int,
    size: int,
    filled: Sequence[int] = (),
) -> Tensor:
    """Logits `[masks, V]` of the next block's part of a hole of which `left` tokens are left.

    The block of `size` holds masks and the head of the suffix, which stands where the hole ends.
    `filled` stands for the masks where given.
    """
    masks = min(left, size - len(head))
    part = filled or [model.config.mask_id] * masks
    places = [*range(masks), *range(left, left + len(head))]
    return block_logits(model, past, [*part, *head], places)[:masks]


def autoregressive(model: TriModeTransformer, prompt: Sequence[int], stop: StopRule) -> Hole:
    hole: list[int] = []
    while not ended(hole, stop):
        hole.append(_best(causal_logits(model, [*prompt, *hole])[-1]))
    return hole, len(hole)


def diffusion(
    model: TriModeTransformer, prompt: Sequence[int], stop: StopRule, rule: CommitRule, size: int
) -> Hole:
    mask, hole, forwards = model.config.mask_id, list[int](), 0
    while not ended(hole, stop):
        hole.append(_best(causal_logits(model, [*prompt, *hole])[-1]))
        forwards += 1
        if ended(hole, stop):
            break
        masks = min(size - 1, stop.max_tokens - len(hole))
        block, masked = [hole[-1], *[mask] * masks], [False, *[True] * masks]
        while any(masked[: _end(block, stop.eom_id)]):
            scores = _scores(block_logits(model, [*prompt, *hole[:-1]], block))
            for at in rule(scores, torch.tensor(masked)).nonzero().flatten().tolist():
                block[at], masked[at] = int(scores.token[at]), False
            forwards += 1
        for token in block[1:]:
            if not ended(hole, stop):
                hole.append(token)
    return hole, forwards


def self_speculation(
    model: TriModeTransformer, prompt: Sequence[int], stop: StopRule, size: int
) -> Hole:
    forwards = 1
    hole = [_best(causal_logits(model, prompt)[-1])]
    while not ended(hole, stop):
        masks = [model.config.mask_id] * min(size - 1, stop.max_tokens - len(hole) - 1)
        past = [*prompt, *hole[:-1]]
        drafted = block_logits(model, past, [hole[-1], *masks])[1:].argmax(-1).tolist()
        _verify(model, prompt, hole, drafted, stop)
        forwards += 2 if masks else 1
    return hole, forwards


def quadratic_speculation(
    model: TriModeTransformer, prompt: Sequence[int], stop: StopRule, masks: int
) -> Hole:
    drafted: list[int] = []
    hole, forwards = [_best(causal_logits(model, prompt)[-1])], 1
    while not ended(hole, stop):
        block = [model.config.mask_id] * min(masks, stop.max_tokens - len(hole) - 1)
        _verify(model, prompt, hole, drafted, stop)
        forwards += 1
        # The draft is of the same forward as the verification, so it has not seen its last token.
        drafted = block_logits(model, [*prompt, *hole[:-1]], block)[1:].argmax(-1).tolist()
    return hole, forwards


def native_infill(
    model: TriModeTransformer,
    prefix: Sequence[int],
    head: Sequence[int],
    length: int,
    rule: CommitRule,
    size: int,
) -> Hole:
    """A hole of `length` tokens; the prefill is not counted."""
    hole, forwards = list[int](), 0
    while left := length - len(hole):
        past = [*prefix, *hole]
        part = [model.config.mask_id] * min(left, size - len(head))
        masked = [True] * len(part)
        while any(masked):
            rows = hole_logits(model, past, head, left, size, part)
            scores = _scores(rows)
            for at in rule(scores, torch.tensor(masked)).nonzero().flatten().tolist():
                part[at], masked[at] = int(scores.token[at]), False
            forwards += 1
        hole += part
        forwards += len(hole) < length
    return hole, forwards


def _verify(
    model: TriModeTransformer,
    prompt: Sequence[int],
    hole: list[int],
    drafted: list[int],
    stop: StopRule,
) -> None:
    """Append the causal model's tokens, up to and including the first that was not drafted."""
    rows = causal_logits(model, [*prompt, *hole, *drafted])[len(prompt) + len(hole) - 1 :]
    for row, guess in zip(rows, [*drafted, None], strict=True):
        hole.append(_best(row))
        if ended(hole, stop) or hole[-1] != guess:
            break


def ended(hole: Sequence[int], stop: StopRule) -> bool:
    """Whether the last token is the last one of the hole."""
    if not hole:
        return False
    written = stop.lines_done(hole) or stop.reaches_suffix(hole)
    return hole[-1] == stop.eom_id or written or len(hole) >= stop.max_tokens


def _end(block: list[int], eom: int) -> int:
    return block.index(eom) if eom in block else len(block)


def _best(row: Tensor) -> int:
    return int(row.argmax())


def _scores(logits: Tensor) -> TokenScores:
    odds = logits.softmax(-1)
    return TokenScores(odds.argmax(-1), odds.amax(-1), torch.special.entr(odds).sum(-1))
