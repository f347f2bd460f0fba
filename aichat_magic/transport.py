"""POST JSON and read JSON or server-sent events: the only room that knows httpx. (Interface; the body follows.)"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .secret import Secret

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """A header that carries a secret: `prefix` + the secret under `header`."""

    header: str
    secret: Secret
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One cookie, sent only to its own domain and that domain's subdomains, and only over TLS when `secure`."""

    domain: str
    name: str
    value: Secret
    path: str = "/"
    secure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request as a provider words it.

    Attributes:
        provider: Name of the provider, for errors.
        url: Absolute http or https URL.
        body: JSON bytes to POST; None for a GET.
        headers: Plain headers, in order. Nothing secret belongs here.
        auth: The header that carries the key, or None.
        cookies: Cookies to choose from.
        proxy: http, https, socks5 or socks5h URL of a proxy (a Secret: it may hold a password); None: as the
            environment says.
        timeout_s: Total deadline in seconds, from connecting to the last byte.
        connect_timeout_s: Longest time to connect, in seconds.
        idle_timeout_s: Longest silence inside a response, in seconds.
        max_bytes: Cap of the decoded response, in bytes.
        verify: Whether the server's certificate is checked.
        impersonate: Name of a browser whose TLS fingerprint is copied (needs the extra `impersonate`), or None.
    """

    provider: str
    url: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    auth: Auth | None = None
    cookies: tuple[Cookie, ...] = ()
    proxy: Secret | None = None
    timeout_s: float = 600.0
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 120.0
    max_bytes: int = 64 * 2**20
    verify: bool = True
    impersonate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A whole response with a status below 300.

    Attributes:
        status: The HTTP status.
        headers: Headers, names in lower case.
        body: The decoded body.
        provider: Name of the provider, for errors.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    provider: str = ""

    def json(self) -> Any:
        """The body as JSON. Raises: MalformedReplyError: it is not JSON, or is hostile."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream: its name (empty when the server gave none) and its data."""

    event: str
    data: str


class Transport:
    """Connections, kept per event loop and reused."""

    def __init__(
        self,
        *,
        mock: httpx.AsyncBaseTransport | None = None,
        wall_clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`mock` replaces the network (tests); `environ` is where proxies are read (default: os.environ)."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send and read the whole response. Raises: ProviderError, ConfigError."""
        raise NotImplementedError

    def events(self, request: HttpRequest) -> AsyncGenerator[ServerSentEvent, None]:
        """Send and yield the events of the response as they arrive."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connections that belong to the running loop."""
