"""Tab completion on the line of a magic, from the same tables that parse the line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..core.errors import AichatError
from ..core.options import OPTION_TYPES, REASONING_LEVELS, TIERS, UNSET
from ..core.settings import Settings
from ..frames.recognition import column_names, is_frame
from ..providers.registry import Registry
from .arguments import COMMANDS
from .flags import cell_parser
from .help import topics
from .line_words import Word, quoted, words_at_cursor

# The kind of value that a flag takes; flags with fixed choices are not listed.
_FLAG_VALUES = {
    "model": "model",
    "chat": "conversation",
    "output": "variable",
    "include": "included",
    "batch": "frame",
    "into": "column",
    "schema": "schema",
    "attach": "file",
}
# The kind of value that a word in the usage of a command stands for.
_COMMAND_VALUES = {
    "MODEL": "model",
    "FILTER": "provider",
    "PROVIDER": "keyed",
    "NAME": "conversation",
    "OPTION": "setting",
    "VALUE": "value",
    "TEMPLATE": "template",
    "X=TEXT": "placeholder",
    "VARIABLE": "callable",
    "TOPIC": "topic",
}
# Values of settings that are known; other options may only be unset.
_SETTING_VALUES: Mapping[str, tuple[str, ...]] = {
    "keep_history": ("true", "false"),
    "strict_options": ("true", "false"),
    **dict.fromkeys(OPTION_TYPES, (UNSET,)),
    "reasoning": (*REASONING_LEVELS, UNSET),
    "tier": (*TIERS, UNSET),
}
_MAX_COLUMNS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionSources:
    """Names to offer. A callable is called only when its names are needed, and asks no server.

    Attributes:
        variables: The notebook's variables.
        models: ``provider/model``, ``provider/`` and aliases.
        conversations: Names of conversations.
        templates: Names of prompt templates, each with its placeholders.
        settings: Names that `%aichat set` takes.
    """

    variables: Mapping[str, Any]
    models: Callable[[], Iterable[str]] = tuple
    conversations: Callable[[], Iterable[str]] = tuple
    templates: Callable[[], Mapping[str, Iterable[str]]] = dict
    settings: Callable[[], Iterable[str]] = tuple


@dataclass(frozen=True, slots=True)
class Completion:
    """The candidates at the cursor.

    Attributes:
        fragment: The end of the text before the cursor, which a candidate replaces.
        candidates: Whole words, quoted if necessary.
        kind: Their kind, in a word; ``"file"`` means file names, which IPython looks up.
    """

    fragment: str
    candidates: tuple[str, ...] = ()
    kind: str = ""


def complete_line(before: str, sources: CompletionSources, *, after: str = "") -> Completion | None:
    """Complete the line of a magic.

    Args:
        before: The line up to the cursor.
        sources: The names to offer.
        after: The line from the cursor on.

    Returns:
        The candidates, perhaps none; None if the line is not one of `%aichat`.
    """
    name, gap, _ = before.lstrip().partition(" ")
    if not gap or name not in ("%%aichat", "%aichat"):
        return None
    *words, last = words_at_cursor(before)
    texts = [word.text for word in words[1:]]
    if name == "%%aichat":
        return _cell(before, texts, last, sources, after)
    return _line(before, texts, last, sources, after)


def known_models(registry: Registry, settings: Settings, seen: Iterable[str] = ()) -> Iterator[str]:
    """Yield models that are known without asking a server: aliases, those in use, each provider and its default.

    Args:
        registry: The providers.
        settings: Aliases, providers, prices.
        seen: Models that have answered or that a server has listed.
    """
    yield from settings.aliases
    yield settings.model
    yield from seen
    yield from settings.prices
    for name in registry.names(settings):
        try:
            cls, preset = registry.provider_class(name, settings), registry.preset(name, settings)
        except AichatError:
            continue
        if not cls.working:
            continue
        yield f"{name}/"
        default = (preset.default_model if preset else "") or cls.default_model
        if default:
            yield f"{name}/{default}"


def _cell(before: str, words: list[str], last: Word, sources: CompletionSources, after: str) -> Completion:
    """Complete a flag of a `%%aichat` line, or the value of the flag before."""
    flags = {flag: action for action in cell_parser()._actions for flag in action.option_strings}
    flag, equals, value = last.text.partition("=")
    if equals and flag in flags:
        # Only the part after the equals sign is replaced.
        last = Word(value, before.index("=", last.start) + 1, last.quote)
    else:
        flag = words[-1] if words else ""
    action = flags.get(flag)
    if action is not None and action.nargs != 0:
        if action.choices is not None:
            return _among(before, last, action.choices, "choice", after)
        kind = _FLAG_VALUES.get(action.dest, "auto" if action.dest == "concurrency" else "")
        return _among(before, last, _named(kind, words, sources), kind, after)
    given = {flags[word].dest for word in words if word in flags and not isinstance(flags[word].default, list)}
    offered = [
        text
        for text, action in flags.items()
        if action.dest not in given and (text.startswith("--") or last.text == "-")
    ]
    return _among(before, last, offered, "flag", after)


def _line(before: str, words: list[str], last: Word, sources: CompletionSources, after: str) -> Completion:
    """Complete a command of an `%aichat` line, or its arguments."""
    if not words:
        return _among(before, last, (command.name for command in COMMANDS), "command", after)
    command = next((command for command in COMMANDS if command.name == words[0]), None)
    what = command.usage.split() if command is not None else []
    if command is not None and command.flags and len(words) > 1:
        free = [flag for flag in command.flags if flag not in words]
        return _among(before, last, () if words[-1] in command.flags else free, "flag", after)
    if what and what[-1] == "[flags]" and any(text.startswith("-") for text in (*words[1:], last.text)):
        return _cell(before, words[1:], last, sources, after)
    what = [word for word in what if word != "[flags]"]
    position = len(words) - 1
    # `...` at the end means that the word before may be repeated.
    if what and what[-1] == "..." and position >= len(what) - 1:
        position = len(what) - 2
    if position >= len(what) or what[position] == "TEXT" or words[0] == "fork":
        return Completion(before[last.start :])
    word = what[position].strip("[]")
    if "FILE" in word or "PATH" in word:
        return Completion(before[last.start :], kind="file")
    if word.islower():
        return _among(before, last, word.split("|"), "choice", after)
    kind = _COMMAND_VALUES.get(word, "")
    if kind == "placeholder" and "=" in last.text:
        return Completion(before[last.start :])
    return _among(before, last, _named(kind, words, sources), kind, after)


def _named(kind: str, words: list[str], sources: CompletionSources) -> Iterator[str]:
    """Yield all names of a kind."""
    variables = {name: value for name, value in sources.variables.items() if name[0] != "_"}
    if kind in ("variable", "included"):
        yield from (name for name, value in variables.items() if not isinstance(value, ModuleType))
        yield from ("err", "cells:") if kind == "included" else ()
    elif kind == "frame":
        yield from (name for name, value in variables.items() if is_frame(value))
    elif kind == "column":
        flag = next((n for n, word in enumerate(words) if word.startswith("--batch")), len(words))
        name = words[flag].partition("=")[2] or "".join(words[flag + 1 : flag + 2]) if words[flag:] else ""
        frame: Any = variables.get(name)
        if is_frame(frame):
            yield from (column for column in column_names(frame)[:_MAX_COLUMNS] if isinstance(column, str))
    elif kind == "schema":
        yield from (name for name, value in variables.items() if isinstance(value, (type, dict)))
    elif kind == "callable":
        yield from (name for name, value in variables.items() if callable(value))
    elif kind == "model":
        yield from sources.models()
    elif kind == "provider":
        yield from (name for name in sources.models() if name.endswith("/"))
    elif kind == "keyed":
        yield from (name.removesuffix("/") for name in sources.models() if name.endswith("/"))
    elif kind == "conversation":
        yield from sources.conversations()
    elif kind == "setting":
        yield from sources.settings()
    elif kind == "value":
        option = words[1].replace("-", "_")
        yield from sources.models() if option == "model" else _SETTING_VALUES.get(option, ())
        yield "default"
    elif kind == "template":
        yield from sources.templates()
    elif kind == "placeholder":
        given = {word.partition("=")[0] for word in words[2:]}
        yield from (f"{name}=" for name in sources.templates().get(words[1], ()) if name not in given)
    elif kind == "topic":
        yield from topics()
    elif kind == "auto":
        yield "auto"


def _among(before: str, last: Word, names: Iterable[str], kind: str, after: str) -> Completion:
    """Return those of `names` that begin like the last word."""
    typed = last.text.casefold()
    found = [
        name
        for name in names
        if name.isprintable()
        and (
            name.casefold().startswith(typed)
            # A model is also found by its name without the provider.
            or (kind == "model" and typed and name.partition("/")[2].casefold().startswith(typed))
        )
    ]
    is_closed = bool(last.quote) and after.startswith(last.quote)
    return Completion(
        before[last.start :],
        tuple(dict.fromkeys(quoted(name, last.quote, is_closed=is_closed) for name in found)),
        kind,
    )
