"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp's server, or another machine's engine."""

from __future__ import annotations

import contextlib
from typing import Any

from fim_model.requests import (
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    Rewrite,
    RewriteRequest,
)

from fim_server.backends.base import BackendError, Progress
from fim_server.backends.remote import RemoteServer, cut_lines
from fim_server.backends.templates import TEMPLATES, FimTemplate

UNKNOWN_CONFIDENCE = 1.0
"""These servers are not asked for probabilities, so their items always pass the gate."""


class OpenAIBackend:
    """Implements Backend over `POST {url}/completions`; `url` ends in `/v1`.

    `model` None takes the first that the server lists. `template` names an entry of TEMPLATES; None
    sends the suffix as a field and leaves the prompt to the server. Sessions and modes do not apply
    here. Cancelling closes the connection, which stops the work on the server.
    """

    def __init__(self, url: str, model: str | None = None, template: str | None = None) -> None:
        self._server = RemoteServer(url)
        self._model = model
        self._template: FimTemplate | None = None
        if template is not None:
            if template not in TEMPLATES:
                raise BackendError(
                    f"remoteTemplate {template!r} is unknown; known are {', '.join(TEMPLATES)}"
                )
            self._template = TEMPLATES[template]

    async def start(self, progress: Progress) -> None:
        """Ask for the model if none is named; a named one need not be listed by the server."""
        if self._model is not None:
            return
        progress(f"Asking {self._server.name} for its models", 0.5)
        answer = await self._server.get("/models")
        try:
            models = [str(model["id"]) for model in answer["data"]]
        except (KeyError, TypeError):
            raise BackendError(f"{self._server.name} has no list of models") from None
        if not models:
            raise BackendError(f"{self._server.name} serves no model")
        self._model = models[0]

    async def complete(self, request: CompletionRequest) -> Completion:
        answer, ms = await self._server.post("/completions", self._body(request))
        try:
            items = [
                CompletionItem(
                    cut_lines(choice["text"], request.max_lines),
                    UNKNOWN_CONFIDENCE,
                    "length" if choice.get("finish_reason") == "length" else "eom",
                )
                for choice in answer["choices"]
            ]
        except (KeyError, TypeError, AttributeError):
            raise BackendError(f"{self._server.name}: the answer lacks the field choices") from None
        return Completion(items, _stats(answer, request, ms))

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        raise self._server.cannot_rewrite()

    async def forget(self, session: str) -> None:
        """No-op: the server manages its own cache."""

    async def close(self) -> None:
        await self._server.close()

    def _body(self, request: CompletionRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "n": request.alternatives if request.temperature else 1,
        }
        stops = ["\n"] if request.max_lines == 1 and not _ends_with_line(request) else []
        if self._template is None:
            body |= {"prompt": request.prefix, "suffix": request.suffix}
        else:
            body["prompt"] = self._template.fill(request.prefix, request.suffix)
            stops += self._template.stops
        return body | ({"stop": stops[:4]} if stops else {})


def _ends_with_line(request: CompletionRequest) -> bool:
    """Whether the cursor is at the start of a line, so that the answer may begin with a newline."""
    return request.prefix.endswith("\n") or not request.prefix


def _stats(answer: Any, request: CompletionRequest, ms: float) -> CompletionStats | None:
    """The token counts that the server reports; it does not report forwards."""
    with contextlib.suppress(KeyError, TypeError):
        usage = answer["usage"]
        cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        return CompletionStats(
            mode="remote",
            forwards=0,
            tokens=int(usage["completion_tokens"]),
            tokens_per_forward=0.0,
            prefill_tokens=int(usage["prompt_tokens"]) - cached,
            reused_tokens=cached,
            ms=ms,
        )
    return None
