"""A hole being filled: what all modes share, so that a mode is only its loop.

The core owns the forwards and their count, the cache, the committed tokens and the stop rule. Its
invariant between forwards: the cache holds the prompt and every committed token but the last, the
*seed*, whose keys the next forward writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from fim_model.decoding.canvas import Canvas
from fim_model.decoding.predictions import Predicted, Predictions
from fim_model.decoding.sampling import Sampler
from fim_model.network.attention_mask import Attention
from fim_model.network.contract import Network, forward_one
from fim_model.network.kv_cache import KVCache
from fim_model.network.lora import DraftLora
from fim_model.requests import Finish


class ForwardKind(Enum):
    PREFILL = "prefill"
    CAUSAL = "causal"
    DRAFT = "draft"
    VERIFY = "verify"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Step:
    """What one forward did.

    hole: the ids of the hole alone, masks as the mask id. committed: positions in the hole that
    became final or were revealed by this forward; confidences are theirs. remasked: positions that
    became masks again. typed: how many characters of the hole's text stand before the cursor
    (token healing).
    """

    kind: ForwardKind
    width: int
    hole: tuple[int, ...]
    committed: tuple[int, ...]
    confidences: tuple[float, ...]
    remasked: tuple[int, ...] = ()
    typed: int = 0


Steps = Iterator[Step]
StepListener = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a hole is done: at `eom_id`, at `max_tokens`, when `lines_done(ids)`, or when
    `reaches_suffix(ids)`.

    `stops` are further tokens that end a hole; drafts are cut at `eom_id` alone.
    """

    eom_id: int
    max_tokens: int
    lines_done: Callable[[Sequence[int]], bool] = lambda ids: False
    stops: frozenset[int] = frozenset()
    reaches_suffix: Callable[[Sequence[int]], bool] = lambda ids: False


class DecodingCore:
    """Fills the hole after a prompt whose keys are already in `cache`.

    prompt: its ids, for the modes that look drafts up in it. typed: how many characters of the
    hole's text stand before the cursor (token healing).
    """

    def __init__(
        self,
        model: Network,
        cache: KVCache,
        stop: StopRule,
        sampler: Sampler,
        *,
        block_size: int | None = None,
        prompt: Sequence[int] = (),
        typed: int = 0,
    ) -> None:
        self.model, self.cache, self.stop, self.sampler = model, cache, stop, sampler
        self.block_size = model.config.block_size if block_size is None else block_size
        if self.block_size < 2:
            raise ValueError(f"block size must be at least 2, not {self.block_size}")
        self.prompt, self.typed = prompt, typed
        self.tokens: list[int] = []
        self.confidences: list[float] = []
        self.forwards = 0
        self.finish: Finish | None = None

    @property
    def log_probability(self) -> float:
        """Of all committed tokens together, in nats."""
        return sum(self.nats)

    @property
    def nats(self) -> tuple[float, ...]:
        """The log-probability of each committed token."""
        return tuple(math.log(max(p, 1e-12)) for p in self.confidences)

    @property
    def confidence(self) -> float:
        """Geometric mean of the committed tokens' probabilities, of which there must be some."""
        return math.exp(self.log_probability / len(self.confidences))

    def commit(self, tokens: Sequence[int], confidences: Sequence[float]) -> int:
        """Append tokens to the hole until one of them ends it; returns how many were appended."""
        for taken, (token, confidence) in enumerate(zip(tokens, confidences, strict=True), 1):
            self.tokens.append(token)
            self.confidences.append(confidence)
            if token == self.stop.eom_id or token in self.stop.stops:
                self.finish = "eom"
            elif self.stop.lines_done(self.tokens):
                self.finish = "lines"
            elif self.stop.reaches_suffix(self.tokens):
                self.finish = "suffix"
            elif len(self.tokens) >= self.stop.max_tokens:
                self.finish = "length"
            if self.finish:
                return taken
        return len(tokens)

    @property
    def left(self) -> int:
        """How many tokens may still be committed."""
        return self.stop.max_tokens - len(self.tokens)

    def open_block(self, limit: int) -> Canvas:
        """`[seed, MASK …]`: the next block, with no more masks than `limit`, at least 1."""
        size = min(self.block_size, 1 + limit)
        return Canvas.open(self.tokens[-1], self.confidences[-1], size, self.model.config.mask_id)

    def draft(
        self, canvas: Canvas, lora: DraftLora | None = None, positions: Tensor | None = None
    ) -> Predictions:
        """One bidirectional forward over the block: the predictions at its masked positions.

        Its keys are scratch: the next forward overwrites them. `lora` is for drafts that will be
        verified; a denoised block is committed unverified, so it uses none. positions: int64
        `[B]`, None for consecutive ones.
        """
        hidden = self.forward(canvas.tokens, Attention.BLOCK, positions, lora)
        return self.predictions(hidden[canvas.masked])

    def causal(self, tokens: Tensor) -> Predictions:
        """One causal forward over T tokens; row i predicts what follows token i.

        The caller then keeps as many of them as it accepts (`keep`).
        """
        return self.predictions(self.forward(tokens, Attention.CAUSAL))

    def next_seed(self, tokens: Tensor) -> None:
        """Write the keys of committed `tokens`, and commit the token that follows them."""
        hidden = self.forward(tokens, Attention.CAUSAL)
        self.keep(len(tokens))
        self.commit_choice(self.predictions(hidden[-1:]))

    def commit_choice(self, rows: Predicted) -> None:
        """Commit the sampler's choice from one row."""
        chosen = self.sampler.choose(rows)
        self.commit(chosen.token.tolist(), chosen.confidence.tolist())

    def keep(self, count: int) -> None:
        """Keep the keys of the first `count` tokens of the last forward."""
        self.cache.advance(count)

    def step(self, kind: ForwardKind, width: int, before: int) -> Step:
        """The step of a forward that committed the hole's tokens from position `before` on."""
        committed = tuple(range(before, len(self.tokens)))
        confidences = tuple(self.confidences[before:])
        return Step(kind, width, tuple(self.tokens), committed, confidences, typed=self.typed)

    def draft_step(self, canvas: Canvas, revealed: Tensor) -> Step:
        """The step of a draft forward: what it revealed on the canvas, none of it final yet."""
        offset = len(self.tokens) - 1
        where = revealed.nonzero().squeeze(1)
        return Step(
            ForwardKind.DRAFT,
            len(canvas.tokens),
            (*self.tokens[:-1], *canvas.tokens.tolist()),
            tuple((where + offset).tolist()),
            tuple(canvas.confidence[where].tolist()),
            typed=self.typed,
        )

    @torch.inference_mode()
    def forward(
        self,
        tokens: Tensor,
        attention: Attention | Tensor,
        positions: Tensor | None = None,
        lora: DraftLora | None = None,
    ) -> Tensor:
        """Hidden states `[T, D]` of tokens `[T]` after what the cache keeps.

        positions: int64 `[T]`, None for consecutive ones. Inputs are on the CPU, where the canvas
        is; hidden states stay on the model's device.
        """
        self.forwards += 1
        if positions is None:
            positions = torch.arange(self.cache.length, self.cache.length + len(tokens))
        device = self.model.device
        if isinstance(attention, Tensor):
            attention = attention.to(device)
        ids, places = tokens[None].to(device), positions[None].to(device)
        return forward_one(self.model, ids, places, attention, self.cache, lora)[0]

    def predictions(self, hidden: Tensor, never: Sequence[int] = ()) -> Predictions:
        """The predictions of hidden states `[T, D]`: only of rows that are needed.

        never: ids that are not chosen.
        """
        return Predictions(self.model, hidden, never)
