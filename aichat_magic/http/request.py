"""HTTP requests: what a provider sends, with its headers and secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..core.errors import ConfigError
from ..core.secrets import Secret
from ..text.words import shorten


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """A header that carries a secret: its name is `header`, its value `prefix` + the secret."""

    header: str
    secret: Secret
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """A cookie, sent with one request."""

    name: str
    value: Secret


@dataclass(slots=True, kw_only=True)  # not frozen: each row makes one, which would take three times as long
class HttpRequest:
    """An HTTP request of a provider. Nobody changes it.

    Attributes:
        provider: Name of the provider, for errors.
        url: Absolute http or https URL.
        body: JSON bytes to POST; None for a GET.
        headers: Plain headers, in order. Nothing secret belongs here.
        auth: The header that carries the key, or None.
        secret_headers: Further headers with values that nobody may see; they take the place of plain ones of the name.
        no_key: Without a key: to which server none was sent, and how to set one; for the error if it is refused.
        cookies: Cookies to send, chosen for this URL by the provider. Cookies that a server sets are not kept.
        proxy: http, https, socks5 or socks5h URL of a proxy (a Secret, because it may hold a password); None: the
            proxy that the environment names, if any.
        timeout_s: Total deadline in seconds, from connecting to the last byte.
        connect_timeout_s: Longest time to connect, in seconds.
        idle_timeout_s: Longest silence inside a response, in seconds.
        max_bytes: Largest decoded response, in bytes.
        verify: Whether the server's certificate is checked.
        impersonate: Name of a browser whose TLS fingerprint is copied (needs the extra `impersonate`), or None.
        start: The command that starts the server, for the error when the connection is refused; empty: unknown.
    """

    provider: str
    url: str
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    auth: Auth | None = None
    secret_headers: tuple[Auth, ...] = ()
    no_key: str = ""
    cookies: tuple[Cookie, ...] = ()
    proxy: Secret | None = None
    timeout_s: float = 600.0
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 120.0
    max_bytes: int = 16 * 2**20
    verify: bool = True
    impersonate: str | None = None
    start: str = ""


def request_bytes(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the bytes of an HTTP/1.1 request.

    Args:
        method: ``b"GET"`` or ``b"POST"``.
        target: Path and query.
        headers: All headers with ``host`` and ``content-length``, none of them with a line break (see `check_headers`).
        body: The body; may be empty.
    """
    lines = [method + b" " + target + b" HTTP/1.1", *[name + b": " + value for name, value in headers], b"", body]
    return b"\r\n".join(lines)


def _own_version() -> str:
    """Return the version of this package."""
    from importlib.metadata import version  # read once: the headers that contain it are cached

    return version("aichat-magic")


def headers_of(request: HttpRequest, *, is_stream: bool) -> list[tuple[bytes, bytes]]:
    """Return all headers except those that the connection adds.

    Never put the result into a local variable, because it holds the key.

    Args:
        request: The request, checked by `check_headers`.
        is_stream: Whether to ask for server-sent events.
    """
    headers = _plain_headers(request.headers, request.body is not None, request.impersonate is not None, is_stream)
    if request.secret_headers:
        taken = {auth.header.lower().encode("ascii") for auth in request.secret_headers}
        headers = [(name, value) for name, value in headers if name.lower() not in taken]
    return [*headers, *_secret_headers(request)]


@lru_cache(maxsize=64)  # every request of a run has the same ones, and nothing secret is among them
def _plain_headers(
    given: tuple[tuple[str, str], ...], has_body: bool, is_browser: bool, is_stream: bool
) -> list[tuple[bytes, bytes]]:
    """Return the headers without secrets: those of the request, and defaults for what it does not set."""
    defaults = {"accept": "text/event-stream, application/json" if is_stream else "application/json"}
    if has_body:
        defaults["content-type"] = "application/json"
    if not is_browser:
        defaults["user-agent"] = f"aichat-magic/{_own_version()}"
        # Servers tend to hold back a compressed stream until a block is full.
        defaults["accept-encoding"] = "identity" if is_stream else "gzip"
    for name, _ in given:
        defaults.pop(name.lower(), None)
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in (*defaults.items(), *given)]


def _secret_headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """Return the headers that hold the key and the cookies."""
    headers = [
        (auth.header.encode("ascii"), (auth.prefix + auth.secret.reveal()).encode("ascii"))
        for auth in (request.auth, *request.secret_headers)
        if auth is not None
    ]
    if request.cookies:
        pairs = (f"{cookie.name}={cookie.value.reveal()}".encode("ascii") for cookie in request.cookies)
        headers.append((b"cookie", b"; ".join(pairs)))
    return headers


def check_headers(request: HttpRequest) -> None:
    """Raise when a header contains what no header can carry, before it is sent or shown anywhere.

    Raises:
        ConfigError: The key, a cookie or a header contains such a character. The error does not show a secret.
    """
    auth = request.auth
    if auth is not None and not _is_header(auth.prefix + auth.secret.reveal()):
        raise ConfigError(
            f"The key for provider {request.provider!r} contains a line break or another character that no key "
            "has. It was not sent. Set it again."
        )
    for auth in request.secret_headers:
        if not _is_header(auth.header + auth.secret.reveal()):
            raise ConfigError(f"The header {shorten(auth.header, 40)!r} contains a character that no header can carry.")
    for cookie in request.cookies:
        if not _is_header(cookie.name + cookie.value.reveal()) or ";" in cookie.value.reveal():
            raise ConfigError(
                f"The cookie {shorten(cookie.name, 40)!r} for provider {request.provider!r} contains a character "
                "that no cookie has. It was not sent."
            )
    for name, value in request.headers:
        if not name or not _is_header(name + value):
            raise ConfigError(f"The header {shorten(name, 40)!r} contains a character that no header can carry.")


def _is_header(value: str) -> bool:
    """Return whether all characters are printable ASCII."""
    return value.isascii() and value.isprintable()
