"""Tokens of Microsoft Entra ID, which stand in for the key of Azure OpenAI.

`azure-identity` (the extra `azure`) finds who the user is: variables of a service principal, a managed identity, the
Azure CLI. A token is fetched in a thread, and again five minutes before it expires.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Callable
from typing import Any

from ..core.errors import MissingKeyError
from ..core.secrets import Secret

# Microsoft's own pipelines renew a token this long before it expires (azure-core, `_BearerTokenCredentialPolicyBase`).
_RENEW_S = 300.0


class EntraTokens:
    """The tokens for one scope, for any number of loops and threads."""

    def __init__(
        self,
        scope: str,
        *,
        credential: Callable[[], Any] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Create a source; nothing is loaded or fetched yet.

        Args:
            scope: Scope of the tokens.
            credential: Makes a credential of `azure-identity`; default: `DefaultAzureCredential`.
            wall_clock: Returns seconds since 1970.
        """
        self._scope = scope
        self._make = credential or _default_credential
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._credential: Any = None
        self._current: tuple[Secret, float] | None = None

    async def token(self) -> Secret:
        """Return a token that is valid for five minutes at least, or as long as Microsoft gives.

        Raises:
            MissingKeyError: Nobody is signed in, or the sign-in failed.
        """
        valid = self._valid()
        return await asyncio.to_thread(self._fetched) if valid is None else valid

    def _valid(self) -> Secret | None:
        current = self._current
        return current[0] if current is not None and self._wall_clock() < current[1] - _RENEW_S else None

    def _fetched(self) -> Secret:
        """Return a new token; of several callers at once, one fetches it."""
        problem = ""
        with self._lock:
            if (valid := self._valid()) is not None:
                return valid
            try:
                self._credential = self._credential or self._make()
                got = self._credential.get_token(self._scope)
                token = Secret(got.token)
                self._current = token, float(got.expires_on)
                return token
            except Exception as error:  # its texts are pages long, and may hold a tenant's secrets
                problem = type(error).__name__
        raise MissingKeyError(
            f"No key for provider 'azure', and Microsoft Entra ID gave no token ({problem}). Sign in with `az login`, "
            f"or set AZURE_OPENAI_API_KEY."
        )


def is_entra_installed() -> bool:
    """Return whether the package for it is installed. It is not loaded."""
    try:
        return importlib.util.find_spec("azure.identity") is not None
    except ModuleNotFoundError:
        return False


def _default_credential() -> Any:
    return importlib.import_module("azure.identity").DefaultAzureCredential()
