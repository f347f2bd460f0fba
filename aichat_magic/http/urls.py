"""Where a request may go, and by which way: URLs and proxies of the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from ..core.secrets import Secret
from ..core.urls import PORTS, checked_proxy, checked_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What requests must have in common to share a connection; `is_direct`: one of our own, else httpx carries them."""

    scheme: str
    host: str
    port: int
    proxy: Secret | None
    verify: bool
    impersonate: str | None
    is_direct: bool = True


@lru_cache(maxsize=64)  # every request of a run asks for the same one
def target(url: str) -> tuple[str, str, int]:
    """Return scheme and host of a URL, in lower case, and its port. Raises what `checked_url` does."""
    parts = urlsplit(checked_url(url))
    return parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme]


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
