"""Notice that httpx or httpcore is mocked or instrumented in this process, so that requests go through it.

respx, vcrpy and pytest-httpx answer in place of the network, OpenTelemetry and its like watch what is sent: all of them
replace a public method of httpx's or httpcore's. Requests of ours go over connections that know neither library, unless
one of these methods is not the one that its package defines; then they go through httpx itself.

Only public names are looked at, and only of packages that are loaded already.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

# On the way of a request through httpx and down to the connection.
_METHODS = {
    "httpx": (("AsyncClient", "send"), ("AsyncHTTPTransport", "handle_async_request")),
    "httpcore": (
        ("AsyncConnectionPool", "handle_async_request"),
        ("AsyncHTTPProxy", "handle_async_request"),
        ("AsyncHTTPConnection", "handle_async_request"),
        ("AsyncHTTP11Connection", "handle_async_request"),
    ),
}


def is_httpx_replaced() -> bool:
    """Return whether any of the methods that a request through httpx passes was replaced. Costs 2 us at most."""
    for package, methods in _METHODS.items():
        module = sys.modules.get(package)
        if module is not None:
            for class_name, method_name in methods:
                if _is_replaced(package, module, class_name, method_name):
                    return True
    return False


def is_client_replaced() -> bool:
    """Return whether `httpx.AsyncClient.send` was replaced, so that a request has to begin there."""
    module = sys.modules.get("httpx")
    return module is not None and _is_replaced("httpx", module, "AsyncClient", "send")


def _is_replaced(package: str, module: ModuleType, class_name: str, method_name: str) -> bool:
    """Return whether a method is another one than its package defines.

    A wrapper copies the name and the module of what it wraps (`functools.wraps`), or passes every question on to it
    (wrapt), but it has another type, or its code another module.
    """
    owner = getattr(module, class_name, None)
    method = getattr(owner, method_name, None)
    if method is None:  # while the package is being imported
        return False
    if type(method) is not FunctionType:
        return True
    return not (_is_of(package, method.__globals__.get("__name__")) and _is_of(package, owner.__module__))


def _is_of(package: str, module: object) -> bool:
    """Return whether a module is the package or a part of it."""
    return isinstance(module, str) and (module == package or module.startswith(f"{package}."))
