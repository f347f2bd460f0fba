"""The destination of a request: its URL, and the proxy that the environment names for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from ..core.secrets import Secret
from ..core.urls import PORTS, address_of, checked_proxy, checked_url, is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The server that a request goes to, and how; requests with equal destinations can share a connection.

    Attributes:
        scheme: ``"http"`` or ``"https"``.
        host: Host name or address, in lower case.
        port: The port.
        proxy: URL of the proxy in between, or None.
        verify: Whether the server's certificate is checked.
        impersonate: Name of the browser whose TLS fingerprint is copied, or None.
        is_direct: Whether the connection is one of our own; otherwise httpx carries the request.
    """

    scheme: str
    host: str
    port: int
    proxy: Secret | None
    verify: bool
    impersonate: str | None
    is_direct: bool = True


@lru_cache(maxsize=64)  # every request of a run asks for the same one
def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL, scheme and host in lower case.

    Raises:
        ConfigError: The URL cannot be used; see `checked_url`.
    """
    parts = urlsplit(checked_url(url))
    return parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme]


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Secret | None:
    """Return the proxy that the environment names for a host.

    Lower-case variables take precedence over upper-case ones, as in curl. Loopback addresses never go through a proxy:
    otherwise a request to a local model server would end up at the proxy.

    Args:
        scheme: ``"http"`` or ``"https"``.
        host: Host name or address, in lower case.
        port: The port.
        environ: The environment.

    Returns:
        The URL of the proxy, or None.

    Raises:
        ConfigError: The environment names a proxy that cannot be used; see `checked_proxy`.
    """
    if is_loopback(host) or _is_exempt(host, port, _read(environ, "no_proxy")):
        return None
    for name in (f"{scheme}_proxy", "all_proxy"):
        if _read(environ, name):
            return checked_proxy(Secret(_read(environ, name)), name.upper())
    return None


def _read(environ: Mapping[str, str], name: str) -> str:
    """Return an environment variable by its lower-case or upper-case name; empty when it is not set."""
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def is_address(host: str) -> bool:
    """Return whether the host is an address that needs no lookup. One with a zone (``fe80::1%eth0``) does need it."""
    return "%" not in host and address_of(host) is not None


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether NO_PROXY lists the host: as ``*``, a domain, an address or a network, with or without a port."""
    address = address_of(host)
    for entry in filter(None, (part.strip().lower() for part in no_proxy.split(","))):
        if entry == "*":
            return True
        if address is not None and _contains(entry, address):
            return True
        name, colon, number = entry.rpartition(":")
        if not colon or not number.isdigit() or address_of(entry) is not None:
            name, number = entry, ""
        if number and int(number) != port:
            continue
        domain = name.strip("[]").removeprefix("*").strip(".")
        if host.rstrip(".") == domain or (address is None and host.rstrip(".").endswith("." + domain)):
            return True
    return False


def _contains(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an entry of NO_PROXY is a network that contains this address."""
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False
