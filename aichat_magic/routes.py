"""Where a request may go, and by which way: URLs and proxies of the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigError, shorten
from .secret import Secret

_PORTS = {"http": 80, "https": 443}
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What requests must have in common to share a connection."""

    scheme: str
    host: str
    port: int
    proxy: Secret | None
    verify: bool
    impersonate: str | None


@lru_cache(maxsize=64)  # every request of a run asks for the same one
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
    if is_loopback(host) or _is_excepted(host, port, _read(environ, "no_proxy")):
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


def is_address(host: str) -> bool:
    """Whether the host is an address that need not be looked up; with the name of an interface it must be."""
    return "%" not in host and _address(host) is not None


@lru_cache(maxsize=64)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The host as an address; None when it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
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
