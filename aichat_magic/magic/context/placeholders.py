"""Placeholders: replaces ``{name}`` in a prompt by the value of the variable `name`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...core.errors import PromptError
from ...core.messages import Image, Message, estimate_tokens
from ...text.words import nearest
from ...values.describe import ValueText, shown

# A pair of braces around an identifier, without another brace beside it. All other uses of braces (dicts, f-strings,
# LaTeX, Jinja) are left alone.
_PLACEHOLDER = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\})")


@dataclass(frozen=True, slots=True)
class FilledPrompt:
    """A prompt with its placeholders filled.

    Attributes:
        text: The prompt.
        filled: Names that were replaced, in order of first use.
        left: Names in single braces without a variable; they stay as text.
        images: Figures and pictures among the values, in the same order; the text has ``[image: name]`` for each.
        remarks: The names in `filled`, each with how its value was cut, if it was: ``"df (first 20 of 90 rows)"``.
        tokens: The names in `filled`, each with the tokens of its value, as `estimate_tokens` counts.
    """

    text: str
    filled: tuple[str, ...]
    left: tuple[str, ...]
    images: tuple[Image, ...] = ()
    remarks: tuple[str, ...] = ()
    tokens: tuple[tuple[str, int], ...] = ()


def fill(
    template: str,
    values: Mapping[str, Any],
    *,
    is_strict: bool = False,
    show: Callable[[Any], ValueText] = shown,
) -> FilledPrompt:
    """Replace each ``{name}`` by its value. Nothing is evaluated, and placeholders inside values are not filled.

    Args:
        template: The text with placeholders.
        values: Variables by name.
        is_strict: Whether a name without a variable is an error.
        show: Turns a value into text or an image.

    Returns:
        The filled prompt, with the names that were filled and those that were left.

    Raises:
        PromptError: A value cannot be shown; or, if `is_strict`, a name has no variable (names the nearest).
    """
    filled: dict[str, ValueText] = {}
    left: dict[str, None] = {}

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values or isinstance(values[name], ModuleType):
            left[name] = None
            return match[0]
        if name not in filled:
            filled[name] = show(values[name])
        return f"[image: {name}]" if filled[name].images else filled[name].text

    text = _PLACEHOLDER.sub(put, template)
    if is_strict and left:
        name = next(iter(left))
        raise PromptError(
            f"There is no variable {name!r} for {{{name}}} in the prompt.{nearest(name, values)} "
            f"Define it, or omit --strict to keep it as text."
        )
    return FilledPrompt(
        text,
        tuple(filled),
        tuple(left),
        images=tuple(image for value in filled.values() for image in value.images),
        remarks=tuple(f"{name} ({value.cut})" if value.cut else name for name, value in filled.items()),
        tokens=tuple(
            (name, estimate_tokens([Message("user", value.text, value.images)])) for name, value in filled.items()
        ),
    )


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names in single braces, in order of first use."""
    return tuple(dict.fromkeys(match[1] for match in _PLACEHOLDER.finditer(template)))
