"""llama.cpp's side of `bench peers`: its server, from the package `xllamacpp`, in a process.

A message `{"ids": …, "max_tokens": …, "one_line": …, "cached": …, "no_end": …}` completes a prompt
of token ids. The time is the server's own, `timings` of `/completion`: its HTTP, JSON and
tokenizer do not count.
"""

from __future__ import annotations

import http.client
import json
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

from fim_server.bench.peer_sides import Channel

PACKAGE = "xllamacpp"
MISSING = (
    f"llama.cpp is measured through the package {PACKAGE}, which is not installed; "
    f"pip install {PACKAGE}"
)
SPECULATION = "COMMON_SPECULATIVE_TYPE_"
_TIMEOUT_S = 600.0


def serve(channel: Channel) -> None:
    messages = channel.messages()
    options = next(messages)
    try:
        import xllamacpp
    except ImportError:
        channel.fail(MISSING)
        return
    params = xllamacpp.CommonParams()
    params.model.path = options["path"]
    params.n_ctx = options["context"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["threads"]
    params.verbosity = 0
    # Keeps earlier prompts besides the slot's own; no request here returns to one.
    params.cache_ram_mib = 0
    params.fit_params = False
    if options["speculation"]:
        kind = getattr(xllamacpp.common_speculative_type, SPECULATION + options["speculation"])
        params.speculative.types = [kind]
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError) as problem:
        channel.fail(f"llama.cpp cannot load {options['path']}: {problem}")
        return
    channel.send(_description(xllamacpp, params, options))
    for message in messages:
        try:
            channel.send(_complete(server.listening_address, message))
        except (OSError, http.client.HTTPException, KeyError, ValueError) as problem:
            channel.fail(f"llama.cpp failed on a request: {problem!r}")


def _description(xllamacpp: Any, params: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "package": f"{PACKAGE} {metadata.version(PACKAGE)}",
        "build": {name: str(value) for name, value in dict(xllamacpp.BUILD_INFO).items()},
        "system_info": " ".join(xllamacpp.get_system_info().split()),
        "options": {
            "threads": options["threads"],
            "n_ctx": params.n_ctx,
            "n_batch": params.n_batch,
            "n_ubatch": params.n_ubatch,
            "flash_attention": params.flash_attn_type.name.rpartition("_")[2].lower(),
            "cache_type_k": params.cache_type_k.name.rpartition("_")[2].lower(),
            "cache_type_v": params.cache_type_v.name.rpartition("_")[2].lower(),
            "speculation": options["speculation"] or "none",
        },
    }


def _post(address: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The server's answer, over a connection of its own: idle ones are closed."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(
        parts.hostname or "127.0.0.1", parts.port, timeout=_TIMEOUT_S
    )
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise ValueError(f"HTTP {response.status}: {answer.get('error')}")
    return answer


def _complete(address: str, message: dict[str, Any]) -> dict[str, Any]:
    answer = _post(
        address,
        "/completion",
        {
            "prompt": message["ids"],
            "n_predict": message["max_tokens"],
            "temperature": 0,
            "stop": ["\n"] if message["one_line"] else [],
            "cache_prompt": message["cached"],
            "ignore_eos": message["no_end"],
            "return_tokens": True,
        },
    )
    timings = answer["timings"]
    return {
        "ms": timings["prompt_ms"] + timings["predicted_ms"],
        "text": answer["content"],
        "ids": answer["tokens"],
        "tokens": timings["predicted_n"],
        "prompt_tokens": timings["prompt_n"],
        "reused_tokens": timings["cache_n"],
        "drafted": timings.get("draft_n", 0),
        "accepted": timings.get("draft_n_accepted", 0),
        "mode": "",
    }


if __name__ == "__main__":
    serve(Channel())
