"""Export and import of conversations: Markdown to read, JSON to import again, a notebook to run again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast, get_args

from ..core.errors import BadInputError, ConfigError, OptionError
from ..core.messages import FinishReason, Reply
from ..core.options import Options
from ..core.usage import Usage
from ..store.records import StoredTurn, TurnRecord, turn_row
from ..text.quoting import fenced, one_line, tamed
from ..text.reply_view import summary_line
from ..text.words import did_you_mean, shorten

FORMAT: Final = "aichat_magic conversation"
VERSION: Final = 1

_COUNTS: Final = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_LARGEST_FILE: Final = 200_000_000
_MOST_TURNS: Final = 100_000
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
T = TypeVar("T")


def to_markdown(name: str, system: str, turns: Iterable[StoredTurn]) -> str:
    """Return a conversation as Markdown. Prompts are quoted word for word; replies are inserted as Markdown.

    Args:
        name: Name of the conversation.
        system: Its system message, empty for none.
        turns: Its turns in order.

    Returns:
        Markdown. A code block that a reply leaves open is closed, and HTML in a reply is text.
    """
    parts = [f"# Conversation {one_line(name)}"]
    if system:
        parts.append(f"System message:\n\n{fenced(system, 'text')}")
    for number, turn in enumerate(turns, 1):
        parts.append(f"## {number}. {_when(turn)}")
        parts.append(fenced(turn.prompt, "text"))
        parts.append(tamed(turn.reply.text))
        parts.append(f"*{_about(turn.reply)}*")
    return _printable("\n\n".join(parts) + "\n")


def to_json(name: str, system: str, turns: Iterable[StoredTurn]) -> str:
    """Return a conversation as JSON, with everything that is stored of it.

    Args:
        name: Name of the conversation.
        system: Its system message, empty for none.
        turns: Its turns in order.

    Returns:
        A JSON object in ASCII that `from_json` reads.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "system": system,
        "turns": [
            {
                "prompt": turn.prompt,
                "reply": turn.reply.text,
                "model": turn.reply.model,
                "finish_reason": turn.reply.finish_reason,
                "elapsed_s": turn.reply.elapsed_s,
                "usage": {
                    "input_tokens": turn.reply.usage.input_tokens,
                    "output_tokens": turn.reply.usage.output_tokens,
                    "cached_tokens": turn.reply.usage.cached_tokens,
                    "cache_write_tokens": turn.reply.usage.cache_write_tokens,
                    "reasoning_tokens": turn.reply.usage.reasoning_tokens,
                    "cost_usd": turn.reply.usage.cost_usd,
                },
                "model_version": turn.reply.model_version,
                "created_s": turn.created,
                "options": dict(turn.options),
                "cell_id": turn.cell_id,
                "notebook": turn.notebook,
            }
            for turn in turns
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def from_json(text: str) -> tuple[str, list[TurnRecord]]:
    """Read a conversation from the text of a JSON file. The file is not trusted.

    Args:
        text: Content of the file.

    Returns:
        System message and turns. Turns keep their time, so that they do not count as usage of today. Unknown fields are
        ignored.

    Raises:
        BadInputError: The file is not an exported conversation; says what is wrong, and where.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"The file is not valid JSON: {shorten(str(error), 100)}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadInputError("The file is not an exported conversation. To make one: %aichat export FILE.json")
    version = _field(document, "version", int, "The file")
    if version > VERSION:
        raise BadInputError(f"The file was made by a newer version of aichat_magic (format {version}).")
    system = _field(document, "system", str, "The file", "")
    turns = _field(document, "turns", list, "The file")
    if len(turns) > _MOST_TURNS:
        raise BadInputError(f"The file has {len(turns):,} turns; at most {_MOST_TURNS:,} can be imported.")
    return system, [_turn(turn, f"Turn {number} of the file") for number, turn in enumerate(turns, 1)]


def to_notebook(name: str, system: str, turns: Iterable[StoredTurn]) -> str:
    """Return a conversation as a notebook without outputs: each prompt is a cell, and each reply the text below it.

    Args:
        name: Name of the conversation.
        system: Its system message, empty for none.
        turns: Its turns in order.

    Returns:
        A notebook (format 4.5, JSON in ASCII). Its cells have the prompts as sent, and fill no placeholders.
    """
    head = f"# Conversation {one_line(name)}"
    flags = ["--raw"]
    if system:
        head += f"\n\nSystem message:\n\n{fenced(system, 'text')}"
        if system.isprintable():  # without line breaks, so that it can stand on the magic line
            flags += ["--system", shlex.quote(system)]
    cells = [_cell("markdown", "head", head), _cell("code", "load", "%load_ext aichat_magic")]
    for number, turn in enumerate(turns, 1):
        cells.append(_cell("code", f"prompt-{number}", f"%%aichat {' '.join(flags)}\n{turn.prompt}"))
        cells.append(_cell("markdown", f"reply-{number}", f"{tamed(turn.reply.text)}\n\n*{_about(turn.reply)}*"))
        flags = ["--raw"]  # the system message stays from the first turn on
    document = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1) + "\n"


_WRITERS: Final = {".md": to_markdown, ".json": to_json, ".ipynb": to_notebook}


def export(path: Path | str, name: str, system: str, turns: Iterable[StoredTurn], *, force: bool = False) -> Path:
    """Write a conversation to a file, in the format of its suffix. The file is written completely or not at all.

    Args:
        path: The file: ``.md``, ``.json`` or ``.ipynb``.
        name: Name of the conversation.
        system: Its system message, empty for none.
        turns: Its turns in order.
        force: Whether an existing file is replaced.

    Returns:
        The absolute path of the file.

    Raises:
        BadInputError: The suffix is unknown, or the file exists.
        ConfigError: The folder is missing, or the file cannot be written.
    """
    path = Path(os.path.expanduser(path))
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise BadInputError(
            f"A conversation can be saved as {', '.join(_WRITERS)}, not as {shorten(path.name, 60)!r}."
            f"{did_you_mean(path.suffix, _WRITERS) if path.suffix else ''}"
        )
    if not os.path.isdir(path.parent):
        raise ConfigError(f"There is no folder {shorten(str(path.parent), 120)!r}. Create it first.")
    if os.path.isdir(path) or (os.path.exists(path) and not force):
        raise BadInputError(f"{shorten(str(path), 120)!r} already exists. Choose another name.")
    content = writer(name, system, turns).encode("utf-8")
    try:
        path = Path(os.path.realpath(path))  # the target of a link is replaced, not the link
        _write(path, content, force)
    except FileExistsError:
        raise BadInputError(f"{shorten(str(path), 120)!r} already exists. Choose another name.") from None
    except OSError as error:
        raise ConfigError(f"{shorten(str(path), 120)!r} cannot be written: {error.strerror or error}.") from None
    except ValueError:  # a NUL
        raise BadInputError(f"{shorten(str(path), 120)!r} cannot be the name of a file.") from None
    return path


def read(path: Path | str) -> tuple[str, list[TurnRecord]]:
    """Read a conversation from a file that was exported as JSON.

    Args:
        path: The file.

    Returns:
        System message and turns.

    Raises:
        BadInputError: The file does not exist, cannot be read, or is not an exported conversation.
    """
    path = Path(os.path.expanduser(path))
    shown = repr(shorten(str(path), 120))
    if path.suffix.lower() in (".md", ".ipynb"):
        raise BadInputError(f"Only .json files can be imported, not {shown}: export the conversation as .json.")
    try:
        if not os.path.isfile(path):
            raise BadInputError(f"There is no file {shown}.")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise BadInputError(f"{shown} is larger than {_LARGEST_FILE // 1_000_000} MB.")
        return from_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadInputError(f"{shown} is not text in UTF-8.") from None
    except OSError as error:
        raise BadInputError(f"{shown} cannot be read: {error.strerror or error}.") from None


def _write(path: Path, content: bytes, force: bool) -> None:
    """Create or replace a file, completely or not at all."""
    if force and path.exists():
        handle, name = tempfile.mkstemp(prefix=".aichat-", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(content)
            shutil.copymode(path, name)
            os.replace(name, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        return
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def _turn(value: Any, where: str) -> TurnRecord:
    """Return one turn of a file."""
    if not isinstance(value, dict):
        raise BadInputError(f"{where} must be an object.")
    usage = _field(value, "usage", dict, where, {})
    reason = _field(value, "finish_reason", str, where, "stop")
    if reason not in get_args(FinishReason):
        raise BadInputError(f"{where}: finish_reason must be one of {', '.join(get_args(FinishReason))}.")
    reply = Reply(
        text=_field(value, "reply", str, where),
        model=_field(value, "model", str, where, ""),
        usage=Usage(
            **{name: _count(usage, name, where) for name in _COUNTS},
            cost_usd=_number(usage, "cost_usd", where),
        ),
        finish_reason=cast("FinishReason", reason),
        elapsed_s=_number(value, "elapsed_s", where) or 0.0,
        model_version=_field(value, "model_version", str, where, ""),
    )
    turn = TurnRecord(
        prompt=_field(value, "prompt", str, where),
        reply=reply,
        options=_options(_field(value, "options", dict, where, {}), where),
        cell_id=_field(value, "cell_id", str, where, ""),
        notebook=_field(value, "notebook", str, where, ""),
        created=_number(value, "created_s", where) or 0.0,
    )
    try:
        turn_row(turn, 0.0)
    except BadInputError as error:
        raise BadInputError(f"{where}: {error}") from None
    return turn


def _options(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the known options; their values must be in range."""
    known = {name: value for name, value in values.items() if name in Options.__dataclass_fields__}
    checked: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in known.items()
    }
    try:
        Options(**checked)
    except (OptionError, OverflowError) as error:
        raise BadInputError(f"{where}: {shorten(str(error), 120)}") from None
    if not isinstance(checked.get("schema", ""), str):
        raise BadInputError(f"{where}: schema must be text.")
    return known


_MISSING: Final[Any] = object()


def _field(values: Mapping[str, Any], name: str, kind: type[T], where: str, default: T = _MISSING) -> T:
    """Return a value of a JSON object; it must have exactly the type `kind`."""
    value = values.get(name, default)
    if type(value) is not kind:
        words: dict[Any, str] = {str: "text", int: "a whole number", list: "a list", dict: "an object"}
        raise BadInputError(f"{where}: {name} must be {words[kind]}.")
    return value


def _count(values: Mapping[str, Any], name: str, where: str) -> int | None:
    """Return a whole number of a JSON object, 0 or more, or None."""
    value = values.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 2**63:
        raise BadInputError(f"{where}: {name} must be a whole number, 0 or more.")
    return value


def _number(values: Mapping[str, Any], name: str, where: str) -> float | None:
    """Return a number of a JSON object, 0 or more, or None."""
    value = values.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e15:
        raise BadInputError(f"{where}: {name} must be a number, 0 or more.")
    return float(value)


def _cell(kind: Literal["code", "markdown"], name: str, source: str) -> dict[str, Any]:
    """Return a cell of a notebook."""
    cell = {"cell_type": kind, "id": name, "metadata": {}, "source": _printable(source).splitlines(keepends=True)}
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


def _about(reply: Reply) -> str:
    """Return one line of Markdown about a reply."""
    return one_line(summary_line(reply)).replace("*", "\\*")


def _when(turn: StoredTurn) -> str:
    """Return the local time of a turn."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(turn.created))
    except (OverflowError, ValueError, OSError):  # the time is out of the range of the calendar
        return "at an unknown time"


def _printable(text: str) -> str:
    """Replace what UTF-8 cannot encode: halves of surrogate pairs."""
    return _SURROGATE.sub("\ufffd", text)
