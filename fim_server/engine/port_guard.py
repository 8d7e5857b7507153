"""Who may use a port of 127.0.0.1: programs of this machine, with the key if one is set.

Any web page that is open in a browser can send requests to a port of this machine. Three rules keep
it from using the engine:

* The Host header names this machine. A page whose own name was made to point to 127.0.0.1 (DNS
  rebinding) sends its own name there.
* Requests of other origins are refused. Browsers name the origin of every request that a page makes
  to another site (Fetch standard, `Origin`; Fetch metadata, `Sec-Fetch-Site`).
* No answer has CORS headers, and none may be shown in a frame.
"""

from __future__ import annotations

import hmac
import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fim_server.engine.bodies import HttpError
from fim_server.engine.state import Refusals

CONTAINER_NAMES = ("host.docker.internal", "host.containers.internal")
"""How containers call the machine that they run on; no server on the internet has such a name."""

PAGE = "/"
HEALTH = ("/health", "/v1/health")

_FOR_EVERYONE = "for_everyone"
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)


class PortGuard:
    """Middleware that answers 403 to web pages of other sites, and 401 to requests without `key`.

    With the key "" none is asked for, and adapters are not served (`is_for_everyone`). Without the
    key, the page is served, which holds nothing, and of the health report the status alone.
    """

    def __init__(self, app: ASGIApp, key: str, refusals: Refusals) -> None:
        self._app, self._key, self._refusals = app, key.encode(), refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._key:
            scope[_FOR_EVERYONE] = True
        headers = Headers(scope=scope)
        refusal = _foreign(scope, headers) or self._without_key(scope, headers)
        if refusal is None:
            await self._app(scope, receive, send_guarded)
        else:
            self._refusals.add(str(refusal))
            await refusal.response()(scope, receive, send_guarded)

    def _without_key(self, scope: Scope, headers: Headers) -> HttpError | None:
        """The refusal of a request without the right key."""
        given = _keys(headers)
        if not self._key or any(hmac.compare_digest(key, self._key) for key in given):
            return None
        if scope["method"] in ("GET", "HEAD") and scope["path"] in (PAGE, *HEALTH) and not given:
            scope["without_key"] = True
            return None
        return HttpError(
            401,
            f"the API key is {'wrong' if given else 'missing'}: clients must send the key that the "
            "engine was started with (--api-key or FIM_ENGINE_API_KEY) as `Authorization: Bearer "
            "KEY`; `fim-server engine --print-config CLIENT` prints a client's settings with it",
            "authentication_error",
        )


def is_for_everyone(scope: Scope) -> bool:
    """Whether every user of this machine can send a request such as this one."""
    return _FOR_EVERYONE in scope


def is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine."""
    if (match := _HOST.fullmatch(host)) is None:
        return False
    name = match[1].strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost") or name in CONTAINER_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _foreign(scope: Scope, headers: Headers) -> HttpError | None:
    """The refusal of a request that a web page of another site makes."""
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not is_this_machine(hosts[0]):
        return HttpError(
            403,
            f"the Host header is {_shown(', '.join(hosts))}, and must name this machine: use the "
            "address http://127.0.0.1 with the engine's port",
            "forbidden",
        )
    own = f"http://{hosts[0]}".lower()
    for origin in headers.getlist("origin"):
        if origin.lower() != own:
            return _other_site(f"the web page {_shown(origin)}")
    sites = headers.getlist("sec-fetch-site")
    followed_a_link = (
        scope["method"] == "GET"
        and scope["path"] == PAGE
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    if all(site in ("none", "same-origin") for site in sites) or followed_a_link:
        return None
    return _other_site("a web page of another site")


def _other_site(who: str) -> HttpError:
    return HttpError(
        403,
        f"{who} may not use the engine, which serves its own page and programs outside of "
        "browsers alone; in a browser use the page at the engine's address",
        "forbidden",
    )


def _keys(headers: Headers) -> list[bytes]:
    """The keys of a request: OpenAI's and llama.cpp's header, and those of Azure and Anthropic."""
    bearers = (value.partition(" ") for value in headers.getlist("authorization"))
    given = [key.strip() for scheme, _, key in bearers if scheme.lower() == "bearer"]
    given += [key for name in ("x-api-key", "api-key") for key in headers.getlist(name)]
    return [key.encode("latin-1") for key in given if key]


def _shown(text: str) -> str:
    """A header's value for a message: short, printable."""
    return repr(text[:80]) if text else "missing"
