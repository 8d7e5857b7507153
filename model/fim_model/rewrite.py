"""Rewrite a region after the user's recent edits: text in, the same text or a likelier one out.

A model with edit training sees the edits and writes the region anew, its old text being the draft
(`decoding/rewriting.py`). Any other model that denoises blocks sees no edits: it re-masks what it
doubts in the region and refills it (`revision.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from fim_model.decoding.core import DecodingCore, Step, StopRule
from fim_model.decoding.rewriting import log_probability, rewriting
from fim_model.decoding.sampling import Sampler
from fim_model.errors import Cancelled
from fim_model.families.layouts import OWN
from fim_model.loading import MOST_TOKENS, fim_prompt
from fim_model.network import Network
from fim_model.prompt import PROMPT_OVERHEAD, PromptBudget
from fim_model.revision import Reviser
from fim_model.session import PART, SessionStore
from fim_model.tokenizer import CodeTokenizer

Way = Literal["rewrite", "refill"]
"""How a region is rewritten: by a model with edit training, or by re-masking and refilling."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A recent change of the user: these lines became those."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RewriteRequest:
    """A region of whole lines, `old`, between `prefix` and `suffix`.

    `edits` are the user's latest, oldest first; `path` names the file. `max_tokens` is how many
    tokens longer than the old region the new one may get. `session` names the document whose keys
    may be reused ("" keeps nothing); they are kept apart from those of its completions.
    """

    prefix: str
    old: str
    suffix: str
    edits: Sequence[Edit] = ()
    path: str = ""
    max_tokens: int = 96
    session: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise ValueError(f"max_tokens must be 1 to {MOST_TOKENS}, not {self.max_tokens}")


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """The region, rewritten.

    new: equal to the old text where the model would leave it, or came to no end within the tokens
    that it may write. gain: log P(new) - log P(old) in nats given the prompt, the end included; 0
    where it is unchanged (way "refill": the smaller of the gains with both sides in view and from
    left to right). confidence: geometric mean of the probabilities of what was written, the end
    included. forwards: every pass through the network. tokens: those of the region as written.
    reused_tokens: of the prompt, from the session.
    """

    new: str
    gain: float
    confidence: float
    way: Way
    forwards: int
    tokens: int
    reused_tokens: int
    ms: float


StepListener = Callable[[Step], None]


class Rewriter:
    """Rewrites with a loaded model. Not thread-safe: one owner at a time."""

    def __init__(
        self,
        model: Network,
        tokenizer: CodeTokenizer,
        sessions: SessionStore,
        window: int,
    ) -> None:
        """`window` is the most tokens of a prompt and what is written behind it."""
        self.model, self.tokenizer = model, tokenizer
        self.sessions, self.window = sessions, window
        self.fim = fim_prompt(model.config, tokenizer)
        self.longest_region = min(window // 4, MOST_TOKENS // 2)
        """Most tokens of a region."""

    @property
    def way(self) -> Way | None:
        """What this model can do, None where it was not trained on edits and only reads causally.

        The layout does not tell: older models have the tokens for edits and never saw them.
        """
        config = self.model.config
        if config.fim_edits and self.fim.layout is OWN:
            return "rewrite"
        return None if config.mask_token_id is None else "refill"

    def rewrite(
        self,
        request: RewriteRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> RewriteResult:
        """Rewrite the region. `on_step` hears of every forward; Cancelled is raised between two.

        Raises ValueError for a region that is too long, and for a model that has no way.
        """
        began = time.perf_counter()
        size = len(self.tokenizer.encode(request.old))
        if size > self.longest_region:
            raise ValueError(
                f"the region has {size} tokens, this model rewrites at most {self.longest_region}; "
                "choose fewer lines"
            )
        if should_stop():
            raise Cancelled
        if self.way == "rewrite":
            return self._rewrite(request, should_stop, on_step, began)
        if self.way == "refill":
            return self._refill(request, should_stop, on_step, began)
        raise ValueError(
            f"this {self.model.config.model_type} model was not trained on edits and denoises no "
            "blocks, so it cannot rewrite; choose another model"
        )

    def prompt(self, request: RewriteRequest) -> list[int]:
        """The token ids that a model with edit training reads for this request."""
        most = self._most_tokens(len(self.tokenizer.encode(request.old)), request)
        total = max(self.window - PROMPT_OVERHEAD - most, self.window // 2)
        budget = PromptBudget(total, suffix=total // 4, step=max(1, self.window // 8))
        edits = [(edit.old, edit.new) for edit in request.edits]
        return self.fim.edit(
            request.prefix, request.old, request.suffix, request.path, edits, budget
        )

    def _most_tokens(self, size: int, request: RewriteRequest) -> int:
        return min(size + request.max_tokens, MOST_TOKENS)

    def _rewrite(
        self,
        request: RewriteRequest,
        should_stop: Callable[[], bool],
        on_step: StepListener,
        began: float,
    ) -> RewriteResult:
        prompt, old = self.prompt(request), self.tokenizer.encode(request.old)
        cache = self.sessions.take(rewriting_session(request.session))
        reading = cache.read(prompt, ahead=old)
        stop = StopRule(self.fim.eom, self._most_tokens(len(old), request), stops=self.fim.stops)
        core = DecodingCore(self.model, cache.kv, stop, Sampler(), prompt=prompt)
        for step in rewriting(core, old, reading):
            on_step(step)
            if should_stop() and core.finish is None:
                raise Cancelled
        cache.rewind(len(prompt))
        new = self.tokenizer.decode(core.tokens) if core.finish == "eom" else request.old
        left = log_probability(reading.logits, [*old, self.fim.eom])
        return RewriteResult(
            new=new,
            gain=0.0 if new == request.old else core.log_probability - left,
            confidence=core.confidence,
            way="rewrite",
            forwards=1 + core.forwards,
            tokens=len(core.tokens),
            reused_tokens=reading.reused,
            ms=_ms_since(began),
        )

    def _refill(
        self,
        request: RewriteRequest,
        should_stop: Callable[[], bool],
        on_step: StepListener,
        began: float,
    ) -> RewriteResult:
        revised = Reviser(self.model, self.tokenizer).revise(
            request.prefix, request.old, request.suffix, should_stop=should_stop, on_step=on_step
        )
        return RewriteResult(
            new=revised.text,
            gain=0.0 if revised.text == request.old else revised.gain,
            confidence=revised.confidence,
            way="refill",
            forwards=revised.forwards,
            tokens=revised.tokens,
            reused_tokens=0,
            ms=_ms_since(began),
        )


def rewriting_session(session: str) -> str:
    """The name of a document's second cache, since its two prompts begin differently; "" stays."""
    return session and f"{session}{PART}rewrite"


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
