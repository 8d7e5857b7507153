"""Fill a hole in code: text in, ranked texts out.

`Infiller` is the whole of `fim_model` for those who only want completions: it builds the prompt,
keeps the keys of each document between requests, runs a decoding mode, and counts what it cost.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fim_model.checkpoint import (
    TOKENIZER,
    CheckpointError,
    check_weights,
    default_checkpoint,
    load_model,
    read_config,
)
from fim_model.config import MODEL_TYPE, ModelConfig
from fim_model.decoding.core import DecodingCore, Finish, ForwardKind, Step, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.sampling import Sampler
from fim_model.families.table import FAMILIES
from fim_model.hub import Progress, resolve
from fim_model.memory import default_device, default_dtype
from fim_model.prompt import HEADER_TOKENS, FimPrompt, PromptBudget
from fim_model.session import PromptCache
from fim_model.tokenizer import SPECIAL_TOKEN_NAMES, CodeTokenizer, TokenizerError
from fim_model.transformer import TriModeTransformer

MOST_TOKENS = 256
"""Longest middle that can be asked for."""

WINDOW = 4096
"""Most tokens of a prompt, unless asked otherwise: a model may allow far more than a completion
needs, and every document's keys take memory for as many."""

SESSIONS = 8
"""Documents whose keys are kept; the one unused for longest makes room."""


class Cancelled(Exception):
    """The caller wants this hole no more; raised between two forwards."""


@dataclass(frozen=True, slots=True)
class InfillRequest:
    """A hole between `prefix` and `suffix`.

    `mode` None takes the model's best. `session` names the document whose keys may be reused (""
    keeps nothing). `max_lines` ends the
    middle after so many lines; None leaves it to the model. Several `alternatives` differ in their
    first token (temperature 0) or in their seed.
    """

    prefix: str
    suffix: str
    path: str = ""
    mode: str | None = None
    alternatives: int = 1
    max_tokens: int = 64
    max_lines: int | None = None
    temperature: float = 0.0
    seed: int = 0
    session: str = ""

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r} is unknown; known are {', '.join(MODES)}")
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise ValueError(f"max_tokens must be 1 to {MOST_TOKENS}, not {self.max_tokens}")
        if self.alternatives < 1:
            raise ValueError(f"alternatives must be at least 1, not {self.alternatives}")
        if self.max_lines is not None and self.max_lines < 1:
            raise ValueError(f"max_lines must be at least 1, not {self.max_lines}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")


@dataclass(frozen=True, slots=True)
class InfillItem:
    """`confidence`: geometric mean of the committed tokens' probabilities, the end included."""

    text: str
    confidence: float
    finish: Finish


@dataclass(frozen=True, slots=True)
class InfillResult:
    """forwards: every pass through the network, prefill included. tokens: committed ones."""

    items: list[InfillItem]
    mode: str
    forwards: int
    tokens: int
    prefill_tokens: int
    reused_tokens: int
    ms: float

    @property
    def tokens_per_forward(self) -> float:
        return self.tokens / self.forwards if self.forwards else 0.0


StepListener = Callable[[Step], None]


class Infiller:
    """A loaded model with its documents' caches. Not thread-safe: one owner at a time."""

    def __init__(
        self,
        model: TriModeTransformer,
        tokenizer: CodeTokenizer,
        options: ModeOptions | None = None,
        *,
        window: int = WINDOW,
    ) -> None:
        """`window` is the most tokens of a prompt; the model's own window bounds it too.

        Raises CheckpointError where model and tokenizer do not belong together.
        """
        _check_vocabulary(model.config, tokenizer)
        self.model, self.tokenizer = model, tokenizer
        self.fim = FimPrompt.for_model(model.config, tokenizer)
        self.options = options or ModeOptions()
        self.window = usable_window(model.config, window, self.options)
        self._sessions: OrderedDict[str, PromptCache] = OrderedDict()

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        *,
        threads: int | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        window: int = WINDOW,
        progress: Progress | None = None,
    ) -> Infiller:
        """Load a checkpoint folder or a Hugging Face id; None is the model that ships.

        `threads` bounds torch's threads for the whole process. `device` None is CUDA where there
        is one; `dtype` None is bfloat16 there and float32 on a CPU. `progress` hears of a
        download. What is wrong with the checkpoint is found before any weight is downloaded or
        read; raises CheckpointError.
        """
        if threads:
            torch.set_num_threads(threads)
        folder = default_checkpoint()
        if checkpoint:
            folder = resolve(checkpoint, check=read_tokenizer, progress=progress)
        elif not folder.is_dir():
            raise CheckpointError(f"{folder}: the model that ships is not installed; name another")
        tokenizer = read_tokenizer(folder)
        config = check_weights(folder)
        usable = usable_window(config, window, ModeOptions())
        device = device or default_device()
        model = load_model(
            folder,
            dtype=dtype or default_dtype(device),
            device=device,
            kv_tokens=kv_tokens(config, usable, ModeOptions()),
        )
        return cls(model, tokenizer, window=window)

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that this model can be asked for, the best first."""
        return self.model.config.modes

    def infill(
        self,
        request: InfillRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> InfillResult:
        """Fill the hole. `on_step` hears of every forward; Cancelled is raised between two."""
        began = time.perf_counter()
        mode = self._mode(request)
        cache = self._cache(request.session)
        prompt = self.prompt(request)
        if should_stop():
            raise Cancelled
        reading = cache.read(prompt)
        items: list[InfillItem] = []
        tokens, forwards = 0, 1
        for first in self._first_tokens(reading.logits, request):
            if should_stop():
                raise Cancelled
            core = self._core(cache, request, prompt, seed=request.seed + len(items))
            for step in self._decode(core, first, reading.prefilled, mode):
                on_step(step)
                if should_stop() and core.finish is None:
                    raise Cancelled
            tokens, forwards = tokens + len(core.tokens), forwards + core.forwards
            items.append(self._item(core, request))
            cache.rewind(len(prompt))
        return InfillResult(
            items=_without_repeats(items),
            mode=mode,
            forwards=forwards,
            tokens=tokens,
            prefill_tokens=reading.prefilled,
            reused_tokens=reading.reused,
            ms=(time.perf_counter() - began) * 1000,
        )

    def prompt(self, request: InfillRequest) -> list[int]:
        """The token ids that the model reads for this request."""
        window = self.window
        total = max(window - HEADER_TOKENS - request.max_tokens // 2, window // 2)
        budget = PromptBudget(total, suffix=total // 4, step=max(1, window // 8))
        return self.fim(request.prefix, request.suffix, request.path, budget)

    def pieces(self, ids: Sequence[int]) -> list[str | None]:
        """A hole's tokens as text for a person, None where there is still a mask."""
        mask = self.model.config.mask_token_id
        return [None if i == mask else self.tokenizer.decode([i]) for i in ids]

    def forget(self, session: str) -> None:
        """Drop a document's cache."""
        self._sessions.pop(session, None)

    def _cache(self, session: str) -> PromptCache:
        cache = self._sessions.pop(session, None)
        if cache is None:
            capacity = kv_tokens(self.model.config, self.window, self.options)
            cache = PromptCache(self.model, capacity=capacity)
        self._sessions[session] = cache
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        if not session:
            cache.rewind(0)
        return cache

    def _mode(self, request: InfillRequest) -> str:
        mode = request.mode or self.modes[0]
        if mode not in self.modes:
            kind = self.model.config.model_type
            raise ValueError(
                f"mode {mode!r} needs a model that denoises blocks; this {kind} model has the "
                f"modes {', '.join(self.modes)}"
            )
        return mode

    def _first_tokens(self, logits: Tensor, request: InfillRequest) -> Iterator[tuple[int, float]]:
        """The seeds of the alternatives, each with its probability."""
        if request.temperature:
            for index in range(request.alternatives):
                sampler = Sampler(request.temperature, request.seed + index)
                chosen = sampler.choose(logits)
                yield int(chosen.token), float(chosen.confidence)
            return
        best = logits[0].float().softmax(-1).topk(min(request.alternatives, logits.shape[-1]))
        yield from zip(best.indices.tolist(), best.values.tolist(), strict=True)

    def _core(
        self, cache: PromptCache, request: InfillRequest, prompt: list[int], seed: int
    ) -> DecodingCore:
        stop = StopRule(
            self.fim.eom,
            request.max_tokens,
            _line_limit(self.tokenizer, request.max_lines),
            self.fim.stops,
        )
        sampler = Sampler(request.temperature, seed)
        return DecodingCore(self.model, cache.kv, stop, sampler, prompt=prompt)

    def _decode(
        self, core: DecodingCore, first: tuple[int, float], prefilled: int, mode: str
    ) -> Iterator[Step]:
        core.commit([first[0]], [first[1]])
        yield core.step(ForwardKind.PREFILL, prefilled, 0)
        yield from MODES[mode](core, self.options)

    def _item(self, core: DecodingCore, request: InfillRequest) -> InfillItem:
        text = self.tokenizer.decode(core.tokens)
        if core.finish == "lines" and request.max_lines is not None:
            text = first_lines(text, request.max_lines)
        nats = sum(math.log(max(p, 1e-12)) for p in core.confidences) / len(core.confidences)
        assert core.finish is not None
        return InfillItem(text, math.exp(nats), core.finish)


def read_tokenizer(folder: Path) -> CodeTokenizer:
    """The tokenizer of a checkpoint, checked to ask its model for a middle.

    Needs the JSON files alone; raises CheckpointError.
    """
    config = read_config(folder)
    path = folder / TOKENIZER
    own = config.family is FAMILIES[MODEL_TYPE] and config.mask_token_id is not None
    names = SPECIAL_TOKEN_NAMES if own else None
    tokenizer = CodeTokenizer.from_file(path, names, ids=config.vocab_size)
    _check_vocabulary(config, tokenizer)
    try:
        FimPrompt.for_model(config, tokenizer)
    except TokenizerError as lacking:
        raise TokenizerError(f"{path}: {lacking}") from None
    return tokenizer


def usable_window(config: ModelConfig, window: int, options: ModeOptions) -> int:
    """The most prompt tokens: as asked, but within the model's own window.

    Within a sliding window everything stays visible, so such a model is kept inside of it, the
    middle included. Raises CheckpointError where that leaves no room.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 token, not {window}")
    window = min(window, config.max_position_embeddings)
    if config.sliding_window is not None:
        window = min(window, config.sliding_window - kv_tokens(config, 0, options))
        if window < 1:
            raise CheckpointError(
                f"the sliding window of {config.sliding_window} tokens leaves no room for a prompt"
            )
    return window


def kv_tokens(config: ModelConfig, window: int, options: ModeOptions) -> int:
    """Tokens that a document's cache must hold: prompt, middle, and a forward's scratch."""
    scratch = max(2 * config.block_size, options.width_budget)
    return window + HEADER_TOKENS + MOST_TOKENS + scratch


def _check_vocabulary(config: ModelConfig, tokenizer: CodeTokenizer) -> None:
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} entries, the model only "
            f"{config.vocab_size}; they are not of one checkpoint"
        )


def first_lines(text: str, count: int) -> str:
    """The first `count` lines from the first one with ink on, with the blank ones before them."""
    ink = text.lstrip()
    return text[: len(text) - len(ink)] + "\n".join(ink.split("\n")[:count])


def _line_limit(tokenizer: CodeTokenizer, lines: int | None) -> Callable[[Sequence[int]], bool]:
    if lines is None:
        return lambda ids: False
    newlines = frozenset(tokenizer.newline_ids)

    def done(ids: Sequence[int]) -> bool:
        return ids[-1] in newlines and tokenizer.decode(ids).lstrip().count("\n") >= lines

    return done


def _without_repeats(items: list[InfillItem]) -> list[InfillItem]:
    """The first item of each text, in order."""
    return list({item.text: item for item in reversed(items)}.values())[::-1]
