"""Ways to a server: URLs, proxies of the environment, cookies that belong to a host, and connections.

Connections are kept per event loop (`Pool`) and per `Route`, each on a stack of those that are free. httpx's own
pool is quadratic in the connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
import logging
import os
import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigError, MissingExtraError, shorten
from .secret import Secret

if TYPE_CHECKING:
    import httpx

KEEPALIVE_S = 60.0
MAX_IDLE = 512
_CLOSING_S = 0.2

_PORTS = {"http": 80, "https": 443}
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One cookie, sent only to its own domain and that domain's subdomains, and only over TLS when `secure`."""

    domain: str
    name: str
    value: Secret
    path: str = "/"
    secure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What requests must have in common to share a connection."""

    scheme: str
    host: str
    port: int
    proxy: Secret | None
    verify: bool
    impersonate: str | None


def target(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL.

    Args:
        url: An absolute http or https URL.

    Returns:
        Scheme and host in lower case, and the port.

    Raises:
        ConfigError: It is no such URL. The error does not show user name or password.
    """
    parts = _split(url)
    if parts is None:
        raise ConfigError(f"{without_password(url)!r} is not a URL: check its host and port.")
    if parts.scheme not in _PORTS:
        raise ConfigError(f"{without_password(url)!r} must begin with http:// or https://.")
    if parts.username is not None:
        raise ConfigError("The base URL holds a user name or password. Keys belong in the environment.")
    if not parts.hostname or any(char <= " " or char == "\x7f" for char in url):
        raise ConfigError(f"{without_password(url)!r} names no host that can be called.")
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None when it is none."""
    try:
        parts = urlsplit(url)
        return None if parts.port == 0 else parts
    except ValueError:
        return None


def without_password(url: str) -> str:
    """A URL for a message: short, without user name, password, query and fragment."""
    head, found, tail = url.split("?")[0].split("#")[0].rpartition("@")
    scheme = head.split("://")[0] + "://" if found and "://" in head else ""
    return shorten(scheme + tail, 120)


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Secret | None:
    """The proxy that the environment names for a host.

    Lower-case names win over upper-case ones, as in curl. This machine's own addresses never go through one: a
    local model server would otherwise be asked for at the proxy.

    Args:
        scheme: ``"http"`` or ``"https"``.
        host: Host name or address, in lower case.
        port: The port.
        environ: The environment.

    Returns:
        The URL of the proxy, or None.

    Raises:
        ConfigError: The environment names a proxy of an unknown kind.
    """
    if _is_loopback(host) or _is_excepted(host, port, _read(environ, "no_proxy")):
        return None
    for name in (f"{scheme}_proxy", "all_proxy"):
        if _read(environ, name):
            return checked_proxy(Secret(_read(environ, name)), name.upper())
    return None


def checked_proxy(proxy: Secret, source: str) -> Secret:
    """The URL of a proxy, completed and checked.

    Args:
        proxy: URL or ``host:port``; ``socks://`` is taken for ``socks5://``.
        source: Where it was read, for the error.

    Returns:
        The whole URL.

    Raises:
        ConfigError: It is no URL of a proxy. The error does not show it.
    """
    if "://" not in proxy.reveal():
        proxy = Secret(f"http://{proxy.reveal()}")
    elif proxy.reveal().startswith("socks://"):
        proxy = Secret(proxy.reveal().replace("socks://", "socks5://", 1))
    if not _is_proxy(_split(proxy.reveal())):
        raise ConfigError(
            f"The proxy in {source} is not a URL that can be used. "
            f"It must begin with {', '.join(scheme + '://' for scheme in _PROXY_SCHEMES)}, and name a host."
        )
    return proxy


def _is_proxy(parts: SplitResult | None) -> bool:
    """Whether these parts make the URL of a proxy."""
    return parts is not None and parts.scheme in _PROXY_SCHEMES and bool(parts.hostname)


def proxy_name(proxy: Secret) -> str:
    """``scheme://host:port`` of a proxy, for messages."""
    return without_password(proxy.reveal()).rstrip("/")


def _read(environ: Mapping[str, str], name: str) -> str:
    """A variable by its lower-case or upper-case name."""
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The host as an address; None when it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    address = _address(host)
    if address is not None:
        return address.is_loopback
    return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host: ``*``, a domain, an address, a network, each with a port or without."""
    address = _address(host)
    for entry in filter(None, (part.strip().lower() for part in no_proxy.split(","))):
        if entry == "*":
            return True
        if address is not None and _contains(entry, address):
            return True
        name, colon, number = entry.rpartition(":")
        if not colon or not number.isdigit() or _address(entry) is not None:
            name, number = entry, ""
        if number and int(number) != port:
            continue
        domain = name.strip("[]").removeprefix("*").strip(".")
        if host.rstrip(".") == domain or (address is None and host.rstrip(".").endswith("." + domain)):
            return True
    return False


def _contains(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an entry of NO_PROXY is a network with this address in it."""
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False


def cookie_header(cookies: Iterable[Cookie], url: str) -> str:
    """The Cookie header for a URL; empty when no cookie belongs there.

    Args:
        cookies: Cookies to choose from.
        url: Where the request goes.
    """
    parts = urlsplit(url)
    return "; ".join(f"{cookie.name}={cookie.value.reveal()}" for cookie in cookies if _belongs(cookie, parts))


def _belongs(cookie: Cookie, parts: SplitResult) -> bool:
    """Whether a cookie goes with a request to this URL.

    Source: RFC 6265, sections 5.1.3, 5.1.4 and 5.4.
    """
    host = (parts.hostname or "").rstrip(".")
    domain = cookie.domain.strip(".").lower()
    # A name below the domain; never below an address, nor below a top-level domain, which is nobody's own.
    is_below = host.endswith(f".{domain}") and "." in domain and _address(host) is None
    path, prefix = parts.path or "/", cookie.path if cookie.path.startswith("/") else "/"
    is_in_path = path == prefix or path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
    return (
        bool(domain) and (host == domain or is_below) and is_in_path and (parts.scheme == "https" or not cookie.secure)
    )


# --- connections


class Pool:
    """The connections of one event loop: per route a stack of those that are free."""

    def __init__(self, make: Callable[[Route], tuple[httpx.AsyncBaseTransport, bool]]) -> None:
        """Begin empty; `make` opens a way to the server and says whether it carries many requests at once."""
        self.pid = os.getpid()
        self.is_closed = False
        self._make = make
        self._free: dict[Route, deque[tuple[float, httpx.AsyncBaseTransport]]] = {}
        self._shared: dict[Route, httpx.AsyncBaseTransport] = {}
        self._all: set[httpx.AsyncBaseTransport] = set()
        self._in_use = 0
        self._keeper = self._keep()

    @property
    def is_quiet(self) -> bool:
        """Whether no request is under way."""
        return self._in_use == 0

    async def begin(self) -> None:
        """Have the loop close this pool when it ends: it closes the asynchronous generators that it has begun."""
        await anext(self._keeper)

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close_all()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._keeper.aclose()

    async def _close_all(self) -> None:
        self.is_closed = True
        self._free.clear()
        self._shared.clear()
        while self._all:
            await close_quietly(self._all.pop().aclose())

    def take(self, route: Route) -> httpx.AsyncBaseTransport:
        """The connection that was used last, or a new one. `give_back` or `drop` follows in every case."""
        transport = self._found(route)
        self._in_use += 1
        return transport

    def _found(self, route: Route) -> httpx.AsyncBaseTransport:
        if route in self._shared:
            return self._shared[route]
        free = self._free.get(route)
        if free:
            return free.pop()[1]
        transport, is_shared = self._make(route)
        self._all.add(transport)
        if is_shared:
            self._shared[route] = transport
        return transport

    async def give_back(self, route: Route, transport: httpx.AsyncBaseTransport) -> None:
        """Keep the connection for the next request; close those that nobody wanted for long."""
        self._in_use -= 1
        if route in self._shared:
            return
        if self.is_closed or _has_surplus(transport):
            await self._close(transport)
            return
        now = time.monotonic()
        free = self._free.setdefault(route, deque())
        free.append((now, transport))
        while free and (len(free) > MAX_IDLE or free[0][0] < now - KEEPALIVE_S):
            await self._close(free.popleft()[1])

    async def drop(self, route: Route, transport: httpx.AsyncBaseTransport) -> None:
        """Close a connection that cannot be used again."""
        self._in_use -= 1
        if route not in self._shared:
            await self._close(transport)

    async def _close(self, transport: httpx.AsyncBaseTransport) -> None:
        await close_quietly(transport.aclose())
        self._all.discard(transport)  # after it: what an interrupt leaves open is closed with the pool


def _has_surplus(transport: Any) -> bool:
    """Whether more has come than the answer: httpcore would take the rest for the answer to the next request."""
    connections = getattr(getattr(transport, "_pool", None), "connections", ())
    for connection in connections:
        while connection is not None:
            if (parser := getattr(connection, "_h11_state", None)) is not None and parser.trailing_data[0]:
                return True
            connection = getattr(connection, "_connection", None)
    return False


async def close_quietly(closing: Awaitable[None]) -> None:
    """Close, whatever the other side has done to the connection; curl would wait for the other side's end."""
    try:
        async with asyncio.timeout(_CLOSING_S):
            await closing
    except Exception:
        return  # closed is closed


# --- ways to the server


def single_connection(route: Route, context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """A transport of httpx's own, for one connection."""
    import httpx

    # At DEBUG httpcore logs the user name and password for a SOCKS proxy. A filter is there once, however often added.
    logging.getLogger("httpcore.socks").addFilter(_names_no_password)
    transport: httpx.AsyncBaseTransport | None = None
    try:
        transport = httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_S),
            proxy=None
            if route.proxy is None
            else httpx.Proxy(
                route.proxy.reveal(),
                ssl_context=context if route.proxy.reveal().startswith("https:") else None,
            ),
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        pass  # its text would show the proxy
    if transport is None:
        raise ConfigError("The proxy cannot be used: check its URL, and that the package socksio is installed.")
    return transport


def _names_no_password(record: logging.LogRecord) -> bool:
    """Whether a line of httpcore's log is free of the proxy's password."""
    return "auth=" not in record.getMessage()


def fast_connections(context: ssl.SSLContext) -> httpx.AsyncBaseTransport | None:
    """A transport over aiohttp's connections; None when it is not installed."""
    try:
        import aiohttp
        from httpx_aiohttp import AiohttpTransport
    except ImportError:
        return None

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=KEEPALIVE_S)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
        )

    transport: httpx.AsyncBaseTransport = AiohttpTransport(verify=context, trust_env=False, client=session)
    return transport


def browser_connections(route: Route) -> httpx.AsyncBaseTransport:
    """A transport over curl with a browser's TLS fingerprint."""
    import httpx

    curl: Any = None
    with contextlib.suppress(ImportError):
        curl = importlib.import_module("httpx_curl_cffi")
    if curl is None:
        raise MissingExtraError(
            "impersonate needs a package that is not installed: pip install 'aichat-magic[impersonate]'"
        )
    transport: httpx.AsyncBaseTransport = curl.AsyncCurlTransport(
        impersonate=route.impersonate,
        default_headers=True,
        verify=route.verify,
        max_connections=64,
        proxy=None if route.proxy is None else httpx.Proxy(route.proxy.reveal()),
    )
    return transport


def tls_context(verify: bool, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Certificates from SSL_CERT_FILE, SSL_CERT_DIR or certifi, as httpx has it; none when they are not checked."""
    context: ssl.SSLContext | None = None
    if not verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if environ.get("SSL_CERT_FILE"):
            context = ssl.create_default_context(cafile=environ["SSL_CERT_FILE"])
        elif environ.get("SSL_CERT_DIR"):
            context = ssl.create_default_context(capath=environ["SSL_CERT_DIR"])
        else:
            import certifi

            context = ssl.create_default_context(cafile=certifi.where())
    except OSError:
        pass
    if context is None:
        raise ConfigError("SSL_CERT_FILE or SSL_CERT_DIR names no certificates that can be read.")
    return context
