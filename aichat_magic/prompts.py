"""From what a person writes, and the values it names, to the text that is sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .errors import PromptError, nearest

# One pair of braces around one identifier, and no brace beside it. Everything else that has braces (dicts, f-strings,
# LaTeX, Jinja) is left alone.
_PLACEHOLDER = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")
_MAX_CHARS = 20_000
_MAX_ROWS = 20


@dataclass(frozen=True, slots=True)
class Filled:
    """A prompt after its placeholders were filled.

    Attributes:
        text: The prompt.
        filled: Names whose values were put in, in order of first use.
        left: Names in single braces without a variable; they stay as text.
    """

    text: str
    filled: tuple[str, ...]
    left: tuple[str, ...]


def fill(
    template: str,
    values: Mapping[str, Any],
    *,
    is_strict: bool = False,
    as_text: Callable[[Any], str] | None = None,
) -> Filled:
    """Put values where ``{name}`` stands. Nothing is evaluated, and a value is never looked at for placeholders.

    Args:
        template: What the person wrote.
        values: Variables by name.
        is_strict: Whether a name without a variable is an error.
        as_text: Makes a value text; default `text_of`.

    Returns:
        The filled prompt, and which names were filled and left.

    Raises:
        PromptError: In strict mode, a name without a variable; names the nearest. Or a value that cannot be shown.
    """
    as_text = as_text or text_of
    filled: dict[str, str] = {}
    left: dict[str, None] = {}

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values or isinstance(values[name], ModuleType):
            left[name] = None
            return match[0]
        if name not in filled:
            filled[name] = as_text(values[name])
        return filled[name]

    text = _PLACEHOLDER.sub(put, template)
    if is_strict and left:
        name = next(iter(left))
        raise PromptError(
            f"There is no variable {name!r} for {{{name}}} in the prompt.{nearest(name, values)} "
            f"Define it, or leave --strict out to keep it as text."
        )
    return Filled(text, tuple(filled), tuple(left))


def placeholders(template: str) -> tuple[str, ...]:
    """The names in single braces, in order of first use."""
    return tuple(dict.fromkeys(match[1] for match in _PLACEHOLDER.finditer(template)))


def text_of(value: Any) -> str:
    """A value as a model reads it best: text as it is, a DataFrame as a small table, the rest as Python shows it.

    Args:
        value: Any Python value.

    Returns:
        Its text, cut at 20,000 characters with a note that says so.

    Raises:
        PromptError: The value's own `str` fails.
    """
    if isinstance(value, str):
        return value
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "columns"):
        return _cut(_table(value))
    try:
        return _cut(str(value))
    except Exception as error:
        problem = type(error).__name__
    raise PromptError(f"A value of type {type(value).__name__} cannot be shown as text ({problem}). Convert it first.")


def _cut(text: str) -> str:
    if len(text) <= _MAX_CHARS:
        return text
    return f"{text[:_MAX_CHARS]}\n[cut: {len(text) - _MAX_CHARS} more characters]"


def _table(frame: Any) -> str:
    """A DataFrame as a Markdown table, with its first rows and a line that tells its size."""
    head = frame.head(_MAX_ROWS)
    lines = [
        "| " + " | ".join(_cell(column) for column in head.columns) + " |",
        "|" + " --- |" * len(head.columns),
    ]
    lines += [
        "| " + " | ".join(_cell(value) for value in row) + " |" for row in head.itertuples(index=False, name=None)
    ]
    rows, columns = frame.shape
    shown = f", the first {_MAX_ROWS} shown" if rows > _MAX_ROWS else ""
    return "\n".join([*lines, "", f"({rows} rows x {columns} columns{shown})"])


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
