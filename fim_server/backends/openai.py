"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp's server, or another machine's engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fim_model.requests import Completion, CompletionRequest, Rewrite, RewriteRequest

from fim_server.backends import typed_tail
from fim_server.backends.answers import field, items_of, models_of, stats_of
from fim_server.backends.base import BackendError, Progress
from fim_server.backends.remote import RemoteServer, cut_lines
from fim_server.backends.templates import TEMPLATES, FimTemplate


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
        self._model = models_of(answer, self._server.name)[0]

    async def complete(self, request: CompletionRequest) -> Completion:
        heals = self._template is not None and self._template.joined
        prefix, typed = typed_tail.split(request.prefix) if heals else (request.prefix, "")
        answer, ms = await self._server.post("/completions", self._body(request, prefix, typed))
        items = [
            replace(item, text=cut_lines(item.text.removeprefix(typed), request.max_lines))
            for item in items_of(answer, self._server.name)
            if item.text.startswith(typed)  # or the server cannot heal
        ]
        usage = field(answer, "usage")
        cached = field(usage, "prompt_tokens_details", "cached_tokens")
        written, read = field(usage, "completion_tokens"), field(usage, "prompt_tokens")
        return Completion(items, stats_of(written, read, cached, ms))

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        raise self._server.cannot_rewrite()

    async def forget(self, session: str) -> None:
        """No-op: the server manages its own cache."""

    async def close(self) -> None:
        await self._server.close()

    def _body(self, request: CompletionRequest, prefix: str, typed: str) -> dict[str, Any]:
        """The request for what follows `prefix` and begins with `typed`."""
        one_line = request.max_lines == 1 and not _ends_with_line(request)
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "n": request.alternatives if request.temperature else 1,
        }
        stops = ["\n"] if one_line and not typed else []
        if self._template is None:
            body |= {"prompt": request.prefix, "suffix": request.suffix}
        else:
            body["prompt"] = self._template.fill(prefix, request.suffix)
            stops += self._template.stops
        if typed:
            body["max_tokens"] += len(typed) // 2 + 1
            body |= typed_tail.constraint(typed, one_line=one_line)
        return body | ({"stop": stops[:4]} if stops else {})


def _ends_with_line(request: CompletionRequest) -> bool:
    """Whether the cursor is at the start of a line, so that the answer may begin with a newline."""
    return request.prefix.endswith("\n") or not request.prefix
