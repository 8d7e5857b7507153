"""What all remote servers share: HTTP client, time-outs, retries, circuit breaker, API key."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fim_server.backends.answers import message_of, read_answer
from fim_server.backends.base import BackendError, Unsupported
from fim_server.backends.connections import (
    client_for,
    is_loopback,
    json_content,
    route_to,
    server_address,
)
from fim_server.backends.keys import api_key
from fim_server.backends.resilience import CircuitBreaker, Temporary, with_retries

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 30.0
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})


class RemoteServer:
    """A server at `url`. Messages name its host only: the path may hold a secret."""

    def __init__(self, url: str) -> None:
        """Raises BackendError for a malformed address, and for one that would send the key over a
        network unencrypted."""
        url = url.strip()
        self._address = parts = server_address(url)
        self.url = url.rstrip("/")
        self.name = parts.netloc.rpartition("@")[2]
        self.breaker = CircuitBreaker()
        self._key = api_key(url)
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            raise BackendError(
                f"{self.name}: the key has characters that an HTTP header cannot hold; check "
                "FIM_SERVER_API_KEY"
            )
        if self._key and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise BackendError(f"{self.name}: the key is not sent without https")
        self._client: httpx2.AsyncClient | None = None

    async def get(self, path: str) -> Any:
        """The JSON answer to a GET. Raises BackendError."""
        return await with_retries(self.breaker, lambda: self._in_time("GET", path, None))

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[Any, float]:
        """The JSON answer to a POST, and the milliseconds of the attempt that succeeded."""

        async def attempt() -> tuple[Any, float]:
            began = time.perf_counter()
            answer = await self._in_time("POST", path, body)
            return answer, 1000 * (time.perf_counter() - began)

        return await with_retries(self.breaker, attempt)

    def cannot_rewrite(self) -> Unsupported:
        """The error for rewrites, which the foreign APIs do not have."""
        return Unsupported(
            f"{self.name} cannot rewrite lines; that needs the backend 'engine' or 'in_process'"
        )

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    def _by_proxy(self) -> str:
        """The end of a message about a server that is reached through a proxy."""
        route = route_to(self._address)
        return f" through the proxy in {route.variable}" if route.proxy else ""

    def _refused_by_proxy(self, answer: str) -> str:
        """The message about a proxy that answers itself, with a status at the start of `answer`."""
        status = answer[:3] if answer[:3].isdecimal() else ""
        said = f"answers with status {status}" if status else "does not speak its protocol"
        ways = "user and password in its address" if status == "407" else "its address"
        variable = route_to(self._address).variable
        return (
            f"{self.name} cannot be reached: the proxy in {variable} {said}; check {ways}, or add "
            f"{self._address.hostname} to NO_PROXY"
        )

    async def _in_time(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """The answer of one attempt, whole within ANSWER_SECONDS: a stream may never end."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._once(method, path, body)
        except TimeoutError:
            raise Temporary(f"{self.name} does not answer in time{self._by_proxy()}") from None

    async def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        import httpx2

        if self._client is None:
            self._client = client_for(
                self._address,
                base_url=self.url,
                headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
                timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            )
        try:
            content = {} if body is None else json_content(body)
            response = await self._client.request(method, path, **content)
        except httpx2.TimeoutException:
            raise Temporary(f"{self.name} does not answer in time{self._by_proxy()}") from None
        except httpx2.ProxyError as refused:
            raise Temporary(self._refused_by_proxy(str(refused))) from None
        except httpx2.TransportError as broken:
            kind = type(broken).__name__
            raise Temporary(f"{self.name} cannot be reached ({kind}){self._by_proxy()}") from None
        except (httpx2.InvalidURL, UnicodeError):
            raise BackendError(f"remoteUrl: {self.name} is not the name of a host") from None
        except httpx2.RequestError as unusable:
            kind = type(unusable).__name__
            raise BackendError(f"{self.name}: the answer cannot be read ({kind})") from None
        if response.status_code in _TEMPORARY:
            raise Temporary(
                f"{self.name} answers with status {response.status_code}{_message(response)}",
                _retry_after(response),
            )
        if response.status_code == 407:
            raise BackendError(self._refused_by_proxy("407"))
        if response.status_code in (401, 403):
            raise BackendError(
                f"{self.name} refuses the key: set FIM_SERVER_API_KEY and "
                f"FIM_SERVER_API_HOST={self.name}, or store it with "
                f"`keyring set fim-server {self.name}`{self._by_proxy()}"
            )
        if not response.is_success:
            raise BackendError(
                f"{self.name} refuses {method} {path} with status {response.status_code}"
                f"{self._by_proxy()}{_message(response)}"
            )
        return read_answer(response.content, self.name, path)


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds of a `Retry-After` header; None without one, or where it holds a date."""
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, float(response.headers["retry-after"]))
    return None


def _message(response: httpx2.Response) -> str:
    """The first line of an error in the body, as a suffix of a message; "" if there is none."""
    with contextlib.suppress(ValueError, RecursionError):
        return message_of(response.json())
    return ""


def cut_lines(text: str, max_lines: int | None) -> str:
    """The first `max_lines` lines, counted from the first that is not blank; None keeps all."""
    if max_lines is None:
        return text
    blank = len(text) - len(text.lstrip())
    return text[:blank] + "\n".join(text[blank:].split("\n")[:max_lines])
