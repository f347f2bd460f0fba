"""Checks of the URLs of servers and proxies, and their names without the secrets in them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from ..text.words import shorten
from .errors import ConfigError
from .secrets import Secret

PORTS = {"http": 80, "https": 443}
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_MAX_CHARS = 120


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


def host_of(url: str) -> str:
    """Return ``scheme://host:port`` of a URL in lower case, with the scheme's own port where none is written.

    The scheme is part of it: a key for https must not leave over http.
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{(parts.hostname or '').rstrip('.').lower()}:{parts.port or PORTS.get(parts.scheme, 0)}"


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
