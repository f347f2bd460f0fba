"""The TOML file with the user's settings: the names and types that may stand in it, and reading it."""

from __future__ import annotations

import math
import os
import re
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..text.words import did_you_mean, shorten
from .errors import ConfigError, OptionError
from .prices import Price
from .secrets import Secret, key_from
from .urls import base_url_of


def _boolean(text: str) -> bool:
    """Convert ``true``, ``yes``, ``on``, ``1`` and their opposites, in any case.

    Raises:
        ValueError: Any other text.
    """
    found = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in found:
        raise ValueError(text)
    return found[text.lower()]


SETTING_TYPES: dict[str, Callable[[str], Any]] = {
    "model": str,
    "base_url": str,
    "proxy": Secret,
    "system": str,
    "timeout_s": float,
    "max_history_tokens": int,
    "max_history_images": int,
    "max_retries": int,
    "keep_history": _boolean,
    "strict_options": _boolean,
}
# For errors: the value must be ...
_TYPE_NAMES: dict[Callable[[str], Any], str] = {
    str: "a text",
    Secret: "a text",
    float: "a number",
    int: "a whole number",
    _boolean: "true or false",
}
# Entries of a table [providers.NAME] that are no texts, and what they must be.
_ENTRY_TYPES: dict[str, tuple[Any, str]] = {"headers": (dict, "a table"), "keyring": (bool, "true or false")}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, section 5.6.2
# What frames a request, and what decides how its response is read.
_OWN_HEADERS = frozenset((
    "host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
    "accept-encoding", "cookie",
))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """A table ``[providers.NAME]`` of the TOML file.

    Attributes:
        base_url: Address of its API; empty: the provider's own.
        key: Its key, or None.
        key_env: Environment variable that holds its key; empty: the provider's own.
        default_model: The model meant by the provider's name alone; empty: the provider's own.
        headers: Further headers of each request to this address, by name; their values may be secret.
        is_key_in_keyring: Whether the key is in the system's keyring.
    """

    base_url: str = ""
    key: Secret | None = None
    key_env: str = ""
    default_model: str = ""
    headers: tuple[tuple[str, Secret], ...] = ()
    is_key_in_keyring: bool = False


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the TOML file, and check the names and types in it.

    Args:
        path: The file; a missing file is an empty one.

    Returns:
        The settings by name, and the tables by name.

    Raises:
        ConfigError: The file is not TOML, or a name or a type is wrong.
    """
    problem, content = _parsed(path)
    if problem:
        raise ConfigError(f"{path} is not TOML: {problem}")
    tables: dict[str, Any] = {
        name: content.pop(name) for name in ("options", "aliases", "providers", "prices") if name in content
    }
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{name!r} in {path} must be a table: [{name}]")
    for name, value in content.items():
        if name not in SETTING_TYPES:
            raise ConfigError(f"Unknown setting {name!r} in {path}.{did_you_mean(name, SETTING_TYPES)}")
        content[name] = _checked_type(name, value, path)
    providers = [table for table in tables.get("providers", {}).values() if isinstance(table, dict)]
    if any({"api_key", "headers"} & set(table) for table in providers):
        _warn_if_others_can_read(path)
    return content, tables


def _parsed(path: Path) -> tuple[str, dict[str, Any]]:
    """Parse the file, with each secret wrapped in a `Secret`.

    Returns:
        What is wrong with the file, or an empty text; its content. The caller raises, because its frame holds no keys.
    """
    try:
        raw = path.read_bytes()
    except OSError:
        return "", {}
    import tomllib  # 2 ms that a user without such a file need not pay

    try:
        content = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return shorten(str(error), 120), {}
    except RecursionError:
        return "it nests too deep", {}
    providers = content.get("providers")
    tables = [table for table in (providers.values() if isinstance(providers, dict) else ()) if isinstance(table, dict)]
    for table in [content, *tables]:
        for name in {"proxy", "api_key"} & set(table):
            table[name] = Secret(table[name]) if isinstance(table[name], str) else None
        headers: Any = table.get("headers")
        for name in list(headers) if isinstance(headers, dict) else ():
            headers[name] = Secret(headers[name]) if isinstance(headers[name], str) else None
    return "", content


def _checked_type(name: str, value: Any, path: Path) -> Any:
    """Return a value of the file if it has the type of its setting."""
    wanted = SETTING_TYPES[name]
    types: Any = {_boolean: bool, float: (int, float)}.get(wanted, wanted)
    if isinstance(value, types) and isinstance(value, bool) == (wanted is _boolean):
        return value
    shown = name if wanted is Secret else f"{name} = {value!r}"
    raise ConfigError(f"{shown} in {path} must be {_TYPE_NAMES[wanted]}.")


def converted(text: str, wanted: Callable[[str], Any], source: str) -> Any:
    """Convert a text, such as the value of an environment variable, to the type of its setting.

    Args:
        text: The text.
        wanted: A type of `SETTING_TYPES` or `OPTION_TYPES`.
        source: Where the text was read, for the error: ``"AICHAT_SEED"``.

    Raises:
        ConfigError: The text is not of this type.
    """
    try:
        return wanted(text)
    except OptionError as error:
        raise ConfigError(f"{error} It is the value of {source}.") from None
    except ValueError:
        raise ConfigError(f"{source}={shorten(text, 40)!r} must be {_TYPE_NAMES[wanted]}.") from None


def provider_settings(name: str, table: Any) -> ProviderSettings:
    """Check one table ``[providers.NAME]``, and return it as a value."""
    known = ("base_url", "api_key", "api_key_env", "default_model", "headers", "keyring")
    if not isinstance(table, dict):
        raise ConfigError(f"[providers.{name}] must be a table.")
    for entry, value in table.items():
        if entry not in known:
            raise ConfigError(f"Unknown setting {entry!r} in [providers.{name}].{did_you_mean(entry, known)}")
        wanted, kind = _ENTRY_TYPES.get(entry, ((str, Secret), "a text"))
        if not isinstance(value, wanted):
            raise ConfigError(f"{entry} in [providers.{name}] must be {kind}.")
    key = table.get("api_key")
    return ProviderSettings(
        base_url=base_url_of(table["base_url"]) if "base_url" in table else "",
        key=key_from(key, f"[providers.{name}]") if key else None,
        key_env=table.get("api_key_env", ""),
        default_model=table.get("default_model", ""),
        headers=tuple(_header(name, *pair) for pair in table.get("headers", {}).items()),
        is_key_in_keyring=table.get("keyring", False),
    )


def _header(provider: str, name: str, value: Any) -> tuple[str, Secret]:
    """Check one entry of ``[providers.NAME.headers]``. No error shows its value."""
    where = f"[providers.{provider}.headers]"
    if not _HEADER_NAME.fullmatch(name):
        raise ConfigError(f"{shorten(name, 40)!r} in {where} is no name that a header can have.")
    if name.lower() in _OWN_HEADERS:
        raise ConfigError(f"{name} in {where} cannot be set: each request has its own.")
    if not isinstance(value, Secret):
        raise ConfigError(f"{name} in {where} must be a text.")
    if not value or not value.reveal().isascii() or not value.reveal().isprintable():
        raise ConfigError(f"{name} in {where} is empty, or holds a line end or another character that no header has.")
    return name, value


def _warn_if_others_can_read(path: Path) -> None:
    """Warn once when other users of the machine can read a file with keys."""
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        warnings.warn(
            f"{path} holds a key and can be read by others. Close it: chmod 600 {path}", UserWarning, stacklevel=4
        )


def price_from(name: str, table: Any) -> Price:
    """Check one table ``[prices."provider/model"]``, and return it as a value."""
    known = ("input", "output", "cached", "cache_write")
    if not isinstance(table, dict) or not {"input", "output"} <= set(table):
        raise ConfigError(f'[prices."{name}"] must have input and output: US dollars for a million tokens.')
    for entry, value in table.items():
        if entry not in known:
            raise ConfigError(f'Unknown entry {entry!r} in [prices."{name}"].{did_you_mean(entry, known)}')
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ConfigError(f'{entry} in [prices."{name}"] must be a number, 0 or more.')
    return Price(**table)
