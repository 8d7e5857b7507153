"""What is loaded and how busy it is: `GET /health`, `/v1/models`, llama.cpp's `/props` and
`/slots`, and `/v1/status`, which the engine's page shows."""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from typing import Any

from fim_model.infiller import Infiller
from fim_model.requests import MAX_TOKENS
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fim_server.engine.bodies import HttpError
from fim_server.engine.llama_cpp_api import DEFAULT_TEMPERATURE, DEFAULT_TOP_P
from fim_server.engine.native_api import check_loaded
from fim_server.engine.port_guard import is_for_everyone
from fim_server.engine.state import EngineState
from fim_server.engine.wire import PROTOCOL

RANDOM_SEED = 2**32 - 1
"""llama.cpp's seed for another one with every request."""


async def health(state: EngineState, http: Request) -> Response:
    """Status and loading progress; 503, as llama.cpp's server, until the model is loaded.

    Without the key of the port, the status alone.
    """
    body: dict[str, Any] = {"status": state.status}
    if state.status == "loading":
        body["error"] = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
    if "without_key" not in http.scope:
        body |= {
            "version": version("fim-server"),
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "model": state.model,
            "doing": state.doing,
            "share": state.share,
            "problem": state.problem,
            "refused": state.refusals.report(),
        }
    return JSONResponse(body, 200 if state.status == "ok" else 503)


async def models(state: EngineState, http: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_model(state)]})


async def model(state: EngineState, http: Request) -> Response:
    """The loaded model, by its name."""
    name = http.path_params["name"].rstrip("/")
    if not name:  # an address with a slash at its end
        return await models(state, http)
    if name != state.model:
        raise HttpError(
            404, f"the model {name!r} is not loaded; this engine serves {state.model!r}"
        )
    return JSONResponse(_model(state))


def _model(state: EngineState) -> dict[str, Any]:
    """`meta`, by which clients recognise llama.cpp's server, is null until the model is loaded."""
    return {
        "id": state.model,
        "object": "model",
        "created": int(state.started),
        "owned_by": "fim-server",
        "meta": _meta(state.backend.infiller) if state.status == "ok" else None,
    }


def _meta(infiller: Infiller) -> dict[str, int]:
    from fim_model.loading.headers import parameter_count

    config = infiller.model.config
    return {
        "n_vocab": config.vocab_size,
        "n_ctx": infiller.window,
        "n_ctx_train": config.max_position_embeddings,
        "n_embd": config.hidden_size,
        "n_params": parameter_count(config),
    }


async def props(state: EngineState, http: Request) -> Response:
    check_loaded(state)
    infiller = state.backend.infiller
    chat = infiller.chat.template if infiller.chat else None
    begin = infiller.model.config.bos_token_id
    name = infiller.tokenizer.token_name
    body = {
        "default_generation_settings": {
            **_slot(infiller, 0),
            "id_task": -1,
            "is_processing": False,
        },
        "total_slots": state.backend.scheduler.at_once,
        "model_alias": state.model,
        # Never the path, which reveals the user's folders.
        "model_path": state.model,
        "chat_template": chat.source if chat else "",
        "bos_token": chat.bos if chat else (name(begin) if begin is not None else None) or "",
        "eos_token": chat.eos if chat else "",
        "modalities": {"vision": False, "audio": False},
        "build_info": f"fim-server {version('fim-server')}",
        "is_sleeping": False,
        "modes": list(infiller.modes),
    }
    return JSONResponse(body)


async def slots(state: EngineState, http: Request) -> Response:
    """The places for requests that run side by side; no text of any request.

    With `fail_on_no_slot`, 503 if all of them are taken.
    """
    check_loaded(state)
    scheduler, infiller = state.backend.scheduler, state.backend.infiller
    tasks = scheduler.tasks
    if http.query_params.get("fail_on_no_slot") and len(tasks) >= scheduler.at_once:
        raise HttpError(503, "no slot available", "unavailable_error")
    places = [*tasks, *[-1] * scheduler.at_once][: scheduler.at_once]
    return JSONResponse(
        [
            {**_slot(infiller, number), "id_task": task, "is_processing": task >= 0}
            for number, task in enumerate(places)
        ]
    )


def _slot(infiller: Infiller, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "n_ctx": infiller.window,
        "speculative": any(mode.endswith("_speculation") for mode in infiller.modes),
        "params": {
            "n_predict": MAX_TOKENS,
            "max_tokens": MAX_TOKENS,
            "seed": RANDOM_SEED,
            "temperature": DEFAULT_TEMPERATURE,
            "top_p": DEFAULT_TOP_P,
            "stop": [],
            "stream": False,
            "samplers": ["top_p", "temperature"],
        },
    }


async def status(state: EngineState, http: Request) -> Response:
    """Everything that the engine's page shows. `suggestions` are the counts that editors on this
    machine report, of all models."""
    scheduler = state.backend.scheduler
    sessions, bytes_, evicted = state.backend.sessions()
    counted = state.suggestions
    body: dict[str, Any] = {
        "model": state.model,
        "status": state.status,
        "doing": state.doing,
        "share": state.share,
        "problem": state.problem,
        "version": version("fim-server"),
        "pid": os.getpid(),
        "uptime_seconds": round(time.time() - state.started),
        "loaded": _loaded(state.backend.infiller) if state.status == "ok" else None,
        "sessions": {"count": sessions, "bytes": bytes_, "evicted": evicted},
        "queue": {
            "at_once": scheduler.at_once,
            "running": scheduler.running,
            "waiting": scheduler.waiting,
        },
        **state.metrics.figures(),
        "suggestions": dict(await run_in_threadpool(counted)) if counted else None,
        "refused": state.refusals.report(),
    }
    if body["loaded"] is not None and not is_for_everyone(http.scope):
        body["loaded"]["adapter_problems"] = state.backend.infiller.adapter_problems
    return JSONResponse(body)


def _loaded(infiller: Infiller) -> dict[str, Any]:
    """The model and how it is run. `auto` is the mode that is used where none is asked for."""
    import torch
    from fim_model.decoding.auto import resolve_mode
    from fim_model.requests import AUTO

    config, device = infiller.model.config, infiller.model.device
    return {
        **_meta(infiller),
        "family": config.model_type,
        "modes": list(infiller.modes),
        "auto": resolve_mode(AUTO, config, infiller.options, infiller.auto)[0],
        "chat": infiller.chat is not None,
        "adapters": infiller.adapters_in_use,
        "device": str(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
    }
