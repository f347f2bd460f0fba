"""Keys that the user has entered: kept for the session, or in the system's keyring. Each belongs to one server."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigError, MissingExtraError
from .installation import install_command
from .secrets import Secret
from .urls import host_of, is_loopback, is_same_server

_SERVICE = "aichat_magic"
_THIS_MACHINE = "this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundKey:
    """A key, and the place where it was found.

    Attributes:
        key: The key.
        source: Its place, for messages: ``"OPENAI_API_KEY"``, ``"this session"``.
    """

    key: Secret
    source: str


class KeyRing:
    """The keys of one session, by provider and server, with those of the system's keyring that it has read."""

    def __init__(self) -> None:
        """Create a ring without keys. The system's keyring is read when a key of it is asked for."""
        self._entered: dict[str, tuple[str, Secret]] = {}
        self._read: dict[str, Secret | None] = {}

    def __repr__(self) -> str:
        """Show no key."""
        return "KeyRing(****)"

    def enter(self, provider: str, url: str, key: Secret) -> None:
        """Keep a key for the session, for the server of this URL only."""
        self._entered[provider] = (url, key)

    def entered(self, provider: str, url: str) -> FoundKey | None:
        """Return the key that was entered for a provider, if it belongs to the server of this URL."""
        home, key = self._entered.get(provider, ("", None))
        return FoundKey(key=key, source="this session") if key and is_same_server(url, home) else None

    def saved(self, provider: str, url: str) -> FoundKey | None:
        """Return the key that the system's keyring holds for a provider and the server of this URL.

        Raises:
            MissingExtraError: The package for it is not installed.
            ConfigError: The keyring cannot be read.
        """
        name = _entry(provider, url)
        if name not in self._read:
            backend = _backend()
            if backend is None:
                raise MissingExtraError(
                    f"The key for provider {provider!r} is in the system's keyring, which cannot be read: "
                    f"{install_command('keyring')}, or enter the key again: %aichat key {provider}"
                )
            self._read[name] = _asked(backend, name)
        key = self._read[name]
        return FoundKey(key=key, source="the system's keyring") if key else None

    def save(self, provider: str, url: str, key: Secret) -> bool:
        """Write a key into the system's keyring.

        Returns:
            Whether it is there; False where the system has none, or the package for it is not installed.
        """
        backend = _backend()
        if backend is None or not _written(backend, _entry(provider, url), key):
            return False
        self._read[_entry(provider, url)] = key
        return True

    def forget(self, provider: str, url: str, *, is_saved: bool) -> list[str]:
        """Remove the keys of a provider.

        Args:
            provider: The provider.
            url: Address of its server.
            is_saved: Whether the system's keyring holds one.

        Returns:
            The places that held one.
        """
        places = ["this session"] if self._entered.pop(provider, None) else []
        if is_saved and (backend := _backend()) is not None and _removed(backend, _entry(provider, url)):
            places.append("the system's keyring")
        self._read.pop(_entry(provider, url), None)
        return places


def _entry(provider: str, url: str) -> str:
    """Return the name of an entry in the keyring: a key cannot be read for another server than its own."""
    is_here = is_loopback(urlsplit(url).hostname or "")
    return f"{provider} at {_THIS_MACHINE if is_here else host_of(url)}"


def _backend() -> Any:
    """Return the package `keyring` if it is installed and the system has a keyring; None otherwise."""
    try:
        keyring = importlib.import_module("keyring")
        # Below 1 are those that keep plain text, and the one that says that there is none (keyring's documentation).
        return keyring if keyring.get_keyring().priority >= 1 else None
    except Exception:  # backends fail in many ways, on systems without a desktop above all
        return None


def _asked(backend: Any, name: str) -> Secret | None:
    """Return a key of the system's keyring, or None. No frame of it is kept: it might hold the key."""
    try:
        return Secret(backend.get_password(_SERVICE, name) or "") or None
    except Exception as error:
        problem = type(error).__name__
    raise ConfigError(f"The system's keyring cannot be read ({problem}). Unlock it, or set the key elsewhere.")


def _written(backend: Any, name: str, key: Secret) -> bool:
    try:
        backend.set_password(_SERVICE, name, key.reveal())
    except Exception:
        return False
    return True


def _removed(backend: Any, name: str) -> bool:
    try:
        backend.delete_password(_SERVICE, name)
    except Exception:
        return False
    return True
