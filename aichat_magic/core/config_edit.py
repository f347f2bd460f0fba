"""Changing one table ``[providers.NAME]`` of the user's TOML file: comments and all else stay as they are."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .secrets import Secret


def edit_provider(path: Path, provider: str, changes: Mapping[str, Secret | bool | None]) -> None:
    """Set or remove entries of the table of a provider, in a file that only the user can read.

    The file is replaced at once, and only if it then means what it meant before, with these changes.

    Args:
        path: The file; made if it does not exist.
        provider: The provider's name.
        changes: Values by the name of their entry; None removes it.

    Raises:
        ConfigError: The file cannot be read or written, or is written in a way that this cannot change.
    """
    # Raised in this frame, which holds no text of the file: there are keys in it.
    if problem := _problem_of(path, provider, changes):
        names = ", ".join(changes)
        raise ConfigError(f"{path} was not changed: {problem}. Set {names} in [providers.{provider}] yourself.")


def _problem_of(path: Path, provider: str, changes: Mapping[str, Secret | bool | None]) -> str:
    """Change the file, and return why that was not possible; empty when it was."""
    import tomllib

    path = Path(os.path.realpath(path))  # a link stays a link
    try:
        text = path.read_bytes().decode() if path.exists() else ""
        before = tomllib.loads(text)
        after = _edited(text, provider, changes)
        if tomllib.loads(after) != _changed(before, provider, changes):
            return "its table is written in a form that cannot be changed safely"
        _replace(path, after.encode())
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    except (ValueError, RecursionError, AttributeError, TypeError):
        return "it is not TOML, or its table is written in a form that cannot be changed safely"
    return ""


def _edited(text: str, provider: str, changes: Mapping[str, Secret | bool | None]) -> str:
    """Return the text of the file with the entries of a table set or removed."""
    lines = text.split("\n")
    line_end = "\r" if "\r\n" in text else ""
    name = re.escape(provider)
    header = re.compile(rf"\s*\[\s*providers\s*\.\s*(?:{name}|\"{name}\"|'{name}')\s*\]\s*(?:#.*)?")
    at = next((number for number, line in enumerate(lines) if header.fullmatch(line.rstrip("\r"))), None)
    if at is None:
        if lines[-1]:
            lines.append("")
        key = provider if re.fullmatch(r"[\w-]+", provider, re.ASCII) else json.dumps(provider)
        lines[-1:] = [line_end, f"[providers.{key}]{line_end}", ""] if text.strip() else [f"[providers.{key}]", ""]
        at = len(lines) - 2
    for entry, value in changes.items():
        end = next((number for number in range(at + 1, len(lines)) if lines[number].lstrip()[:1] == "["), len(lines))
        found = [n for n in range(at + 1, end) if re.match(rf"\s*[\"']?{re.escape(entry)}[\"']?\s*=", lines[n])]
        for number in reversed(found):
            del lines[number]
        if value is not None:
            lines.insert(found[0] if found else at + 1, f"{entry} = {_toml(value)}{line_end}")
    return "\n".join(lines)


def _toml(value: Secret | bool) -> str:
    """Return a value as TOML writes it."""
    return json.dumps(value.reveal() if isinstance(value, Secret) else value)


def _changed(content: dict[str, Any], provider: str, changes: Mapping[str, Secret | bool | None]) -> dict[str, Any]:
    """Return the content of the file with the changes."""
    content = copy.deepcopy(content)
    table = content.setdefault("providers", {}).setdefault(provider, {})
    for entry, value in changes.items():
        if value is None:
            table.pop(entry, None)
        else:
            table[entry] = value.reveal() if isinstance(value, Secret) else value
    return content


def _replace(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 beside the old one, and put it into its place."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
