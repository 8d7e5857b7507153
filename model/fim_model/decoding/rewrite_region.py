"""Rewrite a region after the user's recent edits: the same text or a likelier one.

There are two ways, by model. A model with edit training reads the edits and *rewrites* the region:
its old text is one draft, and others that the caller expects are judged beside it
(`decoding/rewrite_drafts.py`). Any other model that denoises blocks sees no edits and *revises* the
region: it re-masks what it doubts and refills it, and judges the caller's drafts by how well they
fit the text (`decoding/revise_region.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from fim_model.calibration.edit_priors import EditPriors
from fim_model.decoding.core import DecodingCore, StepListener, StopRule
from fim_model.decoding.prompt_cache import PART, SessionStore
from fim_model.decoding.revise_region import RegionReviser
from fim_model.decoding.rewrite_drafts import rewrite_with_drafts, tree_log_probabilities
from fim_model.decoding.sampling import Sampler
from fim_model.decoding.token_tree import TokenTree
from fim_model.errors import Cancelled
from fim_model.network.contract import Network
from fim_model.prompt.fim_prompt import PROMPT_OVERHEAD, PromptBudget
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.prompt.window import fim_prompt
from fim_model.requests import MAX_TOKENS, Rewrite, RewriteRequest, RewriteWay

PROMPT_TOKENS = 256
"""Most tokens of a prompt: as many as edit training has, and half the cost of a completion's."""

_SLACK = 1e-3
"""Nats by which the same text's likelihood may differ between two forwards."""


class RegionRewriter:
    """Rewrites regions with a loaded model. Thread-safe as far as its network is."""

    def __init__(
        self,
        model: Network,
        tokenizer: CodeTokenizer,
        sessions: SessionStore,
        window: int,
        priors: EditPriors | None = None,
    ) -> None:
        """`window` is the most tokens of a prompt and what is written after it."""
        self.model, self.tokenizer = model, tokenizer
        self.sessions, self.window = sessions, window
        self.priors = priors or EditPriors()
        self.fim = fim_prompt(model.config, tokenizer)
        self.longest_region = min(window // 4, MAX_TOKENS // 2)
        """Most tokens of a region."""

    @property
    def way(self) -> RewriteWay | None:
        """How this model rewrites; None if it has no edit training and denoises no blocks after a
        prefix that is read causally.

        The layout alone does not say: older models have the tokens for edits but no training on
        them.
        """
        config = self.model.config
        if config.fim_edits and self.fim.layout.context:
            return "rewrite"
        if config.mask_token_id is None or config.family.full_attention:
            return None
        return "refill"

    def rewrite(
        self,
        request: RewriteRequest,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> Rewrite:
        """Rewrite the region. `on_step` receives every forward; Cancelled is raised between two.

        Raises ValueError for a region that is too long, and for a model that cannot rewrite.
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
            return self._rewritten(request, should_stop, on_step, began)
        if self.way == "refill":
            return self._revised(request, should_stop, on_step, began)
        raise ValueError(
            f"this {self.model.config.model_type} model was not trained on edits and denoises no "
            "blocks, so it cannot rewrite; choose another model"
        )

    def prompt(self, request: RewriteRequest) -> list[int]:
        """The token ids that a model with edit training reads for this request."""
        max_tokens = self._max_tokens(len(self.tokenizer.encode(request.old)), request)
        room = max(self.window - PROMPT_OVERHEAD - max_tokens, self.window // 2)
        total = min(room, PROMPT_TOKENS - PROMPT_OVERHEAD)
        edits = [(edit.old, edit.new) for edit in request.edits]
        budget = PromptBudget(total, suffix=total // 4)
        return self.fim.edit(
            request.prefix, request.old, request.suffix, request.path, edits, budget
        )

    def _max_tokens(self, size: int, request: RewriteRequest) -> int:
        return min(size + request.max_tokens, MAX_TOKENS)

    def _rewritten(
        self,
        request: RewriteRequest,
        should_stop: Callable[[], bool],
        on_step: StepListener,
        began: float,
    ) -> Rewrite:
        prompt, old = self.prompt(request), self.tokenizer.encode(request.old)
        stop = StopRule(self.fim.eom, self._max_tokens(len(old), request), stops=self.fim.stops)
        cache = self.sessions.take(rewrite_session(request.session), request.adapter)
        room = min(cache.kv.capacity - len(prompt), PROMPT_TOKENS)
        texts = self._fitting(request, stop.max_tokens, room)
        ids = [old, *texts.values()]
        tree = TokenTree.of(ids)
        prefill = cache.prefill(prompt, tree, should_stop)
        nats = tree_log_probabilities(prefill.logits, tree, ids, self.fim.eom)
        best = max(nats)
        core = DecodingCore(self.model, cache.kv, stop, Sampler(), prompt=prompt)
        for step in rewrite_with_drafts(core, ids, tree, prefill):
            on_step(step)
            # Every further token makes the text less likely: it cannot become the best any more.
            if core.finish is not None or core.log_probability < best - _SLACK:
                break
            if should_stop():
                raise Cancelled
        cache.rewind(len(prompt))
        # Ties go to the first: the old text, then the drafts in order.
        new, chosen, size = max(
            [
                (request.old, nats[0], len(old)),
                *((text, n, len(texts[text])) for text, n in zip(texts, nats[1:], strict=True)),
                *self._written(core),
            ],
            key=lambda candidate: candidate[1],
        )
        gains = {request.old: 0.0} | {
            text: found - nats[0] for text, found in zip(texts, nats[1:], strict=True)
        }
        return Rewrite(
            new=new,
            gain=0.0 if new == request.old else chosen - nats[0],
            confidence=math.exp(chosen / (size + 1)),
            way="rewrite",
            forwards=1 + core.forwards,
            tokens=size + 1,
            reused_tokens=prefill.reused,
            ms=_ms_since(began),
            draft_gains=tuple(gains.get(draft) for draft in request.drafts),
            draft_weight=self.priors.draft_weight,
            own_prior=self.priors.own,
        )

    def _fitting(self, request: RewriteRequest, max_tokens: int, room: int) -> dict[str, list[int]]:
        """The ids of the drafts shorter than `max_tokens` that fit `room` with the old text."""
        found: dict[str, list[int]] = {}
        room -= len(self.tokenizer.encode(request.old))
        for draft in request.drafts:
            ids = self.tokenizer.encode(draft)
            if draft not in found and draft != request.old and len(ids) < max_tokens:
                room -= len(ids)
                if room >= 0:
                    found[draft] = ids
        return found

    def _written(self, core: DecodingCore) -> list[tuple[str, float, int]]:
        """What the model wrote by itself, its nats and size, if it came to an end; else nothing."""
        if core.finish != "eom":
            return []
        text = self.tokenizer.decode(core.tokens)
        return [(text, core.log_probability, len(core.tokens) - 1)]

    def _revised(
        self,
        request: RewriteRequest,
        should_stop: Callable[[], bool],
        on_step: StepListener,
        began: float,
    ) -> Rewrite:
        adapter = self.sessions.adapter(request.adapter)
        reviser = RegionReviser(self.model, self.tokenizer, adapter=adapter)
        before, old, after = request.prefix, request.old, request.suffix
        revised = reviser.revise(before, old, after, should_stop=should_stop, on_step=on_step)
        gains = reviser.gains(before, old, request.drafts, after, should_stop)
        judged = zip(gains, request.drafts, strict=True)
        gain, new = max([(revised.gain, revised.text), *judged], key=lambda candidate: candidate[0])
        rewritten = revised.tokens if new == revised.text else len(self.tokenizer.encode(new))
        return Rewrite(
            new=new,
            gain=0.0 if new == old else gain,
            confidence=revised.confidence,
            way="refill",
            forwards=revised.forwards + bool(request.drafts),
            tokens=rewritten,
            reused_tokens=0,
            ms=_ms_since(began),
            draft_gains=tuple(gains),
            draft_weight=self.priors.draft_weight,
            own_prior=self.priors.own,
        )


def rewrite_session(session: str) -> str:
    """The session of a document's rewrites, whose prompts begin differently; "" stays ""."""
    return session and f"{session}{PART}rewrite"


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
