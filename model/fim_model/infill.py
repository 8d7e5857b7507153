"""Fill a hole in code: text in, ranked texts out.

`Infiller` is the whole of `fim_model` for those who only want completions: it builds the prompt,
keeps the keys of each document between requests, runs a decoding mode, and counts what it cost.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from fim_model.checkpoint import TOKENIZER, CheckpointError, default_checkpoint, load_model
from fim_model.decoding.auto import AUTO, ModeChoice
from fim_model.decoding.core import DecodingCore, Finish, ForwardKind, Step, StopRule
from fim_model.decoding.modes import MODES, NATIVE, ModeOptions
from fim_model.decoding.native import (
    LENGTHS,
    RightContext,
    native_infill,
    probe_lengths,
    without_echo,
)
from fim_model.decoding.sampling import Sampler
from fim_model.prompt import (
    PROMPT_OVERHEAD,
    PromptBudget,
    plain_prompt,
    snippet_prompt,
    spm_prompt,
)
from fim_model.session import PromptCache, Reading
from fim_model.tokenizer import CodeTokenizer, TokenizerError
from fim_model.transformer import TriModeTransformer

MOST_TOKENS = 256
"""Longest middle that can be asked for."""

SESSIONS = 8
"""Documents whose keys are kept; the one unused for longest makes room."""


class Cancelled(Exception):
    """The caller wants this hole no more; raised between two forwards."""


@dataclass(frozen=True, slots=True)
class InfillRequest:
    """A hole between `prefix` and `suffix`.

    `snippets` are pieces of other files, as (path, text). `session` names the document whose keys
    may be reused ("" keeps nothing). `max_lines` ends the
    middle after so many lines; None leaves it to the model. Several `alternatives` differ in their
    first token (temperature 0) or in their seed.
    """

    prefix: str
    suffix: str
    path: str = ""
    mode: str = "self_speculation"
    alternatives: int = 1
    max_tokens: int = 64
    max_lines: int | None = None
    temperature: float = 0.0
    seed: int = 0
    session: str = ""
    snippets: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        if self.mode not in (*MODES, NATIVE, AUTO):
            known = ", ".join((*MODES, NATIVE, AUTO))
            raise ValueError(f"mode {self.mode!r} is unknown; known are {known}")
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise ValueError(f"max_tokens must be 1 to {MOST_TOKENS}, not {self.max_tokens}")
        if self.alternatives < 1:
            raise ValueError(f"alternatives must be at least 1, not {self.alternatives}")
        if self.max_lines is not None and self.max_lines < 1:
            raise ValueError(f"max_lines must be at least 1, not {self.max_lines}")
        if not 0 <= self.temperature < math.inf:
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
Attempt = tuple[DecodingCore, Iterable[Step]]
"""A hole whose prompt has been read, and the decoding that will fill it."""


class Infiller:
    """A loaded model with its documents' caches. Not thread-safe: one owner at a time."""

    def __init__(
        self,
        model: TriModeTransformer,
        tokenizer: CodeTokenizer,
        options: ModeOptions | None = None,
        auto: ModeChoice | None = None,
    ) -> None:
        """Raises CheckpointError for a tokenizer that the model was not trained with."""
        config = model.config
        if tokenizer.vocab_size != config.vocab_size:
            raise CheckpointError(
                f"the tokenizer has {tokenizer.vocab_size} entries, the model "
                f"{config.vocab_size}; they are not of one checkpoint"
            )
        if tokenizer.special.mask != config.mask_token_id:
            raise CheckpointError(
                f"the tokenizer's mask token is {tokenizer.special.mask}, the model's is "
                f"{config.mask_token_id}; they are not of one checkpoint"
            )
        self.model, self.tokenizer = model, tokenizer
        self.options = options or ModeOptions()
        self.auto = auto or ModeChoice()
        self._sessions: OrderedDict[str, PromptCache] = OrderedDict()

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        *,
        threads: int | None = None,
        auto: ModeChoice | None = None,
    ) -> Infiller:
        """Load a checkpoint folder, by default the model that ships with the package.

        `threads` bounds torch's threads for the whole process; `auto` is what mode `auto` means
        here. Raises CheckpointError.
        """
        folder = Path(checkpoint) if checkpoint else default_checkpoint()
        if not folder.is_dir():
            raise CheckpointError(
                f"{folder}: there is no such checkpoint folder; give the path of one, or leave "
                "the model out to use the default"
            )
        if threads:
            torch.set_num_threads(threads)
        model = load_model(folder)
        try:
            tokenizer = CodeTokenizer.from_file(folder / TOKENIZER)
        except TokenizerError as broken:
            raise CheckpointError(str(broken)) from None
        return cls(model, tokenizer, auto=auto)

    def infill(
        self,
        request: InfillRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> InfillResult:
        """Fill the hole. `on_step` hears of every forward; Cancelled is raised between two."""
        began = time.perf_counter()
        options = self.options
        if request.mode == AUTO:
            request, options = replace(request, mode=self.auto.mode), self.auto.options()
        cache = self._cache(request.session)
        prompt = self.prompt(request)
        if should_stop():
            raise Cancelled
        reading = cache.read(prompt)
        items: list[InfillItem] = []
        tokens, forwards = 0, 1
        for core, steps in self._attempts(cache, request, reading, options):
            for step in steps:
                on_step(step)
                if should_stop() and core.finish is None:
                    raise Cancelled
            tokens, forwards = tokens + len(core.tokens), forwards + core.forwards
            items.append(self._item(core, request))
            cache.rewind(len(prompt))
        return InfillResult(
            items=_without_repeats(items),
            mode=request.mode,
            forwards=forwards,
            tokens=tokens,
            prefill_tokens=reading.prefilled,
            reused_tokens=reading.reused,
            ms=(time.perf_counter() - began) * 1000,
        )

    def prompt(self, request: InfillRequest) -> list[int]:
        """The token ids that the model reads for this request.

        With the middle they fit the model's window, but half of the window is theirs in any case.
        """
        window = self.model.config.max_position_embeddings
        if request.mode == NATIVE:
            return plain_prompt(self.tokenizer, request.prefix, window // 2)
        total = max(window - PROMPT_OVERHEAD - request.max_tokens, window // 2)
        snippets = snippet_prompt(self.tokenizer, request.snippets, total // 4)
        rest = total - len(snippets)
        budget = PromptBudget(rest, suffix=total // 4, step=max(1, window // 8))
        return [
            *snippets,
            *spm_prompt(self.tokenizer, request.prefix, request.suffix, request.path, budget),
        ]

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
            config = self.model.config
            width = max(self.options.width_budget, self.auto.width_budget)
            scratch = MOST_TOKENS + 2 * config.block_size + width
            capacity = config.max_position_embeddings + PROMPT_OVERHEAD + scratch
            cache = PromptCache(self.model, capacity=capacity)
        self._sessions[session] = cache
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        if not session:
            cache.rewind(0)
        return cache

    def _core(
        self, cache: PromptCache, request: InfillRequest, sampler: Sampler, options: ModeOptions
    ) -> DecodingCore:
        stop = StopRule(
            self.tokenizer.special.eom,
            request.max_tokens,
            line_limit(self.tokenizer, request.max_lines),
        )
        size = options.block_size
        return DecodingCore(self.model, cache.kv, stop, sampler, block_size=size)

    def _attempts(
        self, cache: PromptCache, request: InfillRequest, reading: Reading, options: ModeOptions
    ) -> Iterator[Attempt]:
        """One hole and its decoding for each alternative, the best first."""
        if request.mode == NATIVE:
            return self._native_attempts(cache, request, options)
        return self._prompted_attempts(cache, request, reading, options)

    def _prompted_attempts(
        self, cache: PromptCache, request: InfillRequest, reading: Reading, options: ModeOptions
    ) -> Iterator[Attempt]:
        for token, confidence, sampler in _openings(reading.logits, request):
            core = self._core(cache, request, sampler, options)
            core.commit([token], [confidence])
            prefill = core.step(ForwardKind.PREFILL, reading.prefilled, 0)
            yield core, chain([prefill], MODES[request.mode](core, options))

    def _native_attempts(
        self, cache: PromptCache, request: InfillRequest, options: ModeOptions
    ) -> Iterator[Attempt]:
        suffix = self.tokenizer.encode(request.suffix[: 8 * self.model.config.block_size])
        right = RightContext.of(suffix, self.model.config.block_size)
        lengths = [length for length in LENGTHS if length <= request.max_tokens]
        sampler = Sampler(request.temperature, request.seed)
        probe = self._core(cache, request, sampler, options)
        found = probe_lengths(probe, right, lengths, options.lengths)
        for rank, one in enumerate(found[: request.alternatives]):
            core = self._core(cache, request, sampler, options)
            core.forwards = probe.forwards if rank == 0 else 0
            steps = native_infill(core, right, one.length, options.rule)
            yield core, _then_trim_echo(core, steps, suffix)

    def _item(self, core: DecodingCore, request: InfillRequest) -> InfillItem:
        text = self.tokenizer.decode(core.tokens)
        if core.finish == "lines" and request.max_lines is not None:
            text = first_lines(text, request.max_lines)
        nats = sum(math.log(max(p, 1e-12)) for p in core.confidences) / len(core.confidences)
        assert core.finish is not None
        return InfillItem(text, math.exp(nats), core.finish)


def _openings(logits: Tensor, request: InfillRequest) -> Iterator[tuple[int, float, Sampler]]:
    """Each alternative's first token, its probability, and the sampler that goes on with it.

    An alternative that is sampled is one stream of random numbers from its first token on.
    """
    if request.temperature:
        for index in range(request.alternatives):
            sampler = Sampler(request.temperature, request.seed + index)
            chosen = sampler.choose(logits)
            yield int(chosen.token), float(chosen.confidence), sampler
        return
    best = logits[0].float().softmax(-1).topk(min(request.alternatives, logits.shape[-1]))
    for token, confidence in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        yield token, confidence, Sampler()


def _then_trim_echo(
    core: DecodingCore, steps: Iterable[Step], suffix: Sequence[int]
) -> Iterator[Step]:
    """The steps; once they are done, the hole loses an end that repeats the suffix's beginning."""
    yield from steps
    core.tokens = without_echo(core.tokens, suffix) or core.tokens[:1]
    core.confidences = core.confidences[: len(core.tokens)]


def first_lines(text: str, count: int) -> str:
    """The first `count` lines from the first one with ink on, with the blank ones before them."""
    ink = text.lstrip()
    return text[: len(text) - len(ink)] + "\n".join(ink.split("\n")[:count])


def line_limit(tokenizer: CodeTokenizer, lines: int | None) -> Callable[[Sequence[int]], bool]:
    """Whether a hole's ids hold `lines` lines already (None: never), for a StopRule."""
    if lines is None:
        return lambda ids: False
    newlines = frozenset(tokenizer.newline_ids)

    def done(ids: Sequence[int]) -> bool:
        return ids[-1] in newlines and tokenizer.decode(ids).lstrip().count("\n") >= lines

    return done


def _without_repeats(items: list[InfillItem]) -> list[InfillItem]:
    """The first item of each text, in order."""
    first: dict[str, InfillItem] = {}
    for item in items:
        first.setdefault(item.text, item)
    return list(first.values())
