"""llama.cpp's server through its own `/infill`, which puts in the model's FIM markers."""

from __future__ import annotations

import contextlib
from typing import Any

from fim_model.requests import (
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    Finish,
    Rewrite,
    RewriteRequest,
)

from fim_server.backends.base import BackendError, Progress
from fim_server.backends.openai import UNKNOWN_CONFIDENCE
from fim_server.backends.remote import RemoteServer, cut_lines


class LlamaCppBackend:
    """Implements Backend over `POST {url}/infill`, with one item a request."""

    def __init__(self, url: str) -> None:
        self._server = RemoteServer(url)

    async def start(self, progress: Progress) -> None:
        progress(f"Checking {self._server.name}", 0.5)
        await self._server.get("/health")

    async def complete(self, request: CompletionRequest) -> Completion:
        body = {
            "input_prefix": request.prefix,
            "input_suffix": request.suffix,
            "input_extra": [
                {"filename": snippet.path, "text": snippet.text} for snippet in request.snippets
            ],
            "n_predict": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "cache_prompt": True,
            "stream": False,
        }
        answer, ms = await self._server.post("/infill", body)
        try:
            text = cut_lines(answer["content"], request.max_lines)
        except (KeyError, TypeError, AttributeError):
            raise BackendError(f"{self._server.name}: the answer lacks the field content") from None
        finish: Finish = "length" if answer.get("stop_type") == "limit" else "eom"
        item = CompletionItem(text, UNKNOWN_CONFIDENCE, finish)
        return Completion([item] if text else [], _stats(answer, ms))

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        raise self._server.cannot_rewrite()

    async def forget(self, session: str) -> None:
        """No-op: the server manages its own cache."""

    async def close(self) -> None:
        await self._server.close()


def _stats(answer: Any, ms: float) -> CompletionStats | None:
    with contextlib.suppress(KeyError, TypeError):
        timings = answer["timings"]
        return CompletionStats(
            mode="remote",
            forwards=0,
            tokens=int(timings["predicted_n"]),
            tokens_per_forward=0.0,
            prefill_tokens=int(timings["prompt_n"]),
            reused_tokens=int(answer.get("tokens_cached", 0)),
            ms=ms,
        )
    return None
