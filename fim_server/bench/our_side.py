"""Our side of `bench peers`: the engine's backend in a process of its own.

Messages: `{"request": …}` completes, `{"prompt": …}` answers the token ids of a request and
the text that its completion spells again, `{"forget": …}` drops a session's cache.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fim_server.backends.base import BackendError
from fim_server.backends.in_process import InProcessBackend
from fim_server.bench.peer_sides import Channel
from fim_server.engine.wire import request_from_json


async def serve(channel: Channel) -> None:
    messages = channel.messages()
    options = next(messages)
    backend = InProcessBackend(options["model"], options["threads"])
    try:
        await backend.start(lambda what, share: None)
    except BackendError as problem:
        channel.fail(str(problem))
        return
    channel.send({"weights": backend.infiller.products})
    for message in messages:
        try:
            channel.send(await _answer(backend, message))
        except (BackendError, ValueError) as problem:
            channel.fail(str(problem))
    await backend.close()


async def _answer(backend: InProcessBackend, message: dict[str, Any]) -> dict[str, Any]:
    if "forget" in message:
        await backend.forget(message["forget"])
        return {}
    if "prompt" in message:
        ids, spelled = backend.prompt(request_from_json(message["prompt"]))
        return {"ids": ids, "spelled": spelled}
    request = request_from_json(message["request"])
    began = time.perf_counter()
    completion = await backend.complete(request)
    ms = 1000 * (time.perf_counter() - began)
    stats = completion.stats
    assert stats is not None  # this backend always measures
    return {
        "ms": ms,
        "text": completion.items[0].text if completion.items else "",
        "tokens": stats.tokens,
        "prompt_tokens": stats.prefill_tokens,
        "reused_tokens": stats.reused_tokens,
        "mode": stats.mode,
    }


if __name__ == "__main__":
    asyncio.run(serve(Channel()))
