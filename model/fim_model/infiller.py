"""Fill a hole in code: text in, ranked texts out.

`Infiller` is the whole of `fim_model` for those who only want completions: it builds the prompt,
keeps the keys of each document between requests, runs a decoding mode, and counts what it cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from fim_model.calibration.confidence import Calibration
from fim_model.calibration.edit_priors import EditPriors
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.core import DecodingCore, ForwardKind, Step, StopRule
from fim_model.decoding.healing import Continuations, left_to_spell, restricted, spell
from fim_model.decoding.judge_copies import CopyJudge
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.native import (
    LENGTHS,
    LengthCalibration,
    RightContext,
    native_infill,
    probe_lengths,
    then_trim_echo,
)
from fim_model.decoding.prompt_cache import PromptCache, Reading, SessionStore
from fim_model.decoding.rewrite_region import Rewriter
from fim_model.decoding.sampling import Sampler, openings
from fim_model.errors import Cancelled
from fim_model.loading.checkpoint import check_weights, default_checkpoint, load_model
from fim_model.loading.hub import local_folder, resolve
from fim_model.loading.memory import check_kernels, default_device, default_dtype, default_weights
from fim_model.loading.progress import Progress, in_steps, part, unseen
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.choice import Weights, fast_network
from fim_model.network.contract import Network
from fim_model.prompt.fim_prompt import PROMPT_OVERHEAD, PromptBudget
from fim_model.prompt.line_limit import first_lines, line_limit
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.prompt.window import WINDOW, fim_prompt, kv_tokens, usable_window
from fim_model.requests import (
    AUTO,
    NATIVE,
    Completion,
    CompletionItem,
    CompletionRequest,
    Rewrite,
    RewriteRequest,
)

SURE = 0.6
"""A copy that is so likely to be right is not compared with what the model would write."""

StepListener = Callable[[Step], None]
Attempt = tuple[DecodingCore, Iterable[Step]]
"""A hole whose prompt has been read, and the decoding that will fill it."""


class Infiller:
    """A loaded model with its documents' caches.

    Several threads may fill holes of different sessions at once, each session `held` meanwhile, if
    the model is a `JointModel`; otherwise it has one owner at a time.
    """

    def __init__(
        self,
        model: Network,
        tokenizer: CodeTokenizer,
        options: ModeOptions | None = None,
        auto: ModeChoice | None = None,
        *,
        window: int = WINDOW,
        calibration: Calibration | None = None,
        edit_priors: EditPriors | None = None,
    ) -> None:
        """`window` is the most tokens of a prompt; the model's own window bounds it too.

        Raises CheckpointError for a tokenizer that the model was not trained with.
        """
        self.model, self.tokenizer = model, tokenizer
        self.fim = fim_prompt(model.config, tokenizer)
        self.continuations = Continuations(tokenizer)
        self.options = options or ModeOptions()
        self.auto = auto or ModeChoice()
        self.calibration = calibration
        self._width = max(self.options.width_budget, self.auto.width_budget)
        self.window = usable_window(model.config, window, self._width)
        self.sessions = SessionStore(self._new_cache)
        self.rewriter = Rewriter(model, tokenizer, self.sessions, self.window, edit_priors)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        *,
        threads: int | None = None,
        auto: ModeChoice | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        weights: Weights | None = None,
        window: int = WINDOW,
        progress: Progress = unseen,
    ) -> Infiller:
        """Load a checkpoint folder or a Hugging Face id; None is the model that ships.

        `threads` bounds torch's threads for the whole process; `auto` is what mode `auto` means
        here. `device` None is CUDA where there is one, `dtype` None bfloat16 there and float32 on
        a CPU, `weights` None what `FIM_WEIGHTS` says. `progress` hears of the download
        and the reading, in a few steps. What is wrong with the checkpoint is found before any
        weight is downloaded or read; raises CheckpointError.
        """
        if threads:
            torch.set_num_threads(threads)
        weights, device = weights or default_weights(), device or default_device()
        check_kernels(device)
        folder = Path(checkpoint) if checkpoint else default_checkpoint()
        tell = in_steps(progress)
        fetched = 0.9 if local_folder(checkpoint or folder) is None else 0.0
        fetching, reading = part(tell, 0, fetched), part(tell, fetched, 1)
        folder = resolve(checkpoint or folder, check=read_tokenizer, progress=fetching)
        tokenizer, config = read_tokenizer(folder), check_weights(folder)
        calibration, priors = Calibration.read(folder), EditPriors.read(folder)
        width = (auto or ModeChoice()).width_budget
        keys = kv_tokens(config, usable_window(config, window, width), width)
        dtype = dtype or default_dtype(device)
        options = ModeOptions(lengths=LengthCalibration.read(folder))
        model = load_model(folder, dtype=dtype, device=device, kv_tokens=keys, progress=reading)
        network = fast_network(model, weights)
        return cls(
            network,
            tokenizer,
            options,
            auto,
            window=window,
            calibration=calibration,
            edit_priors=priors,
        )

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that this model can be asked for, the best first."""
        return self.model.config.modes

    def infill(
        self,
        request: CompletionRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> Completion:
        """Fill the hole. `on_step` hears of every forward; Cancelled is raised between two."""
        began = time.perf_counter()
        mode, options = self._mode(request.mode)
        request = replace(request, mode=mode)
        cache = self.sessions.take(request.session)
        prompt = self.prompt(request)
        if should_stop():
            raise Cancelled
        reading, copied = self._read(cache, prompt, request)
        if copied and copied[0].confidence >= SURE and request.alternatives == 1:
            return self._result(copied, mode, 1, len(copied[0].nats), reading, began)
        items: list[CompletionItem] = []
        tokens, forwards = 0, 1
        for core, steps in self._attempts(cache, request, mode, reading, options):
            for step in steps:
                on_step(step)
                if should_stop() and core.finish is None:
                    raise Cancelled
            tokens, forwards = tokens + len(core.tokens), forwards + core.forwards
            items.append(self._item(core, request))
            cache.rewind(len(prompt))
        if copied:
            items = sorted([*items, *copied], key=_sureness, reverse=True)
        return self._result(items, mode, forwards, tokens, reading, began)

    def _result(
        self,
        items: list[CompletionItem],
        mode: str,
        forwards: int,
        tokens: int,
        reading: Reading,
        began: float,
    ) -> Completion:
        return Completion(
            items=_without_repeats(items),
            mode=mode,
            forwards=forwards,
            tokens=tokens,
            prefill_tokens=reading.prefilled,
            reused_tokens=reading.reused,
            ms=(time.perf_counter() - began) * 1000,
            show_above=self.calibration.show_above if self.calibration else 0.0,
        )

    def judge_copies(self, request: CompletionRequest) -> list[CompletionItem]:
        """What the model says of the request's copies, the surest first, writing nothing."""
        mode, _ = self._mode(request.mode)
        request = replace(request, mode=mode)
        _, copied = self._read(self.sessions.take(request.session), self.prompt(request), request)
        return copied

    def rewrite(
        self,
        request: RewriteRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> Rewrite:
        """What a region becomes after recent edits; see `Rewriter.rewrite`."""
        return self.rewriter.rewrite(request, should_stop=should_stop, on_step=on_step)

    def prompt(self, request: CompletionRequest) -> list[int]:
        """The token ids that the model reads for this request.

        With the middle they fit the model's window, but half of the window is theirs in any case.
        """
        window = self.window
        if request.mode == NATIVE:
            return self.fim.plain(request.prefix, window // 2)
        total = max(window - PROMPT_OVERHEAD - request.max_tokens, window // 2)
        snippets = self.fim.snippets(request.snippets, total // 4)
        rest = total - len(snippets)
        budget = PromptBudget(rest, suffix=total // 4, step=max(1, window // 8))
        settled, _ = self.fim.split(request.prefix)
        return [*snippets, *self.fim(settled, request.suffix, request.path, budget)]

    def pieces(self, ids: Sequence[int], typed: int = 0) -> list[str | None]:
        """A hole's tokens as text for a person, None where there is still a mask.

        The first `typed` characters, which stand before the cursor, are left out.
        """
        mask = self.model.config.mask_token_id
        found: list[str | None] = []
        for token_id in ids:
            text = "" if token_id == mask else self.tokenizer.decode([token_id])
            found.append(None if token_id == mask else text[typed:])
            typed = max(0, typed - len(text))
        return found

    def _typed(self, request: CompletionRequest) -> str:
        """What the hole's tokens must spell before they go on behind the cursor."""
        return "" if request.mode == NATIVE else self.fim.split(request.prefix)[1]

    def forget(self, session: str) -> None:
        """Drop a document's caches."""
        self.sessions.forget(session)

    def _new_cache(self) -> PromptCache:
        capacity = kv_tokens(self.model.config, self.window, self._width)
        return PromptCache(self.model, capacity=capacity)

    def _core(
        self, cache: PromptCache, request: CompletionRequest, sampler: Sampler, options: ModeOptions
    ) -> DecodingCore:
        typed = len(self._typed(request))
        stop = StopRule(
            self.fim.eom,
            request.max_tokens,
            line_limit(self.tokenizer, request.max_lines, typed),
            self.fim.stops,
        )
        size, prompt = options.block_size, cache.tokens
        return DecodingCore(
            self.model, cache.kv, stop, sampler, block_size=size, prompt=prompt, typed=typed
        )

    def _mode(self, asked: str | None) -> tuple[str, ModeOptions]:
        """The mode that is meant, and its options. Raises ValueError where the model lacks it."""
        if asked == AUTO:
            choice = self.auto if self.auto.mode in self.modes else ModeChoice(self.modes[0])
            return choice.mode, replace(choice.options(), lengths=self.options.lengths)
        mode = asked or self.modes[0]
        if mode not in self.modes:
            kind = self.model.config.model_type
            raise ValueError(
                f"mode {mode!r} needs a model that denoises blocks; this {kind} model has the "
                f"modes {', '.join(self.modes)}"
            )
        return mode, self.options

    def _attempts(
        self,
        cache: PromptCache,
        request: CompletionRequest,
        mode: str,
        reading: Reading,
        options: ModeOptions,
    ) -> Iterator[Attempt]:
        """One hole and its decoding for each alternative, the best first."""
        if mode == NATIVE:
            return self._native_attempts(cache, request, options)
        return self._prompted_attempts(cache, request, mode, reading, options)

    def _prompted_attempts(
        self,
        cache: PromptCache,
        request: CompletionRequest,
        mode: str,
        reading: Reading,
        options: ModeOptions,
    ) -> Iterator[Attempt]:
        first, typed = reading.logits[:1], self._typed(request).encode()
        if typed:
            first = restricted(first, self.continuations.choices(typed))
        for token, confidence, sampler in openings(
            first, request.alternatives, request.temperature, request.seed
        ):
            core = self._core(cache, request, sampler, options)
            core.commit([token], [confidence])
            prefill = core.step(ForwardKind.PREFILL, reading.prefilled, 0)
            left = left_to_spell(typed, self.tokenizer.token_bytes(token))
            spelling = spell(core, left, self.continuations)
            yield core, chain([prefill], spelling, MODES[mode](core, options))

    def _native_attempts(
        self, cache: PromptCache, request: CompletionRequest, options: ModeOptions
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
            yield core, then_trim_echo(core, steps, suffix)

    def _read(
        self, cache: PromptCache, prompt: Sequence[int], request: CompletionRequest
    ) -> tuple[Reading, list[CompletionItem]]:
        """Read the prompt, and judge the copies in the same forward, the surest first.

        None is judged where the mode sees no suffix.
        """
        copies = () if request.mode == NATIVE else request.copies
        judge = CopyJudge(self.tokenizer, self.fim.eom, self.calibration, self.continuations)
        room, typed = request.max_tokens - 1, self._typed(request)
        reading, judged = judge.read(cache, prompt, copies, room, typed)
        items = [CompletionItem(one.text, one.confidence, "copied", one.nats) for one in judged]
        return reading, items

    def _item(self, core: DecodingCore, request: CompletionRequest) -> CompletionItem:
        text = self.tokenizer.decode(core.tokens)[core.typed :]
        if core.finish == "lines" and request.max_lines is not None:
            text = first_lines(text, request.max_lines)
        assert core.finish is not None
        confidence = core.confidence
        if self.calibration is not None:
            confidence = self.calibration(core.nats, core.finish == "length")
        return CompletionItem(text, confidence, core.finish, core.nats)


def _sureness(item: CompletionItem) -> float:
    return item.confidence


def _without_repeats(items: list[CompletionItem]) -> list[CompletionItem]:
    """The first item of each text, in order."""
    first: dict[str, CompletionItem] = {}
    for item in items:
        first.setdefault(item.text, item)
    return list(first.values())
