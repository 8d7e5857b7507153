"""Rewrite a region as an instruction says, with a model that converses.

The conversation shows the text around the region and the region itself, and its answer is opened
with a code fence, so that what follows is the new region. The old text is the draft: what stays is
verified in the forward that reads the prompt, and once the new text rejoins the old one, the rest
of that is the next draft (`decoding/rewrite_drafts.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from fim_model.decoding.core import DecodingCore, StepListener, StopRule
from fim_model.decoding.prompt_cache import PART, SessionStore
from fim_model.decoding.rewrite_drafts import rewrite_with_drafts
from fim_model.decoding.sampling import Sampler
from fim_model.decoding.token_tree import TokenTree
from fim_model.errors import Cancelled, RequestError
from fim_model.network.contract import Network
from fim_model.prompt.chat_prompt import ChatPrompt
from fim_model.prompt.instruction import FENCE, conversation
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import InstructionRequest, Rewrite


class InstructedEditor:
    """Edits by instruction with a loaded model. Thread-safe as far as its network is."""

    def __init__(
        self, model: Network, tokenizer: CodeTokenizer, sessions: SessionStore, window: int
    ) -> None:
        """`window` is the most tokens of a prompt and what is written after it."""
        self.model, self.tokenizer = model, tokenizer
        self.sessions, self.window = sessions, window

    def edit(
        self,
        request: InstructionRequest,
        chat: ChatPrompt,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: StepListener = lambda step: None,
    ) -> Rewrite:
        """The new region. `on_step` receives every forward; Cancelled is raised between two.

        Raises RequestError for a region that does not fit the window twice, and for an answer that
        does not come to an end.
        """
        began = time.perf_counter()
        draft = self.tokenizer.encode(request.old + "\n" + FENCE)
        max_tokens = len(draft) + request.max_tokens
        prompt = self._prompt(request, chat, self.window - max_tokens)
        if should_stop():
            raise Cancelled
        end, *others = chat.template.ends
        stop = StopRule(end, max_tokens, self._closed, frozenset(others))
        cache = self.sessions.take(instruction_session(request.session))
        tree = TokenTree.of([draft])
        prefill = cache.prefill(prompt, tree, should_stop)
        core = DecodingCore(self.model, cache.kv, stop, Sampler(), prompt=prompt)
        for step in rewrite_with_drafts(core, [draft], tree, prefill):
            on_step(step)
            if should_stop() and core.finish is None:
                raise Cancelled
        cache.rewind(len(prompt))
        if core.finish == "length":
            raise RequestError(
                f"the model wrote {max_tokens} tokens without coming to an end; choose fewer "
                "lines, or say more precisely what to change"
            )
        return Rewrite(
            new=_without_fence(self.tokenizer.decode(core.tokens), request.old),
            gain=0.0,
            confidence=core.confidence,
            way="instruction",
            forwards=1 + core.forwards,
            tokens=len(core.tokens),
            reused_tokens=prefill.reused,
            ms=(time.perf_counter() - began) * 1000,
        )

    def _prompt(self, request: InstructionRequest, chat: ChatPrompt, room: int) -> list[int]:
        """The conversation's ids; as many lines around the region as fit `room` tokens."""
        context = max(1, min(len(request.prefix) + len(request.suffix), 4 * max(0, room)))
        while context:
            messages, opening = conversation(request, context)
            ids = chat(messages, opening)
            if len(ids) <= room:
                return ids
            shrunk = math.floor(context * 0.7)
            context = shrunk if shrunk > 16 else 0
        messages, opening = conversation(request, 0)
        ids = chat(messages, opening)
        if len(ids) > room:
            raise RequestError(
                f"the lines do not fit this model's window of {self.window} tokens with what "
                "they may become; choose fewer lines"
            )
        return ids

    def _closed(self, ids: Sequence[int]) -> bool:
        """Whether the answer has closed its code fence."""
        return f"\n{FENCE}" in "\n" + self.tokenizer.decode(ids)


def instruction_session(session: str) -> str:
    """The session of a document's edits by instruction; "" stays ""."""
    return session and f"{session}{PART}instruction"


def _without_fence(answer: str, old: str) -> str:
    """The lines before the closing fence."""
    lines = ("\n" + answer).split(f"\n{FENCE}")[0].removeprefix("\n")
    # The region has no newline at its end; a model may put an empty line before the fence.
    return lines if old.endswith("\n") else lines.rstrip("\n")
