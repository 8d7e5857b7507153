"""How servers are reached: directly or through the environment's proxy, and with which TLS.

Loopback addresses and Unix sockets are never reached through a proxy, since a proxy would see the
key and the code of a server on this machine. Other hosts use `HTTP_PROXY`, `HTTPS_PROXY` and
`ALL_PROXY`, in either case, unless `NO_PROXY` lists them. TLS is set up only for https, so that a
broken `SSL_CERT_FILE` does no harm elsewhere.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from fim_server.backends.base import BackendError

if TYPE_CHECKING:
    import httpx2

_DEFAULT_PORTS = {"http": 80, "https": 443}
_IDEOGRAPHIC_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
"""What IDNA reads as dots (RFC 3490, section 3.1)."""
_HOSTS_FILE = frozenset(
    ["ip6-localhost", "ip6-loopback", "localhost.localdomain", "localhost4", "localhost6"]
)
"""Names of this machine in the hosts file of common systems. A key is not sent to them unencrypted,
since another system may ask DNS for them."""
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class Route:
    """How a server is reached: `proxy` is None for a direct connection.

    `variable` names the environment variable that the proxy is from. Messages name it instead of
    the proxy's address, which may hold a password.
    """

    proxy: str | None = None
    variable: str = ""


def no_tls() -> ssl.SSLContext:
    """A TLS context without certificates, for connections that use no TLS: it reads no file."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def server_address(url: str) -> SplitResult:
    """The parts of an http or https address. Raises BackendError without quoting the address.

    The address may hold a user's password, or a secret in its path.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as malformed:
        raise BackendError(f"remoteUrl is not an address ({_reason(malformed)})") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise BackendError("remoteUrl is not an http or https address, such as http://host:port/v1")
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine by definition, without asking DNS."""
    host = _plain(host)
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(host)
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_unspecified


def route_to(parts: SplitResult) -> Route:
    """The route to a server, by the environment (on macOS and Windows also the system's settings).

    Reads the variables only; whether the proxy can be used is found out by `client_for`.
    """
    host = parts.hostname or ""
    if is_loopback(host) or _plain(host) in _HOSTS_FILE:
        return Route()
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    proxies = getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind, "").strip()
    if not proxy or _is_listed(host, port, proxies.get("no", "")) or proxy_bypass(host):
        return Route()
    name = f"{kind}_proxy"
    found = [name for name in (name, name.upper()) if os.environ.get(name)]
    return Route(proxy, found[0] if found else "the system's settings")


def client_for(
    parts: SplitResult, *, base_url: str, headers: dict[str, str], timeout: httpx2.Timeout
) -> httpx2.AsyncClient:
    """A client for one server. Raises BackendError if its proxy or certificates cannot be used."""
    import httpx2

    route = route_to(parts)
    proxy = None if route.proxy is None else _usable(route, parts)
    secure = parts.scheme == "https" or (proxy is not None and proxy.startswith("https:"))
    try:
        return httpx2.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=timeout,
            proxy=proxy,
            verify=_certificates() if secure else no_tls(),
            trust_env=False,  # its reading of the environment would send loopback to the proxy
        )
    except ImportError:
        raise BackendError(
            f"the SOCKS proxy in {route.variable} needs the module socksio: pip install socksio, "
            f"or add {parts.hostname} to NO_PROXY"
        ) from None
    except (ValueError, httpx2.InvalidURL) as unusable:
        if proxy is None:
            raise BackendError(f"remoteUrl is not an address ({_reason(unusable)})") from None
        raise _unusable(route, parts, _reason(unusable)) from None


def socket_transport(path: str) -> httpx2.AsyncHTTPTransport:
    """The transport of a Unix socket: a new connection for each request, no proxy and no TLS."""
    import httpx2

    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.AsyncHTTPTransport(uds=path, limits=limits, verify=no_tls(), trust_env=False)


def socket_client(path: str, timeout: float | None) -> httpx2.Client:
    """A client for a command, of the server on a Unix socket: no proxy and no TLS."""
    import httpx2

    transport = httpx2.HTTPTransport(uds=path, verify=no_tls(), trust_env=False)
    return httpx2.Client(
        transport=transport, base_url="http://engine", timeout=timeout, trust_env=False
    )


def json_content(body: object) -> dict[str, Any]:
    """A JSON body as arguments of a request, with `?` for halves of surrogate pairs.

    A document or its name may hold one, and UTF-8 cannot.
    """
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return {
        "content": text.encode("utf-8", "replace"),
        "headers": {"Content-Type": "application/json"},
    }


def _usable(route: Route, parts: SplitResult) -> str:
    """The proxy's URL, with a scheme. Raises BackendError if it is malformed."""
    proxy = route.proxy or ""
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        address = urlsplit(proxy)
        port = address.port
    except ValueError as malformed:
        raise _unusable(route, parts, _reason(malformed)) from None
    if address.scheme not in _PROXY_SCHEMES:
        raise _unusable(route, parts, f"it is not one of {', '.join(_PROXY_SCHEMES)}")
    if not address.hostname or port == 0 or re.search(r"\s", proxy):
        raise _unusable(route, parts, "it is not an address")
    return proxy


def _unusable(route: Route, parts: SplitResult, why: str) -> BackendError:
    return BackendError(
        f"the proxy in {route.variable} cannot be used ({why}): correct or unset it, or add "
        f"{parts.hostname} to NO_PROXY"
    )


def _certificates() -> ssl.SSLContext:
    """The context for https. Raises BackendError if the environment's certificates are unusable."""
    import httpx2

    try:
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as unusable:  # an ssl.SSLError is an OSError
        names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        what = names[0] if names else "the system's certificates"
        raise BackendError(
            f"the certificates in {what} cannot be read ({_reason(unusable)}): correct or unset it"
        ) from None


def _is_listed(host: str, port: int, no_proxy: str) -> bool:
    """Whether `NO_PROXY` lists a host: `*`, names, domains, addresses, networks, with or without a
    port, separated by commas or blanks (what curl, Go and Python accept between them)."""
    host = _plain(host)
    address = _address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        name, wanted = _without_port(entry)
        if wanted not in (None, port) or not name:
            continue
        if name == "*":
            return True
        if address is not None:
            if _holds(name, address):
                return True
        elif (domain := _plain(name.removeprefix("*").lstrip("."))) and (
            host == domain or host.endswith(f".{domain}")
        ):
            return True
    return False


def _without_port(entry: str) -> tuple[str, int | None]:
    """An entry of `NO_PROXY` as a name or network without brackets, and its port."""
    entry = entry.rpartition("://")[2]
    if match := re.fullmatch(r"\[([^\]]*)\](?::(\d+))?(/\d+)?", entry):
        return match[1] + (match[3] or ""), int(match[2]) if match[2] else None
    name, colon, port = entry.partition(":")
    if colon and port.isdecimal():
        return name, int(port)
    return entry, None


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _plain(host: str) -> str:
    """A host name as it is resolved: in lower case, in ASCII, without a dot at its end."""
    host = host.translate(_IDEOGRAPHIC_DOTS).rstrip(".").lower()
    if host.isascii():
        return host
    import idna

    try:
        return idna.encode(host).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as, None for a name. 127.1 and 0x7f000001 are addresses
    for the system's resolver, too."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _reason(error: Exception) -> str:
    """Why something is unusable, in words that quote nothing of it: it may hold a password."""
    if strerror := getattr(error, "strerror", None):
        return str(strerror)
    text = str(error).lower()
    if "port" in text:
        return "its port is not a number from 1 to 65535"
    return "its brackets do not match" if "ipv6" in text else type(error).__name__
