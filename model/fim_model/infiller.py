"""Fill a hole in code, or answer in a conversation: a request in, ranked texts out.

`Infiller` is the entrance to `fim_model`. A completion goes straight through it, and so does an
answer, whose prompt is a conversation:

    request -> mode -> prompt -> prefill, with judged copies -> attempts -> items

`decoding/preparation.py` makes everything up to the prompt once, as a `PreparedHole`; the stages
after it are `decoding/judge_copies.py`, `decoding/attempts.py` and the modes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from fim_model.calibration.confidence import Calibration
from fim_model.calibration.edit_priors import EditPriors
from fim_model.decoding.attempts import (
    Attempt,
    canvas_attempts,
    native_attempts,
    prompted_attempts,
)
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.commit_rules import parse_rule
from fim_model.decoding.core import DecodingCore, Step, StepListener
from fim_model.decoding.healing import Continuations
from fim_model.decoding.instructed_edit import InstructedEditor, instruction_session
from fim_model.decoding.judge_copies import CopyJudge
from fim_model.decoding.modes import ModeOptions
from fim_model.decoding.native import LengthCalibration
from fim_model.decoding.preparation import Preparation
from fim_model.decoding.prepared_hole import PreparedHole
from fim_model.decoding.prompt_cache import SESSION_BYTES, Prefill, PromptCache, SessionStore
from fim_model.decoding.rewrite_region import RegionRewriter, rewrite_session
from fim_model.errors import Cancelled
from fim_model.loading.adapters import Adapters, base_digest
from fim_model.loading.checkpoint import check_weights, default_checkpoint
from fim_model.loading.hub import local_folder, resolve
from fim_model.loading.load_network import load_network
from fim_model.loading.memory import check_kernels, default_device, default_dtype, default_weights
from fim_model.loading.progress import Progress, in_steps, part, unseen
from fim_model.loading.stored_tokenizer import read_chat, read_tokenizer
from fim_model.network.adapter import Adapter
from fim_model.network.batching import BatchedNetwork
from fim_model.network.choice import Weights
from fim_model.network.contract import Network
from fim_model.prompt.chat_prompt import ChatPrompt
from fim_model.prompt.line_limit import first_lines
from fim_model.prompt.suffix_head import SuffixHead
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.prompt.window import WINDOW, fim_prompt, kv_tokens, usable_window
from fim_model.requests import (
    NATIVE,
    ChatRequest,
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    InstructionRequest,
    Rewrite,
    RewriteRequest,
    TraceStep,
)

COPY_ALONE_CONFIDENCE = 0.6
"""Confidence of a copy from which nothing else is decoded."""


def no_adapter(name: str) -> None:
    """No request is answered with an adapter."""


class Infiller:
    """A loaded model with the cached tokens of its documents.

    With a `BatchedNetwork` several threads may fill holes of different sessions at once, and share
    their forwards; with any other network, one thread at a time.
    """

    def __init__(
        self,
        model: Network,
        tokenizer: CodeTokenizer,
        options: ModeOptions | None = None,
        auto: ModeChoice | None = None,
        *,
        window: int = WINDOW,
        cache_bytes: int | None = None,
        calibration: Calibration | None = None,
        edit_priors: EditPriors | None = None,
        chat: ChatPrompt | None = None,
        name: str = "this model",
        adapters: Callable[[str], Adapter | None] = no_adapter,
    ) -> None:
        """`window` is the most tokens of a prompt, also bounded by the model's own window.

        `chat` is how the model is asked in a conversation, None if it cannot be; `name` is for
        messages. `adapters` gives the updates that a request names.

        `cache_bytes` is the budget for the keys and values of all documents. Raises CheckpointError
        for a tokenizer that the model was not trained with.
        """
        self.model, self.tokenizer = model, tokenizer
        self.chat, self.name = chat, name
        self.batched = model if isinstance(model, BatchedNetwork) else None
        self.fim = fim_prompt(model.config, tokenizer)
        self.continuations = Continuations(tokenizer)
        self.options = options or ModeOptions(parse_rule(model.config.family.rule))
        self.auto = auto or ModeChoice()
        self._calibration, self._adapters = calibration, adapters
        self._copy_judge = CopyJudge(tokenizer, self.fim.eom, calibration, self.continuations)
        self._width = max(self.options.width_budget, self.auto.width_budget)
        self.window = usable_window(model.config, window, self._width)
        self._preparation = Preparation(
            model.config, tokenizer, self.fim, self.window, self.options, self.auto, chat, name
        )
        budget = SESSION_BYTES if cache_bytes is None else cache_bytes
        self.sessions = SessionStore(self._new_cache, budget, adapters=adapters)
        self.rewriter = RegionRewriter(model, tokenizer, self.sessions, self.window, edit_priors)
        self.instructed = InstructedEditor(model, tokenizer, self.sessions, self.window)

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
        cache_bytes: int | None = None,
        calibration: Calibration | None = None,
        batched: bool = False,
        adapters: Path | None = None,
        progress: Progress = unseen,
    ) -> Infiller:
        """Load a checkpoint folder, a GGUF file or a Hugging Face id; None is the model that ships.

        `threads` bounds torch's threads for the whole process; `auto` is what mode `auto` means
        here. `device` None is CUDA where available, `dtype` None bfloat16 there and float32 on a
        CPU, `weights` None what `FIM_WEIGHTS` says, or as they are stored. `calibration` replaces
        the checkpoint's own. `batched` lets several threads share their forwards. `adapters` is
        the folder of workspaces' adapters (`loading/adapters.py`), None for none. `progress`
        reports the download and the reading, in a few steps. The checkpoint is validated before
        any weight is downloaded or read; raises CheckpointError.
        """
        if threads:
            torch.set_num_threads(threads)
        device = device or default_device()
        check_kernels(device)
        default_weights()  # A wrong FIM_WEIGHTS is said before a download.
        folder = Path(checkpoint) if checkpoint else default_checkpoint()
        tell = in_steps(progress)
        fetched = 0.9 if local_folder(checkpoint or folder) is None else 0.0
        fetching, reading = part(tell, 0, fetched), part(tell, fetched, 1)
        folder = resolve(checkpoint or folder, check=read_tokenizer, progress=fetching)
        tokenizer, config = read_tokenizer(folder), check_weights(folder)
        chat = read_chat(folder, tokenizer)
        calibration, priors = calibration or Calibration.read(folder), EditPriors.read(folder)
        width = (auto or ModeChoice()).width_budget
        keys = kv_tokens(config, usable_window(config, window, width), width)
        dtype = dtype or default_dtype(device)
        rule, lengths = parse_rule(config.family.rule), LengthCalibration.read(folder)
        options = ModeOptions(rule, lengths=lengths)
        network = load_network(
            folder, dtype=dtype, device=device, weights=weights, kv_tokens=keys, progress=reading
        )
        found = Adapters(adapters, network, base_digest(folder)) if adapters else no_adapter
        return cls(
            BatchedNetwork(network) if batched else network,
            tokenizer,
            options,
            auto,
            window=window,
            cache_bytes=cache_bytes,
            calibration=calibration,
            edit_priors=priors,
            chat=chat,
            name=folder.name if checkpoint else "the default model",
            adapters=found,
        )

    @property
    def adapters_in_use(self) -> int:
        """How many workspaces' adapters are loaded."""
        return len(self._adapters) if isinstance(self._adapters, Adapters) else 0

    @property
    def adapter_problems(self) -> dict[str, str]:
        """Why adapters that were asked for are not used, by name."""
        return dict(self._adapters.problems) if isinstance(self._adapters, Adapters) else {}

    @property
    def products(self) -> str:
        """What the network multiplies, in words."""
        return self.model.products

    @property
    def modes(self) -> tuple[str, ...]:
        """The decoding modes that this model can be asked for, the best first."""
        return self.model.config.modes

    def infill(
        self,
        request: CompletionRequest | ChatRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> Completion:
        """Fill the hole, or write the answer.

        `on_step` receives every forward; Cancelled is raised between two. Raises RequestError for
        a conversation that the model cannot answer, ValueError for a mode that it lacks.
        """
        began = time.perf_counter()
        if isinstance(request, ChatRequest):
            hole = self._preparation.answer(request)
        else:
            hole = self._preparation.hole(request)
        if should_stop():
            raise Cancelled
        items: list[CompletionItem] = []
        trace: list[TraceStep] = []
        tokens = 0
        with self._using(request.session, should_stop):
            cache = self.sessions.take(request.session, request.adapter)
            adapter = "" if cache.kv.adapter is None else request.adapter
            prefill, copies = self._copy_judge.prefill(cache, hole, should_stop)
            forwards = prefill.forwards
            if (
                copies
                and copies[0].confidence >= COPY_ALONE_CONFIDENCE
                and request.alternatives == 1
            ):
                tokens = len(copies[0].nats)
            else:
                for core, steps in self._attempts(hole, cache, prefill):
                    for step in steps:
                        on_step(step)
                        if request.trace:
                            trace.append(self.traced(step))
                        if should_stop() and core.finish is None:
                            raise Cancelled
                    forwards, tokens = forwards + core.forwards, tokens + len(core.tokens)
                    items.append(self._item(core, hole))
                    cache.rewind(len(cache.tokens))
        stats = CompletionStats(
            mode=hole.mode,
            forwards=forwards,
            tokens=tokens,
            tokens_per_forward=tokens / forwards,
            prefill_tokens=prefill.computed,
            reused_tokens=prefill.reused,
            ms=(time.perf_counter() - began) * 1000,
        )
        ranked = _ranked(items, copies)
        if self._calibration is None:
            return Completion(ranked, stats, trace=trace, adapter=adapter)
        show_above, gate = self._calibration.show_above, self._calibration.gate
        return Completion(ranked, stats, show_above, trace, gate, adapter)

    def judge_copies(self, request: CompletionRequest) -> list[CompletionItem]:
        """The request's copies with their confidences, surest first; nothing is decoded."""
        hole = self._preparation.hole(request)
        cache = self.sessions.take(request.session, request.adapter)
        return self._copy_judge.prefill(cache, hole)[1]

    def rewrite(
        self,
        request: RewriteRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> Rewrite:
        """What a region becomes after recent edits; see `RegionRewriter.rewrite`."""
        with self._using(rewrite_session(request.session), should_stop):
            return self.rewriter.rewrite(request, should_stop=should_stop, on_step=on_step)

    def instruct(
        self,
        request: InstructionRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> Rewrite:
        """What a region becomes by an instruction; see `InstructedEditor.edit`.

        Raises RequestError for a model that cannot follow instructions.
        """
        chat = self.conversation()
        with self._using(instruction_session(request.session), should_stop):
            return self.instructed.edit(request, chat, should_stop=should_stop, on_step=on_step)

    def prompt(self, request: CompletionRequest) -> list[int]:
        """The token ids that the model reads for this request."""
        return self._preparation.hole(request).prompt

    def conversation(self) -> ChatPrompt:
        """How the model is asked in a conversation. Raises RequestError if it cannot be."""
        return self._preparation.conversation()

    def pieces(self, ids: Sequence[int], typed: int = 0) -> list[str | None]:
        """The text of each of a hole's tokens, None for a mask.

        The first `typed` characters, which stand before the cursor, are left out.
        """
        mask = self.model.config.mask_token_id
        found: list[str | None] = []
        for token_id in ids:
            text = "" if token_id == mask else self.tokenizer.decode([token_id])
            found.append(None if token_id == mask else text[typed:])
            typed = max(0, typed - len(text))
        return found

    def traced(self, step: Step) -> TraceStep:
        """A step in texts instead of ids."""
        return TraceStep(
            kind=step.kind.value,
            width=step.width,
            hole=self.pieces(step.hole, step.typed),
            committed=list(step.committed),
            confidences=list(step.confidences),
            remasked=list(step.remasked),
        )

    def forget(self, session: str) -> None:
        """Drop a document's caches."""
        self.sessions.forget(session)

    def _attempts(
        self, hole: PreparedHole, cache: PromptCache, prefill: Prefill
    ) -> Iterator[Attempt]:
        if self.model.config.family.full_attention:
            return canvas_attempts(hole, self.model, cache, self.fim.expand)
        if hole.mode == NATIVE:
            return native_attempts(hole, self.model, cache, self.tokenizer)
        return prompted_attempts(hole, self.model, cache, prefill, self.continuations)

    def _item(self, core: DecodingCore, hole: PreparedHole) -> CompletionItem:
        """A filled hole's text, from the cursor on."""
        text, max_lines = self.tokenizer.decode(core.tokens)[core.typed :], hole.request.max_lines
        if core.finish == "lines" and max_lines is not None:
            text = first_lines(text, max_lines)
        if core.finish == "suffix" and isinstance(hole.request, CompletionRequest):
            text = SuffixHead(hole.request.suffix).cut(text)
        assert core.finish is not None
        confidence = core.confidence
        if self._calibration is not None and isinstance(hole.request, CompletionRequest):
            confidence = self._calibration(core.nats, core.finish == "length")
        return CompletionItem(text, confidence, core.finish, core.nats)

    @contextlib.contextmanager
    def _using(self, session: str, should_stop: Callable[[], bool]) -> Iterator[None]:
        """While inside, the session's cache is not evicted, and forwards are shared."""
        sharing = self.batched.filling(should_stop) if self.batched else contextlib.nullcontext()
        with self.sessions.held(session), sharing:
            yield

    def _new_cache(self) -> PromptCache:
        capacity = kv_tokens(self.model.config, self.window, self._width)
        return PromptCache(self.model, capacity=capacity)


def _ranked(items: list[CompletionItem], copies: list[CompletionItem]) -> list[CompletionItem]:
    """Items and copies by confidence, without repeated texts.

    Without copies the order stands: alternatives begin with ever less likely tokens.
    """
    if copies:
        items = sorted([*items, *copies], key=lambda item: item.confidence, reverse=True)
    first: dict[str, CompletionItem] = {}
    for item in items:
        first.setdefault(item.text, item)
    return list(first.values())
