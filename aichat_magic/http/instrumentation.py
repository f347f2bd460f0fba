"""Detection of mocks and instrumentation of httpx and httpcore, so that requests go through them.

respx, vcrpy and pytest-httpx answer in place of the network, OpenTelemetry and similar tools record what is sent. All
of them replace a public method of httpx or httpcore. Our requests use neither library, unless one of these methods is
not the one that its package defines; then they go through httpx itself.

This looks at public names only, and only at packages that are already loaded.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

# The methods that a request passes through in httpx, down to the connection.
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
    """Return whether any method that a request passes through in httpx was replaced. Takes 2 us at most."""
    for package, methods in _METHODS.items():
        module = sys.modules.get(package)
        if module is not None:
            for class_name, method_name in methods:
                if _is_replaced(package, module, class_name, method_name):
                    return True
    return False


def is_client_replaced() -> bool:
    """Return whether `httpx.AsyncClient.send` was replaced, so that requests have to enter there."""
    module = sys.modules.get("httpx")
    return module is not None and _is_replaced("httpx", module, "AsyncClient", "send")


def _is_replaced(package: str, module: ModuleType, class_name: str, method_name: str) -> bool:
    """Return whether a method is not the one that its package defines.

    A wrapper copies name and module of what it wraps (`functools.wraps`), or forwards every attribute to it (wrapt),
    but it is of another type, or its code is from another module.
    """
    owner = getattr(module, class_name, None)
    method = getattr(owner, method_name, None)
    if method is None:  # while the package is being imported
        return False
    if type(method) is not FunctionType:
        return True
    return not (_is_of(package, method.__globals__.get("__name__")) and _is_of(package, owner.__module__))


def _is_of(package: str, module: object) -> bool:
    """Return whether a module name is that of the package or of one of its modules."""
    return isinstance(module, str) and (module == package or module.startswith(f"{package}."))
