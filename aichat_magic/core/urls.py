"""Checks of the URLs of servers and proxies, and their names without the secrets in them."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..text.words import shorten
from .errors import ConfigError
from .secrets import Secret

PORTS = {"http": 80, "https": 443}
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_MAX_CHARS = 120
# Ends of the addresses that servers' manuals show; what comes before them is the base URL.
# (``/models`` alone is not always one: Azure AI Foundry has ``/models/chat/completions``.)
_CALL = re.compile(r"(/(chat/)?completions|/responses|/embeddings|/messages|(?<=/v\d)/models)$", re.IGNORECASE)
# Parameters that hold a secret, such as ``key``, ``code`` (Azure Functions) and ``sig`` (signed addresses).
_SECRET_PARAMETER = re.compile(r"(^|[_.-])(key|apikey|token|code|sig|signature|secret|password|auth)$", re.IGNORECASE)


def checked_url(url: str, what: str = "URL") -> str:
    """Check that a URL can be called.

    Args:
        url: An absolute http or https URL.
        what: Its name in the error: ``"base URL"``.

    Returns:
        The same URL.

    Raises:
        ConfigError: No scheme or host, an unknown scheme, an invalid port, a space or control character, or a user name
            or password, which the error does not show.
    """
    problem = _problem(url, tuple(PORTS))
    if problem:
        raise ConfigError(f"The {what} {without_password(url)!r} {problem}")
    if urlsplit(url).username is not None:
        raise ConfigError(f"The {what} holds a user name or password. Keys belong in the environment.")
    return url


def base_url_of(url: str, what: str = "base URL") -> str:
    """Check an address of an API, and return what the paths of the API are added to (`api_url`).

    Args:
        url: An absolute http or https URL. It may end with the path of a call (``/chat/completions``) and hold a query
            (``?api-version=...``), which every call then carries.
        what: Its name in the error.

    Returns:
        The URL without the path of the call, without a final slash and without a fragment.

    Raises:
        ConfigError: It cannot be called (see `checked_url`), or its query holds a key.
    """
    parts = urlsplit(checked_url(url.strip(), what))
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET_PARAMETER.search(name):
            raise ConfigError(
                f"The {what} {without_password(url)!r} holds a key in its query ({shorten(name, 40)}), where logs and "
                f"messages would show it. Send it as a header: [providers.NAME.headers] in config.toml."
            )
    path = _CALL.sub("", parts.path.rstrip("/")).rstrip("/")
    return parts._replace(path=path, fragment="").geturl()


@lru_cache(maxsize=64)
def api_url(base_url: str, path: str) -> str:
    """Return the URL of a path of an API; queries of both are kept.

    Args:
        base_url: The address of the API, as `base_url_of` returns it.
        path: A path, perhaps with a query: ``"models?limit=1000"``.
    """
    base, _, query = base_url.partition("?")
    path, _, more = path.partition("?")
    joined = "&".join(filter(None, (query, more)))
    return f"{base}/{path}{f'?{joined}' if joined else ''}"


def checked_proxy(proxy: Secret, source: str) -> Secret:
    """Check that a proxy can be used, and return its whole URL.

    Args:
        proxy: URL or ``host:port``; ``socks://`` means ``socks5://``.
        source: Where it was read, for the error: ``"HTTPS_PROXY"``.

    Returns:
        The URL with its scheme.

    Raises:
        ConfigError: It is not the URL of a proxy. The error does not show it, because it may hold a password.
    """
    proxy = Secret(proxy.reveal().strip())
    if "://" not in proxy.reveal():
        proxy = Secret(f"http://{proxy.reveal()}")
    elif proxy.reveal().startswith("socks://"):
        proxy = Secret(proxy.reveal().replace("socks://", "socks5://", 1))
    # Raised in this frame, which holds no plain text: tracebacks can show the variables of every frame.
    if _problem(proxy.reveal(), _PROXY_SCHEMES):
        raise ConfigError(
            f"The proxy in {source} is not a URL that can be used. "
            f"It must begin with {', '.join(scheme + '://' for scheme in _PROXY_SCHEMES)}, and name a host."
        )
    return proxy


def is_url(url: str) -> bool:
    """Return whether a text is a URL that can be called."""
    return not _problem(url, tuple(PORTS))


def _problem(url: str, schemes: tuple[str, ...]) -> str:
    """Return why a URL cannot be called, as the end of a sentence; empty when it can."""
    parts = _split(url)
    if parts is None:
        return "is not a URL: check its host and port."
    if parts.scheme not in schemes:
        return f"must begin with {' or '.join(scheme + '://' for scheme in schemes)}."
    if not parts.hostname or any(char <= " " or char == "\x7f" for char in url):
        return "names no host that can be called."
    return ""


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL; None when it is not valid."""
    try:
        parts = urlsplit(url)
        return None if parts.port == 0 else parts
    except ValueError:
        return None


@lru_cache(maxsize=64)
def host_of(url: str) -> str:
    """Return ``scheme://host:port`` of a URL in lower case, with the scheme's own port where none is written.

    The scheme is part of it: a key for https must not leave over http.
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{(parts.hostname or '').rstrip('.').lower()}:{parts.port or PORTS.get(parts.scheme, 0)}"


@lru_cache(maxsize=64)
def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a host as an address; None when it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, whoever looks it up.

    A name is taken for it only where RFC 6761 promises so: any other, the machine's own among them, a server elsewhere
    may have.
    """
    address = address_of(host)
    if address is not None:
        address = getattr(address, "ipv4_mapped", None) or address
        return address.is_loopback or address.is_unspecified
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def is_same_server(url: str, home: str) -> bool:
    """Return whether a key that belongs to `home` may be sent to `url`.

    Scheme, host and port are the same, or both are servers on this machine, which has many names and ports.
    """
    if not is_url(home):
        return False
    if host_of(url) == host_of(home):
        return True
    return all(is_loopback(urlsplit(each).hostname or "") for each in (url, home))


def without_password(url: str) -> str:
    """Return a URL for a message: at most 120 characters, without user name, password, query and fragment."""
    parts = _split(url)
    if parts is not None and (parts.netloc or url.startswith("/")):
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        return shorten(plain.geturl(), _MAX_CHARS)
    # In what is not a valid URL, all before the last @ may be a password, with any character in it.
    head, found, tail = url.rpartition("@")
    scheme = head.split("://")[0] + "://" if found and "://" in head else ""
    return shorten(scheme + tail.split("?")[0].split("#")[0], _MAX_CHARS)


def proxy_name(proxy: Secret) -> str:
    """Return ``scheme://host:port`` of a proxy, for messages."""
    return without_password(proxy.reveal()).rstrip("/")
