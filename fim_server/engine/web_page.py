"""`GET /`: the engine's page, one file without outside resources."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from fim_server.engine.state import EngineState

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.S)


async def page(state: EngineState, http: Request) -> Response:
    """The page holds no data: its script asks the other endpoints."""
    text = page_text()
    headers = {
        "Content-Security-Policy": policy(text),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(text, headers=headers)


@cache
def page_text() -> str:
    return (files("fim_server.engine") / "page.html").read_text(encoding="utf-8")


@cache
def policy(text: str) -> str:
    """A Content-Security-Policy that allows the page's own script and style, known by their hashes,
    and requests to this engine. Texts cannot become markup (Trusted Types)."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return "; ".join(
        (
            "default-src 'none'",
            *(f"{kind}-src {' '.join(found)}" for kind, found in hashes.items()),
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
