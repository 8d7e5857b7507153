"""llama.cpp's server through its own `/infill`, which puts in the model's FIM markers."""

from __future__ import annotations

from dataclasses import replace

from fim_model.requests import Completion, CompletionRequest, Rewrite, RewriteRequest

from fim_server.backends.answers import field, infilled, number, stats_of
from fim_server.backends.base import Progress
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
        item = infilled(answer, self._server.name)
        item = replace(item, text=cut_lines(item.text, request.max_lines))
        timings, reused = field(answer, "timings"), number(field(answer, "tokens_cached")) or 0
        written, prefilled = field(timings, "predicted_n"), number(field(timings, "prompt_n"))
        read = None if prefilled is None else prefilled + reused
        return Completion([item] if item.text else [], stats_of(written, read, reused, ms))

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        raise self._server.cannot_rewrite()

    async def forget(self, session: str) -> None:
        """No-op: the server manages its own cache."""

    async def close(self) -> None:
        await self._server.close()
